"""A browser that has the chair presides from the room: what it decides is seen and heard at the terminals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from tests.peers.chromium import Chromium, Person
from tests.peers.node import ADDRESSES, PASSWORD, MeetingHandle, Node
from tests.peers.picture import GREEN
from tests.peers.requirement import requires

pytestmark = [requires("chromium"), pytest.mark.asyncio(loop_scope="module")]

MS = 30_000
"""What a page shows on a busy machine."""
SLOW = 30.0
RED = TerminalSettings("南宁会议室", bind=ADDRESSES["nanning"], colour="red", tone_hz=440, fps=15)
BLUE = TerminalSettings("武鸣会议室", bind=ADDRESSES["wuming"], colour="blue", tone_hz=880, fps=15)


@dataclass(frozen=True, slots=True)
class Hall:
    """A red and a blue room, and a browser that may get the chair."""

    meeting: MeetingHandle
    page: Page
    browser_id: str
    red: RoomTerminal
    blue: RoomTerminal
    red_id: str
    blue_id: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hall(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hall]:
    folder = tmp_path_factory.mktemp("chair")
    async with AsyncExitStack() as stack:
        browser = await stack.enter_async_context(Chromium(folder / "browser", Person(GREEN, 1320)))
        red = await stack.enter_async_context(RoomTerminal(RED))
        blue = await stack.enter_async_context(RoomTerminal(BLUE))
        meeting = await node.meeting("主席会商")
        ids = []
        for room in (red, blue):
            await room.dial(meeting.uri)
            ids.append(await meeting.joined(room.settings.name))
        page = await browser.open(f"{node.url}/meetings/{meeting.id}/join")
        await page.get_by_test_id("signin-name").fill("viewer")
        await page.get_by_test_id("signin-password").fill(PASSWORD)
        await page.get_by_test_id("signin-password").press("Enter")
        await page.get_by_test_id("join-enter").click()
        shown = page.get_by_test_id("room")
        await expect(shown).to_have_attribute("data-state", "connected", timeout=MS)
        browser_id = await shown.get_attribute("data-participant-id")
        assert browser_id
        yield Hall(meeting, page, browser_id, red, blue, *ids)


def line_of(page: Page, participant_id: str) -> Locator:
    """A site's line in the chair's drawer."""
    return page.locator(f"[data-testid=chair-site][data-participant-id='{participant_id}']")


async def test_the_chair_is_asked_for_and_presides(hall: Hall) -> None:
    """Asked for from the room, granted by the operator; pictures and sound follow the drawer's buttons."""
    page = hall.page
    await expect(page.get_by_test_id("room-preside")).to_have_count(0)
    await page.get_by_test_id("room-view").click()
    await page.get_by_test_id("room-chair").click()
    await hall.meeting.command("grant-chair", hall.browser_id)
    await page.get_by_test_id("room-preside").click(timeout=MS)
    await line_of(page, hall.blue_id).get_by_test_id("chair-full-screen").click()
    await hall.red.sees(BLUE.colour, timeout=SLOW)
    await line_of(page, hall.red_id).get_by_test_id("chair-full-screen").click()
    await hall.blue.sees(RED.colour, timeout=SLOW)
    await hall.red.hears(880, timeout=SLOW)
    mute = line_of(page, hall.blue_id).get_by_test_id("chair-mute")
    await mute.click()
    await hall.red.hears(880, timeout=SLOW, present=False)
    await expect(mute).to_be_enabled(timeout=MS)
    await mute.click()
    await hall.red.hears(880, timeout=SLOW)


async def test_what_is_refused_is_said_and_changes_nothing(hall: Hall) -> None:
    """An operator decides between the chair's look and its order: the page is told, and has what is now."""
    page = hall.page
    panel = page.get_by_test_id("chair-drawer").get_by_test_id("control")
    await page.route("**/api/v1/conferences/*/control", lambda route: route.abort())
    await hall.meeting.command("lock")
    await page.get_by_test_id("chair-drawer").get_by_test_id("allow-select").click()
    await expect(page.locator(".el-message").last).to_contain_text("lock by", timeout=MS)
    await page.unroute("**/api/v1/conferences/*/control")
    await hall.meeting.command("unlock")
    await expect(panel.get_by_test_id("lock")).to_be_visible(timeout=MS)


async def test_a_chair_that_is_revoked_presides_no_more(hall: Hall) -> None:
    await expect(hall.page.get_by_test_id("chair-drawer")).to_be_visible()
    await hall.meeting.command("revoke-chair", hall.browser_id)
    await expect(hall.page.get_by_test_id("chair-drawer")).to_have_count(0, timeout=MS)
    await expect(hall.page.get_by_test_id("room-preside")).to_have_count(0, timeout=MS)


async def test_the_chair_ends_the_meeting_for_all(hall: Hall) -> None:
    page = hall.page
    await hall.meeting.command("grant-chair", hall.browser_id)
    await page.get_by_test_id("room-preside").click(timeout=MS)
    await page.get_by_test_id("chair-end").click()
    await page.locator(".confirm-danger").click()
    await expect(page.get_by_test_id("room")).to_have_attribute("data-state", "ended", timeout=MS)
    for room in (hall.red, hall.blue):
        await room.over(timeout=SLOW)
