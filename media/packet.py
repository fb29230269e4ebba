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

FINDS_ITS_PLACE = frozenset({"H261", "H263", "H263-1998"})
"""Codecs in which a loss costs some groups of blocks or slices: decoding goes on at the next start code."""
MOST_MISSING = 0.5
"""The share of its packets that a picture of these codecs may miss and still be shown, mended."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One whole coded frame.

    `pts` counts the stream's clock and never wraps; `arrival` is monotonic seconds on this machine;
    `ntp` is the sender's wall clock (seconds since 1900) once a sender report mapped it. A `damaged`
    frame misses bytes, `missing` says which share of its packets, or only refers to one that does:
    decoders may take it, recorders and relays do not. `keyframe` means that decoding may start here.
    """

    data: bytes
    pts: int
    arrival: float
    keyframe: bool = True
    damaged: bool = False
    ntp: float | None = None
    missing: float = 0.0

    def __len__(self) -> int:
        return len(self.data)


def is_shown(codec: str, packet: Packet) -> bool:
    """Whether the picture is worth showing, once one was.

    Undamaged ones are. Of codecs that find their place again, so is one that refers to a damaged one but is
    whole itself, and one that misses up to `MOST_MISSING` of its packets: the decoder puts in what is missing
    from the picture before and from beside it. A key frame is asked for all the same; to stand still until it
    comes would be worse.
    """
    return not packet.damaged or (codec in FINDS_ITS_PLACE and packet.missing <= MOST_MISSING)
