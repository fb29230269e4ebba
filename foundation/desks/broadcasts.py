"""Broadcasts: what the edge process is told, and its desk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BroadcastSpec:
    """A live broadcast: `name` is its address below /live, `stream_id` what it shows.

    `delay` in seconds holds the picture back for everyone; `push_url` is an RTMP address to push to, "" for
    none.
    """

    name: str
    title: str
    stream_id: str
    delay: float = 0.0
    push_url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class BroadcastPlan:
    broadcasts: tuple[BroadcastSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class BroadcastStatus:
    """`state`: "waiting" (for its stream), "live" or "failed"; `push_state`: "", "connecting", "pushing",
    "waiting" (to try again)."""

    name: str
    state: str
    detail: str = ""
    viewers: int = 0
    sent_bytes: int = 0
    latency: float = 0.0
    push_state: str = ""
    push_detail: str = ""


class BroadcastDesk(Protocol):
    """The edge process."""

    async def set_plan(self, plan: BroadcastPlan) -> None:
        """Broadcast exactly these; one that is gone ends for its viewers at once."""
        ...

    async def report(self) -> tuple[BroadcastStatus, ...]: ...
