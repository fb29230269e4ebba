"""Commands, who may give them, and the values they carry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from signaling.control.state import Audience, Lobby, Mark


class Command(StrEnum):
    MOSAIC = "mosaic"
    FULL_SCREEN = "full-screen"
    BROADCAST = "broadcast"
    LECTURE = "lecture"
    POLL = "poll"
    POLL_NEXT = "poll-next"
    ROLL_CALL = "roll-call"
    ROLL_CALL_NEXT = "roll-call-next"
    ROLL_CALL_MARK = "roll-call-mark"
    STOP = "stop"
    """End the mode; everybody sees again what they saw before it."""
    REQUEST_CHAIR = "request-chair"
    WITHDRAW_CHAIR = "withdraw-chair"
    GRANT_CHAIR = "grant-chair"
    RELEASE_CHAIR = "release-chair"
    REVOKE_CHAIR = "revoke-chair"
    REQUEST_FLOOR = "request-floor"
    WITHDRAW_FLOOR = "withdraw-floor"
    GRANT_FLOOR = "grant-floor"
    REFUSE_FLOOR = "refuse-floor"
    END_FLOOR = "end-floor"
    SELECT_VIEW = "select-view"
    ALLOW_SELECT = "allow-select"
    MUTE = "mute"
    UNMUTE = "unmute"
    MUTE_ALL = "mute-all"
    UNMUTE_ALL = "unmute-all"
    DEAFEN = "deafen"
    UNDEAFEN = "undeafen"
    CAMERA_OFF = "camera-off"
    CAMERA_ON = "camera-on"
    GAIN = "gain"
    HIDE_SELF = "hide-self"
    SHOW_SELF = "show-self"
    LOCK = "lock"
    UNLOCK = "unlock"
    LOBBY = "lobby"
    ADMIT = "admit"
    ADMIT_ALL = "admit-all"
    BANNER = "banner"
    PRESENT = "present"
    STOP_PRESENTING = "stop-presenting"
    TAKE_BACK_SLIDES = "take-back-slides"
    ALLOW_SLIDES = "allow-slides"
    DROP = "drop"
    END = "end"


OF_A_SITE = frozenset(
    {
        Command.REQUEST_CHAIR,
        Command.WITHDRAW_CHAIR,
        Command.RELEASE_CHAIR,
        Command.REQUEST_FLOOR,
        Command.WITHDRAW_FLOOR,
        Command.SELECT_VIEW,
        Command.HIDE_SELF,
        Command.SHOW_SELF,
        Command.PRESENT,
        Command.STOP_PRESENTING,
    }
)
"""What a site may do without the chair; with it, everything."""

WISHES = frozenset(
    {Command.REQUEST_CHAIR, Command.WITHDRAW_CHAIR, Command.REQUEST_FLOOR, Command.WITHDRAW_FLOOR}
)
"""Decide nothing: no version is made of them."""

ABOUT_ONE = frozenset(
    {
        Command.FULL_SCREEN,
        Command.BROADCAST,
        Command.LECTURE,
        Command.ROLL_CALL_MARK,
        Command.REQUEST_CHAIR,
        Command.WITHDRAW_CHAIR,
        Command.GRANT_CHAIR,
        Command.REQUEST_FLOOR,
        Command.WITHDRAW_FLOOR,
        Command.GRANT_FLOOR,
        Command.REFUSE_FLOOR,
        Command.SELECT_VIEW,
        Command.MUTE,
        Command.UNMUTE,
        Command.DEAFEN,
        Command.UNDEAFEN,
        Command.CAMERA_OFF,
        Command.CAMERA_ON,
        Command.GAIN,
        Command.HIDE_SELF,
        Command.SHOW_SELF,
        Command.ADMIT,
        Command.PRESENT,
        Command.STOP_PRESENTING,
        Command.DROP,
    }
)
"""Need a participant."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command and its values. `site` is the participant that gives it; None is an operator.

    `version` is the state that whoever orders looked at; None does not care. `request` is the number of the
    BFCP request that it stands for, 0 for none.
    """

    command: Command
    by: str
    participant_id: str | None = None
    site: str | None = None
    version: int | None = None
    target_id: str | None = None
    on: bool = True
    mark: Mark | None = None
    order: tuple[str, ...] = ()
    interval: float = 10.0
    size: int = 1
    audience: Audience = Audience.ALL
    lobby: Lobby = Lobby.ALL
    text: str = ""
    layout: str = ""
    decibels: float = 0.0
    request: int = 0


class NotAllowed(Exception):
    """Who gives the order may not."""


class NotNow(Exception):
    """The order makes no sense as things are."""


class Outdated(Exception):
    """Somebody else has decided something since; `version` is what is now."""

    def __init__(self, words: str, version: int) -> None:
        super().__init__(words)
        self.version = version
