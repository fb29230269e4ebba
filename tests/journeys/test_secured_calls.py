"""A room that registered by TLS is called with SRTP, and takes nothing else; it is seen and heard so."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from tests.journeys.scene import NANNING, TWO_TILES, WUMING, sees_all
from tests.peers.baresip import Baresip
from tests.peers.node import PASSWORD, REALM, SIP_ACCOUNT, MeetingHandle, Node
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = [requires("baresip"), pytest.mark.asyncio(loop_scope="module")]

USER, SITE = SIP_ACCOUNT


class TlsNode(Node):
    """Listens for TLS too, and calls nobody by it without SRTP."""

    tls_port = 0

    def _configure(self, ports: PortBlock) -> None:
        super()._configure(ports)
        self.tls_port = ports.take()
        settings = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        settings["networks"][0]["sip"] |= {"tls": self.tls_port, "srtp": "required"}
        self.config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TlsNode]:
    async with TlsNode(tmp_path_factory.mktemp("node")) as running:
        yield running


async def registered(node: Node) -> int:
    return len(await (await node.user()).get("/sip-registrations"))


async def test_a_room_is_called_with_keys(node: TlsNode, meeting: MeetingHandle, tmp_path: Path) -> None:
    room = replace(
        WUMING,
        user=USER,
        password=PASSWORD,
        transport="tls",
        encryption="srtp-mand",
        registrar=f"127.0.0.1:{node.tls_port}",
    )
    async with Baresip(tmp_path / "caller", NANNING) as caller, Baresip(tmp_path / "room", room) as called:
        await caller.dial(meeting.uri)
        await meeting.joined(NANNING.user)
        await until(lambda: registered(node), lambda count: count == 1, "the room to register", 20.0)
        await meeting.api.post(f"{meeting.path}/participants", {"address": f"sip:{USER}@{REALM}"})
        await called.established(30.0)
        joined = await meeting.in_state(USER, "connected", timeout=30.0)
        assert joined["site_id"] == SITE
        await sees_all(called, TWO_TILES, NANNING.colour, WUMING.colour, timeout=30.0)
        await called.hears(NANNING.tone, timeout=30.0)
        await caller.hears(WUMING.tone, timeout=30.0)
        log = (tmp_path / "room" / "baresip.log").read_text(errors="replace")
        assert "RTP/SAVP" in log
        assert log.count("a=crypto:") >= 2, "offered and answered"
