"""The edge as the public meets it: the watch page in Chromium, its listener, its end."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page

from config.settings import Edge, Http, Network, Node, Settings
from foundation.desk_socket import DeskClient
from foundation.desks import BroadcastDesk, BroadcastPlan, BroadcastSpec
from media.link import LinkServer
from orchestrator import edge_door
from orchestrator.control import WorkerAddress
from orchestrator.edge_process import DESK, edge_part, run_edge
from stream_relay.broadcasts import Broadcasts
from tests.media.coded_pictures import GREEN, RED
from tests.peers.chromium import Chromium
from tests.peers.picture import Region
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires
from tests.peers.waiting import until
from tests.stream_relay.programme import BITS, LOOP, RATE, Programme, playing

SPEC = BroadcastSpec("meeting", "安全生产例会", "programme:c1")
LOWER = Region(0.2, 0.4, 0.8, 0.9)
READ_NUMBER = f"""() => {{
    const video = document.querySelector("video");
    if (!video || video.readyState < 2 || !video.videoWidth) return null;
    const canvas = document.createElement("canvas");
    canvas.width = {BITS * 10};
    canvas.height = 60;
    const drawing = canvas.getContext("2d");
    drawing.drawImage(video, 0, 0, canvas.width, canvas.height);
    let number = 0;
    for (let bit = 0; bit < {BITS}; bit++) {{
        const [, green] = drawing.getImageData(bit * 10 + 5, 5, 1, 1).data;
        number = number * 2 + (green > 110 ? 1 : 0);
    }}
    return number;
}}"""

DECODED = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
LOUDEST = """async () => {
    const video = document.querySelector("video");
    if (!window.heard) {
        const context = new AudioContext();
        const analyser = new AnalyserNode(context, { fftSize: 16384, smoothingTimeConstant: 0 });
        context.createMediaElementSource(video).connect(analyser);
        window.heard = { context, analyser };
    }
    const { context, analyser } = window.heard;
    const levels = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(levels);
    const loudest = levels.reduce((best, level, at) => (level > levels[best] ? at : best), 0);
    return levels[loudest] > -50 ? (loudest * context.sampleRate) / analyser.fftSize : 0;
}"""


@pytest.fixture
def port() -> Any:
    with PortBlock() as block:
        yield block.take()


def settings_of(folder: Path, port: int, **edge: Any) -> Settings:
    return Settings(
        node=Node(id="gx", name="广西"),
        networks=(Network(name="extranet", bind="127.0.0.1"),),
        data=folder,
        http=Http(bind="127.0.0.1"),
        edge=Edge(bind="127.0.0.1", port=port, **edge),
    )


@asynccontextmanager
async def edge(settings: Settings, programme: Programme, *specs: BroadcastSpec) -> AsyncIterator[Broadcasts]:
    async with edge_part(settings, programme) as broadcasts:
        await broadcasts.set_plan(BroadcastPlan(specs))
        yield broadcasts


def client() -> aiohttp.ClientSession:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting))


async def seconds_late(page: Page, programme: Programme) -> float | None:
    """Glass to glass: from a picture's going out to its being seen on the page."""
    number = await page.evaluate(READ_NUMBER)
    if number is None or number not in programme.shown_at:
        return None
    return (time.monotonic() - programme.shown_at[number]) % (LOOP / RATE)


async def state(page: Page) -> str:
    return str(await page.evaluate("document.getElementById('stage').dataset.state"))


@requires("chromium")
async def test_the_watch_page_plays_soon_tells_the_end_and_outlives_the_edge(
    tmp_path: Path, port: int, record_property: Callable[[str, object], None]
) -> None:
    settings = settings_of(tmp_path, port)
    programme = Programme("programme:c1", RED)
    async with playing(programme), Chromium(tmp_path / "browser") as browser:
        async with edge(settings, programme, SPEC) as broadcasts:
            page = await browser.open(f"https://127.0.0.1:{port}/watch/meeting")
            await browser.sees(page, (255, 0, 0), region=LOWER, tolerance=40)
            await page.click("#unmute")
            await until(
                lambda: page.evaluate(LOUDEST), lambda tone: abs(tone - 440) < 10, "a tone of 440 Hz", 15
            )
            assert await page.title() == "安全生产例会 · Anshi Live"
            await until(
                lambda: page.inner_text("#viewers"), lambda text: text == "1 watching", "one viewer", 10
            )
            (status,) = await broadcasts.report()
            assert status.viewers == 1
            await until(lambda: page.evaluate(DECODED), lambda frames: frames > 75, "three seconds of it", 15)
            late = [await seconds_late(page, programme) for _ in range(10)]
            assert max(one for one in late if one is not None) <= 3
        await until(lambda: state(page), lambda one: one in ("offline", "stalled"), "the page to notice", 15)
        programme.colour = GREEN
        async with edge(settings, programme) as broadcasts:  # main has not said yet what there is
            await asyncio.sleep(1)
            await broadcasts.set_plan(BroadcastPlan((SPEC,)))
            await until(lambda: state(page), lambda one: one == "live", "the page to go on", 20)
            later = await until(
                lambda: seconds_late(page, programme),
                lambda seen: seen is not None and seen <= 3,
                "the picture to be soon again",
                15,
            )
            await broadcasts.set_plan(BroadcastPlan())
            await until(lambda: state(page), lambda one: one == "ended", "the page to say the end", 8)
            assert await page.inner_text("#veil-title") == "The broadcast has ended"
    record_property("glass to glass", f"{late[-1]} s, after the edge's restart {later} s")


@requires("chromium")
async def test_a_delay_is_kept_and_said_and_a_source_that_rests_is_waited_for(
    tmp_path: Path, port: int
) -> None:
    programme = Programme("programme:c1", RED)
    late = BroadcastSpec("meeting", "t", "programme:c1", delay=3.0)
    async with Chromium(tmp_path / "browser") as browser, edge(settings_of(tmp_path, port), programme, late):
        page = await browser.open(f"https://127.0.0.1:{port}/watch/meeting")
        await until(
            lambda: page.inner_text("#veil-title"),
            lambda text: text == "The broadcast is about to begin",
            "the page to wait",
            10,
        )
        async with playing(programme):
            await browser.sees(page, (255, 0, 0), region=LOWER, tolerance=40, timeout=20)
            assert await page.inner_text("#delay") == "shown 3 s late"
            seen = await until(
                lambda: seconds_late(page, programme), lambda one: one is not None, "a stamp", 5
            )
            assert 3.0 < (seen or 0) < 7.0


async def test_nothing_is_promised_before_main_has_spoken_and_strangers_learn_nothing(
    tmp_path: Path, port: int
) -> None:
    programme = Programme("programme:c1", RED)
    base = f"https://127.0.0.1:{port}"
    async with edge_part(settings_of(tmp_path, port), programme) as broadcasts, client() as session:
        async with session.get(f"{base}/live/meeting/info.json") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        await broadcasts.set_plan(BroadcastPlan((SPEC,)))
        async with session.get(f"{base}/live/meeting/info.json") as answer:
            assert json.loads(await answer.text())["state"] == "waiting"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        for path in ("/live/other/info.json", "/api/v1/session", "/", "/watch/assets/none.js", "/metrics"):
            async with session.get(base + path) as answer:
                assert answer.status == 404, path
        async with session.get(f"{base}/watch/meeting") as answer:
            assert answer.status == 200
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            tag = answer.headers["ETag"]
        async with session.get(f"{base}/watch/meeting", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304


async def test_a_crowd_beyond_the_bound_is_told_to_come_again(tmp_path: Path, port: int) -> None:
    programme = Programme("programme:c1", RED)
    address = f"https://127.0.0.1:{port}/live/meeting/info.json"
    async with edge(settings_of(tmp_path, port, viewers=2), programme, SPEC):
        held = [client() for _ in range(2)]
        for session in held:
            async with session.get(address) as answer:
                assert answer.status == 200
        async with client() as session, session.get(address) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
            assert "as many viewers" in await answer.text()
        for session in held:
            async with session.get(address) as answer:
                assert answer.status == 200
            await session.close()


async def test_who_sends_no_request_or_reads_no_answer_loses_the_place(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("HEAD_SECONDS", 0.3), ("UNREAD_SECONDS", 0.3), ("SWEEP_SECONDS", 0.1)):
        monkeypatch.setattr(edge_door, name, seconds)
    programme = Programme("programme:c1", RED)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with edge(settings_of(tmp_path, port), programme, SPEC) as broadcasts, playing(programme):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        for byte in b"GET /live/meeting/info.json HT":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.005)
        assert await asyncio.wait_for(_rest(reader), 3) == b""
        writer.close()
        channel = broadcasts.channel("meeting")
        assert channel is not None
        await channel.live.wait_for(channel.live.playlist.first, 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, limit=1024)
        first = channel.live.playlist.first
        request = f"GET /live/meeting/part-{first}.0.m4s HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_ask_without_end(writer, request), 10)
        writer.transport.abort()


async def _ask_without_end(writer: asyncio.StreamWriter, request: bytes) -> None:
    """And read nothing."""
    while True:
        writer.write(request * 20)
        await writer.drain()
        await asyncio.sleep(0.01)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_the_process_serves_its_desk_takes_streams_over_a_link_and_stops_at_once(
    tmp_path: Path, port: int
) -> None:
    programme = Programme("programme:c1", RED)
    media = WorkerAddress("media-0", tmp_path / "media-0.sock")
    stop, ready = asyncio.Event(), asyncio.Event()
    socket = tmp_path / "edge.sock"
    async with playing(programme), LinkServer(media.link, programme):
        running = asyncio.create_task(run_edge(settings_of(tmp_path, port), socket, [media], stop, ready.set))
        await asyncio.wait_for(ready.wait(), 5)
        desks = DeskClient(socket)
        await desks.connect(wait=5)
        desk = desks.desk(BroadcastDesk, DESK)
        await desk.set_plan(BroadcastPlan((SPEC,)))
        (status,) = await until(desk.report, lambda found: found[0].state == "live", "the broadcast", 8)
        assert (status.name, status.push_state) == ("meeting", "")
        async with client() as session:
            address = f"https://127.0.0.1:{port}/live/meeting"
            async with session.get(f"{address}/index.m3u8") as answer:
                assert answer.status == 200
            waiting = asyncio.create_task(session.get(f"{address}/media.m3u8?_HLS_msn=1&_HLS_part=0"))
            assert (await waiting).status == 200
            began = time.monotonic()
            stop.set()
            await asyncio.wait_for(running, 3)
            assert time.monotonic() - began < 2
        await desks.aclose()
        await programme.wants(0)
