"""A participant that is a stream: seen and heard like anybody, sent nothing.

    participant = StreamParticipant(spec, "camera:340...", streams, listeners, loop)
    ...
    participant.close(); await participant.aclose()

Two tasks follow it: one opens the stream for pictures, one `<stream>/sound`. Each reads to the end and opens
anew, soon after what went well and ever more rarely after what did not. In between the participant has no
picture, or no sound. Its stream may be reordered (B-frames): that is measured, see `MeasuredSource`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from foundation.desks import LegReport, ParticipantSpec, SectionKind
from foundation.tasks import Backoff
from mcu_bridge.lip_sync import LipSync
from mcu_bridge.measured_source import MeasuredSource
from mcu_bridge.picture_leg import STALE_AFTER
from mcu_bridge.picture_plan import PictureSource
from media.codecs import VideoCodec
from media.freezes import FreezeMeter
from media.packet import Format, Packet, is_shown
from media.sound_codecs import RATE, UnsupportedSound, samples_in
from media.stream import Stream
from media.stream_source import StreamSource, StreamUnavailable

log = structlog.get_logger(__name__)

SOUND = "/sound"
PROVEN_AFTER = 3.0
"""Seconds after which a stream counts as good: when it ends, it is opened again at once."""
PICTURE_WAITS = (0.1, 8.0)
SOUND_WAITS = (0.5, 15.0)
"""Seconds before the next try, the first and the longest. Many cameras have no sound. Pictures are asked for
before a camera's idle time is over: let go of and begun anew, it would try a wrong password again."""
STILL_AGE = 15.0
"""Seconds for which the latest key frame serves a receiver that joins between two."""
CONCEALED = 0.1
"""Seconds of missing sound that are still concealed."""
_WINDOW = 4.0
"""Seconds over which rates are measured: a camera's key frames are that far apart."""


@dataclass(frozen=True, slots=True)
class StreamListeners:
    """Whom a stream participant tells. `sound_began` raises UnsupportedSound for what it cannot take."""

    picture_began: Callable[[StreamPicture], None]
    picture_ended: Callable[[str], None]
    source_changed: Callable[[], None]
    sound_began: Callable[[str, Format], None]
    sound_ended: Callable[[str], None]
    heard: Callable[[str, bytes, int], None]


class Arrivals:
    """What came in the last seconds, by its own arrival: a group of pictures from before counts as old."""

    def __init__(self) -> None:
        self.packets = 0
        self.damaged = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=1024)
        self._bytes = 0
        self._began: float | None = None

    def add(self, packet: Packet) -> None:
        self.packets += 1
        self.damaged += packet.damaged
        if self._began is None:
            self._began = packet.arrival
        if len(self._recent) == self._recent.maxlen:
            self._bytes -= self._recent[0][1]
        self._recent.append((packet.arrival, len(packet)))
        self._bytes += len(packet)

    def begin_anew(self) -> None:
        """Another stream: totals go on, rates begin."""
        self._recent.clear()
        self._bytes, self._began = 0, None

    def rates(self, now: float) -> tuple[float, float | None]:
        """Bit/s, and packets a second once a second has shown them."""
        while self._recent and now - self._recent[0][0] > _WINDOW:
            self._bytes -= self._recent.popleft()[1]
        if self._began is None:
            return 0.0, None
        span = min(max(now - self._began, 1.0), _WINDOW)
        whole = now - self._began >= 1.0
        return 8 * self._bytes / span, len(self._recent) / span if whole and self._recent else None


class StreamPicture:
    """Fulfils `PictureSender`: the picture of a participant that is a stream, None while it has none."""

    def __init__(self, participant_id: str, source_changed: Callable[[], None]) -> None:
        self.participant_id = participant_id
        self.stream: Stream | None = None
        self.arrivals = Arrivals()
        self._source_changed = source_changed
        self._measured = MeasuredSource("", source_changed)
        self._key: Packet | None = None
        self._latest: float | None = None
        self.motion = FreezeMeter()

    def begin(self, stream: Stream) -> None:
        self.stream = stream
        self.arrivals.begin_anew()
        self._measured = MeasuredSource(stream.format.codec, self._source_changed)

    def end(self) -> None:
        self.stream = self._key = self._latest = None
        self._measured.forget()
        self.motion.end(time.monotonic())

    def take(self, packet: Packet) -> None:
        self._latest = packet.arrival
        self.arrivals.add(packet)
        if packet.keyframe:
            self._key = packet
        self._measured.take(packet)
        stream = self.stream
        if stream is not None and self.source is not None and is_shown(stream.format.codec, packet):
            self.motion.picture(packet.arrival)

    def measure(self, now: float) -> None:
        """Follow the source's rates; called a few times a second."""
        bitrate, frame_rate = self.arrivals.rates(now)
        self._measured.follow(bitrate, now, frame_rate)

    def is_stale(self, now: float) -> bool:
        return self._latest is not None and now - self._latest > STALE_AFTER

    def forget_source(self) -> None:
        """The picture stopped; it is a source again with its next key frame."""
        self._measured.forget()
        self._latest = None
        self.motion.end(time.monotonic())

    @property
    def source(self) -> PictureSource | None:
        return None if self.stream is None else self._measured.source

    def still(self) -> Packet | None:
        """The latest key frame, if it is fresh: cameras make none on request."""
        key = self._key
        fresh = key is not None and time.monotonic() - key.arrival < STILL_AGE
        return key if fresh else None


class StreamSound:
    """A stream's sound on its way to the mixer, held back where it is ahead of its pictures."""

    def __init__(self, heard: Callable[[bytes, int], None], sync: LipSync) -> None:
        self.format: Format | None = None
        self.arrivals = Arrivals()
        self.lost = 0
        self._heard = heard
        self._sync = sync
        self._expected: int | None = None
        self._held: deque[tuple[float, bytes, int]] = deque(maxlen=200)

    def begin(self, coded: Format) -> None:
        self.format = coded
        self.arrivals.begin_anew()
        self._expected = None
        self._held.clear()

    def end(self) -> None:
        self.format = None
        self._held.clear()

    def take(self, packet: Packet) -> None:
        coded = self.format
        if coded is None:
            return
        self.arrivals.add(packet)
        self._sync.sound_came(packet)
        lost = self._lost_before(coded, packet)
        delay = self._sync.delay
        if delay or self._held:
            self._held.append((packet.arrival + delay, packet.data, lost))
        else:
            self._heard(packet.data, lost)

    def release(self, now: float) -> None:
        while self._held and self._held[0][0] <= now:
            _, data, lost = self._held.popleft()
            self._heard(data, lost)

    def _lost_before(self, coded: Format, packet: Packet) -> int:
        """A short hole in media time is loss, at 48 kHz; a long one is a pause."""
        expected, self._expected = self._expected, packet.pts + samples_in(coded, packet.data)
        if expected is None or not 0 < packet.pts - expected <= coded.clock_rate * CONCEALED:
            return 0
        lost = (packet.pts - expected) * RATE // coded.clock_rate
        self.lost += lost
        return lost


class StreamParticipant:
    """See the module's head. `fault` says why there is no picture just now."""

    def __init__(
        self,
        spec: ParticipantSpec,
        stream_id: str,
        streams: StreamSource,
        listeners: StreamListeners,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.spec = spec
        self.stream_id = stream_id
        self.fault: str | None = None
        self.picture = StreamPicture(spec.participant_id, listeners.source_changed)
        self._sync = LipSync()
        self.sound = StreamSound(self._hear, self._sync)
        self._streams = streams
        self._listeners = listeners
        self._pictures_came = asyncio.Event()
        self._closed = False
        self._tasks = tuple(
            loop.create_task(work, name=f"{name} of {spec.participant_id}")
            for name, work in (("pictures", self._follow_pictures()), ("sound", self._follow_sound()))
        )

    @property
    def participant_id(self) -> str:
        return self.spec.participant_id

    # --- the two streams --------------------------------------------------------------------------

    async def _follow_pictures(self) -> None:
        backoff = Backoff(*PICTURE_WAITS)
        while True:
            fault = await self._through(self.stream_id, self._show, backoff)
            if fault != self.fault:
                log.info("stream_participant_waits", stream=self.stream_id, why=fault)
            self.fault = fault
            await asyncio.sleep(backoff.next_delay())

    async def _follow_sound(self) -> None:
        """After a failure it is tried again when pictures begin, too: they may have brought it."""
        backoff = Backoff(*SOUND_WAITS)
        told = ""
        while True:
            self._pictures_came.clear()
            fault = await self._through(self.stream_id + SOUND, self._play, backoff)
            if fault != told:
                log.info("stream_participant_is_mute", stream=self.stream_id, why=fault)
            told = fault
            try:
                async with asyncio.timeout(backoff.next_delay()):
                    await self._pictures_came.wait()
            except TimeoutError:
                pass

    async def _through(
        self, stream_id: str, use: Callable[[Stream], Awaitable[None]], backoff: Backoff
    ) -> str:
        """Once from opening to the end; why it ended, in words."""
        opened = None
        try:
            async with self._streams.open(stream_id) as stream:
                opened = time.monotonic()
                await use(stream)
            fault = f"{stream_id} ended"
        except StreamUnavailable as error:
            fault = str(error) or f"{stream_id} cannot be had"
        except UnsupportedSound as error:
            fault = str(error)
        except Exception as error:  # whatever a source may raise, the next try may go well
            log.error("stream_participant_failed", stream=stream_id, exc_info=error)
            fault = f"{stream_id}: {error}"
        if opened is not None and time.monotonic() - opened > PROVEN_AFTER:
            backoff.reset()
        return fault

    async def _show(self, stream: Stream) -> None:
        if stream.format.codec not in _SHOWN:
            raise StreamUnavailable(f"{stream.format.codec} pictures cannot be shown in a meeting")
        self.picture.begin(stream)
        try:
            async with stream.reader() as reader:
                self._listeners.picture_began(self.picture)
                self._pictures_came.set()
                self.fault = None
                async for packet in reader:
                    self.picture.take(packet)
                    self._sync.picture_came(packet)
        finally:
            self.picture.end()
            if not self._closed:
                self._listeners.picture_ended(self.participant_id)

    async def _play(self, stream: Stream) -> None:
        self._listeners.sound_began(self.participant_id, stream.format)
        self.sound.begin(stream.format)
        try:
            async with stream.reader() as reader:
                async for packet in reader:
                    self.sound.take(packet)
        finally:
            self.sound.end()
            if not self._closed:
                self._listeners.sound_ended(self.participant_id)

    def _hear(self, payload: bytes, lost_samples: int) -> None:
        self._listeners.heard(self.participant_id, payload, lost_samples)

    # --- time and measures --------------------------------------------------------------------------

    def poll(self, now: float) -> None:
        """Every 20 ms: sound whose time has come."""
        self.sound.release(now)

    def reports(self, now: float) -> tuple[LegReport, ...]:
        """What comes in; a picture that does not come says why."""
        picture, sound = self.picture, self.sound
        source = picture.source
        stream = picture.stream
        stood = picture.motion.freezes(now)
        why = self.stream_id if self.fault is None else f"{self.stream_id} ({self.fault})"
        report = LegReport(
            participant_id=self.participant_id,
            kind=SectionKind.VIDEO,
            outgoing=False,
            codec="" if stream is None else stream.format.codec,
            bitrate_bps=round(picture.arrivals.rates(now)[0]),
            packets=picture.arrivals.packets,
            lost=picture.arrivals.damaged,
            jitter_ms=0.0,
            round_trip_ms=None,
            frames=picture.arrivals.packets,
            width=source.width if source else 0,
            height=source.height if source else 0,
            source=why,
            freezes=stood.count,
            frozen_seconds=round(stood.seconds, 1),
        )
        if sound.format is None:
            return (report,)
        heard = replace(
            report,
            kind=SectionKind.AUDIO,
            codec=sound.format.codec,
            bitrate_bps=round(sound.arrivals.rates(now)[0]),
            packets=sound.arrivals.packets,
            lost=sound.arrivals.damaged,
            frames=sound.arrivals.packets,
            width=0,
            height=0,
            source=self.stream_id + SOUND,
            freezes=0,
            frozen_seconds=0.0,
        )
        return heard, report

    # --- the end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Read and tell nothing more; `aclose` waits until the streams are let go of."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


_SHOWN = frozenset(codec.value for codec in VideoCodec)
