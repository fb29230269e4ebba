"""What a track is made of, and its sample entry: H.264 (ISO/IEC 14496-15), AAC (14496-14), Opus in MP4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from protocols.isobmff.box import box, full_box
from protocols.payloads.h264 import NalType, split_byte_stream
from protocols.payloads.h264_sps import SequenceParameterSet

VIDEO_TIMESCALE = 90_000
AAC_FRAME = 1024
OPUS_RATE = 48_000
OPUS_PRE_SKIP = 312
"""Samples of 48000 a second that a decoder throws away first: libopus at low delay (RFC 7845 5.1)."""

_SAMPLING_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_OUT_OF_BAND = frozenset({NalType.SPS, NalType.PPS, NalType.ACCESS_UNIT_DELIMITER})
_HIGH_PROFILES = frozenset({100, 110, 122, 144, 244})


@dataclass(frozen=True, slots=True)
class AvcTrack:
    """H.264 with its parameter sets as NAL units; `sample_entry` is an avc1 (ISO/IEC 14496-15 5.4.2)."""

    sps: bytes
    pps: tuple[bytes, ...]
    width: int
    height: int

    @classmethod
    def of_access_unit(cls, access_unit: bytes) -> AvcTrack | None:
        """The track that a key frame describes, None when it carries no parameter sets.

        Raises MalformedParameterSet, and ValueError when it is not a byte stream.
        """
        nals = split_byte_stream(access_unit)
        sps = [nal for nal in nals if nal[0] & 0x1F == NalType.SPS]
        pps = [nal for nal in nals if nal[0] & 0x1F == NalType.PPS]
        if not sps or not pps:
            return None
        picture = SequenceParameterSet.parse(sps[0])
        return cls(sps[0], tuple(dict.fromkeys(pps)), picture.width, picture.height)

    @property
    def timescale(self) -> int:
        return VIDEO_TIMESCALE

    @property
    def codecs(self) -> str:
        """RFC 6381 3.3."""
        return f"avc1.{self.sps[1:4].hex()}"

    def sample(self, access_unit: bytes) -> bytes:
        """The frame as a sample: NAL units behind four-byte lengths, without what `avcC` already has.

        Raises ValueError when it is not a byte stream.
        """
        nals = split_byte_stream(access_unit)
        kept = (nal for nal in nals if nal[0] & 0x1F not in _OUT_OF_BAND)
        return b"".join(len(nal).to_bytes(4, "big") + nal for nal in kept)

    def sample_entry(self) -> bytes:
        visual = bytes(6) + b"\x00\x01" + bytes(16)
        visual += self.width.to_bytes(2, "big") + self.height.to_bytes(2, "big")
        visual += bytes.fromhex("00480000 00480000 00000000 0001") + bytes(32) + bytes.fromhex("0018 ffff")
        return box(b"avc1", visual, box(b"avcC", self.configuration()))

    def configuration(self) -> bytes:
        """AVCDecoderConfigurationRecord (ISO/IEC 14496-15 5.3.3.1)."""
        record = b"\x01" + self.sps[1:4] + b"\xff\xe1" + len(self.sps).to_bytes(2, "big") + self.sps
        record += bytes([len(self.pps)])
        record += b"".join(len(pps).to_bytes(2, "big") + pps for pps in self.pps)
        if self.sps[1] in _HIGH_PROFILES:
            picture = SequenceParameterSet.parse(self.sps)
            record += bytes([0xFC | picture.chroma_format_idc, 0xF8, 0xF8, 0])
        return record


_SILENT_AAC = {1: bytes.fromhex("00000007"), 2: bytes.fromhex("21000000001c")}
"""One element (a single channel, a pair with one window) without scale factor bands, and the end."""


@dataclass(frozen=True, slots=True)
class AacTrack:
    """AAC; `config` is the AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1, the `config` of RFC 3640 4.1)."""

    config: bytes
    rate: int
    channels: int

    @classmethod
    def of_config(cls, config: bytes) -> AacTrack:
        """Raises ValueError for one that names no sampling rate or channels."""
        if len(config) < 2:
            raise ValueError("an AudioSpecificConfig has at least two bytes")
        index = (config[0] & 7) << 1 | config[1] >> 7
        channels = config[1] >> 3 & 15
        if index >= len(_SAMPLING_RATES) or not 1 <= channels <= 7:
            raise ValueError(f"an AudioSpecificConfig of {config.hex()} is not one we record")
        return cls(config, _SAMPLING_RATES[index], 8 if channels == 7 else channels)

    @property
    def timescale(self) -> int:
        return self.rate

    @property
    def silence(self) -> tuple[bytes, int]:
        """A raw data block in which nothing sounds (ISO/IEC 14496-3 4.4.2.1), and how long it lasts; empty
        where there are more than two channels."""
        return _SILENT_AAC.get(self.channels, b""), AAC_FRAME

    @property
    def codecs(self) -> str:
        return f"mp4a.40.{self.config[0] >> 3}"

    def sample_entry(self) -> bytes:
        specific = _descriptor(5, self.config)
        decoder = _descriptor(4, b"\x40\x15" + bytes(3) + bytes(8) + specific)
        stream = _descriptor(3, bytes(3) + decoder + _descriptor(6, b"\x02"))
        return box(b"mp4a", _audio_entry(self.channels, self.rate), full_box(b"esds", 0, 0, stream))


@dataclass(frozen=True, slots=True)
class OpusTrack:
    """Opus (Encapsulation of Opus in ISO Base Media File Format 4.3.1)."""

    channels: int = 2
    pre_skip: int = OPUS_PRE_SKIP

    @property
    def timescale(self) -> int:
        return OPUS_RATE

    @property
    def silence(self) -> tuple[bytes, int]:
        """A packet of 20 ms without a sound (RFC 6716 3.1: CELT, full band), and how long it lasts."""
        return b"\xf8\xff\xfe", OPUS_RATE // 50

    @property
    def codecs(self) -> str:
        return "opus"

    def sample_entry(self) -> bytes:
        specific = bytes([0, self.channels]) + self.pre_skip.to_bytes(2, "big")
        specific += OPUS_RATE.to_bytes(4, "big") + bytes(3)
        return box(b"Opus", _audio_entry(self.channels, OPUS_RATE), box(b"dOps", specific))


SoundTrack: TypeAlias = AacTrack | OpusTrack
Track: TypeAlias = AvcTrack | AacTrack | OpusTrack


def _audio_entry(channels: int, rate: int) -> bytes:
    """AudioSampleEntry (ISO/IEC 14496-12 12.2.3)."""
    shown = rate if rate < 65536 else 0
    return (
        (bytes(6) + b"\x00\x01" + bytes(8) + channels.to_bytes(2, "big") + b"\x00\x10" + bytes(4))
        + shown.to_bytes(2, "big")
        + bytes(2)
    )


def _descriptor(tag: int, payload: bytes) -> bytes:
    """ISO/IEC 14496-1 8.3.3; ours are shorter than 128 bytes."""
    if len(payload) > 127:
        raise ValueError(f"a descriptor of {len(payload)} bytes: the AudioSpecificConfig is too long")
    return bytes([tag, len(payload)]) + payload
