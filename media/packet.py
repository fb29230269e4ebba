"""A coded frame and what its stream is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a stream carries (RFC 4566 media types, as far as frames are concerned)."""

    AUDIO = "audio"
    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Format:
    """How the packets of a stream are coded.

    `codec` is the RTP encoding name in upper case (H264, VP8, OPUS, PCMA ...), `clock_rate` the
    ticks a second of `Packet.pts`, `parameters` the media type's parameters (RFC 6184 8.1 and the
    like). H.264 travels as Annex B byte streams.
    """

    codec: str
    clock_rate: int
    channels: int = 1
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return Kind.VIDEO if self.codec in VIDEO_CODECS else Kind.AUDIO


VIDEO_CODECS = frozenset({"H261", "H263", "H263-1998", "H264", "H265", "VP8", "VP9", "AV1", "JPEG"})


@dataclass(frozen=True, slots=True)
class Packet:
    """One whole coded frame.

    `pts` counts the stream's clock and never wraps; `arrival` is monotonic seconds on this machine;
    `ntp` is the sender's wall clock (seconds since 1900) once a sender report mapped it. A `damaged`
    frame misses bytes: decoders may take it, recorders and relays do not. `keyframe` means that
    decoding may start here.
    """

    data: bytes
    pts: int
    arrival: float
    keyframe: bool = True
    damaged: bool = False
    ntp: float | None = None

    def __len__(self) -> int:
        return len(self.data)
