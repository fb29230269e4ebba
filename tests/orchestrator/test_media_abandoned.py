"""A media worker without main: its meetings go on for a while, and end when nobody comes back for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from foundation.desk_socket import DeskServer
from mcu_bridge.bridge import Bridge
from orchestrator.media_process import _end_abandoned
from tests.peers.waiting import until_true

GRACE = 0.2


class Door:
    """The two events of a DeskServer."""

    def __init__(self) -> None:
        self.abandoned, self.occupied = asyncio.Event(), asyncio.Event()

    def come(self) -> None:
        self.abandoned.clear()
        self.occupied.set()

    def go(self) -> None:
        self.occupied.clear()
        self.abandoned.set()


@dataclass
class Meetings:
    """A bridge that only counts how often all of it was ended."""

    ended: int = 0

    async def clear(self) -> bool:
        self.ended += 1
        return True


@asynccontextmanager
async def watched(door: Door) -> AsyncIterator[Callable[[], int]]:
    meetings = Meetings()
    task = asyncio.create_task(_end_abandoned(cast(DeskServer, door), cast(Bridge, meetings), GRACE))
    yield lambda: meetings.ended
    task.cancel()
    await asyncio.wait([task])


async def test_meetings_of_a_main_that_comes_back_in_time_go_on() -> None:
    door = Door()
    async with watched(door) as ended:
        door.come()
        door.go()
        await asyncio.sleep(GRACE / 4)
        door.come()
        await asyncio.sleep(2 * GRACE)
        assert ended() == 0


async def test_meetings_end_once_when_nobody_comes_back_and_the_next_main_is_waited_for_anew() -> None:
    door = Door()
    async with watched(door) as ended:
        door.come()
        door.go()
        await until_true(lambda: ended() == 1, "the meetings to end", 5)
        await asyncio.sleep(2 * GRACE)
        assert ended() == 1
        door.come()
        door.go()
        await until_true(lambda: ended() == 2, "the next ones to end", 5)
