"""Chromium looks on: it sends nothing, takes a camera as it is where it can, and is missed when it goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from foundation.desks import (
    Budget,
    ConferenceSpec,
    Direction,
    LegReport,
    ParticipantSpec,
    SectionKind,
    View,
    ViewMode,
)
from foundation.events import Event, MediaFailed, ParticipantSilent
from mcu_bridge.access import MediaAccess, MediaNetwork
from mcu_bridge.bridge import Bridge
from media.dtls import DtlsCertificate
from media.ice_lite import IceLiteSocket
from media.rtp_socket import PortRange
from signaling.media_description import read_sdp, write_sdp
from tests.mcu_bridge.cameras import Camera, Cameras, pictures, sound
from tests.mcu_bridge.conftest import settings
from tests.mcu_bridge.rtp_peer import RED
from tests.peers.chromium import Chromium
from tests.peers.requirement import requires
from tests.peers.waiting import until, until_true

pytestmark = requires("chromium")

HOST = "127.0.0.1"
VIEWING = "view:camera:gate"
CAMERA = "camera:gate"
PURE_RED = (254, 0, 0)
PAGE = "http://localhost/viewer"
SCRIPT = """<!doctype html><title>viewer</title><video autoplay playsinline></video><script>
const pc = new RTCPeerConnection();
const shown = new MediaStream();
pc.ontrack = (event) => { shown.addTrack(event.track); document.querySelector("video").srcObject = shown; };
async function offer() {
  pc.addTransceiver("audio", {direction: "recvonly"});
  pc.addTransceiver("video", {direction: "recvonly"});
  await pc.setLocalDescription(await pc.createOffer());
  return pc.localDescription.sdp;
}
async function answer(sdp) { await pc.setRemoteDescription({type: "answer", sdp}); }
async function picture() {
  const all = [...(await pc.getStats()).values()];
  const video = all.find((s) => s.type === "inbound-rtp" && s.kind === "video");
  return [video?.framesDecoded ?? 0, video?.frameWidth ?? 0, video?.framesDropped ?? 0];
}
</script>"""


class Hall:
    """A bridge with a small meeting whose full screen is one camera, and a browser before it."""

    def __init__(self, bridge: Bridge, cameras: Cameras, browser: Chromium, events: list[Event]) -> None:
        self.bridge, self.cameras, self.browser, self.events = bridge, cameras, browser, events

    async def view(
        self, camera: Camera, budget: int = 6_000_000
    ) -> tuple[Page, dict[SectionKind, Direction]]:
        """A page that watches the camera, and the directions of its answer."""
        self.cameras[CAMERA] = camera
        both = Budget(budget, budget)
        await self.bridge.admit_stream(ParticipantSpec("gate", VIEWING, "Gate", "lan", both), CAMERA)
        page = await self.browser.open(PAGE)
        offer = read_sdp((await page.evaluate("offer()")).encode())
        answer = await self.bridge.admit(ParticipantSpec("page", VIEWING, "A page", "lan", both), offer)
        await page.evaluate("(sdp) => answer(sdp)", write_sdp(answer).decode())
        return page, {section.kind: section.direction for section in answer.sections}

    async def feed(self) -> str:
        return (await self.leg()).source

    async def leg(self) -> LegReport:
        report = await self.bridge.report(VIEWING)
        return next(
            leg
            for leg in report.legs
            if leg.participant_id == "page" and leg.outgoing and leg.kind is SectionKind.VIDEO
        )


@pytest.fixture
async def hall(tmp_path: Path, certificate: DtlsCertificate) -> AsyncIterator[Hall]:
    async with AsyncExitStack() as stack:
        browser = await stack.enter_async_context(Chromium(tmp_path / "browser"))

        async def serve(route: Any) -> None:
            await route.fulfill(body=SCRIPT, content_type="text/html")

        await browser.context.route(PAGE, serve)
        ice = IceLiteSocket.open(bind=HOST, port=0, advertised=(HOST,))
        stack.callback(ice.close)
        network = MediaNetwork("lan", HOST, HOST, PortRange(40_000, 40_000), 0, 0, ice)
        events: list[Event] = []
        cameras = await stack.enter_async_context(Cameras())
        access = MediaAccess({"lan": network}, certificate)
        bridge = await stack.enter_async_context(Bridge(settings(), access, events.append, cameras))
        view = View(ViewMode.FULL_SCREEN, "gate")
        await bridge.open(ConferenceSpec(VIEWING, "", "Gate", view))
        yield Hall(bridge, cameras, browser, events)


async def decoded(page: Page) -> list[int]:
    seen: list[int] = await page.evaluate("picture()")
    return seen


async def test_a_camera_of_1080_lines_in_high_profile_reaches_chromium_untouched(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu_bridge.conference.SILENT_AFTER", 6.0)
    camera = Camera(
        pictures(RED, profile="high", size=(1920, 1080), gop=25),
        sound(440.0, "MPEG4-GENERIC", rate=16_000),
    )
    page, directions = await hall.view(camera)
    assert directions == {SectionKind.AUDIO: Direction.SENDONLY, SectionKind.VIDEO: Direction.SENDONLY}
    await until(hall.feed, "pass-through:gate".__eq__, "pass-through", 8.0)
    began = time.monotonic()
    await hall.browser.sees(page, PURE_RED)
    await hall.browser.hears(page, 440.0)
    assert (await decoded(page))[1] == 1920
    assert (await hall.bridge.report(VIEWING)).encoders == ()
    await asyncio.sleep(max(0.0, began + 8.0 - time.monotonic()))
    seen = await decoded(page)
    assert seen[0] > 100
    assert not [event for event in hall.events if isinstance(event, ParticipantSilent)], "it looks on"
    await hall.browser.context.set_offline(True)
    await page.evaluate("pc.close()")

    def missed() -> bool:
        return any(isinstance(event, ParticipantSilent | MediaFailed) for event in hall.events)

    await until_true(missed, "the page to be missed", 8.0)


async def test_b_frames_reach_chromium_as_one_encode(hall: Hall) -> None:
    page, _directions = await hall.view(
        Camera(pictures(RED, profile="high", b_frames=2), sound(900.0, "PCMU"))
    )
    await hall.browser.sees(page, PURE_RED)
    await hall.browser.hears(page, 900.0)
    await until(hall.feed, lambda feed: "full-screen:gate H264" in feed, "an encode", 4.0)
    before = (await decoded(page))[0]
    await until(lambda: decoded(page), lambda seen: seen[0] > before + 25, "pictures to go on", 5.0)
