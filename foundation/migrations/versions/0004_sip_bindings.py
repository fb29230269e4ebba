"""Where registered SIP terminals are"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NAME = sa.String(length=128)
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "sip_bindings",
        sa.Column("username", _NAME, nullable=False),
        sa.Column("realm", _NAME, nullable=False),
        sa.Column("contact", sa.String(length=500), nullable=False),
        sa.Column("parameters", sa.String(length=500), nullable=False),
        sa.Column("q", sa.Integer(), nullable=False),
        sa.Column("call_key", sa.String(length=64), nullable=False),
        sa.Column("cseq", sa.BigInteger(), nullable=False),
        sa.Column("registered_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("transport", sa.String(length=8), nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("latched", sa.Boolean(), nullable=False),
        sa.Column("user_agent", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(
            ["username", "realm"],
            ["sip_accounts.username", "sip_accounts.realm"],
            name="fk_sip_bindings_username",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("username", "realm", "contact", name="pk_sip_bindings"),
    )
    op.create_index("ix_sip_bindings_expires_at", "sip_bindings", ["expires_at"])
