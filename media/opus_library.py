"""libopus itself, for what libav does not pass on: forward error correction and its own concealment (RFC 6716
2.1.7, RFC 7587 3.3).

    library = opus_library()                 None where none is found: then nothing is recovered
    decoder = OpusState(library)
    decoder.decode(payload); decoder.recover(following, count)
"""

from __future__ import annotations

import ctypes
import ctypes.util
import weakref
from functools import cache
from pathlib import Path

import av
import numpy as np

from media.resampling import Samples

RATE = 48_000
_MOST = RATE * 120 // 1000
"""Samples of the longest packet (RFC 6716 2.1.4)."""
STEP = RATE * 25 // 10_000
"""Opus frames and their concealment come in multiples of 2.5 ms."""


class OpusFault(ValueError):
    """libopus refused a payload; the number is its error code."""


@cache
def opus_library() -> ctypes.CDLL | None:
    """The library that came with PyAV, else the system's."""
    beside = sorted(Path(av.__file__).parent.parent.glob("av.libs/libopus[-.]*"))
    system = ctypes.util.find_library("opus")
    for name in (*map(str, beside), *([system] if system else [])):
        try:
            return _declared(ctypes.CDLL(name))
        except (OSError, AttributeError):  # not for this machine, or not what it is called
            continue
    return None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """opus.h, as far as it is used here."""
    library.opus_decoder_create.restype = ctypes.c_void_p
    library.opus_decoder_create.argtypes = (ctypes.c_int32, ctypes.c_int, ctypes.POINTER(ctypes.c_int))
    library.opus_decoder_destroy.restype = None
    library.opus_decoder_destroy.argtypes = (ctypes.c_void_p,)
    library.opus_decode.restype = ctypes.c_int
    library.opus_decode.argtypes = (
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_int,
    )
    return library


class OpusState:
    """One stream's decoder: mono at 48 kHz. Not for two threads at once."""

    def __init__(self, library: ctypes.CDLL) -> None:
        error = ctypes.c_int(0)
        handle = library.opus_decoder_create(RATE, 1, ctypes.byref(error))
        if not handle:
            raise OpusFault(f"libopus makes no decoder: error {error.value}")
        self._library = library
        self._handle = handle
        self._samples = np.zeros(_MOST, np.int16)
        weakref.finalize(self, library.opus_decoder_destroy, handle)

    def decode(self, payload: bytes) -> Samples:
        """Raises OpusFault."""
        return self._decode(payload, _MOST, fec=False)

    def recover(self, following: bytes, count: int, packet: int) -> Samples:
        """`count` samples lost before the payload `following`, before that is decoded.

        The last `packet` of them come out of what `following` repeats, if it does; the others go on from what
        came before. Both numbers are multiples of STEP. Raises OpusFault.
        """
        repeated = min(packet, count)
        parts = []
        if count > repeated:
            parts.append(self._decode(None, count - repeated, fec=False))
        parts.append(self._decode(following, repeated, fec=True))
        return np.concatenate(parts)

    def _decode(self, payload: bytes | None, room: int, *, fec: bool) -> Samples:
        size = 0 if payload is None else len(payload)
        made = self._library.opus_decode(
            self._handle, payload, size, self._samples.ctypes.data, min(room, _MOST), int(fec)
        )
        if made < 0:
            raise OpusFault(f"libopus cannot decode {size} bytes: error {made}")
        return self._samples[:made].copy()
