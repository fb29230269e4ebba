"""RTCP packets (RFC 3550 6.4 to 6.7) and compounds of them, reduced-size ones too (RFC 5506).

The feedback messages are in `rtcp_feedback` and `transport_feedback`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from protocols.rtp.rtcp_feedback import (
    FEEDBACK_PARSERS,
    PAYLOAD_SPECIFIC_FEEDBACK,
    FullIntraRequest,
    GenericNack,
    PictureLossIndication,
    ReceiverEstimatedMaximumBitrate,
    TemporaryMaximumBitrateNotification,
    TemporaryMaximumBitrateRequest,
)
from protocols.rtp.rtcp_framing import U32, MalformedRtcp, OpaquePacket, framed, need, split
from protocols.rtp.transport_feedback import TRANSPORT_LAYER_FEEDBACK, TransportFeedback

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
GOODBYE = 203
APPLICATION_DEFINED = 204

SDES_CNAME = 1

_BLOCK = struct.Struct("!IB3sIIII")
_SENDER_INFO = struct.Struct("!IQIII")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """How one source arrived (RFC 3550 6.4.1).

    `fraction_lost` is in 1/256, `jitter` in timestamp units, `last_sr` the middle 32 bits of the last SR's
    NTP time, `delay_since_last_sr` in 1/65536 s. `cumulative_lost` is signed, 24 bits.
    """

    ssrc: int
    fraction_lost: int
    cumulative_lost: int
    highest_sequence: int
    jitter: int
    last_sr: int = 0
    delay_since_last_sr: int = 0

    @classmethod
    def parse(cls, data: bytes, at: int) -> ReportBlock:
        ssrc, fraction, lost, highest, jitter, last_sr, delay = _BLOCK.unpack_from(data, at)
        return cls(ssrc, fraction, int.from_bytes(lost, "big", signed=True), highest, jitter, last_sr, delay)

    def __bytes__(self) -> bytes:
        lost = min(max(self.cumulative_lost, -0x80_0000), 0x7F_FFFF)
        return _BLOCK.pack(
            self.ssrc,
            self.fraction_lost,
            lost.to_bytes(3, "big", signed=True),
            self.highest_sequence,
            self.jitter,
            self.last_sr,
            self.delay_since_last_sr,
        )


@dataclass(frozen=True, slots=True)
class SenderReport:
    """SR (RFC 3550 6.4.1). `ntp` is the 64-bit NTP time of `rtp_timestamp`."""

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[ReportBlock, ...] = ()
    extension: bytes = b""

    @classmethod
    def parse(cls, count: int, body: bytes) -> SenderReport:
        need(body, _SENDER_INFO.size + count * _BLOCK.size, f"a sender report with {count} blocks")
        ssrc, ntp, timestamp, packets, octets = _SENDER_INFO.unpack_from(body)
        reports, extension = _report_blocks(body, _SENDER_INFO.size, count)
        return cls(ssrc, ntp, timestamp, packets, octets, reports, extension)

    def __bytes__(self) -> bytes:
        info = _SENDER_INFO.pack(
            self.ssrc,
            self.ntp,
            self.rtp_timestamp,
            self.packet_count & 0xFFFF_FFFF,
            self.octet_count & 0xFFFF_FFFF,
        )
        body = info + b"".join(map(bytes, self.reports)) + self.extension
        return framed(SENDER_REPORT, len(self.reports), body)


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RR (RFC 3550 6.4.2)."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()
    extension: bytes = b""

    @classmethod
    def parse(cls, count: int, body: bytes) -> ReceiverReport:
        need(body, 4 + count * _BLOCK.size, f"a receiver report with {count} blocks")
        reports, extension = _report_blocks(body, 4, count)
        return cls(U32.unpack_from(body)[0], reports, extension)

    def __bytes__(self) -> bytes:
        body = U32.pack(self.ssrc) + b"".join(map(bytes, self.reports)) + self.extension
        return framed(RECEIVER_REPORT, len(self.reports), body)


@dataclass(frozen=True, slots=True)
class SdesChunk:
    """What one source says of itself: (item type, text as bytes) in order (RFC 3550 6.5)."""

    ssrc: int
    items: tuple[tuple[int, bytes], ...] = ()

    @property
    def cname(self) -> str | None:
        """The canonical name (RFC 3550 6.5.1), or None."""
        return next(
            (text.decode("utf-8", "replace") for kind, text in self.items if kind == SDES_CNAME), None
        )

    def __bytes__(self) -> bytes:
        if any(not 1 <= kind <= 255 or len(text) > 255 for kind, text in self.items):
            raise ValueError("an SDES item has a type of 1..255 and at most 255 bytes")
        data = U32.pack(self.ssrc) + b"".join(bytes([kind, len(text)]) + text for kind, text in self.items)
        return data + bytes(4 - len(data) % 4)


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """SDES (RFC 3550 6.5)."""

    chunks: tuple[SdesChunk, ...] = ()

    @classmethod
    def of(cls, ssrc: int, cname: str) -> SourceDescription:
        """The usual SDES: one source and its CNAME."""
        return cls((SdesChunk(ssrc, ((SDES_CNAME, cname.encode()[:255]),)),))

    @classmethod
    def parse(cls, count: int, body: bytes) -> SourceDescription:
        """A last chunk without its terminating zero is taken as it is: some terminals send it so."""
        chunks: list[SdesChunk] = []
        at = 0
        for _ in range(count):
            need(body, at + 4, "an SDES chunk")
            (ssrc,) = U32.unpack_from(body, at)
            at += 4
            items: list[tuple[int, bytes]] = []
            while at < len(body) and body[at]:
                need(body, at + 2, "an SDES item")
                need(body, at + 2 + body[at + 1], "an SDES item")
                items.append((body[at], body[at + 2 : at + 2 + body[at + 1]]))
                at += 2 + body[at + 1]
            chunks.append(SdesChunk(ssrc, tuple(items)))
            at += 4 - at % 4
        return cls(tuple(chunks))

    def __bytes__(self) -> bytes:
        return framed(SOURCE_DESCRIPTION, len(self.chunks), b"".join(map(bytes, self.chunks)))


@dataclass(frozen=True, slots=True)
class Goodbye:
    """BYE (RFC 3550 6.6)."""

    ssrcs: tuple[int, ...]
    reason: str = ""

    @classmethod
    def parse(cls, count: int, body: bytes) -> Goodbye:
        need(body, 4 * count, f"a BYE of {count} sources")
        reason = body[4 * count + 1 : 4 * count + 1 + body[4 * count]] if len(body) > 4 * count else b""
        return cls(struct.unpack_from(f"!{count}I", body), reason.decode("utf-8", "replace"))

    def __bytes__(self) -> bytes:
        body = b"".join(map(U32.pack, self.ssrcs))
        if self.reason:
            text = self.reason.encode()[:255]
            body += bytes([len(text)]) + text
            body += bytes(-len(body) % 4)
        return framed(GOODBYE, len(self.ssrcs), body)


@dataclass(frozen=True, slots=True)
class ApplicationDefined:
    """APP (RFC 3550 6.7): `name` is four bytes of ASCII, `data` whole words."""

    ssrc: int
    subtype: int
    name: bytes
    data: bytes = b""

    @classmethod
    def parse(cls, count: int, body: bytes) -> ApplicationDefined:
        need(body, 8, "an APP packet")
        return cls(U32.unpack_from(body)[0], count, body[4:8], body[8:])

    def __bytes__(self) -> bytes:
        if len(self.name) != 4:
            raise ValueError("the name of an APP packet is four bytes")
        return framed(APPLICATION_DEFINED, self.subtype, U32.pack(self.ssrc) + self.name + self.data)


RtcpPacket = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Goodbye
    | ApplicationDefined
    | GenericNack
    | TransportFeedback
    | TemporaryMaximumBitrateRequest
    | TemporaryMaximumBitrateNotification
    | PictureLossIndication
    | FullIntraRequest
    | ReceiverEstimatedMaximumBitrate
    | OpaquePacket
)

_PARSERS: dict[int, Callable[[int, bytes], RtcpPacket]] = {
    SENDER_REPORT: SenderReport.parse,
    RECEIVER_REPORT: ReceiverReport.parse,
    SOURCE_DESCRIPTION: SourceDescription.parse,
    GOODBYE: Goodbye.parse,
    APPLICATION_DEFINED: ApplicationDefined.parse,
}


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram that shares its port with RTP is RTCP (RFC 5761 4): packet types 192 to 223."""
    return len(data) >= 4 and data[0] >> 6 == 2 and 192 <= data[1] <= 223


def parse_compound(data: bytes) -> tuple[RtcpPacket, ...]:
    """Every packet of one datagram, in order; a compound need not begin with a report (RFC 5506).

    Raises MalformedRtcp when the lengths do not add up. A packet that is framed well but whose body does not
    parse becomes an OpaquePacket with its `error`, so that one vendor's odd packet does not cost the reports
    and key frame requests beside it.
    """
    packets: list[RtcpPacket] = []
    for packet_type, count, body in split(data):
        parser = _PARSERS.get(packet_type)
        if parser is None and packet_type in (TRANSPORT_LAYER_FEEDBACK, PAYLOAD_SPECIFIC_FEEDBACK):
            parser = FEEDBACK_PARSERS.get((packet_type, count))
        if parser is None:
            packets.append(OpaquePacket(packet_type, count, body))
            continue
        try:
            packets.append(parser(count, body))
        except MalformedRtcp as error:
            packets.append(OpaquePacket(packet_type, count, body, str(error)))
    return tuple(packets)


def print_compound(packets: Iterable[RtcpPacket]) -> bytes:
    """One datagram of the packets in order."""
    return b"".join(map(bytes, packets))


def _report_blocks(body: bytes, at: int, count: int) -> tuple[tuple[ReportBlock, ...], bytes]:
    end = at + count * _BLOCK.size
    return tuple(ReportBlock.parse(body, i) for i in range(at, end, _BLOCK.size)), body[end:]
