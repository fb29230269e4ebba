"""A browser and a room in one meeting, through the pages; and the worker that holds both killed."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.journeys.scene import FOUR_TILES, FULL_TILE, NANNING, TWO_TILES, last_heard, sees_all
from tests.peers.baresip import Baresip
from tests.peers.chromium import Chromium, Person
from tests.peers.node import PASSWORD, MeetingHandle, Node
from tests.peers.picture import CYAN, GREEN, RED, Colour, near
from tests.peers.requirement import requires
from tests.peers.sound import AUDIBLE, hears
from tests.peers.waiting import until, until_true

pytestmark = [requires("baresip", "chromium"), pytest.mark.asyncio(loop_scope="module")]

ROOM = replace(NANNING, tone=440)
VIEWER = Person(GREEN, 880)
GUEST = Person(CYAN, 1320)
PROGRAMME = "[data-testid=programme]"
RECOVERY = 5.0


@dataclass(frozen=True, slots=True)
class Hall:
    """A room of Nanning and the viewer's page in one meeting."""

    room: Baresip
    browser: Chromium
    page: Page
    meeting: MeetingHandle
    room_id: str
    browser_id: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hall(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hall]:
    folder = tmp_path_factory.mktemp("hall")
    async with AsyncExitStack() as stack:
        room = await stack.enter_async_context(Baresip(folder / "room", ROOM))
        browser = await stack.enter_async_context(Chromium(folder / "browser", VIEWER))
        meeting = await node.meeting("安全生产会商", pin="482913")
        await room.dial(meeting.uri)
        await room.established()
        page = await browser.open(f"{node.url}/meetings/{meeting.id}/join")
        await page.get_by_test_id("signin-name").fill("viewer")
        await page.get_by_test_id("signin-password").fill(PASSWORD)
        await page.get_by_test_id("signin-password").press("Enter")
        browser_id = await enter(page)
        yield Hall(room, browser, page, meeting, await meeting.joined(ROOM.user), browser_id)


async def enter(page: Page) -> str:
    """From the page before a meeting into it; the participant's id."""
    await page.get_by_test_id("join-enter").click()
    shown = page.get_by_test_id("room")
    await expect(shown).to_have_attribute("data-state", "connected", timeout=15_000)
    participant_id = await shown.get_attribute("data-participant-id")
    assert participant_id
    return participant_id


async def page_sees(browser: Chromium, page: Page, *colours: Colour, timeout: float = 10.0) -> None:
    """Wait until the programme shows each colour in a tile of its own."""

    async def look() -> list[Colour]:
        seen = [await browser.colour(page, PROGRAMME, tile) for tile in TWO_TILES]
        return [one[0] for one in seen if one is not None]

    def each(seen: list[Colour]) -> bool:
        return all(any(near(one, colour) for one in seen) for colour in colours)

    await until(look, each, f"the programme to show {colours}", timeout)


async def test_room_and_browser_see_and_hear_each_other(hall: Hall) -> None:
    await sees_all(hall.room, TWO_TILES, RED, GREEN)
    await page_sees(hall.browser, hall.page, RED, GREEN)
    await hall.room.hears(880)
    await hall.browser.hears(hall.page, 440, PROGRAMME)
    assert not hears(last_heard(hall.room), 440)
    own = await hall.browser.tone(hall.page, 880, PROGRAMME)
    assert own is not None
    assert own.asked < AUDIBLE


async def test_the_browser_gets_h264_and_opus_from_the_worker(node: Node, hall: Hall) -> None:
    report = await hall.meeting.report()
    legs = [leg for leg in report["legs"] if leg["participant_id"] == hall.browser_id]
    codecs = {(leg["kind"], leg["codec"]) for leg in legs}
    assert codecs == {("audio", "OPUS"), ("video", "H264"), ("slides", "H264")}
    assert report["encoders"]
    assert report["worker_pid"] == (await node.worker_pids())["media-0"]
    assert Path(f"/proc/{report['worker_pid']}/comm").read_text().strip() == "anshi-media-0"


async def test_full_screen_is_the_other_site_on_the_whole_programme(hall: Hall) -> None:
    await hall.meeting.command("full-screen", hall.room_id)
    await hall.browser.sees(hall.page, RED, PROGRAMME, FULL_TILE)
    await sees_all(hall.room, (FULL_TILE,), GREEN)
    await hall.meeting.command("mosaic")
    await page_sees(hall.browser, hall.page, RED, GREEN)


async def test_a_guest_with_the_pin_is_let_in_and_seen(node: Node, hall: Hall, tmp_path: Path) -> None:
    async with Chromium(tmp_path / "guest", GUEST) as browser:
        page = await browser.open(f"{node.url}/sign-in?meeting={hall.meeting.number}")
        await page.get_by_test_id("guest-name").fill("大明山矿业 王工")
        await page.get_by_test_id("guest-pin").fill("000000")
        await page.get_by_test_id("guest-pin").press("Enter")
        await expect(page.get_by_role("alert").first).to_be_visible()
        await page.get_by_test_id("guest-pin").fill("482913")
        await page.get_by_test_id("guest-pin").press("Enter")
        await enter(page)
        await hall.meeting.joined("王工")
        await sees_all(hall.room, FOUR_TILES, RED, GREEN, CYAN)
        await hall.room.hears(1320)
        await browser.hears(page, 440, PROGRAMME)
        await page.get_by_test_id("room-leave").click()
        await hall.meeting.left("王工")
    await sees_all(hall.room, TWO_TILES, RED, GREEN)


async def test_a_killed_worker_costs_nobody_the_meeting(node: Node, hall: Hall) -> None:
    await sees_all(hall.room, TWO_TILES, RED, GREEN)
    await hall.room.hears(880)
    victim = (await node.worker_pids())["media-0"]
    heard_before = last_heard(hall.room, 600).seconds
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)

    async def another() -> int | None:
        return (await node.worker_pids()).get("media-0")

    await until(another, lambda pid: pid != victim, "the loss to be noticed", 1.0, 0.03)
    await until(another, lambda pid: pid not in (None, victim), "another worker", RECOVERY, 0.03)

    # What was on the screens when the worker died stays there for a moment; this was never on them.
    await hall.meeting.command("full-screen", hall.room_id)

    def left() -> float:
        return killed + RECOVERY - time.monotonic()

    def new_sound() -> bool:
        sound = last_heard(hall.room, 600)
        return sound.seconds > heard_before + 0.5 and hears(sound.last(0.5), 880)

    await asyncio.gather(
        sees_all(hall.room, (FULL_TILE,), GREEN, timeout=left()),
        hall.browser.sees(hall.page, RED, PROGRAMME, FULL_TILE, timeout=left()),
        until_true(new_sound, "the room to hear the browser again", left()),
        hall.browser.hears(hall.page, 440, PROGRAMME, timeout=left()),
    )
    took = time.monotonic() - killed
    assert took <= RECOVERY
    report = await hall.meeting.report()
    assert report["worker_pid"] != victim
    assert {wire["participant_id"] for wire in report["wires"]} == {hall.room_id, hall.browser_id}
    kinds = [event.type for event in hall.room.events]
    assert "CALL_CLOSED" not in kinds
    assert kinds.count("CALL_ESTABLISHED") == 1
    assert await hall.meeting.joined(ROOM.user) == hall.room_id
    await hall.meeting.command("mosaic")
    await sees_all(hall.room, TWO_TILES, RED, GREEN)
    await page_sees(hall.browser, hall.page, RED, GREEN)
