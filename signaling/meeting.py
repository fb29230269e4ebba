"""A running meeting and its members, and the record of a call that outlives the process."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any

import msgspec

from foundation.desks import (
    Budget,
    ConferenceSpec,
    MediaDescription,
    ParticipantSpec,
    SectionKind,
    Staging,
    View,
)
from signaling.control.state import ControlState
from signaling.line import Line, NoLine


class MemberState(StrEnum):
    CALLING = "calling"
    CONNECTED = "connected"
    SILENT = "silent"
    LEFT = "left"


class Access(StrEnum):
    """How a participant's media came about, which decides how it is taken up on another worker."""

    DIALLED_IN = "dialled-in"
    DIALLED_OUT = "dialled-out"
    BROWSER = "browser"
    STREAM = "stream"
    """No peer at all: a stream of this node, a camera, named by the caller's address ("camera:ID")."""


CAMERA = "camera:"
"""What the address of a camera, and the name of its stream, begin with."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the edge resolved it; a guest has no site, a telephone is `sound_only`."""

    name: str
    site_id: str | None
    network: str
    address: str
    sound_only: bool = False


@dataclass(frozen=True, slots=True)
class MediaRecord:
    """What both ends said last; enough to take the call up again on other sockets of the same ports."""

    ours: MediaDescription
    theirs: MediaDescription


@dataclass(frozen=True, slots=True)
class FloorSeat:
    """A participant's place at its meeting's floor control server, by the ids that its SDP was told.

    `described` is where its BFCP is by its SDP (port 0: it does not say); `host` and `port` are the same, or
    over datagrams where it was heard last. `follows`: it asked to be told of the floor. `version` is that of
    its datagrams' headers, as heard last or else as described.
    """

    conference: int
    user: int
    reliable: bool
    host: str = ""
    port: int = 0
    follows: bool = False
    described: tuple[str, int] = ("", 0)
    version: int = 2


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What a participant's row keeps for recovery; `dialog` belongs to the protocol that made it."""

    access: Access
    network: str
    wanted: Budget
    budget: Budget
    muted: bool = False
    media: MediaRecord | None = None
    dialog: dict[str, Any] | None = None
    budget_set: bool = False
    sound_only: bool = False
    floor: FloorSeat | None = None

    def to_json(self) -> dict[str, Any]:
        encoded: dict[str, Any] = msgspec.to_builtins(self)
        return encoded

    @classmethod
    def from_json(cls, encoded: dict[str, Any]) -> CallRecord:
        """Raises msgspec.ValidationError for what an older or foreign version wrote."""
        return msgspec.convert(encoded, cls, str_keys=True)  # the keys of JSON objects are strings


@dataclass(slots=True)
class Member:
    """A participant of a running meeting; `offered` is our offer to one whom we call."""

    participant_id: str
    conference_id: str
    caller: Caller
    access: Access
    wanted: Budget
    budget: Budget
    line: Line = field(default_factory=NoLine)
    state: MemberState = MemberState.CALLING
    muted: bool = False
    budget_set: bool = False
    """An operator chose the wanted budget: a changed site does not replace it."""
    media: MediaRecord | None = None
    offered: MediaDescription | None = None
    dialog: dict[str, Any] | None = None
    floor: FloorSeat | None = None
    since: datetime = field(default_factory=partial(datetime.now, UTC))
    """When it came, or was called."""

    @property
    def has_slides(self) -> bool:
        """A stream for slides is agreed."""
        return self.media is not None and has_slides(self.media.ours) and has_slides(self.media.theirs)

    @property
    def placed(self) -> bool:
        """A worker knows it: it has answered it or made an offer to it, or holds its stream."""
        return self.state is not MemberState.CALLING or self.offered is not None

    @property
    def camera(self) -> str | None:
        """The id of the camera that the member is; None for one who calls."""
        return self.caller.address.removeprefix(CAMERA) if self.access is Access.STREAM else None

    @property
    def spec(self) -> ParticipantSpec:
        return ParticipantSpec(
            participant_id=self.participant_id,
            conference_id=self.conference_id,
            name=self.caller.name,
            network=self.caller.network,
            budget=self.budget,
            site_id=self.caller.site_id,
            muted=self.muted,
            sound_only=self.caller.sound_only,
        )

    @property
    def record(self) -> CallRecord:
        return CallRecord(
            access=self.access,
            network=self.caller.network,
            wanted=self.wanted,
            budget=self.budget,
            muted=self.muted,
            media=self.media,
            dialog=self.dialog,
            budget_set=self.budget_set,
            sound_only=self.caller.sound_only,
            floor=self.floor,
        )


def has_slides(description: MediaDescription) -> bool:
    return any(section.kind is SectionKind.SLIDES and section.port for section in description.sections)


@dataclass(slots=True)
class Meeting:
    """A running meeting; `view` and `staging` are what its `control` makes of it."""

    conference_id: str
    number: str
    title: str
    host_site_id: str
    pin_hash: str | None
    view: View = field(default_factory=View)
    members: dict[str, Member] = field(default_factory=dict)
    control: ControlState = field(default_factory=ControlState)
    staging: Staging = field(default_factory=Staging)

    @property
    def spec(self) -> ConferenceSpec:
        return ConferenceSpec(self.conference_id, self.number, self.title, self.view, self.staging)
