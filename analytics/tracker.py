"""Who is who from look to look: detections become tracks with ids.

    tracker = Tracker()
    tracks = tracker.update(sample.arrival, detections)     # those seen in this very look
    tracker.known                                            # also those out of sight for a short while

Values in, values out; times in seconds on any clock that only goes forward. A track is matched with the
detection of its label that overlaps its expected place most (IoU, the best pairs first), or its last one.
Looks may be a second apart, when a walking person overlaps neither, so what is left over is matched with
the nearest of similar size within a stride. A track that is out of sight for `patience` seconds is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from analytics.detection import Box, Detection

MOST_TRACKS: Final = 200
"""The surest detections of a look that are followed: a model that finds more has gone astray."""
ASPECT: Final = 1.6
"""Width by height of a usual picture: distances are fractions of both."""
PATIENCE: Final = 6.0
"""Seconds out of sight after which a track is forgotten: a forced look comes sooner."""


@dataclass(frozen=True, slots=True)
class Track:
    """`box` and `score` are of when it was seen last; `speed` is of its centre, in 1/s of the picture."""

    id: int
    label: str
    box: Box
    score: float
    first_seen: float
    last_seen: float
    looks: int = 1
    speed: tuple[float, float] = (0.0, 0.0)

    def expected(self, at: float) -> Box:
        """Where it should be by now; the guess is not stretched beyond what a second or two can tell."""
        ahead = min(at - self.last_seen, 2.0)
        across, down = self.speed[0] * ahead, self.speed[1] * ahead
        box = self.box
        return Box(box.x1 + across, box.y1 + down, box.x2 + across, box.y2 + down)


Likeness = Callable[[Track, Detection], float]


class Tracker:
    """`overlap`: the least IoU of a pair. `stride`: how far the centre may be from the expected one without
    any overlap, in heights of the box a second (a person walks about one). `patience` in seconds."""

    def __init__(self, *, overlap: float = 0.2, stride: float = 1.2, patience: float = PATIENCE) -> None:
        self._overlap = overlap
        self._stride = stride
        self.patience = patience
        self._tracks: dict[int, Track] = {}
        self._last_id = 0
        self._last_look = -math.inf

    @property
    def known(self) -> tuple[Track, ...]:
        """All that are not forgotten, the oldest first."""
        return tuple(self._tracks.values())

    def update(self, at: float, detections: Sequence[Detection]) -> tuple[Track, ...]:
        """A look's detections; returns their tracks, in the order of the detections (the surest
        MOST_TRACKS of them)."""
        if len(detections) > MOST_TRACKS:
            detections = sorted(detections, key=lambda one: -one.score)[:MOST_TRACKS]
        self.forget(at)
        pairs: dict[int, int] = {}
        self._pair(pairs, detections, lambda track, one: self._shared(track.expected(at), one))
        self._pair(pairs, detections, lambda track, one: self._shared(track.box, one))
        self._pair(pairs, detections, lambda track, one: self._nearness(at, track, one))
        self._last_look = at
        return tuple(
            self._seen(at, pairs.get(number), detection) for number, detection in enumerate(detections)
        )

    def forget(self, at: float) -> None:
        """Let go of what was out of sight for too long."""
        kept = (track for track in self._tracks.values() if at - track.last_seen <= self.patience)
        self._tracks = {track.id: track for track in kept}

    def hold(self, at: float) -> None:
        """Nothing moved since the last look: whoever was seen in it stands there still."""
        for track in self._tracks.values():
            if track.last_seen == self._last_look:
                self._tracks[track.id] = replace(track, last_seen=at, speed=(0.0, 0.0))
        self._last_look = at

    def _pair(self, pairs: dict[int, int], detections: Sequence[Detection], likeness: Likeness) -> None:
        """Add pairs (detection's place to track's id), the likest first; a likeness of 0 is none."""
        taken = set(pairs.values())
        free = [track for track in self._tracks.values() if track.id not in taken]
        found = [
            (likeness(track, detection), track.id, number)
            for number, detection in enumerate(detections)
            if number not in pairs
            for track in free
            if track.label == detection.label
        ]
        for alike, track_id, number in _best_first(found):
            if alike > 0 and track_id not in taken and number not in pairs:
                pairs[number] = track_id
                taken.add(track_id)

    def _shared(self, box: Box, detection: Detection) -> float:
        overlap = box.iou(detection.box)
        return overlap if overlap >= self._overlap else 0.0

    def _nearness(self, at: float, track: Track, detection: Detection) -> float:
        larger = max(track.box.height, detection.box.height)
        if larger <= 0 or min(track.box.height, detection.box.height) < larger * 0.6:
            return 0.0
        reach = self._stride * larger * max(min(at - track.last_seen, 2.0), 0.2)
        away = _distance(track.expected(at), detection.box)
        return 1 - away / reach if away < reach else 0.0

    def _seen(self, at: float, id: int | None, detection: Detection) -> Track:
        if id is None:
            self._last_id += 1
            track = Track(self._last_id, detection.label, detection.box, detection.score, at, at)
        else:
            before = self._tracks[id]
            track = replace(
                before,
                box=detection.box,
                score=detection.score,
                last_seen=at,
                looks=before.looks + 1,
                speed=_speed(before, at, detection.box),
            )
        self._tracks[track.id] = track
        return track


def _best_first(pairs: Iterable[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """Of equal ones the older track, then the surer detection: the same input gives the same ids."""
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))


def _centre(box: Box) -> tuple[float, float]:
    return (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2


def _distance(one: Box, other: Box) -> float:
    """Between the centres, in heights of the picture."""
    (x1, y1), (x2, y2) = _centre(one), _centre(other)
    return math.hypot((x1 - x2) * ASPECT, y1 - y2)


def _speed(track: Track, at: float, box: Box) -> tuple[float, float]:
    """Half of what it was and half of what it is: boxes tremble."""
    passed = at - track.last_seen
    if passed <= 0:
        return track.speed
    before, now = _centre(track.box), _centre(box)
    fresh = ((now[0] - before[0]) / passed, (now[1] - before[1]) / passed)
    if track.looks == 1:
        return fresh
    return (track.speed[0] + fresh[0]) / 2, (track.speed[1] + fresh[1]) / 2
