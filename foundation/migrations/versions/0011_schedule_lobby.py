"""Who waits outside a scheduled meeting from its start"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("schedules", sa.Column("lobby", sa.String(8), nullable=False, server_default="off"))


def downgrade() -> None:
    op.drop_column("schedules", "lobby")
