"""Who speaks: a voice detector for each source and the choice of who is mixed and shown.

    Voice.hear(level)                             once a 20 ms frame, level in dBov
    Speakers(most).choose(voices, now) -> tuple   who is mixed; hysteresis keeps the choice calm
    Speakers.recent                               who has the floor, the latest first

Pure. A source is mixed from its first loud frame on (no clipped words); it is counted as a speaker, for
pictures to follow, only after 0.4 s of speech (a cough moves nobody). The only source there is, a camera that
is watched, is mixed always: whoever listens wants to hear its hum and its silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NO_SOUND = -127.0

SPEECH_LEAST = -50.0
"""dBov below which nothing counts as speech."""
ABOVE_NOISE = 9.0
NOISE_MOST = -40.0
"""The noise floor never rises above this, so that a steady loud sound still counts."""
HANGOVER = 15
"""Frames (0.3 s) after the last loud one during which somebody still speaks."""
FLOOR_AFTER = 20
"""Loud frames (0.4 s) that make a speaker."""
STAY = 3.0
"""Seconds a silent speaker stays in the mix when nobody needs the place."""
LOUDER = 6.0
"""Decibels by which a newcomer must beat a speaking member of a full mix."""
HOLD = 0.5
"""Seconds a member keeps its place against a louder newcomer."""


class Voice:
    """Energy detector with a slowly rising noise floor; loudness is smoothed over 0.2 s."""

    __slots__ = ("_floor", "_quiet_for", "loudness", "talk")

    def __init__(self) -> None:
        self.loudness = 0.0
        """Smoothed decibels above -60 dBov while loud, else falling to 0."""
        self.talk = 0.0
        """Frames of speech lately, 0 to 50."""
        self._floor = -60.0
        self._quiet_for = HANGOVER

    def hear(self, level: float) -> None:
        loud = level > max(SPEECH_LEAST, self._floor + ABOVE_NOISE)
        if level < self._floor:
            self._floor = max(self._floor + (level - self._floor) * 0.2, -90.0)
        else:
            self._floor = min(self._floor + 0.02, NOISE_MOST)
        self._quiet_for = 0 if loud else self._quiet_for + 1
        self.talk = min(self.talk + 1, 50.0) if loud else max(self.talk - 0.5, 0.0)
        self.loudness += ((level + 60.0 if loud else 0.0) - self.loudness) * 0.1

    @property
    def speaking(self) -> bool:
        return self._quiet_for < HANGOVER


@dataclass(slots=True)
class _Place:
    since: float
    spoke: float


class Speakers:
    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"at least one speaker must be mixed, not {most}")
        self._most = most
        self._places: dict[str, _Place] = {}
        self._recent: list[str] = []

    @property
    def recent(self) -> tuple[str, ...]:
        return tuple(self._recent[: self._most])

    def forget(self, source: str) -> None:
        self._places.pop(source, None)
        if source in self._recent:
            self._recent.remove(source)

    def choose(self, voices: Mapping[str, Voice], now: float) -> tuple[str, ...]:
        """Who is mixed in this tick, in the order they came in."""
        alone = len(voices) == 1
        for source, place in list(self._places.items()):
            if alone or voices[source].speaking:
                place.spoke = now
            elif now - place.spoke > STAY:
                del self._places[source]
        waiting = [
            name for name, voice in voices.items() if (alone or voice.speaking) and name not in self._places
        ]
        for name in sorted(waiting, key=lambda source: -voices[source].loudness):
            if not self._make_room(voices[name], voices, now):
                break
            self._places[name] = _Place(now, now)
        self._follow(voices)
        return tuple(self._places)

    def _make_room(self, newcomer: Voice, voices: Mapping[str, Voice], now: float) -> bool:
        if len(self._places) < self._most:
            return True
        weakest = min(self._places, key=lambda source: (voices[source].speaking, voices[source].loudness))
        voice, place = voices[weakest], self._places[weakest]
        if voice.speaking and (newcomer.loudness < voice.loudness + LOUDER or now - place.since < HOLD):
            return False
        del self._places[weakest]
        return True

    def _follow(self, voices: Mapping[str, Voice]) -> None:
        """Puts whoever has taken the floor first among the recent."""
        ready = [name for name in self._places if voices[name].talk >= FLOOR_AFTER and voices[name].speaking]
        if not ready:
            return
        loudest = max(ready, key=lambda source: voices[source].loudness)
        for name in ready:
            if name not in self._recent:
                self._recent.insert(min(1, len(self._recent)), name)
        first = self._recent[0]
        if first == loudest:
            return
        holder = voices.get(first)
        if holder is None or not holder.speaking or voices[loudest].loudness > holder.loudness + LOUDER / 2:
            self._recent.remove(loudest)
            self._recent.insert(0, loudest)
