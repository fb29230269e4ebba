"""The room of the demonstration: baresip where it is installed, else our own terminal.

async with room_in(folder, role, listening=True) as room:
    await room.dial("sip:800800@127.0.0.1")
    (await room.glimpse()).share(colour)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from media.rtp_socket import PortRange
from orchestrator.demo.baresip import Baresip, baresip_installed
from orchestrator.demo.glimpse import Glimpse, coarse
from orchestrator.demo.role import Role, Room, RoomFailed
from orchestrator.demo.terminal.room_terminal import DialRefused, RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings


@asynccontextmanager
async def room_in(folder: Path, role: Role, *, listening: bool, own: bool = False) -> AsyncIterator[Room]:
    """A room until the block is left. `listening` keeps what it hears; `own` never takes baresip."""
    if baresip_installed() and not own:
        async with Baresip(folder, role, listening=listening) as baresip:
            yield baresip
    else:
        async with OwnRoom(role) as room:
            yield room


class OwnRoom:
    """Our own terminal as a Room."""

    program = "anshi"
    pid = None

    def __init__(self, role: Role) -> None:
        self._settings = TerminalSettings(
            role.user,
            bind=role.address,
            rtp_ports=PortRange(*role.rtp_ports),
            colour=role.colour,
            tone_hz=role.tone_hz,
            width=role.width,
            height=role.height,
            fps=role.fps,
            bitrate=role.bitrate,
            detail=role.detail,
            username=role.user,
            password=role.password,
        )
        self._terminal = RoomTerminal(self._settings)

    async def __aenter__(self) -> OwnRoom:
        await self._terminal.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._terminal.aclose()

    @property
    def address(self) -> str:
        return self._terminal.uri

    async def dial(self, uri: str) -> None:
        try:
            await self._terminal.dial(uri)
        except DialRefused as refused:
            raise RoomFailed(str(refused)) from None

    def peaks(self) -> tuple[int, int] | None:
        report = self._terminal.report()
        return report.peak_received_bps // 8, report.peak_sent_bps // 8

    async def glimpse(self) -> Glimpse:
        screen = self._terminal.screen
        pixels = None if screen.latest is None else coarse(screen.latest)
        return Glimpse(screen.frames_decoded, screen.size, pixels, await self._terminal.ear.spectrum())
