"""The calling end of a desk socket; see `desk_socket` for its use."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import structlog

from foundation.desk_messages import (
    EVENTS,
    FRAME_BYTES,
    TO_CLIENT,
    Announced,
    Answer,
    Call,
    Cancel,
    Failed,
    Hello,
    Method,
    Missed,
    Refused,
    ToClient,
    encode,
    methods_of,
)
from foundation.desks import Refusal, RefusalKind
from foundation.events import BusReconnected, Event
from foundation.private_socket import FrameReader, FrameTooLong, UntrustedPeer, frame, peer_of

__all__ = ["DeskClient", "DeskFailed", "EventQueue"]

CALLS_IN_FLIGHT = 512
EVENTS_UNREAD = 4096
CALL_TIMEOUT = 10.0
CONNECT_INTERVAL = 0.03
GREETING_LIMIT = 2.0
"""Seconds for a server's first word, after which it is taken to hang."""

_log = structlog.get_logger("desk_client")
_Desk = TypeVar("_Desk")


class DeskFailed(Exception):
    """The desk raised something that is no Refusal: a defect over there, described in its log."""


class EventQueue:
    """The events a server announced, oldest first; bounded. What was missed shows as BusReconnected."""

    def __init__(self, length: int = EVENTS_UNREAD) -> None:
        self.missed = 0
        self._length = length
        self._events: deque[Event] = deque()
        self._gap = False
        self._ended = False
        self._arrived = asyncio.Event()

    def put(self, event: Event) -> None:
        if len(self._events) >= self._length:
            self._events.popleft()
            self.skipped(1)
        self._events.append(event)
        self._arrived.set()

    def skipped(self, count: int) -> None:
        """So many events are lost."""
        self.missed += count
        self._gap = True
        self._arrived.set()

    def end(self) -> None:
        self._ended = True
        self._arrived.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._gap:
                self._gap = False
                return BusReconnected()
            if self._events:
                return self._events.popleft()
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()


class DeskClient:
    """Calls the desks at `path`; `closed` is set whenever there is no connection.

    `pid` is the serving process as the kernel names it, None without a connection. `timeout`: seconds
    a call may take before it is `Refusal(WORKER_LOST)`.
    """

    def __init__(self, path: Path, *, timeout: float = CALL_TIMEOUT) -> None:
        self.path = path
        self.name = path.stem
        self.timeout = timeout
        self.pid: int | None = None
        self.closed = asyncio.Event()
        self.closed.set()
        self.events = EventQueue()
        self._connection: _ClientConnection | None = None
        self._ids = itertools.count(1)

    def desk(
        self, protocol: Callable[..., _Desk], name: str | None = None, *, timeout: float | None = None
    ) -> _Desk:
        """An object that fulfils `protocol` by calling desk `name` (the Protocol's name unless given).

        `protocol` is the Protocol class itself. Raises TypeError if it cannot cross.
        """
        desk_name: str = name if name is not None else getattr(protocol, "__name__", str(protocol))
        methods = {
            method.name: self._caller(desk_name, method, timeout) for method in methods_of(protocol).values()
        }
        proxy = type(
            f"{desk_name}@{self.name}", (), {key: staticmethod(call) for key, call in methods.items()}
        )
        return cast(_Desk, proxy())

    async def connect(self, wait: float | None = 0.0) -> int:
        """Connect, trying again for `wait` seconds (None: for ever); the serving process's id.

        Raises Refusal(WORKER_LOST) when nobody serves there in time.
        """
        if self.pid is not None:
            return self.pid
        loop = asyncio.get_running_loop()
        end = None if wait is None else loop.time() + wait
        while True:
            try:
                self._connection = await self._greeted_connection()
            except (OSError, TimeoutError, UntrustedPeer) as error:
                reason = getattr(error, "strerror", None) or str(error) or "it does not answer"
            else:
                self.pid = self._connection.pid
                self.closed.clear()
                return self.pid
            if end is not None and loop.time() >= end:
                raise Refusal(RefusalKind.WORKER_LOST, f"{self.name} cannot be reached: {reason}")
            await asyncio.sleep(CONNECT_INTERVAL)

    async def _greeted_connection(self) -> _ClientConnection:
        """A connection on which the server has spoken. Raises OSError, TimeoutError, UntrustedPeer."""
        _, connection = await asyncio.get_running_loop().create_unix_connection(
            lambda: _ClientConnection(self), str(self.path)
        )
        try:
            async with asyncio.timeout(GREETING_LIMIT):
                await connection.greeted.wait()
            connection.check()
        except BaseException:
            connection.close()
            raise
        return connection

    async def aclose(self) -> None:
        """Leave; calls in flight are refused, the events end."""
        if self._connection is not None:
            self._connection.close()
            self.lost(self._connection)
        self.events.end()

    def lost(self, connection: _ClientConnection) -> None:
        """The connection's own word that it is gone."""
        if self._connection is connection:
            self._connection = None
            self.pid = None
            self.closed.set()

    def _caller(
        self, desk: str, method: Method, timeout: float | None
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        count = len(method.signature.parameters)

        async def call(*args: object, **named: object) -> Any:
            if named or len(args) != count:
                bound = method.signature.bind(*args, **named)
                bound.apply_defaults()
                args = tuple(bound.arguments.values())
            arguments = msgspec.Raw(encode(args))
            message = Call(next(self._ids), desk, method.name, arguments)
            value = await self._call(message, self.timeout if timeout is None else timeout)
            try:
                return method.result.decode(value)
            except msgspec.MsgspecError as error:
                raise DeskFailed(f"the answer of {desk}.{method.name} is not as declared: {error}") from None

        call.__name__ = method.name
        return call

    async def _call(self, call: Call, timeout: float) -> msgspec.Raw:
        where = f"{call.desk}.{call.method}"
        connection = self._connection
        if connection is None:
            raise Refusal(RefusalKind.WORKER_LOST, f"{self.name} is not there to be asked for {where}")
        try:
            async with asyncio.timeout(timeout):
                return await connection.call(call)
        except TimeoutError:
            detail = f"{self.name} did not answer {where} within {timeout:g} s"
            raise Refusal(RefusalKind.WORKER_LOST, detail) from None


class _ClientConnection(asyncio.Protocol):
    """One connection's life: the calls that wait for their answers."""

    def __init__(self, client: DeskClient) -> None:
        self.pid = 0
        self.greeted = asyncio.Event()
        self._refused: UntrustedPeer | None = None
        self._client = client
        self._frames = FrameReader(FRAME_BYTES)
        self._waiting: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        try:
            self.pid = peer_of(transport).pid
        except UntrustedPeer as error:
            self._refused = error
            self.greeted.set()

    def check(self) -> None:
        """After the greeting: raises UntrustedPeer, or ConnectionResetError if it is gone again."""
        if self._refused is not None:
            raise self._refused
        if self._transport is None:
            raise ConnectionResetError("it went away at once")

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._frames.feed(data):
                self._take(TO_CLIENT.decode(payload))
        except (FrameTooLong, msgspec.MsgspecError) as error:
            _log.error("server speaks nonsense", socket=str(self._client.path), reason=str(error))
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.greeted.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                detail = f"{self._client.name} went away in the middle of a call"
                waiting.set_exception(Refusal(RefusalKind.WORKER_LOST, detail))
        self._client.lost(self)

    def close(self) -> None:
        """Drop the connection; the calls in flight are refused before this returns."""
        if self._transport is not None:
            self._transport.abort()
            self.connection_lost(None)

    async def call(self, call: Call) -> msgspec.Raw:
        """The encoded answer. Raises Refusal, DeskFailed."""
        message = frame(encode(call))
        if len(message) > FRAME_BYTES:
            raise DeskFailed(f"the arguments of {call.desk}.{call.method} are too long: {len(message)} bytes")
        if len(self._waiting) >= CALLS_IN_FLIGHT:
            detail = f"{self._client.name} has {CALLS_IN_FLIGHT} calls to answer first"
            raise Refusal(RefusalKind.NO_CAPACITY, detail, retry_after=1)
        waiting: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._waiting[call.id] = waiting
        self._send(message)
        try:
            return await waiting
        except asyncio.CancelledError:
            self._send(frame(encode(Cancel(call.id))))
            raise
        finally:
            del self._waiting[call.id]

    def _send(self, message: bytes) -> None:
        if self._transport is not None:
            self._transport.write(message)

    def _take(self, message: ToClient) -> None:
        match message:
            case Hello():
                self.greeted.set()
            case Announced(name, event):
                if (decoder := EVENTS.get(name)) is not None:
                    self._client.events.put(decoder.decode(event))
                else:
                    _log.error("unknown event", socket=str(self._client.path), event=name)
            case Missed(count):
                self._client.events.skipped(count)
            case Answer(id, value):
                if (waiting := self._pending(id)) is not None:
                    waiting.set_result(value)
            case Refused(id, kind, detail, retry_after):
                if (waiting := self._pending(id)) is not None:
                    waiting.set_exception(Refusal(kind, detail, retry_after))
            case Failed(id, detail):
                if (waiting := self._pending(id)) is not None:
                    waiting.set_exception(DeskFailed(detail))

    def _pending(self, id: int) -> asyncio.Future[msgspec.Raw] | None:
        """The call that waits for this answer, unless it was given up."""
        waiting = self._waiting.get(id)
        return waiting if waiting is not None and not waiting.done() else None
