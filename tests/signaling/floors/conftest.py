"""A meeting with floors, whose requests are decided in time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from protocols.bfcp import floor_control_server
from tests.signaling.floors.floor_stage import MirrorDesk, Stage, staged
from tests.signaling.house import House


@pytest.fixture(autouse=True)
def decided_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, a request is answered by its decision; what is pending is tested apart."""
    monkeypatch.setattr(floor_control_server, "PENDING_AFTER", 60.0)


@pytest.fixture
async def house(database: Database, clock: FakeClock) -> House:
    house = House(database, clock, MirrorDesk)
    await house.meetings.worker_ready("media-0", 100)
    house.meeting = await house.meetings.open("演练", "nation", number="8001")
    return house


@pytest.fixture
async def stage(house: House) -> AsyncIterator[Stage]:
    async with staged(house) as stage:
        yield stage
