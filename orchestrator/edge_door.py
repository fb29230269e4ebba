"""Whom the edge and main let in: a bounded number of connections, none of which may waste its place.

    door = Door(viewers=5000, crowd=AddressBounds(500), proxies=TrustedProxies(()))
    door.open(runner.server, listening(host, port), context)      # a bound socket; TLS with a context
    app = web.Application(middlewares=[door.asked]);  scope.supervise("door", door.run)
    await door.aclose()

A connection has its place before TLS begins, so that half of a handshake is bounded like everything else.
Beyond the bounds, of all and of one address, it is told to come again. It must shake hands within
HANDSHAKE_SECONDS, bring its first request within HEAD_SECONDS, and take LEAST_READ of an answer in every
UNREAD_SECONDS, unless the door is `patient`; between requests aiohttp's own keep-alive limit counts. What is
not in time is aborted and counted in `expelled`. What a proxy of ours brings is bounded by the address that
it names, by requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from enum import Enum

import structlog
from aiohttp import web

from foundation.address_bounds import AddressBounds
from orchestrator.peer_address import TrustedProxies, host_of

BACKLOG = 1024
KEEP_ALIVE_SECONDS = 30.0
HANDSHAKE_SECONDS = 5.0
HEAD_SECONDS = 10.0
UNREAD_SECONDS = 30.0
"""Longer than any part or segment takes a viewer who can watch at all."""
LEAST_READ = 128 << 10
SHUTDOWN_SECONDS = 5.0
SWEEP_SECONDS = 2.0
RETRY_SECONDS = 10
ACCEPT_PAUSE = 0.2
"""After a refusal of the kernel's (no descriptor is left), until one may have come free."""
TURNED_AWAY = 256
"""Connections beyond the bounds that are answered at a time; further ones are closed without a word."""
_ANSWER = (
    "HTTP/1.1 {}\r\n"
    f"Retry-After: {RETRY_SECONDS}\r\n"
    "Access-Control-Allow-Origin: *\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: {}\r\n"
    "Connection: close\r\n\r\n"
    "{}"
)
_TCP_ACKNOWLEDGED = struct.Struct("=Q")
_TCP_UNACKNOWLEDGED = struct.Struct("=I")
_ACKNOWLEDGED_AT, _UNACKNOWLEDGED_AT, _UNSENT_AT, _TCP_INFO_BYTES = 120, 24, 144, 148
"""Where linux/tcp.h has tcpi_bytes_acked, tcpi_unacked and tcpi_notsent_bytes in struct tcp_info."""

_log = structlog.get_logger("door")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Verdict(Enum):
    """What becomes of a newcomer; the value is the status that it is told."""

    ADMITTED = ""
    FULL = "503 Service Unavailable"
    CROWDED = "429 Too Many Requests"


class Door:
    """`held` connections now, those that shake hands among them; `refused` for want of room, and `expelled`
    so far. `crowd` bounds what comes from one address; `who` comes here, for people; a `patient` door does
    not mind who leaves an answer unread."""

    def __init__(
        self,
        viewers: int,
        crowd: AddressBounds,
        proxies: TrustedProxies,
        *,
        who: str = "viewers",
        patient: bool = False,
    ) -> None:
        self.refused = 0
        self.expelled = 0
        self.patient = patient
        self._words = {
            Verdict.FULL: f"as many {who} are connected as this service holds",
            Verdict.CROWDED: f"as many {who} are connected from this address as one may have",
        }
        self._viewers = viewers
        self._crowd = crowd
        self._proxies = proxies
        self._guards: set[_Guard] = set()
        self._by_inner: dict[object, _Guard] = {}
        self._turned_away = 0
        self._server: Callable[[], asyncio.Protocol] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None

    @property
    def held(self) -> int:
        return len(self._guards)

    def open(
        self,
        server: Callable[[], asyncio.Protocol],
        listener: socket.socket,
        context: ssl.SSLContext | None,
    ) -> None:
        """Accept from now on. `server` makes the protocol of a connection (aiohttp's web.Server)."""
        self._server = server
        self._listener = listener
        self._start(self._accept(listener, context), "door.accept")

    async def aclose(self) -> None:
        """Nobody else comes in; handshakes under way end. Who is inside is the server's to end."""
        for task in (tasks := tuple(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    @web.middleware
    async def asked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A request is whole: from here on keep-alive's own limit counts. What fails says nothing of the
        inside, and is logged."""
        guard = self._by_inner.get(request.protocol)
        if guard is not None:
            guard.head_by = math.inf
        address = self._proxies.address(request)
        brought = guard is not None and address != guard.address
        if brought and not self._crowd.enter(address):
            headers = {"Retry-After": str(RETRY_SECONDS), "Access-Control-Allow-Origin": "*"}
            raise web.HTTPTooManyRequests(text=self._words[Verdict.CROWDED], headers=headers)
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except Exception:
            _log.exception("request_failed", method=request.method, path=request.path)
            raise web.HTTPInternalServerError(text="the service failed; its log says why") from None
        finally:
            if brought:
                self._crowd.leave(address)

    async def run(self) -> None:
        """Look after the connections until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for guard in tuple(self._guards):
                if guard.late(now):
                    self.expelled += 1
                    guard.abort()

    # --- coming and going -------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is left, or the newcomer has gone already
                _log.warning("accept_failed", why=str(error))
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            address = host_of(str(peer[0])) or str(peer[0])
            guard = _Guard(self, address, self._verdict(address))
            if guard.verdict is Verdict.ADMITTED:
                self._guards.add(guard)
            elif self._turned_away < TURNED_AWAY:
                self._turned_away += 1
            else:
                connection.close()
                continue
            self._start(self._shake_hands(guard, connection, context), "door.handshake")

    def _verdict(self, address: str) -> Verdict:
        if len(self._guards) >= self._viewers:
            self.refused += 1
            return Verdict.FULL
        if not self._crowd.enter(address):
            self.refused += 1
            return Verdict.CROWDED
        return Verdict.ADMITTED

    async def _shake_hands(
        self, guard: _Guard, connection: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        seconds = HANDSHAKE_SECONDS if guard.verdict is Verdict.ADMITTED else SWEEP_SECONDS
        try:
            with contextlib.suppress(OSError):  # ssl.SSLError is one: nobody is there any more to be told
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: guard,
                    connection,
                    ssl=context,
                    ssl_handshake_timeout=seconds if context else None,
                    ssl_shutdown_timeout=SHUTDOWN_SECONDS if context else None,
                )
        finally:
            if not guard.connected:  # then it will not be told of its end either
                connection.close()
                self._leave(guard)

    def _start(self, work: Awaitable[None], name: str) -> None:
        task = asyncio.ensure_future(work)
        task.set_name(name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- for guards ---------------------------------------------------------------------------------

    def _answer(self, verdict: Verdict) -> bytes:
        words = self._words[verdict]
        return _ANSWER.format(verdict.value, len(words), words).encode()

    def _inside(self, guard: _Guard) -> asyncio.Protocol:
        if self._server is None:
            raise RuntimeError("the door is not open")
        inner = self._server()
        self._by_inner[inner] = guard
        return inner

    def _leave(self, guard: _Guard, inner: asyncio.Protocol | None = None) -> None:
        self._by_inner.pop(inner, None)
        if guard.verdict is not Verdict.ADMITTED:
            self._turned_away -= 1
        elif guard in self._guards:
            self._guards.remove(guard)
            self._crowd.leave(guard.address)


class _Guard(asyncio.Protocol):
    """One connection: aiohttp's protocol behind what the door wants to know."""

    def __init__(self, door: Door, address: str, verdict: Verdict) -> None:
        self.address = address
        self.verdict = verdict
        self.connected = False
        self.head_by = time.monotonic() + HEAD_SECONDS
        self._door = door
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._unread: tuple[float, int] | None = None
        self._giving_up: asyncio.TimerHandle | None = None

    def late(self, now: float) -> bool:
        """Whether no request came in time, or an answer is not read. Handshakes have their own limit."""
        if self._transport is None:
            return False
        if now > self.head_by:
            return True
        if self._door.patient:
            return False
        waiting, read = _outgoing(self._transport)
        if not waiting:
            self._unread = None
        elif self._unread is None:
            self._unread = now, read
        elif now - self._unread[0] > UNREAD_SECONDS:
            if read - self._unread[1] < LEAST_READ:
                return True
            self._unread = now, read
        return False

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connected = True
        self._transport = transport  # type: ignore[assignment]  # uvloop's are no asyncio.Transport by class
        if self.verdict is Verdict.ADMITTED:
            self._inner = self._door._inside(self)
            self._inner.connection_made(transport)
        else:  # answered once it has asked: a close before that would be a reset
            self._giving_up = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self.abort)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._door._answer(self.verdict))
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
        inner, self._inner, self._transport = self._inner, None, None
        self._door._leave(self, inner)
        if inner is not None:
            inner.connection_lost(error)


def listening(host: str, port: int) -> socket.socket:
    """Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def _outgoing(transport: asyncio.Transport) -> tuple[bool, int]:
    """Whether the peer still has to take something, and the bytes that it took so far. The kernel knows:
    buffers of ours are not empty while its own is."""
    tcp = transport.get_extra_info("socket")
    try:
        told = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except (OSError, AttributeError):  # it has just gone
        return False, 0
    if len(told) < _TCP_INFO_BYTES:  # Linux before 4.6
        return False, 0
    (taken,) = _TCP_ACKNOWLEDGED.unpack_from(told, _ACKNOWLEDGED_AT)
    (flying,) = _TCP_UNACKNOWLEDGED.unpack_from(told, _UNACKNOWLEDGED_AT)
    (unsent,) = _TCP_UNACKNOWLEDGED.unpack_from(told, _UNSENT_AT)
    return flying + unsent > 0, taken
