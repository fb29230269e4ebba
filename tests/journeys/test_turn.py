"""A page behind a firewall that lets nothing but its TURN server through: picture and sound, both ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.journeys.scene import NANNING, TWO_TILES, sees_all
from tests.peers.baresip import Baresip
from tests.peers.chromium import Chromium, Person
from tests.peers.coturn import Coturn
from tests.peers.node import PASSWORD, Node
from tests.peers.picture import GREEN, RED, near
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = requires("baresip", "chromium", "coturn")

VIEWER = Person(GREEN, 880)
PROGRAMME = "[data-testid=programme]"
RELAY_ONLY = """(() => {
  const Plain = window.RTCPeerConnection;
  window.peers = [];
  window.RTCPeerConnection = class extends Plain {
    constructor(settings) {
      super({ ...settings, iceTransportPolicy: "relay" });
      window.peers.push(this);
    }
  };
})()"""
CHOSEN = """async () => {
  const reports = await window.peers.at(-1).getStats();
  const pair = [...reports.values()].find((r) => r.type === "candidate-pair" && r.nominated);
  const local = pair && reports.get(pair.localCandidateId);
  return local ? [local.candidateType, local.relayProtocol] : null;
}"""


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_meeting_through_turn(tmp_path: Path, transport: str) -> None:
    async with Coturn(tmp_path / "turn") as turn:
        settings: dict[str, Any] = {"turn": {"urls": [turn.uri(transport)], "secret": turn.secret}}
        async with (
            Node(tmp_path / "node", settings=settings) as node,
            Baresip(tmp_path / "room", replace(NANNING, tone=440)) as room,
            Chromium(tmp_path / "browser", VIEWER) as browser,
        ):
            await browser.context.add_init_script(RELAY_ONLY)
            meeting = await node.meeting()
            await room.dial(meeting.uri)
            await room.established()
            page = await browser.open(f"{node.url}/meetings/{meeting.id}/join")
            await enter(page)
            await sees_all(room, TWO_TILES, RED, GREEN)
            await room.hears(880)
            await shows_the_room(browser, page)
            await browser.hears(page, 440, PROGRAMME)
            assert await page.evaluate(CHOSEN) == ["relay", transport]
            assert turn.relayed()
            await page.get_by_test_id("room-leave").click()
            await meeting.left("刘工")


async def enter(page: Page) -> None:
    """Sign in as the viewer, and into the meeting."""
    await page.get_by_test_id("signin-name").fill("viewer")
    await page.get_by_test_id("signin-password").fill(PASSWORD)
    await page.get_by_test_id("signin-password").press("Enter")
    await page.get_by_test_id("join-enter").click()
    await expect(page.get_by_test_id("room")).to_have_attribute("data-state", "connected", timeout=20_000)


async def shows_the_room(browser: Chromium, page: Page) -> None:
    async def look() -> list[Any]:
        return [await browser.colour(page, PROGRAMME, tile) for tile in TWO_TILES]

    def in_a_tile(seen: list[Any]) -> bool:
        return any(one is not None and near(one[0], RED) for one in seen)

    await until(look, in_a_tile, "the room in the programme", 15.0)
