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

from media.frame_packets import joined, sizes_of
from media.transport import IPV4_UDP_OVERHEAD, IPV6_UDP_OVERHEAD, WireCounters

BATCH = 128
MAX_SEGMENTS = 64

_UDP_SEGMENT = 103
_SEGMENT_SIZE = struct.Struct("=H")
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
        sizes = sizes_of(packets)
        if _is_run(sizes):
            self._send_run(packets, sizes[0], address, counters)
            return
        for run in runs(packets):
            if len(run) == 1 or not self.segmenting:
                self._send_each(run, address, counters)
            else:
                self._send_run(run, len(run[0]), address, counters)

    def _send_run(self, run: Sequence[bytes], size: int, address: Any, counters: WireCounters) -> None:
        data = joined(run)  # gathering many buffers costs the kernel more than joining them costs us
        try:
            control = (socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(size))
            self._sock.sendmsg((data,), (control,), 0, address)
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
            counters.bytes_sent += len(data) + len(run) * self._overhead

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


def _is_run(sizes: Sequence[int]) -> bool:
    """Whether one call can take all, as it mostly can: fragments of a frame are equal but for the last."""
    size, count = sizes[0], len(sizes)
    equal = sizes.count(size)
    return (
        (equal == count or (equal == count - 1 and sizes[-1] < size))
        and count <= MAX_SEGMENTS
        and count * size <= _MAX_PAYLOAD
    )


def runs(packets: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cuts into the longest stretches that one call can take each."""
    sizes, first = sizes_of(packets), 0
    while first < len(sizes):
        end = _end_of_run(sizes, first)
        yield packets[first:end]
        first = end


def _end_of_run(sizes: Sequence[int], first: int) -> int:
    size = length = sizes[first]
    stop = min(len(sizes), first + MAX_SEGMENTS)
    for at in range(first + 1, stop):
        length += sizes[at]
        if sizes[at] > size or length > _MAX_PAYLOAD:
            return at
        if sizes[at] < size:
            return at + 1
    return stop
