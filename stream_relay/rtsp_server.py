"""An RTSP server over any Streams, TCP interleaved and UDP.

    server = RtspServer(catalogue)                     # what is served under which path, to whom
    await server.start("192.0.2.1", 8554)
    ...
    await server.aclose()

A frame is printed once for all players of a transport and leaves in one write a player. A player that is too
slow is dropped to the next key frame, after `stalled_after` seconds disconnected; nobody else waits for it.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable

from foundation.address_bounds import AddressBounds
from foundation.throttle import AttemptThrottle
from media.pacer import PacingClock
from media.stream import Stream
from protocols.rtsp.message import Request
from protocols.sip.digest import DigestServer, Outcome, Secret
from protocols.sip.message import Request as SipRequest
from stream_relay.rtsp_connection import RtspConnection
from stream_relay.rtsp_host import Admitted, Catalogue, RtspClient, RtspLimits
from stream_relay.rtsp_outlet import RtspOutlet

__all__ = ["Catalogue", "RtspLimits", "RtspServer"]

_TICK = 0.25
_TICKS_OF_CHECK = 4
"""Clients have seconds to spare; reports, the first of all, are for lip synchronisation."""

_DEFAULT_LIMITS = RtspLimits()


class RtspServer:
    """See the module's head. With `secret_of` (user name to secret, None for unknown ones) clients prove who
    they are by digest; `attempts` slows down those who guess. `dropped` counts frames, `disconnected` clients
    that were ended, `refused` those beyond the limits.
    `crowd` bounds clients of one address."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        limits: RtspLimits = _DEFAULT_LIMITS,
        secret_of: Callable[[str], Secret | None] | None = None,
        realm: str = "Anshi",
        attempts: AttemptThrottle | None = None,
        crowd: AddressBounds | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.limits = limits
        self._crowd = crowd or AddressBounds(limits.of_one)
        self.dropped = self.disconnected = self.refused = 0
        self._secret_of = secret_of
        self._attempts = attempts
        self._digest = DigestServer(realm, secrets.token_bytes(32))
        self._connections: dict[RtspClient, asyncio.Task[None]] = {}
        self._outlets: dict[tuple[Stream, bool], tuple[RtspOutlet, int]] = {}
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._clock: PacingClock | None = None

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def port(self) -> int:
        """Where it listens. Raises RuntimeError before `start`."""
        if self._server is None:
            raise RuntimeError("the RTSP server was not started")
        return int(self._server.sockets[0].getsockname()[1])

    def set_realm(self, realm: str) -> None:
        """Ask for passwords of another realm from now on."""
        if realm != self._digest.realm:
            self._digest = DigestServer(realm, secrets.token_bytes(32))

    def revoke(self, may_play: Callable[[str, str | None], bool]) -> None:
        """Disconnect whoever plays a path that (path, user) may not any more."""
        for connection in tuple(self._connections):
            if connection.opened is not None and not may_play(*connection.opened):
                connection.disconnect("it may not play this any more")

    @property
    def clock(self) -> PacingClock:
        """Paces the UDP players. Raises RuntimeError before `start`."""
        if self._clock is None:
            raise RuntimeError("the RTSP server was not started")
        return self._clock

    async def start(self, host: str, port: int) -> None:
        """Raises OSError when the address cannot be bound."""
        loop = asyncio.get_running_loop()
        self._clock = PacingClock()
        self._server = await loop.create_server(lambda: RtspConnection(self), host, port)
        self._ticker = asyncio.create_task(self._tick(), name="rtsp.ticker")

    async def aclose(self) -> None:
        """Ends every connection; safe to call twice."""
        if self._server is not None:
            self._server.close()
        tasks = [*self._connections.values(), *([self._ticker] if self._ticker else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._clock is not None:
            self._clock.close()

    # -- for connections

    def connected(self, connection: RtspClient) -> asyncio.Task[None]:
        task = asyncio.create_task(connection.serve(), name="rtsp.connection")
        self._connections[connection] = task
        counted = self._crowd.enter(connection.address)

        def gone(_: asyncio.Task[None]) -> None:
            self._connections.pop(connection, None)
            if counted:
                self._crowd.leave(connection.address)

        task.add_done_callback(gone)
        if not counted or len(self._connections) > self.limits.connections:
            self.refused += 1
            connection.disconnect("too many clients" if counted else "too many clients of this address")
        return task

    def admit(self, request: Request, source: str) -> Admitted:
        """Whether a request from this address may pass, and as whose."""
        if self._secret_of is None:
            return Admitted()
        now, stale = time.monotonic(), False
        claim = self._digest.claim(request.headers.all("Authorization"))
        if claim is not None:
            key = f"{source} {claim.username}"
            if self._attempts is not None and (wait := self._attempts.wait(key)):
                return Admitted(wait=wait)
            asked = SipRequest(request.method, request.uri, body=request.body)
            outcome = self._digest.check(claim, self._secret_of(claim.username), asked, now).outcome
            self._count(key, outcome)
            if outcome is Outcome.VERIFIED:
                return Admitted(claim.username)
            stale = outcome is Outcome.STALE
        # MD5 alone: of two challenges some players take the first, ffmpeg the last, and few know SHA-256.
        return Admitted(challenges=tuple(str(one) for one in self._digest.challenge(now, stale, ("MD5",))))

    def _count(self, key: str, outcome: Outcome) -> None:
        if self._attempts is None:
            return
        if outcome is Outcome.VERIFIED:
            self._attempts.succeeded(key)
        elif outcome is Outcome.WRONG:
            self._attempts.attempt(key)

    def outlet(self, stream: Stream, index: int, *, tcp: bool) -> RtspOutlet:
        """The stream's outlet for this transport, made for its first player; given back by `leave`."""
        known = self._outlets.get((stream, tcp))
        outlet, users = known or (RtspOutlet(stream, index, tcp=tcp), 0)
        self._outlets[stream, tcp] = (outlet, users + 1)
        return outlet

    def leave(self, outlet: RtspOutlet, connection: RtspClient) -> None:
        outlet.leave(connection)
        key = (outlet.stream, outlet.tcp)
        _, users = self._outlets.pop(key)
        if users > 1:
            self._outlets[key] = (outlet, users - 1)
        else:
            outlet.close()

    async def _tick(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(_TICK)
            now, wall_clock = time.monotonic(), time.time()
            for outlet, _ in tuple(self._outlets.values()):
                outlet.report(now, wall_clock)
            if number % _TICKS_OF_CHECK == 0:
                for connection in tuple(self._connections):
                    connection.check(now)
