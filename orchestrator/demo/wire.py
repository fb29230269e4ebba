"""What was on the wire, whatever our own counters say: every media packet that the kernel saw on loopback.

    with WireTap({"room": (32000, 32099)}, webrtc=("browser", 49000)) as tap: ...       needs root
    tap.peaks["room"].to_site            IP bytes, the most in any second

`sent` and `received` are the service's view turned to the site's: `to_site` is what the site gets. Several
datagrams of one `sendmsg` pass loopback as one long packet; they are counted apart, each with its headers.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

ETH_P_IP = 0x0800
SOL_PACKET, PACKET_IGNORE_OUTGOING, PACKET_STATISTICS = 263, 23, 6
SO_ATTACH_FILTER, SO_TIMESTAMPNS = 26, 35
IP_UDP = 28
KEPT = 2048
"""Bytes of a packet that are looked at: two segments' headers."""
_BATCH = 256
_BUFFER = 8 << 20


@dataclass(slots=True)
class SlidingSecond:
    """The most bytes in any window of one second, and the end of that window (Unix time)."""

    peak: int = 0
    peak_at: float = 0.0
    total: int = 0
    _inside: int = 0
    _packets: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, now: float, size: int) -> None:
        """`now` (seconds) never goes back."""
        self._packets.append((now, size))
        self._inside += size
        self.total += size
        while self._packets[0][0] <= now - 1.0:
            self._inside -= self._packets.popleft()[1]
        if self._inside > self.peak:
            self.peak, self.peak_at = self._inside, now


@dataclass(slots=True)
class SiteWire:
    to_site: SlidingSecond = field(default_factory=SlidingSecond)
    from_site: SlidingSecond = field(default_factory=SlidingSecond)


class WireTap:
    """Reads in the running event loop while the block lasts. Raises PermissionError for who may not listen.

    `sites` have port ranges of their own, both ends included; `webrtc` is the site behind one port of ours.
    """

    def __init__(self, sites: Mapping[str, tuple[int, int]], webrtc: tuple[str, int] | None = None) -> None:
        self._sites = dict(sites)
        self._webrtc = webrtc
        self.wires = {name: SiteWire() for name in (*sites, *([webrtc[0]] if webrtc else []))}
        self.dropped = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)  # or each would be there twice
            _attach(self._socket, list(self._ranges()))
            self._socket.bind(("lo", ETH_P_IP))
        except BaseException:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._socket)
        self._read()
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        self.dropped = struct.unpack("II", statistics)[1]
        self._socket.close()

    def _ranges(self) -> Iterator[tuple[int, int]]:
        yield from self._sites.values()
        if self._webrtc is not None:
            yield self._webrtc[1], self._webrtc[1]

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                packet, ancillary, _, _ = self._socket.recvmsg(KEPT, 64)
            except BlockingIOError:
                return
            for _, kind, data in ancillary:
                if kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("qq", data[:16])
                    self._count(packet, seconds + nanoseconds / 1e9)

    def _count(self, packet: bytes, at: float) -> None:
        header = (packet[0] & 0xF) * 4
        source, target, length = struct.unpack_from("!HHH", packet, header)
        size = ip_bytes(packet[header + 8 :], length - 8)
        for name, (first, last) in self._sites.items():
            if first <= target <= last:
                self.wires[name].to_site.add(at, size)
            elif first <= source <= last:
                self.wires[name].from_site.add(at, size)
        if self._webrtc is not None:
            name, port = self._webrtc
            if source == port:
                self.wires[name].to_site.add(at, size)
            elif target == port:
                self.wires[name].from_site.add(at, size)


def ip_bytes(payload: bytes, length: int) -> int:
    """IP bytes of a UDP payload of `length` bytes (`payload` may be its beginning only).

    Where a second RTP packet of the same source begins inside, it was one of several equal segments.
    """
    if length > 2 * 12 and payload[0] >> 6 == 2:
        source, following = payload[8:12], (int.from_bytes(payload[2:4]) + 1) & 0xFFFF
        at = payload.find(source, 20)
        while at >= 0:
            start = at - 8
            if payload[start] >> 6 == 2 and int.from_bytes(payload[start + 2 : start + 4]) == following:
                return length + IP_UDP * -(-length // start)
            at = payload.find(source, at + 1)
    return length + IP_UDP


# --- the kernel's filter: only UDP whose source or target port is in one of the ranges ------------------

_LD_BYTE, _LD_HALF, _LDX_HEADER, _LD_HALF_AT_X = 0x30, 0x28, 0xB1, 0x48
_JEQ, _JGE, _JGT, _JSET, _RET = 0x15, 0x35, 0x25, 0x45, 0x06
_UDP, _FRAGMENT = 17, 0x1FFF


def _attach(listener: socket.socket, ranges: list[tuple[int, int]]) -> None:
    program = b"".join(struct.pack("HBBI", *step) for step in filter_program(ranges))
    buffer = ctypes.create_string_buffer(program)
    listener.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    )


def filter_program(ranges: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """Classic BPF (code, jump if true, jump if false, value) over an IPv4 packet."""
    tests: list[tuple[int, int, int, int]] = []
    for offset in (0, 2):
        tests.append((_LD_HALF_AT_X, 0, 0, offset))
        for first, last in ranges:
            tests += [(_JGE, 0, 2, first), (_JGT, 1, 0, last), (_RET, 0, 0, KEPT)]
    head = [
        (_LD_BYTE, 0, 0, 9),
        (_JEQ, 1, 0, _UDP),
        (_RET, 0, 0, 0),
        (_LD_HALF, 0, 0, 6),
        (_JSET, 0, 1, _FRAGMENT),
        (_RET, 0, 0, 0),
        (_LDX_HEADER, 0, 0, 0),
    ]
    return [*head, *tests, (_RET, 0, 0, 0)]
