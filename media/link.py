"""A stream in another process: its whole coded frames over a private Unix socket.

    async with LinkServer(path, resolve) as server: ...          where the streams are; id -> Stream | None

    link = LinkClient(path)
    async with link.open(StreamRef(node, worker, id, codec)) as stream:    elsewhere
        async with stream.reader() as reader: ...

What `open` gives is a local Stream: it starts with the current group of pictures, its readers' key-frame
requests travel back, and it is closed when the source is, or the process that has it. A process that is
too slow loses packets at the server, by the bounds of a Reader; `LinkedStream.dropped` counts them. One
connection carries one stream. `arrival` needs no mapping: all processes of a machine share that clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

import msgspec
import structlog

from foundation.desks import StreamRef
from foundation.private_socket import (
    FrameReader,
    FrameTooLong,
    UntrustedPeer,
    frame,
    inode,
    listen,
    peer_of,
    remove,
)
from media.packet import Format, Packet
from media.stream import QUEUE_BYTES, QUEUE_PACKETS, Reader, Stream

__all__ = ["LinkClient", "LinkRefused", "LinkServer", "LinkedStream"]

FRAME_BYTES = 16 << 20
READ_BYTES = 256 << 10
UNSENT_BYTES = 256 << 10
OPEN_TIMEOUT = 5.0
KEYFRAME_INTERVAL = 0.1
"""Seconds between two requests sent back; a reader without a key frame asks again with every packet."""

OPEN, KEYFRAME_WANTED = b"O", b"K"
FORMAT, REFUSED, PACKET, END = b"F", b"R", b"P", b"E"

_PACKET = struct.Struct("!cBqddQ")
_DROPPED = struct.Struct("!Q")
_IS_KEYFRAME, _IS_DAMAGED = 1, 2

_log = structlog.get_logger("link")


class LinkRefused(Exception):
    """The other process does not have that stream, or is not there."""


class LinkedStream(Stream):
    """The local end of a link. `dropped` counts what this process was too slow for."""

    dropped = 0


def encode_packet(packet: Packet, dropped: int) -> bytes:
    """A frame with a packet and how many the server has dropped so far."""
    flags = packet.keyframe * _IS_KEYFRAME | packet.damaged * _IS_DAMAGED
    ntp = math.nan if packet.ntp is None else packet.ntp
    return frame(_PACKET.pack(PACKET, flags, packet.pts, packet.arrival, ntp, dropped), packet.data)


def decode_packet(payload: bytes) -> tuple[Packet, int]:
    """The reverse of `encode_packet`, without the frame's length. Raises struct.error."""
    _, flags, pts, arrival, ntp, dropped = _PACKET.unpack_from(payload)
    packet = Packet(
        payload[_PACKET.size :],
        pts,
        arrival,
        bool(flags & _IS_KEYFRAME),
        bool(flags & _IS_DAMAGED),
        None if math.isnan(ntp) else ntp,
    )
    return packet, dropped


class LinkServer:
    """Hands this process's streams to others while the context is open.

    `capacity` and `capacity_bytes` bound what waits for one slow client. Raises OSError when the socket
    cannot be made.
    """

    def __init__(
        self,
        path: Path,
        resolve: Callable[[str], Stream | None],
        *,
        capacity: int = QUEUE_PACKETS,
        capacity_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.path = path
        self._resolve = resolve
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None
        self._inode: int | None = None

    @property
    def clients(self) -> int:
        """Open links."""
        return len(self._clients)

    async def __aenter__(self) -> LinkServer:
        listener = listen(self.path)
        self._inode = inode(self.path)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        clients = tuple(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        remove(self.path, self._inode)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.create_task(self._serve(reader, writer), name="link.client")
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)
        client.add_done_callback(lambda _: writer.close())

    async def _serve(self, incoming: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer_of(writer.transport)
            writer.transport.set_write_buffer_limits(high=UNSENT_BYTES)
            await self._serve_stream(_Incoming(incoming), writer)
        except (FrameTooLong, UntrustedPeer) as error:
            _log.error("link refused", socket=str(self.path), reason=str(error))
        except OSError:
            pass  # the client has gone
        finally:
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # the client does not read: a close would wait for it

    async def _serve_stream(self, incoming: _Incoming, writer: asyncio.StreamWriter) -> None:
        opening = await incoming.next()
        if opening is None:
            return
        stream_id = opening[1:].decode(errors="replace")
        stream = self._resolve(stream_id) if opening[:1] == OPEN else None
        if stream is None or stream.closed:
            writer.write(frame(REFUSED, f"there is no stream {stream_id!r} at {self.path.stem}".encode()))
            await writer.drain()
            return
        writer.write(frame(FORMAT, msgspec.msgpack.encode(stream.format)))
        async with stream.reader(self._capacity, self._capacity_bytes) as reader:
            sending = asyncio.create_task(_send(reader, writer), name="link.send")
            listening = asyncio.create_task(_listen(incoming, stream), name="link.listen")
            try:
                await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
                for ended in (sending, listening):
                    if ended.done():
                        ended.result()
            finally:
                sending.cancel()
                listening.cancel()
                await asyncio.gather(sending, listening, return_exceptions=True)


async def _send(reader: Reader, writer: asyncio.StreamWriter) -> None:
    async for packet in reader:
        writer.write(encode_packet(packet, reader.dropped))
        await writer.drain()
    writer.write(frame(END, _DROPPED.pack(reader.dropped)))
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()


async def _listen(incoming: _Incoming, stream: Stream) -> None:
    while (message := await incoming.next()) is not None:
        if message == KEYFRAME_WANTED:
            stream.request_keyframe()


class _Incoming:
    """The frames of one connection."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._frames = FrameReader(FRAME_BYTES)
        self._whole: list[bytes] = []

    async def next(self) -> bytes | None:
        """The next frame, None at the end. Raises FrameTooLong, OSError."""
        while not self._whole:
            data = await self._reader.read(READ_BYTES)
            if not data:
                return None
            self._whole = self._frames.feed(data)
            self._whole.reverse()
        return self._whole.pop()


class LinkClient:
    """Opens streams of the process that serves at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @asynccontextmanager
    async def open(self, ref: StreamRef, timeout: float = OPEN_TIMEOUT) -> AsyncIterator[LinkedStream]:
        """The stream, republished here until the context is left.

        Raises LinkRefused when nobody serves it, or not within `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        asked = -math.inf

        def keyframe_wanted() -> None:
            nonlocal asked
            if loop.time() - asked >= KEYFRAME_INTERVAL and not writer.is_closing():
                asked = loop.time()
                writer.write(frame(KEYFRAME_WANTED))

        try:
            async with asyncio.timeout(timeout):
                incoming, writer = await self._connect(ref)
                coded = await self._opened(incoming, writer)
        except TimeoutError:
            detail = f"{self.path.stem} did not open stream {ref.id!r} within {timeout:g} s"
            raise LinkRefused(detail) from None
        stream = LinkedStream(ref.id, coded, on_keyframe_wanted=keyframe_wanted)
        receiving = asyncio.create_task(_receive(incoming, stream, self.path), name=f"link.{ref.id}")
        try:
            yield stream
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
            stream.close()
            writer.transport.abort()

    async def _connect(self, ref: StreamRef) -> tuple[_Incoming, asyncio.StreamWriter]:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.path), limit=READ_BYTES)
        except OSError as error:
            raise LinkRefused(f"{self.path.stem} cannot be reached: {error.strerror or error}") from None
        writer.write(frame(OPEN, ref.id.encode()))
        return _Incoming(reader), writer

    async def _opened(self, incoming: _Incoming, writer: asyncio.StreamWriter) -> Format:
        """The stream's format; closes the connection if there is none."""
        reason = f"{self.path.stem} went away before it answered"
        try:
            peer_of(writer.transport)
            message = await incoming.next()
            if message is not None and message[:1] == FORMAT:
                return msgspec.msgpack.decode(message[1:], type=Format)
            if message is not None and message[:1] == REFUSED:
                reason = message[1:].decode()
        except (OSError, FrameTooLong, UntrustedPeer, msgspec.MsgspecError) as error:
            reason = f"{self.path.stem}: {error}"
        except BaseException:
            writer.transport.abort()
            raise
        writer.transport.abort()
        raise LinkRefused(reason)


async def _receive(incoming: _Incoming, stream: LinkedStream, path: Path) -> None:
    try:
        with contextlib.suppress(OSError):  # the server was killed: the stream ends as at its end
            while (message := await incoming.next()) is not None:
                if message[:1] == PACKET:
                    packet, stream.dropped = decode_packet(message)
                    stream.publish(packet)
                elif message[:1] == END:
                    (stream.dropped,) = _DROPPED.unpack_from(message, 1)
                    return
    except (FrameTooLong, struct.error) as error:
        _log.error("server speaks nonsense", socket=str(path), reason=str(error))
    finally:
        stream.close()
