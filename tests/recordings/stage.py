"""Streams by name for tests of the recorder, and a player that publishes packets at the time they came."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from media.packet import Format, Packet
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamUnavailable

H264 = Format("H264", 90_000)
RED, GREEN, BLUE, WHITE = (81, 90, 240), (145, 54, 34), (41, 240, 110), (235, 128, 128)
COLOURS = (RED, GREEN, BLUE, WHITE)


class Stage:
    """A StreamSource of what a test puts on it."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.down: dict[str, str] = {}
        self.opened: dict[str, int] = {}
        self.held: dict[str, int] = {}

    def put(self, stream_id: str, coded: Format = H264) -> Stream:
        """A new stream under that name; one that was there is closed."""
        if (old := self.streams.get(stream_id)) is not None:
            old.close()
        stream = self.streams[stream_id] = Stream(stream_id, coded)
        return stream

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        if stream_id in self.down:
            raise StreamUnavailable(self.down[stream_id])
        stream = self.streams.get(stream_id)
        if stream is None or stream.closed:
            raise NoSuchStream(f"there is no stream {stream_id!r} on this node")
        self.opened[stream_id] = self.opened.get(stream_id, 0) + 1
        self.held[stream_id] = self.held.get(stream_id, 0) + 1
        try:
            yield stream
        finally:
            self.held[stream_id] -= 1


async def play(
    pictures: Stream, packets: Sequence[Packet], sound: Stream | None = None, heard: Iterable[Packet] = ()
) -> None:
    """Publish in the order of arrival; both begin now, in real time."""
    began = time.monotonic()
    first = min(one.arrival for one in (*packets, *heard))
    of_sound = {id(one) for one in heard}
    for packet in sorted([*packets, *heard], key=lambda one: one.arrival):
        due = began + packet.arrival - first
        await asyncio.sleep(max(due - time.monotonic(), 0))
        target = sound if id(packet) in of_sound and sound is not None else pictures
        target.publish(replace(packet, arrival=due))


def colours(path: Path) -> list[tuple[float, tuple[int, ...]]]:
    """Every frame's time in the file and its Y, Cb, Cr."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            array, height = frame.to_ndarray(), frame.height
            planes = (array[:height], array[height : height * 5 // 4], array[height * 5 // 4 :])
            found.append((frame.time or 0.0, tuple(int(np.median(plane)) for plane in planes)))
    return found


def near(seen: tuple[int, ...], meant: tuple[int, ...]) -> bool:
    return all(abs(one - other) <= 6 for one, other in zip(seen, meant, strict=True))


def heard_seconds(path: Path) -> float:
    """How much sound the file decodes to; 0 without a track."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return 0.0
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
