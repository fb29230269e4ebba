"""What the depacketizers of H.261 and H.263 share: pictures gathered by marker and by change of timestamp.

A part that goes on from one that never came is of no use; a picture is picked up again at the next start
code, and counts as damaged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from protocols.payloads import Frame
from protocols.payloads.bit_string import BitSpan, join

MAX_PICTURE = 1024 * 1024
MAX_PARTS = 4096


@dataclass(frozen=True, slots=True)
class Part:
    """The bits of one payload. `resumes`: they begin with a start code; `begins`: with that of a picture."""

    span: BitSpan
    resumes: bool
    begins: bool


class PictureDepacketizer(ABC):
    """See the module's head. Subclasses read payloads and say which pictures are key frames."""

    def __init__(self, max_size: int = MAX_PICTURE) -> None:
        self.malformed = 0
        self._max_size = max_size
        self._markers_come = False
        self._timestamp: int | None = None
        self._ended = False
        self._restart()

    @property
    def needs_keyframes(self) -> bool:
        return True

    def push(self, payload: bytes, timestamp: int, marker: bool, after_loss: bool = False) -> list[Frame]:
        frames: list[Frame] = []
        if timestamp != self._timestamp:
            if after_loss:
                self._damaged = True
                self._came += bool(self._parts)  # its end may be among what was lost
            frames = self._finish()
            self._timestamp = timestamp
            self._ended = False
        if after_loss:
            self._broken = True
            self._came += 1
        if payload:
            self._came += 1
            self._take(payload)
        if marker:
            self._markers_come = True
            frames += self._finish()
            self._ended = True
        return frames

    def flush(self) -> list[Frame]:
        # Of a sender that marks the ends of its pictures, one without its end is not whole.
        self._damaged |= self._markers_come
        frames = self._finish()
        self._timestamp = None
        return frames

    def _restart(self) -> None:
        self._parts: list[BitSpan] = []
        self._size = 0
        self._came = 0
        """Payloads, and gaps between them."""
        self._damaged = False
        self._broken = False
        """The next part does not go on from the last one that came."""

    def _take(self, payload: bytes) -> None:
        part = self._read(payload)
        too_much = self._size + len(payload) > self._max_size or len(self._parts) >= MAX_PARTS
        if part is None or part.span.bits <= 0 or too_much:
            self.malformed += 1
            self._broken = True
            return
        if not self._parts:
            if not part.begins:
                self._broken = True  # its beginning never came, or what came was not one
                return
            self._broken = False  # what was lost with this timestamp came before the picture's beginning
        elif self._broken:
            self._damaged = True
            if not part.resumes:
                return
            self._broken = False
        self._parts.append(part.span)
        self._size += len(payload)

    def _finish(self) -> list[Frame]:
        parts, damaged, came = self._parts, self._damaged | self._broken, self._came
        self._restart()
        if not parts:
            return []
        assert self._timestamp is not None, "a picture has the timestamp it was pushed with"
        data = join(_met(parts))
        missing = 1 - len(parts) / max(came, len(parts)) if damaged else 0.0
        return [Frame(data, self._timestamp, self._is_keyframe(data), damaged, missing=missing)]

    @abstractmethod
    def _read(self, payload: bytes) -> Part | None:
        """What a payload holds; None for one of no use."""

    @abstractmethod
    def _is_keyframe(self, picture: bytes) -> bool: ...


def _met(parts: Sequence[BitSpan]) -> Sequence[BitSpan]:
    """Parts that do not meet within a byte, by a loss between them: the later one begins with a whole byte,
    where decoders look for start codes."""
    if all(one.ebit + other.sbit in (0, 8) for one, other in pairwise(parts)):
        return parts
    met: list[BitSpan] = []
    bits = ebit = 0
    for span in parts:
        if bits % 8 and ebit + span.sbit != 8:
            met.append(BitSpan(bytes(1), 0, bits % 8))
            bits += -bits % 8
        met.append(span)
        bits, ebit = bits + span.bits, span.ebit
    return met
