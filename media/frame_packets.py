"""The RTP packets of one frame with their headers apart from the payloads, which all receivers share.

    packets = FramePackets(sender.headers(payloads, timestamp, now), payloads)     # sender: RtpSender
    transport.send_rtp(packets)                                                    # a Sequence[bytes]

A megabit to a hundred receivers is copied once a receiver, by `joined`, and not three times.

Its type is asked for by `type() is`: an abstract base class makes isinstance slow, and this is the hot path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import add
from typing import overload


class FramePackets(Sequence[bytes]):
    """Packet n is headers[n] + payloads[n]. Headers are of one length."""

    __slots__ = ("headers", "payloads", "sizes")

    def __init__(self, headers: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        if len(headers) != len(payloads):
            raise ValueError(f"{len(headers)} headers do not fit {len(payloads)} payloads")
        self.headers = headers
        self.payloads = payloads
        length = len(headers[0]) if headers else 0
        self.sizes = list(map(length.__add__, map(len, payloads)))
        """Bytes of each packet."""

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> FramePackets: ...

    def __getitem__(self, index: int | slice) -> bytes | FramePackets:
        if isinstance(index, slice):
            return FramePackets(self.headers[index], self.payloads[index])
        return self.headers[index] + self.payloads[index]

    def __iter__(self) -> Iterator[bytes]:
        return map(add, self.headers, self.payloads)

    def joined(self) -> bytes:
        """All packets in one piece."""
        parts = [b""] * (2 * len(self.sizes))
        parts[::2] = self.headers
        parts[1::2] = self.payloads
        return b"".join(parts)


def sizes_of(packets: Sequence[bytes]) -> list[int]:
    """Bytes of each packet."""
    return packets.sizes if type(packets) is FramePackets else list(map(len, packets))


def joined(packets: Sequence[bytes]) -> bytes:
    """All packets in one piece."""
    return packets.joined() if type(packets) is FramePackets else b"".join(packets)
