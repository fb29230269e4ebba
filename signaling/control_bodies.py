"""What is sent to the routes of meeting control, and what they answer."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from foundation.http_edge import Wanted
from signaling.conference_bodies import ViewOut
from signaling.control.orders import Command, Order
from signaling.control.site_media import MOST_GAIN_DB
from signaling.control.state import SHORTEST_POLL, Audience, Lobby, Mark, Mode
from signaling.control.views import LARGEST_PAGE

LONGEST_BANNER = 500
LONGEST_LIST = 500


Layout = Literal[
    "auto", "speaker", "1+1", "2x2", "1+5", "1+7", "3x3", "4x4", "pip", "speaker+strip", "slides+speaker"
]


class CommandBody(Wanted):
    """One command; which of the other fields it looks at depends on it."""

    command: Command
    version: int | None = Field(
        default=None, description="the state that was looked at; when it is no longer so: 409"
    )
    participant_id: str | None = Field(default=None, description="whom it is about")
    target_id: str | None = Field(default=None, description="select-view: whom to see; none for the meeting")
    on: bool = Field(default=True, description="allow-select, allow-slides; banner: on every picture")
    mark: Mark | None = Field(default=None, description="roll-call-mark: present or absent")
    order: list[str] = Field(default_factory=list, max_length=LONGEST_LIST, description="poll, roll-call")
    interval: float = Field(default=10.0, ge=SHORTEST_POLL, le=3600, description="poll: seconds each")
    size: int = Field(default=1, ge=1, le=LARGEST_PAGE, description="poll: sites at a time")
    audience: Audience = Audience.ALL
    lobby: Lobby = Lobby.ALL
    text: str = Field(default="", max_length=LONGEST_BANNER, description="banner; empty takes it away")
    layout: Layout | None = Field(default=None, description="mosaic: how its cells lie; none as before")
    decibels: float = Field(default=0.0, ge=-MOST_GAIN_DB, le=MOST_GAIN_DB)

    def ordered(self, by: str, site: str | None = None) -> Order:
        """The order of whoever asks; a `site` speaks for itself where nobody is named."""
        own = site if self.participant_id is None else self.participant_id
        return Order(
            self.command,
            by,
            participant_id=own,
            site=site,
            version=self.version,
            target_id=self.target_id,
            on=self.on,
            mark=self.mark,
            order=tuple(self.order),
            interval=self.interval,
            size=self.size,
            audience=self.audience,
            lobby=self.lobby,
            text=self.text,
            layout=self.layout or "",
            decibels=self.decibels,
        )


class WishOut(BaseModel):
    participant_id: str
    at: datetime


class PollingOut(BaseModel):
    interval: float
    order: list[str]
    size: int
    audience: Audience
    shown: list[str]


class RollCallEntryOut(BaseModel):
    participant_id: str
    name: str
    site_id: str | None
    mark: Mark
    called_at: datetime | None
    marked_at: datetime | None
    marked_by: str | None


class RollCallOut(BaseModel):
    id: str
    started_by: str
    started_at: datetime
    ended_at: datetime | None
    entries: list[RollCallEntryOut]


class ChangeOut(BaseModel):
    version: int
    command: str
    by: str
    at: datetime
    participant_id: str | None


class ControlOut(BaseModel):
    """All that is decided in a meeting. `picture` is what its sites see now."""

    version: int
    mode: Mode
    picture: ViewOut
    page: list[str]
    layout: str
    subject: str | None
    chair: str | None
    chair_wishes: list[WishOut]
    floor: str | None
    floor_wishes: list[WishOut]
    polling: PollingOut | None
    roll_call: RollCallOut | None
    selected: dict[str, str]
    self_select: bool
    deafened: list[str]
    cameras_off: list[str]
    without_self: list[str]
    gains_db: dict[str, float]
    locked: bool
    lobby: Lobby
    waiting: list[WishOut]
    banner: str
    banner_everywhere: bool
    slides: str | None
    slides_allowed: bool
    changes: list[ChangeOut]
