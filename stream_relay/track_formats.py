"""Between a track of a description (SDP) and the Format of a Stream; what we can carry stands here alone."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass

from media.packet import Format
from protocols.payloads import Depacketizer, Packetizer
from protocols.payloads.aac import AacDepacketizer, AacPacketizer, AacParameters, MalformedAac
from protocols.payloads.g711 import G711Depacketizer, G711Packetizer
from protocols.payloads.h264 import H264Packetizer, NalType, split_byte_stream
from protocols.payloads.h264_depacketizer import H264Depacketizer
from protocols.payloads.h264_sps import MalformedParameterSet, SequenceParameterSet
from protocols.rtsp.description import Track
from protocols.sdp import FormatParameters, Media, RtpMap

VIDEO_CODECS = ("H264",)
SOUND_CODECS = ("MPEG4-GENERIC", "PCMA", "PCMU")
_STATIC = {"PCMU": 0, "PCMA": 8}
_H265_HEADERS = frozenset(bytes((kind << 1, 1)) for kind in (32, 33, 34, 48, 49))


def is_usable(track: Track) -> bool:
    """Whether we can take the track apart."""
    if track.media == "video":
        return track.codec in VIDEO_CODECS
    if track.media != "audio" or track.codec not in SOUND_CODECS:
        return False
    if track.codec == "MPEG4-GENERIC":
        try:
            AacParameters.of(track.parameters)
        except MalformedAac:
            return False
    return True


def looks_like_h265(payload: bytes) -> bool:
    """Whether an RTP payload begins with what is no H.264 of any camera, and usual in H.265.

    NAL unit headers (RFC 7798 1.1.4) of VPS, SPS, PPS, aggregation and fragmentation; in H.264 they would be
    undefined types and data partitions.
    """
    return payload[:2] in _H265_HEADERS


def depacketizer_for(track: Track) -> Depacketizer:
    """Raises ValueError for a track that `is_usable` refuses."""
    match track.codec:
        case "H264":
            return H264Depacketizer(_parameter_sets(track.parameters.get("sprop-parameter-sets", "")))
        case "MPEG4-GENERIC":
            return AacDepacketizer(AacParameters.of(track.parameters))
        case "PCMA" | "PCMU":
            return G711Depacketizer()
    raise ValueError(f"{track.codec} is not carried")


def packetizer_for(format: Format, max_payload: int) -> Packetizer:
    """Raises ValueError for a format no RTP payload of ours carries."""
    match format.codec:
        case "H264":
            return H264Packetizer(1, max_payload)
        case "MPEG4-GENERIC":
            return AacPacketizer(max_payload)
        case "PCMA" | "PCMU":
            return G711Packetizer()
    raise ValueError(f"{format.codec} is not carried")


def sound_format(track: Track) -> Format:
    """The Format of a usable sound track."""
    return Format(track.codec, track.clock_rate, track.channels, dict(track.parameters))


def payload_type(format: Format, index: int) -> int:
    """The static type where there is one (RFC 3551 6), else a dynamic one by place."""
    return _STATIC.get(format.codec, 96 + index)


def media_of(format: Format, index: int, control: str) -> Media:
    """The m-line of a Stream for a player."""
    number = payload_type(format, index)
    attributes: list[tuple[str, str | None]] = [
        ("rtpmap", str(RtpMap(number, _spelled(format.codec), format.clock_rate, format.channels)))
    ]
    if format.parameters:
        attributes.append(("fmtp", str(FormatParameters(number, format.parameters))))
    attributes.append(("control", control))
    return Media(format.kind.value, 0, "RTP/AVP", (str(number),), attributes=tuple(attributes))


def _spelled(codec: str) -> str:
    """RFC 3640 registers it in lower case, and some players compare letter by letter."""
    return "mpeg4-generic" if codec == "MPEG4-GENERIC" else codec


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """What an H.264 key frame says of its stream; `identity` changes only when decoders must start anew."""

    identity: tuple[str, int, int]
    format: Format

    @classmethod
    def of(cls, access_unit: bytes) -> CodedPicture | None:
        """None when the key frame carries no parameter sets that can be read."""
        sets = [nal for nal in split_byte_stream(access_unit) if nal[0] & 0x1F in (NalType.SPS, NalType.PPS)]
        sets = list(dict.fromkeys(sets))  # cameras repeat them
        first = next((nal for nal in sets if nal[0] & 0x1F == NalType.SPS), None)
        if first is None:
            return None
        try:
            sps = SequenceParameterSet.parse(first)
        except MalformedParameterSet:
            return None
        parameters = {
            "packetization-mode": "1",
            "profile-level-id": sps.profile_level_id,
            "sprop-parameter-sets": ",".join(b64encode(nal).decode() for nal in sets),
        }
        return cls(
            (sps.profile_level_id, sps.width, sps.height), Format("H264", 90_000, parameters=parameters)
        )


def _parameter_sets(text: str) -> list[bytes]:
    """sprop-parameter-sets (RFC 6184 8.1); what is no base64 is left out."""
    found = []
    for word in text.split(","):
        try:
            found.append(b64decode(word.strip() + "=" * (-len(word.strip()) % 4)))
        except binascii.Error:
            continue
    return [nal for nal in found if nal]
