"""The registrar, subscriptions, transfers and the lobby against SIPp: other people's SIP, scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from foundation.clock import FakeClock
from foundation.passwords import Passwords
from signaling.sip_service import SipService
from tests.peers.requirement import requires
from tests.peers.sipp import Sipp
from tests.signaling.house import House
from tests.signaling.switchboard import PASSWORD, USER, switchboard
from tests.signaling.test_sip_sipp import EMPTY, receive, scenario, send

pytestmark = requires("sipp")

SIGNED = f"[authentication username={USER} password={PASSWORD}]\n"


@pytest.fixture
def patience() -> float:
    return 10.0


@pytest.fixture
async def service(house: House, clock: FakeClock, passwords: Passwords) -> AsyncIterator[SipService]:
    async with switchboard(house, clock, passwords, free=50) as service:
        yield service


async def run(one: SipService, folder: Path, xml: str, *arguments: str, transport: str = "udp") -> None:
    """Let SIPp run its scenario, which must go through as written."""
    target = ("127.0.0.1", one.endpoint.port("lo", "TCP" if transport == "tcp" else "UDP"))
    async with Sipp(folder, xml, target, *arguments, service="8001", transport=transport) as peer:
        end = await peer.outcome()
    assert end.ok, f"{end.errors}\n{end.messages[-4000:]}"


def register(cseq: int, *fields: str, signed: bool = True) -> str:
    more = "".join(f"{field}\n" for field in fields) + (SIGNED if signed else "")
    return send(
        f"""REGISTER sip:[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
From: <sip:{USER}@[remote_ip]>;tag=[pid]R[call_number]
To: <sip:{USER}@[remote_ip]>
Call-ID: [call_id]
CSeq: {cseq} REGISTER
Max-Forwards: 70
{more}{EMPTY}""",
        'retrans="500"',
    )


def expect(status: int, pattern: str) -> str:
    """A response in which the pattern is found (over all of it)."""
    return (
        f'<recv response="{status}"><action><ereg regexp="{pattern}" search_in="msg" check_it="true" '
        'assign_to="found"/><log message="[$found]"/></action></recv>\n'
    )


ROOM = "Contact: <sip:room@[local_ip]:[local_port];transport=[transport]>"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_register_fetch_and_remove(service: SipService, tmp_path: Path, transport: str) -> None:
    xml = scenario(
        register(1, f"{ROOM};q=0.7", "Contact: <sip:room@[local_ip]:7002>;expires=90", signed=False),
        receive(401, 'auth="true"'),
        register(2, f"{ROOM};q=0.7", "Contact: <sip:room@[local_ip]:7002>;expires=90"),
        expect(200, "expires=90"),
        register(3, signed=False),
        receive(401, 'auth="true"'),
        register(4),
        expect(200, "q=0.700;expires=3600"),
        register(5, "Contact: *, <sip:x@[local_ip]>", "Expires: 0"),
        receive(400),
        register(6, f"{ROOM};expires=10", signed=False),
        receive(401, 'auth="true"'),
        register(7, f"{ROOM};expires=10"),
        expect(423, "Min-Expires: 60"),
        register(8, "Contact: *", "Expires: 0", signed=False),
        receive(401, 'auth="true"'),
        register(9, "Contact: *", "Expires: 0"),
        receive(200),
    )
    await run(service, tmp_path, xml, transport=transport)
    assert await service.registrar.terminals(USER) == ()


async def test_many_terminals_register_at_once(service: SipService, tmp_path: Path) -> None:
    xml = scenario(
        register(1, f"{ROOM};expires=600", signed=False),
        receive(401, 'auth="true"'),
        register(2, f"{ROOM};expires=600"),
        receive(200),
    )
    await run(service, tmp_path, xml, "-m", "40", "-r", "40")
    terminals = await service.registrar.terminals(USER)
    assert terminals is not None
    assert len(terminals) == 1
