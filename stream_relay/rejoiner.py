"""One line of time for what a camera sends, whatever its clock does."""

from __future__ import annotations

from dataclasses import replace

from media.packet import Packet

BACKWARD, FORWARD = 1.0, 10.0
"""Seconds beyond which time stamps jump: backward, and forward of what passed here."""


class Rejoiner:
    """Carries the time stamps of one pull after another over to one line of time, and over the jumps that
    some cameras make in mid-stream. Where time jumped, what passed is what passed here."""

    def __init__(self, clock_rate: int) -> None:
        self.clock_rate = clock_rate
        self._offset = 0
        self._highest: int | None = None
        self._arrival = 0.0
        self._broken = False

    def break_off(self) -> None:
        """The next packet is another pull's."""
        self._broken = True

    def carry(self, packet: Packet) -> Packet:
        passed = packet.arrival - self._arrival
        if self._highest is None:
            self._highest = packet.pts
        elif self._broken or self._jumps(packet.pts + self._offset - self._highest, passed):
            self._offset = self._highest + max(1, round(passed * self.clock_rate)) - packet.pts
        self._broken = False
        self._arrival = packet.arrival
        pts = packet.pts + self._offset
        self._highest = max(self._highest, pts)
        return packet if not self._offset else replace(packet, pts=pts)

    def _jumps(self, step: int, passed: float) -> bool:
        """`step` is from the highest time stamp so far: pictures out of order go a little back, and what a
        network held up comes late, all at once."""
        return step < -BACKWARD * self.clock_rate or step > (passed + FORWARD) * self.clock_rate
