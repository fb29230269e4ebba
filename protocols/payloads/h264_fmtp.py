"""H.264 in SDP (RFC 6184 8.1): profile, level and what a peer can take (limits of ITU-T H.264 table A-1)."""

from __future__ import annotations

import binascii
import math
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from enum import StrEnum


class MalformedFormat(ValueError):
    """The peer's a=fmtp does not follow RFC 6184 8.1."""


class Profile(StrEnum):
    """RFC 6184 table 5."""

    CONSTRAINED_BASELINE = "constrained-baseline"
    BASELINE = "baseline"
    MAIN = "main"
    EXTENDED = "extended"
    HIGH = "high"
    CONSTRAINED_HIGH = "constrained-high"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class LevelLimits:
    """Macroblocks a second, macroblocks a frame, decoded picture buffer in macroblocks, kbit/s (VCL)."""

    max_mbps: int
    max_fs: int
    max_dpb_mbs: int
    max_br: int

    def carry(self, width: int, height: int, frame_rate: float) -> bool:
        """Whether pictures of that size and rate stay within (H.264 A.3.1 a, b, f)."""
        across, down = -(-width // 16), -(-height // 16)
        longest = math.isqrt(8 * self.max_fs)
        blocks = across * down
        return blocks <= self.max_fs and blocks * frame_rate <= self.max_mbps and max(across, down) <= longest


LEVEL_1B = 9
LEVELS: dict[int, LevelLimits] = {
    10: LevelLimits(1485, 99, 396, 64),
    LEVEL_1B: LevelLimits(1485, 99, 396, 128),
    11: LevelLimits(3000, 396, 900, 192),
    12: LevelLimits(6000, 396, 2376, 384),
    13: LevelLimits(11880, 396, 2376, 768),
    20: LevelLimits(11880, 396, 2376, 2000),
    21: LevelLimits(19800, 792, 4752, 4000),
    22: LevelLimits(20250, 1620, 8100, 4000),
    30: LevelLimits(40500, 1620, 8100, 10000),
    31: LevelLimits(108000, 3600, 18000, 14000),
    32: LevelLimits(216000, 5120, 20480, 20000),
    40: LevelLimits(245760, 8192, 32768, 20000),
    41: LevelLimits(245760, 8192, 32768, 50000),
    42: LevelLimits(522240, 8704, 34816, 50000),
    50: LevelLimits(589824, 22080, 110400, 135000),
    51: LevelLimits(983040, 36864, 184320, 240000),
    52: LevelLimits(2073600, 36864, 184320, 240000),
    60: LevelLimits(4177920, 139264, 696320, 240000),
    61: LevelLimits(8355840, 139264, 696320, 480000),
    62: LevelLimits(16711680, 139264, 696320, 800000),
}
"""By level_idc, in rising order (level 1b as 9, the way High profile writes it)."""


@dataclass(frozen=True, slots=True)
class ProfileLevel:
    """profile-level-id (RFC 6184 8.1): profile_idc, profile-iop (the constraint flags), level_idc."""

    profile_idc: int
    constraint_flags: int
    level_idc: int

    @classmethod
    def parse(cls, text: str) -> ProfileLevel:
        """Six hexadecimal digits. Raises MalformedFormat."""
        try:
            data = bytes.fromhex(text)
        except ValueError:
            data = b""
        if len(data) != 3:
            raise MalformedFormat(f"profile-level-id {text!r} is not six hexadecimal digits")
        return cls(*data)

    def __str__(self) -> str:
        return f"{self.profile_idc:02x}{self.constraint_flags:02x}{self.level_idc:02x}"

    @property
    def profile(self) -> Profile:
        set0, set1 = self.constraint_flags & 0x80, self.constraint_flags & 0x40
        match self.profile_idc:
            case 66:
                return Profile.CONSTRAINED_BASELINE if set1 else Profile.BASELINE
            case 77:
                return Profile.CONSTRAINED_BASELINE if set0 else Profile.MAIN
            case 88:
                if set0:
                    return Profile.CONSTRAINED_BASELINE if set1 else Profile.BASELINE
                return Profile.EXTENDED
            case 100:
                return Profile.CONSTRAINED_HIGH if self.constraint_flags & 0x0C == 0x0C else Profile.HIGH
            case _:
                return Profile.OTHER

    @property
    def level(self) -> int:
        """The key of LEVELS: a level between two known ones counts as the lower, level 1b as 9."""
        if self.level_idc == 11 and self.constraint_flags & 0x10 and self.profile_idc in (66, 77, 88):
            return LEVEL_1B
        if self.level_idc == LEVEL_1B:
            return LEVEL_1B
        known = [level for level in LEVELS if LEVEL_1B < level <= self.level_idc]
        return known[-1] if known else 10

    @property
    def limits(self) -> LevelLimits:
        return LEVELS[self.level]


BASELINE_LEVEL_1 = ProfileLevel(66, 0, 10)
"""What a missing profile-level-id means (RFC 6184 8.1)."""


@dataclass(frozen=True, slots=True)
class H264Format:
    """The parameters of one a=fmtp line; `max_mbps`, `max_fs`, `max_br` only where the line has them."""

    profile_level: ProfileLevel = BASELINE_LEVEL_1
    packetization_mode: int = 0
    max_mbps: int | None = None
    max_fs: int | None = None
    max_br: int | None = None
    level_asymmetry_allowed: bool = False
    parameter_sets: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, fmtp: str) -> H264Format:
        """Reads what follows the payload type in a=fmtp; unknown parameters are passed over.

        Raises MalformedFormat on a bad profile-level-id, number or packetization mode.
        """
        values: dict[str, str] = {}
        for part in fmtp.split(";"):
            name, _, value = part.partition("=")
            values.setdefault(name.strip().lower(), value.strip())
        mode = _number(values, "packetization-mode") or 0
        if mode > 2:
            raise MalformedFormat(f"packetization-mode {mode} does not exist")
        level_id = values.get("profile-level-id")
        return cls(
            profile_level=ProfileLevel.parse(level_id) if level_id is not None else BASELINE_LEVEL_1,
            packetization_mode=mode,
            max_mbps=_number(values, "max-mbps"),
            max_fs=_number(values, "max-fs"),
            max_br=_number(values, "max-br"),
            level_asymmetry_allowed=values.get("level-asymmetry-allowed") == "1",
            parameter_sets=_parameter_sets(values.get("sprop-parameter-sets", "")),
        )

    def __str__(self) -> str:
        parts = [f"profile-level-id={self.profile_level}", f"packetization-mode={self.packetization_mode}"]
        if self.level_asymmetry_allowed:
            parts.append("level-asymmetry-allowed=1")
        for name, value in (("max-mbps", self.max_mbps), ("max-fs", self.max_fs), ("max-br", self.max_br)):
            if value is not None:
                parts.append(f"{name}={value}")
        if self.parameter_sets:
            parts.append(
                "sprop-parameter-sets=" + ",".join(b64encode(p).decode() for p in self.parameter_sets)
            )
        return ";".join(parts)

    @property
    def limits(self) -> LevelLimits:
        """What the peer takes: its level, raised, never lowered, by max-mbps, max-fs, max-br (8.1)."""
        level = self.profile_level.limits
        return replace(
            level,
            max_mbps=max(level.max_mbps, self.max_mbps or 0),
            max_fs=max(level.max_fs, self.max_fs or 0),
            max_br=max(level.max_br, self.max_br or 0),
        )


def smallest_level(width: int, height: int, frame_rate: float, bitrate: int = 0) -> int | None:
    """The lowest level_idc whose limits carry the picture at `bitrate` bits a second, or None."""
    for level, limits in LEVELS.items():
        if level != LEVEL_1B and limits.carry(width, height, frame_rate) and bitrate <= 1000 * limits.max_br:
            return level
    return None


def _number(values: dict[str, str], name: str) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise MalformedFormat(f"{name} {text!r} is not a number")
    return int(text)


def _parameter_sets(text: str) -> tuple[bytes, ...]:
    """sprop-parameter-sets: what is not base64 is left out, for the sets come in band as well."""
    sets: list[bytes] = []
    for part in text.split(","):
        try:
            nal_unit = b64decode(part, validate=True)
        except (binascii.Error, ValueError):
            continue
        if nal_unit:
            sets.append(nal_unit)
    return tuple(sets)
