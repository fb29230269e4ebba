"""Looks for rules, scripted or of a real clip."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import cv2
import numpy as np

from analytics.detection import Bgr, Box, Detection, Sample, StreamLost
from analytics.rules import Judge, Look, Verdict
from analytics.tamper import measure
from analytics.tracker import Tracker

NOON = datetime(2026, 5, 4, 4, 0, tzinfo=UTC)
BLANK = np.zeros((90, 160, 3), np.uint8)
VTEST = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
"""People who walk, 768 x 576, ten pictures a second (Debian's opencv-doc)."""


def person(
    x: float, y: float, *, height: float = 0.3, score: float = 0.8, label: str = "person"
) -> Detection:
    """Somebody whose feet are at x, y."""
    return Detection(label, score, Box(x - height / 6, y - height, x + height / 6, y))


def sample(at: float, detections: tuple[Detection, ...] | None = (), picture: Bgr = BLANK) -> Sample:
    moment = NOON + timedelta(seconds=at)
    return Sample("gate", at, moment, at, picture, detections, moved=detections is not None)


def lost(at: float, since: float, reason: str = "the camera does not answer") -> StreamLost:
    return StreamLost("gate", NOON + timedelta(seconds=at), at, since, reason)


class Scene:
    """A judge and the tracker before it; `verdicts` are those so far, with their times."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.verdicts: list[tuple[float, Verdict]] = []
        self._tracker = Tracker()

    @property
    def said(self) -> list[tuple[float, str]]:
        return [(at, type(verdict).__name__) for at, verdict in self.verdicts]

    def see(self, at: float, *detections: Detection) -> Verdict | None:
        tracks = self._tracker.update(at, detections)
        return self._note(at, self.judge.look(Look(sample(at, detections), tracks)))

    def gate_shut(self, at: float) -> Verdict | None:
        self._tracker.hold(at)
        return self._note(at, self.judge.look(Look(sample(at, None), None)))

    def show(self, at: float, picture: Bgr) -> Verdict | None:
        look = Look(sample(at, None, picture), None, measure(picture))
        return self._note(at, self.judge.look(look))

    def lose(self, at: float, since: float) -> Verdict | None:
        return self._note(at, self.judge.blind(lost(at, since)))

    def _note(self, at: float, verdict: Verdict | None) -> Verdict | None:
        if verdict is not None:
            self.verdicts.append((at, verdict))
        return verdict


def street(pictures: int = 80) -> list[Bgr]:
    """A picture a second of VTEST."""
    with av.open(str(VTEST)) as container:
        frames = [frame for number, frame in enumerate(container.decode(video=0)) if number % 10 == 0]
    return [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in frames[:pictures]]


def with_clock(pictures: Iterable[Bgr]) -> list[Bgr]:
    """With the time written into a corner, as cameras do."""
    written = []
    for second, picture in enumerate(pictures):
        copy = picture.copy()
        text = f"2026-05-04 12:{second // 60:02}:{second % 60:02}"
        cv2.putText(copy, text, (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
        written.append(copy)
    return written
