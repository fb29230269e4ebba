"""H.263 and H.261 pictures with detail and motion, and what libav's own RTP sender makes of them."""

from __future__ import annotations

import io
from fractions import Fraction
from functools import cache

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

CIF, QCIF, FOUR_CIF = (352, 288), (176, 144), (704, 576)


@cache
def coded(codec: str, size: tuple[int, int] = CIF, count: int = 6, quality: int = 4) -> tuple[bytes, ...]:
    """`count` pictures, the first INTRA; `quality` is the quantizer."""
    width, height = size
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1001, 30_000), Fraction(30_000, 1001)
    encoder.thread_count = 1
    encoder.options = {"g": "300", "qmin": str(quality), "qmax": str(quality)}
    pictures = []
    for number, frame in enumerate(_film(width, height, count)):
        frame.pts = number
        frame.time_base = encoder.time_base
        if number == 0:
            frame.pict_type = PictureType.I
        pictures += [bytes(packet) for packet in encoder.encode(frame)]
    return tuple(pictures)


def _film(width: int, height: int, count: int) -> list[av.VideoFrame]:
    noise = np.random.default_rng(7).integers(16, 236, (height // 4 + count, width // 4 + count))
    ground = np.kron(noise, np.ones((4, 4), int)).astype(np.uint8)
    frames = []
    for number in range(count):
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        planes[:height] = ground[2 * number : 2 * number + height, 3 * number : 3 * number + width]
        frames.append(av.VideoFrame.from_ndarray(planes, "yuv420p"))
    return frames


class _Wire(io.RawIOBase):
    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.packets.append(bytes(data))  # type: ignore[call-overload]  # what libav writes is a buffer
        return len(self.packets[-1])


def sent_by_libav(
    codec: str, pictures: tuple[bytes, ...], size: tuple[int, int] = CIF, **options: str
) -> list[bytes]:
    """RTP packets of at most 600 bytes, without RTCP."""
    wire = _Wire()
    with av.open(wire, "w", format="rtp", container_options={"packetsize": "600", **options}) as container:
        stream = container.add_stream(codec, rate=Fraction(30_000, 1001))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = Fraction(1001, 30_000)
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.pts = packet.dts = number
            packet.time_base = Fraction(1001, 30_000)
            packet.stream = stream
            container.mux(packet)
    return [packet for packet in wire.packets if not 192 <= packet[1] <= 223]
