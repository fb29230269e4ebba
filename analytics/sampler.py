"""One camera's pictures, about `rate` a second, each with what the detector saw in it.

    sampler = Sampler("3402...", source, decoding, inference, SamplerSettings(rate=1.0))
    async with sampler:
        async for seen in sampler:            # Sample, or StreamLost and again Sample
            ...
    sampler.status() -> SamplerStatus

While it runs it holds the camera's stream, opens it anew when it ends or fails, and has it decoded, gated and
looked at in the threads of two pools that all cameras share. Nothing waits for a slow consumer: the newest
samples win, and what was dropped is counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import TracebackType

import structlog

from analytics.detection import Sample, Seen, StreamLost
from analytics.inference import InferencePool, Look, Looked, Place
from analytics.motion_gate import MotionGate
from analytics.picture_decoder import SampleDecoder, SamplePlan
from foundation.clock import Clock, SystemClock
from foundation.tasks import Backoff
from media.codec_worker import CodecPool, KeyFrameInbox
from media.packet import Packet
from media.stream import Stream
from media.stream_source import StreamSource, StreamUnavailable

log = structlog.get_logger(__name__)

BATCHES_WAITING = 32
"""Pictures to be that may wait for decoding: a reader begins with a whole group of pictures."""
SAMPLES_WAITING = 4
"""Samples that may wait for the consumer; each holds a picture."""
WINDOW = 10.0
"""Seconds over which rates are judged."""
OVERLOADED, RECOVERED = 0.15, 0.05
"""The share of pictures that were thinned out, from which and until which sampling counts as overloaded."""


class SamplerState(StrEnum):
    WAITING = "waiting"
    """No picture yet."""
    WATCHING = "watching"
    OVERLOADED = "overloaded"
    """Pictures come faster than they can be looked at: some are thinned out."""
    FAILED = "failed"
    """The stream is lost; it is tried again by itself."""


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """`rate`: pictures a second; `forced_look`: seconds after which the detector looks even where nothing
    moved; `silence`: seconds without a picture from which a stream counts as lost."""

    rate: float = 1.0
    forced_look: float = 5.0
    silence: float = 10.0


@dataclass(frozen=True, slots=True)
class SamplerStatus:
    """How a camera's sampling does. Rates are pictures a second over the last ten seconds; `thinned` pictures
    were left out since the start because newer ones came first; `undelivered` samples met a slow consumer."""

    state: SamplerState
    detail: str
    samples: int
    inferences: int
    wanted_rate: float
    achieved_rate: float
    thinned: int
    undelivered: int
    last_sample_ago: float | None


class Sampler:
    """See the module's head. Made and used inside one event loop; `source` opens "camera:ID"."""

    def __init__(
        self,
        camera_id: str,
        source: StreamSource,
        decoding: CodecPool,
        inference: InferencePool,
        settings: SamplerSettings | None = None,
        *,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.camera_id = camera_id
        self._source = source
        self._decoding = decoding
        self._inference = inference
        self._settings = settings or SamplerSettings()
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff(first=0.5, limit=15.0)
        self._pace = _Pace(self._clock.monotonic())
        self._waiting: deque[Seen] = deque()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._place: Place | None = None
        self._samples = self._inferences = self._undelivered = self._undecoded = self._frames = 0
        self._began = self._spoke = self._clock.monotonic()
        self._last_picture: float | None = None
        self._lost = ""
        self._overloaded = False
        self._settled = self._began + WINDOW

    async def __aenter__(self) -> Sampler:
        name = f"camera:{self.camera_id}"
        self._place = self._inference.place(self._on_looked, asyncio.get_running_loop(), name)
        self._task = asyncio.create_task(self._run(self._place), name=f"sampler.{self.camera_id}")
        self._task.add_done_callback(lambda _task: self._ready.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Lets go of the stream; iterating ends. Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if self._place is not None:
            await self._place.aclose()
        self._waiting.clear()

    def __aiter__(self) -> Sampler:
        return self

    async def __anext__(self) -> Seen:
        while not self._waiting:
            if self._task is None or self._task.done():
                if self._task is not None and not self._task.cancelled():
                    self._task.result()  # a fault of ours does not look like a camera's end
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        return self._waiting.popleft()

    def status(self) -> SamplerStatus:
        """How it does, now."""
        now = self._clock.monotonic()
        achieved = self._pace.achieved(now)
        last = self._last_picture
        if self._lost:
            state, detail = SamplerState.FAILED, self._lost
        elif self._overloaded:
            state, detail = SamplerState.OVERLOADED, self._overload_text(achieved)
        else:
            state, detail = (SamplerState.WAITING if last is None else SamplerState.WATCHING), ""
        return SamplerStatus(
            state,
            detail,
            self._samples,
            self._inferences,
            self._settings.rate,
            achieved,
            self._thinned,
            self._undelivered,
            None if last is None else now - last,
        )

    # The stream

    async def _run(self, place: Place) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name=f"sampler.{self.camera_id}.watch")
            while True:
                try:
                    async with self._source.open(f"camera:{self.camera_id}") as stream:
                        await self._follow(stream, place)
                    self._lose("the stream ended")
                except StreamUnavailable as error:
                    self._lose(str(error))
                await asyncio.sleep(self._backoff.next_delay())

    async def _follow(self, stream: Stream, place: Place) -> None:
        """Has the stream's frames decoded until it ends. Raises StreamUnavailable for a strange codec."""
        settings = self._settings
        self._settled = self._clock.monotonic() + WINDOW
        try:
            decoder = SampleDecoder(stream.format.codec, stream.format.clock_rate)
        except ValueError as error:
            raise StreamUnavailable(str(error)) from None
        plan = SamplePlan(stream.format.clock_rate, 1 / settings.rate)
        eye = _Eye(decoder, settings.forced_look)
        lane = self._decoding.lane(
            eye.look,
            inbox=KeyFrameInbox(BATCHES_WAITING, _begins_with_key),
            deliver=lambda looks: _put_all(place, looks),
            name=f"camera:{self.camera_id}",
        )
        try:
            async with stream.reader() as reader:
                async for packet in reader:
                    self._frames += 1
                    frames = plan.offer(packet)
                    if frames and not lane.put(frames):
                        self._undecoded += 1
                        stream.request_keyframe()
        finally:
            await lane.aclose()

    # What was seen

    def _on_looked(self, batch: Sequence[Looked]) -> None:
        now, wall = self._clock.monotonic(), self._clock.now()
        for looked in batch:
            glimpse = looked.look.glimpse
            self._samples += 1
            self._inferences += looked.detections is not None
            self._say(
                Sample(
                    camera_id=self.camera_id,
                    pts=glimpse.pts,
                    at=wall - timedelta(seconds=now - glimpse.arrival),
                    arrival=glimpse.arrival,
                    picture=glimpse.picture,
                    detections=looked.detections,
                    moved=looked.look.moved,
                )
            )
            self._pace.sample(now)
        self._last_picture = batch[-1].look.glimpse.arrival
        self._lost = ""
        self._frames = 0
        self._backoff.reset()

    def _lose(self, reason: str) -> None:
        if reason != self._lost:
            log.warning("camera_not_seen", camera=self.camera_id, reason=reason)
        self._lost = reason
        since = self._began if self._last_picture is None else self._last_picture
        now = self._clock.monotonic()
        self._say(StreamLost(self.camera_id, self._clock.now(), now, since, reason))

    def _say(self, seen: Seen) -> None:
        self._spoke = self._clock.monotonic()
        self._waiting.append(seen)
        if len(self._waiting) > SAMPLES_WAITING:
            self._waiting.popleft()
            self._undelivered += 1
        self._ready.set()

    # How it does

    @property
    def _thinned(self) -> int:
        return self._undecoded + (0 if self._place is None else self._place.counts.dropped)

    async def _watch(self) -> None:
        """Notices silence, and overload that comes and goes."""
        silence = self._settings.silence
        while True:
            await asyncio.sleep(min(1.0, silence / 4))
            now = self._clock.monotonic()
            if now - self._spoke >= silence:
                self._lose(self._silence_text())
            self._judge(now)

    def _silence_text(self) -> str:
        seconds = f"{self._settings.silence:g} s"
        if self._frames:
            return f"no whole picture could be decoded for {seconds}"
        return f"no picture has come for {seconds}"

    def _judge(self, now: float) -> None:
        share = self._pace.thinned(now, self._thinned)
        if now < self._settled:  # a reader begins with a group of pictures at once
            return
        if not self._overloaded and share >= OVERLOADED:
            self._overloaded = True
            rate = self._pace.achieved(now)
            log.warning("sampling_thinned", camera=self.camera_id, detail=self._overload_text(rate))
        elif self._overloaded and share <= RECOVERED:
            self._overloaded = False
            log.info("sampling_as_wanted_again", camera=self.camera_id)

    def _overload_text(self, achieved: float) -> str:
        rates = f"{achieved:.2f} of {self._settings.rate:g} pictures a second are looked at"
        return f"{rates}: this machine keeps up with no more"


class _Eye:
    """Decoding and gating of one stream, in a codec lane."""

    def __init__(self, decoder: SampleDecoder, forced_look: float) -> None:
        self._decoder = decoder
        self._gate = MotionGate()
        self._forced_look = forced_look
        self._looked: float | None = None

    def look(self, frames: Sequence[Packet]) -> Iterable[Look]:
        glimpse = self._decoder.take(frames)
        if glimpse is None:
            return []
        moved = self._gate.moved(glimpse.luma)
        since = None if self._looked is None else glimpse.pts - self._looked
        wanted = moved or since is None or not 0 <= since < self._forced_look
        if wanted:
            self._looked = glimpse.pts
        return [Look(glimpse, moved, wanted)]


class _Pace:
    """Samples and losses of the last seconds."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._samples: deque[float] = deque()
        self._losses: deque[tuple[float, int]] = deque(((began, 0),))

    def sample(self, now: float) -> None:
        self._samples.append(now)
        self._forget(now)

    def achieved(self, now: float) -> float:
        """Samples a second."""
        self._forget(now)
        return len(self._samples) / max(min(now - self._began, WINDOW), 1.0)

    def thinned(self, now: float, total: int) -> float:
        """The share of pictures that were left out, from the total since the start."""
        self._forget(now)
        self._losses.append((now, total))
        lost = total - self._losses[0][1]
        return lost / max(lost + len(self._samples), 1)

    def _forget(self, now: float) -> None:
        while self._samples and self._samples[0] < now - WINDOW:
            self._samples.popleft()
        while len(self._losses) > 1 and self._losses[0][0] < now - WINDOW:
            self._losses.popleft()


def _begins_with_key(frames: Sequence[Packet]) -> bool:
    return frames[0].keyframe


def _put_all(place: Place, looks: Sequence[Look]) -> None:
    for look in looks:
        place.put(look)
