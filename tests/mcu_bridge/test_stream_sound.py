"""A stream's sound before the mixer: losses told, held while its pictures are late; rates by arrival."""

from __future__ import annotations

from mcu_bridge.lip_sync import LipSync
from mcu_bridge.stream_participant import Arrivals, StreamSound
from media.packet import Format, Packet
from tests.mcu_bridge.cameras import sound

PCMA = Format("PCMA", 8_000)


class Mixer:
    def __init__(self) -> None:
        self.heard: list[tuple[bytes, int]] = []

    def take(self, payload: bytes, lost_samples: int) -> None:
        self.heard.append((payload, lost_samples))


def test_a_short_hole_is_loss_and_a_long_one_a_pause() -> None:
    mixer = Mixer()
    stream = StreamSound(mixer.take, LipSync())
    stream.take(Packet(b"before", 0, 0.0))
    assert mixer.heard == [], "nothing before it began"
    stream.begin(PCMA)
    for pts in (0, 160, 480, 8_000):
        stream.take(Packet(b"x" * 160, pts, pts / 8_000))
    assert [lost for _, lost in mixer.heard] == [0, 0, 960, 0]
    assert stream.lost == 960


def test_aac_lasts_as_long_as_its_config_says() -> None:
    footage = sound(440.0, "MPEG4-GENERIC", rate=16_000)
    mixer = Mixer()
    stream = StreamSound(mixer.take, LipSync())
    stream.begin(footage.format)
    for data, pts, _ in (*footage.frames[:3], *footage.frames[4:6]):
        stream.take(Packet(data, pts, pts / 16_000))
    assert [lost for _, lost in mixer.heard] == [0, 0, 0, 3 * 1024, 0]


def test_sound_ahead_of_its_pictures_is_held_and_let_go_in_order() -> None:
    mixer, sync = Mixer(), LipSync()
    sync.delay = 0.3
    stream = StreamSound(mixer.take, sync)
    stream.begin(PCMA)
    for number in range(5):
        stream.take(Packet(bytes([number]) * 160, number * 160, 10 + number * 0.02))
    stream.release(10.29)
    assert mixer.heard == []
    stream.release(10.345)
    assert [data[0] for data, _ in mixer.heard] == [0, 1, 2]
    sync.delay = 0.0
    stream.take(Packet(bytes([5]) * 160, 800, 10.1))
    assert len(mixer.heard) == 3, "it does not overtake what waits"
    stream.release(10.4)
    assert [data[0] for data, _ in mixer.heard] == [0, 1, 2, 3, 4, 5]
    stream.end()
    stream.release(99.0)
    assert len(mixer.heard) == 6


def test_rates_count_by_arrival_and_forget() -> None:
    arrivals = Arrivals()
    assert arrivals.rates(5.0) == (0.0, None)
    for number in range(100):  # four seconds that waited in the stream
        arrivals.add(Packet(b"x" * 1000, number, 100 + number * 0.04))
    bits, frames = arrivals.rates(104.0)
    assert 190_000 < bits < 210_000
    assert frames is not None
    assert 24 < frames < 26
    assert arrivals.rates(120.0) == (0.0, None)
    assert arrivals.packets == 100
    arrivals.begin_anew()
    arrivals.add(Packet(b"x" * 1000, 0, 200.0))
    assert arrivals.rates(200.1) == (8000.0, None)
