"""One source, many readers.

    stream = Stream("camera:34020000001320000001", Format("H264", 90_000))
    async with stream.reader() as reader:
        async for packet in reader:
            ...

The source calls `publish` and, at its end, `close`. It never waits for a reader: each reader has a
queue bounded in frames and bytes; what does not fit is dropped to the next key frame and counted.
A new reader of a video stream starts with the current group of pictures, if that is whole.

    follower = stream.follow(take, ended)          # for whoever only passes on: no queue, no task to wake
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType

from media.packet import Format, Kind, Packet

GOP_BYTES = 4 << 20
QUEUE_PACKETS = 512
QUEUE_BYTES = 8 << 20
LEADING = 16
"""Packets after a key frame that may be shown before it (H.264 A.3.1 j)."""


class Reader:
    """A bounded place in line for the packets of one stream.

    Iterating ends when the stream is closed (after what was queued) or the reader is. `dropped`
    counts the packets that the reader was too slow for. What is shown before the key frame that the reader
    begins with needs pictures that it never gets, and is left out.
    """

    def __init__(self, stream: Stream, capacity: int, capacity_bytes: int, *, await_keyframe: bool) -> None:
        self.stream = stream
        self.dropped = 0
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._packets: deque[Packet] = deque()
        self._bytes = 0
        self._await_keyframe = await_keyframe
        self._ended = False
        self._began: int | None = None
        self._leading = 0
        self._ready = asyncio.Event()

    @property
    def queued(self) -> int:
        """Packets that wait to be read."""
        return len(self._packets)

    def offer(self, packet: Packet) -> None:
        """Queue a packet; when full, drop to the next key frame (counted in `dropped`)."""
        if self._ended:
            return
        if len(self._packets) >= self._capacity or self._bytes + len(packet) > self._capacity_bytes:
            self.dropped += len(self._packets)
            self._packets.clear()
            self._bytes = 0
            self._await_keyframe = True
        if self._await_keyframe and not packet.keyframe:
            self.dropped += 1
            self.stream.request_keyframe()
            return
        if self._await_keyframe:
            self._await_keyframe, self._began, self._leading = False, packet.pts, LEADING
        elif self._leads(packet):
            return
        self._keep(packet)

    def _keep(self, packet: Packet) -> None:
        self._packets.append(packet)
        self._bytes += len(packet)
        self._ready.set()

    def _leads(self, packet: Packet) -> bool:
        if self._began is None:
            return False
        self._leading -= 1
        if packet.keyframe or not self._leading:
            self._began = None
        return self._began is not None and packet.pts < self._began

    def end(self) -> None:
        """No packet follows; what is queued may still be read."""
        self._ended = True
        self._ready.set()

    def close(self) -> None:
        """Leave the line; safe to call twice."""
        self.stream.leave(self)
        self._packets.clear()
        self._bytes = 0
        self.end()

    def __aiter__(self) -> AsyncIterator[Packet]:
        return self

    async def __anext__(self) -> Packet:
        while not self._packets:
            if self._ended:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        packet = self._packets.popleft()
        self._bytes -= len(packet)
        return packet

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Follower(Reader):
    """A Reader that is told rather than asked: `take` is given each packet as it is published and `ended` is
    called once, when the stream closes. Both run inside the source's call and must neither wait nor raise."""

    def __init__(self, stream: Stream, take: Callable[[Packet], None], ended: Callable[[], None]) -> None:
        wants_keyframe = stream.format.kind is Kind.VIDEO
        super().__init__(stream, QUEUE_PACKETS, QUEUE_BYTES, await_keyframe=wants_keyframe)
        self._take = take
        self._when_ended = ended

    def _keep(self, packet: Packet) -> None:
        self._take(packet)

    def end(self) -> None:
        if not self._ended:
            super().end()
            self._when_ended()

    def close(self) -> None:
        """Told nothing any more, the end neither; safe to call twice."""
        self._ended = True
        super().close()


class Stream:
    """The packets of one source, handed to any number of readers.

    `on_keyframe_wanted` is called when a reader cannot go on without a key frame; the source decides
    how often it really asks. The group of pictures is kept up to `GOP_BYTES`; beyond that a new
    reader waits for the next key frame.
    """

    def __init__(
        self, id: str, format: Format, *, on_keyframe_wanted: Callable[[], None] | None = None
    ) -> None:
        self.id = id
        self.format = format
        self.closed = False
        self.published = 0
        self._readers: list[Reader] = []
        self._on_keyframe_wanted = on_keyframe_wanted
        self._gop: list[Packet] = []
        self._gop_bytes = 0

    @property
    def readers(self) -> int:
        return len(self._readers)

    def publish(self, packet: Packet) -> None:
        """Hand a packet to every reader; never waits."""
        if self.closed:
            return
        self.published += 1
        if self.format.kind is Kind.VIDEO:
            self._remember(packet)
        for reader in tuple(self._readers):
            reader.offer(packet)

    def _remember(self, packet: Packet) -> None:
        if packet.damaged:
            self._forget()
        elif packet.keyframe:
            self._gop = [packet]
            self._gop_bytes = len(packet)
        elif self._gop:
            self._gop.append(packet)
            self._gop_bytes += len(packet)
            if self._gop_bytes > GOP_BYTES:
                self._forget()

    def _forget(self) -> None:
        self._gop = []
        self._gop_bytes = 0

    def reader(
        self, capacity: int = QUEUE_PACKETS, capacity_bytes: int = QUEUE_BYTES, *, from_keyframe: bool = True
    ) -> Reader:
        """A new reader; `from_keyframe=False` starts with the next packet, whatever it is."""
        wants_keyframe = from_keyframe and self.format.kind is Kind.VIDEO
        reader = Reader(self, capacity, capacity_bytes, await_keyframe=wants_keyframe)
        whole = len(self._gop) <= capacity and self._gop_bytes <= capacity_bytes
        self._join(reader, self._gop if whole else [], wants_keyframe)
        return reader

    def follow(self, take: Callable[[Packet], None], ended: Callable[[], None]) -> Follower:
        """A new follower; the current group of pictures is given to it before this returns."""
        follower = Follower(self, take, ended)
        self._join(follower, self._gop, self.format.kind is Kind.VIDEO)
        return follower

    def _join(self, reader: Reader, group: Sequence[Packet], wants_keyframe: bool) -> None:
        if self.closed:
            reader.end()
            return
        self._readers.append(reader)
        if wants_keyframe and group:
            for packet in group:
                reader.offer(packet)
        elif wants_keyframe:
            self.request_keyframe()

    def request_keyframe(self) -> None:
        """A reader is waiting for a key frame."""
        if self._on_keyframe_wanted is not None and not self.closed:
            self._on_keyframe_wanted()

    def leave(self, reader: Reader) -> None:
        if reader in self._readers:
            self._readers.remove(reader)

    def close(self) -> None:
        """The source is at its end; every reader ends after what it has queued."""
        self.closed = True
        self._on_keyframe_wanted = None  # the source is let go of with its stream
        self._forget()
        readers, self._readers = self._readers, []
        for reader in readers:
            reader.end()
