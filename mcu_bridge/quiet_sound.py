"""Sound that need not be decoded: G.711 so quiet that nobody speaks in it.

Of a hundred sites four speak. Told from the coded bytes, quiet costs two microseconds; decoded, it goes
through a dozen steps in numpy, each of which lets go of the interpreter and waits to have it again.
"""

from __future__ import annotations

from collections import deque

from mcu_bridge.speakers import SPEECH_LEAST
from media.resampling import Samples
from media.sound_codecs import G711Decoder, SoundDecoder

KEPT = 2
"""Payloads kept, so that the first loud one is played as soon as ever: the least depth of a playout queue."""
QUIET_AFTER = 25
"""Payloads in a row: longer than a queue is deep, so that what is loud in it has been heard."""
_STEPS = 16
"""Of power, between nothing and the least of speech."""
_POWER = 32768.0**2 * 10 ** (SPEECH_LEAST / 10)


class QuietSound:
    """What one source sends, while it is quiet."""

    def __init__(self, table: Samples) -> None:
        powers = (float(sample) ** 2 / _POWER * _STEPS for sample in table)
        self._powers = bytes(min(255, round(power)) for power in powers)
        self._run = 0
        self.kept: deque[bytes] = deque(maxlen=KEPT)

    @classmethod
    def of(cls, decoder: SoundDecoder) -> QuietSound | None:
        """None for a codec whose bytes do not tell."""
        return cls(decoder.table) if isinstance(decoder, G711Decoder) else None

    def lasts(self, payload: bytes) -> bool:
        """Whether this payload, the next of the source, is quiet like those before it."""
        quiet = sum(payload.translate(self._powers)) < _STEPS * len(payload)
        self._run = self._run + 1 if quiet else 0
        return self._run >= QUIET_AFTER
