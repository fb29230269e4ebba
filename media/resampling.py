"""Sample rate conversion by whole factors, block by block, in numpy.

    Upsampler(factor).process(samples) -> samples * factor
    Downsampler(factor).process(samples) -> samples / factor      block lengths are multiples of the factor

Polyphase windowed-sinc filters: flat to 0.85 of the lower rate's half, 60 dB down where images would fold.
Blocks join without a seam; the delay is 12 samples at the lower rate (1.5 ms at 8 kHz).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
"""Mono sound, 16 bits."""

TAPS = 24
"""Length of the filter in samples of the lower rate."""


@functools.cache
def _prototype(factor: int) -> NDArray[np.float32]:
    """Low-pass of TAPS * factor coefficients with gain 1, Kaiser window with beta 6 (60 dB)."""
    length = TAPS * factor
    positions = (np.arange(length) - (length - 1) / 2) / factor
    low_pass = np.sinc(positions) * np.kaiser(length, 6.0)
    return np.asarray(low_pass / low_pass.sum(), np.float32)


@functools.cache
def _windows(count: int, length: int, step: int) -> NDArray[np.intp]:
    """Indices of `count` windows of `length` samples, `step` apart."""
    return np.arange(count)[:, None] * step + np.arange(length)[None, :]


def _to_int16(signal: NDArray[np.float32]) -> Samples:
    return np.clip(np.rint(signal), -32768, 32767).astype(np.int16)


class Upsampler:
    def __init__(self, factor: int) -> None:
        self.factor = factor
        # column p holds the coefficients of output phase p, in the order of the input window
        phases = _prototype(factor).reshape(TAPS, factor)[::-1] * factor
        self._phases = np.ascontiguousarray(phases)
        self._history = np.zeros(TAPS - 1, np.float32)

    def process(self, samples: Samples) -> Samples:
        signal = np.concatenate((self._history, samples.astype(np.float32)))
        self._history = signal[len(signal) - (TAPS - 1) :]
        return _to_int16((signal[_windows(len(samples), TAPS, 1)] @ self._phases).reshape(-1))


class Downsampler:
    def __init__(self, factor: int) -> None:
        self.factor = factor
        self._taps = _prototype(factor)
        self._history = np.zeros(TAPS * factor - factor, np.float32)

    def process(self, samples: Samples) -> Samples:
        count, rest = divmod(len(samples), self.factor)
        if rest:
            raise ValueError(f"{len(samples)} samples are not a multiple of {self.factor}")
        signal = np.concatenate((self._history, samples.astype(np.float32)))
        self._history = signal[len(signal) - len(self._history) :]
        return _to_int16(signal[_windows(count, len(self._taps), self.factor)] @ self._taps)
