"""Analytics: what the vision process is told, and its desk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A rule for one camera. `kind`: person-in-zone, loitering, black, frozen, blurred or stream-lost.

    `zone` is a polygon of points in 0..1 of the picture, empty for the whole of it. `parameters` are the
    kind's own (seconds, frames n of m, threshold); `schedule` is a list of {"days": [0..6], "from": "HH:MM",
    "to": "HH:MM"}, empty for always, in the node's time zone.
    """

    rule_id: str
    camera_id: str
    kind: str
    name: str
    zone: tuple[tuple[float, float], ...] = ()
    parameters: dict[str, float] = field(default_factory=dict)
    schedule: tuple[dict[str, str | list[int]], ...] = ()


@dataclass(frozen=True, slots=True)
class AnalysedCamera:
    """A camera that is looked at, with its rules."""

    camera_id: str
    site_id: str
    name: str
    rules: tuple[RuleSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class VisionPlan:
    cameras: tuple[AnalysedCamera, ...] = ()


@dataclass(frozen=True, slots=True)
class AnalysisStatus:
    """How one camera's analysis does. `state`: "waiting", "watching", "overloaded" or "failed"."""

    camera_id: str
    state: str
    detail: str = ""
    samples: int = 0
    inferences: int = 0
    wanted_rate: float = 0.0
    achieved_rate: float = 0.0
    last_sample_ago: float | None = None
    persons: int = 0


@dataclass(frozen=True, slots=True)
class VisionReport:
    """`model` is the name and digest of what detects; `load` the share of the inference threads in use."""

    cameras: tuple[AnalysisStatus, ...] = ()
    model: str = ""
    load: float = 0.0


class VisionDesk(Protocol):
    """The vision process."""

    async def set_plan(self, plan: VisionPlan) -> None: ...

    async def report(self) -> VisionReport: ...
