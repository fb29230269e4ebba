"""A few pictures a second: the right ones, whole ones, and no more decoding than they need."""

from dataclasses import replace

import numpy as np
import pytest

from analytics.picture_decoder import PATIENCE, Glimpse, SampleDecoder
from media.packet import Packet
from tests.analytics.coded_clip import CLOCK, coded, grey

RAMP = list(range(20, 220))
"""Eight seconds of 25 pictures, each a level brighter than the one before."""


def taken(packets: list[Packet], interval: float) -> tuple[list[Glimpse], SampleDecoder]:
    decoder = SampleDecoder("H264", CLOCK, interval)
    return [glimpse for packet in packets for glimpse in decoder.take(packet)], decoder


def levels(glimpses: list[Glimpse]) -> list[int]:
    return [round(float(glimpse.picture.mean())) for glimpse in glimpses]


def test_one_picture_a_second_is_the_one_of_that_second() -> None:
    glimpses, _ = taken(coded(grey(RAMP), gop=50), 1.0)
    assert [glimpse.pts for glimpse in glimpses] == pytest.approx([0, 1, 2, 3, 4, 5, 6, 7])
    assert levels(glimpses) == pytest.approx(range(20, 220, 25), abs=3)
    assert glimpses[0].picture.shape == (48, 64, 3)
    assert glimpses[0].luma.shape == (48, 64)


def test_key_frames_alone_are_decoded_where_they_come_often_enough() -> None:
    """The first group of pictures is decoded whole: nobody knows yet when the next one comes."""
    glimpses, decoder = taken(coded(grey(RAMP), gop=25), 1.0)
    assert decoder.keys_only
    assert decoder.decoded == 25 + 7
    assert levels(glimpses) == pytest.approx(range(20, 220, 25), abs=3)


def test_key_frames_that_are_too_rare_are_not_waited_for() -> None:
    glimpses, decoder = taken(coded(grey(RAMP), gop=100), 1.0)
    assert not decoder.keys_only
    assert len(glimpses) == 8
    glimpses, decoder = taken(coded(grey(RAMP), gop=25), 0.2)
    assert not decoder.keys_only
    assert [glimpse.pts for glimpse in glimpses] == pytest.approx(np.arange(0, 8, 0.2))


def test_reordering_does_not_hold_key_frames_back() -> None:
    """With B-frames a decoder keeps a key frame until the next: a second late, and the last one for ever."""
    packets = coded(grey(RAMP), gop=25, b_frames=2)
    decoder = SampleDecoder("H264", CLOCK, 1.0)
    seen = [(packet, glimpse) for packet in packets for glimpse in decoder.take(packet)]
    assert decoder.keys_only
    for packet, glimpse in seen[2:]:
        assert packet.keyframe
        assert glimpse.pts == packet.pts / CLOCK
    assert levels([glimpse for _, glimpse in seen]) == pytest.approx(range(20, 220, 25), abs=3)


def test_pictures_after_damage_are_withheld_until_a_key_frame() -> None:
    packets = coded(grey(RAMP), gop=50)
    packets[60] = replace(packets[60], damaged=True)
    glimpses, decoder = taken(packets, 0.2)
    assert decoder.failed == 1
    missing = [pts for pts in np.arange(0, 8, 0.2) if not any(abs(pts - g.pts) < 0.01 for g in glimpses)]
    assert missing == pytest.approx(np.arange(2.4, 4.0, 0.2))


def test_a_stream_that_never_sends_another_key_frame_is_seen_again_after_patience() -> None:
    packets = coded(grey([*RAMP, *RAMP[::-1]]), gop=400)
    packets[25] = replace(packets[25], damaged=True)
    glimpses, _ = taken(packets, 1.0)
    assert [glimpse.pts for glimpse in glimpses] == pytest.approx([0, *np.arange(1 + PATIENCE, 16) + 0.04])


def test_garbage_gives_nothing_and_what_follows_is_seen() -> None:
    packets = coded(grey(RAMP), gop=50)
    rubbish = Packet(b"\0\0\0\1\x65" + bytes(range(256)), 0, 0.0)
    glimpses, decoder = taken([rubbish, replace(rubbish, data=b""), *packets], 1.0)
    assert decoder.failed >= 1
    assert levels(glimpses) == pytest.approx(range(20, 220, 25), abs=3)


def test_a_clock_that_jumps_is_followed_either_way() -> None:
    packets = coded(grey(RAMP), gop=25)
    for jump in (-5_000_000 * CLOCK, 5_000_000 * CLOCK):
        later = [replace(one, pts=one.pts + jump) for one in packets]
        glimpses, _ = taken(packets + later, 1.0)
        assert len(glimpses) == 16


def test_a_size_that_changes_in_mid_stream_is_seen_in_its_own_size() -> None:
    wide = coded(grey(RAMP[:50], (128, 64)), gop=50)
    packets = coded(grey(RAMP[:50]), gop=50) + [replace(one, pts=one.pts + 2 * CLOCK) for one in wide]
    glimpses, _ = taken(packets, 1.0)
    assert [glimpse.picture.shape for glimpse in glimpses] == [(48, 64, 3)] * 2 + [(64, 128, 3)] * 2


def test_a_codec_that_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match="its pictures are VVC; looked at are H264, H265"):
        SampleDecoder("VVC", CLOCK, 1.0)
