"""Opus over RTP (RFC 7587): one packet a payload, on a clock of 48000 whatever the sampling rate."""

from __future__ import annotations

from protocols.payloads import Frame

CLOCK_RATE = 48000
MAX_PACKET_DURATION = 5760
"""120 ms in units of the clock (RFC 6716 3.2.5, R5)."""

_SILK_DURATIONS = (480, 960, 1920, 2880)
_HYBRID_DURATIONS = (480, 960)
_CELT_DURATIONS = (120, 240, 480, 960)


class MalformedOpus(ValueError):
    """The peer's bytes are not an Opus packet (RFC 6716 3.4)."""


def packet_duration(packet: bytes) -> int:
    """How long a packet sounds, in units of the clock of 48000 (RFC 6716 3.1, 3.2). Raises MalformedOpus."""
    if not packet:
        raise MalformedOpus("an empty Opus packet")
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = _SILK_DURATIONS[config & 3]
    elif config < 16:
        frame = _HYBRID_DURATIONS[config & 1]
    else:
        frame = _CELT_DURATIONS[config & 3]
    if code < 3:
        frames = 1 if code == 0 else 2
    elif len(packet) < 2:
        raise MalformedOpus("an Opus packet without its frame count")
    else:
        frames = packet[1] & 0x3F
    if not frames or frames * frame > MAX_PACKET_DURATION:
        raise MalformedOpus(f"an Opus packet of {frames} frames of {frame} samples")
    return frames * frame


def is_stereo(packet: bytes) -> bool:
    """Whether the packet was coded in stereo (RFC 6716 3.1)."""
    return len(packet) > 0 and bool(packet[0] & 4)


class OpusPacketizer:
    def packetize(self, frame: bytes) -> list[bytes]:
        """Raises MalformedOpus."""
        packet_duration(frame)
        return [frame]


class OpusDepacketizer:
    """Every payload is a Frame; what was lost shows as a jump of the timestamps."""

    def __init__(self) -> None:
        self.malformed = 0

    @property
    def needs_keyframes(self) -> bool:
        return False

    def push(self, payload: bytes, timestamp: int, marker: bool, after_loss: bool = False) -> list[Frame]:
        if not payload:
            return []  # a transmission gap that some senders mark so
        try:
            packet_duration(payload)
        except MalformedOpus:
            self.malformed += 1
            return []
        return [Frame(payload, timestamp, keyframe=True)]

    def flush(self) -> list[Frame]:
        return []
