"""BFCP sockets of one network: a UDP port for all, a TCP port whose connections each serve one participant.

    listener = BfcpListener(BfcpSettings("extranet", "10.0.0.5", 5070, 5070, "203.0.113.7"), floors)
    await listener.start(scope)              # scope: the TaskScope that owns the connections
    await listener.aclose()

Messages are handed to `Floors` as they come; nothing is queued here. A connection that says nothing sensible,
or does not read what it is sent, is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from dataclasses import dataclass

from foundation.tasks import TaskScope
from protocols.bfcp.attributes import MalformedBfcp
from protocols.bfcp.message import StreamFramer
from signaling.floor_sections import FloorAddress
from signaling.floors import Arrival, Floors

_DATAGRAMS_A_TURN = 64
LONGEST = 8192
"""Bytes of one message over a stream; requests have a few dozen."""


@dataclass(frozen=True, slots=True)
class BfcpSettings:
    """Where one network listens; a port of None switches its transport off, 0 takes any free one."""

    network: str
    host: str
    udp_port: int | None
    tcp_port: int | None
    advertised_host: str | None = None
    dscp: int = 0


@dataclass(frozen=True, slots=True)
class BfcpLimits:
    """Bounds on connections: numbers, seconds until the first good message, bytes that a peer leaves
    unread."""

    connections: int = 1024
    of_one_host: int = 64
    first_message: float = 15.0
    strange: int = 8
    unsent: int = 64 * 1024


@dataclass(slots=True)
class BfcpCounters:
    """Since the start, for metrics."""

    datagrams_unsent: int = 0
    connections_refused: int = 0
    connections_closed: int = 0


class BfcpStream:
    """One connection, as `Floors` sees it."""

    def __init__(self, host: str, writer: asyncio.StreamWriter, limits: BfcpLimits) -> None:
        self._host = host
        self._writer = writer
        self._limits = limits

    @property
    def host(self) -> str:
        return self._host

    def send(self, data: bytes) -> None:
        if self._writer.is_closing():
            return
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > self._limits.unsent:
            self._writer.transport.abort()

    def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()


class BfcpListener:
    """UDP and TCP of one network; a door of `floors` from its making on."""

    def __init__(self, settings: BfcpSettings, floors: Floors, limits: BfcpLimits | None = None) -> None:
        self.settings = settings
        self.counters = BfcpCounters()
        self._floors = floors
        self._limits = limits or BfcpLimits()
        self._udp: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._ports: dict[socket.SocketKind, int] = {}
        self._streams: dict[BfcpStream, None] = {}
        self._scope: TaskScope | None = None
        floors.serves(settings.network, self)

    @property
    def address(self) -> FloorAddress:
        """What peers are told."""
        settings = self.settings
        udp = self._ports.get(socket.SOCK_DGRAM, settings.udp_port)
        tcp = self._ports.get(socket.SOCK_STREAM, settings.tcp_port)
        return FloorAddress(settings.advertised_host or settings.host, udp, tcp)

    @property
    def connections(self) -> int:
        return len(self._streams)

    async def start(self, scope: TaskScope) -> None:
        """Raises OSError that names the address when a port is taken."""
        self._scope = scope
        settings = self.settings
        try:
            if settings.udp_port is not None:
                self._udp = self._bound(socket.SOCK_DGRAM, settings.udp_port)
                asyncio.get_running_loop().add_reader(self._udp.fileno(), self._read_datagrams)
            if settings.tcp_port is not None:
                sock = self._bound(socket.SOCK_STREAM, settings.tcp_port)
                self._server = await asyncio.start_server(self._accept, sock=sock, backlog=128)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close every socket; connection tasks end by themselves."""
        if self._udp is not None:
            asyncio.get_running_loop().remove_reader(self._udp.fileno())
            self._udp.close()
            self._udp = None
        if self._server is not None:
            self._server.close()
            self._server = None
        for stream in tuple(self._streams):
            stream.close()

    def send(self, host: str, port: int, data: bytes) -> None:
        """One datagram; what cannot be sent is lost like any, and repeated like any."""
        if self._udp is None:
            return
        try:
            self._udp.sendto(data, (host, port))
        except (OSError, UnicodeError, OverflowError):
            self.counters.datagrams_unsent += 1

    # --- inside -----------------------------------------------------------------------------------------

    def _bound(self, kind: socket.SocketKind, port: int) -> socket.socket:
        settings = self.settings
        version6 = ":" in settings.host
        sock = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, kind)
        sock.setblocking(False)
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((settings.host, port))
        except OSError as error:
            sock.close()
            where = f"BFCP cannot listen on {settings.host} port {port} ({settings.network})"
            raise OSError(error.errno, f"{where}: {error.strerror}") from error
        level, option = (
            (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if version6 else (socket.IPPROTO_IP, socket.IP_TOS)
        )
        sock.setsockopt(level, option, settings.dscp << 2)
        self._ports[kind] = sock.getsockname()[1]
        return sock

    def _read_datagrams(self) -> None:
        assert self._udp is not None
        for _ in range(_DATAGRAMS_A_TURN):
            try:
                data, address = self._udp.recvfrom(65_535)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EBADF:
                    return
                continue  # an ICMP error of an earlier datagram
            self._floors.take(Arrival(self.settings.network, address[0], address[1]), data)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        of_host = sum(stream.host == peer[0] for stream in self._streams) if peer else 0
        full = len(self._streams) >= self._limits.connections or of_host >= self._limits.of_one_host
        if peer is None or full or self._scope is None:
            self.counters.connections_refused += 1
            writer.transport.abort()
            return
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = BfcpStream(peer[0], writer, self._limits)
        self._streams[stream] = None
        self._scope.spawn(f"bfcp {peer[0]}", self._follow(stream, peer[1], reader))

    async def _follow(self, stream: BfcpStream, port: int, reader: asyncio.StreamReader) -> None:
        arrival = Arrival(self.settings.network, stream.host, port, stream)
        framer = StreamFramer(LONGEST)
        deadline: float | None = asyncio.get_running_loop().time() + self._limits.first_message
        strange = 0
        try:
            while strange < self._limits.strange:
                async with asyncio.timeout_at(deadline):
                    data = await reader.read(16_384)
                if not data:
                    return
                for message in framer.feed(data):
                    if self._floors.take(arrival, message):
                        deadline = None  # it may be silent for the whole meeting
                    else:
                        strange += 1
        except (TimeoutError, OSError, MalformedBfcp):
            return
        finally:
            self.counters.connections_closed += 1
            self._streams.pop(stream, None)
            stream.close()
            self._floors.broken(stream)
