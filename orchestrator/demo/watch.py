"""Two sides of a meeting looked at for a while, their wires, the worker's report; then what holds.

watch = Watch(sides, limits, tap)
await watch.run(seconds, operator, conference_id)
watch.verdict()          {"what must hold": bool};  watch.wires(), side.facts() for the JSON object
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from orchestrator.demo import stamp
from orchestrator.demo.glimpse import Glimpse
from orchestrator.demo.node import Api
from orchestrator.demo.role import RoomFailed
from orchestrator.demo.terminal.footage import Rgb
from orchestrator.demo.wire import WireTap

PERIOD = 1.0
REPORT_EVERY = 5
ENOUGH = 0.8
"""Of all looks, how many must show the other side."""
SHARE = 0.08
"""Of the picture, for a colour to count as seen: half of what a tile of two has of its site's picture."""
GLIMPSE_SECONDS = 8.0
SETTLE_SECONDS, SETTLE_PERIOD = 15.0, 0.25

_log = structlog.get_logger("demo")


@dataclass(frozen=True, slots=True)
class Look:
    """One glimpse taken apart; levels in dBFS."""

    at: float
    frames: int
    size: tuple[int, int] | None
    share: float
    camera_share: float
    level: float | None
    own_level: float | None


@dataclass(slots=True)
class Side:
    """One party of the meeting: how to look through its eyes, what it shows, what the other one shows."""

    name: str
    glimpse: Callable[[], Awaitable[Glimpse]]
    participant_id: str
    tone_hz: float
    other_colour: Rgb
    other_tone_hz: float
    own_peaks: Callable[[], tuple[int, int] | None]
    """Bytes in the fullest second, received and sent, by its own count if it has one."""
    looks: list[Look] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    _frames_before: int = 0

    def begin(self) -> None:
        """What was seen so far does not count."""
        self._frames_before = self.looks[-1].frames if self.looks else 0
        self.looks.clear()
        self.missed.clear()

    async def look(self) -> None:
        try:
            async with asyncio.timeout(GLIMPSE_SECONDS):
                glimpse = await self.glimpse()
        except (RoomFailed, TimeoutError) as error:
            self.missed.append(str(error) or "no answer in time")
            return
        self.looks.append(
            Look(
                time.monotonic(),
                glimpse.frames,
                glimpse.size,
                glimpse.share(self.other_colour),
                glimpse.share(stamp.GROUND),
                glimpse.level(self.other_tone_hz),
                glimpse.level(self.tone_hz),
            )
        )

    @property
    def total(self) -> int:
        return len(self.looks) + len(self.missed)

    @property
    def saw(self) -> int:
        """Looks at a picture with the colour that was not there at the look before: a frozen one is none."""
        frames = [self._frames_before, *(look.frames for look in self.looks)]
        return sum(
            look.share >= SHARE and look.frames > before
            for look, before in zip(self.looks, frames, strict=False)
        )

    @property
    def saw_camera(self) -> int:
        """Looks at a picture with the camera's in it."""
        return sum(look.camera_share >= SHARE for look in self.looks)

    @property
    def heard(self) -> int:
        return sum(look.level is not None for look in self.looks)

    @property
    def frames(self) -> int:
        return self.looks[-1].frames - self.looks[0].frames if self.looks else 0

    @property
    def fps(self) -> float:
        span = self.looks[-1].at - self.looks[0].at if self.looks else 0.0
        return self.frames / span if span else 0.0

    def verdict(self, other: str) -> dict[str, bool]:
        enough = ENOUGH * max(self.total, 1)
        return {
            f"{self.name} decoded frames of the {other}'s colour": self.frames > 0 and self.saw >= enough,
            f"{self.name} heard the {other}'s tone": self.heard >= enough,
            f"{self.name} saw the camera in the meeting": self.saw_camera >= enough,
        }

    def facts(self) -> dict[str, Any]:
        sizes = [look.size for look in self.looks if look.size is not None]
        levels = [look.level for look in self.looks if look.level is not None]
        echoes = [look.own_level for look in self.looks if look.own_level is not None]
        shares = [look.share for look in self.looks]
        return {
            "looks": self.total,
            "looks_failed": len(self.missed),
            "frames_decoded": self.frames,
            "fps": round(self.fps, 2),
            "width": sizes[-1][0] if sizes else None,
            "height": sizes[-1][1] if sizes else None,
            "saw_colour": {
                "rgb": list(self.other_colour),
                "looks": self.saw,
                "mean_share_of_picture": _mean(shares, 3),
            },
            "heard_tone": {
                "hz": self.other_tone_hz,
                "looks": self.heard,
                "mean_dbfs": _mean(levels, 1),
                "lowest_dbfs": round(min(levels), 1) if levels else None,
            },
            "saw_camera": self.saw_camera,
            "own_tone_came_back": {
                "looks": len(echoes),
                "highest_dbfs": round(max(echoes), 1) if echoes else None,
            },
        }


def _mean(values: list[float], digits: int) -> float | None:
    return round(sum(values) / len(values), digits) if values else None


@dataclass(frozen=True, slots=True)
class Limit:
    """What a participant may use each way: its site's conference budget, and what it was granted of it."""

    site: str
    conference_budget_bps: int
    to_site_bps: int
    from_site_bps: int


@dataclass(slots=True)
class Watch:
    """Looks at both sides every second and at the worker's report every few; see the module's head."""

    sides: tuple[Side, Side]
    limits: Mapping[str, Limit]
    """By participant."""
    tap: WireTap | None
    report: dict[str, Any] = field(default_factory=dict)
    peaks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Bytes in the fullest second by participant, sent to the site and received from it."""

    settled_seconds: float = 0.0
    """From the join until both sides saw and heard each other."""
    _began: float = 0.0

    async def run(self, seconds: float, operator: Api, conference_id: str) -> None:
        await self._settle()
        began, self._began = time.monotonic(), time.time()
        for number in range(max(2, round(seconds / PERIOD))):
            await asyncio.sleep(began + number * PERIOD - time.monotonic())
            await asyncio.gather(*(side.look() for side in self.sides))
            if number % REPORT_EVERY == 0:
                await self._read_report(operator, conference_id)
        await self._read_report(operator, conference_id)

    async def _settle(self) -> None:
        """A call's first picture takes a moment: measure from when both sides see and hear each other."""
        began = time.monotonic()
        while time.monotonic() < began + SETTLE_SECONDS:
            for side in self.sides:
                side.begin()
            await asyncio.gather(*(side.look() for side in self.sides))
            if all(side.saw and side.heard for side in self.sides):
                break
            await asyncio.sleep(SETTLE_PERIOD)
        self.settled_seconds = time.monotonic() - began
        for side in self.sides:
            side.begin()

    def _after(self, at: float) -> float:
        return round(at - self._began, 2)

    async def _read_report(self, operator: Api, conference_id: str) -> None:
        self.report = await operator.get(f"/conferences/{conference_id}/report")
        for wire in self.report["wires"]:
            sent, received = self.peaks.get(wire["participant_id"], (0, 0))
            now = max(sent, wire["peak_sent_second"]), max(received, wire["peak_received_second"])
            self.peaks[wire["participant_id"]] = now

    def verdict(self) -> dict[str, bool]:
        one, two = self.sides
        verdict = {**one.verdict(two.name), **two.verdict(one.name)}
        for side in self.sides:
            limit = self.limits[side.participant_id]
            by_worker = self.peaks.get(side.participant_id)
            verdict[f"{side.name}'s site within budget, by the worker"] = (
                by_worker is not None and by_worker[1] > 0 and _within(by_worker, limit)
            )
            own = side.own_peaks()
            if own is not None:
                verdict[f"{side.name}'s site within budget, by its own count"] = _within(own, limit)
            if self.tap is not None:
                wire = self.tap.wires[side.name]
                seen = wire.to_site.peak, wire.from_site.peak
                name = f"{side.name}'s site within budget, on the wire"
                verdict[name] = min(seen) > 0 and _within(seen, limit)
        return verdict

    def wires(self) -> dict[str, Any]:
        """Bit/s of IP packets in the fullest second, each way."""
        return {side.name: self._wire(side) for side in self.sides}

    def _wire(self, side: Side) -> dict[str, Any]:
        limit = self.limits[side.participant_id]
        facts: dict[str, Any] = {
            "site": limit.site,
            "conference_budget_bps": limit.conference_budget_bps,
            "granted_to_site_bps": limit.to_site_bps,
            "granted_from_site_bps": limit.from_site_bps,
        }
        if side.participant_id in self.peaks:
            sent, received = self.peaks[side.participant_id]
            wires: list[dict[str, Any]] = self.report["wires"]
            now = next((one for one in wires if one["participant_id"] == side.participant_id), {})
            facts["by_worker"] = {
                "peak_to_site_bps": 8 * sent,
                "peak_from_site_bps": 8 * received,
                "bytes_to_site": now.get("sent_bytes"),
                "bytes_from_site": now.get("received_bytes"),
            }
        if (own := side.own_peaks()) is not None:
            facts["by_itself"] = {"peak_to_site_bps": 8 * own[0], "peak_from_site_bps": 8 * own[1]}
        if self.tap is not None:
            wire = self.tap.wires[side.name]
            facts["on_the_wire"] = {
                "peak_to_site_bps": 8 * wire.to_site.peak,
                "peak_from_site_bps": 8 * wire.from_site.peak,
                "peak_to_site_after_seconds": self._after(wire.to_site.peak_at),
                "peak_from_site_after_seconds": self._after(wire.from_site.peak_at),
                "bytes_to_site": wire.to_site.total,
                "bytes_from_site": wire.from_site.total,
            }
        return facts


def _within(peak: tuple[int, int], limit: Limit) -> bool:
    to_site = min(limit.conference_budget_bps, limit.to_site_bps)
    from_site = min(limit.conference_budget_bps, limit.from_site_bps)
    return 8 * peak[0] <= to_site and 8 * peak[1] <= from_site
