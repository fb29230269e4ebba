"""Many datagrams in few system calls, on raw non-blocking UDP sockets.

    sender = DatagramSender(sock)                 # one per peer: it remembers whether GSO works towards it
    sender.send([data, ...], address, counters)   # equal-sized runs leave in one sendmsg (UDP_SEGMENT)
    for data, address in drain(sock): ...         # what waits, at most BATCH datagrams

Generic segmentation offload (UDP_SEGMENT, udp(7)) takes at most 64 segments and one IP datagram's length a
call, all of equal size but the last, which may be shorter.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from media.transport import IPV4_UDP_OVERHEAD, IPV6_UDP_OVERHEAD, WireCounters

BATCH = 128
MAX_SEGMENTS = 64

_UDP_SEGMENT = 103
_MAX_PAYLOAD = 65507 - 20  # what one IPv4 or IPv6 datagram can carry, on the safe side
_BUFFER_BYTES = 2 * 1024 * 1024
_NO_SEGMENTATION = frozenset((errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.EMSGSIZE))


def open_udp_socket(bind: str, port: int, *, dscp: int = 0) -> socket.socket:
    """A bound, non-blocking UDP socket. `bind` is a numeric address, `dscp` 0..63. Raises OSError."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
        sock.bind((bind, port))
    except BaseException:
        sock.close()
        raise
    return sock


def udp_overhead(sock: socket.socket) -> int:
    """Bytes of IP and UDP headers on this socket."""
    return IPV6_UDP_OVERHEAD if sock.family == socket.AF_INET6 else IPV4_UDP_OVERHEAD


_scratch = memoryview(bytearray(65536))  # of the event loop's thread; a datagram is copied out at once


def drain(sock: socket.socket) -> Iterator[tuple[bytes, Any]]:
    """Waiting datagrams and their source addresses as the kernel gives them; ends when none waits."""
    receive = sock.recvfrom_into
    for _ in range(BATCH):
        try:
            length, address = receive(_scratch)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            continue  # an ICMP error left by an earlier datagram
        yield bytes(_scratch[:length]), address
        if sock.fileno() < 0:  # the receiver closed us
            return


class DatagramSender:
    """Sends runs of datagrams; falls back to one call each where the kernel refuses segmentation."""

    __slots__ = ("_overhead", "_sock", "segmenting")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._overhead = udp_overhead(sock)
        self.segmenting = True
        """False once the kernel has refused UDP_SEGMENT towards this peer."""

    def send(self, packets: Sequence[bytes], address: Any, counters: WireCounters) -> None:
        """All of `packets` to `address`; what cannot leave is dropped and counted."""
        if not self.segmenting or len(packets) == 1:
            self._send_each(packets, address, counters)
            return
        first, count = 0, len(packets)
        while first < count:
            end, length = _run(packets, first)
            if end - first == 1 or not self.segmenting:
                self._send_each(packets[first:end], address, counters)
            else:
                run = packets if end - first == count else packets[first:end]
                self._send_run(run, length, address, counters)
            first = end

    def _send_run(self, run: Sequence[bytes], length: int, address: Any, counters: WireCounters) -> None:
        size = struct.pack("=H", len(run[0]))
        try:
            self._sock.sendmsg(run, [(socket.IPPROTO_UDP, _UDP_SEGMENT, size)], 0, address)
        except BlockingIOError:
            counters.send_dropped += len(run)
        except OSError as error:
            if error.errno not in _NO_SEGMENTATION:
                counters.send_refused += len(run)
                return
            self.segmenting = False
            self._send_each(run, address, counters)
        else:
            counters.datagrams_sent += len(run)
            counters.bytes_sent += length + len(run) * self._overhead

    def _send_each(self, packets: Sequence[bytes], address: Any, counters: WireCounters) -> None:
        for packet in packets:
            try:
                self._sock.sendto(packet, address)
            except BlockingIOError:
                counters.send_dropped += 1
            except OSError:
                counters.send_refused += 1
            else:
                counters.datagrams_sent += 1
                counters.bytes_sent += len(packet) + self._overhead


def _run(packets: Sequence[bytes], first: int) -> tuple[int, int]:
    """The longest run from `first` that one call can take: its end and its payload bytes."""
    size = length = len(packets[first])
    end = first + 1
    stop = min(len(packets), first + MAX_SEGMENTS)
    while end < stop:
        more = len(packets[end])
        if more > size or length + more > _MAX_PAYLOAD:
            break
        length += more
        end += 1
        if more < size:
            break
    return end, length
