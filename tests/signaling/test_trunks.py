"""Trunks against a scripted provider: registered, refreshed and signed off; calls out and in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from config.settings import Secret
from config.trunks import SipTrunk, TrunkNumber
from foundation.clock import FakeClock
from foundation.passwords import Passwords
from protocols.sip.authorization import DigestCredentials
from protocols.sip.digest import Password, expected_response
from protocols.sip.message import Request
from protocols.sip.replies import respond
from signaling.sip_dialling import CallFailed
from signaling.sip_lobby import NUMBER_PROMPT, PIN_PROMPT
from signaling.sip_service import SipService
from signaling.trunks.trunk import TrunkState
from tests.peers.waiting import until_true
from tests.signaling.house import House
from tests.signaling.sip_raw import ANSWER, OFFER, RawPeer, compose, inside
from tests.signaling.stream_provider import StreamProvider
from tests.signaling.switchboard import loopback_is, switchboard

USER, PASSWORD = "+867715861234", "trunk-password"
CHALLENGES = tuple(
    ("WWW-Authenticate", f'Digest realm="{realm}", nonce="n-{algorithm}", algorithm={algorithm}, qop="auth"')
    for realm, algorithm in (("ims.example.cn", "MD5"), ("ims.example.cn", "SHA-256"), ("else", "SHA-256"))
)
VIDEO = b"m=video 4002 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n"


class Provider(RawPeer):
    """A telephone provider's server: there before the endpoint is, which it learns when that registers."""

    def __init__(self) -> None:
        super().__init__(None)
        self._seen: set[tuple[str, str | None]] = set()

    def trunk(self, **changes: Any) -> SipTrunk:
        values: dict[str, Any] = {
            "name": "telecom",
            "server": "127.0.0.1",
            "port": self.port,
            "domain": "ims.example.cn",
            "realm": "ims.example.cn",
            "username": USER,
            "password": Secret(PASSWORD),
            "prefixes": ("+86771", "0"),
            "retry": 0.4,
        }
        return SipTrunk(**{**values, **changes})

    async def request(self, method: str) -> Request:
        """The next one that is no repetition: a busy machine answers late."""
        while True:
            request = await super().request(method)
            key = (method, request.via.parameters.get("branch"))
            if key not in self._seen:
                self._seen.add(key)
                return request

    async def nothing_new(self, method: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                request = await self.request(method)
        except TimeoutError:
            return
        raise AssertionError(f"something came: {request}")

    async def registered(self, seconds: int = 600) -> Request:
        """Let it register; the REGISTER with the credentials."""
        first = await self.request("REGISTER")
        self.answer(first, 401, *CHALLENGES)
        again = await self.request("REGISTER")
        contact = (again.headers.get("Contact") or "").partition(";expires")[0]
        self.answer(again, 200, ("Contact", f"{contact};expires={seconds}"))
        return again

    def answer(self, request: Request, status: int, *fields: tuple[str, str]) -> None:
        """Without a Contact of its own."""
        self.send(respond(request, status, None, fields, to_tag="peer"))

    def contact_user(self, register: Request) -> str:
        assert register.contact is not None
        uri = register.contact.sip_uri
        assert uri is not None
        return uri.user_text


@asynccontextmanager
async def served(
    house: House, clock: FakeClock, passwords: Passwords, **changes: Any
) -> AsyncIterator[tuple[Provider, SipService]]:
    async with Provider() as provider:
        trunks = [provider.trunk(**changes)]
        async with switchboard(
            house, clock, passwords, free=10, lobby_number="8000", trunks=trunks
        ) as service:
            provider.look_at(service.endpoint)
            yield provider, service


async def stands(service: SipService, state: TrunkState, error: str | None = None) -> None:
    def there() -> bool:
        (report,) = service.trunks.reports()
        return (report.state, report.error) == (state, error)

    await until_true(there, f"the trunk to be {state}, {error}", 5.0, lambda: str(service.trunks.reports()))


# --- registration ------------------------------------------------------------------------------------


async def test_it_registers_with_the_strongest_digest_and_signs_off(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    async with served(house, clock, passwords) as (provider, service):
        register = await provider.registered()
        await stands(service, TrunkState.REGISTERED)
        assert register.uri == "sip:ims.example.cn"
        assert str(register.to.uri) == str(register.from_.uri) == f"sip:{USER}@ims.example.cn"
        credentials = DigestCredentials.parse(register.headers.get("Authorization") or "")
        assert (credentials.algorithm, credentials.realm) == ("SHA-256", "ims.example.cn")
        assert credentials.response == expected_response(credentials, Password(PASSWORD), "REGISTER", b"")
        assert register.headers.get("Expires") == "600"
        goodbye = asyncio.create_task(provider.request("REGISTER"))
        leaving = asyncio.create_task(service.aclose(timeout=1.0))
        last = await goodbye
        provider.answer(last, 200)
        await leaving
        assert last.call_id == register.call_id
        assert last.cseq.number > register.cseq.number
        assert last.headers.get("Expires") == "0"
        assert provider.contact_user(last) == provider.contact_user(register)


async def test_it_is_refreshed_before_it_ends(house: House, clock: FakeClock, passwords: Passwords) -> None:
    async with served(house, clock, passwords) as (provider, service):
        first = await provider.registered(seconds=1)
        second = await provider.registered()
        assert (second.call_id, provider.contact_user(second)) == (
            first.call_id,
            provider.contact_user(first),
        )
        assert second.cseq.number > first.cseq.number
        await stands(service, TrunkState.REGISTERED)


async def test_a_longer_interval_is_taken_and_a_redirection_followed(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    async with Provider() as other, served(house, clock, passwords) as (provider, service):
        provider.answer(await provider.request("REGISTER"), 423, ("Min-Expires", "1800"))
        longer = await provider.request("REGISTER")
        assert longer.headers.get("Expires") == "1800"
        other.look_at(service.endpoint)
        provider.answer(longer, 302, ("Contact", f"<sip:127.0.0.1:{other.port}>"))
        elsewhere = await other.request("REGISTER")
        assert elsewhere.uri == f"sip:127.0.0.1:{other.port}"
        other.answer(elsewhere, 200)
        await stands(service, TrunkState.REGISTERED)


async def test_a_refusal_is_shown_and_tried_again(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    async with served(house, clock, passwords) as (provider, service):
        provider.answer(await provider.request("REGISTER"), 403)
        await stands(service, TrunkState.REFUSED, "403 Forbidden")
        with pytest.raises(CallFailed, match="trunk telecom is refused: 403 Forbidden"):
            await service.calls.dial(house.meeting.conference_id, "tel:+867711", None, None)
        provider.answer(await provider.request("REGISTER"), 503, ("Retry-After", "1"))
        await stands(service, TrunkState.UNREACHABLE, "503 Service Unavailable")
        await provider.registered()
        await stands(service, TrunkState.REGISTERED)


async def test_a_wrong_password_is_not_tried_for_ever(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    async with served(house, clock, passwords, retry=60) as (provider, service):
        for _ in range(3):
            provider.answer(await provider.request("REGISTER"), 401, *CHALLENGES)
        await stands(service, TrunkState.REFUSED, "401 Unauthorized")
        await provider.nothing_new("REGISTER", 0.3)


async def test_options_tell_whether_it_is_there_where_it_does_not_register(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    async with served(house, clock, passwords, register=False, keep_alive=5.0) as (provider, service):
        provider.reply(await provider.request("OPTIONS"), 405)
        await stands(service, TrunkState.REACHABLE)


async def test_a_lost_connection_is_made_again_and_calls_come_on_it(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    provider = StreamProvider()
    listening = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    trunk = SipTrunk(
        name="telecom", server="127.0.0.1", port=listening.sockets[0].getsockname()[1], transport="tcp",
        domain="ims.example.cn", username=USER, keep_alive=0.1,
    )  # fmt: skip
    async with switchboard(house, clock, passwords, lobby_number="8000", trunks=[trunk]) as service:
        first = await provider.register()
        await stands(service, TrunkState.REGISTERED)
        provider.hang_up()
        again = await provider.register()
        assert (again.call_id, again.cseq.number) == (first.call_id, first.cseq.number + 1)
        await stands(service, TrunkState.REGISTERED)
        assert again.contact is not None
        call = compose(
            listening.sockets[0].getsockname()[1],
            "INVITE",
            OFFER,
            transport="TCP",
            uri=str(again.contact.uri),
        )
        provider.send(call)
        await until_true(lambda: len(service.lobby) == 1, "the caller to be in the lobby", 5.0)
        assert service.trunks.reports()[0].calls_in == 1
    listening.close()


# --- calls out ---------------------------------------------------------------------------------------


async def test_a_telephone_is_called_with_sound_only(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    changes: dict[str, Any] = {"identity": "+867710000", "display_name": "应急指挥中心", "prepend": "9"}
    async with served(house, clock, passwords, **changes) as (provider, service):
        await provider.registered()
        await stands(service, TrunkState.REGISTERED)
        member = await service.calls.dial(house.meeting.conference_id, "tel:+86-771-586-9999", None, "值班室")
        assert member.spec.sound_only
        assert member.budget.to_site_bps < 100_000
        invite = await provider.request("INVITE")
        assert invite.uri == "sip:9+867715869999@ims.example.cn;user=phone"
        assert not invite.headers.all("Route")
        assert str(invite.from_.uri) == "sip:+867710000@ims.example.cn"
        assert invite.from_.display_name == "应急指挥中心"
        assert invite.headers.get("P-Asserted-Identity") == "<sip:+867710000@ims.example.cn>"
        proxy = tuple((name.replace("WWW", "Proxy"), value) for name, value in CHALLENGES)
        provider.reply(invite, 407, b"", *proxy)
        await provider.request("ACK")
        invite = await provider.request("INVITE")
        assert "SHA-256" in (invite.headers.get("Proxy-Authorization") or "")
        provider.reply(invite, 200, ANSWER)
        await provider.request("ACK")
        await until_true(lambda: member.media is not None, "the telephone to be in", 3.0)
        (report,) = service.trunks.reports()
        assert (report.calls_now, report.calls_out) == (1, 1)
        await service.calls._meetings.leave(member.participant_id, "test")
        provider.reply(await provider.request("BYE"), 200)
        await until_true(lambda: service.trunks.reports()[0].calls_now == 0, "the call to be over", 3.0)


async def test_a_full_trunk_and_a_number_nobody_takes(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    async with served(house, clock, passwords, calls=1) as (provider, service):
        await provider.registered()
        await stands(service, TrunkState.REGISTERED)
        meeting = house.meeting.conference_id
        await service.calls.dial(meeting, "07715861111", None, None)
        await provider.request("INVITE")
        with pytest.raises(CallFailed, match="trunk telecom carries 1 calls already"):
            await service.calls.dial(meeting, "07715862222", None, None)
        with pytest.raises(CallFailed, match="no trunk of this node takes the number 114"):
            await service.calls.dial(meeting, "114", None, None)


async def test_a_terminal_cannot_refer_to_a_telephone(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    async with served(house, clock, passwords) as (provider, service):
        await loopback_is(house, "nation")
        await provider.registered()
        async with RawPeer(service.endpoint) as peer:
            peer.send(peer.compose(body=OFFER))
            answer = await peer.response(200)
            peer.send(inside(peer, answer, "ACK", 1))
            refer = inside(peer, answer, "REFER", 2, **{"Refer-To": "<sip:+867715869999@ims.example.cn>"})
            peer.send(refer)
            await peer.response(202)
            peer.reply(await peer.request("NOTIFY"), 200)
            last = await peer.request("NOTIFY")
            assert last.body.startswith(b"SIP/2.0 403 Telephones")
            peer.reply(last, 200)
            await provider.nothing_new("INVITE", 0.2)


# --- calls in ----------------------------------------------------------------------------------------


def call_from(provider: RawPeer, user: str, body: bytes = OFFER, **changes: str) -> Request:
    return compose(
        provider.port, "INVITE", body, uri=f"sip:{user}@127.0.0.1",
        branch=f"z9hG4bK{changes.get('Call-ID', 'first')}",
        **{"To": f"<sip:{USER}@ims.example.cn>", "From": "<sip:13800138000@x.cn>;tag=p1", **changes},
    )  # fmt: skip


async def test_a_telephone_keys_in_number_and_pin_and_is_a_guest(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    await loopback_is(house, "nanning")  # the provider's address is no site's, whoever says so
    house.meeting.pin_hash = await passwords.hash("4711")
    async with served(house, clock, passwords) as (provider, service):
        user = provider.contact_user(await provider.registered())
        await stands(service, TrunkState.REGISTERED)
        changes = {"P-Asserted-Identity": '"张三" <tel:+8613800138000>'}
        provider.send(call_from(provider, user, OFFER + VIDEO, **changes))
        answer = await provider.response(200)
        provider.send(inside(provider, answer, "ACK", 1))
        desk = house.desks["media-0"]
        (visitor_id,) = desk.participants
        assert desk.participants[visitor_id].sound_only
        assert list(desk.conferences["lobby:media-0"].staging.prompts.values()) == [NUMBER_PROMPT.text]
        for key in "8001#4711#":
            service.lobby.pressed(visitor_id, key)
        again = await provider.request("INVITE")
        provider.reply(again, 200, ANSWER)
        await provider.request("ACK")
        await until_true(
            lambda: any(m.media is not None for m in house.meeting.members.values()), "the guest", 3.0
        )
        (member,) = house.meeting.members.values()
        assert (member.caller.site_id, member.caller.name) == (None, "张三")
        assert member.caller.address == "tel:+8613800138000"
        assert member.spec.sound_only
        (report,) = service.trunks.reports()
        assert (report.calls_now, report.calls_in) == (1, 1)


async def test_a_number_of_ours_leads_to_its_meeting(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    numbers = (TrunkNumber(called="+86 771 586 0001", meeting="8001"),)
    async with served(house, clock, passwords, numbers=numbers) as (provider, service):
        user = provider.contact_user(await provider.registered())
        await stands(service, TrunkState.REGISTERED)
        provider.send(call_from(provider, user, To="<sip:+867715860001@ims.example.cn>"))
        answer = await provider.response(200)
        provider.send(inside(provider, answer, "ACK", 1))
        (member,) = house.meeting.members.values()
        assert (member.caller.name, member.caller.site_id) == ("13800138000", None)
        house.meeting.pin_hash = await passwords.hash("4711")
        provider.send(
            call_from(provider, "867715860001", **{"Call-ID": "second", "P-Called-Party-ID": "<tel:1>"})
        )
        await provider.response(200)
        (visitor_id,) = service.lobby._visitors
        prompts = house.desks["media-0"].conferences["lobby:media-0"].staging.prompts
        assert prompts == {visitor_id: PIN_PROMPT.text}


async def test_a_named_source_may_call_any_number(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    """Providers that send the dialled number itself, from a machine that the settings name."""
    async with served(house, clock, passwords, sources=("127.0.0.0/31",)) as (provider, service):
        await provider.registered()
        await stands(service, TrunkState.REGISTERED)
        provider.send(call_from(provider, "07715869876"))
        await provider.response(200)
        assert (len(service.lobby), service.trunks.reports()[0].calls_in) == (1, 1)


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_who_only_says_to_come_from_the_trunk_does_not(
    house: House, clock: FakeClock, passwords: Passwords, elsewhere: bool
) -> None:
    """Another address with the right contact, or the right address with somebody else's number."""
    async with served(house, clock, passwords) as (provider, service):
        user = provider.contact_user(await provider.registered())
        await stands(service, TrunkState.REGISTERED)
        if elsewhere:
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_datagram_endpoint(
                _Heard,
                local_addr=("127.0.0.2", 0),
                remote_addr=("127.0.0.1", service.endpoint.port("lo", "UDP")),
            )
            transport.sendto(call_from(provider, user).to_bytes())
            text = await asyncio.wait_for(protocol.received.get(), 3.0)
            while re.match(rb"SIP/2.0 100", text):
                text = await asyncio.wait_for(protocol.received.get(), 3.0)
            assert text.startswith(b"SIP/2.0 404")
            transport.close()
        else:
            provider.send(call_from(provider, "somebody"))
            assert (await provider.response()).status == 404
        assert service.trunks.reports()[0].calls_in == 0


class _Heard(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.put_nowait(data)
