"""Recordings and evidence: what the recorder process is told, and its desk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RecordingOrder:
    """Record this, as long as the order stands. `kind` is "camera" or "conference"."""

    kind: str
    subject: str
    site_id: str

    @property
    def stream_id(self) -> str:
        """The name of its pictures' stream (`media.stream_source`); its sound's has "/sound" behind."""
        return f"programme:{self.subject}" if self.kind == "conference" else f"camera:{self.subject}"


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """All that is recorded, and the cameras whose last seconds are kept for clips (`preroll`)."""

    orders: tuple[RecordingOrder, ...] = ()
    preroll: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordingStatus:
    """How one order does: `state` "waiting" (for its stream), "recording" or "failed"; rates in bit/s."""

    kind: str
    subject: str
    state: str
    detail: str = ""
    since: float = 0.0
    files: int = 0
    bytes: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class RecorderReport:
    statuses: tuple[RecordingStatus, ...] = ()
    free_bytes: int = 0
    total_bytes: int = 0
    preroll: tuple[str, ...] = ()


class RecordingDesk(Protocol):
    """The recorder process."""

    async def set_plan(self, plan: RecordingPlan) -> None: ...

    async def report(self) -> RecorderReport: ...
