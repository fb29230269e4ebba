"""The serving end of a desk socket; see `desk_socket` for its use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import cast

import msgspec
import structlog

from foundation.desk_messages import (
    FRAME_BYTES,
    TO_SERVER,
    Announced,
    Answer,
    Call,
    Cancel,
    Failed,
    Hello,
    Missed,
    Refused,
    ToServer,
    encode,
    methods_of,
)
from foundation.desks import Refusal
from foundation.events import Event
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

__all__ = ["DeskServer"]

CALLS_IN_FLIGHT = 512
"""Calls of one client that run at once; further ones wait in its socket."""
EVENTS_UNSENT_BYTES = 256 << 10

_log = structlog.get_logger("desk_server")


class DeskServer:
    """Serves `desks` (name -> Protocol and the object that fulfils it) while the context is open.

    `abandoned` is set when the last client leaves and cleared when one comes, `occupied` is set while there
    is one. Raises OSError when the
    socket cannot be made, TypeError for a Protocol that cannot cross.
    """

    def __init__(self, path: Path, desks: Mapping[str, tuple[Callable[..., object], object]]) -> None:
        self.path = path
        self.abandoned = asyncio.Event()
        self.occupied = asyncio.Event()
        self.events_missed = 0
        self._desks = {name: (methods_of(protocol), desk) for name, (protocol, desk) in desks.items()}
        self._calls: set[asyncio.Task[bytes]] = set()
        self._connections: set[_ServerConnection] = set()
        self._server: asyncio.AbstractServer | None = None
        self._inode: int | None = None

    async def __aenter__(self) -> DeskServer:
        listener = listen(self.path)
        self._inode = inode(self.path)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _ServerConnection(self), sock=listener
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.close()
        running = tuple(self._calls)
        for call in running:
            call.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        remove(self.path, self._inode)

    def announce(self, event: Event) -> None:
        """Send `event` to every client; one that does not read misses it and is told so (counted)."""
        message = frame(encode(Announced(type(event).__name__, msgspec.Raw(encode(event)))))
        for connection in self._connections:
            self.events_missed += connection.announce(message)

    def joined(self, connection: _ServerConnection) -> None:
        self._connections.add(connection)
        self.abandoned.clear()
        self.occupied.set()

    def left(self, connection: _ServerConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self.occupied.clear()
            self.abandoned.set()

    def start(self, call: Call) -> asyncio.Task[bytes]:
        """Run a call; the task's result is the encoded answer, it never fails."""
        task = asyncio.create_task(self._run(call), name=f"{call.desk}.{call.method}")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    async def _run(self, call: Call) -> bytes:
        where = f"{call.desk}.{call.method}"
        methods, desk = self._desks.get(call.desk, ({}, None))
        method = methods.get(call.method)
        if method is None:
            return encode(Failed(call.id, f"there is no {where} at {self.path.name}"))
        try:
            values = method.arguments.decode(call.arguments)
            named = dict(zip(method.signature.parameters, values, strict=True))
            result = await getattr(desk, call.method)(**named)
            answer = encode(Answer(call.id, msgspec.Raw(encode(result))))
        except Refusal as refusal:
            return encode(Refused(call.id, refusal.kind, refusal.detail, refusal.retry_after))
        except Exception as error:
            _log.exception("desk failed", call=where)
            return encode(Failed(call.id, f"desk failed: {where}: {type(error).__name__}: {error}"))
        if len(answer) > FRAME_BYTES:
            return encode(Failed(call.id, f"the answer of {where} is too long: {len(answer)} bytes"))
        return answer


class _ServerConnection(asyncio.Protocol):
    """One client: its frames, its calls in flight, and whether it reads what it is sent."""

    def __init__(self, server: DeskServer) -> None:
        self._server = server
        self._frames = FrameReader(FRAME_BYTES)
        self._running: dict[int, asyncio.Task[bytes]] = {}
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._missed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        try:
            peer_of(transport)
        except UntrustedPeer as error:
            _log.warning("connection refused", socket=str(self._server.path), reason=str(error))
            cast(asyncio.Transport, transport).abort()
            return
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._transport.set_write_buffer_limits(high=EVENTS_UNSENT_BYTES)
        self._transport.write(frame(encode(Hello())))
        self._server.joined(self)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        try:
            for payload in self._frames.feed(data):
                self._take(TO_SERVER.decode(payload))
        except (FrameTooLong, msgspec.MsgspecError) as error:
            _log.error("client speaks nonsense", socket=str(self._server.path), reason=str(error))
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        for task in self._running.values():
            task.cancel()
        if self._transport is not None:
            self._transport = None
            self._server.left(self)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._missed and self._transport is not None:
            self._transport.write(frame(encode(Missed(self._missed))))
            self._missed = 0

    def announce(self, message: bytes) -> int:
        """Send an encoded event; returns how many were missed (0 or 1)."""
        if self._transport is None:
            return 0
        if not self._writable:
            self._missed += 1
            return 1
        self._transport.write(message)
        return 0

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _take(self, message: ToServer) -> None:
        if isinstance(message, Cancel):
            if (running := self._running.get(message.id)) is not None:
                running.cancel()
            return
        task = self._server.start(message)
        self._running[message.id] = task
        if len(self._running) == CALLS_IN_FLIGHT and self._transport is not None:
            self._transport.pause_reading()
        task.add_done_callback(lambda task: self._finished(message.id, task))

    def _finished(self, id: int, task: asyncio.Task[bytes]) -> None:
        if len(self._running) == CALLS_IN_FLIGHT and self._transport is not None:
            self._transport.resume_reading()
        self._running.pop(id, None)
        if not task.cancelled() and self._transport is not None:
            self._transport.write(frame(task.result()))
