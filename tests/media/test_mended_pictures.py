"""Pictures of codecs that find their place again, over a road that loses packets: shown mended, not frozen.

From the encoder through packets, losses and the receiver to the decoder, by a clock of their own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from media.codecs import CLOCK, VideoCodec, VideoDecoder, VideoEncoder, VideoTarget
from media.freezes import FreezeMeter, Freezes
from media.packet import MOST_MISSING, Packet, is_shown
from media.picture import Picture
from media.rtp_receiver import ReceiverSettings, RtpReceiver
from protocols.payloads import Depacketizer, Packetizer
from protocols.payloads.h261 import H261Depacketizer, H261Packetizer
from protocols.payloads.h263 import H263Depacketizer, H263Packetizer
from protocols.payloads.h263_plus import H263PlusDepacketizer, H263PlusPacketizer
from protocols.payloads.h264 import H264Packetizer
from protocols.payloads.h264_depacketizer import H264Depacketizer
from protocols.rtp.packet import RtpPacket

WIDTH, HEIGHT, FPS = 352, 288, 15
SECONDS = 15
GROUP = 4 * FPS
"""Pictures between key frames of an encoder that hears of no loss."""
LEFT, RIGHT = (90, 170), (150, 100)
"""Chrominance of both halves; none is near grey (128, 128) or green (below 110 both)."""

MENDED: dict[VideoCodec, tuple[type[Packetizer], type[Depacketizer]]] = {
    VideoCodec.H263: (H263Packetizer, H263Depacketizer),
    VideoCodec.H263P: (H263PlusPacketizer, H263PlusDepacketizer),
    VideoCodec.H261: (H261Packetizer, H261Depacketizer),
}


def film(number: int) -> Picture:
    """A room in two colours, in which something moves."""
    picture = Picture.blank(WIDTH, HEIGHT, (110, *LEFT), number * CLOCK // FPS)
    texture = np.random.default_rng(7).integers(60, 200, (HEIGHT // 8, WIDTH // 8), dtype=np.uint8)
    picture.y[:] = np.kron(texture, np.ones((8, 8), np.uint8))
    x, y = 40 + 3 * number % 200, 60 + 2 * number % 120
    picture.y[y : y + 64, x : x + 64] = np.arange(64, dtype=np.uint8)[:, None] * 2 + 60
    picture.u[:, WIDTH // 4 :], picture.v[:, WIDTH // 4 :] = RIGHT
    return picture


@dataclass
class Watched:
    """What the decoder gave: when, and what."""

    meter: FreezeMeter = field(default_factory=FreezeMeter)
    pictures: list[Picture] = field(default_factory=list)
    frames: list[Packet] = field(default_factory=list)
    lost: int = 0

    @property
    def freezes(self) -> Freezes:
        return self.meter.freezes(float(SECONDS))


def gilbert(dice: random.Random, loss: float, burst: float = 1.5) -> list[bool]:
    bad, fates = False, []
    for _ in range(20_000):
        bad = dice.random() < (1 - 1 / burst if bad else loss / burst / (1 - loss))
        fates.append(bad)
    return fates


def watch(
    codec: VideoCodec,
    packetizer: Packetizer,
    depacketizer: Depacketizer,
    loss: float,
    seed: int,
    bitrate: int = 384_000,
) -> Watched:
    """What is seen of `SECONDS` of a source that nothing can be asked of."""
    encoder = VideoEncoder(VideoTarget(codec, WIDTH, HEIGHT, FPS, bitrate))
    receiver = RtpReceiver(ReceiverSettings(1, "test", CLOCK, {96: depacketizer}, expected_ssrc=2))
    decoder, watched = VideoDecoder(codec), Watched()
    fates, sequence = gilbert(random.Random(seed), loss), 0
    for number in range(SECONDS * FPS):
        if number and number % GROUP == 0:
            encoder.request_key_frame()
        for coded in encoder.encode(film(number)):
            payloads = packetizer.packetize(coded.data)
            for place, payload in enumerate(payloads):
                at = (number + place / len(payloads) / 2) / FPS
                sequence += 1
                if number and fates[sequence]:
                    watched.lost += 1
                    continue
                last = place == len(payloads) - 1
                data = bytes(RtpPacket(96, sequence, coded.pts & 0xFFFFFFFF, 2, payload, last))
                frames = receiver.receive_rtp(data, at)
                for frame in (*frames, *receiver.release(at)):
                    packet = Packet(
                        frame.data,
                        frame.timestamp,
                        at,
                        frame.keyframe,
                        frame.damaged,
                        missing=frame.missing,
                    )
                    watched.frames.append(packet)
                    for picture in decoder.decode(packet):
                        watched.meter.picture(at)
                        watched.pictures.append(copied(picture))
    return watched


def copied(picture: Picture) -> Picture:
    return Picture(picture.y.copy(), picture.u.copy(), picture.v.copy(), picture.time)


def strangest(picture: Picture) -> float:
    """How far the colour of any block of 16x16 is from both that the room has."""

    def blocks(plane: NDArray[np.uint8]) -> NDArray[np.float64]:
        means: NDArray[np.float64] = plane.reshape(HEIGHT // 16, 8, WIDTH // 16, 8).mean(axis=(1, 3))
        return means

    u, v = blocks(picture.u), blocks(picture.v)
    off = [np.maximum(abs(u - colour[0]), abs(v - colour[1])) for colour in (LEFT, RIGHT)]
    return float(np.minimum(*off)[:, [x for x in range(WIDTH // 16) if x != WIDTH // 32]].max())


@pytest.mark.parametrize("codec", MENDED)
def test_three_percent_loss_shows_mended_pictures_and_hardly_a_freeze(codec: VideoCodec) -> None:
    frozen, shown, lost = 0.0, 0, 0
    for seed in (1, 2, 3):
        packetizer, depacketizer = MENDED[codec]
        watched = watch(codec, packetizer(), depacketizer(), 0.03, seed)
        frozen += watched.freezes.seconds
        shown += len(watched.pictures)
        lost += watched.lost
        assert max(map(strangest, watched.pictures)) < 12, "neither grey nor green"
    assert lost > 15
    assert frozen <= 0.05 * 3 * SECONDS
    assert shown >= 0.93 * 3 * SECONDS * FPS


@pytest.mark.parametrize("codec", MENDED)
def test_the_leg_and_the_decoder_agree_on_what_is_shown(codec: VideoCodec) -> None:
    packetizer, depacketizer = MENDED[codec]
    watched = watch(codec, packetizer(), depacketizer(), 0.40, seed=4, bitrate=1_500_000)
    worth = [packet for packet in watched.frames if is_shown(codec, packet)]
    assert any(packet.missing > 0 for packet in watched.frames)
    assert abs(len(worth) - len(watched.pictures)) <= 3


def test_before_a_whole_key_frame_nothing_is_shown() -> None:
    encoder = VideoEncoder(VideoTarget(VideoCodec.H263, WIDTH, HEIGHT, FPS, 384_000))
    decoder = VideoDecoder(VideoCodec.H263)
    (first,) = encoder.encode(film(0))
    half = Packet(first.data[: len(first.data) // 2], 0, 0.0, keyframe=True, damaged=True, missing=0.5)
    assert decoder.decode(half) == []
    for number in range(1, 10):
        (coded,) = encoder.encode(film(number))
        assert decoder.decode(Packet(coded.data, coded.pts, 0.0, keyframe=False, damaged=True)) == []
    assert decoder.needs_keyframe
    encoder.request_key_frame()
    (key,) = encoder.encode(film(10))
    assert len(decoder.decode(key)) == 1
    assert not decoder.needs_keyframe


def test_a_key_frame_is_wanted_while_mended_pictures_are_shown() -> None:
    encoder = VideoEncoder(VideoTarget(VideoCodec.H263, WIDTH, HEIGHT, FPS, 384_000))
    decoder = VideoDecoder(VideoCodec.H263)
    for number in range(3):
        (coded,) = encoder.encode(film(number))
        damaged = number == 2
        packet = Packet(coded.data, coded.pts, 0.0, coded.keyframe, damaged)
        assert len(decoder.decode(packet)) == 1
        assert decoder.needs_keyframe is damaged
    assert decoder.counts.mended == 1


def test_a_picture_that_is_mostly_missing_is_not_shown_the_next_one_is() -> None:
    encoder = VideoEncoder(VideoTarget(VideoCodec.H263, WIDTH, HEIGHT, FPS, 384_000))
    decoder, shown = VideoDecoder(VideoCodec.H263), []
    for number, missing in enumerate((0.0, 0.0, MOST_MISSING, MOST_MISSING + 0.01, 0.0)):
        (coded,) = encoder.encode(film(number))
        packet = Packet(coded.data, coded.pts, 0.0, coded.keyframe, number >= 2, missing=missing)
        shown.append(len(decoder.decode(packet)))
    assert shown == [1, 1, 1, 0, 1]
    assert (decoder.counts.mended, decoder.counts.withheld, decoder.counts.errors) == (2, 1, 2)


def test_codecs_without_feet_of_their_own_wait_for_their_key_frame_as_before() -> None:
    watched = watch(VideoCodec.H264, H264Packetizer(1, 1200), H264Depacketizer(), 0.03, seed=1)
    damaged = [packet for packet in watched.frames if packet.damaged]
    assert damaged
    assert not any(is_shown("H264", packet) for packet in damaged)
    assert watched.freezes.seconds > SECONDS / 3, "its encoder heard of no loss"


@pytest.mark.parametrize("codec", MENDED)
def test_what_is_missing_of_a_picture_is_told(codec: VideoCodec) -> None:
    packetizer, depacketizer = MENDED[codec][0](), MENDED[codec][1]()
    (coded,) = VideoEncoder(VideoTarget(codec, WIDTH, HEIGHT, FPS, 1_500_000)).encode(film(0))
    payloads = packetizer.packetize(coded.data)
    assert len(payloads) >= 3
    whole = [f for n, one in enumerate(payloads) for f in depacketizer.push(one, 1, n == len(payloads) - 1)]
    assert [(frame.damaged, frame.missing) for frame in whole] == [(False, 0.0)]
    found = [
        frame
        for n, one in enumerate(payloads)
        if n != 1
        for frame in depacketizer.push(one, 2, n == len(payloads) - 1, after_loss=n == 2)
    ]
    assert [frame.damaged for frame in found] == [True]
    assert found[0].missing >= 1 / len(payloads)
    (beginning,) = (
        *depacketizer.push(payloads[0], 3, False),
        *depacketizer.push(payloads[0], 4, False, True),
    )
    assert (beginning.damaged, beginning.missing) == (True, 0.5)
