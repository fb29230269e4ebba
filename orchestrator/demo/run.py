"""`anshi demo`: a node with a seeded tree, a room that sits in a running meeting, accounts to look around.

    main(check=False)        runs until Ctrl-C
    main(check=True)         a browser joins too; after a minute the last line is one JSON object of facts,
                             and the exit code is 0 only if all that must hold did

Everything lies in one folder (build/demo): database, configuration, passwords, logs. A second run finds it
again; two at once are not possible there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundation.database import DatabaseError
from foundation.telemetry import configure_logging
from orchestrator.control import EXIT_FAILED, StartFailure
from orchestrator.demo.browser import JoinFailed
from orchestrator.demo.check import ROOM, TERMINAL, Measuring, check, wire_tap
from orchestrator.demo.node import DemoNode, Ports, Refused, configure, demo_folder, free_block
from orchestrator.demo.premises import People, cameras_at, prepare
from orchestrator.demo.process import process_age
from orchestrator.demo.role import Role, RoomFailed
from orchestrator.demo.room import room_in
from orchestrator.demo.seed import (
    ADMINISTRATOR,
    MONITOR,
    NUMBER,
    OPERATOR,
    ROOM_ACCOUNT,
    SIP_ACCOUNTS,
    read_secrets,
    seed,
    write_secrets,
)
from orchestrator.demo.show import Show, open_meeting
from orchestrator.worker_process import loop_factory

FOLDER = Path("build/demo")
CHECK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is told.

    `ports` are those to try first; `without_peers` leaves baresip and Chromium out
    though they are there.
    """

    check: bool
    folder: Path
    address: str = "127.0.0.1"
    seconds: float = CHECK_SECONDS
    ports: Ports | None = None
    without_peers: bool = False
    began: float = field(default_factory=time.monotonic)


def main(check: bool, data: Path | None = None, address: str = "127.0.0.1") -> int:
    """Run the demonstration; its exit code. Raises StartFailure, ConfigurationError."""
    began = time.monotonic() - process_age()
    return run(Options(check, (data or FOLDER).expanduser().absolute(), address, began=began))


def run(options: Options) -> int:
    configure_logging("warning")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_until_stopped(options))


async def _until_stopped(options: Options) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    running = asyncio.create_task(_run(options))
    await asyncio.wait((stopping, running), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        stopping.cancel()
        return running.result()
    _say("\n再见 Saying goodbye to every call ...")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return 128 + signal.SIGINT if options.check else 0


async def _run(options: Options) -> int:
    try:
        with demo_folder(options.folder):
            facts = await _demonstrate(options)
    except (RoomFailed, JoinFailed, Refused, DatabaseError) as error:
        print(f"anshi: demo: {error}", file=sys.stderr)
        facts = {"ok": False, "failed": [str(error)]}
    if options.check:
        _say(json.dumps(facts, ensure_ascii=False))
    return 0 if facts["ok"] else EXIT_FAILED


async def _demonstrate(options: Options) -> dict[str, Any]:
    """What was measured, once every process of ours has ended."""
    _say("安视演示正在启动 The demonstration starts ...")
    plan = configure(options.folder, options.address, options.ports)
    accounts = options.folder / "accounts.json"
    secrets = await seed(plan.settings, read_secrets(accounts))
    write_secrets(accounts, secrets)
    ports, other_ports = free_block(options.address), free_block(options.address)
    role = Role(ROOM_ACCOUNT, secrets.terminals[ROOM_ACCOUNT], address=options.address, rtp_ports=ports)
    measuring = Measuring(options.folder, other_ports, options.seconds, options.without_peers)
    async with contextlib.AsyncExitStack() as stack:
        room = await stack.enter_async_context(
            room_in(options.folder / ROOM, role, listening=options.check, own=options.without_peers)
        )
        cameras = await stack.enter_async_context(cameras_at(options.folder, options.address))
        tap = None
        if options.check:
            tap = stack.enter_context(wire_tap({ROOM: ports, TERMINAL: other_ports}, plan))
        node = await stack.enter_async_context(DemoNode(plan))  # ends first: the room hears its goodbye
        administrator, monitor, operator = [
            await node.api(name, secrets.users[name]) for name in (ADMINISTRATOR, MONITOR, OPERATOR)
        ]
        meeting = await open_meeting(operator, secrets.pin)
        people = People(administrator, monitor, operator)
        premises = await prepare(cameras, people, meeting["id"])
        show = Show(plan, secrets, node, operator, meeting, room, role, premises)
        await room.dial(plan.sip_uri(NUMBER))
        await show.joined(SIP_ACCOUNTS[ROOM_ACCOUNT])
        show.startup_seconds = time.monotonic() - options.began
        if options.check:
            _say(show.block(f"测量 {options.seconds:g} 秒 Measuring for {options.seconds:g} s ..."))
            return await check(show, tap, measuring)
        _say(show.block("Ctrl-C 结束演示 Ctrl-C ends it"))
        raise StartFailure(f"the node ended with exit code {await node.ended()}; see {node.log}")


def _say(text: str) -> None:
    print(text, flush=True)
