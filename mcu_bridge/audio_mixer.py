"""A meeting's sound: who speaks, and what each listener hears.

    mixer = AudioMixer(most_speakers=4)
    mixer.add_source(source, patience=SITE); mixer.remove_source(source)
    mixer.add_listener(listener, own=source | None); mixer.remove_listener(listener)
    mixer.push(source, samples); mixer.push_lost(source, count)      48 kHz mono int16, any length
    mixer.rest(source) -> bool                       what it sends now is quiet and need not be decoded
    mixer.announce(samples, listener | None); mixer.stop_announcing()
    mixer.set_gain(source, decibels); mixer.set_muted(source, on); mixer.set_hearing(listener, Hearing)
    mixer.tick(now) -> MixedTick                                     every 20 ms
        .mixes: Mix(key, samples, listeners, silent)   one for all who are not mixed in, one for each who is,
                                                       one for each who alone hears an announcement
        .levels: source -> dBov; .speakers: who spoke last comes first; .mixed: who is in the mix
    mixer.counts(source) -> PlayoutCounts

No clock and no I/O; a lock makes every method safe from any thread. Each `Mix` is encoded once for each
codec: its key ("all", "minus:<source>", "aside:<listener>", "silence") stays the same from tick to tick, so
that an encoder can be kept by (key, codec).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from mcu_bridge.announcements import Announcements, Said
from mcu_bridge.playout import SEAM, SITE, Patience, PlayoutCounts, PlayoutQueue
from mcu_bridge.speakers import NO_SOUND, Speakers, Voice
from media.resampling import Samples
from media.sound_codecs import FRAME

ALL = "all"
SILENCE = "silence"

LOUDEST = 30_000
"""Peak, of 32767, at which the limiter begins to hold a mix down."""
RELEASE = 0.02
"""How far the limiter's gain recovers in a tick: from half to full in half a second."""

_USUAL_WAIT = 0.03

Sum = NDArray[np.int32]


def mix_aside(listener: str) -> str:
    """The key of the mix of one who hears something that the others do not."""
    return f"aside:{listener}"


def mix_without(source: str) -> str:
    """The key of the mix heard by those whose own sound is `source`."""
    return f"minus:{source}"


@dataclass(frozen=True, slots=True)
class Mix:
    """960 samples and who hears them. `silent`: nobody is in it, all samples are zero."""

    key: str
    samples: Samples
    listeners: tuple[str, ...]
    silent: bool


@dataclass(frozen=True, slots=True)
class MixedTick:
    index: int
    mixes: tuple[Mix, ...]
    levels: Mapping[str, float]
    """Level of each source's frame in dBov (RFC 6464: 0 is full scale), -127 for none."""
    speakers: tuple[str, ...]
    """Who spoke for long enough to be shown, the latest first; at most as many as are mixed."""
    mixed: tuple[str, ...]
    waited: float = 0.0
    """Seconds since the sound of who spoke last came here."""


@dataclass(slots=True)
class _Source:
    queue: PlayoutQueue = field(default_factory=PlayoutQueue)
    voice: Voice = field(default_factory=Voice)
    gain: float = 1.0
    muted: bool = False
    frame: Samples | None = None


class Hearing(Enum):
    """What a listener hears: the meeting; only what is announced to it alone; nothing."""

    MEETING = auto()
    ASIDE = auto()
    NOTHING = auto()


@dataclass(slots=True)
class _Listener:
    own: str | None
    hearing: Hearing = Hearing.MEETING


class AudioMixer:
    """Mixes the top speakers of a meeting; every other source only has its level taken."""

    def __init__(self, most_speakers: int = 4) -> None:
        self._sources: dict[str, _Source] = {}
        self._listeners: dict[str, _Listener] = {}
        self._speakers = Speakers(most_speakers)
        self._limiters: dict[str, float] = {}
        self._grouped_for: tuple[str, ...] | None = None
        self._groups: dict[str, tuple[str, ...]] = {}
        self._mixed: tuple[str, ...] = ()
        self._announcements = Announcements()
        self._told_aside: frozenset[str] = frozenset()
        self._index = 0
        self._strays = 0
        self._last_waited = _USUAL_WAIT
        self._lock = threading.Lock()

    @property
    def strays(self) -> int:
        """Frames that came for sources already gone."""
        return self._strays

    def add_source(self, source: str, patience: Patience = SITE) -> None:
        """`patience`: how much of its sound may wait."""
        with self._lock:
            if source in self._sources:
                raise ValueError(f"the sound source {source!r} is in this mixer already")
            self._sources[source] = _Source(PlayoutQueue(patience))

    def remove_source(self, source: str) -> None:
        with self._lock:
            self._sources.pop(source, None)
            self._speakers.forget(source)

    def add_listener(self, listener: str, own: str | None = None) -> None:
        """`own` names the source this listener must not hear: itself."""
        with self._lock:
            if listener in self._listeners:
                raise ValueError(f"the listener {listener!r} is in this mixer already")
            self._listeners[listener] = _Listener(own)
            self._grouped_for = None

    def remove_listener(self, listener: str) -> None:
        with self._lock:
            self._listeners.pop(listener, None)
            self._announcements.stop(listener)
            self._grouped_for = None

    def push(self, source: str, samples: Samples) -> None:
        with self._lock:
            if entry := self._sources.get(source):
                entry.queue.push(samples)
            else:
                self._strays += 1

    def push_lost(self, source: str, count: int) -> None:
        """`count` samples of a source are known to be lost."""
        with self._lock:
            if entry := self._sources.get(source):
                entry.queue.push_lost(count)
            else:
                self._strays += 1

    def rest(self, source: str) -> bool:
        """Whether nobody hears this source, nor does it speak: then it rests until something is pushed."""
        with self._lock:
            entry = self._sources.get(source)
            if entry is None or entry.voice.speaking or source in self._mixed or len(self._sources) == 1:
                return False
            entry.queue.rest()
            return True

    def set_gain(self, source: str, decibels: float) -> None:
        with self._lock:
            self._sources[source].gain = 10 ** (decibels / 20)

    def set_muted(self, source: str, on: bool) -> None:
        with self._lock:
            self._sources[source].muted = on

    def announce(self, samples: Samples, listener: str | None = None) -> None:
        """Play 48 kHz mono to all who hear anything, or to one of them, instead of what it plays now."""
        with self._lock:
            self._announcements.play(samples, listener)

    def stop_announcing(self) -> None:
        with self._lock:
            self._announcements.stop_all()

    def set_hearing(self, listener: str, hearing: Hearing) -> None:
        with self._lock:
            self._listeners[listener].hearing = hearing
            self._grouped_for = None

    def counts(self, source: str) -> PlayoutCounts:
        return self._sources[source].queue.counts

    def depth(self, source: str) -> float:
        """Seconds of this source's sound that wait."""
        return self._sources[source].queue.depth

    def tick(self, now: float) -> MixedTick:
        """Takes 20 ms from every source and gives the mixes. `now` in monotonic seconds."""
        with self._lock:
            self._index += 1
            levels = {name: self._hear(source) for name, source in self._sources.items()}
            parts = self._parts(now)
            total = np.zeros(FRAME, np.int32)
            for part in parts.values():
                total += part
            said = self._announcements.next()
            if said.to_some.keys() != self._told_aside:
                self._told_aside, self._grouped_for = frozenset(said.to_some), None
            mixes = tuple(self._mixes(total, parts, said))
            recent = self._speakers.recent
            return MixedTick(self._index, mixes, levels, recent, tuple(parts), self._waited(recent))

    def _waited(self, recent: tuple[str, ...]) -> float:
        """Lips are watched of who speaks: their way counts, through the pauses too."""
        for name in (*recent, *self._mixed):
            source = self._sources.get(name)
            if source is not None and source.frame is not None:
                self._last_waited = source.queue.waited
                break
        return self._last_waited

    def _hear(self, source: _Source) -> float:
        """Takes the source's next frame and its level; muted sound is taken too, so that it does not pile
        up."""
        frame = source.queue.pop(quiet=not source.voice.speaking)
        source.frame = None if source.muted else frame
        if source.frame is None:
            source.voice.hear(NO_SOUND)
            return NO_SOUND
        if source.gain != 1.0:
            source.frame = np.clip(source.frame * source.gain, -32768, 32767).astype(np.int16)
        level = level_of(source.frame)
        source.voice.hear(level)
        return level

    def _parts(self, now: float) -> dict[str, Sum]:
        """What each mixed source adds; who enters or leaves the mix is faded over 5 ms."""
        chosen = self._speakers.choose({name: source.voice for name, source in self._sources.items()}, now)
        parts: dict[str, Sum] = {}
        for name in dict.fromkeys((*chosen, *self._mixed)):
            source = self._sources.get(name)
            if source is None or source.frame is None:
                if name in chosen:
                    parts[name] = np.zeros(FRAME, np.int32)
                continue
            part = source.frame.astype(np.int32)
            if name not in self._mixed:
                part[:SEAM] = part[:SEAM] * _FADE_IN
            elif name not in chosen:
                part[:SEAM] = part[:SEAM] * _FADE_IN[::-1]
                part[SEAM:] = 0
            parts[name] = part
        self._mixed = chosen
        return parts

    def _mixes(self, total: Sum, parts: Mapping[str, Sum], said: Said) -> Iterable[Mix]:
        limiters: dict[str, float] = {}
        if said.to_all is not None:
            total = total + said.to_all
        for key, listeners in self._group(tuple(parts)).items():
            if key == SILENCE:
                yield Mix(key, np.zeros(FRAME, np.int16), listeners, True)
                continue
            own, sound = self._heard_in(key, listeners, total, parts)
            aside = said.to_some.get(listeners[0]) if key == mix_aside(listeners[0]) else None
            if aside is not None:
                sound = sound + aside
            samples, limiters[key] = limit(sound, self._limiters.get(key, 1.0))
            announced = said.to_all is not None or aside is not None
            yield Mix(key, samples, listeners, not announced and len(parts) == (0 if own is None else 1))
        self._limiters = limiters

    def _heard_in(
        self, key: str, listeners: Sequence[str], total: Sum, parts: Mapping[str, Sum]
    ) -> tuple[Sum | None, Sum]:
        """The listeners' own part, and what they hear of the meeting."""
        if key == ALL:
            return None, total
        listener = self._listeners[listeners[0]]
        if listener.hearing is Hearing.ASIDE:
            return None, np.zeros(FRAME, np.int32)
        own = parts.get(listener.own or "")
        return own, total if own is None else total - own

    def _group(self, mixed: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Listeners by the key of the mix they hear; kept while nobody comes, goes or starts to speak."""
        if self._grouped_for == mixed:
            return self._groups
        groups: dict[str, list[str]] = {}
        for name, listener in self._listeners.items():
            told = name in self._told_aside
            if listener.hearing is Hearing.NOTHING or (listener.hearing is Hearing.ASIDE and not told):
                key = SILENCE
            elif told:
                key = mix_aside(name)
            elif listener.own in mixed:
                key = mix_without(listener.own)
            else:
                key = ALL
            groups.setdefault(key, []).append(name)
        self._groups = {key: tuple(names) for key, names in groups.items()}
        self._grouped_for = mixed
        return self._groups


_FADE_IN = np.linspace(0.0, 1.0, SEAM, endpoint=False)


def level_of(frame: Samples) -> float:
    """Root mean square of a frame in dBov: 0 for a full-scale square wave, -127 at the least (RFC 6464 3)."""
    signal = frame.astype(np.float32)
    power = float(np.dot(signal, signal)) / len(frame)
    return max(10 * math.log10(power / 32768.0**2), -127.0) if power else -127.0


def limit(sound: Sum, gain: float) -> tuple[Samples, float]:
    """A sum brought into 16 bits without harsh clipping, and the limiter's gain after it.

    The gain falls within 1 ms of a peak and recovers slowly; what still stands out is rounded off.
    """
    peak = int(np.abs(sound).max())
    wanted = min(1.0, LOUDEST / peak) if peak else 1.0
    if gain == 1.0 and wanted == 1.0:
        return sound.astype(np.int16), 1.0
    after = wanted if wanted < gain else min(wanted, gain + RELEASE)
    curve = np.full(len(sound), after, np.float32)
    curve[:48] = np.linspace(gain, after, 48, dtype=np.float32) if after < gain else curve[:48]
    if after > gain:
        curve = np.linspace(gain, after, len(sound), dtype=np.float32)
    shaped = sound * curve
    room = 32767 - LOUDEST
    over = np.abs(shaped) - LOUDEST
    shaped = np.where(over > 0, np.sign(shaped) * (LOUDEST + room * np.tanh(over / room)), shaped)
    return shaped.astype(np.int16), after
