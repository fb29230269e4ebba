"""Conferences, who takes part, and roll calls."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from foundation.schema.base import Base


class ConferenceRow(Base):
    __tablename__ = "conferences"
    __table_args__ = (
        Index(
            "uq_conferences_number_in_use",
            "number",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[str] = mapped_column(String(32))
    title: Mapped[str] = mapped_column(String(200))
    host_site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    pin_hash: Mapped[str | None] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16), index=True)
    layout: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    control: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class ParticipantRow(Base):
    """A site or guest in a conference; `description` is what is needed to pick its call up again."""

    __tablename__ = "participants"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    conference_id: Mapped[str] = mapped_column(ForeignKey("conferences.id", ondelete="CASCADE"), index=True)
    site_id: Mapped[str | None] = mapped_column(ForeignKey("sites.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(500))
    state: Mapped[str] = mapped_column(String(16))
    description: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime]
    joined_at: Mapped[datetime | None]
    left_at: Mapped[datetime | None]


class ParticipantLogRow(Base):
    """What happened to a participant, in order."""

    __tablename__ = "participant_log"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    participant_id: Mapped[str] = mapped_column(ForeignKey("participants.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]
    event: Mapped[str] = mapped_column(String(40))
    detail: Mapped[dict[str, Any]]


class RollCallRow(Base):
    """A roll call of a conference, under way until `ended_at`."""

    __tablename__ = "roll_calls"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    conference_id: Mapped[str] = mapped_column(ForeignKey("conferences.id", ondelete="CASCADE"), index=True)
    started_by: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class RollCallEntryRow(Base):
    """One site of a roll call. It outlives the participant, whose name it keeps."""

    __tablename__ = "roll_call_entries"

    roll_call_id: Mapped[str] = mapped_column(
        ForeignKey("roll_calls.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    participant_id: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(200))
    site_id: Mapped[str | None] = mapped_column(String(64))
    mark: Mapped[str] = mapped_column(String(16))
    called_at: Mapped[datetime | None]
    marked_at: Mapped[datetime | None]
    marked_by: Mapped[str | None] = mapped_column(String(200))
