"""The pacer against its promise: no second exceeds the rate, sound is in time, drops reach to a key frame."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.pacer import (
    MAX_PACKET,
    MIN_RATE,
    QUEUE_SECONDS,
    SURGE,
    Burst,
    PacedFlow,
    PacedFrame,
    Pacer,
    PacingClock,
    Precedence,
)

OVERHEAD = 28
RATE = 3_000_000


def picture(size: int, *, keyframe: bool = False, flow: str = "main", packet: int = 1200) -> PacedFrame[str]:
    sizes = [packet] * (size // packet) + ([size % packet] if size % packet else [])
    return PacedFrame(flow, [bytes(n) for n in sizes], OVERHEAD, keyframe=keyframe)


def sound(size: int = 172) -> PacedFrame[str]:
    return PacedFrame("sound", [bytes(size)], OVERHEAD, Precedence.SOUND)


@dataclass
class Wire:
    """Drives a pacer through simulated time and keeps what left when."""

    pacer: Pacer[str]
    now: float = 100.0
    sent: list[tuple[float, str, int]] = field(default_factory=list)
    bursts: list[tuple[float, int]] = field(default_factory=list)

    def take(self, bursts: Sequence[Burst[str]]) -> None:
        for burst in bursts:
            self.bursts.append((self.now, len(burst.packets)))
            self.sent += [(self.now, burst.flow, len(packet) + OVERHEAD) for packet in burst.packets]

    def push(self, frame: PacedFrame[str]) -> bool:
        if self.pacer.passes(frame, self.now):
            self.take([Burst(frame.flow, frame.packets)])
            return True
        accepted = self.pacer.push(frame)
        self.take(self.pacer.poll(self.now))
        return accepted

    def run(self, until: float) -> None:
        while (due := self.pacer.due) is not None and due <= until:
            assert due >= self.now or self.pacer.poll(self.now) == []
            self.now = max(due, self.now + 0.0005)
            self.take(self.pacer.poll(self.now))
        self.now = max(self.now, until)

    def worst_second(self, flow: str | None = None) -> int:
        """The most bytes in any window of one second."""
        worst = total = first = 0
        chosen = [(at, size) for at, name, size in self.sent if flow in (None, name)]
        for at, size in chosen:
            total += size
            while chosen[first][0] <= at - 1.0:
                total -= chosen[first][1]
                first += 1
            worst = max(worst, total)
        return worst


def test_a_key_frame_is_spread() -> None:
    wire = Wire(Pacer(RATE))
    assert wire.push(picture(60_000, keyframe=True))
    assert wire.bursts == [(100.0, 12)]
    wire.run(101.0)
    assert sum(size for *_, size in wire.sent) == 60_000 + 50 * OVERHEAD
    assert [count for _, count in wire.bursts] == [12, 12, 12, 14]
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(wire.bursts)]
    assert min(gaps) > 0.02
    assert wire.sent[-1][0] - 100.0 == pytest.approx(36 * 1228 * 8 / (RATE * SURGE), rel=0.1)
    assert wire.pacer.queued_bytes == 0
    assert wire.pacer.due is None


def test_a_low_rate_leaves_packet_by_packet() -> None:
    wire = Wire(Pacer(256_000))
    wire.push(picture(6_000, keyframe=True))
    wire.run(101.0)
    assert [count for _, count in wire.bursts] == [1] * 5
    assert wire.sent[-1][0] - 100.0 > 0.09


def test_a_steady_picture_is_not_delayed() -> None:
    wire = Wire(Pacer(RATE))
    for n in range(100):
        wire.run(100.0 + n * 0.04)
        assert wire.push(picture(12_500, keyframe=n == 0))
        assert wire.pacer.queued_bytes < 13_000
    wire.run(105.0)
    assert sum(size for *_, size in wire.sent) == 100 * (12_500 + 11 * OVERHEAD)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(200_000, 6_000_000),
    st.lists(st.tuples(st.floats(0, 0.08), st.integers(1, 60_000), st.booleans()), max_size=80),
    st.lists(st.integers(1, 3000), max_size=10),
)
def test_no_second_exceeds_the_rate(
    rate: int, frames: list[tuple[float, int, bool]], reports: list[int]
) -> None:
    wire = Wire(Pacer(rate))
    for at, (pause, size, keyframe) in enumerate(frames):
        wire.run(wire.now + pause)
        wire.push(picture(size, keyframe=keyframe))
        if at % 5 == 0:
            wire.push(sound())
        if at < len(reports) and reports[at] * 10 < rate / 8:
            wire.push(PacedFrame("main", [bytes(200)], OVERHEAD, Precedence.REPAIR))
    wire.run(wire.now + 30)
    assert wire.pacer.queued_bytes == 0
    assert wire.worst_second() <= rate / 8


def test_sound_keeps_its_time_under_a_flood_of_pictures() -> None:
    wire = Wire(Pacer(512_000, sound_reserve=80_000))
    for n in range(500):
        wire.run(100.0 + n * 0.02)
        wire.push(picture(3_000, keyframe=n % 50 == 0))
        asked = wire.now
        wire.push(sound())
        assert (asked, "sound", 200) in wire.sent[-10:]
    assert wire.worst_second() <= 64_000
    assert wire.worst_second("main") > 0.75 * 64_000
    assert wire.pacer.counters.overflowed_frames + wire.pacer.counters.awaiting_keyframe > 100


def test_a_lower_rate_holds_at_once_and_stops_nothing() -> None:
    wire = Wire(Pacer(RATE))
    lowered = 0.0
    for n in range(200):
        wire.run(100.0 + n * 0.02)
        if n == 100:
            lowered = wire.now
            wire.pacer.set_rate(RATE // 2, wire.now)
        wire.push(picture(20_000, keyframe=n % 10 == 0))
    after = Wire(wire.pacer, sent=[entry for entry in wire.sent if entry[0] >= lowered])
    assert wire.worst_second() <= RATE / 8
    assert RATE / 16 * 0.9 < after.worst_second() <= RATE / 16
    first_after = next(at for at, *_ in after.sent)
    assert first_after - lowered < 0.06


def test_a_raised_rate_is_used_at_once() -> None:
    wire = Wire(Pacer(256_000))
    wire.push(picture(20_000, keyframe=True))
    wire.run(100.2)
    wire.pacer.set_rate(RATE, wire.now)
    wire.run(100.35)
    assert wire.pacer.queued_bytes == 0
    with pytest.raises(ValueError, match=str(MIN_RATE)):
        wire.pacer.set_rate(MIN_RATE - 1, wire.now)


def test_overflow_drops_to_the_next_key_frame() -> None:
    pacer: Pacer[str] = Pacer(256_000)
    wire = Wire(pacer)
    bound = int(32_000 * QUEUE_SECONDS)
    assert wire.push(picture(8_000, keyframe=True))
    accepted = [wire.push(picture(6_000)) for _ in range(6)]
    assert accepted == [True] * 5 + [False]
    assert pacer.needs_key_frame("main")
    assert pacer.counters.overflowed_frames == 6
    assert not wire.push(picture(100))
    assert pacer.counters.awaiting_keyframe == 1
    begun = pacer.queued_bytes
    assert 0 < begun < bound
    assert wire.push(picture(9_000, keyframe=True))
    assert not pacer.needs_key_frame("main")
    assert wire.push(picture(6_000))
    wire.run(110.0)
    total = 8_000 + 9_000 + 6_000
    assert sum(size - OVERHEAD for *_, size in wire.sent) == total


def test_a_waiting_key_frame_is_kept_and_what_is_before_it_goes() -> None:
    pacer: Pacer[str] = Pacer(256_000)
    wire = Wire(pacer)
    frames = [picture(6_000, keyframe=n in (0, 3)) for n in range(6)]
    assert all(wire.push(frame) for frame in frames)
    assert wire.push(picture(12_000))
    assert pacer.counters.overflowed_frames == 2
    assert not pacer.needs_key_frame("main")
    wire.run(110.0)
    assert sum(size - OVERHEAD for *_, size in wire.sent) == 4 * 6_000 + 12_000


def test_a_huge_key_frame_alone_is_sent() -> None:
    wire = Wire(Pacer(256_000))
    assert wire.push(picture(60_000, keyframe=True))
    wire.run(110.0)
    assert len(wire.sent) == 50
    assert wire.worst_second() <= 32_000


def test_no_reserve_and_no_packet_can_stop_pictures() -> None:
    wire = Wire(Pacer(MIN_RATE, sound_reserve=80_000))
    assert wire.push(picture(3_944, keyframe=True, packet=MAX_PACKET - OVERHEAD))
    wire.run(103.0)
    assert len(wire.sent) == 2
    assert wire.worst_second() <= MIN_RATE / 8
    with pytest.raises(ValueError, match=str(MAX_PACKET)):
        wire.push(picture(MAX_PACKET, packet=MAX_PACKET))


def test_late_sound_loses_its_oldest() -> None:
    wire = Wire(Pacer(64_000))
    for _ in range(200):
        wire.push(sound())
    assert wire.pacer.queued_bytes <= 8_000
    assert wire.pacer.counters.overflowed_frames == 200 - len(wire.sent) - wire.pacer.queued_bytes // 200
    wire.run(103.0)
    assert wire.worst_second() <= 8_000


def test_a_camera_goes_on_while_a_slide_s_key_frame_leaves() -> None:
    wire = Wire(Pacer(1_200_000))
    wire.push(picture(150_000, keyframe=True, flow="slides"))
    for number in range(25):
        wire.run(100.0 + number / 25)
        assert wire.push(picture(2_000, keyframe=not number, flow="main"))
        gone = sum(size - OVERHEAD for _, flow, size in wire.sent if flow == "main")
        # Bursts leave at SURGE times the rate; then both wait until a second's room is there again.
        assert gone >= (number - 10) * 2_000, f"{number} frames came, {gone} bytes have left"
    wire.run(104.0)
    assert wire.worst_second() <= 150_000
    slides = [size - OVERHEAD for _, flow, size in wire.sent if flow == "slides"]
    assert slides == [1200] * 125


def test_an_ended_flow_leaves_nothing() -> None:
    pacer: Pacer[str] = Pacer(RATE)
    wire = Wire(pacer)
    wire.push(picture(60_000, keyframe=True, flow="slides"))
    wire.push(picture(10_000, keyframe=True, flow="main"))
    pacer.forget("slides")
    wire.run(101.0)
    assert sum(size - OVERHEAD for _, flow, size in wire.sent if flow == "main") == 10_000
    assert len([1 for _, flow, _ in wire.sent if flow == "slides"]) == 12


class Recorder:
    """A flow of the real clock."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, int]] = []
        self.total = 0
        self.waiting: tuple[int, asyncio.Event] | None = None

    def send_rtp(self, packets: Sequence[bytes]) -> None:
        self.sent.append((time.monotonic(), len(packets)))
        self.total += len(packets)
        if self.waiting and self.total >= self.waiting[0]:
            self.waiting[1].set()

    async def until(self, packets: int) -> None:
        self.waiting = packets, asyncio.Event()
        if self.total < packets:
            async with asyncio.timeout(10):
                await self.waiting[1].wait()


async def test_one_clock_drives_all_pacers() -> None:
    clock = PacingClock()
    flows = [Recorder() for _ in range(20)]
    pacers: list[Pacer[PacedFlow]] = [Pacer(RATE) for _ in flows]
    begin = time.monotonic()
    for flow, pacer in zip(flows, pacers, strict=True):
        frame: PacedFrame[PacedFlow] = PacedFrame(flow, [bytes(1200)] * 40, OVERHEAD, keyframe=True)
        assert clock.send(pacer, frame)
        assert flow.total == 12
    gone: PacedFlow = flows.pop()
    clock.forget(pacers.pop())
    for flow in flows:
        await flow.until(40)
        assert 0.04 < flow.sent[-1][0] - begin < 2.0
        assert [count for _, count in flow.sent] == [12, 12, 16]
    assert isinstance(gone, Recorder)
    assert gone.total == 12
    clock.set_rate(pacers[0], 10 * RATE)
    clock.send(pacers[0], PacedFrame(flows[0], [bytes(1200)] * 20, OVERHEAD))
    clock.close()
    assert flows[0].total < 60
