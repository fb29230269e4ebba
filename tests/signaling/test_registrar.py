"""The registrar over real sockets: who may register what, and how a terminal is reached afterwards."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from foundation.clock import FakeClock
from foundation.passwords import Passwords
from foundation.repositories.sip_bindings import SipBindingRepository
from foundation.repositories.sites import SiteRepository
from protocols.sip.message import Request, Response, parse_message
from protocols.sip.replies import respond
from signaling.meeting import MemberState
from signaling.registrar import LEAST, MOST_CONTACTS, MOST_LATCHED, Registrar
from signaling.sip_dialling import CallFailed
from signaling.sip_service import SipService
from tests.peers.waiting import until
from tests.signaling.house import House
from tests.signaling.sip_raw import ANSWER, OFFER, RawPeer, compose, inside
from tests.signaling.switchboard import REALM, USER, SignedPeer, switchboard

pytestmark = pytest.mark.asyncio


@pytest.fixture
async def service(house: House, clock: FakeClock, passwords: Passwords) -> AsyncIterator[SipService]:
    async with switchboard(house, clock, passwords) as service:
        yield service


def contacts(response: Response) -> dict[str, int]:
    """URI and remaining seconds of each Contact of a 200."""
    assert response.status == 200, response
    items = response.headers.items("Contact")
    found = [re.fullmatch(r"<([^>]*)>.*;expires=(\d+)", item) for item in items]
    return {match[1]: int(match[2]) for match in found if match is not None}


def moved(seconds: int) -> str:
    return f"<sip:t@127.0.0.1:{seconds}>"


async def test_two_contacts_are_added_refreshed_fetched_and_removed(
    service: SipService, clock: FakeClock
) -> None:
    async with SignedPeer(service) as peer:
        both = f"{moved(7001)};expires=100;q=0.5, {moved(7002)}"
        first = await peer.ask("REGISTER", Contact=both, Expires="600")
        assert contacts(first) == {"sip:t@127.0.0.1:7001": 100, "sip:t@127.0.0.1:7002": 600}
        assert ";q=0.500;" in str(first.headers.items("Contact"))
        assert first.headers.get("Date")
        clock.advance(40)
        again = await peer.ask("REGISTER", Contact=moved(7001), Expires="200")
        assert contacts(again) == {"sip:t@127.0.0.1:7001": 200, "sip:t@127.0.0.1:7002": 560}
        fetched = await peer.ask("REGISTER", Contact="")
        assert contacts(fetched) == contacts(again)
        one = await peer.ask("REGISTER", Contact=f"{moved(7002)};expires=0")
        assert contacts(one) == {"sip:t@127.0.0.1:7001": 200}
        clock.advance(201)
        assert contacts(await peer.ask("REGISTER", Contact="")) == {}


async def test_the_star_removes_all_and_stands_alone(service: SipService) -> None:
    async with SignedPeer(service) as peer:
        await peer.ask("REGISTER", Contact=f"{moved(7001)}, {moved(7002)}")
        for wrong in ({"Contact": f"*, {moved(7003)}", "Expires": "0"}, {"Contact": "*"}):
            assert (await peer.ask("REGISTER", b"", **wrong)).status == 400
        assert len(contacts(await peer.ask("REGISTER", Contact=""))) == 2
        assert contacts(await peer.ask("REGISTER", Contact="*", Expires="0")) == {}


async def test_an_account_registers_itself_only(service: SipService) -> None:
    async with SignedPeer(service) as peer:
        other = await peer.ask("REGISTER", To="<sip:guangxi-room@127.0.0.1>", Contact=moved(7001))
        assert other.status == 403
        assert USER in other.reason
    async with SignedPeer(service, USER, "guessed") as peer:
        assert (await peer.ask("REGISTER", Contact=moved(7001))).status == 403
    async with RawPeer(service.endpoint) as nobody:
        nobody.send(nobody.compose("REGISTER", To="<sip:nobody@127.0.0.1>"))
        challenged = await nobody.response(401)
        assert [text.startswith("Digest ") for text in challenged.headers.all("WWW-Authenticate")]
    assert await service.registrar.terminals("guangxi-room") == ()
    assert await service.registrar.terminals("nobody") is None


async def test_too_brief_and_too_many(service: SipService, clock: FakeClock) -> None:
    async with SignedPeer(service) as peer:
        brief = await peer.ask("REGISTER", Contact=moved(7001), Expires=str(LEAST - 1))
        assert (brief.status, brief.headers.get("Min-Expires")) == (423, str(LEAST))
        many = ", ".join(moved(7000 + n) for n in range(MOST_CONTACTS + 1))
        assert (await peer.ask("REGISTER", Contact=many)).status == 403
        for port in range(7000, 7000 + MOST_CONTACTS + 2):
            clock.advance(1)
            kept = contacts(await peer.ask("REGISTER", Contact=moved(port)))
        assert list(kept) == [f"sip:t@127.0.0.1:{port}" for port in range(7002, 7002 + MOST_CONTACTS)]


async def test_an_overtaken_request_changes_nothing(service: SipService) -> None:
    async with SignedPeer(service) as peer:
        await peer.ask("REGISTER", Contact=moved(7001))
        peer.begin_again()
        overtaken = {"Contact": f"{moved(7001)};expires=0", "From": f"<sip:{USER}@127.0.0.1>;tag=p2"}
        late = await peer.ask("REGISTER", b"", **overtaken)
        assert (late.status, late.reason) == (500, "CSeq 2 is not above 2")
        peer.begin_again()
        assert contacts(await peer.ask("REGISTER", b"", Call_ID="reborn", **overtaken)) == {}


async def test_bytes_no_database_takes(service: SipService) -> None:
    async with SignedPeer(service) as peer:
        contact = "<sip:\udcb9\udce3@127.0.0.1:7001>"
        assert (await peer.ask("REGISTER", Contact=contact)).status == 400
        assert (await peer.ask("REGISTER", Contact=f"<sip:{'a' * 600}@127.0.0.1>")).status == 400
        odd = await peer.ask("REGISTER", Contact=moved(7001), User_Agent="\udcb9\udce3 Room")
        assert contacts(odd) == {"sip:t@127.0.0.1:7001": 3600}
        peer.send(peer.compose("REGISTER", To="<sip:\udcb9\udce3@127.0.0.1>", Call_ID="odd"))
        assert (await peer.response()).status == 401


async def test_a_restart_forgets_none(
    service: SipService, house: House, clock: FakeClock, passwords: Passwords
) -> None:
    async with SignedPeer(service) as peer:
        await peer.ask("REGISTER", Contact=f"{moved(7001)};q=0.1, {moved(7002)};q=0.9")
    other = Registrar(house.database, clock, service.registrar._callers, REALM)
    terminals = await other.terminals(USER)
    assert terminals is not None
    assert [str(one.uri) for one in terminals] == ["sip:t@127.0.0.1:7002", "sip:t@127.0.0.1:7001"]
    clock.advance(4000)
    assert await other.terminals(USER) == ()
    async with house.database.transaction() as tx:
        assert await SipBindingRepository(tx).forget_expired(clock.now()) == 2


async def test_a_removed_account_takes_its_terminals_along(service: SipService, house: House) -> None:
    async with SignedPeer(service) as peer:
        await peer.ask("REGISTER", Contact=moved(7001))
    assert [(one.binding.username, one.site_id) for one in await service.registrar.entries()] == [
        (USER, "nanning")
    ]
    async with house.database.transaction() as tx:
        await SiteRepository(tx).remove_sip_account(USER, REALM)
    assert await service.registrar.entries() == ()


# --- calls to registered terminals ----------------------------------------------------------------


async def answer_call(peer: RawPeer, invite: Request) -> None:
    peer.reply(invite, 200, ANSWER)
    await peer.request("ACK")


async def test_a_terminal_behind_a_nat_is_called_where_it_was_seen(service: SipService, house: House) -> None:
    async with SignedPeer(service) as peer:
        hidden = "<sip:room@192.168.7.9:5060>"
        granted = contacts(await peer.ask("REGISTER", Contact=hidden))
        assert granted == {"sip:room@192.168.7.9:5060": MOST_LATCHED}
        address = f"sip:{USER}@{REALM}"
        member = await service.calls.dial(house.meeting.conference_id, address, None, None)
        assert (member.caller.site_id, member.caller.network) == ("nanning", "lo")
        invite = await peer.request("INVITE")
        assert invite.uri == "sip:room@192.168.7.9:5060"
        changed = Request(invite.method, invite.uri, invite.headers, invite.body)
        peer.send(
            respond(
                changed,
                200,
                None,
                [("Contact", hidden), ("Content-Type", "application/sdp")],
                ANSWER,
                to_tag="peer",
            )
        )
        await peer.request("ACK")
        await until_connected(house, member.participant_id)
        leaving = asyncio.create_task(house.meetings.leave(member.participant_id, "dropped"))
        bye = await peer.request("BYE")
        assert bye.uri == "sip:room@192.168.7.9:5060", (
            "inside the dialog, too, it is reached where it was seen"
        )
        peer.reply(bye, 200)
        await leaving


async def until_connected(house: House, participant_id: str) -> None:
    async def state() -> MemberState:
        return house.meetings.state(participant_id)

    await until(state, lambda state: state is MemberState.CONNECTED, "an answered call", 3.0, interval=0.01)


async def test_terminals_are_tried_by_q_until_one_answers(service: SipService, house: House) -> None:
    async with SignedPeer(service) as first, RawPeer(service.endpoint) as second:
        where = f"<sip:a@127.0.0.1:{first.port}>;q=0.9, <sip:b@127.0.0.1:{second.port}>;q=0.2"
        await first.ask("REGISTER", Contact=where)
        address = f"sip:{USER}@127.0.0.1:{service.endpoint.port('lo', 'UDP')}"
        dialling = await service.calls._dialler.dial(house.meeting.conference_id, address, None, None)
        invite = await first.request("INVITE")
        first.reply(invite, 486)
        await answer_call(second, await second.request("INVITE"))
        assert (await dialling.outcome).status == 200
        await until_connected(house, dialling.member.participant_id)


async def test_who_declines_for_all_is_not_followed_by_another(service: SipService, house: House) -> None:
    async with SignedPeer(service) as first, RawPeer(service.endpoint) as second:
        where = f"<sip:a@127.0.0.1:{first.port}>;q=0.9, <sip:b@127.0.0.1:{second.port}>;q=0.2"
        await first.ask("REGISTER", Contact=where)
        dialling = await service.calls._dialler.dial(
            house.meeting.conference_id, f"sip:{USER}@{REALM}", None, None
        )
        first.reply(await first.request("INVITE"), 603)
        assert (await dialling.outcome).status == 603
        await second.silence(0.1)
        assert not house.meeting.members


async def test_nobody_registered_is_said_at_once(service: SipService, house: House) -> None:
    with pytest.raises(CallFailed, match="no terminal of the SIP account 'nanning-room'"):
        await service.calls.dial(house.meeting.conference_id, f"sip:{USER}@{REALM}", None, None)
    assert not house.meeting.members


async def test_a_connection_is_used_both_ways(service: SipService, house: House) -> None:
    """RFC 5626's aim: a terminal that only dials out by TCP is called on its own connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.endpoint.port("lo", "TCP"))

    async def receive() -> Request | Response:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]  # ours has one
        return parse_message(head + await reader.readexactly(length))

    async with SignedPeer(service) as signer:
        port = writer.get_extra_info("sockname")[1]

        def over_tcp(number: int, **fields: str) -> Request:
            to = f"<sip:{USER}@127.0.0.1>"
            return compose(
                port,
                "REGISTER",
                b"",
                transport="TCP",
                branch=f"z9hG4bKt{number}",
                From=f"{to};tag=t",
                To=to,
                Contact="<sip:room@10.9.9.9:5060;transport=tcp>",
                CSeq=f"{number} REGISTER",
                **fields,
            )

        first = over_tcp(1)
        writer.write(first.to_bytes())
        challenge = await receive()
        answer = signer._login.answer(
            challenge.headers.all("WWW-Authenticate"), "REGISTER", first.uri, b"", "cn"
        )
        writer.write(over_tcp(2, Authorization=str(answer)).to_bytes())
        registered = await receive()
        assert isinstance(registered, Response)
        assert contacts(registered) == {"sip:room@10.9.9.9:5060;transport=tcp": 3600}
        dialling = await service.calls._dialler.dial(
            house.meeting.conference_id, f"sip:{USER}@{REALM}", None, None
        )
        invite = await receive()
        assert isinstance(invite, Request)
        assert invite.uri == "sip:room@10.9.9.9:5060;transport=tcp"
        writer.write(respond(invite, 486, to_tag="x").to_bytes())
        assert (await dialling.outcome).status == 486
    writer.close()


async def test_a_registered_terminal_that_dials_in_is_its_account(service: SipService, house: House) -> None:
    async with SignedPeer(service) as peer:
        await peer.ask("REGISTER", Contact=f"<sip:room@127.0.0.1:{peer.port}>")
        answer = await peer.ask("INVITE", OFFER, To="<sip:8001@127.0.0.1>", Call_ID="call")
        assert answer.status == 200
        peer.send(inside(peer, answer, "ACK", 4, Call_ID="call", From=f"<sip:{USER}@127.0.0.1>;tag=p1"))
        (member,) = house.meeting.members.values()
        assert member.caller.site_id == "nanning"


async def test_an_expired_nonce_is_asked_for_again(service: SipService) -> None:
    authentication = service.endpoint._authentication
    authentication._digest._lifetime = 0.05
    async with SignedPeer(service) as peer:
        await peer.ask("REGISTER", Contact=moved(7001))
        request = peer._request("REGISTER", b"", {"Contact": moved(7001)})
        peer.send(request)
        challenge = await peer.response(401)
        answer = peer._login.answer(
            challenge.headers.all("WWW-Authenticate"), "REGISTER", request.uri, b"", "cn"
        )
        await asyncio.sleep(0.06)  # the nonce's life, which runs on the machine's clock
        peer.send(
            replace(
                request,
                headers=request.headers.having(("Authorization", str(answer)))
                .replacing("Via", f"SIP/2.0/UDP 127.0.0.1:{peer.port};branch=z9hG4bKlate;rport")
                .replacing("CSeq", "77 REGISTER"),
            )
        )
        stale = await peer.response(401)
        assert "stale=true" in stale.headers.all("WWW-Authenticate")[0]
