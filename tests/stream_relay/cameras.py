"""A camera made here: coloured H.264 with sound, published as Streams at its real pace."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np

from media.packet import Packet
from media.stream import Stream
from media.stream_source import NoSuchStream
from stream_relay.track_formats import CodedPicture

Coded = list[tuple[bytes, int, bool]]
RATE = 25


def coloured_pictures(
    colour: tuple[int, int, int], seconds: int = 2, size: tuple[int, int] = (320, 240), b_frames: int = 0
) -> Coded:
    """(access unit, pts at 90 kHz, key frame) in the order of decoding; a key frame each second."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(RATE), Fraction(1, 90_000)
    encoder.options = {
        "preset": "ultrafast",
        "bf": str(b_frames),
        "g": str(RATE),
        "keyint_min": str(RATE),
        "sc_threshold": "0",
        "threads": "1",
    }
    picture = np.full((size[1], size[0], 3), colour, np.uint8)
    coded: Coded = []
    frames: list[av.VideoFrame | None] = []
    for number in range(seconds * RATE):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number * 3600, Fraction(1, 90_000)
        frames.append(frame)
    for one in [*frames, None]:
        for packet in encoder.encode(one):
            assert packet.pts is not None
            coded.append((bytes(packet), packet.pts, packet.is_keyframe))
    return coded


@dataclass
class Camera:
    """`play` publishes the coded pictures over and over, `seconds` long each round."""

    coded: Coded
    stream: Stream = field(init=False)
    start: int = 0

    def __post_init__(self) -> None:
        picture = CodedPicture.of(self.coded[0][0])
        assert picture is not None
        self.stream = Stream("camera", picture.format)

    async def play(self, speed: float = 1.0) -> None:
        length = len(self.coded) * 3600
        began, sent = time.monotonic(), 0
        while True:
            for data, pts, keyframe in self.coded:
                now = time.monotonic()
                lap = sent // len(self.coded)
                self.stream.publish(Packet(data, self.start + lap * length + pts, now, keyframe))
                sent += 1
                await asyncio.sleep(max(0.0, began + sent / RATE / speed - time.monotonic()))


class Shelf:
    """A catalogue of streams that are simply there."""

    def __init__(self, **paths: Sequence[Stream]) -> None:
        self.paths = dict(paths)
        self.opened = 0

    @asynccontextmanager
    async def open(self, path: str, user: str | None) -> AsyncIterator[Sequence[Stream]]:
        if path not in self.paths:
            raise NoSuchStream(path)
        self.opened += 1
        try:
            yield self.paths[path]
        finally:
            self.opened -= 1


@asynccontextmanager
async def playing(camera: Camera, speed: float = 1.0) -> AsyncIterator[Camera]:
    task = asyncio.create_task(camera.play(speed))
    try:
        yield camera
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def collect(stream: Stream, count: int, timeout: float = 10.0) -> list[Packet]:
    """The next packets of a stream; AssertionError when it ends before."""
    packets: list[Packet] = []
    async with asyncio.timeout(timeout), stream.reader() as reader:
        async for packet in reader:
            packets.append(packet)
            if len(packets) == count:
                return packets
    raise AssertionError(f"the stream ended after {len(packets)} packets")


def decoded(packets: Sequence[Packet]) -> list[np.ndarray]:
    """The pictures as RGB, in the order of presentation."""
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    pictures = []
    for data in [*(packet.data for packet in packets), None]:
        for frame in decoder.decode(av.Packet(data) if data else None):
            pictures.append(frame.to_ndarray(format="rgb24"))
    return pictures
