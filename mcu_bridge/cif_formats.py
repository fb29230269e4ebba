"""What the fmtp lines of H.261 and H.263 say (RFC 4587 6.2, RFC 4629 8.1): picture sizes, rates. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from foundation.desks import CodecDescription

_CLOCK = 30_000 / 1001
"""Pictures a second at a minimum picture interval (MPI) of 1."""
SAMPLE_ASPECT = 12 / 11
"""Of all these sizes (ITU-T H.263 table 5-1)."""

_SIZES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "CIF16": (1408, 1152),
        "CIF4": (704, 576),
        "CIF": (352, 288),
        "QCIF": (176, 144),
        "SQCIF": (128, 96),
    }
)
_H261_SIZES = ("CIF", "QCIF")
_LEVELS: Mapping[int, tuple[int, Mapping[str, int]]] = MappingProxyType(
    {
        10: (64_000, {"QCIF": 2}),
        20: (128_000, {"CIF": 2, "QCIF": 1}),
        30: (384_000, {"CIF": 1, "QCIF": 1}),
        40: (2_048_000, {"CIF": 1, "QCIF": 1}),
        45: (128_000, {"QCIF": 2}),
        50: (4_096_000, {"CIF": 1, "QCIF": 1}),
        60: (8_192_000, {"CIF": 1, "QCIF": 1}),
        70: (16_384_000, {"CIF4": 1, "CIF": 1, "QCIF": 1}),
    }
)
"""Levels of ITU-T H.263 annex X: the greatest bit rate, and MPI by size."""


@dataclass(frozen=True, slots=True)
class FixedSize:
    """A size that a receiver takes, and how many pictures a second of it."""

    width: int
    height: int
    frame_rate: float


@dataclass(frozen=True, slots=True)
class CifLimits:
    """The sizes, the largest first, and the bit rate of the pictures (None: not bounded)."""

    sizes: tuple[FixedSize, ...]
    bitrate_bps: int | None = None


def cif_limits(codec: CodecDescription) -> CifLimits:
    """What a receiver of H261, H263, H263-1998 or H263-2000 takes; QCIF where it says nothing."""
    intervals = _intervals(codec)
    bitrate = None
    level = _number(codec, "level")
    if level is not None and level in _LEVELS:
        bitrate, by_level = _LEVELS[level]
        intervals = {**by_level, **intervals}
    most = _number(codec, "maxbr")
    if most:
        bitrate = min(100 * most, bitrate or 100 * most)
    if codec.name == "H261":
        intervals = {name: value for name, value in intervals.items() if name in _H261_SIZES}
    intervals = intervals or {"QCIF": 1}
    sizes = (FixedSize(*_SIZES[name], _CLOCK / intervals[name]) for name in _SIZES if name in intervals)
    return CifLimits(tuple(sizes), bitrate)


def cif_parameters(codec: CodecDescription) -> dict[str, str]:
    """Our answer's parameters: the offered sizes as fast as they may come, our own where none are offered."""
    offered = _intervals(codec)
    known = _H261_SIZES if codec.name == "H261" else tuple(_SIZES)
    sizes = {name: "1" for name in known if name in offered} or {"CIF": "1", "QCIF": "1"}
    level = _number(codec, "level")
    if level is not None and not offered and codec.parameters.get("profile", "0") == "0":
        return {"profile": "0", "level": str(level)}
    return sizes


def _intervals(codec: CodecDescription) -> dict[str, int]:
    """MPI by size, of the sizes that we know."""
    found = {}
    for name, value in codec.parameters.items():
        if name.upper() in _SIZES and re.fullmatch("[0-9]{1,2}", value) and 1 <= int(value) <= 32:
            found[name.upper()] = int(value)
    return found


def _number(codec: CodecDescription, name: str) -> int | None:
    value = next((value for key, value in codec.parameters.items() if key.lower() == name), "")
    return int(value) if re.fullmatch("[0-9]{1,9}", value) else None
