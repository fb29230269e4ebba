"""AAC in LATM over RTP (RFC 6416 6, RFC 3016 4), its StreamMuxConfig in the description (cpresent=0)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.payloads import Frame
from protocols.payloads.aac import DEFAULT_MAX_PAYLOAD, MAX_ACCESS_UNIT, AudioSpecificConfig, MalformedAac
from protocols.payloads.bit_reader import BitReader, EndOfBits

AAC_LC = 2
"""Audio object type (ISO/IEC 14496-3 1.5.1.1)."""
MAX_ELEMENT = 1 << 16
"""Bytes of an audioMuxElement that are gathered."""
_LONGEST_CONFIG = 512
"""Bits of an AudioSpecificConfig, with room for extensions that nobody needs."""
_MORE = 0xFF


@dataclass(frozen=True, slots=True)
class StreamMuxConfig:
    """ISO/IEC 14496-3 1.7.3.1 for one programme of one layer of AAC-LC; `frames` are in each element."""

    audio: AudioSpecificConfig
    frames: int = 1

    @classmethod
    def parse(cls, data: bytes) -> StreamMuxConfig:
        """Raises MalformedAac, also for what else LATM can carry."""
        reader = BitReader(data)
        try:
            version = reader.u(1)
            if version and reader.u(1):
                raise MalformedAac("an audioMuxVersionA that is not known")
            if version:
                _latm_value(reader)  # taraBufferFullness
            same_framing, frames, programmes, layers = (reader.u(width) for width in (1, 6, 4, 3))
            if not same_framing or programmes or layers:
                raise MalformedAac("LATM of several programmes or layers")
            audio = _described_audio(reader) if version else _plain_audio(reader)
            kind = reader.u(3)
        except EndOfBits as error:
            raise MalformedAac(f"the StreamMuxConfig is cut off: {error}") from error
        if kind:
            raise MalformedAac(f"LATM frames of type {kind}")
        if audio.object_type != AAC_LC:
            raise MalformedAac(f"audio object type {audio.object_type} is not AAC-LC")
        return cls(audio, frames + 1)

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> StreamMuxConfig:
        """From a=fmtp, `parameters` by lower-case name (RFC 6416 7.3). Raises MalformedAac."""
        if parameters.get("cpresent", "1") != "0":
            raise MalformedAac("LATM with its configuration in the stream")
        try:
            return cls.parse(bytes.fromhex(parameters.get("config", "")))
        except ValueError as error:
            raise MalformedAac(f"the LATM configuration cannot be read: {error}") from error

    def __bytes__(self) -> bytes:
        """Of version 0: no other data, no check, latmBufferFullness for a variable rate."""
        audio = bytes(self.audio)
        width = 8 * len(audio)  # the two bits behind the frame length (ISO/IEC 14496-3 4.4.1) are in it
        bits = (0b01 << 6 | self.frames - 1) << 7  # version, allStreamsSameTimeFraming, numSubFrames, 0, 0
        bits = bits << width | int.from_bytes(audio, "big")
        bits = (
            bits << 13 | 0xFF << 2
        )  # frameLengthType, latmBufferFullness, otherDataPresent, crcCheckPresent
        count = 15 + width + 13
        return (bits << -count % 8).to_bytes(-(-count // 8), "big")


def _plain_audio(reader: BitReader) -> AudioSpecificConfig:
    """One whose length is not said: it ends where AAC-LC's does."""
    audio = AudioSpecificConfig.read(reader)
    if reader.u(1):  # dependsOnCoreCoder
        reader.u(14)
    reader.u(1)  # extensionFlag
    return audio


def _described_audio(reader: BitReader) -> AudioSpecificConfig:
    width = _latm_value(reader)
    if width > _LONGEST_CONFIG:
        raise MalformedAac(f"an AudioSpecificConfig of {width} bits")
    bits = reader.u(width) << -width % 8
    return AudioSpecificConfig.parse(bits.to_bytes(-(-width // 8), "big"))


def _latm_value(reader: BitReader) -> int:
    """LatmGetValue (ISO/IEC 14496-3 1.7.3.1)."""
    return reader.u(8 * (reader.u(2) + 1))


class LatmPacketizer:
    """One access unit an audioMuxElement, in fragments where it is too large (RFC 6416 6.3)."""

    def __init__(self, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        self._step = max_payload

    def packetize(self, frame: bytes) -> list[bytes]:
        """Raises ValueError when the access unit is empty or larger than any can be."""
        if not 0 < len(frame) <= MAX_ACCESS_UNIT:
            raise ValueError(f"an AAC access unit of {len(frame)} bytes")
        element = bytes((_MORE,)) * (len(frame) // _MORE) + bytes((len(frame) % _MORE,)) + frame
        return [element[at : at + self._step] for at in range(0, len(element), self._step)]


class LatmDepacketizer:
    """Each access unit is a Frame; those behind the first of an element are dated by their length.

    The marker ends an element; one whose lengths are fulfilled without it is taken too. `clock_rate` is that
    of the timestamps, which need not be the sampling rate.
    """

    def __init__(self, config: StreamMuxConfig, clock_rate: int) -> None:
        self.malformed = 0
        self._frames = config.frames
        self._ticks = config.audio.samples * clock_rate // config.audio.sample_rate
        self._element = b""
        self._timestamp = 0

    @property
    def needs_keyframes(self) -> bool:
        return False

    def push(self, payload: bytes, timestamp: int, marker: bool, after_loss: bool = False) -> list[Frame]:
        if not payload:
            return []
        if after_loss or timestamp != self._timestamp or len(self._element) > MAX_ELEMENT:
            self._drop()
        self._element, self._timestamp = self._element + payload, timestamp
        units = self._units()
        if units is None and not marker:
            return []
        self._element = self._element if units is None else b""
        self._drop()
        return [
            Frame(unit, timestamp + number * self._ticks, keyframe=True)
            for number, unit in enumerate(units or ())
            if unit
        ]

    def flush(self) -> list[Frame]:
        self._drop()
        return []

    def _units(self) -> list[bytes] | None:
        """PayloadLengthInfo and payload of each frame (ISO/IEC 14496-3 1.7.3.1); None until all came."""
        units: list[bytes] = []
        element, at = self._element, 0
        for _ in range(self._frames):
            size = 0
            while at < len(element):
                part = element[at]
                size, at = size + part, at + 1
                if part != _MORE:
                    break
            else:
                return None
            if at + size > len(element):
                return None
            units.append(element[at : at + size])
            at += size
        return units

    def _drop(self) -> None:
        """Forgets an element whose rest does not come."""
        self.malformed += bool(self._element)
        self._element = b""
