"""Pictures as a camera's H.264, and a source that publishes them as Streams."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from analytics.detection import Bgr
from media.packet import Format, Packet
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamUnavailable

CLOCK = 90_000


def coded(pictures: Iterable[Bgr], *, fps: int = 25, gop: int = 25, b_frames: int = 0) -> list[Packet]:
    """The pictures in decoding order; `pts` begins at 0, `arrival` at 0.0 and keeps pace with decoding."""
    made: list[av.Packet] = []
    encoder: VideoCodecContext | None = None
    for number, picture in enumerate(pictures):
        if encoder is None:
            encoder = _encoder(picture.shape[1], picture.shape[0], fps, gop, b_frames)
        frame = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, fps)
        made += encoder.encode(frame)
    if encoder is not None:
        made += encoder.encode(None)
    return [
        Packet(bytes(one), (one.pts or 0) * CLOCK // fps, number / fps, one.is_keyframe)
        for number, one in enumerate(made)
    ]


def _encoder(width: int, height: int, fps: int, gop: int, b_frames: int) -> VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(fps), Fraction(1, fps)
    encoder.thread_count = 1
    encoder.options = {
        "preset": "ultrafast",
        "crf": "20",
        "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}:b-adapt=0:threads=1:"
        "repeat-headers=1:annexb=1",
    }
    return encoder


def grey(levels: Sequence[int], size: tuple[int, int] = (64, 48)) -> list[Bgr]:
    """Plain pictures of these brightnesses: a decoded one tells which it was."""
    return [np.full((size[1], size[0], 3), level, np.uint8) for level in levels]


def over_again(packets: Sequence[Packet], times: int) -> list[Packet]:
    """The packets several times on, as a camera would go on."""
    length = max(packet.pts for packet in packets) + packets[1].arrival * CLOCK
    seconds = length / CLOCK
    return [
        Packet(one.data, one.pts + round(turn * length), one.arrival + turn * seconds, one.keyframe)
        for turn in range(times)
        for one in packets
    ]


Act = Exception | Stream | Sequence[Packet]


class Cameras:
    """Opens cameras by name. Each opening plays the next of its acts: a fault; a stream of the test's own;
    packets at `pace` times real time (at once with None), after which the stream ends."""

    def __init__(self, acts: dict[str, list[Act]], pace: float | None = None) -> None:
        self.acts = acts
        self.pace = pace
        self.opened: list[str] = []
        self.held = 0

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        self.opened.append(stream_id)
        acts = self.acts.get(stream_id)
        if acts is None:
            raise NoSuchStream(f"there is no {stream_id}")
        act = acts.pop(0) if acts else StreamUnavailable("the play is over")
        if isinstance(act, Exception):
            raise act
        self.held += 1
        try:
            if isinstance(act, Stream):
                yield act
            else:
                async with asyncio.TaskGroup() as group:
                    stream = Stream(stream_id, Format("H264", CLOCK))
                    player = group.create_task(self._play(stream, act))
                    yield stream
                    player.cancel()
        finally:
            self.held -= 1

    async def _play(self, stream: Stream, packets: Sequence[Packet]) -> None:
        await asyncio.sleep(0)  # the reader is there now
        began = time.monotonic()
        for packet in packets:
            if self.pace is not None:
                await asyncio.sleep(max(0.0, began + packet.arrival / self.pace - time.monotonic()))
            stream.publish(replace(packet, arrival=time.monotonic()))
        stream.close()
