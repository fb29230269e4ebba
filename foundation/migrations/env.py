"""Alembic's entry: uses the connection that foundation.migration hands in, inside its transaction."""

from alembic import context

from foundation.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
