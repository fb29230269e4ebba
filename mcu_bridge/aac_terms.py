"""AAC-LC as terminals offer it: RFC 3640 (MPEG4-GENERIC) and LATM (RFC 6416, MP4A-LATM). Pure.

    terms = AacTerms.of(codec)           None for what is no AAC of ours
    terms.coding, terms.heard            how it is sent, and how what comes is decoded
    terms.answer                         the parameters of our answer

Mono or stereo of 16 to 48 kHz. Passed over are AAC-LD, which libav does not make, since one payload type
serves both ways, and LATM that brings its configuration in the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from foundation.desks import CodecDescription
from media.aac_sound import UNIT, AacCoding
from media.packet import Format
from protocols.payloads import Depacketizer, Packetizer
from protocols.payloads.aac import (
    AacDepacketizer,
    AacPacketizer,
    AacParameters,
    AudioSpecificConfig,
)
from protocols.payloads.aac_latm import AAC_LC, LatmDepacketizer, LatmPacketizer, StreamMuxConfig

GENERIC, LATM = "MPEG4-GENERIC", "MP4A-LATM"
_SLOWEST, _FASTEST = 16_000, 48_000
_QUICK = 32_000
_CLOCKS = range(_SLOWEST, 192_001)
"""Of RTP; LATM's is often 90000."""
_HBR = (13, 3, 3)
"""Widths of the AU header's fields in AAC-hbr (RFC 3640 3.3.6)."""
_PROFILE_LEVEL = "41"
"""AAC Profile, level 2 (ISO/IEC 14496-3 1.5.2.4): two channels of 48 kHz."""


@dataclass(frozen=True, slots=True)
class AacTerms:
    """What a payload type carries; `frames` are in each packet that comes (LATM)."""

    codec: CodecDescription
    audio: AudioSpecificConfig
    frames: int = 1

    @classmethod
    def of(cls, codec: CodecDescription) -> AacTerms | None:
        try:
            if codec.name == GENERIC:
                terms = _generic(codec)
            elif codec.name == LATM:
                mux = StreamMuxConfig.of(codec.parameters)
                terms = cls(codec, mux.audio, mux.frames)
            else:
                return None
        except ValueError:  # MalformedAac, and clock rates that no configuration can say
            return None
        usable = terms is not None and _ours(terms.audio) and codec.clock_rate in _CLOCKS
        return terms if usable else None

    @property
    def coding(self) -> AacCoding:
        return AacCoding(self.audio.sample_rate, self.audio.channels)

    @property
    def heard(self) -> Format:
        """For the decoder, whatever the packets were like."""
        return Format(
            GENERIC, self.codec.clock_rate, self.audio.channels, {"config": bytes(self.audio).hex()}
        )

    @property
    def slow(self) -> bool:
        """Whether its access units last so long that they delay sound more than they better it."""
        return self.audio.sample_rate < _QUICK

    @property
    def unit_ticks(self) -> float:
        """How long an access unit lasts by the stream's clock."""
        return UNIT * self.codec.clock_rate / self.audio.sample_rate

    @property
    def answer(self) -> dict[str, str]:
        """Describes what we send; the profile that was offered stands."""
        level = self.codec.parameters.get("profile-level-id", _PROFILE_LEVEL)
        if self.codec.name == LATM:
            config = bytes(StreamMuxConfig(self.audio)).hex()
            return {"profile-level-id": level, "object": str(AAC_LC), "cpresent": "0", "config": config}
        return {
            "streamtype": "5",
            "profile-level-id": level,
            "mode": "AAC-hbr",
            "config": bytes(self.audio).hex(),
            "sizeLength": "13",
            "indexLength": "3",
            "indexDeltaLength": "3",
        }

    def packetizer(self, max_payload: int) -> Packetizer:
        return LatmPacketizer(max_payload) if self.codec.name == LATM else AacPacketizer(max_payload)

    def depacketizer(self) -> Depacketizer:
        if self.codec.name == LATM:
            return LatmDepacketizer(StreamMuxConfig(self.audio, self.frames), self.codec.clock_rate)
        return AacDepacketizer(AacParameters(self.audio, *_HBR))


def _generic(codec: CodecDescription) -> AacTerms | None:
    """Some terminals leave the configuration out: rate and channels stand in the rtpmap too."""
    if not codec.parameters.get("config"):
        if "mode" not in codec.parameters or not 1 <= codec.channels <= 2:
            return None
        config = bytes(AudioSpecificConfig(AAC_LC, codec.clock_rate, codec.channels)).hex()
        codec_parameters = {**codec.parameters, "config": config}
    else:
        codec_parameters = codec.parameters
    parameters = AacParameters.of(codec_parameters)
    widths = (parameters.size_length, parameters.index_length, parameters.index_delta_length)
    if widths != _HBR or codec.clock_rate != parameters.config.sample_rate:
        return None
    return AacTerms(codec, parameters.config)


def _ours(audio: AudioSpecificConfig) -> bool:
    plain = audio.object_type == AAC_LC and audio.samples == UNIT
    return plain and audio.channels in (1, 2) and _SLOWEST <= audio.sample_rate <= _FASTEST
