"""Sounds that an operator plays into a meeting: WAV files of one folder, and a chime that needs none.

    shelf = AnnouncementShelf(folder | None)
    shelf.names() -> ("chime", "fire-drill", ...)         the files' names without ".wav"
    shelf.load(name) -> Samples                            48 kHz mono; raises UnusableAnnouncement
    player = Announcements(); player.play(samples, listener | None); player.stop(listener | None)
    player.next() -> Said                                  20 ms of what is played: to all, and to some

Files are 16-bit PCM, mono or stereo, 8 to 48 kHz, two minutes at most. `names` and `load` read the disk.
"""

from __future__ import annotations

import math
import re
import wave
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from media.resampling import Samples
from media.sound_codecs import FRAME

RATE = 48_000
LONGEST = 120.0
MOST_FILES = 200
CHIME = "chime"
_NAME = re.compile(r"[\w .\-]{1,64}\Z")
_CHIME_TONES = ((880.0, 0.0), (659.26, 0.45))
"""Hertz, and seconds after which it begins."""
_CHIME_SECONDS = 1.4
_AT_ONCE = RATE // 5
"""Samples made in one step, which holds the interpreter: the sound clock waits for it."""


class UnusableAnnouncement(Exception):
    """There is no such sound, or its file is not what can be played; the text says which and why."""


class AnnouncementShelf:
    """The sounds there are. A file that was put there is found at once."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def names(self) -> tuple[str, ...]:
        try:
            files = sorted(self._folder.glob("*.wav")) if self._folder is not None else []
        except OSError:
            files = []
        found = (path.stem for path in files if _NAME.match(path.stem) and path.stem != CHIME)
        return (CHIME, *tuple(found)[:MOST_FILES])

    def load(self, name: str) -> Samples:
        if name == CHIME:
            return chime()
        if self._folder is None or not _NAME.match(name):
            raise UnusableAnnouncement(f"there is no announcement {name[:64]!r}")
        path = self._folder / f"{name}.wav"
        try:
            with wave.open(str(path), "rb") as file:
                return _read(file, name)
        except FileNotFoundError:
            raise UnusableAnnouncement(f"there is no announcement {name!r}") from None
        except (OSError, EOFError, wave.Error) as error:
            raise UnusableAnnouncement(f"{name}.wav cannot be played: {error}") from error


def _read(file: wave.Wave_read, name: str) -> Samples:
    rate, channels, frames = file.getframerate(), file.getnchannels(), file.getnframes()
    if file.getsampwidth() != 2 or channels not in (1, 2) or not 8_000 <= rate <= RATE:
        form = f"{8 * file.getsampwidth()} bits, {channels} channels, {rate} Hz"
        raise UnusableAnnouncement(f"{name}.wav has {form}; it must be 16 bits, mono or stereo, 8 to 48 kHz")
    if frames > LONGEST * rate:
        raise UnusableAnnouncement(f"{name}.wav lasts {frames / rate:.0f} s, {LONGEST:.0f} s at most")
    sound = np.frombuffer(file.readframes(frames), "<i2").reshape(-1, channels)
    if not len(sound):
        raise UnusableAnnouncement(f"{name}.wav is empty")
    made = np.empty(round(len(sound) * RATE / rate), np.int16)
    for start in range(0, len(made), _AT_ONCE):
        at = np.arange(start, min(start + _AT_ONCE, len(made))) * (rate / RATE)
        first, last = int(at[0]), int(at[-1]) + 2
        mono = sound[first:last].mean(axis=1)
        made[start : start + _AT_ONCE] = np.rint(np.interp(at - first, np.arange(len(mono)), mono))
    return made


def chime() -> Samples:
    """Two falling tones that die away."""
    times = np.arange(round(_CHIME_SECONDS * RATE)) / RATE
    sound = np.zeros(len(times))
    for hertz, start in _CHIME_TONES:
        since = np.clip(times - start, 0.0, None)
        attack = np.clip(since / 0.01, 0.0, 1.0)
        sound += 7_000 * attack * np.exp(-since / 0.25) * np.sin(2 * math.pi * hertz * since)
    return np.asarray(np.rint(sound), np.int16)


@dataclass(frozen=True, slots=True)
class Said:
    """20 ms: what everybody hears, and what single listeners hear beside it. None and {}: nothing."""

    to_all: Samples | None = None
    to_some: Mapping[str, Samples] = field(default_factory=dict)


_NOTHING = Said()


@dataclass(slots=True)
class _Playing:
    samples: Samples
    at: int = 0


class Announcements:
    """What is being played in one meeting: one sound to all and one to each listener, a new one instead of
    the old. Not safe by itself: the mixer's lock holds it."""

    def __init__(self) -> None:
        self._playing: dict[str | None, _Playing] = {}

    def play(self, samples: Samples, listener: str | None) -> None:
        self._playing[listener] = _Playing(samples)

    def stop(self, listener: str | None) -> None:
        self._playing.pop(listener, None)

    def stop_all(self) -> None:
        self._playing.clear()

    def next(self) -> Said:
        if not self._playing:
            return _NOTHING
        frames: dict[str | None, Samples] = {}
        for listener, playing in tuple(self._playing.items()):
            frame = playing.samples[playing.at : playing.at + FRAME]
            playing.at += FRAME
            if playing.at >= len(playing.samples):
                del self._playing[listener]
            frames[listener] = np.pad(frame, (0, FRAME - len(frame)))
        to_all = frames.pop(None, None)
        return Said(to_all, {key: frame for key, frame in frames.items() if key is not None})
