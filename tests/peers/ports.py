"""Free ports for peers, so that tests running side by side on one machine never meet."""

import random
import socket
from types import TracebackType
from typing import Self

SIZE = 100
FIRST, LAST = 12_000, 31_900  # below Linux's ephemeral range, above the services' own


class PortBlock:
    """A run of SIZE ports on one address; its first port is held bound (TCP) as the claim on the rest.

    `take` hands out ports that were free for UDP and TCP when asked. Raises OSError when no block is free.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self._claim, self._next = self._claim_block()
        self._end = self._next + SIZE - 1

    def _claim_block(self) -> tuple[socket.socket, int]:
        blocks = list(range(FIRST, LAST, SIZE))
        random.shuffle(blocks)
        for base in blocks:
            claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                # Every address at once: peers on 127.0.0.2 and services on 0.0.0.0 share the numbers.
                claim.bind(("0.0.0.0", base))
            except OSError:
                claim.close()
                continue
            return claim, base + 1
        raise OSError("the machine has no free block of ports for a test's peer")

    def take(self, count: int = 1, *, even: bool = False) -> int:
        """The first of `count` free ports in a row; `even` for RTP, whose RTCP is the odd one after it."""
        first = self._next
        while first + count <= self._end:
            if even and first % 2:
                first += 1
            busy = next((port for port in range(first, first + count) if not free(port)), None)
            if busy is None:
                self._next = first + count
                return first
            first = busy + 1
        raise OSError(f"the block of {SIZE} ports is used up; take a second PortBlock")

    def close(self) -> None:
        self._claim.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def free(port: int) -> bool:
    """Whether nobody holds `port` on any address, in UDP and in TCP."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(
                    socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
                )  # a closed connection is no holder
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True


def occupied(
    port: int, kind: socket.SocketKind = socket.SOCK_STREAM, address: str = "127.0.0.1"
) -> socket.socket:
    """A program that has `port`: a socket bound to it, listening where it is TCP. The caller closes it."""
    holder = socket.socket(type=kind)
    # As in `free`: what lingers of a closed connection does not stand in the way.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
    try:
        holder.bind((address, port))
        if kind == socket.SOCK_STREAM:
            holder.listen()
    except OSError:
        holder.close()
        raise
    return holder
