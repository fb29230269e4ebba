"""Rules for cameras, and violations with what was done about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from foundation.schema.base import Base


class RuleRow(Base):
    """What is looked for in a camera's picture."""

    __tablename__ = "rules"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    camera_id: Mapped[str] = mapped_column(ForeignKey("cameras.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(200))
    zone: Mapped[list[Any]] = mapped_column(JSON())
    parameters: Mapped[dict[str, Any]]
    schedule: Mapped[list[Any]] = mapped_column(JSON())
    enabled: Mapped[bool]
    created_at: Mapped[datetime]


class ViolationRow(Base):
    """A flagged violation and its evidence.

    No foreign key to camera or rule: it outlives both, and `rule` is what the rule said then. `boxes` are
    [label, score, x1, y1, x2, y2] in 0..1 of the snapshot. Paths are relative to the folder of evidence.
    `clip_state`: pending, ready, partial or missing; `clip_detail` says what is missing, `clip_moment` at
    which second of the clip the violation began. `state`: open,
    claimed, confirmed or dismissed.
    """

    __tablename__ = "violations"
    __table_args__ = (Index("ix_violations_site_id_started_at", "site_id", "started_at"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    camera_id: Mapped[str] = mapped_column(String(64), index=True)
    camera_name: Mapped[str] = mapped_column(String(200))
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"))
    kind: Mapped[str] = mapped_column(String(32))
    rule: Mapped[dict[str, Any]]
    model: Mapped[dict[str, Any]]
    score: Mapped[float]
    boxes: Mapped[list[Any]] = mapped_column(JSON())
    started_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    snapshot_path: Mapped[str | None] = mapped_column(String(500))
    snapshot_sha256: Mapped[str | None] = mapped_column(String(64))
    snapshot_detail: Mapped[str] = mapped_column(String(500))
    clip_state: Mapped[str] = mapped_column(String(16), index=True)
    clip_path: Mapped[str | None] = mapped_column(String(500))
    clip_sha256: Mapped[str | None] = mapped_column(String(64))
    clip_detail: Mapped[str] = mapped_column(String(500))
    clip_moment: Mapped[float | None] = mapped_column(Double())
    state: Mapped[str] = mapped_column(String(16), index=True)
    claimed_by: Mapped[str | None] = mapped_column(String(200))
    claimed_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(String(200))
    decided_at: Mapped[datetime | None]
    version: Mapped[int]


class ViolationLogRow(Base):
    """What was done about a violation, in order: claimed, released, confirmed, dismissed, comment."""

    __tablename__ = "violation_log"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    violation_id: Mapped[str] = mapped_column(ForeignKey("violations.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(200))
    event: Mapped[str] = mapped_column(String(40))
    comment: Mapped[str] = mapped_column(Text)
