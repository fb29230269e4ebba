"""How long a stream's sound waits for its pictures. Pure.

Pictures and sound of one camera come by two ways, and one is often ahead: encoders hold pictures for a
frame or more, some cameras for half a second. Where the sender's wall clock is known for both, what is
ahead by it is known too; where it is not, B-frames at least say by how much they are late. Sound waits;
pictures never do.
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
_EVERY = 10
_STEP = 0.04
"""The delay follows in steps of so many seconds: each is a cut in the sound."""


class LipSync:
    """`delay`: seconds that sound is to wait after it came. `picture_rate`: ticks a second of pictures."""

    def __init__(self, picture_rate: int = 90_000) -> None:
        self.delay = 0.0
        self._rate = picture_rate
        self._pictures: deque[float] = deque(maxlen=_KEPT)
        self._sound: deque[float] = deque(maxlen=_KEPT)
        self._steps_back: deque[float] = deque([0.0], maxlen=_KEPT)
        self._highest: int | None = None
        self._count = 0

    def picture_came(self, packet: Packet) -> None:
        if packet.ntp is not None:
            self._pictures.append(packet.arrival - packet.ntp)
        back = 0.0 if self._highest is None else (self._highest - packet.pts) / self._rate
        if not 0.0 < back < MOST:
            self._highest = packet.pts
        self._steps_back.append(back if 0.0 < back < MOST else 0.0)

    def sound_came(self, packet: Packet) -> None:
        if packet.ntp is not None:
            self._sound.append(packet.arrival - packet.ntp)
        self._count += 1
        if self._count % _EVERY:
            return
        if len(self._sound) >= _KEPT // 2 and len(self._pictures) >= _KEPT // 4:
            # Of reordered frames those count that come last for their time; a late key frame does not.
            wanted = _quantile(self._pictures, 0.75) - _quantile(self._sound, 0.5)
            wanted = wanted if abs(wanted) < _UNBELIEVABLE else 0.0
        else:
            wanted = max(self._steps_back)
        wanted = 0.0 if wanted < _LEAST else min(wanted, MOST)
        if abs(wanted - self.delay) > _STEP or not wanted:
            self.delay = wanted


def _quantile(values: deque[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]
