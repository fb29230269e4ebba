"""From a budget of IP packets to bit rates of coded media, and what the network says meanwhile. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from media.rtp_sender import BitrateLimit, LimitSource
from media.sound_codecs import SoundCodec

RTP_HEADER = 12
PAYLOAD = 1200
"""Bytes of a full picture payload: fits any path of 1280 bytes and more with all headers."""
SOUND_PACKETS_PER_SECOND = 50
CONTROL_SHARE = 0.04
"""Of the whole budget: RTCP, STUN checks and repeats."""
OPUS_BITRATE = 32_000

_RAISE_AFTER = 3.0
_LOWER_AFTER = 1.0
_HIGHER = 8 / 7
_LOSS_RECOVERY = 1.08
_LOSS_FORGOTTEN = 600.0
"""Seconds after which any loss is recovered from."""


def sound_wire_bps(codec: SoundCodec | None, overhead: int) -> int:
    """What sound takes of a budget; `overhead` is what an RTP packet grows by on the wire."""
    if codec is None:
        return 0
    payload = OPUS_BITRATE // 8 // SOUND_PACKETS_PER_SECOND if codec is SoundCodec.OPUS else 160
    return (payload + RTP_HEADER + overhead) * 8 * SOUND_PACKETS_PER_SECOND


def picture_bps(wire_bps: int, sound_bps: int, overhead: int) -> int:
    """The bit rate that a picture's encoder may have within a budget; not below 0."""
    room = wire_bps * (1 - CONTROL_SHARE) - sound_bps
    return max(0, int(room * PAYLOAD / (PAYLOAD + RTP_HEADER + overhead)))


def picture_wire_bps(wire_bps: int, sound_bps: int) -> int:
    """What the picture may use of a budget on the wire: the b=AS of its section."""
    return max(0, int(wire_bps * (1 - CONTROL_SHARE)) - sound_bps)


@dataclass(slots=True)
class NetworkLimit:
    """What the receiver's end reports that the way carries, calmed down.

    A lower limit counts once it was said for a second; a higher one only when it is higher by a seventh
    and was said for three, and then the least of these: an estimate that breathes does not move a
    receiver to and fro between encoders. Loss limits at once and recovers by eight per cent a second.
    """

    bps: int | None = None
    _candidate: int | None = None
    _lower: bool = False
    _since: float = 0.0
    _by_loss: int | None = None
    _loss_at: float = 0.0

    def report(self, limit: BitrateLimit, now: float) -> None:
        if limit.source is LimitSource.RR:
            self._by_loss = max(limit.bps, 64_000)
            self._loss_at = now
        elif limit.source is LimitSource.TMMBR:
            self.bps, self._candidate = limit.bps, None
        else:
            self._estimated(limit.bps, now)

    def _estimated(self, bps: int, now: float) -> None:
        lower = self.bps is None or bps < self.bps
        if not lower and self.bps is not None and bps < self.bps * _HIGHER:
            self._candidate = None
            return
        if self._candidate is None or lower != self._lower:
            self._candidate, self._lower, self._since = bps, lower, now
        self._candidate = bps if lower else min(bps, self._candidate)
        if now - self._since >= (_LOWER_AFTER if lower else _RAISE_AFTER):
            self.bps, self._candidate = self._candidate, None

    def current(self, now: float) -> int | None:
        """The limit to keep to now, bit/s; None while nothing limits."""
        limits = [] if self.bps is None else [self.bps]
        if self._by_loss is not None:
            recovered = self._by_loss * _LOSS_RECOVERY ** min(now - self._loss_at, _LOSS_FORGOTTEN)
            if recovered > 20_000_000:
                self._by_loss = None
            else:
                limits.append(int(recovered))
        return min(limits, default=None)
