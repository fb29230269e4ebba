"""The sockets of SIP on one network: UDP, TCP and TLS, with connection reuse and bounds.

    listener = SipListener(ListenerSettings("extranet", "10.0.0.5", advertised_host="203.0.113.7"), inbox)
    await listener.start(scope)              # scope: the TaskScope that owns the connections
    flow = await listener.connect("TCP", "192.0.2.9", 5060)
    listener.send(flow, data) -> bool        # False: there is no way to that peer any more
    await listener.aclose()

What arrives stands in the shared ``inbox`` as ``Arrival`` or ``StreamBroken``. A full inbox drops datagrams
(counted; the peer repeats them) and makes streams wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
import ssl
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakValueDictionary

from foundation.tasks import TaskScope
from protocols.sip.framing import Framed, FramingLost, KeepAlive, StreamFramer

Transport = Literal["UDP", "TCP", "TLS"]

_DATAGRAMS_A_TURN = 64


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """Where one network listens; a port of None switches its transport off, 0 takes any free one.

    ``advertised_host`` and ``advertised_ports`` (by transport) are what peers are told, when a 1:1 NAT stands
    between. ``tls`` is the server's context, ``tls_client`` the one for connections we open, other than to
    ``tls_servers``, which have their own by host name.
    """

    network: str
    host: str
    udp_port: int | None = 5060
    tcp_port: int | None = 5060
    tls_port: int | None = None
    advertised_host: str | None = None
    advertised_ports: tuple[tuple[Transport, int], ...] = ()
    tls: ssl.SSLContext | None = None
    tls_client: ssl.SSLContext | None = None
    tls_servers: tuple[tuple[str, ssl.SSLContext], ...] = ()
    dscp: int = 0


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """Bounds on streams, in seconds, bytes and numbers."""

    connections: int = 2048
    idle: float = 3600.0
    first_message: float = 32.0
    message: float = 32.0
    connect: float = 5.0
    head: int = 64 * 1024
    body: int = 128 * 1024
    unsent: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Flow:
    """One way to a peer: an address on a network, and for streams the connection's serial (0: none yet)."""

    network: str
    transport: Transport
    host: str
    port: int
    connection: int = 0

    @property
    def is_reliable(self) -> bool:
        return self.transport != "UDP"


@dataclass(frozen=True, slots=True)
class Arrival:
    """The bytes of one message. ``certified`` is the subject of a verified client certificate."""

    flow: Flow
    data: bytes
    certified: str | None = None


@dataclass(frozen=True, slots=True)
class StreamBroken:
    """A stream that cannot be followed; it closes once the answer to ``head`` is out."""

    flow: Flow
    lost: FramingLost


Inbox = asyncio.Queue[Arrival | StreamBroken]


@dataclass(slots=True)
class ListenerCounters:
    """Counts since the start, for metrics."""

    datagrams_dropped: int = 0
    datagrams_unsent: int = 0
    connections_refused: int = 0
    connections_broken: int = 0
    connections_slow: int = 0


class NoWay(OSError):
    """The peer cannot be reached: no listener for the transport, or the connection failed."""


@dataclass(slots=True, eq=False)
class _Connection:
    flow: Flow
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    certified: str | None = None
    proven: bool = False
    trust: ssl.SSLContext | None = None
    """Of a TLS connection that we opened: what its peer was verified by."""


class SipListener:
    """UDP, TCP and TLS of one network."""

    def __init__(
        self, settings: ListenerSettings, inbox: Inbox, limits: ListenerLimits | None = None
    ) -> None:
        if settings.advertised_host is None and settings.host in ("0.0.0.0", "::"):
            raise ValueError(f"network {settings.network} listens on every address and must advertise one")
        self.settings = settings
        self.counters = ListenerCounters()
        self._inbox = inbox
        self._limits = limits or ListenerLimits()
        self._udp: socket.socket | None = None
        self._servers: dict[Transport, asyncio.Server] = {}
        self._ports: dict[Transport, int] = {}
        self._connections: dict[int, _Connection] = {}
        self._by_address: dict[tuple[Transport, str, int], _Connection] = {}
        self._serials = itertools.count(1)
        self._scope: TaskScope | None = None
        self._opening: WeakValueDictionary[tuple[str, str, int], asyncio.Lock] = WeakValueDictionary()

    @property
    def transports(self) -> frozenset[Transport]:
        return frozenset(self._ports)

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET

    def bound_port(self, transport: Transport) -> int:
        """The real local port."""
        return self._ports[transport]

    def advertised(self, transport: Transport) -> tuple[str, int]:
        """Host and port for Via and Contact."""
        host = self.settings.advertised_host or self.settings.host
        return host, dict(self.settings.advertised_ports).get(transport, self._ports[transport])

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    async def start(self, scope: TaskScope) -> None:
        """Bind every socket; raises OSError that names the address when one is taken."""
        self._scope = scope
        settings = self.settings
        # "Any port" means the same one for both transports, which may take a few tries.
        tries = 20 if settings.udp_port == settings.tcp_port == 0 else 1
        for left in reversed(range(tries)):
            try:
                await self._open_all()
            except OSError as error:
                await self.aclose()
                if not left or error.errno != errno.EADDRINUSE:
                    raise
            else:
                return

    async def _open_all(self) -> None:
        settings = self.settings
        if settings.udp_port is not None:
            self._udp = self._bound(socket.SOCK_DGRAM, settings.udp_port)
            self._ports["UDP"] = self._udp.getsockname()[1]
            asyncio.get_running_loop().add_reader(self._udp.fileno(), self._read_datagrams)
        if settings.tcp_port is not None:
            await self._serve("TCP", settings.tcp_port or self._ports.get("UDP", 0), None)
        if settings.tls_port is not None and settings.tls is not None:
            await self._serve("TLS", settings.tls_port, settings.tls)

    def _bound(self, kind: socket.SocketKind, port: int) -> socket.socket:
        sock = socket.socket(self.family, kind)
        sock.setblocking(False)
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self.settings.host, port))
        except OSError as error:
            sock.close()
            where = f"SIP cannot listen on {self.settings.host} port {port} ({self.settings.network})"
            raise OSError(error.errno, f"{where}: {error.strerror}") from error
        self._mark(sock)
        return sock

    def _mark(self, sock: socket.socket) -> None:
        mark = self.settings.dscp << 2
        if self.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, mark)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, mark)

    async def _serve(self, transport: Transport, port: int, context: ssl.SSLContext | None) -> None:
        sock = self._bound(socket.SOCK_STREAM, port)
        self._ports[transport] = sock.getsockname()[1]

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._accept(transport, reader, writer)

        self._servers[transport] = await asyncio.start_server(accepted, sock=sock, ssl=context, backlog=256)

    def _read_datagrams(self) -> None:
        assert self._udp is not None
        for _ in range(_DATAGRAMS_A_TURN):
            try:
                data, address = self._udp.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier send; the transaction's timers notice
            if not data.strip(b"\r\n\0 "):
                continue  # keep-alive of a NAT binding
            flow = Flow(self.settings.network, "UDP", address[0], address[1])
            try:
                self._inbox.put_nowait(Arrival(flow, data))
            except asyncio.QueueFull:
                self.counters.datagrams_dropped += 1

    def _accept(
        self, transport: Transport, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if len(self._connections) >= self._limits.connections or self._scope is None:
            self.counters.connections_refused += 1
            writer.transport.abort()
            return
        peer = writer.get_extra_info("peername")
        if peer is None:
            writer.transport.abort()
            return
        self._adopt(transport, peer[0], peer[1], reader, writer)

    def _adopt(
        self,
        transport: Transport,
        host: str,
        port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> Flow:
        assert self._scope is not None
        flow = Flow(self.settings.network, transport, host, port, next(self._serials))
        connection = _Connection(flow, reader, writer, _certified(writer))
        self._connections[flow.connection] = connection
        self._by_address[(transport, host, port)] = connection
        sock = writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._mark(sock)
        self._scope.spawn(f"{transport}-{flow.connection}", self._read_stream(connection))
        return flow

    async def _read_stream(self, connection: _Connection) -> None:
        framer = StreamFramer(self._limits.head, self._limits.body)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.first_message
        try:
            while True:
                async with asyncio.timeout_at(deadline):
                    data = await connection.reader.read(65536)
                if not data:
                    return
                was_pending = framer.pending
                whole = 0
                for event in framer.feed(data):
                    whole += isinstance(event, Framed)
                    if not await self._take(connection, event):
                        return
                connection.proven = connection.proven or whole > 0
                if framer.pending and (whole or not was_pending) and connection.proven:
                    deadline = loop.time() + self._limits.message
                elif not framer.pending and connection.proven:
                    deadline = loop.time() + self._limits.idle
        except TimeoutError:
            self.counters.connections_slow += 1
        except (OSError, ssl.SSLError):
            self.counters.connections_broken += 1
        finally:
            self._drop(connection)

    async def _take(self, connection: _Connection, event: Framed | KeepAlive | FramingLost) -> bool:
        if isinstance(event, FramingLost):
            await self._inbox.put(StreamBroken(connection.flow, event))
            await asyncio.sleep(0.5)  # the endpoint's answer goes out before the connection closes
            return False
        if isinstance(event, Framed):
            await self._inbox.put(Arrival(connection.flow, event.data, connection.certified))
        elif event is KeepAlive.PING:
            self.send(connection.flow, b"\r\n")
        return True

    def _drop(self, connection: _Connection) -> None:
        flow = connection.flow
        self._connections.pop(flow.connection, None)
        address = (flow.transport, flow.host, flow.port)
        if self._by_address.get(address) is connection:
            del self._by_address[address]
        with contextlib.suppress(OSError, RuntimeError):
            connection.writer.close()

    def is_open(self, flow: Flow) -> bool:
        """Whether the flow can be sent on as it is."""
        return self._udp is not None if flow.transport == "UDP" else flow.connection in self._connections

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send one message now; False when that is not possible."""
        if flow.transport == "UDP":
            return self._send_datagram(data, (flow.host, flow.port))
        connection = self._connections.get(flow.connection)
        if connection is None or connection.writer.is_closing():
            return False
        connection.writer.write(data)
        if connection.writer.transport.get_write_buffer_size() > self._limits.unsent:
            self.counters.connections_slow += 1
            connection.writer.transport.abort()
            self._drop(connection)
            return False
        return True

    def _send_datagram(self, data: bytes, address: tuple[str, int]) -> bool:
        if self._udp is None:
            return False
        try:
            self._udp.sendto(data, address)
        except BlockingIOError:
            self.counters.datagrams_unsent += 1  # lost like any datagram: the transaction repeats it
        except OSError as error:
            self.counters.datagrams_unsent += 1
            # A refused port is an ICMP answer to an earlier datagram; this one may fare better.
            return error.errno == errno.ECONNREFUSED
        return True

    def connection_to(self, transport: Transport, host: str, port: int) -> Flow | None:
        """The connection there is with that address, whoever opened it."""
        known = self._by_address.get((transport, host, port))
        return known.flow if known is not None and not known.writer.is_closing() else None

    async def connect(self, transport: Transport, host: str, port: int, name: str | None = None) -> Flow:
        """A flow to that numeric address: the connection there is, else a new one. Raises NoWay.

        `name` is what a TLS server's certificate has to be for (RFC 5922 7.1). A connection to a peer that
        was verified by less than this one is to be serves nobody else.
        """
        network = self.settings.network
        if transport not in self._ports:
            raise NoWay(f"no {transport} listener in network {network}")
        if transport == "UDP":
            return Flow(network, "UDP", host, port)
        trust = self._trust(name or host) if transport == "TLS" else None
        address = (transport, host, port)
        if (lock := self._opening.get(address)) is None:
            lock = self._opening[address] = asyncio.Lock()
        async with lock:
            known = self.connection_to(transport, host, port)
            if known is not None and self._connections[known.connection].trust in (None, trust):
                return known
            return await self._open(transport, host, port, name or host, trust)

    def _trust(self, name: str) -> ssl.SSLContext | None:
        return dict(self.settings.tls_servers).get(name.lower(), self.settings.tls_client)

    async def _open(
        self, transport: Transport, host: str, port: int, name: str, context: ssl.SSLContext | None
    ) -> Flow:
        network = self.settings.network
        if transport == "TLS" and context is None:
            raise NoWay(f"no TLS client context in network {network}")
        if len(self._connections) >= self._limits.connections:
            raise NoWay(f"too many connections in network {network}")
        try:
            async with asyncio.timeout(self._limits.connect):
                reader, writer = await asyncio.open_connection(
                    host,
                    port,
                    ssl=context,
                    server_hostname=name if context is not None else None,
                    local_addr=(self.settings.host, 0),
                )
        except (OSError, TimeoutError) as error:
            raise NoWay(f"no {transport} connection to {host} port {port}: {error or 'timed out'}") from error
        flow = self._adopt(transport, host, port, reader, writer)
        opened = self._connections[flow.connection]
        opened.proven, opened.trust = True, context
        return flow

    async def aclose(self) -> None:
        """Close every socket; connection tasks end by themselves."""
        if self._udp is not None:
            asyncio.get_running_loop().remove_reader(self._udp.fileno())
            self._udp.close()
            self._udp = None
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        for connection in list(self._connections.values()):
            self._drop(connection)


def _certified(writer: asyncio.StreamWriter) -> str | None:
    """The common name of the peer's certificate; a context that verifies nothing reports none."""
    certificate = writer.get_extra_info("peercert")
    if not certificate:
        return None
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return names[0] if names else None


@dataclass(slots=True)
class ListenerTable:
    """The listeners of one endpoint by network."""

    by_network: dict[str, SipListener] = field(default_factory=dict)

    def of(self, network: str) -> SipListener:
        """Raises NoWay for a network without listener."""
        listener = self.by_network.get(network)
        if listener is None:
            raise NoWay(f"no SIP listener in network {network}")
        return listener

    def send(self, flow: Flow, data: bytes) -> bool:
        listener = self.by_network.get(flow.network)
        return listener is not None and listener.send(flow, data)

    def is_open(self, flow: Flow) -> bool:
        listener = self.by_network.get(flow.network)
        return listener is not None and listener.is_open(flow)
