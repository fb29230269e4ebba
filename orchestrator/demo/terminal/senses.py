"""What a test terminal sees and hears, and waiting for it: woken by each picture and each bit of sound.

`Screen` decodes the incoming picture in a codec lane and keeps the latest; `Ear` keeps the coded sound of the
last second and decodes it when asked. Both begin anew with each call.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from media.codec_worker import CodecPool, KeyFrameInbox, Lane
from media.codecs import VideoCodec, VideoDecoder
from media.packet import Packet
from media.picture import Picture
from media.resampling import Samples
from media.sound_codecs import RATE, SoundCodec, sound_decoder
from orchestrator.demo.terminal.footage import (
    CENTRE,
    TOLERANCE,
    WHOLE,
    Region,
    Rgb,
    mean_colour,
    read_number,
    shows,
)
from orchestrator.demo.terminal.reels import canonical, digest
from orchestrator.demo.terminal.studio import Studio
from protocols.payloads import Frame

HASHES_KEPT = 10_000
GAP = 0.25
"""Seconds without a picture that are noted as a freeze."""
_GAPS_KEPT = 256
_SOURCES_KEPT = 256
_INBOX = 50

SILENCE = -60.0
AUDIBLE = -40.0
"""dBFS; a tone of a terminal (sent at -12) lies well above after coding and mixing."""
NEARBY = 15.0
CONTRAST = 12.0
_TONE_FLOOR = -45.0
_MOST_TONES = 8
_SKIRT_WIDTH = 150.0
_SKIRT_DEPTH = 15.0
_SECOND = 1.0
_SOUND_KEPT = 128
_SOUND_STEP = 5
_WARM_UP = 4


class NotPerceived(TimeoutError):
    """What was waited for did not come; the words say what was there instead."""


class Watching(StrEnum):
    """How much of the incoming picture is decoded: a crowd of terminals need not look at every frame."""

    ALL = "all"
    KEY_FRAMES = "key-frames"
    NOTHING = "nothing"


class Bell:
    """Wakes whoever waits for news."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def ring(self) -> None:
        for event in self._waiting:
            event.set()

    @contextmanager
    def heard(self) -> Iterator[asyncio.Event]:
        """An event that each ring sets; the waiter clears it."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            yield event
        finally:
            self._waiting.discard(event)

    async def until(self, seen: Callable[[], bool], timeout: float, explain: Callable[[], str]) -> None:
        """Wait until `seen` says True; it is asked at each ring. Raises NotPerceived."""
        with self.heard() as event:
            try:
                async with asyncio.timeout(timeout):
                    while not seen():
                        event.clear()
                        await event.wait()
            except TimeoutError:
                raise NotPerceived(f"waited {timeout} s: {explain()}") from None


@dataclass(frozen=True, slots=True)
class Freeze:
    """No picture for `seconds` after `since` (monotonic)."""

    since: float
    seconds: float


class Screen:
    """The incoming picture of the present call, or of the last one."""

    def __init__(self, name: str, watching: Watching = Watching.ALL, hashing: bool = False) -> None:
        self.bell = Bell()
        self._name = name
        self._watching = watching
        self._hashing = hashing
        self._lane: Lane[Packet, Picture] | None = None
        self.begin()

    def begin(self) -> None:
        """A call begins now: what was seen before does not count."""
        self.began = time.monotonic()
        self.latest: Picture | None = None
        self.frames_received = 0
        self.frames_damaged = 0
        self.frames_decoded = 0
        self.key_frames = 0
        self.first_frame_after: float | None = None
        self.hashes: deque[str] = deque(maxlen=HASHES_KEPT)
        self.sources: deque[int] = deque(maxlen=_SOURCES_KEPT)
        self.source_changes = 0
        self._freezes: deque[Freeze] = deque(maxlen=_GAPS_KEPT)
        self._last: float | None = None

    def open(self, codec: VideoCodec, pool: CodecPool, ask_keyframe: Callable[[], None]) -> None:
        """Decode this codec from now on; `ask_keyframe` is called while nothing can be shown without one."""
        self.close()
        self._codec = codec
        self._ask_keyframe = ask_keyframe
        self._decoder = VideoDecoder(codec)
        self._inbox = KeyFrameInbox[Packet](_INBOX, lambda packet: packet.keyframe)
        self._lane = pool.lane(
            self._decoder.decode,
            inbox=self._inbox,
            deliver=self._show,
            loop=asyncio.get_running_loop(),
            name=f"screen {self._name}",
        )

    def close(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    def take(self, frames: Sequence[Frame], arrival: float) -> None:
        """Whole coded frames, in order."""
        for frame in frames:
            self.frames_received += 1
            self.key_frames += frame.keyframe
            self.frames_damaged += frame.damaged
            if self._hashing:
                self.hashes.append("damaged" if frame.damaged else digest(canonical(self._codec, frame.data)))
            if self._watching is not Watching.ALL:
                self._note(arrival, 1)
            if self._lane is None or self._watching is Watching.NOTHING:
                continue
            if self._watching is Watching.ALL or frame.keyframe:
                packet = Packet(
                    frame.data,
                    frame.timestamp,
                    arrival,
                    frame.keyframe,
                    frame.damaged,
                    missing=frame.missing,
                )
                self._lane.put(packet)
                if self._inbox.skipping or self._decoder.needs_keyframe:
                    self._ask_keyframe()
        if self._watching is Watching.NOTHING:
            self.bell.ring()

    def change_source(self, ssrc: int) -> None:
        if self.sources:
            self.source_changes += 1
        self.sources.append(ssrc)

    def _show(self, pictures: Sequence[Picture]) -> None:
        self.latest = pictures[-1]
        self.frames_decoded += len(pictures)
        if self._watching is Watching.ALL:
            self._note(time.monotonic(), len(pictures))
        self.bell.ring()

    def _note(self, now: float, count: int) -> None:
        if self.first_frame_after is None:
            self.first_frame_after = now - self.began
        if self._last is not None and now - self._last >= GAP:
            self._freezes.append(Freeze(self._last, now - self._last))
        self._last = now

    @property
    def size(self) -> tuple[int, int] | None:
        return None if self.latest is None else (self.latest.width, self.latest.height)

    def freezes(self, since: float = 0.0) -> tuple[Freeze, ...]:
        """Freezes of at least GAP seconds that ended after `since` (monotonic), the present one included."""
        now = time.monotonic()
        present = () if self._last is None else (Freeze(self._last, now - self._last),)
        ended = [freeze for freeze in self._freezes if freeze.since + freeze.seconds > since]
        return tuple(freeze for freeze in (*ended, *present) if freeze.seconds >= GAP)

    def longest_freeze(self, since: float = 0.0) -> float:
        return max((freeze.seconds for freeze in self.freezes(since)), default=0.0)

    def colour_at(self, region: Region = CENTRE) -> Rgb | None:
        """The mean colour there now; None before the first picture."""
        return None if self.latest is None else mean_colour(self.latest, region)

    def shows(self, colour: Rgb, region: Region = CENTRE, tolerance: int = TOLERANCE) -> bool:
        return self.latest is not None and shows(self.latest, colour, region, tolerance)

    def number_in(self, region: Region = WHOLE) -> int | None:
        """The frame number burnt into the footage that fills the region."""
        return None if self.latest is None else read_number(self.latest, region)


@dataclass(frozen=True, slots=True)
class Tone:
    """Frequency in Hz and level of a sine in dBFS (full amplitude is 0)."""

    hertz: float
    level: float


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The sound of a second: `level` is its power as that of a sine, in dBFS."""

    seconds: float
    level: float
    frequencies: NDArray[np.float64]
    levels: NDArray[np.float64]

    @classmethod
    def of(cls, samples: Samples) -> Spectrum:
        sound = samples.astype(np.float64) / 32768
        if not len(sound):
            return cls(0.0, -200.0, np.zeros(0), np.zeros(0))
        window = np.hanning(len(sound))
        bins: NDArray[np.float64] = np.abs(np.fft.rfft(sound * window)) * 2 / max(float(window.sum()), 1e-9)
        level = 10 * float(np.log10(max(2 * float(np.mean(np.square(sound))), 1e-20)))
        return cls(
            len(sound) / RATE,
            level,
            np.fft.rfftfreq(len(sound), 1 / RATE).astype(np.float64),
            20 * np.log10(np.maximum(bins, 1e-10)),
        )

    @property
    def tones(self) -> tuple[Tone, ...]:
        """What stands out, the loudest first; nothing of less than a fifth of a second or silence."""
        if self.seconds < 0.2 or self.level < SILENCE:
            return ()
        levels = np.where(self.frequencies > 50, self.levels, -200.0)
        found: list[Tone] = []
        while len(found) < _MOST_TONES:
            peak = int(np.argmax(levels))
            tone = Tone(float(self.frequencies[peak]), float(levels[peak]))
            if tone.level < _TONE_FLOOR:
                break
            if self.has(tone.hertz, _TONE_FLOOR) and not any(_is_skirt(tone, louder) for louder in found):
                found.append(tone)
            levels[np.abs(self.frequencies - tone.hertz) <= 2 * NEARBY] = -200.0
        return tuple(found)

    def level_of(self, hertz: float) -> float:
        """The level of the loudest line within NEARBY, in dBFS."""
        return float(self.levels[np.abs(self.frequencies - hertz) <= NEARBY].max(initial=-200.0))

    def has(self, hertz: float, audible: float = AUDIBLE) -> bool:
        """Whether the tone is there, loud enough and standing out of what lies 40 to 120 Hz beside it."""
        if self.seconds < 0.2:
            return False
        distance = np.abs(self.frequencies - hertz)
        around = self.levels[(distance >= 40) & (distance <= 120)]
        floor = float(np.median(around)) if len(around) else -200.0
        level = self.level_of(hertz)
        return level >= audible and level - floor >= CONTRAST


def _is_skirt(tone: Tone, louder: Tone) -> bool:
    """A codec's modulation beside a tone is no tone of its own."""
    return abs(tone.hertz - louder.hertz) < _SKIRT_WIDTH and louder.level - tone.level > _SKIRT_DEPTH


class Ear:
    """The incoming sound of the present call, or of the last one."""

    def __init__(self, studio: Studio) -> None:
        self.bell = Bell()
        self._studio = studio
        self._codec: SoundCodec | None = None
        self.begin()

    def begin(self) -> None:
        self.packets = 0
        self.last_packet: float | None = None
        self.longest_gap = 0.0
        self.lost_seconds = 0.0
        self._payloads: deque[tuple[float, bytes]] = deque(maxlen=_SOUND_KEPT)

    def open(self, codec: SoundCodec) -> None:
        self._codec = codec
        self._payloads.clear()

    def take(self, payload: bytes, lost: int) -> None:
        """A payload came; `lost` samples at 48 kHz were missing before it."""
        now = time.monotonic()
        self.lost_seconds += lost / RATE
        if self.last_packet is not None:
            self.longest_gap = max(self.longest_gap, now - self.last_packet)
        self.last_packet = now
        self.packets += 1
        self._payloads.append((now, payload))
        if self.packets % _SOUND_STEP == 0:
            self.bell.ring()

    async def spectrum(self) -> Spectrum:
        """The sound that came in the last second."""
        codec, now = self._codec, time.monotonic()
        payloads = [payload for at, payload in self._payloads if now - at <= _SECOND + _WARM_UP * 0.02]
        recent = sum(now - at <= _SECOND for at, _ in self._payloads)
        if codec is None or not recent:
            return Spectrum.of(np.zeros(0, np.int16))
        return await self._studio.run(lambda: _analysed(codec, payloads, len(payloads) - recent))

    async def tones(self) -> tuple[Tone, ...]:
        return (await self.spectrum()).tones

    async def hears(self, hertz: float, timeout: float, *, present: bool = True) -> Spectrum:
        """Wait until the last second holds the tone (or no longer does). Raises NotPerceived."""
        heard: Spectrum | None = None
        with self.bell.heard() as event:
            try:
                async with asyncio.timeout(timeout):
                    while True:
                        event.clear()
                        heard = await self.spectrum()
                        if heard.has(hertz) is present:
                            return heard
                        await self._next(event)
            except TimeoutError:
                tones = (
                    []
                    if heard is None
                    else [f"{tone.hertz:.0f} Hz {tone.level:.0f} dB" for tone in heard.tones]
                )
                verb = "to hear" if present else "to hear no more of"
                raise NotPerceived(
                    f"waited {timeout} s {verb} {hertz} Hz; heard {', '.join(tones) or 'nothing'} "
                    f"in {self.packets} packets"
                ) from None

    async def _next(self, event: asyncio.Event) -> None:
        """New sound, or that none came for a while: silence changes the last second too."""
        try:
            async with asyncio.timeout(0.25):
                await event.wait()
        except TimeoutError:
            return


def _analysed(codec: SoundCodec, payloads: Sequence[bytes], warm_up: int) -> Spectrum:
    """Decode all, look at what follows the first `warm_up` packets: a decoder begins with a transient."""
    decoder = sound_decoder(codec)
    decoded = [decoder.decode(payload) for payload in payloads]
    return Spectrum.of(np.concatenate([np.zeros(0, np.int16), *decoded[warm_up:]]))
