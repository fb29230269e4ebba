"""Sound stays beside its pictures for hours, whatever the clocks of a camera are worth."""

import random
import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from media.fragments import Began, StreamFragments
from media.packet import Format, Packet
from media.sound_tie import SoundTie
from protocols.isobmff.fragmenter import SOUND, MediaFragment
from protocols.isobmff.reader import read_fragments
from tests.media.coded_pictures import RED, coded

AAC = Format("MPEG4-GENERIC", 8000, 1, {"config": "1588"})
SOUND_LAG = 0.2
"""Seconds that this camera's sound comes later than pictures of the same moment."""


def camera(
    minutes: float, *, faster: float, ntp: str = "", spread: float = 0.03
) -> Iterator[tuple[bool, Packet]]:
    """Pictures (5 a second, a key frame each 2 s) and AAC of 8 kHz in the order of their arrival; the sound's
    clock runs `faster` than the pictures'. Each packet of sound holds the true second it was said at."""
    key, delta = (one.data for one in coded([RED] * 2))
    rand = random.Random(7)
    made: list[tuple[bool, Packet]] = []
    for number in range(int(minutes * 300)):
        at = number / 5
        clock = 4e9 + at if ntp and (ntp != "late" or at > 5) else None
        data = key if number % 10 == 0 else delta
        arrival = 100 + at + rand.random() * spread
        made.append((True, Packet(data, number * 18_000, arrival, number % 10 == 0, ntp=clock)))
    for number in range(int(minutes * 60 * 8000 * (1 + faster) / 1024)):
        at = number * 1024 / (8000 * (1 + faster))
        clock = 4e9 + at if ntp and (ntp != "late" or at > 5) else None
        if ntp == "absurd":
            clock = 77.0 + at
        arrival = 100 + at + rand.random() * spread + SOUND_LAG
        made.append((False, Packet(struct.pack(">d", at), 5555 + number * 1024, arrival, ntp=clock)))
    yield from sorted(made, key=lambda one: one[1].arrival)


def errors(packets: Iterator[tuple[bool, Packet]], restart: float | None) -> list[float]:
    """Of each packet of sound, how many seconds later than said it is in the file."""
    fragments = StreamFragments(
        Format("H264", 90_000), AAC, fragment_seconds=0.5, restart_seconds=restart, jump_seconds=10.0
    )
    found: list[float] = []
    begin, shown = 0.0, dict[float, float]()
    for is_picture, packet in packets:
        if not is_picture:
            fragments.take_sound(packet)
            continue
        shown[packet.arrival] = packet.pts / 90_000
        for made in fragments.take(packet):
            if isinstance(made, Began):
                begin = shown[made.arrival]
                continue
            found += [at + begin - said for at, said in _said(made)]
    return found


def _said(made: MediaFragment) -> Iterator[tuple[float, float]]:
    for run in next(read_fragments(memoryview(made.data))).runs:
        at = run.decode_time
        for sample in run.samples if run.track_id == SOUND else ():
            yield at / 8000, struct.unpack(">d", sample.data)[0]
            at += sample.duration


@pytest.mark.parametrize("restart", [60.0, None], ids=["recording", "broadcast"])
@pytest.mark.parametrize(
    ("ntp", "meant", "most"),
    [
        ("known", 0.0, 0.08),
        ("", SOUND_LAG, 0.2),
        ("absurd", SOUND_LAG, 0.2),
    ],
)
def test_clocks_that_drift_do_not_part_sound_and_pictures(
    restart: float | None, ntp: str, meant: float, most: float
) -> None:
    """20 minutes at 500 ppm are 0.6 s."""
    found = errors(camera(20, faster=0.0005, ntp=ntp), restart)
    assert len(found) > 9000
    assert max(abs(one - meant) for one in found) < most


def test_a_wall_clock_that_is_told_late_counts_from_then_on() -> None:
    found = errors(camera(2, faster=0.0, ntp="late"), 60.0)
    assert abs(found[0] - SOUND_LAG) < 0.05
    assert max(abs(one) for one in found[-700:]) < 0.05


def test_clocks_that_agree_are_never_corrected() -> None:
    """Not even where the network trembles by a tenth of a second."""
    found = errors(camera(10, faster=0.0, spread=0.1), None)
    assert len({round(one, 3) for one in found}) == 1
    known = errors(camera(10, faster=0.0, ntp="known", spread=0.5), None)
    assert {round(one, 3) for one in known} == {0.0}


def test_sound_whose_time_steps_is_put_back() -> None:
    tie = SoundTie(90_000, 8000)
    for number in range(300):
        at = number / 5
        tie.saw(Packet(b"", number * 18_000, 100 + at))
        tie.heard(Packet(b"", round(at * 8000) + (40_000 if number >= 100 else 0), 100 + at))
    assert tie.offset == pytest.approx(-5.0, abs=0.01)


@pytest.mark.parametrize("lag", [0.0, 0.1, 0.3])
def test_no_sound_is_lost_where_a_file_is_cut(lag: float) -> None:
    """Though it comes later than the pictures of the next file."""
    packets = list(camera(3, faster=0.0, ntp="known"))
    late = [
        (is_picture, packet if is_picture else replace(packet, arrival=packet.arrival - SOUND_LAG + lag))
        for is_picture, packet in packets
    ]
    late.sort(key=lambda one: one[1].arrival)
    found = errors(iter(late), 10.0)
    assert len(found) > sum(not is_picture for is_picture, _ in packets) - 10


def test_a_file_lasts_until_the_next_one_begins() -> None:
    """Also where pictures come ever more rarely, and with the sound of that time."""
    key, delta = (one.data for one in coded([RED] * 2))
    times = [0, 0.2, 0.4, 0.6, 3.0, 3.2, 3.4, 6.4]
    fragments = StreamFragments(Format("H264", 90_000), AAC, fragment_seconds=0.5, restart_seconds=3.0)
    made = []
    said = 0
    for time in times:
        while said * 0.128 < time:
            fragments.take_sound(Packet(struct.pack(">d", said), said * 1024, 100 + said * 0.128))
            said += 1
        is_key = time in (0, 3.0, 6.4)
        picture = Packet(key if is_key else delta, round(time * 90_000), 100 + time, is_key)
        made += fragments.take(picture)
    made += fragments.end()
    periods: list[list[MediaFragment]] = []
    for one in made:
        if isinstance(one, Began):
            periods.append([])
        else:
            periods[-1].append(one)
    assert [sum(one.duration for one in period) / 90_000 for period in periods[:2]] == [3.0, 3.4]
    heard = [said for period in periods for one in period for _, said in _said(one)]
    assert heard == list(range(len(heard)))
    assert len(heard) >= said - 1
