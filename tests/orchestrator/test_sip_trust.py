"""Whom we call by TLS: verified by the system's authorities, by those of the settings, or not at all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from config.settings import ConfigurationError, Network, Node, Settings
from config.trunks import SipTrunk
from orchestrator.certificate import ClientTrust, client_trust
from tests.signaling.test_sip_listener import certificate


@dataclass(frozen=True, slots=True)
class Server:
    """One with a certificate that it signed itself, for 127.0.0.1 and no name."""

    port: int
    authority: Path

    async def takes(self, context: ssl.SSLContext, name: str) -> bool:
        """Whether a client with that context talks to it under that name."""
        try:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=context, server_hostname=name
            )
        except ssl.SSLCertVerificationError:
            return False
        writer.close()
        return True


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    chain, key = certificate(tmp_path, "mcu")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    yield Server(listening.sockets[0].getsockname()[1], chain)
    listening.close()


def trust(folder: Path, sip: dict[str, Any], *trunks: SipTrunk) -> ClientTrust:
    network = msgspec.convert(
        {"name": "lan", "bind": "127.0.0.1", "sip": sip}, Network, dec_hook=lambda kind, value: kind(value)
    )
    settings = Settings(
        node=Node(id="cenxi", name="岑溪"), data=folder / "data", networks=(network,), trunks=trunks
    )
    settings.check()
    return client_trust(settings, network)


def trunk(server: str, **changes: Any) -> SipTrunk:
    return SipTrunk(name="upper", server=server, transport="tls", register=False, identity="we", **changes)


async def test_a_self_signed_certificate_is_taken_where_the_settings_have_it(
    server: Server, tmp_path: Path
) -> None:
    assert not await server.takes(trust(tmp_path, {}).others, "127.0.0.1")
    known = trust(tmp_path, {"certificate_authority": str(server.authority)}).others
    assert await server.takes(known, "127.0.0.1")
    assert not await server.takes(known, "room.example.cn"), "it is for no such name"


async def test_any_certificate_is_taken_where_nobody_is_to_verify_and_that_is_said(
    server: Server, tmp_path: Path
) -> None:
    with capture_logs() as said:
        blind = trust(tmp_path, {"tls_verify": False}, trunk("mcu.example.cn", tls_verify=False))
    assert await server.takes(blind.others, "room.example.cn")
    assert [(line["log_level"], line.get("trunk"), line.get("network")) for line in said] == [
        ("warning", "upper", None),
        ("warning", None, "lan"),
    ]
    with capture_logs() as said:
        trust(tmp_path, {}, trunk("mcu.example.cn"))
    assert said == []


async def test_a_trunk_has_its_own_trust_and_lends_it_to_nobody(server: Server, tmp_path: Path) -> None:
    known = trust(tmp_path, {}, trunk("127.0.0.1", certificate_authority=server.authority))
    assert await server.takes(dict(known.servers)["127.0.0.1"], "127.0.0.1")
    assert not await server.takes(known.others, "127.0.0.1")
    blind = trust(tmp_path, {"tls_verify": False}, trunk("127.0.0.1"))
    assert not await server.takes(dict(blind.servers)["127.0.0.1"], "127.0.0.1"), "a trunk asks for itself"


def test_a_file_that_holds_no_certificate_is_one_line(tmp_path: Path) -> None:
    rubbish = tmp_path / "ca.pem"
    rubbish.write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"certificate_authority: .*ca\.pem"):
        trust(tmp_path, {"certificate_authority": str(rubbish)})
