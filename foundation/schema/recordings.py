"""Files of recordings, and what is to be recorded."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from foundation.schema.base import Base


class RecordingRow(Base):
    """A file of a recording, about a minute long. The row comes first and is finished with the file.

    `path` is relative to the folder of recordings. `subject` is a conference's or a camera's id, by `kind`;
    `site_id` is whose recording it is.
    """

    __tablename__ = "recordings"
    __table_args__ = (Index("ix_recordings_subject_started_at", "subject", "started_at"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(128))
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    path: Mapped[str] = mapped_column(String(500), unique=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    codecs: Mapped[str] = mapped_column(String(64))
    width: Mapped[int]
    height: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    bytes: Mapped[int] = mapped_column(BigInteger)


class RecordingOrderRow(Base):
    """Record this until further notice."""

    __tablename__ = "recording_orders"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    subject: Mapped[str] = mapped_column(String(128), primary_key=True)
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    ordered_by: Mapped[str] = mapped_column(String(200))
    ordered_at: Mapped[datetime]
