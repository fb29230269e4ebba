"""A site's budget changed in its row holds for the calls it has."""

import time

import pytest

from orchestrator.demo.terminal.room_terminal import RoomTerminal
from tests.journeys.test_budgets import HALF, SENDER, SYSTEM_ADMIN, sent_since
from tests.peers.node import RATE, MeetingHandle, Node
from tests.peers.waiting import until_true

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_site_whose_budget_is_halved_keeps_to_it_in_mid_call(
    node: Node, meeting: MeetingHandle
) -> None:
    admin = await node.user(SYSTEM_ADMIN)
    async with RoomTerminal(SENDER) as terminal:
        await terminal.dial(meeting.uri)
        await meeting.joined(SENDER.name)
        await until_true(lambda: sent_since(terminal, 0.0)[-1:] > [HALF], "more than half to be sent", 8.0)
        await admin.patch("/sites/wuming", {"conference_budget_bps": HALF})
        asked = time.monotonic()
        try:
            await until_true(lambda: len(sent_since(terminal, asked + 2.0)) >= 10, "two more seconds", 6.0)
            sent = sent_since(terminal, asked + 2.0)
            row = await meeting.participant(SENDER.name)
        finally:
            await admin.patch("/sites/wuming", {"conference_budget_bps": RATE})
        assert max(sent) <= HALF, sent
        assert row is not None
        assert row["budget"] == {"to_site_bps": HALF, "from_site_bps": HALF}
