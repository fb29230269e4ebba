"""What an RTSP connection and its server ask of each other, and the terms that both know."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from media.pacer import PacingClock
from media.rtp_socket import PortRange
from media.stream import Stream
from protocols.rtsp.message import Request
from stream_relay.rtsp_outlet import OutletPlayer, RtspOutlet

_PORTS = PortRange(40_000, 49_999)


class Catalogue(Protocol):
    def open(self, path: str, user: str | None) -> AbstractAsyncContextManager[Sequence[Stream]]:
        """The streams under a path, pictures first, held open while the context is.

        `user` proved who it is; None where nobody is asked to. Entering waits for a source on demand, and
        raises NoSuchStream (404, also for what this user may not see) or StreamUnavailable (503).
        """
        ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who asks, once proved; else the challenges to answer 401 with, or the seconds until one who guessed
    too often may try again."""

    user: str | None = None
    challenges: tuple[str, ...] = ()
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class RtspLimits:
    """Bounds of a client, in seconds and bytes, and how many there may be: `connections`, `of_one` of them
    from one address. `ports`, `dscp` and `udp_bitrate` (bit/s on IP level, to which a player's packets are
    paced) are for UDP."""

    connections: int = 500
    of_one: int = 150
    queue_bytes: int = 8 << 20
    queue_seconds: float = 3.0
    stalled_after: float = 10.0
    session_timeout_said: int = 60
    session_timeout: float = 80.0
    ports: PortRange = _PORTS
    dscp: int = 0
    udp_bitrate: int = 16_000_000


class RtspClient(OutletPlayer, Protocol):
    """One connection, as its server sees it. `opened` is the path that it plays and as whom, `address`
    where it comes from."""

    opened: tuple[str, str | None] | None
    address: str

    async def serve(self) -> None:
        """Until the client has gone."""
        ...

    def check(self, now: float) -> None:
        """Called every now and then: ends what has stalled or gone silent."""
        ...

    def disconnect(self, reason: str) -> None: ...


class RtspHost(Protocol):
    """The server, as its connections see it; `dropped` and `disconnected` are its counts."""

    catalogue: Catalogue
    limits: RtspLimits
    dropped: int
    disconnected: int

    @property
    def clock(self) -> PacingClock: ...

    def connected(self, connection: RtspClient) -> asyncio.Task[None]:
        """A connection is there: it is served from now on."""
        ...

    def admit(self, request: Request, source: str) -> Admitted:
        """Whether a request from this address may pass, and as whose."""
        ...

    def outlet(self, stream: Stream, index: int, *, tcp: bool) -> RtspOutlet:
        """The stream's outlet for this transport, made for its first player; given back by `leave`."""
        ...

    def leave(self, outlet: RtspOutlet, connection: RtspClient) -> None: ...
