"""Whom the edge lets in: a bounded number of connections, none of which may waste its place.

    door = Door(viewers=5000);  door.open(runner.server)
    server = await loop.create_server(door.guard, ...)
    app = web.Application(middlewares=[door.asked]);  scope.supervise("door", door.run)

Beyond the bound a connection is told 503 and to come again. A connection must bring its first request within
HEAD_SECONDS, and may not have an answer lie unread for UNREAD_SECONDS; between requests aiohttp's own
keep-alive limit counts. What is not in time is aborted and counted in `expelled`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

HEAD_SECONDS = 10.0
UNREAD_SECONDS = 30.0
"""Longer than any part or segment takes a viewer who can watch at all."""
SWEEP_SECONDS = 2.0
RETRY_SECONDS = 10
TURNED_AWAY = 256
"""Connections beyond the bound that are answered at a time; further ones are closed without a word."""
_FULL = (
    "HTTP/1.1 503 Service Unavailable\r\n"
    f"Retry-After: {RETRY_SECONDS}\r\n"
    "Access-Control-Allow-Origin: *\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: {}\r\n"
    "Connection: close\r\n\r\n"
    "{}"
)
_WORDS = "as many viewers are connected as this service holds"
FULL = _FULL.format(len(_WORDS), _WORDS).encode()

_log = structlog.get_logger("edge")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Door:
    """`held` connections now; `refused` for want of room and `expelled` so far."""

    def __init__(self, viewers: int) -> None:
        self.refused = 0
        self.expelled = 0
        self._viewers = viewers
        self._guards: dict[object, _Guard] = {}
        self._turned_away = 0
        self._server: Callable[[], asyncio.Protocol] | None = None

    @property
    def held(self) -> int:
        return len(self._guards)

    def open(self, server: Callable[[], asyncio.Protocol]) -> None:
        """`server` makes the protocol of a connection (aiohttp's web.Server)."""
        self._server = server

    def guard(self) -> asyncio.Protocol:
        """The protocol of a connection that just came."""
        return _Guard(self)

    @web.middleware
    async def asked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A request is whole: from here on keep-alive's own limit counts. What fails says nothing of the
        inside, and is logged."""
        guard = self._guards.get(request.protocol)
        if guard is not None:
            guard.head_by = math.inf
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except Exception:
            _log.exception("request_failed", method=request.method, path=request.path)
            raise web.HTTPInternalServerError(text="the service failed; its log says why") from None

    async def run(self) -> None:
        """Look after the connections until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for guard in tuple(self._guards.values()):
                if guard.late(now):
                    self.expelled += 1
                    guard.abort()

    def _admit(self, guard: _Guard) -> asyncio.Protocol | None:
        if len(self._guards) >= self._viewers or self._server is None:
            self.refused += 1
            return None
        inner = self._server()
        self._guards[inner] = guard
        return inner

    def _leave(self, inner: asyncio.Protocol) -> None:
        self._guards.pop(inner, None)

    def _may_turn_away(self) -> bool:
        if self._turned_away >= TURNED_AWAY:
            return False
        self._turned_away += 1
        return True

    def _turned(self) -> None:
        self._turned_away -= 1


class _Guard(asyncio.Protocol):
    """One connection: aiohttp's protocol behind what the door wants to know."""

    def __init__(self, door: Door) -> None:
        self.head_by = math.inf
        self._door = door
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._unread_since: float | None = None
        self._turning = False
        self._giving_up: asyncio.TimerHandle | None = None

    def late(self, now: float) -> bool:
        if now > self.head_by:
            return True
        waiting = self._transport is not None and self._transport.get_write_buffer_size() > 0
        if not waiting:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        return self._unread_since is not None and now - self._unread_since > UNREAD_SECONDS

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "abort")
        self._transport = transport  # type: ignore[assignment]  # uvloop's are no asyncio.Transport by class
        self._inner = self._door._admit(self)
        if self._inner is not None:
            self.head_by = time.monotonic() + HEAD_SECONDS
            self._inner.connection_made(transport)
        elif self._door._may_turn_away():
            self._turning = True  # answered once it has asked: a close before that would be a reset
            loop = asyncio.get_running_loop()
            self._giving_up = loop.call_later(SWEEP_SECONDS, self.abort)
        else:
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
        elif self._turning and self._transport is not None and not self._transport.is_closing():
            self._transport.write(FULL)
            self._transport.close()

    def eof_received(self) -> bool | None:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
        if self._turning:
            self._turning = False
            self._door._turned()
        if self._inner is not None:
            self._door._leave(self._inner)
            self._inner.connection_lost(error)
        self._inner = self._transport = None
