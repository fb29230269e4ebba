"""What is sent to the routes of schedules, and what they answer."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from foundation.http_edge import UtcTime, Wanted

Repeats = Literal["none", "daily", "weekly"]
Lobbies = Literal["off", "guests", "all"]
MOST_PARTICIPANTS = 500


class PlannedBody(Wanted):
    """A participant: an address, or a site of the tree, or both."""

    address: str | None = Field(
        default=None,
        max_length=500,
        description="sip:room@host, a telephone number or camera:ID; without one the site's SIP account",
    )
    site_id: str | None = None
    name: str | None = Field(default=None, max_length=200)
    on_screen: bool = Field(default=False, description="shown full screen to all as soon as it is in")

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.address is None and self.site_id is None:
            raise ValueError("a participant needs an address or a site_id")
        return self


class NewSchedule(Wanted):
    title: str = Field(min_length=1, max_length=200)
    host_site_id: str | None = None
    number: str | None = Field(default=None, pattern=r"^\d{3,12}$")
    pin: str | None = Field(default=None, pattern=r"^\d{4,12}$")
    starts_at: UtcTime | None = Field(default=None, description="absent: a template")
    duration_minutes: int = Field(default=120, ge=30, le=24 * 60)
    repeat: Repeats = "none"
    participants: list[PlannedBody] = Field(default_factory=list, max_length=MOST_PARTICIPANTS)
    auto_record: bool = False
    auto_dial: bool = True
    ends_by_itself: bool = Field(default=True, description="false: warned of the end only")
    redials: int = Field(default=3, ge=0, le=10, description="further calls to one who is absent")
    lobby: Lobbies = Field(default="off", description="who waits outside, from the start, to be admitted")


class SchedulePatch(Wanted):
    """What is absent stays; `pin` and `number` null take them away, `starts_at` null makes a template."""

    version: int = Field(
        ge=0, lt=2**31, description="the version that was read: somebody else's change is not overwritten"
    )
    title: str | None = Field(default=None, min_length=1, max_length=200)
    number: str | None = Field(default=None, pattern=r"^\d{3,12}$")
    pin: str | None = Field(default=None, pattern=r"^\d{4,12}$")
    starts_at: UtcTime | None = None
    duration_minutes: int | None = Field(default=None, ge=30, le=24 * 60)
    repeat: Repeats | None = None
    participants: list[PlannedBody] | None = Field(default=None, max_length=MOST_PARTICIPANTS)
    auto_record: bool | None = None
    auto_dial: bool | None = None
    ends_by_itself: bool | None = None
    redials: int | None = Field(default=None, ge=0, le=10)
    lobby: Lobbies | None = None


class PlannedOut(BaseModel):
    address: str | None
    site_id: str | None
    name: str | None
    on_screen: bool


class ScheduleOut(BaseModel):
    """`state`: template, waiting (for `starts_at`), done or missed; `conference_id` is the last meeting."""

    id: str
    title: str
    host_site_id: str
    number: str | None
    has_pin: bool
    starts_at: datetime | None
    duration_minutes: int
    repeat: Repeats
    participants: list[PlannedOut]
    auto_record: bool
    auto_dial: bool
    ends_by_itself: bool
    redials: int
    lobby: Lobbies
    state: str
    detail: str
    conference_id: str | None
    created_by: str
    created_at: datetime
    version: int


class OpenedOut(BaseModel):
    conference_id: str
    number: str


class Extension(Wanted):
    minutes: int = Field(ge=5, le=24 * 60)


class PlannedStateOut(PlannedOut):
    """`participant_id` None: absent."""

    participant_id: str | None


class PlanOut(BaseModel):
    """Until when a running meeting is to go on, and who of those planned is in."""

    conference_id: str
    schedule_id: str | None
    ends_at: datetime
    ends_by_itself: bool
    participants: list[PlannedStateOut]
