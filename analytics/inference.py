"""Inference for many cameras on few threads, in turn: one camera never starves another.

    pool = await InferencePool.open(package, threads=1)      # ModelFault
    place = pool.place(deliver, loop)
    place.put(look)                                          # any thread, never blocks
    await place.aclose(); await pool.aclose()

Each thread has a detector of its own. A camera has one picture waiting at most, the newest: what came before
it and was not looked at yet is thinned out and counted.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from analytics.detection import Bgr, Detection
from analytics.detector import Detector
from analytics.model_package import ModelPackage
from analytics.picture_decoder import Glimpse
from media.codec_worker import CodecPool, Lane, LatestInbox

NICE = 10
"""Added niceness of threads that look: sound, signalling and recording go first."""


@dataclass(frozen=True, slots=True)
class Look:
    """A picture for the detector, or past it, to keep its order, where `wanted` is false: nothing moved."""

    glimpse: Glimpse
    moved: bool
    wanted: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """A look and what was found; None where nobody looked."""

    look: Look
    detections: tuple[Detection, ...] | None


Place = Lane[Look, Looked]


class LookInbox(LatestInbox[Look]):
    """The newest picture waits; it is looked at if the one that it replaced was to be."""

    def put(self, item: Look) -> int:
        if self._items:
            waiting = self._items[-1]
            item = replace(item, moved=item.moved or waiting.moved, wanted=item.wanted or waiting.wanted)
        return super().put(item)


class Looker(Protocol):
    """Whoever finds things in a picture, in a worker thread."""

    def detect(self, picture: Bgr) -> tuple[Detection, ...]: ...


class InferencePool:
    """See the module's head. Made by `open`, as reading a model takes a moment."""

    def __init__(self, detectors: Sequence[Looker]) -> None:
        """Runs as many threads as there are detectors."""
        self.looks = 0
        self._idle = deque(detectors)
        self._threads = len(detectors)
        self._busy = 0.0
        self._counting = threading.Lock()
        self._measured = (time.monotonic(), 0.0)
        self._pool = CodecPool(self._threads, "inference", NICE)

    @classmethod
    async def open(cls, package: ModelPackage, threads: int) -> InferencePool:
        """A pool for this model. Raises ModelFault when the model does not do what its package says."""
        return cls(await asyncio.to_thread(lambda: [Detector(package) for _ in range(threads)]))

    def place(
        self, deliver: Callable[[Sequence[Looked]], None], loop: asyncio.AbstractEventLoop, name: str = ""
    ) -> Place:
        """A camera's place in the round; results come to `deliver` on the event loop."""
        return self._pool.lane(self._look, inbox=LookInbox(), deliver=deliver, loop=loop, name=name)

    def load(self) -> float:
        """The share of the threads' time in use since the last call, 0..1."""
        now, busy = time.monotonic(), self._busy
        (then, before), self._measured = self._measured, (now, busy)
        return min((busy - before) / max((now - then) * self._threads, 1e-3), 1.0)

    async def aclose(self) -> None:
        """Ends the threads; looks that wait are dropped."""
        await self._pool.aclose()

    def _look(self, look: Look) -> Iterable[Looked]:
        if not look.wanted:
            return [Looked(look, None)]
        detector = self._idle.popleft()  # there is one for each thread
        began = time.monotonic()
        try:
            return [Looked(look, detector.detect(look.glimpse.picture))]
        finally:
            self._idle.append(detector)
            with self._counting:
                self.looks += 1
                self._busy += time.monotonic() - began
