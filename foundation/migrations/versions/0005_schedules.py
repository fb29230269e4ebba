"""Meetings that are to be held, and until when running ones are"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.String(length=32)
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", _ID, nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("host_site_id", sa.String(length=64), nullable=False),
        sa.Column("number", _ID, nullable=True),
        sa.Column("pin_hash", sa.String(length=255), nullable=True),
        sa.Column("starts_at", _TIME, nullable=True),
        sa.Column("duration_minutes", sa.Integer(), nullable=False),
        sa.Column("repeat", sa.String(length=8), nullable=False),
        sa.Column("participants", sa.JSON(), nullable=False),
        sa.Column("auto_record", sa.Boolean(), nullable=False),
        sa.Column("auto_dial", sa.Boolean(), nullable=False),
        sa.Column("ends_by_itself", sa.Boolean(), nullable=False),
        sa.Column("redials", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.String(length=500), nullable=False),
        sa.Column("conference_id", _ID, nullable=True),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["host_site_id"], ["sites.id"], name="fk_schedules_host_site_id"),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
    )
    op.create_index("ix_schedules_host_site_id", "schedules", ["host_site_id"])
    op.create_table(
        "meeting_plans",
        sa.Column("conference_id", _ID, nullable=False),
        sa.Column("schedule_id", _ID, nullable=True),
        sa.Column("ends_at", _TIME, nullable=False),
        sa.Column("ends_by_itself", sa.Boolean(), nullable=False),
        sa.Column("redials", sa.Integer(), nullable=False),
        sa.Column("participants", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conference_id"],
            ["conferences.id"],
            name="fk_meeting_plans_conference_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("conference_id", name="pk_meeting_plans"),
    )
    op.create_index("ix_meeting_plans_schedule_id", "meeting_plans", ["schedule_id"])
