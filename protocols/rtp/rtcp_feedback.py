"""RTCP feedback: RFC 4585 (NACK, PLI), RFC 5104 (FIR, TMMBR, TMMBN), REMB (draft-alvestrand-rmcat-remb)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from protocols.rtp.rtcp_framing import U32, MalformedRtcp, framed, need
from protocols.rtp.transport_feedback import (
    FEEDBACK_MESSAGE_TYPE,
    TRANSPORT_LAYER_FEEDBACK,
    TransportFeedback,
)

PAYLOAD_SPECIFIC_FEEDBACK = 206

_SSRCS = struct.Struct("!II")
_NACK = struct.Struct("!HH")
_FIR = struct.Struct("!IB3x")
_REMB = struct.Struct("!4sI")


@dataclass(frozen=True, slots=True)
class GenericNack:
    """Generic NACK (RFC 4585 6.2.1); `lost` holds sequence numbers in ascending order (16 bits, wrapping)."""

    sender_ssrc: int
    media_ssrc: int
    lost: tuple[int, ...]

    @classmethod
    def parse(cls, count: int, body: bytes) -> GenericNack:
        sender, media = _ssrcs(body, "a NACK")
        lost: list[int] = []
        for first, mask in _entries(_NACK, body, "a NACK"):
            lost.append(first)
            lost.extend((first + bit + 1) & 0xFFFF for bit in range(16) if mask >> bit & 1)
        return cls(sender, media, tuple(lost))

    def __bytes__(self) -> bytes:
        entries: list[tuple[int, int]] = []
        for sequence_number in self.lost:
            distance = (sequence_number - entries[-1][0]) & 0xFFFF if entries else 0
            if 1 <= distance <= 16:
                entries[-1] = (entries[-1][0], entries[-1][1] | 1 << distance - 1)
            else:
                entries.append((sequence_number, 0))
        body = b"".join(_NACK.pack(*entry) for entry in entries)
        return framed(TRANSPORT_LAYER_FEEDBACK, 1, _SSRCS.pack(self.sender_ssrc, self.media_ssrc) + body)


@dataclass(frozen=True, slots=True)
class BitrateEntry:
    """One entry of TMMBR and TMMBN (RFC 5104 4.2.1.1): bits per second and overhead in bytes a packet."""

    ssrc: int
    bitrate: int
    overhead: int = 0

    def __bytes__(self) -> bytes:
        exponent, mantissa = _exponent(self.bitrate, 17)
        return _SSRCS.pack(self.ssrc, exponent << 26 | mantissa << 9 | min(self.overhead, 511))


@dataclass(frozen=True, slots=True)
class _BitrateMessage:
    sender_ssrc: int
    entries: tuple[BitrateEntry, ...]

    @classmethod
    def parse(cls, count: int, body: bytes) -> Self:
        sender, _ = _ssrcs(body, "TMMBR or TMMBN")
        return cls(
            sender,
            tuple(
                BitrateEntry(ssrc, (word >> 9 & 0x1FFFF) << (word >> 26), word & 0x1FF)
                for ssrc, word in _entries(_SSRCS, body, "TMMBR or TMMBN")
            ),
        )

    def _framed(self, message_type: int) -> bytes:
        body = _SSRCS.pack(self.sender_ssrc, 0) + b"".join(map(bytes, self.entries))
        return framed(TRANSPORT_LAYER_FEEDBACK, message_type, body)


@dataclass(frozen=True, slots=True)
class TemporaryMaximumBitrateRequest(_BitrateMessage):
    """TMMBR (RFC 5104 4.2.1); an entry's `ssrc` is the media sender asked."""

    def __bytes__(self) -> bytes:
        return self._framed(3)


@dataclass(frozen=True, slots=True)
class TemporaryMaximumBitrateNotification(_BitrateMessage):
    """TMMBN (RFC 5104 4.2.2); an entry's `ssrc` is the owner of the limit."""

    def __bytes__(self) -> bytes:
        return self._framed(4)


@dataclass(frozen=True, slots=True)
class PictureLossIndication:
    """PLI (RFC 4585 6.3.1)."""

    sender_ssrc: int
    media_ssrc: int

    @classmethod
    def parse(cls, count: int, body: bytes) -> PictureLossIndication:
        return cls(*_ssrcs(body, "a PLI"))

    def __bytes__(self) -> bytes:
        return framed(PAYLOAD_SPECIFIC_FEEDBACK, 1, _SSRCS.pack(self.sender_ssrc, self.media_ssrc))


@dataclass(frozen=True, slots=True)
class FullIntraRequest:
    """FIR (RFC 5104 4.3.1); `entries` are (media sender's SSRC, command sequence number)."""

    sender_ssrc: int
    entries: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, count: int, body: bytes) -> FullIntraRequest:
        sender, _ = _ssrcs(body, "a FIR")
        return cls(sender, tuple((ssrc, number) for ssrc, number in _entries(_FIR, body, "a FIR")))

    def __bytes__(self) -> bytes:
        body = b"".join(_FIR.pack(*entry) for entry in self.entries)
        return framed(PAYLOAD_SPECIFIC_FEEDBACK, 4, _SSRCS.pack(self.sender_ssrc, 0) + body)


@dataclass(frozen=True, slots=True)
class ReceiverEstimatedMaximumBitrate:
    """REMB (draft-alvestrand-rmcat-remb-03 2.2): bits per second for all of `ssrcs` together."""

    sender_ssrc: int
    bitrate: int
    ssrcs: tuple[int, ...]

    @classmethod
    def parse(cls, count: int, body: bytes) -> ReceiverEstimatedMaximumBitrate:
        sender, _ = _ssrcs(body, "REMB")
        need(body, _SSRCS.size + _REMB.size, "REMB")
        name, word = _REMB.unpack_from(body, _SSRCS.size)
        if name != b"REMB":
            raise MalformedRtcp(f"application layer feedback named {name!r} is not REMB")
        number, start = word >> 24, _SSRCS.size + _REMB.size
        need(body, start + 4 * number, f"REMB for {number} sources")
        ssrcs = struct.unpack_from(f"!{number}I", body, start)
        return cls(sender, (word & 0x3FFFF) << (word >> 18 & 0x3F), ssrcs)

    def __bytes__(self) -> bytes:
        exponent, mantissa = _exponent(self.bitrate, 18)
        word = len(self.ssrcs) << 24 | exponent << 18 | mantissa
        body = (
            _SSRCS.pack(self.sender_ssrc, 0) + _REMB.pack(b"REMB", word) + b"".join(map(U32.pack, self.ssrcs))
        )
        return framed(PAYLOAD_SPECIFIC_FEEDBACK, 15, body)


FeedbackMessage = (
    GenericNack
    | TemporaryMaximumBitrateRequest
    | TemporaryMaximumBitrateNotification
    | TransportFeedback
    | PictureLossIndication
    | FullIntraRequest
    | ReceiverEstimatedMaximumBitrate
)

FEEDBACK_PARSERS: dict[tuple[int, int], Callable[[int, bytes], FeedbackMessage]] = {
    (TRANSPORT_LAYER_FEEDBACK, 1): GenericNack.parse,
    (TRANSPORT_LAYER_FEEDBACK, 3): TemporaryMaximumBitrateRequest.parse,
    (TRANSPORT_LAYER_FEEDBACK, 4): TemporaryMaximumBitrateNotification.parse,
    (TRANSPORT_LAYER_FEEDBACK, FEEDBACK_MESSAGE_TYPE): TransportFeedback.parse,
    (PAYLOAD_SPECIFIC_FEEDBACK, 1): PictureLossIndication.parse,
    (PAYLOAD_SPECIFIC_FEEDBACK, 4): FullIntraRequest.parse,
    (PAYLOAD_SPECIFIC_FEEDBACK, 15): ReceiverEstimatedMaximumBitrate.parse,
}
"""By (packet type, feedback message type)."""


def _ssrcs(body: bytes, what: str) -> tuple[int, int]:
    need(body, _SSRCS.size, what)
    sender, media = _SSRCS.unpack_from(body)
    return sender, media


def _entries(entry: struct.Struct, body: bytes, what: str) -> Iterable[tuple[int, int]]:
    entries = body[_SSRCS.size :]
    if len(entries) % entry.size:
        raise MalformedRtcp(f"{what} has {len(entries)} bytes of entries of {entry.size} bytes each")
    return entry.iter_unpack(entries)


def _exponent(bitrate: int, bits: int) -> tuple[int, int]:
    """(exponent, mantissa of `bits` bits), rounded down: a limit is never stated higher than it is."""
    exponent = max(bitrate.bit_length() - bits, 0)
    if bitrate < 0 or exponent > 63:
        raise ValueError(f"a bitrate of {bitrate} does not fit its field")
    return exponent, bitrate >> exponent
