"""Cameras, rules, recording orders, violations, broadcasts"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.String(length=32)
_SITE = sa.String(length=64)
_WHO = sa.String(length=200)
_TIME = sa.DateTime(timezone=True)
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _column(name: str, kind: sa.types.TypeEngine[Any], *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=nullable)


def upgrade() -> None:
    _cameras()
    _violations()
    _broadcasts()


def _cameras() -> None:
    op.create_table(
        "cameras",
        _column("id", sa.String(length=64)),
        _column("site_id", _SITE),
        _column("name", _WHO),
        _column("url", sa.String(length=500)),
        _column("username", sa.String(length=128), nullable=True),
        _column("password", sa.String(length=256)),
        _column("udp", sa.Boolean()),
        _column("enabled", sa.Boolean()),
        _column("created_at", _TIME),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_cameras_site_id"),
        sa.PrimaryKeyConstraint("id", name="pk_cameras"),
    )
    op.create_index("ix_cameras_site_id", "cameras", ["site_id"])
    op.create_table(
        "rules",
        _column("id", _ID),
        _column("camera_id", sa.String(length=64)),
        _column("kind", _ID),
        _column("name", _WHO),
        _column("zone", sa.JSON()),
        _column("parameters", sa.JSON()),
        _column("schedule", sa.JSON()),
        _column("enabled", sa.Boolean()),
        _column("created_at", _TIME),
        sa.ForeignKeyConstraint(["camera_id"], ["cameras.id"], name="fk_rules_camera_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_rules"),
    )
    op.create_index("ix_rules_camera_id", "rules", ["camera_id"])
    op.create_table(
        "recording_orders",
        _column("kind", sa.String(length=16)),
        _column("subject", sa.String(length=128)),
        _column("site_id", _SITE),
        _column("ordered_by", _WHO),
        _column("ordered_at", _TIME),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_recording_orders_site_id"),
        sa.PrimaryKeyConstraint("kind", "subject", name="pk_recording_orders"),
    )
    op.create_index("ix_recording_orders_site_id", "recording_orders", ["site_id"])


def _violations() -> None:
    op.create_table(
        "violations",
        _column("id", _ID),
        _column("camera_id", sa.String(length=64)),
        _column("camera_name", _WHO),
        _column("site_id", _SITE),
        _column("kind", _ID),
        _column("rule", sa.JSON()),
        _column("model", sa.JSON()),
        _column("score", sa.Double()),
        _column("boxes", sa.JSON()),
        _column("started_at", _TIME),
        _column("ended_at", _TIME, nullable=True),
        _column("snapshot_path", sa.String(length=500), nullable=True),
        _column("snapshot_sha256", sa.String(length=64), nullable=True),
        _column("snapshot_detail", sa.String(length=500)),
        _column("clip_state", sa.String(length=16)),
        _column("clip_path", sa.String(length=500), nullable=True),
        _column("clip_sha256", sa.String(length=64), nullable=True),
        _column("clip_detail", sa.String(length=500)),
        _column("state", sa.String(length=16)),
        _column("claimed_by", _WHO, nullable=True),
        _column("claimed_at", _TIME, nullable=True),
        _column("decided_by", _WHO, nullable=True),
        _column("decided_at", _TIME, nullable=True),
        _column("version", sa.Integer()),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_violations_site_id"),
        sa.PrimaryKeyConstraint("id", name="pk_violations"),
    )
    op.create_index("ix_violations_camera_id", "violations", ["camera_id"])
    op.create_index("ix_violations_started_at", "violations", ["started_at"])
    op.create_index("ix_violations_state", "violations", ["state"])
    op.create_index("ix_violations_clip_state", "violations", ["clip_state"])
    op.create_index("ix_violations_site_id_started_at", "violations", ["site_id", "started_at"])
    op.create_table(
        "violation_log",
        sa.Column("id", _SERIAL, nullable=False, autoincrement=True),
        _column("violation_id", _ID),
        _column("at", _TIME),
        _column("actor", _WHO),
        _column("event", sa.String(length=40)),
        _column("comment", sa.Text()),
        sa.ForeignKeyConstraint(
            ["violation_id"], ["violations.id"], name="fk_violation_log_violation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_violation_log"),
    )
    op.create_index("ix_violation_log_violation_id", "violation_log", ["violation_id"])


def _broadcasts() -> None:
    op.create_table(
        "broadcasts",
        _column("id", _ID),
        _column("name", sa.String(length=64)),
        _column("title", _WHO),
        _column("kind", sa.String(length=16)),
        _column("subject", sa.String(length=128)),
        _column("site_id", _SITE),
        _column("public", sa.Boolean()),
        _column("delay_seconds", sa.Double()),
        _column("push_url", sa.String(length=500)),
        _column("started_by", _WHO),
        _column("started_at", _TIME),
        _column("stopped_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_broadcasts_site_id"),
        sa.PrimaryKeyConstraint("id", name="pk_broadcasts"),
    )
    op.create_index("ix_broadcasts_site_id", "broadcasts", ["site_id"])
    op.create_index("ix_broadcasts_subject", "broadcasts", ["subject"])
    op.create_index(
        "uq_broadcasts_name_running",
        "broadcasts",
        ["name"],
        unique=True,
        sqlite_where=sa.text("stopped_at IS NULL"),
        postgresql_where=sa.text("stopped_at IS NULL"),
    )
