"""How long a stream's sound waits for its pictures. Pure.

Pictures and sound of one camera come by two ways, and one is often ahead: encoders hold pictures for a
frame or more, some cameras for half a second. Where the sender's wall clock is known for both, what is
ahead by it is known too. Sound waits; pictures never do.
"""

from __future__ import annotations

from collections import deque

from media.packet import Packet

MOST = 1.0
"""Seconds that sound is held back at the most."""
_UNBELIEVABLE = 3.0
"""Two clocks so far apart are not one camera's."""
_LEAST = 0.02
_KEPT = 50
_STEP = 0.04
"""The delay follows in steps of so many seconds: each is a cut in the sound."""


class LipSync:
    """`delay`: seconds that sound is to wait after it came."""

    def __init__(self) -> None:
        self.delay = 0.0
        self._pictures: deque[float] = deque(maxlen=_KEPT)
        self._sound: deque[float] = deque(maxlen=_KEPT)

    def picture_came(self, packet: Packet) -> None:
        if packet.ntp is not None and not packet.damaged:
            self._pictures.append(packet.arrival - packet.ntp)

    def sound_came(self, packet: Packet) -> None:
        if packet.ntp is None:
            return
        self._sound.append(packet.arrival - packet.ntp)
        if len(self._sound) < _KEPT // 2 or len(self._pictures) < _KEPT // 4:
            return
        ahead = _middle(self._pictures) - _middle(self._sound)
        if abs(ahead) > _UNBELIEVABLE:
            ahead = 0.0
        wanted = min(max(ahead, 0.0), MOST)
        wanted = wanted if wanted > _LEAST else 0.0
        if abs(wanted - self.delay) > _STEP or (not wanted and self.delay):
            self.delay = wanted


def _middle(values: deque[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
