"""One site's picture: what it is learnt to be, when it is asked for a key frame, what it may be sent."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from foundation.desks import CodecDescription, Direction, MediaSection, SectionKind
from mcu_bridge.negotiation import agree
from mcu_bridge.picture_leg import STALE_AFTER, PictureLeg
from mcu_bridge.picture_plan import PictureSource, cannot_forward
from mcu_bridge.rtp_leg import LegTerms
from media.pacer import PacedFlow, Pacer, PacingClock
from media.packet import Packet
from media.rtp_sender import BitrateLimit, LimitSource
from media.transport import MediaReceiver, NobodyListening, WireCounters
from protocols.payloads import Frame
from tests.mcu_bridge.rtp_peer import H264, H264_MODE_0, RED, VP8, footage


class Wire:
    """A transport that keeps what it is given."""

    overhead = 28
    last_received: float | None = None

    def __init__(self) -> None:
        self.receiver: MediaReceiver = NobodyListening()
        self.counters = WireCounters()
        self.sent: list[bytes] = []
        self.rtcp: list[bytes] = []

    def send_rtp(self, packets: Sequence[bytes]) -> None:
        self.sent += packets

    def send_rtcp(self, packet: bytes) -> None:
        self.rtcp.append(packet)

    def close(self) -> None:
        pass


class Stage:
    def __init__(self, codec: CodecDescription = H264, direction: Direction = Direction.SENDRECV) -> None:
        self.wire = Wire()
        self.clock = PacingClock()
        self.changes = 0
        agreed = agree(MediaSection(SectionKind.VIDEO, "192.0.2.1", 5004, codecs=(codec,)))
        assert agreed is not None
        terms = LegTerms("a", SectionKind.VIDEO, agreed, direction, 1, "cname")
        pacer: Pacer[PacedFlow] = Pacer(2_000_000)
        self.leg = PictureLeg(terms, self.wire, self.clock, pacer, self._changed)
        self._times = itertools.count(step=3600)

    def _changed(self) -> None:
        self.changes += 1

    def frame(self, data: bytes, *, key: bool) -> Frame:
        return Frame(data, next(self._times), key)

    def take(self, data: bytes, arrival: float, *, key: bool) -> None:
        self.leg.take_frames([self.frame(data, key=key)], arrival)

    def asked(self, now: float) -> bool:
        """Whether a key frame is asked for by now."""
        return self.leg.receiver._keyframes.deadline is not None and self.leg.receiver._keyframes.due(now)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    stage.clock.close()


KEY, DELTA = (data for data, _ in footage(RED, "H264", 200_000, (320, 180))[:2])


async def test_a_source_is_what_its_key_frame_says(stage: Stage) -> None:
    leg = stage.leg
    stage.take(KEY, 1.0, key=True)
    assert leg.source is not None
    assert (leg.source.codec, leg.source.width, leg.source.height) == ("H264", 320, 180)
    assert leg.source.profile == 66
    assert leg.source.largest_nal > 0
    assert stage.changes == 1
    stage.take(KEY, 2.0, key=True)
    assert stage.changes == 1
    larger = footage(RED, "H264", 200_000, (640, 360))[0][0]
    stage.take(larger, 3.0, key=True)
    assert (leg.source.width, leg.source.height) == (640, 360)
    assert stage.changes == 2


async def test_vp8_has_its_size_in_the_key_frame() -> None:
    stage = Stage(VP8)
    stage.take(footage(RED, "VP8", 200_000, (320, 180))[0][0], 1.0, key=True)
    assert stage.leg.source is not None
    assert (stage.leg.source.codec, stage.leg.source.width) == ("VP8", 320)
    stage.clock.close()


async def test_a_picture_that_stopped_and_goes_on_is_asked_for_a_key_frame(stage: Stage) -> None:
    """Nothing was lost, so that nobody else asks."""
    leg = stage.leg
    stage.take(KEY, 1.0, key=True)
    stage.take(DELTA, 1.1, key=False)
    assert not stage.asked(1.1)
    assert not leg.is_stale(1.1 + STALE_AFTER)
    assert leg.is_stale(1.2 + STALE_AFTER)
    leg.forget_source()
    assert leg.source is None
    stage.take(DELTA, 60.0, key=False)
    assert stage.asked(60.0)
    assert leg.source is None
    stage.take(KEY, 60.5, key=True)
    assert leg.source is not None


async def test_a_rate_rises_at_once_and_falls_calmly(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    leg = stage.leg
    stage.take(KEY, 0.0, key=True)
    rate = 2_000_000
    stats = leg.receiver.stats
    monkeypatch.setattr(leg.receiver, "stats", lambda now: replace(stats(now), bitrate=rate))

    def reported() -> int:
        assert leg.source is not None
        return leg.source.bitrate_bps

    leg.measure(0.5)
    assert reported() == 2_000_000, "the first measure counts whole"
    for tenth in range(20):  # breathing by a fifth about what a receiver may take
        rate = 1_800_000 if tenth // 3 % 2 else 2_200_000
        leg.measure(1.0 + tenth / 2)
        assert reported() == 2_000_000
    rate = 4_000_000
    for half in range(4):
        leg.measure(11.0 + half / 2)
    assert reported() > 2_900_000
    rate = 1_000_000
    high = reported()
    for half in range(8):
        leg.measure(13.0 + half / 2)
        assert reported() >= high
    for half in range(8, 30):
        leg.measure(13.0 + half / 2)
    assert reported() < 1_300_000


async def test_how_often_and_how_long_its_picture_stood_still_is_reported(stage: Stage) -> None:
    now = time.monotonic() - 60.0
    stage.take(KEY, now, key=True)
    for _ in range(30):
        now += 0.04
        stage.take(DELTA, now, key=False)
    incoming, outgoing = stage.leg.picture_reports(now + 0.1)
    assert (incoming.freezes, incoming.frozen_seconds) == (0, 0.0)
    broken = replace(stage.frame(DELTA, key=False), damaged=True)
    stage.leg.take_frames([broken], now + 1.0)
    assert stage.leg.picture_reports(now + 1.0)[0].freezes == 1, "a damaged picture of H.264 is none"
    stage.take(KEY, now + 2.0, key=True)
    incoming, outgoing = stage.leg.picture_reports(now + 2.01)
    assert (incoming.freezes, incoming.frozen_seconds) == (1, 2.0)
    assert (outgoing.freezes, outgoing.frozen_seconds) == (0, 0.0)
    stage.leg.hold(True, now + 2.02)
    assert stage.leg.picture_reports(now + 30.0)[0].freezes == 1, "a trickle may pause"


async def test_what_it_may_be_sent(stage: Stage) -> None:
    leg = stage.leg
    leg.set_bitrate(900_000)
    limits = leg.limits
    assert limits is not None
    assert (limits.codec, limits.bitrate_bps, limits.max_nal) == ("H264", 900_000, None)
    assert (limits.max_frame_size, limits.max_macroblock_rate) == (3600, 108_000)
    leg.take_feedback(BitrateLimit(300_000, LimitSource.TMMBR), time.monotonic())
    assert leg.limits is not None
    assert leg.limits.bitrate_bps == 300_000
    single = Stage(H264_MODE_0)
    single.leg.set_bitrate(900_000)
    assert single.leg.limits is not None
    assert single.leg.limits.max_nal == 1200
    for direction in (Direction.RECVONLY, Direction.INACTIVE):
        leg.terms = replace(leg.terms, direction=direction)
        assert leg.limits is None
    single.clock.close()


async def test_one_way_only() -> None:
    stage = Stage(direction=Direction.SENDONLY)
    assert stage.leg.stream is None
    stage.take(KEY, 1.0, key=True)
    assert stage.leg.source is None
    packet = Packet(KEY, 0, 1.0, True)
    stage.leg.send_picture([KEY[:100]], packet, first=True)
    assert len(stage.wire.sent) == 1
    assert stage.leg.frames_sent == 1
    stage.leg.close()
    stage.clock.close()


@pytest.mark.parametrize(
    ("browser", "asymmetry", "takes_1080"), [(True, "1", True), (True, "0", False), (False, "1", False)]
)
async def test_a_browsers_level_is_what_browsers_decode(
    browser: bool, asymmetry: str, takes_1080: bool
) -> None:
    parameters = {
        "profile-level-id": "64001f",
        "packetization-mode": "1",
        "level-asymmetry-allowed": asymmetry,
    }
    codec = replace(H264, parameters=parameters)
    agreed = agree(MediaSection(SectionKind.VIDEO, "192.0.2.1", 5004, codecs=(codec,)))
    assert agreed is not None
    clock = PacingClock()
    terms = LegTerms("a", SectionKind.VIDEO, agreed, Direction.SENDONLY, 1, "cname", browser=browser)
    pacer: Pacer[PacedFlow] = Pacer(9_000_000)
    leg = PictureLeg(terms, Wire(), clock, pacer, lambda: None)
    leg.set_bitrate(8_000_000)
    assert leg.limits is not None
    camera = PictureSource("H264", 4_000_000, 1920, 1080, 25.0, profile=100)
    assert (cannot_forward(camera, leg.limits) is None) is takes_1080
    clock.close()
