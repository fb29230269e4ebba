"""The helpers themselves: a page sees the fake camera's colour and hears the fake microphone's tone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.peers.chromium import Chromium, Person
from tests.peers.picture import CYAN, GREEN, MAGENTA
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires

pytestmark = requires("chromium")

MIRROR = """<!doctype html><title>mirror</title><video id="self" autoplay playsinline></video>
<script>
navigator.mediaDevices.getUserMedia({audio: true, video: {width: 640, height: 360}})
  .then((stream) => { document.querySelector("#self").srcObject = stream; });
</script>"""
LOOP = """<!doctype html><title>loop</title><video id="far" autoplay playsinline></video>
<script>
(async () => {
  const here = new RTCPeerConnection(), there = new RTCPeerConnection();
  here.onicecandidate = (event) => event.candidate && there.addIceCandidate(event.candidate);
  there.onicecandidate = (event) => event.candidate && here.addIceCandidate(event.candidate);
  there.ontrack = (event) => { document.querySelector("#far").srcObject = event.streams[0]; };
  const stream = await navigator.mediaDevices.getUserMedia({audio: true, video: true});
  stream.getTracks().forEach((track) => here.addTrack(track, stream));
  await here.setLocalDescription();
  await there.setRemoteDescription(here.localDescription);
  await there.setLocalDescription();
  await here.setRemoteDescription(there.localDescription);
})();
</script>"""


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """The address of a server of two pages: a mirror of the camera, and the same through WebRTC."""

    async def mirror(_: web.Request) -> web.Response:
        return web.Response(text=MIRROR, content_type="text/html")

    async def loop(_: web.Request) -> web.Response:
        return web.Response(text=LOOP, content_type="text/html")

    pages = web.Application()
    pages.add_routes([web.get("/mirror", mirror), web.get("/loop", loop)])
    runner = web.AppRunner(pages)
    await runner.setup()
    with PortBlock() as ports:
        port = ports.take()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}"
        await runner.cleanup()


async def test_each_browser_shows_its_own_colour_and_plays_its_own_tone(site: str, tmp_path: Path) -> None:
    async with (
        Chromium(tmp_path / "anna", Person(CYAN, 600)) as anna,
        Chromium(tmp_path / "bert", Person(MAGENTA, 1500)) as bert,
    ):
        at_anna, at_bert = await anna.open(f"{site}/mirror"), await bert.open(f"{site}/mirror")
        await anna.sees(at_anna, CYAN, "#self")
        await bert.sees(at_bert, MAGENTA, "#self")
        await anna.hears(at_anna, 600, "#self")
        await bert.hears(at_bert, 1500, "#self")
        other = await anna.tone(at_anna, 1500, "#self")
        assert other is not None
        assert other.frequency == pytest.approx(600, abs=15)
        assert other.asked < other.level - 30


async def test_colour_and_tone_survive_webrtc(site: str, tmp_path: Path) -> None:
    async with Chromium(tmp_path / "carl", Person(GREEN, 880)) as carl:
        page = await carl.open(f"{site}/loop")
        await carl.sees(page, GREEN, "#far")
        await carl.hears(page, 880, "#far")


async def test_a_page_without_a_picture_shows_nothing(site: str, tmp_path: Path) -> None:
    async with Chromium(tmp_path / "dora") as dora:
        page = await dora.open("about:blank")
        assert await dora.colour(page) is None
        assert await dora.tone(page, 440) is None
        with pytest.raises(AssertionError, match="to show"):
            await dora.sees(page, GREEN, timeout=0.3)
