"""H.264 over RTP (RFC 6184): NAL units of a byte stream, packetization modes 0 and 1.

The way back is in `h264_depacketizer`. Frames are access units as byte streams (ITU-T H.264 annex B).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

START_CODE = b"\x00\x00\x00\x01"
DEFAULT_MAX_PAYLOAD = 1200
_FU_START, _FU_END = 0x80, 0x40


class NalType(IntEnum):
    """nal_unit_type (H.264 table 7-1) and the packet types of RFC 6184 table 1."""

    SLICE = 1
    PARTITION_A = 2
    PARTITION_B = 3
    PARTITION_C = 4
    IDR_SLICE = 5
    SEI = 6
    SPS = 7
    PPS = 8
    ACCESS_UNIT_DELIMITER = 9
    STAP_A = 24
    STAP_B = 25
    MTAP16 = 26
    MTAP24 = 27
    FU_A = 28
    FU_B = 29


class OversizedNal(ValueError):
    """A NAL unit does not fit a packet and packetization mode 0 cannot fragment it (RFC 6184 6.2).

    The encoder feeding such a receiver must be set up for slices of at most `limit` bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a NAL unit of {size} bytes does not fit the {limit} of a single NAL unit packet")
        self.size = size
        self.limit = limit


def split_byte_stream(data: bytes) -> list[bytes]:
    """The NAL units of a byte stream (H.264 B.1), without start codes and trailing zeros.

    Raises ValueError when there is no start code.
    """
    before, *parts = data.split(b"\x00\x00\x01")
    if not parts or before.strip(b"\x00"):
        raise ValueError("not an H.264 byte stream: it does not begin with a start code")
    return [nal for nal in (part.rstrip(b"\x00") for part in parts) if nal]


def join_byte_stream(nal_units: Iterable[bytes]) -> bytes:
    """NAL units as a byte stream, each behind a four-byte start code."""
    return b"".join(START_CODE + nal for nal in nal_units)


def packetize(access_unit: bytes, mode: int, max_payload: int = DEFAULT_MAX_PAYLOAD) -> list[bytes]:
    """The RTP payloads of one access unit, each of at most `max_payload` bytes.

    Mode 1 (RFC 6184 6.3) gathers neighbouring parameter sets and SEI in a STAP-A and fragments what is too
    large into FU-A of one size, the last shorter. Mode 0 (6.2) sends single NAL units only.
    Raises OversizedNal in mode 0, ValueError when `access_unit` is not a byte stream.
    """
    nal_units = split_byte_stream(access_unit)
    if mode == 0:
        for nal in nal_units:
            if len(nal) > max_payload:
                raise OversizedNal(len(nal), max_payload)
        return nal_units
    if mode != 1:
        raise ValueError(f"packetization mode {mode} is not supported")
    if len(nal_units) == 1:
        return nal_units if len(nal_units[0]) <= max_payload else fragment(nal_units[0], max_payload)
    payloads: list[bytes] = []
    gathered: list[bytes] = []
    gathered_size = 1
    for nal in nal_units:
        fits = gathered_size + 2 + len(nal) <= max_payload
        if _is_slice(nal) or not fits:
            payloads.extend(_aggregate(gathered))
            gathered, gathered_size = [], 1
        if _is_slice(nal) or len(nal) + 3 > max_payload:
            payloads.extend([nal] if len(nal) <= max_payload else fragment(nal, max_payload))
        else:
            gathered.append(nal)
            gathered_size += 2 + len(nal)
    payloads.extend(_aggregate(gathered))
    return payloads


def fragment(nal: bytes, max_payload: int) -> list[bytes]:
    """FU-A packets of a NAL unit (RFC 6184 5.8), all of `max_payload` bytes but the last."""
    indicator, kind = nal[0] & 0xE0 | NalType.FU_A, nal[0] & 0x1F
    step = max_payload - 2
    if step < 1:
        raise ValueError(f"no room for a fragment in {max_payload} bytes")
    if len(nal) - 1 <= step:
        raise ValueError("a NAL unit that fits one packet must not be fragmented (RFC 6184 5.8)")
    octets = memoryview(nal)  # each is copied once
    last = 1 + (len(nal) - 2) // step * step
    middle = bytes((indicator, kind))
    return [
        b"".join((bytes((indicator, kind | _FU_START)), octets[1 : 1 + step])),
        *[b"".join((middle, octets[at : at + step])) for at in range(1 + step, last, step)],
        b"".join((bytes((indicator, kind | _FU_END)), octets[last:])),
    ]


class H264Packetizer:
    """`packetize` bound to what one receiver negotiated."""

    def __init__(self, mode: int, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        self._mode = mode
        self._max_payload = max_payload

    def packetize(self, frame: bytes) -> list[bytes]:
        """Raises OversizedNal in mode 0, ValueError when `frame` is not a byte stream."""
        return packetize(frame, self._mode, self._max_payload)


def _is_slice(nal: bytes) -> bool:
    return 1 <= nal[0] & 0x1F <= 5


def _aggregate(nal_units: Sequence[bytes]) -> list[bytes]:
    """A STAP-A (RFC 6184 5.7.1) of two or more NAL units; F and NRI are the greatest of theirs."""
    if len(nal_units) < 2:
        return list(nal_units)
    forbidden = max(nal[0] & 0x80 for nal in nal_units)
    importance = max(nal[0] & 0x60 for nal in nal_units)
    header = bytes([forbidden | importance | NalType.STAP_A])
    return [header + b"".join(len(nal).to_bytes(2, "big") + nal for nal in nal_units)]
