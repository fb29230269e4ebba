"""A recording in a browser: closed or as a kill left it, it plays and seeks."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import async_playwright

from media.fragments import Began, StreamFragments
from media.packet import Format
from protocols.isobmff.fragmenter import MediaFragment
from protocols.isobmff.writer import INDEX_ROOM
from recordings.segment_file import SegmentFile
from tests.media.coded_pictures import BLUE, GREEN, RED, coded, sound
from tests.peers.requirement import requires, which

PAGE = "<!doctype html><video muted playsinline preload=auto src=/file.mp4></video>"
SEEN = """async ([seconds, meant]) => {
    const video = document.querySelector("video");
    const once = name => new Promise((done, fail) => {
        video.addEventListener(name, done, {once: true});
        video.addEventListener("error", () => fail(video.error.message), {once: true});
    });
    if (video.readyState < 2) await once("loadeddata");
    const duration = video.duration;
    video.currentTime = seconds;
    const canvas = document.createElement("canvas");
    const drawing = canvas.getContext("2d");
    let pixel = [];
    for (let look = 0; look < 100; look++) {  // the drawn frame may lag behind "seeked"
        await new Promise(done => setTimeout(done, 50));
        [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
        drawing.drawImage(video, 0, 0);
        pixel = [...drawing.getImageData(80, 48, 1, 1).data.slice(0, 3)];
        if (!video.seeking && pixel.indexOf(Math.max(...pixel)) === meant) break;
    }
    return [duration, ...pixel];
}"""


def write(path: Path, *, close: bool) -> None:
    heard, _ = sound("libopus", 6.0)
    fragments = StreamFragments(
        Format("H264", 90_000),
        Format("OPUS", 48_000, 2),
        fragment_seconds=0.5,
        index_room=INDEX_ROOM,
    )
    packets = coded([RED] * 50 + [GREEN] * 50 + [BLUE] * 50, gop=50, b_frames=2)
    file: SegmentFile | None = None
    for packet in sorted([*packets, *heard], key=lambda one: one.arrival):
        if packet not in packets:
            fragments.take_sound(packet)
            continue
        for made in fragments.take(packet):
            if isinstance(made, Began):
                file = SegmentFile(path, made.init)
            elif isinstance(made, MediaFragment) and file is not None:
                file.write(made)
    assert file is not None
    if close:
        for made in fragments.end():
            assert isinstance(made, MediaFragment)
            file.write(made)
        file.close()
    else:
        file.abandon()
        with path.open("ab") as torn:
            torn.write(b"\0\0\1\0moof\0\0")


async def looked_at(path: Path, looks: Sequence[tuple[float, int]]) -> list[tuple[float, list[int]]]:
    """The file in Chromium: its duration, and the pixel at each time, once `meant` (0 red, 1 green, 2 blue)
    is its strongest colour or time is up."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def media(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/file.mp4", media)])
    found = []
    async with TestServer(app) as server, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        tab = await browser.new_page()
        await tab.goto(str(server.make_url("/")))
        for seconds, meant in looks:
            duration, *colour = await tab.evaluate(SEEN, [seconds, meant])
            found.append((duration, colour))
        await browser.close()
    return found


@requires("chromium")
@pytest.mark.parametrize("close", [True, False])
async def test_a_recording_plays_and_seeks(tmp_path: Path, close: bool) -> None:
    path = tmp_path / "file.mp4"
    write(path, close=close)
    looks = ((4.5, 2), (1.0, 0), (2.52, 1))
    for (_, meant), (duration, colour) in zip(looks, await looked_at(path, looks), strict=True):
        assert colour.index(max(colour)) == meant, colour
        assert max(colour) > 100
        assert not close or duration == pytest.approx(6.0, abs=0.1)
