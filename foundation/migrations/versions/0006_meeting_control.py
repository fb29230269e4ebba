"""What is decided in a meeting, and the records of its roll calls"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.String(length=32)
_WHO = sa.String(length=200)
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("conferences", sa.Column("control", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "roll_calls",
        sa.Column("id", _ID, nullable=False),
        sa.Column("conference_id", _ID, nullable=False),
        sa.Column("started_by", _WHO, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["conference_id"], ["conferences.id"], name="fk_roll_calls_conference_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_roll_calls"),
    )
    op.create_index("ix_roll_calls_conference_id", "roll_calls", ["conference_id"])
    op.create_table(
        "roll_call_entries",
        sa.Column("roll_call_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("participant_id", _ID, nullable=False),
        sa.Column("name", _WHO, nullable=False),
        sa.Column("site_id", sa.String(length=64), nullable=True),
        sa.Column("mark", sa.String(length=16), nullable=False),
        sa.Column("called_at", _TIME, nullable=True),
        sa.Column("marked_at", _TIME, nullable=True),
        sa.Column("marked_by", _WHO, nullable=True),
        sa.ForeignKeyConstraint(
            ["roll_call_id"], ["roll_calls.id"], name="fk_roll_call_entries_roll_call_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("roll_call_id", "position", name="pk_roll_call_entries"),
    )
