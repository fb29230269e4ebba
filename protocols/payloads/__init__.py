"""RTP payload formats: encoded frames to RTP payloads and back, one file a format, no codec mathematics.

Lifecycle: a sender's format owns a Packetizer, a receiver's a Depacketizer for as long as the stream has that
payload type. A Depacketizer is pushed payloads in sequence order and told where packets were lost; it gives
Frames as they become whole, survives whatever the peer sends, and is flushed once when the stream ends.
Nothing here is registered anywhere: who negotiated a format constructs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Frame:
    """One encoded picture or one packet of sound.

    `timestamp` is in RTP units as pushed. `keyframe`: decoding can start here (always, for sound). `damaged`:
    bytes of this frame, or by the receiver's knowledge of those it refers to, are missing. `recovery_point`:
    so many frames after this one the picture is whole again without a key frame (H.264 D.2.8). `missing`:
    the share of its own packets that never came or was of no use, as far as the format tells; lost packets in
    a row count as one.
    """

    data: bytes
    timestamp: int
    keyframe: bool
    damaged: bool = False
    recovery_point: int | None = None
    missing: float = 0.0


class Packetizer(Protocol):
    """Splits frames.

    Payloads of one frame share its timestamp; all but the last are of one size where the format allows, so
    that a kernel can segment them (UDP GSO).
    """

    def packetize(self, frame: bytes) -> list[bytes]:
        """The payloads of one frame in order. Raises ValueError when the frame is not of this format."""
        ...


class Depacketizer(Protocol):
    """Joins payloads. Never raises on a peer's bytes: `malformed` counts the payloads of no use."""

    malformed: int

    @property
    def needs_keyframes(self) -> bool:
        """Whether a loss spoils later frames up to the next key frame (pictures), or not (sound)."""
        ...

    def push(self, payload: bytes, timestamp: int, marker: bool, after_loss: bool = False) -> list[Frame]:
        """Takes the next payload in sequence order; `after_loss`: packets just before it never came."""
        ...

    def flush(self) -> list[Frame]:
        """The frame that was waiting for its end, if any, and forgets where it was."""
        ...
