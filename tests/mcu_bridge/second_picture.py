"""A test room's second picture: slides of one colour out, what comes in decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cache

import numpy as np

from foundation.desks import CodecDescription, Direction
from media.codecs import VideoCodec, VideoDecoder, VideoEncoder, VideoTarget
from media.packet import Packet
from media.picture import Picture
from protocols.payloads import Depacketizer, Frame, Packetizer
from protocols.payloads.h263 import H263Depacketizer, H263Packetizer
from protocols.payloads.h264 import H264Packetizer, split_byte_stream
from protocols.payloads.h264_depacketizer import H264Depacketizer
from protocols.payloads.vp8 import Vp8Depacketizer, Vp8Packetizer
from tests.peers.waiting import until_true

Yuv = tuple[int, int, int]
NEAR = 14
SLIDES = 12
"""Frames until a key frame again."""


@cache
def slides_of(colour: Yuv, codec: str, bitrate: int, size: tuple[int, int]) -> tuple[bytes, ...]:
    """Coded frames that begin with a key frame; noise along the foot fills the rate."""
    encoder = VideoEncoder(VideoTarget(VideoCodec(codec), *size, 25, bitrate))
    noise = np.random.default_rng(2)
    coded: list[bytes] = []
    for number in range(SLIDES):
        picture = Picture.blank(*size, colour, number * 7200)
        strip = picture.y[size[1] * 7 // 8 :]
        strip[...] = noise.integers(16, 235, strip.shape, np.uint8)
        coded += [packet.data for packet in encoder.encode(picture)]
    return tuple(coded)


class SecondPicture:
    """`shown` is shared while it is `sending` (None: it only receives); `latest` is what it sees."""

    def __init__(
        self,
        codec: CodecDescription,
        shown: Yuv | None = None,
        *,
        bitrate: int = 200_000,
        size: tuple[int, int] = (320, 180),
        direction: Direction = Direction.SENDRECV,
    ) -> None:
        self.codec = codec
        self.direction = direction
        self.sending = shown is not None
        self.latest: Picture | None = None
        self.frames: deque[bytes] = deque(maxlen=200)
        self.received_bytes: deque[tuple[float, int]] = deque(maxlen=4000)
        self.pictures = 0
        self.keyframe_requests = 0
        self.remb: int | None = None
        self._footage = () if shown is None else slides_of(shown, codec.name, bitrate, size)
        self._next = 0
        self._decoder = VideoDecoder(VideoCodec(codec.name))
        self._packetizer: Packetizer
        match codec.name:
            case "VP8":
                self._packetizer = Vp8Packetizer()
            case "H263":
                self._packetizer = H263Packetizer()
            case _:
                mode = int(codec.parameters.get("packetization-mode", "0"))
                self._packetizer = H264Packetizer(mode, 1200)

    def depacketizer(self) -> Depacketizer:
        match self.codec.name:
            case "VP8":
                return Vp8Depacketizer()
            case "H263":
                return H263Depacketizer()
            case _:
                return H264Depacketizer()

    def payloads(self) -> Sequence[bytes]:
        """Of the next frame to send."""
        data = self._footage[self._next]
        self._next = (self._next + 1) % len(self._footage)
        return self._packetizer.packetize(data)

    def asked_for_key_frame(self) -> None:
        self.keyframe_requests += 1
        self._next = 0

    def take(self, frame: Frame, arrival: float) -> None:
        self.pictures += 1
        self.frames.append(frame.data)
        packet = Packet(frame.data, frame.timestamp, arrival, frame.keyframe, frame.damaged)
        for picture in self._decoder.decode(packet):
            self.latest = picture

    @property
    def sent(self) -> set[bytes]:
        """All frames that it sends, without start codes."""
        return {b"".join(split_byte_stream(data)) for data in self._footage}

    @property
    def got(self) -> set[bytes]:
        return {b"".join(split_byte_stream(data)) for data in self.frames}

    def shows(self, colour: Yuv) -> bool:
        """In its middle."""
        picture = self.latest
        if picture is None:
            return False
        seen = [
            float(
                p[p.shape[0] * 3 // 10 : p.shape[0] * 6 // 10, p.shape[1] // 3 : p.shape[1] * 2 // 3].mean()
            )
            for p in picture.planes
        ]
        return all(abs(a - b) <= NEAR for a, b in zip(seen, colour, strict=True))

    async def sees(self, colour: Yuv, timeout: float = 8.0) -> None:
        await until_true(lambda: self.shows(colour), f"slides of {colour}", timeout)

    async def more(self, count: int, timeout: float = 6.0) -> None:
        wanted = self.pictures + count
        await until_true(lambda: self.pictures >= wanted, f"{count} more slides", timeout)
