"""A real browser through IceLiteSocket and DtlsSrtpTransport decodes what we send back of its own video."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from media.dtls import DtlsCertificate, DtlsSrtpTransport, Fingerprint
from media.ice_lite import IceLiteSocket
from media.transport import (
    Address,
    PeerMoved,
    TransportClosed,
    TransportEvent,
    TransportReady,
    is_valid_rtcp,
    is_valid_rtp,
)
from tests.peers.chromium import Chromium, Person
from tests.peers.picture import CYAN
from tests.peers.requirement import requires

pytestmark = requires("chromium")

HOST = "127.0.0.1"
PAGE = "http://localhost/mirror"
OUR_SSRC = (0xA5A5).to_bytes(4, "big")
SCRIPT = """<!doctype html><title>call</title><video autoplay playsinline muted></video><script>
const pc = new RTCPeerConnection();
pc.ontrack = (event) => { document.querySelector("video").srcObject = new MediaStream([event.track]); };
async function offer(codec, iceRestart) {
  if (!pc.getSenders().length) {
    const stream = await navigator.mediaDevices.getUserMedia({video: {width: 640, height: 360}});
    pc.addTrack(stream.getVideoTracks()[0], stream);
    const all = RTCRtpReceiver.getCapabilities("video").codecs;
    pc.getTransceivers()[0].setCodecPreferences(all.filter((c) => c.mimeType === "video/" + codec));
  }
  await pc.setLocalDescription(await pc.createOffer({iceRestart}));
  return pc.localDescription.sdp;
}
async function answer(sdp) { await pc.setRemoteDescription({type: "answer", sdp}); }
async function decoded() {
  const all = [...(await pc.getStats()).values()];
  return all.find((s) => s.type === "inbound-rtp")?.framesDecoded ?? 0;
}
</script>"""


class Mirror:
    """Sends every RTP packet back under our SSRC and keeps what it saw."""

    def __init__(self) -> None:
        self.transport: DtlsSrtpTransport
        self.packets: list[bytes] = []
        self.reports = 0
        self.events: asyncio.Queue[TransportEvent] = asyncio.Queue()

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        assert is_valid_rtp(data)
        self.packets.append(data)
        self.transport.send_rtp([data[:8] + OUR_SSRC + data[12:]])

    def rtcp_received(self, data: bytes, source: Address, arrival: float) -> None:
        assert is_valid_rtcp(data)
        self.reports += 1

    def transport_event(self, event: TransportEvent) -> None:
        self.events.put_nowait(event)

    async def event(self) -> TransportEvent:
        async with asyncio.timeout(15):
            return await self.events.get()


def lines_of(sdp: str, name: str) -> list[str]:
    return [line[len(name) :] for line in sdp.splitlines() if line.startswith(name)]


def answer_to(offer: str, transport: DtlsSrtpTransport) -> str:
    """The least a browser accepts: one bundled video of the offer's first payload type."""
    payload_type = lines_of(offer, "m=video ")[0].split()[2]
    fingerprint = transport.certificate.fingerprint
    fmtp = [f"a=fmtp:{payload_type} {f}" for f in lines_of(offer, f"a=fmtp:{payload_type} ")]
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        "a=group:BUNDLE 0",
        f"m=video 9 UDP/TLS/RTP/SAVPF {payload_type}",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendrecv",
        "a=rtcp-mux",
        f"a=ice-ufrag:{transport.credentials.ufrag}",
        f"a=ice-pwd:{transport.credentials.pwd}",
        f"a=fingerprint:{fingerprint.algorithm} {fingerprint.value}",
        "a=setup:passive",
        f"a=rtpmap:{payload_type} {lines_of(offer, f'a=rtpmap:{payload_type} ')[0]}",
        *fmtp,
        "a=ssrc:42405 cname:mirror",
        *(f"a=candidate:{candidate}" for candidate in transport.candidates),
        "a=end-of-candidates",
    ]
    return "\r\n".join(lines) + "\r\n"


async def until_decoded(page: Page, frames: int) -> int:
    async with asyncio.timeout(15):
        while True:
            decoded = int(await page.evaluate("decoded()"))
            if decoded >= frames:
                return decoded
            await page.wait_for_timeout(100)


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    async with Chromium(tmp_path / "browser", Person(CYAN)) as browser:

        async def serve(route: Any) -> None:
            await route.fulfill(body=SCRIPT, content_type="text/html")

        await browser.context.route(PAGE, serve)
        yield browser


async def test_a_browser_sees_its_own_video_again(browser: Chromium) -> None:
    ice = IceLiteSocket.open(bind=HOST, port=0, advertised=(HOST,))
    certificate = DtlsCertificate.generate()
    for codec in ("H264", "VP8"):
        mirror = Mirror()
        transport = mirror.transport = DtlsSrtpTransport(mirror, ice, certificate)
        page = await browser.open(PAGE)
        offer = await page.evaluate("(codec) => offer(codec, false)", codec)
        algorithm, value = lines_of(offer, "a=fingerprint:")[0].split()
        async with asyncio.TaskGroup() as group:
            group.create_task(transport.run([Fingerprint(algorithm, value)]))
            await page.evaluate("(sdp) => answer(sdp)", answer_to(offer, transport))
            assert isinstance(await mirror.event(), PeerMoved)
            assert await mirror.event() == TransportReady("AEAD_AES_128_GCM")
            decoded = await until_decoded(page, 10)
            await browser.sees(page, CYAN)

            payload_type = int(lines_of(offer, "m=video ")[0].split()[2])
            assert {packet[1] & 0x7F for packet in mirror.packets} == {payload_type}
            sequences = [int.from_bytes(packet[2:4], "big") for packet in mirror.packets]
            assert sequences == [(sequences[0] + n) & 0xFFFF for n in range(len(sequences))]
            assert mirror.reports > 0
            assert transport.counters.rejected == 0

            transport.restart_ice()
            offer = await page.evaluate("(codec) => offer(codec, true)", codec)
            former = transport.session.selected
            await page.evaluate("(sdp) => answer(sdp)", answer_to(offer, transport))
            moved = former
            while moved == former:  # it may have told of its first ways more than once
                event = await mirror.event()
                assert isinstance(event, PeerMoved)
                moved = event.address
            await until_decoded(page, decoded + 20)

            await page.evaluate("pc.close()")
            assert isinstance(await mirror.event(), TransportClosed)
        await page.close()
    assert ice.counters.rejected < 10
    ice.close()
