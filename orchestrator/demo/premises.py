"""The enterprise's premises: cameras, one of them in the meeting, a zone, a broadcast, recordings.

async with cameras_at(folder, address) as cameras:          their process
    premises = await prepare(cameras, people, meeting_id)   their rows, over the API as people would
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.control import StartFailure
from orchestrator.demo.cameras import GATE_CLOCK, STREET
from orchestrator.demo.clip import find_clip
from orchestrator.demo.node import Api, Refused, free_port
from orchestrator.demo.process import Program
from orchestrator.demo.seed import TITLE

SITE = "wuming-mine"
NAMES = {STREET: "武鸣煤矿大门", GATE_CLOCK: "武鸣煤矿时钟"}
ZONE = [[0.03, 0.25], [0.97, 0.25], [0.97, 1.0], [0.03, 1.0]]
BROADCAST = "nanning"
READY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Cameras:
    """The process that plays cameras. Without a clip there is no street."""

    program: Program
    address: str
    port: int
    with_street: bool

    @property
    def names(self) -> tuple[str, ...]:
        return (STREET, GATE_CLOCK) if self.with_street else (GATE_CLOCK,)

    def url(self, name: str) -> str:
        return f"rtsp://{self.address}:{self.port}/{name}"


@asynccontextmanager
async def cameras_at(folder: Path, address: str) -> AsyncIterator[Cameras]:
    """Running cameras. Raises StartFailure with their last words."""
    port, clip = free_port(address), find_clip()
    command = [sys.executable, "-P", "-m", "orchestrator.demo.cameras", address, str(port)]
    command += clip.arguments if clip is not None else []
    program = await Program.start("cameras", command, folder)
    try:
        await _ready(program)
        yield Cameras(program, address, port, clip is not None)
    finally:
        await program.aclose()


async def _ready(program: Program) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_SECONDS):
            while program.running:
                if "ready" in program.log.read_text(errors="replace"):
                    return
                await asyncio.sleep(0.1)
    raise StartFailure(f"the cameras did not start: {program.last_words()} (see {program.log})")


@dataclass(frozen=True, slots=True)
class People:
    """Who does what: each over the API with an account of its own."""

    administrator: Api
    monitor: Api
    operator: Api


@dataclass(frozen=True, slots=True)
class Premises:
    """`broadcast` is its row; `edge` says that the node has a public listener."""

    cameras: Cameras
    people: People
    broadcast: dict[str, Any]


async def prepare(cameras: Cameras, people: People, meeting_id: str) -> Premises:
    """Everything in its place; what an earlier run left is used again. Raises Refused."""
    for name in cameras.names:
        await _camera(people.administrator, name, cameras.url(name))
    if cameras.with_street:
        await _rule(people.monitor, STREET)
        await people.monitor.put(f"/cameras/{STREET}/recording", {"on": True})
    await people.operator.put(f"/conferences/{meeting_id}/recording", {"on": True})
    await _into_meeting(people.operator, meeting_id)
    return Premises(cameras, people, await _broadcast(people.operator, meeting_id))


async def _camera(administrator: Api, camera_id: str, url: str) -> None:
    try:
        await administrator.get(f"/cameras/{camera_id}")
    except Refused as refusal:
        if refusal.status != 404:
            raise
        row = {"id": camera_id, "site_id": SITE, "name": NAMES[camera_id], "url": url}
        await administrator.post("/cameras", row)
        return
    await administrator.patch(f"/cameras/{camera_id}", {"url": url, "enabled": True})


async def renew_rule(monitor: Api) -> None:
    """The rule anew: what an earlier run flagged and still goes on is over, and is flagged again.

    The new one comes first: without any rule the camera's last seconds would not be kept for clips.
    """
    before = await monitor.get(f"/cameras/{STREET}/rules")
    await _add_rule(monitor, STREET)
    for rule in before:
        await monitor.delete(f"/rules/{rule['id']}")


async def _rule(monitor: Api, camera_id: str) -> None:
    if not await monitor.get(f"/cameras/{camera_id}/rules"):
        await _add_rule(monitor, camera_id)


async def _add_rule(monitor: Api, camera_id: str) -> None:
    rule = {"kind": "person-in-zone", "name": "大门前有人逗留", "zone": ZONE}
    await monitor.post(f"/cameras/{camera_id}/rules", rule)


async def _into_meeting(operator: Api, meeting_id: str) -> None:
    address = f"camera:{GATE_CLOCK}"
    members = await operator.get(f"/conferences/{meeting_id}/participants")
    if not any(row["address"] == address and row["state"] != "left" for row in members):
        await operator.post(f"/conferences/{meeting_id}/participants", {"address": address})


async def _broadcast(operator: Api, meeting_id: str) -> dict[str, Any]:
    for row in await operator.get("/broadcasts"):
        if row["stopped_at"] is None and row["subject"] == meeting_id:
            return dict(row)
    wanted = {"kind": "conference", "subject": meeting_id, "name": BROADCAST, "title": TITLE}
    return dict(await operator.post("/broadcasts", wanted))
