"""When the next RTCP report is due (RFC 3550 6.2, 6.3.1, A.7) between two participants."""

from __future__ import annotations

from random import Random

_COMPENSATION = 1.21828
"""e - 3/2: undoes the effect of timer reconsideration on the mean (RFC 3550 6.3.1)."""
MINIMUM = 5.0
SHORTEST = 1.0


def report_interval(bitrate: float, random: Random, initial: bool = False) -> float:
    """Seconds until the next report of a session of `bitrate` bits a second.

    The reduced minimum of RFC 3550 6.2 (360 s divided by kbit/s), held between one and five seconds, half of
    it before the first report, randomised over 0.5 to 1.5.
    """
    reduced = 360_000 / bitrate if bitrate > 0 else MINIMUM
    interval = min(max(reduced, SHORTEST), MINIMUM)
    if initial:
        interval /= 2
    return interval * random.uniform(0.5, 1.5) / _COMPENSATION
