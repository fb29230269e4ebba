"""RTP over plain UDP, or with SRTP keys from the description (RFC 4568): SIP and H.323 terminals.

    socket = RtpSocket.open(receiver, bind="192.0.2.1", ports=PortRange(40000, 49999), dscp=34)
    socket = RtpSocket.open(receiver, bind="192.0.2.1", ports=PortPair(40012, 40013))   # as a dead worker had
    socket.ports                                # PortPair: what goes into our description
    socket.expect({96, 0}); socket.secure(SrtpSession(...)); socket.set_remote(("203.0.113.9", 5004))
    socket.await_keys(dtls); socket.send_dtls(...)              # keys by DTLS on these ports: see dtls_keying
    socket.send_rtp([...]); socket.send_rtcp(...); socket.close()         # MediaTransport

RTP uses an even port and RTCP the odd one above, or both one port (RFC 5761) with `rtcp_mux`. Symmetric RTP
(RFC 4961): we send to the described address until valid media comes from elsewhere, then to where it comes
from, and take it from nowhere else. We latch again only when that source has been silent for RELATCH_AFTER
seconds, when the description names another address, or on `relatch()`.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from media.datagrams import DatagramSender, drain, open_udp_socket, udp_overhead
from media.srtp import SrtpError, SrtpSession
from media.transport import (
    Address,
    MediaReceiver,
    PeerMoved,
    WireCounters,
    is_rtcp,
    is_valid_rtcp,
    is_valid_rtp,
)

RELATCH_AFTER = 3.0
"""Seconds of silence after which another source may take over."""


class NoPortLeft(OSError):
    """Every pair of the configured range is in use, or the wished pair is."""


@dataclass(frozen=True, slots=True)
class PortPair:
    """The ports of one medium; `rtcp` equals `rtp` where they are multiplexed."""

    rtp: int
    rtcp: int


@dataclass(frozen=True, slots=True)
class PortRange:
    """Where RTP ports may be taken from, both ends included; pairs begin at even ports (RFC 3550 11)."""

    first: int
    last: int

    def pairs(self, *, rtcp_mux: bool = False) -> Iterator[PortPair]:
        """All pairs, from a random place on: a late packet of a past call should not meet the next one."""
        even = range(self.first + self.first % 2, self.last + rtcp_mux, 2)
        turn = random.randrange(len(even)) if even else 0
        for port in itertools.chain(even[turn:], even[:turn]):
            yield PortPair(port, port if rtcp_mux else port + 1)


class SymmetricLatch:
    """Decides from which address media is taken and where it goes to. `now` is monotonic seconds."""

    __slots__ = ("_heard", "_probation", "described", "latched")

    def __init__(self) -> None:
        self.described: Address | None = None
        self.latched: Address | None = None
        self._heard = 0.0
        self._probation: tuple[Address, int, int] | None = None

    @property
    def target(self) -> Address | None:
        return self.latched or self.described

    def describe(self, address: Address | None) -> None:
        if address != self.described:
            self.described = address
            self.release()

    def release(self) -> None:
        self.latched = None
        self._probation = None

    def accepts(self, source: Address, ssrc: int, sequence: int, now: float) -> bool:
        """Whether RTP from `source` is the peer's. An address nobody described must first show two packets
        in sequence (RFC 3550 A.1), so that one stray packet cannot take a call over."""
        if source == self.latched:
            self._heard, self._probation = now, None
            return True
        if self.latched is not None and now - self._heard < RELATCH_AFTER:
            return False
        if source != self.described:
            expected, self._probation = self._probation, (source, ssrc, (sequence + 1) & 0xFFFF)
            if expected != (source, ssrc, sequence):
                return False
        self.latched, self._heard, self._probation = source, now, None
        return True


class RtpSocket:
    """One medium of one call. Fulfils MediaTransport; made by `open`, inside a running event loop."""

    __slots__ = (
        "_control_srtp",
        "_dtls",
        "_dtls_sources",
        "_held",
        "_latch",
        "_loop",
        "_payload_types",
        "_rtcp",
        "_rtcp_described",
        "_rtcp_sender",
        "_rtcp_target",
        "_rtp",
        "_rtp_sender",
        "_srtp",
        "_udp_overhead",
        "counters",
        "last_received",
        "ports",
        "receiver",
    )

    def __init__(self, receiver: MediaReceiver, rtp: socket.socket, rtcp: socket.socket) -> None:
        self.receiver = receiver
        self.counters = WireCounters()
        self.last_received: float | None = None
        self.ports = PortPair(rtp.getsockname()[1], rtcp.getsockname()[1])
        self._latch = SymmetricLatch()
        self._rtcp_described: Address | None = None
        self._rtcp_target: Address | None = None
        self._payload_types: frozenset[int] | None = None
        self._srtp: SrtpSession | None = None
        self._control_srtp: SrtpSession | None = None
        self._dtls: Callable[[bytes, bool], bool] | None = None
        self._dtls_sources: dict[bool, Address] = {}
        self._held: tuple[bytes, Address, float] | None = None
        self._rtp, self._rtcp = rtp, rtcp
        self._udp_overhead = udp_overhead(rtp)
        self._rtp_sender, self._rtcp_sender = DatagramSender(rtp), DatagramSender(rtcp)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(rtp.fileno(), self._read_rtp_port)
        if rtcp is not rtp:
            self._loop.add_reader(rtcp.fileno(), self._read_rtcp_port)

    @classmethod
    def open(
        cls,
        receiver: MediaReceiver,
        *,
        bind: str,
        ports: PortRange | PortPair,
        dscp: int = 0,
        rtcp_mux: bool = False,
    ) -> RtpSocket:
        """Binds both ports. `bind` is a numeric address of this machine. Raises NoPortLeft, or another
        OSError when the address cannot be bound at all."""
        candidates = ports.pairs(rtcp_mux=rtcp_mux) if isinstance(ports, PortRange) else (ports,)
        for pair in candidates:
            bound = _bind_pair(bind, pair, dscp)
            if bound is not None:
                return cls(receiver, *bound)
        raise NoPortLeft(f"no free RTP port on {bind} in {ports}")

    @property
    def overhead(self) -> int:
        return self._udp_overhead + (self._srtp.rtp_growth if self._srtp else 0)

    @property
    def remote(self) -> Address | None:
        """Where media goes to now."""
        return self._latch.target

    def set_remote(self, rtp: Address | None, rtcp: Address | None = None) -> None:
        """The addresses of the peer's description; RTCP's is the next port unless given (RFC 3605).
        A changed address ends the latch, the same one keeps it."""
        if rtcp is None and rtp is not None:
            rtcp = rtp if self._rtcp is self._rtp else (rtp[0], rtp[1] + 1)
        if rtp != self._latch.described or rtcp != self._rtcp_described:
            self._rtcp_target = None
        self._latch.describe(rtp)
        self._rtcp_described = rtcp

    def relatch(self) -> None:
        """Forget where media came from: the next valid source is taken."""
        self._latch.release()
        self._rtcp_target = None

    def expect(self, payload_types: Collection[int]) -> None:
        """Only RTP of these payload types is valid; before this call any is."""
        self._payload_types = frozenset(payload_types)

    def secure(self, session: SrtpSession | None) -> None:
        """From now on everything is SRTP under these keys (None: plain)."""
        self._srtp = session
        if session is None:
            self._control_srtp = self._dtls = None

    def secure_control(self, session: SrtpSession) -> None:
        """RTCP has keys of its own: its port made its own DTLS association."""
        self._control_srtp = session

    def await_keys(self, dtls: Callable[[bytes, bool], bool]) -> None:
        """Nothing but DTLS until `secure`: `dtls` is given its datagrams, and whether they came to the RTCP
        port; it returns False when it cannot take more."""
        self._srtp = self._control_srtp = None
        self._dtls = dtls
        self._dtls_sources.clear()

    def send_dtls(self, data: bytes) -> None:
        """One DTLS datagram from the RTP port, to where the peer's last came from or is described."""
        target = self._dtls_sources.get(False) or self._latch.target
        if target is not None and self._rtp.fileno() >= 0:
            self._rtp_sender.send((data,), target, self.counters)

    def send_control_dtls(self, data: bytes) -> None:
        """The same from the RTCP port."""
        target = self._dtls_sources.get(True) or self._rtcp_described
        if target is not None and self._rtcp.fileno() >= 0:
            self._rtcp_sender.send((data,), target, self.counters)

    @property
    def _without_keys(self) -> bool:
        return self._dtls is not None and self._srtp is None

    def send_rtp(self, packets: Sequence[bytes]) -> None:
        target = self._latch.target
        if target is None or not packets or self._rtp.fileno() < 0 or self._without_keys:
            self.counters.send_refused += len(packets)
            return
        if self._srtp is not None:
            try:
                packets = self._srtp.protect(packets)
            except SrtpError:
                self.counters.send_refused += len(packets)
                return
        self._rtp_sender.send(packets, target, self.counters)

    def send_rtcp(self, packet: bytes) -> None:
        target = self._latch.target if self._rtcp is self._rtp else self._rtcp_target or self._rtcp_described
        if target is None or self._rtcp.fileno() < 0 or self._without_keys:
            self.counters.send_refused += 1
            return
        session = self._control_srtp or self._srtp
        if session is not None:
            try:
                packet = session.protect_rtcp(packet)
            except SrtpError:
                self.counters.send_refused += 1
                return
        self._rtcp_sender.send((packet,), target, self.counters)

    def close(self) -> None:
        for sock in (self._rtp, self._rtcp):
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock.fileno())
                sock.close()

    def _read_rtp_port(self) -> None:
        for data, raw in drain(self._rtp):
            source = self._count(data, raw)
            if self._dtls is not None and _is_dtls(data):
                self._take_dtls(self._dtls, data, source, control=False)
            elif len(data) < 12 and not (len(data) >= 8 and is_rtcp(data)):
                self.counters.rejected += 1
            elif is_rtcp(data):
                self._take_rtcp(data, source, time.monotonic())
            else:
                self._take_rtp(data, source, time.monotonic())

    def _read_rtcp_port(self) -> None:
        for data, raw in drain(self._rtcp):
            source = self._count(data, raw)
            if self._dtls is not None and _is_dtls(data):
                self._take_dtls(self._dtls, data, source, control=True)
            else:
                self._take_rtcp(data, source, time.monotonic())

    def _take_dtls(
        self, dtls: Callable[[bytes, bool], bool], data: bytes, source: Address, *, control: bool
    ) -> None:
        if dtls(data, control):
            self._dtls_sources[control] = source
        else:
            self.counters.rejected += 1

    def _count(self, data: bytes, raw: Any) -> Address:
        self.counters.datagrams_received += 1
        self.counters.bytes_received += len(data) + self._udp_overhead
        host, port = raw[:2]
        return host, port

    def _take_rtp(self, data: bytes, source: Address, arrival: float) -> None:
        expected = self._payload_types
        strange = expected is not None and data[1] & 0x7F not in expected
        if not is_valid_rtp(data) or strange or self._without_keys:
            self.counters.rejected += 1
            return
        if self._srtp is not None:
            try:
                data = self._srtp.unprotect(data)
            except SrtpError:
                self.counters.rejected += 1
                return
        before = self._latch.latched
        sequence, ssrc = data[2] << 8 | data[3], int.from_bytes(data[8:12], "big")
        if not self._latch.accepts(source, ssrc, sequence, arrival):
            self._hold(data, source, arrival)
            return
        self.last_received = arrival
        if source != before:
            self._latched(source)
        self.receiver.rtp_received(data, source, arrival)

    def _hold(self, data: bytes, source: Address, arrival: float) -> None:
        """The first packet of a source on probation is kept: it may begin a key frame."""
        self.counters.rejected += 1
        self._held = (data, source, arrival)

    def _latched(self, source: Address) -> None:
        self._rtcp_target = None
        self.receiver.transport_event(PeerMoved(source))
        held, self._held = self._held, None
        if held is not None and held[1] == source and source != self._latch.described:
            self.counters.rejected -= 1
            self.receiver.rtp_received(*held)

    def _take_rtcp(self, data: bytes, source: Address, arrival: float) -> None:
        known = {address[0] for address in (self._latch.target, self._rtcp_described) if address}
        if not is_valid_rtcp(data) or source[0] not in known or self._without_keys:
            self.counters.rejected += 1
            return
        session = self._control_srtp or self._srtp
        if session is not None:
            try:
                data = session.unprotect_rtcp(data)
            except SrtpError:
                self.counters.rejected += 1
                return
        self._rtcp_target = source
        self.last_received = arrival
        self.receiver.rtcp_received(data, source, arrival)


def _is_dtls(data: bytes) -> bool:
    """RFC 7983 7."""
    return bool(data) and 20 <= data[0] <= 63


def _bind_pair(bind: str, pair: PortPair, dscp: int) -> tuple[socket.socket, socket.socket] | None:
    """Both sockets (the same one twice where RTCP is multiplexed), or None when a port is in use."""
    try:
        rtp = open_udp_socket(bind, pair.rtp, dscp=dscp)
    except OSError as error:
        if _in_use(error):
            return None
        raise
    if pair.rtcp == pair.rtp:
        return rtp, rtp
    try:
        return rtp, open_udp_socket(bind, pair.rtcp, dscp=dscp)
    except OSError as error:
        rtp.close()
        if _in_use(error):
            return None
        raise


def _in_use(error: OSError) -> bool:
    return error.errno in (errno.EADDRINUSE, errno.EACCES)
