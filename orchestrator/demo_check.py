"""`anshi demo --check`: the other side joins, a minute is measured, the facts become one JSON object.

with wire_tap(room, plan) as tap: ...            before anybody joins; None where we may not listen
facts = await check(show, tap, folder, seconds)  facts["ok"]: all that must hold did
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.demo_browser import BrowserPerson, Person, browser_missing
from orchestrator.demo_footage import COLOURS, Rgb
from orchestrator.demo_glimpse import Glimpse
from orchestrator.demo_node import Plan
from orchestrator.demo_process import cpu_seconds, memory_mb
from orchestrator.demo_role import Role, Room
from orchestrator.demo_room import room_in
from orchestrator.demo_seed import NUMBER, SIP_ACCOUNTS, STAND_IN, VIEWER
from orchestrator.demo_show import Show
from orchestrator.demo_watch import Limit, Side, Watch
from orchestrator.demo_wire import WireTap
from orchestrator.resources import pages_folder

ROOM, BROWSER, TERMINAL = "room", "browser", "terminal"
TERMINAL_PORTS = (32_100, 32_199)
OTHER_TONE = 1000.0
LEFT_OUT = "left out"


@contextlib.contextmanager
def wire_tap(room: Room, plan: Plan) -> Iterator[WireTap | None]:
    """Listen to the wires of everybody who may join."""
    port = plan.settings.networks[0].webrtc_port
    ranges = {ROOM: room.rtp_ports, TERMINAL: TERMINAL_PORTS}
    tap = WireTap(ranges, None if port is None else (BROWSER, port))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(tap)
        except (OSError, AttributeError):  # not root, or no Linux
            yield None
            return
        yield tap


@dataclass(frozen=True, slots=True)
class Other:
    """The other side, in the meeting: `name` is "browser" or "terminal"."""

    name: str
    site_id: str
    colour: Rgb
    glimpse: Callable[[], Awaitable[Glimpse]]
    facts: Callable[[], dict[str, Any]]


async def check(
    show: Show, tap: WireTap | None, folder: Path, seconds: float, *, without_peers: bool = False
) -> dict[str, Any]:
    """Measure for so many seconds. Raises JoinFailed, RoomFailed, Refused."""
    absent = LEFT_OUT if without_peers else browser_missing(pages_folder() is not None)
    joining = _terminal(show) if absent is not None else _browser(show, folder / BROWSER)
    before = _processor(show)
    async with joining as other:
        members = {ROOM: await show.joined(SIP_ACCOUNTS[show.role.user])}
        members[other.name] = await show.joined(other.site_id)
        sides = (
            Side(ROOM, show.room.glimpse, members[ROOM]["id"], show.role.tone_hz, other.colour, OTHER_TONE),
            Side(
                other.name,
                other.glimpse,
                members[other.name]["id"],
                OTHER_TONE,
                show.role.colour,
                show.role.tone_hz,
            ),
        )
        watch = Watch(sides, await _limits(show, list(members.values())), tap)
        await watch.run(seconds, show.operator, show.meeting["id"])
        facts = await _facts(show, watch, seconds, before)
        facts[ROOM] = {"program": show.room.program, **sides[0].facts()}
        facts[BROWSER] = "absent" if absent is not None else {**other.facts(), **sides[1].facts()}
        if absent is not None:
            facts["browser_absent_because"] = absent
            facts[TERMINAL] = {**other.facts(), **sides[1].facts()}
        return facts


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
async def _browser(show: Show, folder: Path) -> AsyncIterator[Other]:
    """A person of the enterprise, through the pages."""
    person = Person(COLOURS["green"], OTHER_TONE)
    async with BrowserPerson(folder, person) as browser:
        await browser.join(show.plan.url, show.meeting["id"], VIEWER, show.secrets.users[VIEWER])
        yield Other(
            BROWSER, SIP_ACCOUNTS[STAND_IN], person.colour, browser.glimpse, lambda: _browser_facts(browser)
        )
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
    return {"program": f"Chromium {browser.version}", "by": "the page, a signed-in user", **streams}


@asynccontextmanager
async def _terminal(show: Show) -> AsyncIterator[Other]:
    """The enterprise's own terminal."""
    role = Role(
        STAND_IN,
        show.secrets.terminals[STAND_IN],
        COLOURS["green"],
        OTHER_TONE,
        show.plan.address,
        TERMINAL_PORTS,
    )
    async with room_in(Path(), role, listening=True, own=True) as terminal:
        await terminal.dial(show.plan.sip_uri(NUMBER))
        yield Other(
            TERMINAL,
            SIP_ACCOUNTS[STAND_IN],
            role.colour,
            terminal.glimpse,
            lambda: {"program": terminal.program},
        )


# --- the facts ------------------------------------------------------------------------------------------


def _processor(show: Show) -> dict[str, float]:
    return {name: cpu_seconds(pid) or 0.0 for name, pid in show.node.pids().items()}


async def _facts(show: Show, watch: Watch, seconds: float, before: dict[str, float]) -> dict[str, Any]:
    verdict = watch.verdict()
    pids = show.node.pids()
    health = await show.node.health()
    links = await show.operator.get("/links")
    return {
        "ok": all(verdict.values()),
        "failed": [what for what, holds in verdict.items() if not holds],
        "held": [what for what, holds in verdict.items() if holds],
        "seconds": seconds,
        "startup_seconds": round(show.startup_seconds, 2),
        "node_startup_seconds": round(show.node.startup_seconds, 2),
        "machine": {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "meeting": {"number": NUMBER, "worker_pid": watch.report["worker_pid"]},
        "wires": watch.wires(),
        "wire_tap": "absent" if watch.tap is None else {"dropped": watch.tap.dropped},
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
        "cpu_seconds": {
            name: round((cpu_seconds(pid) or 0.0) - before.get(name, 0.0), 2) for name, pid in pids.items()
        },
    }
