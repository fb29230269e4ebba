"""A stream in another process: its whole coded frames over a private Unix socket.

    async with LinkServer(path, source) as server: ...          where the streams are (a StreamSource)

    link = LinkClient(path)                                      elsewhere: a StreamSource, too
    async with link.open("camera:34020000001320000001") as stream:
        async with stream.reader() as reader: ...

What `open` gives is a local Stream: it starts with the current group of pictures, its readers' key-frame
requests travel back, and it is closed when the source is, or the process that has it. An open link is a
hold of its stream there, from the asking on: a client that leaves while a camera connects lets it go. A
process that is too slow loses packets at the server, by the bounds of a Reader; `LinkedStream.dropped`
counts them. One connection carries one stream. `arrival` needs no mapping: all processes of a machine share
that clock.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

import msgspec
import structlog

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
from media.stream_source import NoSuchStream, StreamSource, StreamUnavailable

__all__ = ["LinkClient", "LinkServer", "LinkedStream", "ProcessUnreachable"]

FRAME_BYTES = 16 << 20
READ_BYTES = 256 << 10
UNSENT_BYTES = 256 << 10
OPEN_TIMEOUT = 12.0
"""Seconds; a camera that connects may take ten of them."""
KEYFRAME_INTERVAL = 0.1
"""Seconds between two requests sent back; a reader without a key frame asks again with every packet."""

OPEN, KEYFRAME_WANTED = b"O", b"K"
FORMAT, UNKNOWN, UNAVAILABLE, PACKET, END = b"F", b"N", b"U", b"P", b"E"

_PACKET = struct.Struct("!cBqdddQ")
_DROPPED = struct.Struct("!Q")
_IS_KEYFRAME, _IS_DAMAGED = 1, 2

_log = structlog.get_logger("link")


class ProcessUnreachable(StreamUnavailable):
    """The other process is not there, or does not answer: nobody knows whether it has the stream."""


class LinkedStream(Stream):
    """The local end of a link. `dropped` counts what this process was too slow for."""

    dropped = 0


def encode_packet(packet: Packet, dropped: int) -> bytes:
    """A frame with a packet and how many the server has dropped so far."""
    flags = packet.keyframe * _IS_KEYFRAME | packet.damaged * _IS_DAMAGED
    ntp = math.nan if packet.ntp is None else packet.ntp
    return frame(
        _PACKET.pack(PACKET, flags, packet.pts, packet.arrival, ntp, packet.missing, dropped), packet.data
    )


def decode_packet(payload: bytes) -> tuple[Packet, int]:
    """The reverse of `encode_packet`, without the frame's length. Raises struct.error."""
    _, flags, pts, arrival, ntp, missing, dropped = _PACKET.unpack_from(payload)
    packet = Packet(
        payload[_PACKET.size :],
        pts,
        arrival,
        bool(flags & _IS_KEYFRAME),
        bool(flags & _IS_DAMAGED),
        None if math.isnan(ntp) else ntp,
        missing,
    )
    return packet, dropped


class LinkServer:
    """Hands the streams of `source` to other processes while the context is open.

    `capacity` and `capacity_bytes` bound what waits for one slow client. Raises OSError when the socket
    cannot be made.
    """

    def __init__(
        self,
        path: Path,
        source: StreamSource,
        *,
        capacity: int = QUEUE_PACKETS,
        capacity_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.path = path
        self._source = source
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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer_of(writer.transport)
            writer.transport.set_write_buffer_limits(high=UNSENT_BYTES)
            incoming = _Incoming(reader)
            opening = await incoming.next()
            if opening is not None and opening[:1] == OPEN:
                await self._serve_stream(opening[1:].decode(errors="replace"), incoming, writer)
        except (FrameTooLong, UntrustedPeer) as error:
            _log.error("link refused", socket=str(self.path), reason=str(error))
        except OSError:
            pass  # the client has gone
        except Exception:
            _log.exception("link failed", socket=str(self.path))
        finally:
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # the client does not read: a close would wait for it

    async def _serve_stream(self, stream_id: str, incoming: _Incoming, writer: asyncio.StreamWriter) -> None:
        held: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        sending = asyncio.create_task(self._hold(stream_id, held, writer), name="link.send")
        listening = asyncio.create_task(_listen(incoming, held), name="link.listen")
        try:
            await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
            for ended in (sending, listening):
                if ended.done():
                    ended.result()
        finally:
            sending.cancel()
            listening.cancel()
            await asyncio.gather(sending, listening, return_exceptions=True)

    async def _hold(self, stream_id: str, held: asyncio.Future[Stream], writer: asyncio.StreamWriter) -> None:
        """Open the stream, and send it until its end; `held` is told of it."""
        try:
            async with self._source.open(stream_id) as stream:
                held.set_result(stream)
                async with stream.reader(self._capacity, self._capacity_bytes) as reader:
                    await _send(reader, writer)
        except StreamUnavailable as error:
            kind = UNKNOWN if isinstance(error, NoSuchStream) else UNAVAILABLE
            writer.write(frame(kind, str(error).encode()))
            await writer.drain()


async def _send(reader: Reader, writer: asyncio.StreamWriter) -> None:
    told = reader.stream.format
    writer.write(frame(FORMAT, msgspec.msgpack.encode(told)))
    async for packet in reader:
        if writer.transport.is_closing():
            return  # the client is gone: uvloop answers a write with RuntimeError, which is nobody's fault
        if reader.stream.format is not told:  # other parameter sets of the same picture
            told = reader.stream.format
            writer.write(frame(FORMAT, msgspec.msgpack.encode(told)))
        writer.write(encode_packet(packet, reader.dropped))
        await writer.drain()
    writer.write(frame(END, _DROPPED.pack(reader.dropped)))
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()


async def _listen(incoming: _Incoming, held: asyncio.Future[Stream]) -> None:
    """Until the client is gone."""
    while (message := await incoming.next()) is not None:
        if message == KEYFRAME_WANTED and held.done():
            held.result().request_keyframe()


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
    """The streams of the process that serves at `path`: a StreamSource. `timeout` (s) bounds an opening."""

    def __init__(self, path: Path, timeout: float = OPEN_TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[LinkedStream]:
        """The stream, held there and republished here until the context is left.

        Raises NoSuchStream and StreamUnavailable with the other side's words, ProcessUnreachable when there
        were none in time.
        """
        loop = asyncio.get_running_loop()
        asked = -math.inf

        def keyframe_wanted() -> None:
            nonlocal asked
            if loop.time() - asked >= KEYFRAME_INTERVAL and not writer.is_closing():
                asked = loop.time()
                writer.write(frame(KEYFRAME_WANTED))

        try:
            async with asyncio.timeout(self._timeout):
                incoming, writer = await self._connect(stream_id)
                coded = await self._opened(incoming, writer)
        except TimeoutError:
            detail = f"{self.path.stem} did not open stream {stream_id!r} within {self._timeout:g} s"
            raise ProcessUnreachable(detail) from None
        stream = LinkedStream(stream_id, coded, on_keyframe_wanted=keyframe_wanted)
        receiving = asyncio.create_task(_receive(incoming, stream, self.path), name=f"link.{stream_id}")
        try:
            yield stream
        finally:
            # The hold is given back before anything is waited for: whoever leaves may be cancelled twice.
            receiving.cancel()
            stream.close()
            writer.transport.abort()
            await asyncio.gather(receiving, return_exceptions=True)

    async def _connect(self, stream_id: str) -> tuple[_Incoming, asyncio.StreamWriter]:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.path), limit=READ_BYTES)
        except OSError as error:
            why = error.strerror or error
            raise ProcessUnreachable(f"{self.path.stem} cannot be reached: {why}") from None
        writer.write(frame(OPEN, stream_id.encode()))
        return _Incoming(reader), writer

    async def _opened(self, incoming: _Incoming, writer: asyncio.StreamWriter) -> Format:
        """The stream's format; closes the connection if there is none."""
        refusal: StreamUnavailable = ProcessUnreachable(f"{self.path.stem} went away before it answered")
        try:
            peer_of(writer.transport)
            message = await incoming.next() or b""
            if message[:1] == FORMAT:
                return msgspec.msgpack.decode(message[1:], type=Format)
            if message[:1] == UNKNOWN:
                refusal = NoSuchStream(message[1:].decode())
            elif message[:1] == UNAVAILABLE:
                refusal = StreamUnavailable(message[1:].decode())
        except (OSError, FrameTooLong, UntrustedPeer, msgspec.MsgspecError) as error:
            refusal = ProcessUnreachable(f"{self.path.stem}: {error}")
        except BaseException:
            writer.transport.abort()
            raise
        writer.transport.abort()
        raise refusal


async def _next(incoming: _Incoming) -> bytes | None:
    """None at the end; a server that was killed has come to its end."""
    try:
        return await incoming.next()
    except OSError:
        return None


async def _receive(incoming: _Incoming, stream: LinkedStream, path: Path) -> None:
    try:
        while (message := await _next(incoming)) is not None:
            if message[:1] == PACKET:
                packet, stream.dropped = decode_packet(message)
                stream.publish(packet)
            elif message[:1] == FORMAT:
                stream.format = msgspec.msgpack.decode(message[1:], type=Format)
            elif message[:1] == END:
                (stream.dropped,) = _DROPPED.unpack_from(message, 1)
                return
    except (FrameTooLong, struct.error, msgspec.MsgspecError) as error:
        _log.error("server speaks nonsense", socket=str(path), reason=str(error))
    finally:
        stream.close()
