"""From a budget of IP packets to bit rates of coded media, and what the network says meanwhile. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from media.aac_sound import UNIT, AacCoding
from media.rtp_sender import BitrateLimit, LimitSource
from media.sound_codecs import SoundCodec, SoundCoding

RTP_HEADER = 12
PAYLOAD = 1200
"""Bytes of a full picture payload: fits any path of 1280 bytes and more with all headers."""
SOUND_PACKETS_PER_SECOND = 50
CONTROL_SHARE = 0.04
"""Of the whole budget: RTCP, STUN checks and repeats."""
OPUS_BITRATE = 32_000
_UNIT_HEADER = 4
"""Bytes before an AAC access unit (RFC 3640 3.2.1)."""

FLOOR = 128_000
"""What a network's feedback never takes a picture below, bit/s."""
SLIDES_SHARE = 0.6
"""Of the room for pictures, where slides go the same way as the main picture: letters must be legible."""
LEAST_PICTURE = 56_000
"""bit/s below which a picture is none: the lowest rung of the ladder."""
INCOMING_SHARE = 0.8
"""Of the room for a site's picture that we ask it to fill: encoders swing around the rate they are told."""

_CONVINCING = 0.9
"""An estimate says something only below this share of what is really sent."""
_LOWER_AFTER = 2.0
"""and once it did not rise for so many seconds: a receiver that waits for its queue to drain holds still."""
_RECOVERY = 1.04
_FORGOTTEN_AFTER = 120.0
"""Seconds of recovery after which any limit has grown out of sight (a hundredfold)."""


def sound_wire_bps(codec: SoundCoding | None, overhead: int) -> int:
    """What sound takes of a budget; `overhead` is what an RTP packet grows by on the wire."""
    if codec is None:
        return 0
    if isinstance(codec, AacCoding):
        return codec.bitrate + (_UNIT_HEADER + RTP_HEADER + overhead) * 8 * -(-codec.rate // UNIT)
    payload = OPUS_BITRATE // 8 // SOUND_PACKETS_PER_SECOND if codec is SoundCodec.OPUS else 160
    return (payload + RTP_HEADER + overhead) * 8 * SOUND_PACKETS_PER_SECOND


def picture_bps(wire_bps: int, sound_bps: int, overhead: int) -> int:
    """The bit rate that a picture's encoder may have within a budget; not below 0."""
    room = wire_bps * (1 - CONTROL_SHARE) - sound_bps
    return max(0, int(room * PAYLOAD / (PAYLOAD + RTP_HEADER + overhead)))


def picture_wire_bps(wire_bps: int, sound_bps: int) -> int:
    """What the picture may use of a budget on the wire: the b=AS of its section."""
    return max(0, int(wire_bps * (1 - CONTROL_SHARE)) - sound_bps)


@dataclass(frozen=True, slots=True)
class PictureShares:
    """What main picture and slides may have, bit/s; 0 for slides that do not go this way."""

    picture: int
    slides: int


def picture_shares(
    room: int, *, slides: bool, picture_most: int | None = None, slides_most: int | None = None
) -> PictureShares:
    """The room for pictures between the two; what one may not use (`most`) is the other's.

    Where the smaller share would be no picture, the main picture has it all, and the slides in it.
    """
    picture_most = room if picture_most is None else picture_most
    if not slides or min(room * (1 - SLIDES_SHARE), picture_most or room) < LEAST_PICTURE:
        return PictureShares(min(room, picture_most), 0)
    slides_most = room if slides_most is None else slides_most
    picture = min(room - min(int(room * SLIDES_SHARE), slides_most), picture_most)
    return PictureShares(picture, min(room - picture, slides_most))


@dataclass(slots=True)
class NetworkLimit:
    """What the way to a receiver carries, as far as its feedback proves it.

    A receiver's estimate (REMB) never exceeds half as much again as what we send it, so it says nothing
    about more while we send little; and once it has fallen it climbs slowly, so it says little about now.
    It is taken as a limit only after it stood below what we really send for two seconds and did not rise:
    an estimate that rises while more is sent tells of a way that carries more, whatever had stalled before.
    From then on the limit grows by four per cent a second until an estimate stands still below our rate
    again. TMMBR is an order and holds as given. Loss above a tenth limits at once.
    Nothing of this goes below `FLOOR`: a thin picture is sent even on a bad line.
    """

    _told: int = 0
    _estimate: float | None = None
    _below_since: float | None = None
    _ordered: int | None = None
    _by_loss: float | None = None
    _estimate_at: float = 0.0
    _loss_at: float = 0.0

    def report(self, limit: BitrateLimit, sending_bps: int, now: float) -> None:
        """Feedback came while we send at `sending_bps`."""
        match limit.source:
            case LimitSource.RR:
                self._by_loss, self._loss_at = float(limit.bps), now
            case LimitSource.TMMBR:
                self._ordered = limit.bps
            case LimitSource.REMB:
                self._estimated(limit.bps, sending_bps, now)

    def _estimated(self, bps: int, sending_bps: int, now: float) -> None:
        rising, self._told = bps > self._told, bps
        if bps >= sending_bps * _CONVINCING:
            self._below_since = None
        elif rising or self._below_since is None:
            self._below_since = now
        elif now - self._below_since >= _LOWER_AFTER:
            self._estimate, self._estimate_at = float(bps), now

    def current(self, now: float) -> int | None:
        """The limit to keep to now, bit/s; None while nothing limits."""
        limits: list[float] = [] if self._ordered is None else [self._ordered]
        if self._estimate is not None:
            limits.append(_grown(self._estimate, now - self._estimate_at))
        if self._by_loss is not None:
            limits.append(_grown(self._by_loss, now - self._loss_at))
        return None if not limits else max(int(min(limits)), FLOOR)


def _grown(limit: float, seconds: float) -> float:
    recovery: float = _RECOVERY ** min(seconds, _FORGOTTEN_AFTER)
    return max(limit, FLOOR) * recovery
