"""The tables, as SQLAlchemy sees them. Repositories use them; nothing else does.

Times are aware UTC datetimes (`UtcDateTime`), rates are IP-level bits a second, ids are 32 hex digits from
`new_id()` except a site's, which is a slug people write ("guangxi-nanning"). Secrets of others are sealed
(`foundation.secrets`) by their repositories. The migrations in foundation/migrations make the same tables; a
test compares both.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

__all__ = [
    "AuditRow",
    "Base",
    "BroadcastRow",
    "CameraRow",
    "ConferenceRow",
    "JobRow",
    "LinkRow",
    "MeetingPlanRow",
    "ParticipantLogRow",
    "ParticipantRow",
    "RecordingOrderRow",
    "RecordingRow",
    "RollCallEntryRow",
    "RollCallRow",
    "RuleRow",
    "ScheduleRow",
    "SessionRow",
    "SipAccountRow",
    "SipBindingRow",
    "SiteAddressRow",
    "SiteRow",
    "UserGrantRow",
    "UserRow",
    "UtcDateTime",
    "ViolationLogRow",
    "ViolationRow",
    "new_id",
]


def new_id() -> str:
    """A fresh id: 32 hex digits."""
    return uuid4().hex


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC on both databases (SQLite itself forgets the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times in the database are aware datetimes")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declarative attribute
        datetime: UtcDateTime,
        float: Double(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }


class SiteRow(Base):
    """A node of the site tree."""

    __tablename__ = "sites"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("sites.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(40))
    conference_budget_bps: Mapped[int] = mapped_column(BigInteger)
    access_capacity_bps: Mapped[int] = mapped_column(BigInteger)


class LinkRow(Base):
    """The line between a site and the one above it."""

    __tablename__ = "links"
    __table_args__ = (UniqueConstraint("upper_site_id", "lower_site_id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    upper_site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"))
    lower_site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    capacity_bps: Mapped[int] = mapped_column(BigInteger)


class SiteAddressRow(Base):
    """An address or prefix on a network that identifies a caller as a site."""

    __tablename__ = "site_addresses"

    network: Mapped[str] = mapped_column(String(64), primary_key=True)
    prefix: Mapped[str] = mapped_column(String(49), primary_key=True)
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id", ondelete="CASCADE"), index=True)


class SipAccountRow(Base):
    """Digest credentials of a terminal; only the HA1 values are kept (RFC 7616 3.4.2), sealed."""

    __tablename__ = "sip_accounts"

    username: Mapped[str] = mapped_column(String(128), primary_key=True)
    realm: Mapped[str] = mapped_column(String(128), primary_key=True)
    ha1_md5: Mapped[str | None] = mapped_column(Text)
    ha1_sha256: Mapped[str | None] = mapped_column(Text)
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id", ondelete="CASCADE"), index=True)


class SipBindingRow(Base):
    """Where a registered terminal is; `q` in thousandths, `call_key` the SHA-256 of its Call-ID."""

    __tablename__ = "sip_bindings"
    __table_args__ = (
        ForeignKeyConstraint(
            ["username", "realm"], ["sip_accounts.username", "sip_accounts.realm"], ondelete="CASCADE"
        ),
    )

    username: Mapped[str] = mapped_column(String(128), primary_key=True)
    realm: Mapped[str] = mapped_column(String(128), primary_key=True)
    contact: Mapped[str] = mapped_column(String(500), primary_key=True)
    parameters: Mapped[str] = mapped_column(String(500))
    q: Mapped[int]
    call_key: Mapped[str] = mapped_column(String(64))
    cseq: Mapped[int] = mapped_column(BigInteger)
    registered_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    network: Mapped[str] = mapped_column(String(64))
    transport: Mapped[str] = mapped_column(String(8))
    host: Mapped[str] = mapped_column(String(64))
    port: Mapped[int]
    latched: Mapped[bool]
    user_agent: Mapped[str] = mapped_column(String(200))


class UserRow(Base):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    display_name: Mapped[str] = mapped_column(String(200))
    password_hash: Mapped[str] = mapped_column(String(255))
    roles: Mapped[list[str]]
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    enabled: Mapped[bool]
    created_at: Mapped[datetime]
    password_changed_at: Mapped[datetime]


class UserGrantRow(Base):
    """One more subtree a user may act in, outside the jurisdiction (grants may cross trees)."""

    __tablename__ = "user_grants"

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id", ondelete="CASCADE"), primary_key=True)


class SessionRow(Base):
    """A signed-in session; the token itself is never stored."""

    __tablename__ = "sessions"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(10))
    address: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    idle_expires_at: Mapped[datetime] = mapped_column(index=True)
    expires_at: Mapped[datetime]


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


class ScheduleRow(Base):
    """A meeting that is to be held: once, every day or every week; without `starts_at` it is a template.

    `participants` are {"address", "site_id", "name", "on_screen"}. `state`: template, waiting, done or
    missed; `detail` is the last word on it. `conference_id` is the meeting that was opened last.
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


class CameraRow(Base):
    """A camera of a site. The password is sealed, written over the API and never read back there."""

    __tablename__ = "cameras"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    url: Mapped[str] = mapped_column(String(500))
    username: Mapped[str | None] = mapped_column(String(128))
    password: Mapped[str | None] = mapped_column(Text)
    udp: Mapped[bool]
    enabled: Mapped[bool]
    created_at: Mapped[datetime]


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


class RecordingOrderRow(Base):
    """Record this until further notice."""

    __tablename__ = "recording_orders"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    subject: Mapped[str] = mapped_column(String(128), primary_key=True)
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    ordered_by: Mapped[str] = mapped_column(String(200))
    ordered_at: Mapped[datetime]


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


class BroadcastRow(Base):
    """A live broadcast of a meeting's programme or a camera. `name` is its address while it runs; `push_url`
    holds a platform's secret and is sealed."""

    __tablename__ = "broadcasts"
    __table_args__ = (
        Index(
            "uq_broadcasts_name_running",
            "name",
            unique=True,
            sqlite_where=text("stopped_at IS NULL"),
            postgresql_where=text("stopped_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(128), index=True)
    site_id: Mapped[str] = mapped_column(ForeignKey("sites.id"), index=True)
    public: Mapped[bool]
    delay_seconds: Mapped[float]
    push_url: Mapped[str | None] = mapped_column(Text)
    started_by: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime]
    stopped_at: Mapped[datetime | None]


class AuditRow(Base):
    """A link of the audit chain. `detail` is the canonical JSON that was hashed, kept as text."""

    __tablename__ = "audit"

    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    )
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(64), index=True)
    action: Mapped[str] = mapped_column(String(64), index=True)
    subject: Mapped[str] = mapped_column(String(200))
    outcome: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class JobRow(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_state_run_at", "state", "run_at"),
        Index(
            "uq_jobs_key_open",
            "key",
            unique=True,
            sqlite_where=text("state IN ('ready', 'leased')"),
            postgresql_where=text("state IN ('ready', 'leased')"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    key: Mapped[str | None] = mapped_column(String(128))
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(10))
    attempts: Mapped[int]
    max_attempts: Mapped[int]
    run_at: Mapped[datetime]
    lease: Mapped[str | None] = mapped_column(String(32))
    worker: Mapped[str | None] = mapped_column(String(128))
    leased_until: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
