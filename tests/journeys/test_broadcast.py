"""The public watches a meeting: Chromium on the watch page, a platform by RTMP, processes killed."""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from orchestrator.demo import stamp
from orchestrator.demo.viewer import LOOK_SCRIPT, ViewerLook, viewer_look
from tests.journeys.scene import NANNING, WUMING
from tests.peers.baresip import Baresip
from tests.peers.chromium import Chromium
from tests.peers.ffmpeg import run_ffmpeg
from tests.peers.nginx_rtmp import nginx_rtmp
from tests.peers.node import MeetingHandle, Node, Refused
from tests.peers.picture import BLUE, RED, Colour, Picture, load
from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess
from tests.peers.requirement import requires
from tests.peers.sound import hears, read_wav
from tests.peers.waiting import until

pytestmark = [
    requires("baresip", "chromium", "nginx-rtmp", "ffmpeg"),
    pytest.mark.asyncio(loop_scope="module"),
]

GLASS_TO_GLASS = 3.0
LOOKS = 10
PART = 0.5
CAMERA_TONE = 700.0
PATIENCE = 60.0
SHARE = 0.06
"""Of the picture: a third of what a tile of four has."""


@dataclass(frozen=True, slots=True)
class Show:
    """A meeting of two rooms and a camera with a clock, broadcast; and a page that watches."""

    node: Node
    meeting: MeetingHandle
    rooms: tuple[Baresip, Baresip]
    room_ids: tuple[str, str]
    broadcast: dict[str, Any]
    browser: Chromium
    page: Page

    @property
    def live(self) -> str:
        return str(self.broadcast["playlist_url"]).rpartition("/")[0]

    async def row(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = await self.meeting.api.get("/broadcasts")
        return next(row for row in rows if row["id"] == self.broadcast["id"])

    async def change(self, **changes: object) -> None:
        await self.meeting.api.patch(f"/broadcasts/{self.broadcast['id']}", changes)

    async def look(self) -> ViewerLook:
        return viewer_look(await self.page.evaluate(LOOK_SCRIPT), round(time.time() * 1000))

    async def sees(
        self, what: str, wanted: Callable[[ViewerLook], bool], timeout: float = PATIENCE
    ) -> ViewerLook:
        seen: list[str] = []

        async def look() -> ViewerLook:
            found = await self.look()
            seen.append(f"age {found.age}, red {found.share(RED):.2f}, blue {found.share(BLUE):.2f}")
            return found

        try:
            return await until(look, wanted, what, timeout)
        except AssertionError:
            there = [(row["name"], row["state"]) for row in await self.meeting.participants()]
            raise AssertionError(
                f"waited {timeout} s for {what}; last looks: {seen[-8:]}; in the meeting: {there}"
            ) from None


def mosaic(look: ViewerLook) -> bool:
    """Both rooms and the camera, which is not an old picture."""
    return look.share(RED) > SHARE and look.share(BLUE) > SHARE and fresh(look)


def fresh(look: ViewerLook) -> bool:
    return look.age is not None and look.age < 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with Node(tmp_path_factory.mktemp("broadcaster"), settings={"edge": {"enabled": True}}) as running:
        yield running


@asynccontextmanager
async def clock_camera(node: Node, folder: Path) -> AsyncIterator[None]:
    """The demonstration's camera with a clock in its picture, at the mine."""
    with PortBlock() as ports:
        port = ports.take()
        command = [sys.executable, "-P", "-m", "orchestrator.demo.cameras", "127.0.0.1", str(port)]
        process = await PeerProcess.start("clock", command, folder)
        try:
            await process.said("ready", 30)
            manager = await node.user("system-admin")
            url = f"rtsp://127.0.0.1:{port}/clock"
            told = {"id": "clock", "site_id": "mine", "name": "大明山时钟", "url": url}
            await manager.post("/cameras", told)
            yield
        finally:
            await process.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def show(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Show]:
    folder = tmp_path_factory.mktemp("show")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(clock_camera(node, folder))
        one = await stack.enter_async_context(Baresip(folder / "nanning", NANNING))
        two = await stack.enter_async_context(Baresip(folder / "wuming", WUMING))
        meeting = await node.meeting("全区安全生产电视电话会议")
        for room in (one, two):
            await room.dial(meeting.uri)
            await room.established()
        ids = (await meeting.joined(NANNING.user, PATIENCE), await meeting.joined(WUMING.user, PATIENCE))
        await meeting.api.post(f"{meeting.path}/participants", {"address": "camera:clock"})
        told = {"kind": "conference", "subject": meeting.id, "name": "guangxi"}
        broadcast = await meeting.api.post("/broadcasts", told)
        browser = await stack.enter_async_context(Chromium(folder / "viewer"))
        page = await browser.open(broadcast["watch_url"])
        yield Show(node, meeting, (one, two), ids, broadcast, browser, page)


async def test_the_watch_page_shows_the_rooms_and_sounds_like_them(show: Show) -> None:
    look = await show.sees("the mosaic", mosaic)
    assert look.parts > 0, "low latency: parts are fetched, not whole segments"
    await expect(show.page.locator("#title")).to_have_text("全区安全生产电视电话会议")
    await expect(show.page.locator("#stage")).to_have_attribute("data-state", "live")
    await show.page.locator("#unmute").click()
    for tone in (NANNING.tone, WUMING.tone, CAMERA_TONE):
        await show.browser.hears(show.page, tone, "#video", timeout=PATIENCE)
    await until(show.row, lambda row: row["viewers"] == 1, "one viewer to be counted", PATIENCE)
    assert (await show.row())["state"] == "live"


async def test_a_blocking_playlist_request_returns_as_its_part_appears(show: Show) -> None:
    target = re.search(r"PART-TARGET=([\d.]+)", await media(show))
    assert target is not None
    assert float(target[1]) <= PART
    waits = []
    msn, part = await next_part(show)
    for _ in range(8):
        began = time.monotonic()
        text = await media(show, f"?_HLS_msn={msn}&_HLS_part={part}")
        waits.append(time.monotonic() - began)
        assert f"part-{msn}.{part}.m4s" in parts(text) or f"part-{msn + 1}.0.m4s" in parts(text)
        msn, part = next_of(text)
    assert statistics.median(waits) < 2 * PART
    assert sum(waits) > 8 * PART * 0.4, "it waited for each"
    assert sum(waits) < 8 * PART * 2.5


async def media(show: Show, query: str = "") -> str:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session,
        session.get(f"{show.live}/media.m3u8{query}") as answer,
    ):
        assert answer.status == 200, await answer.text()
        return await answer.text()


def parts(playlist: str) -> list[str]:
    return re.findall(r'EXT-X-PART:[^\n]*URI="([^"]+)"', playlist)


def next_of(playlist: str) -> tuple[int, int]:
    """The part that is hinted at."""
    found = re.search(r'PRELOAD-HINT:TYPE=PART,URI="part-(\d+)\.(\d+)\.m4s"', playlist)
    assert found, playlist
    return int(found[1]), int(found[2])


async def next_part(show: Show) -> tuple[int, int]:
    return next_of(await media(show))


async def test_glass_to_glass_is_three_seconds_at_most(
    show: Show, record_property: Callable[[str, object], None]
) -> None:
    ages: list[float] = []

    async def median() -> float:
        look = await show.look()
        if look.age is not None:
            ages.append(look.age)
        return statistics.median(ages[-LOOKS:]) if len(ages) >= LOOKS else 1e9

    seconds = await until(median, lambda age: age <= GLASS_TO_GLASS, f"{LOOKS} looks <= 3 s", PATIENCE, 0.5)
    record_property("glass_to_glass_seconds", round(seconds, 2))


async def test_a_switch_in_the_meeting_is_seen(show: Show) -> None:
    await show.meeting.command("full-screen", show.room_ids[0])
    await show.sees("only the room of Nanning", lambda look: look.share(RED) > 0.9)
    await show.meeting.command("mosaic")
    await show.sees("the mosaic again", mosaic)


async def test_a_platform_gets_it_by_rtmp_and_again_after_it_restarted(show: Show, tmp_path: Path) -> None:
    with PortBlock() as ports:
        port = ports.take()
        async with nginx_rtmp(tmp_path / "platform", port):
            await show.change(push_url=f"rtmp://127.0.0.1:{port}/live/s3cret")
            await pushed(show)
            await on_platform(tmp_path / "one", port)
        await until(show.row, lambda row: row["push_state"] == "waiting", "the push to wait", PATIENCE)
        row = await show.row()
        assert row["push_detail"]
        assert "s3cret" not in row["push_detail"]
        assert row["state"] == "live"
        async with nginx_rtmp(tmp_path / "again", port):
            await pushed(show)
            await on_platform(tmp_path / "two", port)
        await show.change(push_url="")
    assert mosaic(await show.sees("the page to have gone on", mosaic))


async def pushed(show: Show) -> None:
    await until(show.row, lambda row: row["push_state"] == "pushing", "the push to be taken", PATIENCE)


async def on_platform(folder: Path, port: int) -> None:
    """Two seconds of what the platform hands out: the rooms' colours and tones."""
    picture, tone = folder / "seen.png", folder / "heard.wav"
    source = f"rtmp://127.0.0.1:{port}/live/s3cret"
    probing = ("-analyzeduration", "20M", "-probesize", "50M")  # the first key frame may take a moment
    await run_ffmpeg(
        folder, "-y", *probing, "-i", source, "-t", "2", "-map", "0:v", "-update", "1", str(picture),
        "-t", "2", "-map", "0:a", "-ac", "1", "-c:a", "pcm_s16le", str(tone), timeout=PATIENCE,
    )  # fmt: skip
    seen = load(picture)
    assert share(seen, RED) > SHARE
    assert share(seen, BLUE) > SHARE
    assert stamp.read(np.ascontiguousarray(seen)) is not None
    sound = read_wav(tone)
    assert hears(sound.last(1), NANNING.tone)
    assert hears(sound.last(1), WUMING.tone)


def share(picture: Picture, colour: Colour) -> float:
    return ViewerLook(0, 0, 0, picture, None).share(colour)


async def test_a_delay_moves_what_is_shown(show: Show) -> None:
    await show.change(delay_seconds=5)
    await show.sees(
        "a clock 5 s late and not much more",
        lambda look: look.age is not None and 5 <= look.age <= 5 + GLASS_TO_GLASS + 1,
    )
    await expect(show.page.locator("#delay")).not_to_be_empty(timeout=10_000)
    await show.change(delay_seconds=0)
    await show.sees("a clock on time", lambda look: look.age is not None and look.age < 5)


async def goes_on(show: Show, kill: Callable[[], Awaitable[object]]) -> float:
    """Kill something; the seconds until a picture painted after that is on the page."""
    killed = time.time()
    await kill()
    await show.sees(
        "a picture of after the kill",
        lambda look: look.age is not None and time.time() - look.age > killed + 0.5,
    )
    return time.time() - killed


async def test_a_killed_edge_is_watched_again_by_itself(
    show: Show, record_property: Callable[[str, object], None]
) -> None:
    took = await goes_on(show, lambda: show.node.kill("edge"))
    record_property("edge_killed_seconds", round(took, 1))
    await show.sees("the mosaic", mosaic)
    await until(show.row, lambda row: row["viewers"] == 1, "the viewer to be counted again", PATIENCE)


async def test_a_killed_media_worker_interrupts_for_ten_seconds_at_most(
    show: Show, record_property: Callable[[str, object], None]
) -> None:
    took = await goes_on(show, lambda: show.node.kill("media-0"))
    record_property("worker_killed_seconds", round(took, 1))
    assert took <= 10
    await show.sees("the mosaic", mosaic)


async def test_viewers_do_not_notice_a_killed_main(show: Show) -> None:
    before = await show.sees("the mosaic", mosaic)
    killing = asyncio.create_task(show.node.kill("main"))
    stalls, last, moved = [], before.frames, time.monotonic()
    end = time.monotonic() + 12
    while time.monotonic() < end:
        look = await show.look()
        now = time.monotonic()
        if look.frames > last:
            stalls.append(now - moved)
            last, moved = look.frames, now
        assert await show.page.locator("#stage").get_attribute("data-state") == "live"
        await asyncio.sleep(0.1)
    await killing
    assert max(stalls) < 2.5, f"the picture stood still for {max(stalls):.1f} s"
    assert last > before.frames + 60
    await show.sees("the clock of now", fresh)
    row = await until(lambda: again(show), lambda row: row is not None, "main to be there again", PATIENCE)
    assert row is not None
    assert row["stopped_at"] is None


async def again(show: Show) -> dict[str, Any] | None:
    try:
        return await show.row()
    except (Refused, OSError, aiohttp.ClientError):
        return None


async def test_stop_ends_it_for_viewers_within_two_seconds(
    show: Show, record_property: Callable[[str, object], None]
) -> None:
    await until(show.row, lambda row: row["state"] == "live", "the broadcast to be known as live", PATIENCE)
    began = time.monotonic()
    await show.meeting.api.delete(f"/broadcasts/{show.broadcast['id']}")
    await expect(show.page.locator("#stage")).to_have_attribute("data-state", "ended", timeout=15_000)
    took = time.monotonic() - began
    record_property("stopped_after_seconds", round(took, 2))
    assert took <= 2
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session,
        session.get(f"{show.live}/index.m3u8") as answer,
    ):
        assert answer.status == 410
