"""Meetings that are to be held, and until when a running one is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from foundation.schema.base import Base


class ScheduleRow(Base):
    """A meeting that is to be held: once, every day or every week; without `starts_at` it is a template.

    `participants` are {"address", "site_id", "name", "on_screen"}. `state`: template, waiting, done or
    missed; `detail` is the last word on it. `conference_id` is the meeting that was opened last. `lobby`: who
    waits outside from the start (off, guests, all).
    """

    __tablename__ = "schedules"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    host_site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    number: Mapped[str | None] = mapped_column(String(32))
    pin_hash: Mapped[str | None] = mapped_column(String(255))
    starts_at: Mapped[datetime | None]
    duration_minutes: Mapped[int]
    repeat: Mapped[str] = mapped_column(String(8))
    participants: Mapped[list[Any]] = mapped_column(JSON())
    auto_record: Mapped[bool]
    auto_dial: Mapped[bool]
    ends_by_itself: Mapped[bool]
    redials: Mapped[int]
    lobby: Mapped[str] = mapped_column(String(8), server_default="off")
    state: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(String(500))
    conference_id: Mapped[str | None] = mapped_column(String(32))
    created_by: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    version: Mapped[int]


class MeetingPlanRow(Base):
    """Until when a meeting is to run, and who is called into it; it outlives its schedule."""

    __tablename__ = "meeting_plans"

    conference_id: Mapped[str] = mapped_column(
        ForeignKey("conferences.id", ondelete="CASCADE"), primary_key=True
    )
    schedule_id: Mapped[str | None] = mapped_column(String(32), index=True)
    ends_at: Mapped[datetime]
    ends_by_itself: Mapped[bool]
    redials: Mapped[int]
    participants: Mapped[list[Any]] = mapped_column(JSON())
