"""Sound of a broadcast as AAC: the tone stays, at its time, over holes and jumps."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from media.packet import Format, Packet
from media.sound_codecs import UnsupportedSound
from stream_relay.broadcast_sound import CONFIG, AacTranscoder
from tests.media.coded_pictures import sound

OPUS = Format("OPUS", 48_000, 2)


def transcoded(packets: list[Packet]) -> list[Packet]:
    transcoder = AacTranscoder(OPUS)
    return [made for packet in packets for made in transcoder.take(packet)]


def decoded(packets: list[Packet]) -> np.ndarray:  # type: ignore[type-arg]  # samples
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = bytes.fromhex(CONFIG)
    frames = [frame for one in packets for frame in decoder.decode(av.Packet(one.data))]  # type: ignore[attr-defined]  # a sound codec's
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])


def test_a_tone_keeps_its_pitch_its_beginning_and_its_clock() -> None:
    packets, _ = sound("libopus", 4.0)
    made = transcoded(packets)
    assert [one.pts for one in made[:3]] == [-1024, 0, 1024]
    assert all(after.pts - before.pts == 1024 for before, after in pairwise(made))
    assert made[50].arrival == pytest.approx(100.0 + made[50].pts / 48_000, abs=0.001)
    heard = decoded(made)
    assert np.argmax(np.abs(np.fft.rfft(heard[48_000:96_000]))) == 440
    assert abs(np.argmax(np.abs(heard) > 0.05) - 1024 - 312) < 48  # priming, and what Opus holds back


def test_a_hole_is_silence_and_what_follows_keeps_its_time() -> None:
    packets, _ = sound("libopus", 4.0)
    made = transcoded([*packets[:100], *packets[120:]])
    assert all(after.pts - before.pts == 1024 for before, after in pairwise(made))
    heard = decoded(made)[1024:]
    quiet, loud = heard[98_000:113_000], heard[120_000:140_000]
    assert np.abs(quiet[2000:-2000]).max() < 0.05
    assert np.abs(loud).max() > 0.2


def test_a_jump_begins_anew_at_its_own_time() -> None:
    packets, _ = sound("libopus", 2.0)
    moved = [Packet(one.data, one.pts + 480_000, one.arrival + 10) for one in packets]
    made = transcoded([*packets, *moved])
    steps = {after.pts - before.pts for before, after in pairwise(made)}
    assert len(steps) == 2
    assert max(steps) > 380_000
    late = next(one for one in made if one.pts > 400_000)
    assert late.arrival == pytest.approx(100.0 + late.pts / 48_000, abs=0.05)


def test_wall_clock_times_are_handed_on() -> None:
    packets, _ = sound("libopus", 1.0)
    stamped = [Packet(one.data, one.pts, one.arrival, ntp=4e9 + one.pts / 48_000) for one in packets]
    made = transcoded(stamped)
    assert made[10].ntp == pytest.approx(4e9 + float(Fraction(made[10].pts, 48_000)), abs=0.001)


def test_what_is_not_decoded_here_is_refused_in_words() -> None:
    with pytest.raises(UnsupportedSound, match="G726-32 sound is not decoded here"):
        AacTranscoder(Format("G726-32", 8_000))
