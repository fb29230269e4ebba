"""Main killed in the middle of a meeting: calls, picture and sound go on, and all can be done as before."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from signaling.sip_events import EndCause
from tests.journeys.scene import FOUR_TILES, FULL_TILE, NANNING, WUMING, falls_silent, sees_all
from tests.peers.baresip import Baresip
from tests.peers.chromium import Chromium, Person
from tests.peers.node import PASSWORD, MeetingHandle, Node
from tests.peers.picture import BLUE, CYAN, GREEN, RED, YELLOW
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = [requires("baresip", "chromium"), pytest.mark.asyncio(loop_scope="module")]

ROOM = replace(NANNING, tone=440)
BY_TCP = replace(WUMING, colour=CYAN, transport="tcp", address="127.0.0.1", tone=660)
PROGRAMME = "[data-testid=programme]"
LONGEST_GAP = 2.0
BACK_WITHIN = 10.0
LOOK = 0.05


@dataclass(slots=True)
class Gap:
    """The longest time for which something that ought to grow stood still."""

    what: str
    look: Callable[[], Awaitable[float]]
    longest: float = 0.0
    changes: int = 0
    _value: float = -1.0
    _since: float = field(default_factory=time.monotonic)

    async def watch(self) -> None:
        while True:
            value = await self.look()
            now = time.monotonic()
            if value != self._value:
                if self.changes:
                    self.longest = max(self.longest, now - self._since)
                self._value, self._since = value, now
                self.changes += 1
            else:
                self.longest = max(self.longest, now - self._since)
            await asyncio.sleep(LOOK)


@asynccontextmanager
async def watching(*gaps: Gap) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(gap.watch()) for gap in gaps]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    faults = [error for error in ended if not isinstance(error, asyncio.CancelledError)]
    assert not faults, faults


@dataclass(frozen=True, slots=True)
class Hall:
    room: Baresip
    by_tcp: Baresip
    called: RoomTerminal
    browser: Chromium
    page: Page
    meeting: MeetingHandle
    ids: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hall(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hall]:
    folder = tmp_path_factory.mktemp("hall")
    settings = TerminalSettings("called", colour="blue", tone_hz=1100, bind="127.0.0.4")
    async with AsyncExitStack() as stack:
        room = await stack.enter_async_context(Baresip(folder / "room", ROOM))
        by_tcp = await stack.enter_async_context(Baresip(folder / "tcp", BY_TCP))
        called = await stack.enter_async_context(RoomTerminal(settings))
        browser = await stack.enter_async_context(Chromium(folder / "browser", Person(GREEN, 880)))
        meeting = await node.meeting("安全生产会商")
        for one in (room, by_tcp):
            await one.dial(meeting.uri)
            await one.established()
        wanted = {"address": called.uri, "site_id": "mine", "name": "called"}
        await meeting.api.post(f"{meeting.path}/participants", wanted)
        await called.answered()
        page = await browser.open(f"{node.url}/meetings/{meeting.id}/join")
        await page.get_by_test_id("signin-name").fill("viewer")
        await page.get_by_test_id("signin-password").fill(PASSWORD)
        await page.get_by_test_id("signin-password").press("Enter")
        await page.get_by_test_id("join-enter").click()
        shown = page.get_by_test_id("room")
        await expect(shown).to_have_attribute("data-state", "connected", timeout=15_000)
        ids = {who: await meeting.joined(who) for who in (ROOM.user, BY_TCP.user, "called", "刘工")}
        yield Hall(room, by_tcp, called, browser, page, meeting, ids)


def main_of(node: Node) -> int | None:
    """The process id of main, while it runs: a child of the supervisor, which the node's command is."""
    assert node._process is not None
    supervisor = node._process.pid
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    with contextlib.suppress(FileNotFoundError):
        for pid in children:
            if Path(f"/proc/{pid}/comm").read_text() == "anshi-main\n":
                return int(pid)
    return None


async def test_picture_and_sound_go_on_while_main_is_killed(node: Node, hall: Hall) -> None:
    room, called, meeting = hall.room, hall.called, hall.meeting
    await sees_all(room, FOUR_TILES, RED, BLUE, GREEN, CYAN)
    await room.hears(1100)

    async def shown_at_room() -> float:
        await room.picture()  # the next one that it decodes
        return time.monotonic()

    async def heard_at(one: Baresip) -> float:
        sounds = list(one.folder.glob("dump-*-dec.wav"))
        return float(sum(path.stat().st_size for path in sounds))

    async def page_frames() -> float:
        script = f"document.querySelector('{PROGRAMME}').getVideoPlaybackQuality().totalVideoFrames"
        return float(await hall.page.evaluate(script))

    async def terminal_frames() -> float:
        return float(called.screen.frames_decoded)

    async def terminal_sound() -> float:
        return float(called.ear.packets)

    gaps = (
        Gap("picture at baresip", shown_at_room),
        Gap("sound at baresip", lambda: heard_at(room)),
        Gap("sound at baresip by TCP", lambda: heard_at(hall.by_tcp)),
        Gap("picture in Chromium", page_frames),
        Gap("picture at the dialled terminal", terminal_frames),
        Gap("sound at the dialled terminal", terminal_sound),
    )
    worker = (await meeting.report())["worker_pid"]
    before = main_of(node)
    assert before is not None
    async with watching(*gaps):
        killed = time.monotonic()
        os.kill(before, signal.SIGKILL)

        async def states() -> dict[str, str]:
            if main_of(node) in (None, before) or await node.health() is None:
                return {}
            rows: list[dict[str, Any]] = await meeting.participants()
            return {row["id"]: row["state"] for row in rows}

        expected = dict.fromkeys(hall.ids.values(), "connected")
        await until(states, lambda seen: seen == expected, "all to be connected", BACK_WITHIN, LOOK)
        back = time.monotonic() - killed
        await asyncio.sleep(max(0.0, killed + BACK_WITHIN - time.monotonic()))
    report = await meeting.report()
    assert report["worker_pid"] == worker
    assert {wire["participant_id"] for wire in report["wires"]} == set(hall.ids.values())
    print(f"\nback after {back:.1f} s; " + ", ".join(f"{gap.what} {gap.longest:.2f} s" for gap in gaps))
    assert all(gap.changes > 10 for gap in gaps), gaps
    assert {gap.what: gap.longest for gap in gaps if gap.longest > LONGEST_GAP} == {}
    await called.hears(440)
    await room.hears(880)
    await hall.browser.hears(hall.page, 440, PROGRAMME)
    assert await meeting.joined("刘工") == hall.ids["刘工"]
    await expect(hall.page.get_by_test_id("room")).to_have_attribute("data-state", "connected")


async def test_the_calls_obey_as_before(hall: Hall) -> None:
    meeting, ids = hall.meeting, hall.ids
    await hall.room.hears(1100)
    await meeting.command("mute", ids["called"])
    await falls_silent(hall.room, 1100, timeout=2.0)
    await meeting.command("unmute", ids["called"])
    await hall.room.hears(1100, seconds=0.5)
    await hall.called.hold()  # a re-INVITE in the restored dialog, on the answer of which media depends
    await hall.called.resume()
    await meeting.command("full-screen", ids[ROOM.user])
    await hall.called.sees("red", timeout=5)
    await hall.browser.sees(hall.page, RED, PROGRAMME, FULL_TILE)
    await meeting.command("mosaic")
    await hall.room.command("hold")
    await hall.room.command("resume")
    await sees_all(hall.room, FOUR_TILES, RED, BLUE, GREEN, CYAN)


async def test_those_who_hang_up_are_out_at_once(hall: Hall) -> None:
    meeting = hall.meeting
    await hall.room.hang_up()
    assert (await meeting.left(ROOM.user, timeout=3.0))["reason"] == EndCause.REMOTE_BYE.value
    await meeting.api.delete(f"{meeting.path}/participants/{hall.ids['called']}")
    ended = await hall.called.over(timeout=3.0)
    assert ended.cause is EndCause.REMOTE_BYE
    # Its connection died with the process: our BYE finds the way to its contact by a new one.
    await meeting.api.delete(f"{meeting.path}/participants/{hall.ids[BY_TCP.user]}")
    await hall.by_tcp.closed(timeout=5.0)


async def test_a_guest_s_page_stays_and_still_may(node: Node, tmp_path: Path) -> None:
    meeting = await node.meeting(pin="482913")
    async with (
        Baresip(tmp_path / "room", replace(ROOM, user="guests-room", tone=520)) as room,
        Chromium(tmp_path / "guest", Person(YELLOW, 1320)) as browser,
    ):
        await room.dial(meeting.uri)
        await room.established()
        page = await browser.open(f"{node.url}/sign-in?meeting={meeting.number}")
        await page.get_by_test_id("guest-name").fill("王工")
        await page.get_by_test_id("guest-pin").fill("482913")
        await page.get_by_test_id("guest-pin").press("Enter")
        await page.get_by_test_id("join-enter").click()
        guest = await meeting.joined("王工", timeout=15.0)
        await room.hears(1320)

        await node.kill("main")

        async def in_meeting() -> str | None:
            if await node.health() is None:
                return None
            row = await meeting.participant("王工")
            return None if row is None or row["state"] != "connected" else str(row["id"])

        assert (
            await until(in_meeting, lambda found: found is not None, "the guest", BACK_WITHIN, LOOK) == guest
        )
        await room.hears(1320)
        await browser.hears(page, 520, PROGRAMME)
        await expect(page.get_by_test_id("room")).to_have_attribute("data-state", "connected")
        await page.get_by_test_id("room-leave").click()
        await meeting.left("王工")
    await meeting.command("end")
