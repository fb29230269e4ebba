"""Frames at any pace: every playlist on the way is held to RFC 8216bis, as a validator would."""

import asyncio
import random
import re
from collections.abc import Iterable, Sequence
from itertools import accumulate

import pytest

from foundation.clock import FakeClock
from media.packet import Format, Packet
from media.stream import Stream
from stream_relay.hls.live_broadcast import LiveBroadcast
from stream_relay.hls.part_target import part_target
from tests.media.coded_pictures import RED, coded

H264 = Format("H264", 90_000)


def faults(text: str, least: float = 0.85) -> list[str]:
    """What 4.4.3.1, 4.4.3.7, 4.4.3.8 and 4.4.4.9 forbid; empty for a playlist without fault."""
    found = []

    def number(pattern: str) -> float:
        return float(re.findall(pattern, text)[0])

    target, part = number(r"TARGETDURATION:(\d+)"), number(r"PART-TARGET=([\d.]+)")
    if number(r"PART-HOLD-BACK=([\d.]+)") < 3 * part - 1e-6 or number(r",HOLD-BACK=([\d.]+)") < 3 * target:
        found.append("a hold back is too short")
    parts: list[float] = []
    for line in text.splitlines():
        if line.startswith("#EXT-X-PART:"):
            if parts and parts[-1] < least * part - 1e-5:
                found.append(f"a part of {parts[-1]} is too short for {part}")
            parts.append(float(line.split("=")[1].split(",")[0]))
            if parts[-1] > part + 1e-5:
                found.append(f"a part of {parts[-1]} is too long for {part}")
        elif line.startswith("#EXTINF:"):
            seconds = float(line[8:].split(",")[0])
            if round(seconds) > target:
                found.append(f"a segment of {seconds} s is too long")
            if parts and abs(sum(parts) - seconds) > 0.001:
                found.append(f"parts {parts} are not a segment of {seconds} s")
            parts = []
    return found


async def broadcast(steps: Sequence[float], gop: Iterable[int] = (), *, least: float = 0.85) -> LiveBroadcast:
    """Frames with these seconds between them; each playlist on the way must be without fault."""
    key, delta = coded([RED] * 2)
    live, video = LiveBroadcast(FakeClock()), Stream("programme", H264)
    running = asyncio.create_task(live.run(video))
    await asyncio.sleep(0)
    before, keys = live.playlist.next_part, set(gop)
    times = [round(90_000 * one) for one in accumulate(steps, initial=0.0)]
    for number, pts in enumerate(times):
        frame = key if number == 0 or number in keys else delta
        video.publish(Packet(frame.data, pts, 100 + pts / 90_000, frame is key))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if live.playlist.next_part != before:
            before = live.playlist.next_part
            assert faults(live.playlist.render(), least) == []
    video.close()
    await running
    assert faults(live.playlist.render(), least) == []
    made = [part.duration for segment in live.playlist._whole for part in segment.parts]
    assert sum(made) == pytest.approx(sum(steps) + steps[-1], abs=0.2), "frames were lost"
    return live


@pytest.mark.parametrize("rate", [0.5, 1, 2, 3, 5, 6, 7.5, 8, 10, 11, 12, 12.5, 14, 15, 20, 29.97, 50, 60])
@pytest.mark.parametrize("jitter", [0.0, 0.05])
async def test_parts_hold_the_target_at_any_frame_rate(rate: float, jitter: float) -> None:
    chance = random.Random(rate)
    steps = [chance.uniform(1 - jitter, 1 + jitter) / rate for _ in range(max(12, round(20 * rate)))]
    least = 0.75 if jitter else 0.85  # until the pace is known a part of uneven frames may be short
    live = await broadcast(steps, range(0, len(steps), max(1, round(2 * rate))), least=least)
    target = live.playlist.part_seconds
    assert target <= (0.5 if rate > 2 * (1 + jitter) else 1.2 / rate), target
    assert "#EXT-X-PART:" in live.playlist.render(), "no part is listed"
    listed = re.findall(r"PART:DURATION=([\d.]+)", live.playlist.render())
    if not jitter:
        assert live.playlist.misfits == 0
        assert len(listed) >= 6


async def test_a_pause_is_a_segment_of_its_own_and_the_pace_goes_on() -> None:
    steps = [0.04] * 130
    steps[60] = 1.7
    live = await broadcast(steps, range(0, 130, 50), least=0.0)
    assert live.playlist.part_seconds == 0.5
    text = live.playlist.render()
    assert "#EXTINF:1.70000" in text
    assert "DURATION=1.7" not in text


async def test_a_stuttering_source_keeps_its_target() -> None:
    chance = random.Random(1)
    steps = [chance.choice((0.04, 0.04, 0.04, 0.08, 0.16, 0.3)) for _ in range(150)]
    live = await broadcast(steps, range(0, 150, 40), least=0.0)
    assert live.playlist.part_seconds <= 0.5
    segments = [segment.duration for segment in live.playlist._whole]
    assert len(segments) < sum(segments) + 5, "no crowd of tiny segments"


async def test_another_pace_is_another_target_and_is_not_lost() -> None:
    steps = [0.04] * 100 + [1.0] * 12 + [0.2] * 40
    live = await broadcast(steps, least=0.0)
    assert 1.0 <= live.playlist.part_seconds < 1.2
    assert "#EXT-X-PART:" in live.playlist.render()


def test_targets() -> None:
    assert part_target([]) == 0.5
    assert part_target([0.04] * 20) == part_target([1 / 15] * 10) == part_target([0.25] * 4) == 0.5
    assert 0.4 <= part_target([0.2] * 5) < 0.4 / 0.85
    assert 0.4 <= part_target([1 / 7.5] * 8) < 0.4 / 0.85
    assert 1.0 <= part_target([1.0] * 3) < 1.0 / 0.85
    assert part_target([0.04] * 10 + [0.08, 0.2, 0.04, 0.12, 0.04, 0.6]) == 0.5, "a stutter is no pace"
    assert part_target([9.0]) <= 4.0
