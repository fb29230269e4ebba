"""AAC over RTP (RFC 3640, mode AAC-hbr): access units without ADTS, several in a packet or one in several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.payloads import Frame
from protocols.payloads.bit_reader import BitReader, EndOfBits

MAX_ACCESS_UNIT = 8191
"""What the 13 bits of AU-size can say (RFC 3640 3.3.6)."""
DEFAULT_MAX_PAYLOAD = 1400
_MAX_UNITS = 64
_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


class MalformedAac(ValueError):
    """The peer's description or configuration does not follow RFC 3640 or ISO/IEC 14496-3 1.6."""


@dataclass(frozen=True, slots=True)
class AudioSpecificConfig:
    """ISO/IEC 14496-3 1.6.2.1, as far as a relay needs it; `samples` an access unit lasts."""

    object_type: int
    sample_rate: int
    channels: int
    samples: int = 1024

    @classmethod
    def parse(cls, data: bytes) -> AudioSpecificConfig:
        """Raises MalformedAac."""
        return cls.read(BitReader(data))

    @classmethod
    def read(cls, reader: BitReader) -> AudioSpecificConfig:
        """From where a reader stands, up to the length of an access unit. Raises MalformedAac."""
        try:
            kind = reader.u(5)
            if kind == 31:
                kind = 32 + reader.u(6)
            index = reader.u(4)
            rate = reader.u(24) if index == 15 else _RATES[index] if index < len(_RATES) else 0
            channels = reader.u(4)
            short = kind in (1, 2, 3, 4) and reader.u(1) == 1
        except EndOfBits as error:
            raise MalformedAac(f"the AAC configuration is cut off: {error}") from error
        if not rate or channels > 7:
            raise MalformedAac(f"an impossible AAC configuration: {rate} Hz, {channels} channels")
        return cls(kind, rate, 8 if channels == 7 else channels, 960 if short else 1024)

    def __bytes__(self) -> bytes:
        """Of AAC without extensions. Raises ValueError for what no configuration can say."""
        if (
            not 1 <= self.object_type <= 4
            or not 1 <= self.channels <= 6
            or not 0 < self.sample_rate < 1 << 24
        ):
            raise ValueError(f"no plain AAC configuration: {self}")
        known = self.sample_rate in _RATES
        rate = _RATES.index(self.sample_rate) if known else 15 << 24 | self.sample_rate
        bits = self.object_type << (4 if known else 28) | rate
        tail = self.channels << 3 | (self.samples == 960) << 2
        return (bits << 7 | tail).to_bytes(2 if known else 5, "big")


@dataclass(frozen=True, slots=True)
class AacParameters:
    """The parameters of a=fmtp (RFC 3640 4.1): widths of the AU header's fields in bits."""

    config: AudioSpecificConfig
    size_length: int = 13
    index_length: int = 3
    index_delta_length: int = 3

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> AacParameters:
        """`parameters` by lower-case name. Raises MalformedAac, also for the modes that are not AAC-hbr."""
        mode = parameters.get("mode", "AAC-hbr")
        if mode.lower() != "aac-hbr":
            raise MalformedAac(f"mode {mode} of MPEG-4 sound is not AAC-hbr")
        try:
            config = bytes.fromhex(parameters.get("config", ""))
            widths = [
                int(parameters.get(name, default))
                for name, default in (("sizelength", "13"), ("indexlength", "3"), ("indexdeltalength", "3"))
            ]
        except ValueError as error:
            raise MalformedAac(f"the parameters of MPEG-4 sound cannot be read: {error}") from error
        if not 1 <= widths[0] <= 16 or not all(0 <= width <= 16 for width in widths):
            raise MalformedAac(f"impossible AU header lengths: {widths}")
        return cls(AudioSpecificConfig.parse(config), *widths)


class AacPacketizer:
    """One access unit a packet, in fragments where it is too large (RFC 3640 3.2.3)."""

    def __init__(self, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        self._step = max_payload - 4

    def packetize(self, frame: bytes) -> list[bytes]:
        """Raises ValueError when the access unit is empty or larger than AU-size can say."""
        if not 0 < len(frame) <= MAX_ACCESS_UNIT:
            raise ValueError(f"an AAC access unit of {len(frame)} bytes")
        head = b"\x00\x10" + (len(frame) << 3).to_bytes(2, "big")
        return [head + frame[at : at + self._step] for at in range(0, len(frame), self._step)]


class AacDepacketizer:
    """Each access unit is a Frame; those behind the first of a packet are dated by their length."""

    def __init__(self, parameters: AacParameters) -> None:
        self.malformed = 0
        self._parameters = parameters
        self._fragment = b""
        self._wanted = 0
        self._timestamp = 0

    @property
    def needs_keyframes(self) -> bool:
        return False

    def push(self, payload: bytes, timestamp: int, marker: bool, after_loss: bool = False) -> list[Frame]:
        if not payload:
            return []
        if after_loss or timestamp != self._timestamp:
            self._drop()
        try:
            units, at = self._headers(payload)
        except EndOfBits:
            self.malformed += 1
            self._drop()
            return []
        if len(units) == 1 and units[0][0] > len(payload) - at:
            return self._take_fragment(payload[at:], units[0][0], timestamp)
        self._drop()
        frames = []
        for size, index in units:
            if at + size > len(payload) or not size:
                self.malformed += 1
                break
            moment = timestamp + index * self._parameters.config.samples
            frames.append(Frame(payload[at : at + size], moment, keyframe=True))
            at += size
        return frames

    def flush(self) -> list[Frame]:
        self._drop()
        return []

    def _headers(self, payload: bytes) -> tuple[list[tuple[int, int]], int]:
        """(size, index) of the units of a packet and where they begin (RFC 3640 3.2.1)."""
        widths = self._parameters
        reader = BitReader(payload[: 2 + _MAX_UNITS * 6])
        left = reader.u(16)
        end = 2 + (left + 7) // 8
        units: list[tuple[int, int]] = []
        index = 0
        while True:
            width = widths.index_delta_length if units else widths.index_length
            if left < widths.size_length + width or len(units) == _MAX_UNITS:
                break
            size, delta = reader.u(widths.size_length), reader.u(width)
            index = index + delta + 1 if units else 0
            units.append((size, index))
            left -= widths.size_length + width
        if not units or end > len(payload):
            raise EndOfBits("AU headers without units")
        return units, end

    def _take_fragment(self, data: bytes, size: int, timestamp: int) -> list[Frame]:
        if self._wanted != size:
            self._drop()
        self._wanted, self._timestamp = size, timestamp
        self._fragment += data
        if len(self._fragment) < size:
            return []
        frame = Frame(self._fragment[:size], timestamp, keyframe=True)
        self._fragment, self._wanted = b"", 0
        return [frame]

    def _drop(self) -> None:
        """Forgets a unit whose rest does not come."""
        self.malformed += bool(self._fragment)
        self._fragment, self._wanted = b"", 0
