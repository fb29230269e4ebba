"""Chromium shares slides beside its camera in one bundle, and is shown a room's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.async_api import Page

from foundation.desks import Budget, ConferenceSpec, ParticipantSpec, SectionKind, Staging, View, ViewMode
from mcu_bridge.access import MediaAccess, MediaNetwork
from mcu_bridge.bridge import Bridge
from media.dtls import DtlsCertificate
from media.ice_lite import IceLiteSocket
from media.rtp_socket import PortRange
from signaling.media_description import read_sdp, write_sdp
from tests.mcu_bridge.conftest import settings
from tests.mcu_bridge.rtp_peer import BLUE, H264, RED, YELLOW, RtpPeer
from tests.mcu_bridge.second_picture import SecondPicture
from tests.peers.chromium import Chromium
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = requires("chromium")

HOST, MEETING, PAGE = "127.0.0.1", "m", "http://localhost/sharer"
BOTH = Budget(2_000_000, 2_000_000)
PAINTED_GREEN = (173, 42, 26)
"""As Chromium's canvas comes (BT.709)."""
PURE_RED, PURE_YELLOW = (254, 0, 0), (255, 255, 0)
SCRIPT = """<!doctype html><title>sharer</title>
<video id="main" autoplay playsinline muted></video><video id="slides" autoplay playsinline muted></video>
<script>
function painted(colour) {
  const canvas = document.createElement("canvas");
  canvas.width = 320; canvas.height = 180;
  const pen = canvas.getContext("2d");
  setInterval(() => { pen.fillStyle = colour; pen.fillRect(0, 0, 320, 180); }, 80);
  return canvas.captureStream(12).getVideoTracks()[0];
}
const pc = new RTCPeerConnection();
const camera = pc.addTransceiver(painted("#00ff00"), {direction: "sendrecv"});
const slides = pc.addTransceiver("video", {direction: "recvonly"});
pc.ontrack = ({track, transceiver}) => {
  const id = transceiver === slides ? "slides" : "main";
  document.getElementById(id).srcObject = new MediaStream([track]);
};
async function offer() {
  await pc.setLocalDescription(await pc.createOffer());
  return pc.localDescription.sdp;
}
async function share() {
  slides.direction = "sendrecv";
  await slides.sender.replaceTrack(painted("#0000ff"));
  return offer();
}
async function answer(sdp) { await pc.setRemoteDescription({type: "answer", sdp}); }
</script>"""


async def exchange(page: Page, wanted: str, bridge: Bridge, *, first: bool) -> None:
    offer = read_sdp((await page.evaluate(f"{wanted}()")).encode())
    assert [section.kind for section in offer.sections] == [SectionKind.VIDEO, SectionKind.SLIDES]
    spec = ParticipantSpec("page", MEETING, "A page", "lan", BOTH)
    answer = await (bridge.admit(spec, offer) if first else bridge.renegotiate("page", offer))
    assert all(section.port for section in answer.sections)
    await page.evaluate("(sdp) => answer(sdp)", write_sdp(answer).decode())


async def test_a_page_shares_beside_its_camera_and_sees_what_a_room_shares(
    tmp_path: Path, certificate: DtlsCertificate, block: PortBlock
) -> None:
    first = block.take(24, even=True)
    ice = IceLiteSocket.open(bind=HOST, port=0, advertised=(HOST,))
    network = MediaNetwork("lan", HOST, HOST, PortRange(first, first + 11), 0, 0, ice)
    room_shares = SecondPicture(H264, YELLOW)
    async with (
        Chromium(tmp_path / "browser") as browser,
        Bridge(settings(), MediaAccess({"lan": network}, certificate), lambda event: None) as bridge,
        RtpPeer(RED, 440.0, PortRange(first + 12, first + 23), slides=room_shares) as room,
    ):

        async def serve(route: Any) -> None:
            await route.fulfill(body=SCRIPT, content_type="text/html")

        async def feed(kind: SectionKind) -> str:
            legs = (await bridge.report(MEETING)).legs
            return next(leg.source for leg in legs if leg.kind is kind and leg.outgoing and leg.source)

        await browser.context.route(PAGE, serve)
        both = View(ViewMode.FULL_SCREEN, "page")
        await bridge.open(ConferenceSpec(MEETING, "1000", "A meeting", both, Staging(slides="page")))
        spec = ParticipantSpec("room", MEETING, "A room", "lan", BOTH)
        room.answered(await bridge.admit(spec, room.offer()))
        page = await browser.open(PAGE)
        await exchange(page, "offer", bridge, first=True)
        await room.sees(PAINTED_GREEN, timeout=15.0)
        await browser.sees(page, PURE_RED, "#main")
        await exchange(page, "share", bridge, first=False)
        await room_shares.sees(BLUE, timeout=15.0)
        assert await feed(SectionKind.SLIDES) == "pass-through:slides:page"
        seen = room.pictures
        await until(lambda: _pictures(room), lambda count: count > seen + 10, "its camera to go on", 8.0)
        assert room.shows(PAINTED_GREEN)
        await bridge.set_staging(MEETING, both, Staging(slides="room"))
        await browser.sees(page, PURE_YELLOW, "#slides", tolerance=60)
        await browser.sees(page, PURE_RED, "#main")
    ice.close()


async def _pictures(room: RtpPeer) -> int:
    return room.pictures
