"""A real room registers at a real node and is called by its account's name; main is killed in between."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.scene import FULL_TILE, WUMING, sees_all
from tests.journeys.test_cameras import main_pid
from tests.peers.baresip import Baresip
from tests.peers.node import NOBODY, PASSWORD, REALM, SIP_ACCOUNT, MeetingHandle, Node, Refused
from tests.peers.picture import BLUE
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = [requires("baresip"), pytest.mark.asyncio(loop_scope="module")]

USER, SITE = SIP_ACCOUNT


async def registered(node: Node) -> Sequence[dict[str, Any]] | None:
    """What the operator sees; None while main is away."""
    try:
        rows: list[dict[str, Any]] = await (await node.user()).get("/sip-registrations")
    except (Refused, OSError):
        return None
    return rows


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_registered_room_is_called_by_its_account(
    node: Node, meeting: MeetingHandle, tmp_path: Path, transport: str
) -> None:
    room = replace(
        WUMING,
        user=USER,
        password=PASSWORD,
        address=NOBODY if transport == "udp" else WUMING.address,
        transport=transport,
        registrar=f"127.0.0.1:{node.sip_port}",
    )
    async with Baresip(tmp_path, room) as terminal:
        rows = await until(lambda: registered(node), bool, "the room to register", 15.0)
        assert rows is not None
        (row,) = rows
        assert (row["username"], row["site_id"], row["transport"]) == (USER, SITE, transport.upper())
        if transport == "udp":  # a connection dies with the process that has it
            os.kill(main_pid(node), signal.SIGKILL)
            after = await until(lambda: registered(node), lambda found: found is not None, "main", 20.0)
            assert after == [row], "no binding is forgotten"
        await meeting.api.post(f"{meeting.path}/participants", {"address": f"sip:{USER}@{REALM}"})
        await terminal.established()
        joined = await meeting.in_state(USER, "connected")
        assert joined["site_id"] == SITE
        await sees_all(terminal, (FULL_TILE,), BLUE)
    await until(lambda: registered(node), lambda found: found == [], "the room to sign off", 15.0)
