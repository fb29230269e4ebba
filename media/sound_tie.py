"""Where the sound of a camera or a meeting lies beside its pictures, for as long as they last. Pure.

    tie = SoundTie(picture_rate=90_000, sound_rate=8_000)
    tie.saw(picture); tie.heard(packet)
    tie.offset                    seconds from the sound's own time to the pictures' time line

Two clocks count pictures and sound, and no two crystals agree: 100 ppm are 0.36 s an hour. So the offset is
looked at anew each second and follows in small, rare steps. The senders' wall clocks say it where both are
known and not absurd (some cameras report two of them); else the soonest arrivals of the last seconds do.
"""

from __future__ import annotations

from collections import deque
from statistics import median

from media.packet import Packet

UNBELIEVABLE = 3.0
"""Seconds between what the wall clocks and the arrivals say, from which the wall clocks are wrong."""
STEP_BY_CLOCKS, STEP_BY_ARRIVAL = 0.05, 0.15
"""Seconds that the offset has to be wrong before it is mended: each step is a cut in the sound."""
LOOKS = 31
"""Once a second; their median counts, as the reports of cheap cameras tremble."""
FEWEST_LOOKS = 8
WINDOW = 10
"""Seconds in which the soonest arrival counts."""


class _Soonest:
    """The least of arrival - media time over the last seconds."""

    def __init__(self, rate: int) -> None:
        self.latest: Packet | None = None
        self._rate = rate
        self._least: deque[tuple[int, float]] = deque(maxlen=WINDOW)

    def take(self, packet: Packet) -> None:
        self.latest = packet
        late, second = packet.arrival - self.time(packet), int(packet.arrival)
        if self._least and self._least[-1][0] >= second:
            self._least[-1] = (self._least[-1][0], min(late, self._least[-1][1]))
        else:
            self._least.append((second, late))

    def time(self, packet: Packet) -> float:
        return packet.pts / self._rate

    def least(self, now: float) -> float | None:
        found = [late for second, late in self._least if second >= now - WINDOW]
        return min(found, default=None)


class SoundTie:
    """`offset` is None until both have come."""

    def __init__(self, picture_rate: int, sound_rate: int) -> None:
        self.offset: float | None = None
        self._pictures = _Soonest(picture_rate)
        self._sound = _Soonest(sound_rate)
        self._first: Packet | None = None
        self._clocks: deque[float] = deque(maxlen=LOOKS)
        self._arrivals: deque[float] = deque(maxlen=LOOKS)
        self._looked = 0.0

    def saw(self, packet: Packet) -> None:
        """A picture of one unbroken time line."""
        self._first = self._first or packet
        self._pictures.take(packet)

    def heard(self, packet: Packet) -> None:
        """A packet of sound."""
        self._sound.take(packet)
        if self._first is None:
            return
        if self.offset is None:
            by_arrival = self._between(self._first, packet, packet.arrival - self._first.arrival)
            by_clocks = self._by_clocks(self._first, packet, by_arrival)
            self.offset = by_arrival if by_clocks is None else by_clocks
            self._looked = packet.arrival
        elif packet.arrival - self._looked >= 1.0:
            self._looked = packet.arrival
            self._look(packet)

    def _look(self, packet: Packet) -> None:
        picture = self._pictures.latest
        seen, heard = self._pictures.least(packet.arrival), self._sound.least(packet.arrival)
        if picture is None or seen is None or heard is None:
            return
        by_clocks = self._by_clocks(picture, packet, heard - seen)
        if by_clocks is not None:
            self._clocks.append(by_clocks)
            self._arrivals.clear()
            self._follow(self._clocks, STEP_BY_CLOCKS)
        else:
            self._arrivals.append(heard - seen)
            self._clocks.clear()
            self._follow(self._arrivals, STEP_BY_ARRIVAL)

    def _follow(self, looks: deque[float], step: float) -> None:
        if len(looks) >= FEWEST_LOOKS and self.offset is not None:
            meant = median(looks)
            self.offset = meant if abs(meant - self.offset) > step else self.offset

    def _by_clocks(self, picture: Packet, packet: Packet, by_arrival: float) -> float | None:
        if picture.ntp is None or packet.ntp is None:
            return None
        found = self._between(picture, packet, packet.ntp - picture.ntp)
        return found if abs(found - by_arrival) < UNBELIEVABLE else None

    def _between(self, picture: Packet, packet: Packet, apart: float) -> float:
        """The offset, if the packet is of `apart` seconds after the picture."""
        return self._pictures.time(picture) + apart - self._sound.time(packet)
