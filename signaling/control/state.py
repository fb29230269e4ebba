"""What is decided in a meeting: a frozen value, kept as JSON in the meeting's row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from foundation.desks import View
from foundation.repositories.roll_calls import CalledSite, RollCallRecord

SHORTEST_POLL = 3.0
"""Seconds a polled site is shown at the least."""
MOST_CHANGES = 30
_EVERYBODY = View()


class Mode(StrEnum):
    """Who decides what the sites see."""

    FREE = "free"
    BROADCAST = "broadcast"
    LECTURE = "lecture"
    POLLING = "polling"
    ROLL_CALL = "roll-call"


class Lobby(StrEnum):
    """Which newcomers wait outside; guests are those who have a PIN only."""

    OFF = "off"
    GUESTS = "guests"
    ALL = "all"


class Audience(StrEnum):
    """Who sees the polled sites."""

    ALL = "all"
    CHAIR = "chair"


class Mark(StrEnum):
    """What the roll call knows of a site."""

    WAITING = "waiting"
    CALLED = "called"
    PRESENT = "present"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Polling:
    """Sites in turn, `size` at a time, `interval` seconds each. Without an `order` all who are there."""

    interval: float = 10.0
    order: tuple[str, ...] = ()
    size: int = 1
    audience: Audience = Audience.ALL
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RollCallEntry:
    """One site of a roll call; times are ISO 8601 in UTC."""

    participant_id: str
    name: str
    site_id: str | None = None
    mark: Mark = Mark.WAITING
    called_at: str | None = None
    marked_at: str | None = None
    marked_by: str | None = None


@dataclass(frozen=True, slots=True)
class RollCall:
    """A roll call under way; `heard_before` were not muted when it began."""

    id: str
    started_at: str
    started_by: str
    entries: tuple[RollCallEntry, ...] = ()
    heard_before: tuple[str, ...] = ()

    def record(self, conference_id: str) -> RollCallRecord:
        """What its rows keep."""
        sites = tuple(
            CalledSite(
                e.participant_id,
                e.name,
                e.site_id,
                e.mark,
                _time(e.called_at),
                _time(e.marked_at),
                e.marked_by,
            )
            for e in self.entries
        )
        return RollCallRecord(
            self.id, conference_id, self.started_by, datetime.fromisoformat(self.started_at), sites
        )


def _time(written: str | None) -> datetime | None:
    return None if written is None else datetime.fromisoformat(written)


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody asks, or waits, since `at`."""

    participant_id: str
    at: str


@dataclass(frozen=True, slots=True)
class Change:
    """One decision: the `version` that it made, and whose it was."""

    version: int
    command: str
    by: str
    at: str
    participant_id: str | None = None


@dataclass(frozen=True, slots=True)
class ControlState:
    """`version` counts decisions, not wishes and not turns of the polling.

    `view` is what sites see in free mode, `subject` who is broadcast, lectures or was called. `selected` says
    who sees whom by choice, which the sites may do themselves while `self_select`. `slides` is who presents,
    `slides_request` the BFCP request by which it does (0: by none); others than the chair only while
    `slides_allowed`.
    """

    version: int = 0
    mode: Mode = Mode.FREE
    view: View = _EVERYBODY
    subject: str | None = None
    chair: str | None = None
    chair_wishes: tuple[Wish, ...] = ()
    floor: str | None = None
    floor_wishes: tuple[Wish, ...] = ()
    polling: Polling | None = None
    roll_call: RollCall | None = None
    selected: dict[str, str] = field(default_factory=dict)
    self_select: bool = True
    deafened: frozenset[str] = frozenset()
    cameras_off: frozenset[str] = frozenset()
    without_self: frozenset[str] = frozenset()
    gains_db: dict[str, float] = field(default_factory=dict)
    locked: bool = False
    lobby: Lobby = Lobby.OFF
    waiting: tuple[Wish, ...] = ()
    banner: str = ""
    banner_everywhere: bool = False
    slides: str | None = None
    slides_request: int = 0
    slides_allowed: bool = True
    changes: tuple[Change, ...] = ()

    @property
    def mutes_newcomers(self) -> bool:
        return self.mode is Mode.ROLL_CALL or self.floor is not None

    def keeps_slides_from(self, participant_id: str) -> str | None:
        """Why one may not present now; None when it may."""
        if participant_id == self.chair:
            return None
        if not self.slides_allowed:
            return "the sites of this meeting may not present"
        if self.mode is Mode.ROLL_CALL:
            return "nobody presents during a roll call"
        if self.mode is Mode.LECTURE and participant_id != self.subject:
            return "only the lecturer presents during a lecture"
        return None

    def waits(self, participant_id: str) -> bool:
        """Whether one stands in the lobby."""
        return any(wish.participant_id == participant_id for wish in self.waiting)

    def decided(self, command: str, by: str, at: str, participant_id: str | None = None) -> ControlState:
        """The same as the next version."""
        version = self.version + 1
        change = Change(version, command, by, at, participant_id)
        return replace(self, version=version, changes=(*self.changes, change)[-MOST_CHANGES:])

    def since(self, version: int) -> tuple[Change, ...]:
        """What was decided after a version, as far as it is remembered."""
        return tuple(change for change in self.changes if change.version > version)

    def to_json(self) -> dict[str, Any]:
        encoded: dict[str, Any] = msgspec.to_builtins(self)
        return encoded

    @classmethod
    def from_json(cls, encoded: dict[str, Any] | None) -> ControlState:
        """What another version of us wrote and nobody understands is as if nothing had been decided."""
        try:
            return msgspec.convert(encoded or {}, cls)
        except msgspec.ValidationError:
            return cls()


def without(wishes: Iterable[Wish], participant_id: str) -> tuple[Wish, ...]:
    return tuple(wish for wish in wishes if wish.participant_id != participant_id)


def marked(call: RollCall, whom: str, mark: Mark, by: str, at: str) -> RollCall:
    entries = tuple(
        replace(e, mark=mark, marked_at=at, marked_by=by) if e.participant_id == whom else e
        for e in call.entries
    )
    return replace(call, entries=entries)
