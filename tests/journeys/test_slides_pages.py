"""Screens shared from the pages: the second picture of another browser and of a room; taken over, taken back.

Headless Chromium has no screen: its getDisplayMedia gives a pretended one of 1440x900, all of a green that
wavers. That is what the first browser shares, through the real call. Where a second colour is needed, or the
browser's own "stop sharing" has to be pressed, a canvas of one colour stands in for the screen.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from tests.peers.chromium import Chromium, Person
from tests.peers.node import ADDRESSES, PASSWORD, MeetingHandle, Node
from tests.peers.picture import BLUE, CYAN, MAGENTA, RED
from tests.peers.requirement import requires

pytestmark = [requires("chromium"), pytest.mark.asyncio(loop_scope="module")]

SLIDES = "[data-testid=slides]"
PROGRAMME = "[data-testid=programme]"
PRETENDED = (14, 158, 5)
"""The middle of the greens of Chromium's pretended screen, in whose window all of them lie."""
SLOW = 30.0
"""Seconds for a first picture on a busy machine."""
MS = 30_000
"""The same for what a page shows."""
CANVAS = """
navigator.mediaDevices.getDisplayMedia = async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1280, height: 720 });
  const context = canvas.getContext("2d");
  let turn = 0;
  setInterval(() => {
    context.fillStyle = "rgb(COLOUR)";
    context.fillRect(0, 0, 1280, 720);
    context.fillStyle = turn++ % 2 ? "white" : "black"; // a canvas that does not change sends nothing
    context.fillRect(0, 0, 8, 8);
  }, 100);
  const stream = canvas.captureStream(10);
  window.pressStopSharing = () => {
    const [track] = stream.getVideoTracks();
    track.stop();
    track.dispatchEvent(new Event("ended")); // the browser's bar does both, a page's stop() only the first
  };
  window.capture = stream.getVideoTracks()[0];
  return stream;
};
"""
ROOM = TerminalSettings(
    "双流会议室", bind=ADDRESSES["nanning"], colour="red", tone_hz=440, slides="magenta", floor="UDP", fps=15
)


@dataclass(frozen=True, slots=True)
class Hall:
    """The operator's and the viewer's pages in one meeting with a room; the operator's screen is a canvas."""

    node: Node
    meeting: MeetingHandle
    operator: Chromium
    viewer: Chromium
    operators: Page
    viewers: Page
    room: RoomTerminal


async def enter(browser: Chromium, node: Node, user: str, meeting_id: str) -> Page:
    """Sign in and go into the meeting."""
    page = await browser.open(f"{node.url}/meetings/{meeting_id}/join")
    await page.get_by_test_id("signin-name").fill(user)
    await page.get_by_test_id("signin-password").fill(PASSWORD)
    await page.get_by_test_id("signin-password").press("Enter")
    await page.get_by_test_id("join-enter").click()
    await expect(page.get_by_test_id("room")).to_have_attribute("data-state", "connected", timeout=MS)
    return page


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hall(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hall]:
    folder = tmp_path_factory.mktemp("sharing")
    async with AsyncExitStack() as stack:
        operator = await stack.enter_async_context(Chromium(folder / "operator", Person(CYAN, 880)))
        viewer = await stack.enter_async_context(Chromium(folder / "viewer", Person(RED, 1320)))
        room = await stack.enter_async_context(RoomTerminal(ROOM))
        await operator.context.add_init_script(CANVAS.replace("COLOUR", ",".join(map(str, BLUE))))
        meeting = await node.meeting("双流会商")
        await room.dial(meeting.uri)
        await meeting.joined(ROOM.name)
        yield Hall(
            node,
            meeting,
            operator,
            viewer,
            await enter(operator, node, "operator", meeting.id),
            await enter(viewer, node, "viewer", meeting.id),
            room,
        )


async def nobody_shares(hall: Hall) -> None:
    """No page shows slides, and no button says that it shares."""
    for page in (hall.operators, hall.viewers):
        await expect(page.locator(SLIDES)).to_have_count(0, timeout=MS)
        await expect(page.get_by_test_id("room-share")).to_have_attribute("aria-pressed", "false", timeout=MS)


async def test_a_shared_screen_is_the_second_picture_of_browser_and_room(hall: Hall) -> None:
    await hall.viewers.get_by_test_id("room-share").click()
    await expect(hall.viewers.get_by_test_id("room-sharing")).to_be_visible(timeout=MS)
    await hall.operator.sees(hall.operators, PRETENDED, SLIDES, timeout=SLOW)
    await hall.room.sees_slides(PRETENDED, SLOW)
    await expect(hall.operators.get_by_test_id("room-presenter")).to_contain_text("刘工", timeout=MS)
    await expect(hall.operators.locator(PROGRAMME)).to_be_visible(timeout=MS)
    await expect(hall.viewers.locator(SLIDES)).to_have_count(0, timeout=MS)  # nobody is shown his own
    await hall.viewers.get_by_test_id("room-share-stop").click()
    await nobody_shares(hall)


async def test_the_latest_share_wins_and_ends_the_capture_of_the_one_before(hall: Hall) -> None:
    await hall.viewers.get_by_test_id("room-share").click()
    await hall.operator.sees(hall.operators, PRETENDED, SLIDES, timeout=SLOW)
    await hall.operators.get_by_test_id("room-share").click()
    await hall.viewer.sees(hall.viewers, BLUE, SLIDES, timeout=SLOW)
    await hall.room.sees_slides("blue", SLOW)
    await expect(hall.viewers.get_by_test_id("room-share")).to_have_attribute(
        "aria-pressed", "false", timeout=MS
    )
    await expect(hall.operators.locator(SLIDES)).to_have_count(0, timeout=MS)
    await hall.room.present()
    await hall.operator.sees(hall.operators, MAGENTA, SLIDES, timeout=SLOW)
    await expect(hall.operators.get_by_test_id("room-share")).to_have_attribute(
        "aria-pressed", "false", timeout=MS
    )
    assert await hall.operators.evaluate("capture.readyState") == "ended"
    await hall.room.stop_presenting()
    await nobody_shares(hall)


async def test_the_browsers_own_stop_button_ends_the_slides(hall: Hall) -> None:
    await hall.operators.get_by_test_id("room-share").click()
    await hall.viewer.sees(hall.viewers, BLUE, SLIDES, timeout=SLOW)
    await hall.operators.evaluate("pressStopSharing()")
    await nobody_shares(hall)
    assert (await hall.meeting.api.get(f"{hall.meeting.path}/control"))["slides"] is None


async def test_a_latecomer_sees_what_runs_and_the_operator_takes_it_back(hall: Hall, tmp_path: Path) -> None:
    await hall.operators.get_by_test_id("room-share").click()
    await hall.viewer.sees(hall.viewers, BLUE, SLIDES, timeout=SLOW)
    async with Chromium(tmp_path / "late", Person()) as late:
        page = await enter(late, hall.node, "monitor", hall.meeting.id)
        await late.sees(page, BLUE, SLIDES, timeout=SLOW)
        await page.get_by_test_id("room-leave").click()
    board = await hall.operator.open(f"{hall.node.url}/meetings/{hall.meeting.id}/operate")
    await expect(board.get_by_test_id("slides")).to_contain_text("operator", timeout=MS)
    await board.get_by_test_id("slides-take-back").click()
    await expect(board.get_by_test_id("slides")).to_have_attribute("data-participant-id", "", timeout=MS)
    await nobody_shares(hall)
    assert await hall.operators.evaluate("capture.readyState") == "ended"
    await board.close()


async def test_where_slides_are_forbidden_there_is_no_button(hall: Hall) -> None:
    await hall.meeting.api.post(f"{hall.meeting.path}/commands", {"command": "allow-slides", "on": False})
    await expect(hall.viewers.get_by_test_id("room-share")).to_have_count(0, timeout=MS)
    await hall.meeting.command("allow-slides")
    await expect(hall.viewers.get_by_test_id("room-share")).to_have_count(1, timeout=MS)


async def test_a_service_that_refuses_the_second_picture_breaks_nothing(hall: Hall, tmp_path: Path) -> None:
    async def without_third(route: Route) -> None:
        """The answer as an older service would give it: port 0 for the third section, out of the bundle."""
        answer = await route.fetch()
        body = await answer.json()
        first, *sections = re.split(r"(?=^m=)", body["sdp"], flags=re.MULTILINE)
        assert len(sections) == 3
        mid = re.search(r"^a=mid:(\S+)", sections[2], re.MULTILINE)
        assert mid is not None
        refused = re.sub(r"^m=video \d+", "m=video 0", sections[2].replace("a=bundle-only\r\n", ""))
        first = re.sub(rf"(^a=group:BUNDLE.*?) {mid[1]}\b", r"\1", first, flags=re.MULTILINE)
        body["sdp"] = first + "".join(sections[:2]) + refused
        await route.fulfill(response=answer, body=json.dumps(body))

    async with Chromium(tmp_path / "old", Person()) as browser:
        await browser.context.route("**/webrtc", without_third)
        page = await enter(browser, hall.node, "monitor", hall.meeting.id)
        await expect(page.get_by_test_id("room-share")).to_be_disabled(timeout=MS)
        await expect(page.locator(PROGRAMME)).to_have_js_property("readyState", 4, timeout=MS)
        await expect(page.get_by_test_id("room")).to_have_attribute("data-state", "connected", timeout=MS)
