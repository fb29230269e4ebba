"""NTP timestamps as RTCP carries them (RFC 3550 4): 64 bits, seconds since 1900 and a 32-bit fraction."""

from __future__ import annotations

UNIX_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970."""


def from_unix(seconds: float) -> int:
    """The 64-bit NTP timestamp of a Unix time in seconds; it wraps in 2036 as the standard says."""
    whole = int(seconds // 1)
    fraction = int((seconds - whole) * 2**32)
    return ((whole + UNIX_EPOCH) << 32 | fraction) & 0xFFFF_FFFF_FFFF_FFFF


def to_unix(timestamp: int) -> float:
    """The Unix time in seconds of a 64-bit NTP timestamp; a clear top bit means after 2036 (RFC 4330 3)."""
    seconds, fraction = timestamp >> 32, timestamp & 0xFFFF_FFFF
    if seconds < 0x8000_0000:
        seconds += 2**32
    return seconds - UNIX_EPOCH + fraction / 2**32


def compact(timestamp: int) -> int:
    """The middle 32 bits (RFC 3550 6.4.1, LSR): 16 bits of seconds, 16 of fraction."""
    return timestamp >> 16 & 0xFFFF_FFFF


def compact_duration(seconds: float) -> int:
    """A duration in units of 1/65536 s (RFC 3550 6.4.1, DLSR), held to what 32 bits carry."""
    return min(max(round(seconds * 65536), 0), 0xFFFF_FFFF)
