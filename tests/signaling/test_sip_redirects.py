"""3xx to calls of ours: followed where the settings and the callee's own place allow it, told where not."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from config.settings import Secret
from config.trunks import SipTrunk
from foundation.clock import FakeClock
from foundation.passwords import Passwords
from foundation.repositories.audit import AuditRepository
from foundation.repositories.sites import SiteAddress, SiteRepository
from foundation.throttle import AttemptThrottle
from protocols.sip.headers import NameAddress
from protocols.sip.message import Headers, Request
from protocols.sip.replies import respond
from protocols.sip.uri import SipUri
from signaling.callers import CallerDirectory
from signaling.meeting import Access, Caller, Member, MemberState
from signaling.sip_progress import Answered, Refused
from signaling.sip_redirects import Redirected, SipRedirects
from signaling.sip_service import SipService
from signaling.trunks.trunk import TrunkState
from tests.peers.waiting import until_true
from tests.signaling.house import FULL, House
from tests.signaling.sip_raw import ANSWER, RawPeer
from tests.signaling.switchboard import REALM, switchboard

NETWORK = "lo"
ELSEWHERE = "sip:other@127.0.0.60:5070"


@pytest.fixture
async def service(house: House, clock: FakeClock, passwords: Passwords) -> AsyncIterator[SipService]:
    async with switchboard(house, clock, passwords) as service:
        yield service


class Room(RawPeer):
    """One that counts an INVITE once, however often it is repeated."""

    def __init__(self, service: SipService) -> None:
        super().__init__(service.endpoint)
        self._seen: set[str | None] = set()

    @property
    def uri(self) -> str:
        return f"sip:room@127.0.0.1:{self.port}"

    async def called(self) -> Request:
        while True:
            invite = await self.request("INVITE")
            branch = invite.via.parameters.get("branch")
            if branch not in self._seen:
                self._seen.add(branch)
                return invite

    async def redirects(self, *contacts: str, status: int = 302) -> Request:
        invite = await self.called()
        self.answer(invite, status, *contacts)
        return invite

    def answer(self, invite: Request, status: int, *contacts: str) -> None:
        answer(self, invite, status, *contacts)


def answer(peer: RawPeer, invite: Request, status: int, *contacts: str) -> None:
    """Without a Contact of the peer's own."""
    peer.send(respond(invite, status, None, [("Contact", one) for one in contacts], to_tag="peer"))


@asynccontextmanager
async def rooms(service: SipService, count: int) -> AsyncIterator[list[Room]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Room(service)) for _ in range(count)]


async def dialled(service: SipService, house: House, address: str, site: str | None = "nanning") -> Member:
    return await service.calls.dial(house.meeting.conference_id, address, site, None)


async def ended(house: House, member: Member) -> str:
    """Why the call came to nothing, as the operator reads it."""

    async def closed() -> bool:
        return (await house.row(member.participant_id)).state.final

    await until_true(closed, "the call to be over, and written down", 10)
    return str(await house.reason(member.participant_id))


async def audited(house: House) -> list[tuple[str, str, dict[str, Any]]]:
    async with house.database.reading() as tx:
        rows = await AuditRepository(tx).after(0, 100)
    return [
        (row.outcome, row.subject, json.loads(row.detail)) for row in rows if row.action == "call-redirected"
    ]


# --- followed ----------------------------------------------------------------------------------------


async def test_the_same_host_may_answer_elsewhere(service: SipService, house: House) -> None:
    async with rooms(service, 2) as (first, second):
        member = await dialled(service, house, first.uri)
        asked = await first.redirects(f"<sip:codec@127.0.0.1:{second.port}?Replaces=other>")
        invite = await second.called()
        assert invite.uri == f"sip:codec@127.0.0.1:{second.port}", "header fields of the Contact are left out"
        assert str(invite.to.uri) == str(asked.to.uri) == first.uri
        assert invite.body.partition(b"s=")[2] == asked.body.partition(b"s=")[2], "the same offer"
        second.reply(invite, 200, ANSWER)
        await second.request("ACK")
        await until_true(lambda: member.state is MemberState.CONNECTED, "the room to be in", 5)
        (entry,) = await audited(house)
        detail = {
            "address": f"sip:codec@127.0.0.1:{second.port}",
            "participant": member.participant_id,
            "answer": "302",
        }
        assert entry == ("done", f"conference:{house.meeting.conference_id}", detail)


async def test_the_best_comes_first_and_nobody_twice(service: SipService, house: House) -> None:
    async with rooms(service, 3) as (first, good, better):
        member = await dialled(service, house, first.uri)
        await first.redirects(f"<{good.uri}>;q=0.3", f"<{first.uri}>", f"<{better.uri}>;q=0.9", status=300)
        await better.redirects(f"<{first.uri}>", f"<{better.uri}>")
        good.answer(await good.called(), 486)
        assert await ended(house, member) == "486 Busy Here"
        assert [detail["address"] for _, _, detail in await audited(house)] == [better.uri, good.uri]


async def test_three_are_followed_and_no_more(service: SipService, house: House) -> None:
    async with rooms(service, 5) as chain:
        member = await dialled(service, house, chain[0].uri)
        for room, following in itertools.pairwise(chain):
            await room.redirects(f"<{following.uri}>")
        assert await ended(house, member) == f"302 Moved Temporarily; it asks for {chain[-1].uri}"
        await chain[-1].silence(0.2)
        assert len(await audited(house)) == 3


async def test_who_declines_for_all_ends_it(service: SipService, house: House) -> None:
    async with rooms(service, 3) as (first, second, third):
        member = await dialled(service, house, first.uri)
        await first.redirects(f"<{second.uri}>", f"<{third.uri}>")
        second.answer(await second.called(), 603)
        assert await ended(house, member) == "603 Decline"
        await third.silence(0.2)


async def test_hanging_up_meanwhile_calls_nobody_else(service: SipService, house: House) -> None:
    async with rooms(service, 3) as (first, second, third):
        member = await dialled(service, house, first.uri)
        await first.redirects(f"<{second.uri}>", f"<{third.uri}>")
        invite = await second.called()
        second.reply(invite, 180)
        await house.meetings.leave(member.participant_id, "dropped")
        cancel = await second.request("CANCEL")
        second.reply(cancel, 200)
        second.answer(invite, 487)
        await third.silence(0.3)


# --- not followed ------------------------------------------------------------------------------------


async def test_the_operator_reads_whom_it_asked_for(service: SipService, house: House) -> None:
    async with rooms(service, 1) as (room,):
        member = await dialled(service, house, room.uri)
        await room.redirects(f'"Boss" <{ELSEWHERE}>', "<tel:+861066666666>")
        assert await ended(house, member) == (
            f"302 Moved Temporarily; it asks for {ELSEWHERE} (no host of the same site or of the settings), "
            "tel:+861066666666 (no SIP address)"
        )
        assert [(outcome, detail["why"]) for outcome, _, detail in await audited(house)] == [
            ("refused", "no host of the same site or of the settings"),
            ("refused", "no SIP address"),
        ]


async def test_a_proxy_of_the_peers_choice_is_not_used(service: SipService, house: House) -> None:
    async with rooms(service, 2) as (room, proxy):
        member = await dialled(service, house, room.uri)
        await room.redirects(f"<{proxy.uri}>", status=305)
        assert await ended(house, member) == f"305 Use Proxy; it asks for {proxy.uri}"
        await proxy.silence(0.2)


@pytest.mark.parametrize("contacts", [[], ["*"]])
async def test_nobody_named_is_a_plain_refusal(
    service: SipService, house: House, contacts: Sequence[str]
) -> None:
    async with rooms(service, 1) as (room,):
        member = await dialled(service, house, room.uri)
        await room.redirects(*contacts)
        assert await ended(house, member) == "302 Moved Temporarily"


# --- the rules, one by one ---------------------------------------------------------------------------

SECURE = "sips:room@127.0.0.1:5061"
PLAIN = "sip:room@127.0.0.1:5060"
UPPER = SipTrunk(
    name="upper", server="127.0.0.77", username="we", password=Secret("x"), register=False, prefixes=("0",)
)


@pytest.mark.parametrize(
    ("dialled", "contact", "allowed", "why"),
    [
        (PLAIN, "sip:x@127.0.0.1:7000", (), None),
        (PLAIN, "sip:x@127.0.0.1:7000;maddr=127.0.0.60", (), "it hides where it leads (maddr)"),
        (PLAIN, "sip:x@127.0.0.60", (), "no host of the same site or of the settings"),
        (PLAIN, "sip:x@127.0.0.60", ("127.0.0.32/27",), None),
        (PLAIN, "sip:x@127.0.0.60", ("127.0.0.0/27",), "no host of the same site or of the settings"),
        (PLAIN, "sip:x@127.0.0.61", ("127.0.0.61",), None),
        (PLAIN, "sip:x@proxy.example.cn", ("Proxy.example.cn",), None),
        (
            PLAIN,
            "sip:x@127.0.0.50.example.cn",
            ("127.0.0.0/8",),
            "no host of the same site or of the settings",
        ),
        (PLAIN, "sip:x@127.0.0.50", (), None),  # nanning's own address
        (PLAIN, "sip:x@127.0.0.51", (), "no host of the same site or of the settings"),  # guangxi's
        (PLAIN, "sip:8001@county", ("county",), "it leads back to this node"),
        (PLAIN, "sip:+8610@127.0.0.77", ("127.0.0.0/8",), "it leads to trunk upper"),
        (SECURE, "sips:x@127.0.0.1:7000", (), None),
        (SECURE, "sip:x@127.0.0.1:7000;transport=tls", (), None),
        (SECURE, "sip:x@127.0.0.1:7000", (), "the call was by TLS, this is not"),
        (PLAIN, "tel:110", (), "no SIP address"),
        (PLAIN, "https://127.0.0.1/", (), "no SIP address"),
    ],
)
async def test_where_a_call_may_lead(
    house: House,
    clock: FakeClock,
    passwords: Passwords,
    dialled: str,
    contact: str,
    allowed: tuple[str, ...],
    why: str | None,
) -> None:
    async with house.database.transaction() as tx:
        for host, site in (("127.0.0.50", "nanning"), ("127.0.0.51", "guangxi")):
            await SiteRepository(tx).save_address(SiteAddress(NETWORK, host, site))
    asked: list[str] = []

    async def ask(target: SipUri, to: NameAddress) -> Answered | Refused:
        asked.append(str(target))
        return Refused(404, "Not Found")

    async with switchboard(house, clock, passwords, trunks=[UPPER]) as service:
        callers = CallerDirectory(house.database, clock, passwords, REALM, AttemptThrottle(clock, free=3))
        rules = SipRedirects(callers, service.trunks, {NETWORK: allowed, "another": ("127.0.0.0/8",)})
        caller = Caller("room", "nanning", NETWORK, PLAIN)
        member = Member("p1", house.meeting.conference_id, caller, Access.DIALLED_OUT, FULL, FULL)
        call = Redirected(service.endpoint, member, SipUri.parse(dialled), None, NETWORK, None, ask)
        moved = Refused(302, "Moved", Headers((("Contact", f"<{contact}>"),)))
        outcome = await rules.follow(call, moved)
    assert isinstance(outcome, Refused)
    if why is None:
        assert (asked, outcome.status) == ([contact], 404)
    else:
        assert (asked, outcome.reason) == ([], f"Moved; it asks for {contact} ({why})")


@pytest.mark.parametrize("permitted", [False, True])
async def test_a_provider_forwards_at_our_cost_only_where_it_may(
    house: House, clock: FakeClock, passwords: Passwords, permitted: bool
) -> None:
    async with RawPeer(None) as provider:
        trunk = SipTrunk(
            name="telecom",
            server="127.0.0.1",
            port=provider.port,
            domain="ims.example.cn",
            username="we",
            register=False,
            prefixes=("0",),
            redirects=permitted,
        )
        async with switchboard(house, clock, passwords, trunks=[trunk]) as service:
            provider.look_at(service.endpoint)
            provider.reply(await provider.request("OPTIONS"), 200)
            await until_true(
                lambda: service.trunks.reports()[0].state is TrunkState.REACHABLE, "the trunk to be there", 5
            )
            member = await dialled(service, house, "07715860000", None)
            first = await provider.request("INVITE")
            other = "sip:00881666@ims.example.cn"
            answer(provider, first, 302, f"<{other}>", f"<{ELSEWHERE}>")
            await provider.request("ACK")
            if permitted:
                again = await provider.request("INVITE")
                assert again.uri == other
                assert again.headers.get("P-Asserted-Identity") == first.headers.get("P-Asserted-Identity")
                provider.reply(again, 404)
            reason = await ended(house, member)
            assert f"{ELSEWHERE} (trunk telecom may not redirect there)" in reason
            assert (f"{other} (trunk telecom may not redirect there)" in reason) is not permitted
