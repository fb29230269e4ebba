"""How media leaves and enters the machine, whatever lies below: the one interface a leg knows.

    transport: MediaTransport            # RtpSocket (plain or SRTP-SDES) or DtlsSrtpTransport (browsers)
    transport.receiver = leg             # a MediaReceiver
    transport.send_rtp([packet, ...])    # whole RTP packets of a frame: one system call where the kernel can
    transport.send_rtcp(packet)          # one compound RTCP packet
    transport.counters                   # WireCounters on the IP level, both ways
    transport.overhead                   # IP length of an RTP packet = len(packet) + overhead
    transport.close()

Sending never blocks and never raises for what the network does: what cannot leave is dropped and counted.
All calls belong to the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Address: TypeAlias = tuple[str, int]
"""Numeric IP address and port."""

IPV4_UDP_OVERHEAD = 28
IPV6_UDP_OVERHEAD = 48


@dataclass(slots=True)
class WireCounters:
    """Datagrams and bytes of IP packets (payload + 28 for IPv4, + 48 for IPv6), as budgets count them."""

    datagrams_sent: int = 0
    bytes_sent: int = 0
    datagrams_received: int = 0
    bytes_received: int = 0
    send_dropped: int = 0
    """Datagrams the socket's full buffer would not take."""
    send_refused: int = 0
    """Datagrams that had no destination or that the kernel refused (no route, filtered)."""
    rejected: int = 0
    """Datagrams received and not accepted: malformed, from a stranger, replayed, failed authentication."""


@dataclass(frozen=True, slots=True)
class TransportReady:
    """Media can flow; `profile` is the SRTP profile, None for plain RTP."""

    profile: str | None


@dataclass(frozen=True, slots=True)
class PeerMoved:
    """Media now goes to (and is taken from) this address."""

    address: Address


@dataclass(frozen=True, slots=True)
class TransportFailed:
    """The transport will never carry media; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class TransportClosed:
    """The far end closed the transport."""

    reason: str


TransportEvent: TypeAlias = TransportReady | PeerMoved | TransportFailed | TransportClosed


class MediaReceiver(Protocol):
    """Who gets what comes in. `arrival` is monotonic seconds; data is decrypted and has a valid header."""

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None: ...

    def rtcp_received(self, data: bytes, source: Address, arrival: float) -> None: ...

    def transport_event(self, event: TransportEvent) -> None: ...


class MediaTransport(Protocol):
    """See the module's head."""

    receiver: MediaReceiver

    @property
    def counters(self) -> WireCounters: ...

    @property
    def overhead(self) -> int:
        """Bytes by which an RTP packet grows until it is an IP packet (SRTP tag, UDP, IP)."""
        ...

    @property
    def last_received(self) -> float | None:
        """Monotonic seconds of the last accepted RTP, RTCP or consent check; None before the first."""
        ...

    def send_rtp(self, packets: Sequence[bytes]) -> None: ...

    def send_rtcp(self, packet: bytes) -> None: ...

    def close(self) -> None: ...


class NobodyListening:
    """The receiver of a transport nobody has claimed yet: what comes is let go."""

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        pass

    def rtcp_received(self, data: bytes, source: Address, arrival: float) -> None:
        pass

    def transport_event(self, event: TransportEvent) -> None:
        pass


def is_rtcp(data: bytes) -> bool:
    """RFC 5761 4: told from RTP by the payload type's range 64-95 with marker, that is 192-223."""
    return 192 <= data[1] <= 223


def is_valid_rtp(data: bytes) -> bool:
    """RFC 3550 A.1, what can be seen in one header: version, and that CSRCs and extension fit."""
    if len(data) < 12 or data[0] >> 6 != 2:
        return False
    end = 12 + 4 * (data[0] & 0x0F)
    if data[0] & 0x10:
        if len(data) < end + 4:
            return False
        end += 4 + 4 * (data[end + 2] << 8 | data[end + 3])
    return len(data) >= end


def is_valid_rtcp(data: bytes) -> bool:
    """RFC 3550 A.2, first packet of the compound only: version, type range, length."""
    return (
        len(data) >= 8
        and data[0] >> 6 == 2
        and is_rtcp(data)
        and 4 + 4 * (data[2] << 8 | data[3]) <= len(data)
    )
