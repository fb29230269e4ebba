"""What two ends say about their media: RFC 3264 without the syntax of RFC 4566."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class SectionKind(StrEnum):
    AUDIO = "audio"
    VIDEO = "video"
    SLIDES = "slides"  # a second picture: m=video with a=content:slides (RFC 4796), a browser's second one
    FLOOR = "floor"  # m=application of BFCP (RFC 8856): signalling's own, a worker answers it with port 0
    OTHER = "other"  # an m-line that we answer with port 0


class Direction(StrEnum):
    """RFC 3264 5.1, from the describing side's point of view."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def reversed(self) -> Direction:
        """The same agreement seen from the other side."""
        return {
            Direction.SENDONLY: Direction.RECVONLY,
            Direction.RECVONLY: Direction.SENDONLY,
        }.get(self, self)


@dataclass(frozen=True, slots=True)
class CodecDescription:
    """One payload type: RTP encoding name in upper case, clock, fmtp parameters, RTCP feedback.

    `feedback` holds the values of `a=rtcp-fb` ("nack", "nack pli", "ccm fir", "goog-remb" ...).
    """

    name: str
    payload_type: int
    clock_rate: int
    channels: int = 1
    parameters: dict[str, str] = field(default_factory=dict)
    feedback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CryptoKey:
    """An SDES key (RFC 4568): suite name, base64 of master key and salt, tag of its a=crypto line."""

    tag: int
    suite: str
    key: str


@dataclass(frozen=True, slots=True)
class IceDescription:
    """RFC 8839 credentials; `candidates` are the values of a=candidate lines."""

    ufrag: str
    password: str
    candidates: tuple[str, ...] = ()
    lite: bool = False


@dataclass(frozen=True, slots=True)
class DtlsDescription:
    """RFC 8842: certificate fingerprint ("sha-256", "AB:CD...") and setup role."""

    algorithm: str
    fingerprint: str
    setup: str


@dataclass(frozen=True, slots=True)
class FloorDescription:
    """What an m-line of BFCP says (RFC 8856 5): roles, ids, which streams by their labels a floor is about.

    `roles` are those of a=floorctrl ("c-only", "s-only", "c-s"); without any the offerer is the client.
    `setup` and `connection` are those of a stream (RFC 4145).
    """

    roles: tuple[str, ...] = ()
    conference_id: int | None = None
    user_id: int | None = None
    floors: tuple[tuple[int, tuple[str, ...]], ...] = ()
    setup: str | None = None
    connection: str | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class MediaSection:
    """One m-line.

    `port` 0 is a refused section. `rtcp_port` None means the RTP port + 1, or the RTP port itself when
    `rtcp_mux`; `rtcp_address` None means the RTP address.
    `bandwidth_bps` is b=TIAS, or b=AS in bit/s (with headers). `protocol` is mirrored in
    the answer ("RTP/AVP", "UDP/TLS/RTP/SAVPF" ...).
    """

    kind: SectionKind
    address: str
    port: int
    protocol: str = "RTP/AVP"
    codecs: tuple[CodecDescription, ...] = ()
    direction: Direction = Direction.SENDRECV
    mid: str | None = None
    content: str | None = None
    label: str | None = None
    bandwidth_bps: int | None = None
    rtcp_port: int | None = None
    rtcp_address: str | None = None
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    ptime: int | None = None
    crypto: tuple[CryptoKey, ...] = ()
    ice: IceDescription | None = None
    dtls: DtlsDescription | None = None
    extensions: dict[int, str] = field(default_factory=dict)
    ssrc: int | None = None
    rtx_ssrc: int | None = None
    cname: str | None = None
    media: str = ""  # the m-line's own media and format words, kept for a section of kind OTHER
    floor: FloorDescription | None = None  # of a section of kind FLOOR


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """All sections of one offer or answer, in order, and the session's bandwidth in bit/s."""

    sections: tuple[MediaSection, ...]
    bandwidth_bps: int | None = None
    bundle: tuple[str, ...] = ()
