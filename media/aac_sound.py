"""AAC-LC made of the 20 ms frames that are mixed: an access unit of 1024 samples now, none then.

encoder = AacEncoder(AacCoding(48_000, channels=1))
encoder.encode(960 samples at 48 kHz) -> an access unit without ADTS, or b"" while one is not full
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from media.resampling import Samples

UNIT = 1024
"""Samples of an access unit, at its own rate."""
_RATE = 48_000
_BITRATE = 48_000
_STEREO_BITRATE = 64_000


@dataclass(frozen=True, slots=True)
class AacCoding:
    """How somebody is sent AAC-LC; of two channels both are the same."""

    rate: int
    channels: int

    @property
    def bitrate(self) -> int:
        return _BITRATE if self.channels == 1 else _STEREO_BITRATE


class AacEncoder:
    def __init__(self, coding: AacCoding) -> None:
        context = av.CodecContext.create("aac", "w")
        if not isinstance(context, AudioCodecContext):
            raise TypeError("aac is not a sound codec")
        context.sample_rate = coding.rate
        context.layout = self._layout = "mono" if coding.channels == 1 else "stereo"
        context.format = "fltp"
        context.bit_rate = coding.bitrate
        context.open()
        self._context = context
        self._channels = coding.channels
        self._units: deque[bytes] = deque(maxlen=4)
        self._pts = 0

    def encode(self, samples: Samples) -> bytes:
        """960 samples at 48 kHz make less than a unit, so that one waits at the most."""
        sides = np.repeat(samples, self._channels)  # libav would make them quieter
        frame = av.AudioFrame.from_ndarray(sides[None, :], format="s16", layout=self._layout)
        frame.sample_rate = _RATE
        frame.pts = self._pts
        self._pts += len(samples)
        self._units += [bytes(packet) for packet in self._context.encode(frame)]
        return self._units.popleft() if self._units else b""
