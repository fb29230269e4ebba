"""The registrar, subscriptions, transfers and the lobby against SIPp: other people's SIP, scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from foundation.clock import FakeClock
from foundation.passwords import Passwords
from foundation.repositories.conferences import ConferenceRepository, Participant
from signaling.sip_progress import Answered
from signaling.sip_service import SipService
from tests.peers.requirement import requires
from tests.peers.sipp import Sipp
from tests.signaling.house import House
from tests.signaling.sip_raw import OFFER
from tests.signaling.switchboard import PASSWORD, USER, loopback_is, switchboard
from tests.signaling.test_sip_sipp import EMPTY, SDP, message, receive, scenario, send

pytestmark = requires("sipp")

SIGNED = f"[authentication username={USER} password={PASSWORD}]\n"


@pytest.fixture
def patience() -> float:
    return 10.0


@pytest.fixture
async def service(house: House, clock: FakeClock, passwords: Passwords) -> AsyncIterator[SipService]:
    async with switchboard(house, clock, passwords, free=50, lobby_number="8000") as service:
        yield service


async def run(
    one: SipService,
    folder: Path,
    xml: str,
    *arguments: str,
    transport: str = "udp",
    called: str = "8001",
) -> None:
    """Let SIPp run its scenario, which must go through as written."""
    target = ("127.0.0.1", one.endpoint.port("lo", "TCP" if transport == "tcp" else "UDP"))
    async with Sipp(folder, xml, target, *arguments, service=called, transport=transport) as peer:
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


# --- in a call, and beside one --------------------------------------------------------------------

IN_CALL = "[peer_tag_param]"


def in_call(method: str, cseq: int, *fields: str, body: str = EMPTY) -> str:
    return message(method, cseq, to=IN_CALL, more="".join(f"{field}\n" for field in fields), rest=body)


def notified(*patterns: str) -> str:
    """A NOTIFY in which the patterns are found, answered."""
    checks = "".join(
        f'<ereg regexp="{pattern}" search_in="msg" check_it="true" assign_to="found"/>'
        for pattern in patterns
    )
    return f"""<recv request="NOTIFY"><action>{checks}<log message="[$found]"/></action></recv>
<send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
"""


DIALLED = send(message("INVITE", 1, rest=SDP), 'retrans="500"') + receive(100, 'optional="true"')
ANSWERED = receive(200) + send(message("ACK", 1, to=IN_CALL))
REINVITED = (
    """<recv request="INVITE"/>
<send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:room@[local_ip]:[local_port];transport=[transport]>
"""
    + SDP
    + """
]]></send>
<recv request="ACK"/>
"""
)


def hung_up(cseq: int) -> str:
    return send(in_call("BYE", cseq), 'retrans="500"') + receive(200)


async def test_refer_into_another_meeting(service: SipService, house: House, tmp_path: Path) -> None:
    await loopback_is(house, "nanning")
    other = await house.meetings.open("另一个", "nation", number="8002")
    xml = scenario(
        DIALLED,
        ANSWERED,
        send(in_call("REFER", 2, "Refer-To: <sip:8002@[remote_ip]>"), 'retrans="500"'),
        receive(202),
        notified("Event: refer", "100 Trying"),
        REINVITED,
        notified("terminated;reason=noresource", "SIP/2.0 200 OK"),
        send(in_call("REFER", 3, "Refer-To: <sip:8002@[remote_ip];method=BYE>"), 'retrans="500"'),
        receive(603),
        hung_up(4),
    )
    await run(service, tmp_path, xml)
    people = await people_of(house, other.conference_id)
    assert [row.name for row in people] == ["南宁"]


@pytest.mark.parametrize(
    "uri", ["tel:80-01;phone-context=gx.example", "sip:8001;phone-context=+86@gx;user=phone"]
)
async def test_a_gateway_dials_a_telephone_number(
    service: SipService, house: House, tmp_path: Path, uri: str
) -> None:
    await loopback_is(house, "nanning")
    invite = message("INVITE", 1, rest=SDP).replace(
        "INVITE sip:[service]@[remote_ip]:[remote_port]", f"INVITE {uri}"
    )
    xml = scenario(send(invite, 'retrans="500"'), receive(100, 'optional="true"'), ANSWERED, hung_up(2))
    await run(service, tmp_path, xml)
    assert [row.name for row in await house.people()] == ["南宁"]


async def people_of(house: House, conference_id: str) -> list[Participant]:
    async with house.database.reading() as tx:
        return list(await ConferenceRepository(tx).participants(conference_id))


async def test_an_invite_that_requires_100rel(service: SipService, house: House, tmp_path: Path) -> None:
    """We send no ringing here, so there is nothing to acknowledge, and a PRACK of nothing is 481."""
    await loopback_is(house, "nanning")
    invite = message("INVITE", 1, rest=SDP, more="Require: 100rel\n")
    xml = scenario(
        send(invite, 'retrans="500"'),
        receive(100, 'optional="true"'),
        ANSWERED,
        send(in_call("PRACK", 2, "RAck: 1 1 INVITE"), 'retrans="500"'),
        receive(481),
        hung_up(3),
    )
    await run(service, tmp_path, xml)


def reply(status: str, *fields: str, via: str = "[last_Via:]", body: str = EMPTY) -> str:
    more = "".join(f"{field}\n" for field in fields)
    return (
        f"<send><![CDATA[\nSIP/2.0 {status}\n{via}\n[last_From:]\n[last_Call-ID:]\n{more}{body}\n]]></send>\n"
    )


EARLY = "[last_To:];tag=[pid]C[call_number]"
HERE = "Contact: <sip:[local_ip]:[local_port];transport=[transport]>"
RELIABLE_CALLEE = scenario(
    '<recv request="INVITE"><action><ereg regexp=".*" search_in="hdr" header="Via:" assign_to="via"/>'
    "</action></recv>",
    reply("183 Session Progress", EARLY, "[last_CSeq:]", HERE, "Require: 100rel", "RSeq: 7", body=SDP),
    '<recv request="PRACK"><action><ereg regexp="7 1 INVITE" search_in="hdr" header="RAck:" check_it="true" '
    'assign_to="found"/><log message="[$found]"/></action></recv>',
    reply("200 OK", "[last_To:]", "[last_CSeq:]"),
    reply("200 OK", "[last_To:]", "CSeq: 1 INVITE", HERE, via="Via:[$via]"),
    '<recv request="ACK"/><recv request="BYE"/>',
    reply("200 OK", "[last_To:]", "[last_CSeq:]"),
)
"""A PRACK has come between, so that the INVITE's Via has to be kept for its 200, which brings no SDP."""


async def test_an_early_answer_is_acknowledged(service: SipService, tmp_path: Path) -> None:
    async with Sipp(tmp_path, RELIABLE_CALLEE) as peer:
        outgoing = await service.endpoint.invite(peer.uri, "<sip:8001@127.0.0.1>", "lo", OFFER)
        result = await outgoing.result()
        assert isinstance(result, Answered)
        assert b"m=audio" in (result.sdp or b"")
        await result.call.bye()
        end = await peer.outcome()
        assert end.ok, end.errors


def subscribe(cseq: int, *fields: str, to: str = "") -> str:
    more = "".join(f"{field}\n" for field in fields)
    return send(message("SUBSCRIBE", cseq, to=to, more=more), 'retrans="500"')


async def test_subscribe_refresh_and_unsubscribe(service: SipService, house: House, tmp_path: Path) -> None:
    await loopback_is(house, "nanning")
    await house.join("room")
    xml = scenario(
        subscribe(1, "Event: presence"),
        expect(489, "Allow-Events: conference"),
        subscribe(2, "Event: conference", "Expires: 20"),
        expect(423, "Min-Expires: 60"),
        subscribe(3, "Event: conference", "Expires: 600"),
        expect(200, "isfocus"),
        notified("Event: conference", "active;expires=600", "sip:room@192.0.2.1"),
        subscribe(4, "Event: conference", "Expires: 900", to=IN_CALL),
        expect(200, "Expires: 900"),
        notified("active;expires=900", "version=.2.", "state=.full."),
        subscribe(5, "Event: conference", "Expires: 0", to=IN_CALL),
        expect(200, "Expires: 0"),
        notified("terminated;reason=timeout"),
        send(in_call("NOTIFY", 6, "Event: conference", "Subscription-State: active"), 'retrans="500"'),
        receive(481),
    )
    await run(service, tmp_path, xml)


async def test_a_notify_nobody_asked_for(service: SipService, tmp_path: Path) -> None:
    state = "Event: conference\nSubscription-State: active\n"
    xml = scenario(send(message("NOTIFY", 1, more=state), 'retrans="500"'), receive(481))
    await run(service, tmp_path, xml)


def key(cseq: int, digit: str) -> str:
    body = f"Content-Type: application/dtmf-relay\nContent-Length: [len]\n\nSignal={digit}\nDuration=160\n"
    return send(in_call("INFO", cseq, body=body), 'retrans="500"') + receive(200)


async def test_keys_lead_into_a_meeting(service: SipService, house: House, tmp_path: Path) -> None:
    await loopback_is(house, "nanning")
    xml = scenario(
        DIALLED,
        ANSWERED,
        *(key(cseq, digit) for cseq, digit in enumerate("8001#", 2)),
        REINVITED,
        hung_up(9),
    )
    await run(service, tmp_path, xml, called="8000")
    assert [row.name for row in await house.people()] == ["南宁"]
