"""What callers of the recordings' routes send and get."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from foundation.http_edge import UtcTime, Wanted
from foundation.repositories.recordings import RecordingKind, RecordingState


class RecordingOut(BaseModel):
    id: str
    kind: RecordingKind
    subject: str
    subject_name: str
    site_id: str
    started_at: datetime
    ended_at: datetime | None
    state: RecordingState
    bytes: int
    seconds: float
    width: int
    height: int
    codecs: str


class RecordingPage(BaseModel):
    items: list[RecordingOut]
    next: str | None = Field(description="`after` of the next page; null on the last one")


class RecordingQuery(Wanted):
    kind: RecordingKind | None = None
    subject: str | None = Field(default=None, max_length=128)
    site_id: str | None = Field(default=None, description="this site and those below it")
    since: UtcTime | None = Field(default=None, alias="from")
    until: UtcTime | None = Field(default=None, alias="to")
    limit: int = Field(default=100, ge=1, le=1000)
    after: str | None = Field(default=None, max_length=100)


class PlaylistQuery(Wanted):
    kind: RecordingKind
    subject: str = Field(max_length=128)
    since: UtcTime = Field(alias="from")
    until: UtcTime = Field(alias="to")


class FileQuery(Wanted):
    download: bool = Field(default=False, description="as a file to keep; needs export-recording")


class OrderStateOut(BaseModel):
    """How an order does; `state` as the recorder says: waiting, recording, failed, or unknown."""

    state: str
    detail: str


class RecordingSubjectOut(BaseModel):
    kind: RecordingKind
    subject: str
    name: str
    site_id: str
    first: datetime | None
    last: datetime | None
    bytes: int
    recording: OrderStateOut | None


class RecordingSwitch(Wanted):
    on: bool


class RecordingSwitchOut(BaseModel):
    on: bool
    state: str | None
    detail: str | None


class RecordingStatusOut(OrderStateOut):
    kind: RecordingKind
    subject: str
    since: datetime
    files: int
    bytes: int
    dropped: int


class RecorderReportOut(BaseModel):
    statuses: list[RecordingStatusOut]
    free_bytes: int
    total_bytes: int
    preroll: list[str]
