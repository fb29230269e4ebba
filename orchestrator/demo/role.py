"""A terminal of the demonstration: who it is, and what it can be asked, whatever program plays it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.demo.glimpse import Glimpse
from orchestrator.demo.terminal.footage import COLOURS, Rgb


class RoomFailed(Exception):
    """The room is not in the meeting; the words say why."""


@dataclass(frozen=True, slots=True)
class Role:
    """Who a terminal is: its SIP account, what it shows and plays, and where it sends from."""

    user: str
    password: str = field(repr=False)
    colour: Rgb = COLOURS["red"]
    tone_hz: float = 440.0
    address: str = "127.0.0.1"
    rtp_ports: tuple[int, int] = (32_000, 32_767)
    width: int = 640
    height: int = 360
    fps: int = 25
    bitrate: int = 800_000
    detail: int = 16
    """Noise, so that the picture costs its bits."""


class Room(Protocol):
    """A terminal that is running."""

    @property
    def program(self) -> str:
        """What plays the room."""
        ...

    @property
    def address(self) -> str:
        """Where it can be called."""
        ...

    @property
    def pid(self) -> int | None:
        """Its process, None when it is ours."""
        ...

    async def dial(self, uri: str) -> None:
        """Call and return once the call is up. Raises RoomFailed."""
        ...

    async def glimpse(self) -> Glimpse: ...

    def peaks(self) -> tuple[int, int] | None:
        """IP bytes of media in its fullest second, received and sent; None if it does not count them."""
        ...
