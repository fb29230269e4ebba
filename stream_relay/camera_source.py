"""One camera as Streams, pulled once for any number of readers and only while somebody holds it.

    source = CameraSource("34020000001320000001", CameraSettings("rtsp://192.0.2.7/ch1", "admin", "secret"))
    async with source.hold():
        stream = await source.video(timeout=10)        # raises CameraFault: who erred
        async with stream.reader() as reader:
            async for packet in reader: ...            # goes on over reconnects
        ...                                            # ended: the format changed, ask `video` again
    await source.aclose()

Time stamps go on over jumps and reconnects by the time that has passed. Packets keep the order of decoding,
their `pts` is that of presentation: with B-frames it steps back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog

from foundation.tasks import Backoff
from media.packet import Format, Packet
from media.rtp_statistics import RateMeter
from media.stream import Stream
from protocols.rtsp.description import Address, Track
from stream_relay.camera_pull import CameraFault, CameraPull, CameraSettings, Cause
from stream_relay.rejoiner import Rejoiner
from stream_relay.track_formats import CodedPicture, sound_format

__all__ = ["CameraCounts", "CameraFault", "CameraSettings", "CameraSource", "CameraState", "Cause"]

IDLE_AFTER = 10.0
"""Seconds without a holder after which the camera is let go."""
WRONG_PASSWORD_DELAY = 60.0
"""Cameras lock an account that is tried too often."""

_PROVEN_AFTER = 10.0
"""Seconds after which a connection counts as good, so that the next try comes soon."""

_log = structlog.get_logger("camera")


class CameraState(StrEnum):
    IDLE = "idle"
    CONNECTING = "connecting"
    PLAYING = "playing"
    """Pictures come."""
    WAITING = "waiting"
    """The last try failed (see `fault`); the next one comes by itself."""


@dataclass(slots=True)
class CameraCounts:
    """Totals of a source. `damaged`: frames that missed bytes; `undecodable`: came before any key frame."""

    connections: int = 0
    failures: int = 0
    frames: int = 0
    damaged: int = 0
    undecodable: int = 0
    format_changes: int = 0


class CameraSource:
    """See the module's head. Made and used inside one event loop. Raises ValueError for a wrong address."""

    def __init__(
        self,
        id: str,
        settings: CameraSettings,
        *,
        idle_after: float = IDLE_AFTER,
        backoff: Backoff | None = None,
    ) -> None:
        Address.parse(settings.url)
        self.id = id
        self.state = CameraState.IDLE
        self.fault: CameraFault | None = None
        self.counts = CameraCounts()
        self.has_sound_track = False
        self.seen: CodedPicture | None = None
        """The latest picture's size and profile, also once nobody watches any more."""
        self.heard: Format | None = None
        """Of its sound, likewise."""
        self._settings = settings
        self._idle_after = idle_after
        self._backoff = backoff or Backoff(first=0.5, limit=30.0)
        self._holders = 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._video: Stream | None = None
        self._sound: Stream | None = None
        self._picture: CodedPicture | None = None
        self._pull: CameraPull | None = None
        self._locked_until = 0.0
        self._frame_meter = RateMeter()
        self._rejoiners: dict[str, Rejoiner] = {}
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def holders(self) -> int:
        return self._holders

    @property
    def settings(self) -> CameraSettings:
        return self._settings

    def bitrate(self, now: float) -> int:
        """What the camera sent in the last second, bit/s."""
        return 0 if self._pull is None else self._pull.bitrate(now)

    def frame_rate(self, now: float) -> float:
        """Pictures in the last second."""
        return self._frame_meter.bitrate(now) / 8

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[CameraSource]:
        """Demand: the camera is pulled while anybody is in here, and `idle_after` seconds longer."""
        if self._closed:
            raise CameraFault(Cause.ENDED, f"camera {self.id} is no longer served")
        self._holders += 1
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._task is None:
            self._start()
        try:
            yield self
        finally:
            self._holders -= 1
            if not self._holders and not self._closed:
                loop = asyncio.get_running_loop()
                self._idle_timer = loop.call_later(self._idle_after, self._let_go)

    async def video(self, timeout: float = 10.0) -> Stream:
        """The pictures' stream, waited for while the camera opens. Call it inside `hold`. Raises CameraFault
        at once when the last try failed and there is no picture yet."""
        try:
            async with asyncio.timeout(timeout):
                while self._video is None or self._video.closed:
                    if self.fault is not None:
                        raise self.fault
                    if self._closed or self._task is None:
                        raise CameraFault(Cause.ENDED, f"camera {self.id} was let go")
                    await self._changed.wait()
        except TimeoutError:
            what = "no key frame, though frames come," if self.counts.undecodable else "no picture"
            raise CameraFault(Cause.TIMED_OUT, f"{what} within {timeout:g} s") from None
        return self._video

    async def sound(self, timeout: float = 0.5) -> Stream | None:
        """The sound's stream; it may begin later than the pictures, or never. None: not by now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while (self._sound is None or self._sound.closed) and self.has_sound_track:
                    await self._changed.wait()
        return self._sound

    async def aclose(self) -> None:
        """Ends the pull and the streams for good; safe to call twice."""
        self._closed = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._let_go()
        await asyncio.gather(*self._ending, return_exceptions=True)

    # -- PullOwner

    def pull_started(self, tracks: Sequence[Track]) -> None:
        self.counts.connections += 1
        self.has_sound_track = any(track.media == "audio" for track in tracks)
        for rejoiner in self._rejoiners.values():
            rejoiner.break_off()
        _log.info("camera plays", camera=self.id, tracks=[track.codec for track in tracks])
        self._notify()

    def packet_pulled(self, track: Track, packet: Packet) -> None:
        if self._task is None:
            return  # let go of between two datagrams
        self.counts.frames += 1
        self.counts.damaged += packet.damaged
        rejoiner = self._rejoiners.get(track.media)
        if rejoiner is None or rejoiner.clock_rate != track.clock_rate:
            rejoiner = self._rejoiners[track.media] = Rejoiner(track.clock_rate)
        packet = rejoiner.carry(packet)
        if track.media == "video":
            self._frame_meter.add(1, packet.arrival)
            stream = self._video_stream(packet)
        else:
            stream = self._sound_stream(track)
        if stream is None:
            self.counts.undecodable += 1
            return
        if self.state is CameraState.CONNECTING and track.media == "video":
            # Not sooner: one that answers and sends nothing of use has not been mended by that.
            self.state, self.fault = CameraState.PLAYING, None
            self._notify()
        stream.publish(packet)

    # -- the pull

    def _start(self) -> None:
        if time.monotonic() >= self._locked_until:
            self.fault = None
        self._backoff.reset()
        self._task = asyncio.create_task(self._run(), name=f"camera.{self.id}")

    def _let_go(self) -> None:
        """Nobody watches: the streams end now, the pull as soon as its task runs."""
        self._idle_timer = None
        if self._task is not None:
            self._ending.add(self._task)
            self._task.add_done_callback(self._ending.discard)
            self._task.cancel()
            self._task = None
        for stream in (self._video, self._sound):
            if stream is not None:
                stream.close()
        self._video = self._sound = self._picture = self._pull = None
        self.has_sound_track = False
        self._rejoiners.clear()
        self.state = CameraState.IDLE
        self._notify()

    async def _run(self) -> None:
        if (locked := self._locked_until - time.monotonic()) > 0:
            # Nor may those who come and go make a camera lock the account.
            self.state = CameraState.WAITING
            await asyncio.sleep(locked)
        while True:
            self.state = CameraState.CONNECTING
            began = time.monotonic()
            self._pull = CameraPull(self._settings, self)
            try:
                await self._pull.run()
            except CameraFault as fault:
                self.fault = fault
            except Exception as error:
                # Whatever a camera can make us stumble over, the next try may go well.
                _log.error("camera pull failed", camera=self.id, exc_info=error)
                self.fault = CameraFault(Cause.GARBAGE, f"what came could not be taken: {error}")
            self._pull = None
            if time.monotonic() - began > _PROVEN_AFTER:
                self._backoff.reset()
            delay = self._backoff.next_delay()
            assert self.fault is not None, "a pull ends by a fault or is cancelled"
            if self.fault.cause is Cause.WRONG_PASSWORD:
                delay = max(delay, WRONG_PASSWORD_DELAY)
                self._locked_until = time.monotonic() + delay
            self.counts.failures += 1
            self.state = CameraState.WAITING
            _log.warning("camera failed", camera=self.id, reason=str(self.fault), again_in=round(delay, 2))
            self._notify()
            await asyncio.sleep(delay)

    # -- streams

    def _video_stream(self, packet: Packet) -> Stream | None:
        """The stream this packet belongs to. A key frame of another size or profile begins a new one, so that
        no decoder or recorder downstream is surprised in the middle."""
        if not packet.keyframe or packet.damaged:
            return self._video
        picture = CodedPicture.of(packet.data)
        if picture is None or (self._picture is not None and picture.format == self._picture.format):
            return self._video
        known, self._picture = self._picture, picture
        self.seen = picture
        if self._video is not None and known is not None and picture.identity == known.identity:
            self._video.format = picture.format
            return self._video
        self._video = self._begin(self._video, Stream(f"camera:{self.id}", picture.format))
        return self._video

    def _sound_stream(self, track: Track) -> Stream:
        wanted = sound_format(track)
        if self._sound is None or self._sound.format != wanted:
            self._sound = self._begin(self._sound, Stream(f"camera:{self.id}/sound", wanted))
            self.heard = wanted
        return self._sound

    def _begin(self, before: Stream | None, stream: Stream) -> Stream:
        if before is not None:
            self.counts.format_changes += 1
            _log.info("camera changes its format", camera=self.id, format=stream.format.codec)
            before.close()
        # Whoever reads the old stream to its end and asks again must find the new one.
        asyncio.get_running_loop().call_soon(self._notify)
        return stream

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
