"""A few pictures a second: the right ones, whole ones, and no more decoding than they need."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from analytics.picture_decoder import PATIENCE, Glimpse, SampleDecoder, SamplePlan
from media.packet import Packet
from tests.analytics.coded_clip import CLOCK, coded, grey

RAMP = list(range(20, 220))
"""Eight seconds of 25 pictures, each a level brighter than the one before."""


class Taken:
    """What plan and decoder take out of packets: with the packet at which each picture came."""

    def __init__(self, packets: Sequence[Packet], interval: float) -> None:
        self.plan = SamplePlan(CLOCK, interval)
        self.decoder = SampleDecoder("H264", CLOCK)
        self.sent = 0
        self.glimpses: list[Glimpse] = []
        self.at: list[Packet] = []
        for packet in packets:
            frames = self.plan.offer(packet)
            self.sent += len(frames)
            glimpse = self.decoder.take(frames) if frames else None
            if glimpse is not None:
                self.glimpses.append(glimpse)
                self.at.append(packet)

    @property
    def times(self) -> list[float]:
        return [glimpse.pts for glimpse in self.glimpses]

    @property
    def levels(self) -> list[int]:
        """Brightness tells which picture it was."""
        return [round(float(glimpse.picture.mean())) for glimpse in self.glimpses]


SECONDLY = pytest.approx(range(20, 220, 25), abs=5)


def test_one_picture_a_second_is_the_one_of_that_second() -> None:
    taken = Taken(coded(grey(RAMP), gop=50), 1.0)
    assert taken.times == pytest.approx(range(8))
    assert taken.levels == SECONDLY
    assert taken.glimpses[0].picture.shape == (48, 64, 3)
    assert taken.glimpses[0].luma.shape == (48, 64)


def test_what_no_wanted_picture_needs_is_not_decoded() -> None:
    """Of each two seconds: the key frame, the second after it, and nothing of the rest."""
    assert Taken(coded(grey(RAMP), gop=50), 1.0).sent == 4 * 26


def test_key_frames_alone_are_decoded_where_they_come_often_enough() -> None:
    taken = Taken(coded(grey(RAMP), gop=25), 1.0)
    assert taken.plan.keys_only
    assert taken.sent == 8
    assert taken.levels == SECONDLY


@pytest.mark.parametrize(
    ("gop", "interval", "count"), [(100, 1.0, 8), (25, 0.2, 40), (30, 1.0, 7), (10, 1.0, 8)]
)
def test_pictures_come_about_as_often_as_wanted_whatever_the_groups(
    gop: int, interval: float, count: int
) -> None:
    taken = Taken(coded(grey(RAMP), gop=gop), interval)
    assert len(taken.glimpses) == pytest.approx(count, abs=1)
    assert max(np.diff(taken.times)) <= 1.45 * interval


def test_reordering_does_not_hold_key_frames_back() -> None:
    """With B-frames a decoder keeps a key frame until it has seen more; what follows still decodes."""
    for gop, keys_only in ((25, True), (50, False)):
        taken = Taken(coded(grey(RAMP), gop=gop, b_frames=2), 1.0)
        assert taken.plan.keys_only == keys_only
        assert taken.levels == pytest.approx(range(20, 220, 25), abs=8)
        assert taken.decoder.failed == 0
        for packet, glimpse in zip(taken.at, taken.glimpses, strict=True):
            assert abs(packet.pts / CLOCK - glimpse.pts) <= 0.25
            if packet.keyframe:
                assert packet.pts / CLOCK == glimpse.pts


def test_pictures_after_damage_are_withheld_until_a_key_frame() -> None:
    packets = coded(grey(RAMP), gop=50)
    packets[60] = replace(packets[60], damaged=True)
    taken = Taken(packets, 0.2)
    assert taken.decoder.failed == 1
    missing = [pts for pts in np.arange(0, 8, 0.2) if not any(abs(pts - time) < 0.01 for time in taken.times)]
    assert missing == pytest.approx(np.arange(2.4, 4.0, 0.2))


def test_a_stream_that_never_sends_another_key_frame_is_seen_again_after_patience() -> None:
    packets = coded(grey([*RAMP, *RAMP[::-1]]), gop=400)
    packets[25] = replace(packets[25], damaged=True)
    assert Taken(packets, 1.0).times == pytest.approx([0, *range(12, 16)])
    assert PATIENCE == 10.0


def test_garbage_gives_nothing_and_what_follows_is_seen() -> None:
    taken = Taken([], 1.0)
    rubbish = Packet(b"\0\0\0\1\x65" + bytes(range(256)), 0, 0.0)
    assert taken.decoder.take([rubbish]) is None
    assert taken.decoder.take([replace(rubbish, data=b"")]) is None
    assert taken.decoder.take([replace(rubbish, keyframe=False)]) is None
    assert taken.decoder.failed >= 1
    packets = coded(grey(RAMP), gop=50)
    seen = taken.decoder.take(packets[:26])
    assert seen is not None
    assert round(float(seen.picture.mean())) == pytest.approx(45, abs=5)


def test_a_clock_that_jumps_is_followed_either_way() -> None:
    packets = coded(grey(RAMP), gop=25)
    for jump in (-5_000_000 * CLOCK, 5_000_000 * CLOCK):
        later = [replace(one, pts=one.pts + jump) for one in packets]
        assert len(Taken(packets + later, 1.0).glimpses) == 16


def test_a_size_that_changes_in_mid_stream_is_seen_in_its_own_size() -> None:
    wide = coded(grey(RAMP[:50], (128, 64)), gop=50)
    packets = coded(grey(RAMP[:50]), gop=50) + [replace(one, pts=one.pts + 2 * CLOCK) for one in wide]
    shapes = [glimpse.picture.shape for glimpse in Taken(packets, 1.0).glimpses]
    assert shapes == [(48, 64, 3)] * 2 + [(64, 128, 3)] * 2


def test_frames_that_wait_for_a_rare_picture_are_bounded() -> None:
    packets = coded(grey([20] * 2400), gop=2400)
    taken = Taken(packets, 3600.0)
    assert [len(taken.glimpses), taken.sent] == [3, 2001]


def test_a_codec_that_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match="its pictures are VVC; looked at are H264, H265"):
        SampleDecoder("VVC", CLOCK)
