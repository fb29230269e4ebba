"""A call while every media worker is busy: 503 with Retry-After and the reason, and nothing is left of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from foundation.clock import FakeClock
from foundation.desks import Refusal, RefusalKind
from foundation.passwords import Passwords
from signaling.sip_service import SipService
from tests.signaling.house import House
from tests.signaling.sip_raw import OFFER, RawPeer
from tests.signaling.switchboard import loopback_is, switchboard

WHY = "this worker keeps 91% of the processors busy, its limit is 85%"


@pytest.fixture
async def service(house: House, clock: FakeClock, passwords: Passwords) -> AsyncIterator[SipService]:
    await loopback_is(house, "nanning")
    async with switchboard(house, clock, passwords) as service:
        yield service


async def test_a_call_to_busy_workers_is_told_why_and_when_to_try_again(
    service: SipService, house: House
) -> None:
    for desk in house.desks.values():
        desk.failures["admit"] = Refusal(RefusalKind.NO_CAPACITY, WHY, 15)
    async with RawPeer(service.endpoint) as room:
        room.send(room.compose("INVITE", OFFER))
        refused = await room.response(503)
        assert refused.headers.get("Retry-After") == "15"
        assert WHY in " ".join((refused.reason, refused.headers.get("Warning") or ""))
    assert not house.meeting.members
