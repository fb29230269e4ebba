"""`anshi demo --check`: the other side joins, a minute is measured, the facts become one JSON object.

with wire_tap({ROOM: room.rtp_ports, TERMINAL: ports}, plan) as tap: ...  None where we may not listen
facts = await check(show, tap, Measuring(folder, ports))                  facts["ok"]: all held
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.demo.browser import BrowserPerson, Person, browser_missing
from orchestrator.demo.chain import Chain
from orchestrator.demo.glimpse import Glimpse
from orchestrator.demo.node import Plan
from orchestrator.demo.process import cpu_seconds, memory_mb
from orchestrator.demo.role import Role
from orchestrator.demo.room import room_in
from orchestrator.demo.seed import NUMBER, SIP_ACCOUNTS, STAND_IN, VIEWER
from orchestrator.demo.show import Show
from orchestrator.demo.terminal.footage import COLOURS
from orchestrator.demo.watch import Limit, Side, Watch
from orchestrator.demo.wire import WireTap
from orchestrator.resources import pages_folder

ROOM, BROWSER, TERMINAL = "room", "browser", "terminal"
OTHER_SITE = SIP_ACCOUNTS[STAND_IN]
OTHER_COLOUR, OTHER_TONE = COLOURS["green"], 1000.0


@dataclass(frozen=True, slots=True)
class Measuring:
    """`ports` are those of the terminal that stands in for a browser; `without_peers` wants it anyway."""

    folder: Path
    ports: tuple[int, int]
    seconds: float = 60.0
    without_peers: bool = False


@contextlib.contextmanager
def wire_tap(ports: Mapping[str, tuple[int, int]], plan: Plan) -> Iterator[WireTap | None]:
    """Listen to the wires of these terminals and of browsers."""
    port = plan.settings.networks[0].webrtc_port
    tap = WireTap(ports, None if port is None else (BROWSER, port))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(tap)
        except (OSError, AttributeError):  # not root, or not Linux
            yield None
            return
        yield tap


@dataclass(frozen=True, slots=True)
class Other:
    """The other side, in the meeting; `name` is "browser" or "terminal"."""

    name: str
    glimpse: Callable[[], Awaitable[Glimpse]]
    facts: Callable[[], dict[str, Any]]
    peaks: Callable[[], tuple[int, int] | None] = lambda: None


async def check(show: Show, tap: WireTap | None, measuring: Measuring) -> dict[str, Any]:
    """The facts. Raises JoinFailed, RoomFailed, Refused."""
    absent = "left out" if measuring.without_peers else browser_missing(pages_folder() is not None)
    before = _processor(show)
    joining = _browser(show, measuring) if absent is None else _terminal(show, measuring)
    async with joining as other:
        members = {ROOM: await show.joined(SIP_ACCOUNTS[show.role.user])}
        members[other.name] = await show.joined(OTHER_SITE)
        room, far = _sides(show, other, members)
        watch = Watch((room, far), await _limits(show, list(members.values())), tap)
        chain = Chain(
            show.premises,
            show.meeting["id"],
            measuring.folder,
            show.role.colour,
            with_viewer=absent is None,
            began=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.run(measuring.seconds, show.operator, show.meeting["id"]))
            group.create_task(chain.run(measuring.seconds))
        facts = await _facts(show, watch, chain, before)
        facts["seconds"] = measuring.seconds
        facts[ROOM] = {"program": show.room.program, **room.facts()}
        facts[BROWSER] = "absent"
        facts[other.name] = {**other.facts(), **far.facts()}
        if absent is not None:
            facts["browser_absent_because"] = absent
        return facts


def _sides(show: Show, other: Other, members: dict[str, dict[str, Any]]) -> tuple[Side, Side]:
    colour, tone = show.role.colour, show.role.tone_hz
    room = Side(
        name=ROOM,
        glimpse=show.room.glimpse,
        participant_id=members[ROOM]["id"],
        tone_hz=tone,
        other_colour=OTHER_COLOUR,
        other_tone_hz=OTHER_TONE,
        own_peaks=show.room.peaks,
    )
    far = Side(
        name=other.name,
        glimpse=other.glimpse,
        participant_id=members[other.name]["id"],
        tone_hz=OTHER_TONE,
        other_colour=colour,
        other_tone_hz=tone,
        own_peaks=other.peaks,
    )
    return room, far


async def _limits(show: Show, members: list[dict[str, Any]]) -> dict[str, Limit]:
    budgets = {site["id"]: site["conference_budget_bps"] for site in await show.operator.get("/sites")}
    return {
        row["id"]: Limit(
            row["site_id"],
            budgets[row["site_id"]],
            row["budget"]["to_site_bps"],
            row["budget"]["from_site_bps"],
        )
        for row in members
    }


# --- who plays the other side ---------------------------------------------------------------------------


@asynccontextmanager
async def _browser(show: Show, measuring: Measuring) -> AsyncIterator[Other]:
    """A person of the enterprise, through the pages."""
    folder = measuring.folder / BROWSER
    async with BrowserPerson(folder, Person(OTHER_COLOUR, OTHER_TONE)) as browser:
        await browser.join(show.plan.url, show.meeting["id"], VIEWER, show.secrets.users[VIEWER])
        yield Other(BROWSER, browser.glimpse, lambda: _browser_facts(browser))
        await browser.screenshot(folder / "meeting.png")
        await browser.leave()


def _browser_facts(browser: BrowserPerson) -> dict[str, Any]:
    wanted = ("codec", "frameWidth", "frameHeight", "framesPerSecond", "freezeCount", "packetsLost")
    streams = {
        f"{'received' if one['type'] == 'inbound-rtp' else 'sent'}_{one['kind']}": {
            key: one[key] for key in wanted if one.get(key) is not None
        }
        for one in browser.streams
        if one.get("kind")
    }
    return {"program": f"Chromium {browser.version}", "by": "the page, as a signed-in user", **streams}


@asynccontextmanager
async def _terminal(show: Show, measuring: Measuring) -> AsyncIterator[Other]:
    """The enterprise's own terminal."""
    role = Role(
        STAND_IN,
        show.secrets.terminals[STAND_IN],
        OTHER_COLOUR,
        OTHER_TONE,
        show.plan.address,
        measuring.ports,
    )
    async with room_in(measuring.folder / TERMINAL, role, listening=True, own=True) as terminal:
        await terminal.dial(show.plan.sip_uri(NUMBER))
        yield Other(TERMINAL, terminal.glimpse, lambda: {"program": terminal.program}, terminal.peaks)


# --- the facts ------------------------------------------------------------------------------------------


def _processor(show: Show) -> dict[str, float]:
    return {name: cpu_seconds(pid) or 0.0 for name, pid in show.node.pids().items()}


async def _facts(show: Show, watch: Watch, chain: Chain, before: dict[str, float]) -> dict[str, Any]:
    verdict = watch.verdict() | chain.verdict()
    pids, after = show.node.pids(), _processor(show)
    health = await show.node.health()
    links = await show.operator.get("/links")
    return {
        "ok": all(verdict.values()),
        "failed": [what for what, holds in verdict.items() if not holds],
        "held": [what for what, holds in verdict.items() if holds],
        "startup_seconds": round(show.startup_seconds, 2),
        "node_startup_seconds": round(show.node.startup_seconds, 2),
        "settled_seconds": round(watch.settled_seconds, 2),
        "machine": {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        **chain.facts(),
        "meeting": {"number": NUMBER, "worker_pid": watch.report["worker_pid"]},
        "wires": watch.wires(),
        "wire_tap": "absent" if watch.tap is None else "present",
        "links": {
            link["id"]: {"capacity_bps": link["capacity_bps"], "carried_bps": link["carried_bps"]}
            for link in links
        },
        "encoders": watch.report["encoders"],
        "legs": watch.report["legs"],
        "late_ticks": watch.report["late_ticks"],
        "workers": {worker["name"]: worker["pid"] for worker in health["workers"]},
        "pids": pids,
        "memory_mb": {name: memory_mb(pid) for name, pid in pids.items()},
        "cpu_seconds": {name: round(after.get(name, 0.0) - before.get(name, 0.0), 2) for name in pids},
    }
