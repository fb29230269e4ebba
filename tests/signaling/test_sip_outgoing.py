"""Calls of ours, and what both sides do inside a call."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from protocols.sip.authorization import DigestCredentials
from protocols.sip.digest import Login, Outcome, Password, Secret, expected_response
from protocols.sip.message import Request, Response
from protocols.sip.replies import respond
from signaling.sip_call import Call
from signaling.sip_core import SipPolicy
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import CallOver, EndCause, Ended, Refreshed, Reinvited, ReinviteRefused
from signaling.sip_incoming import IncomingCall, IncomingRequest, Reply
from signaling.sip_outgoing import OutgoingCall
from signaling.sip_progress import Answered, Provisional, Refused
from tests.signaling.sip_raw import ANSWER, HASTY, OFFER, QUICK, RawPeer, call_in, endpoint, inside

US = "Meeting <sip:8001@anshi.example>"


async def ring_peer(
    one: SipEndpoint, peer: RawPeer, sdp: bytes | None = OFFER
) -> tuple[OutgoingCall, Request]:
    outgoing = await one.invite(f"sip:room@127.0.0.1:{peer.port}", US, "lo", sdp)
    return outgoing, await peer.request("INVITE")


async def call_out(one: SipEndpoint, peer: RawPeer, *fields: tuple[str, str]) -> tuple[Call, Request]:
    """We call, the peer answers; the call and our ACK."""
    outgoing, invite = await ring_peer(one, peer)
    peer.reply(invite, 200, ANSWER, *fields)
    result = await outgoing.result()
    assert isinstance(result, Answered)
    return result.call, await peer.request("ACK")


async def test_a_call_of_ours_rings_is_answered_and_hung_up_by_the_peer() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await ring_peer(one, peer)
        assert invite.body == OFFER
        assert invite.headers.get("Contact") == f"<sip:8001@127.0.0.1:{one.port('lo', 'UDP')}>"
        assert invite.headers.get("Session-Expires") == "1800"
        peer.reply(invite, 100)
        peer.reply(invite, 180)
        peer.reply(invite, 183, ANSWER)
        peer.reply(invite, 200, ANSWER, ("Allow", "INVITE, ACK, BYE"))
        progress = [step async for step in outgoing]
        assert progress[:2] == [
            Provisional(180, "Ringing", None),
            Provisional(183, "Session Progress", ANSWER),
        ]
        answered = progress[2]
        assert isinstance(answered, Answered)
        assert answered.sdp == ANSWER
        ack = await peer.request("ACK")
        assert (ack.uri, ack.to.tag, ack.body) == (f"sip:peer@127.0.0.1:{peer.port}", "peer", b"")
        peer.reply(invite, 200, ANSWER)
        assert (await peer.request("ACK")).to_bytes() == ack.to_bytes()
        assert answered.call.peer_allows == {"INVITE", "ACK", "BYE"}
        bye = peer.compose("BYE", From=ack.headers.get("To") or "", To=ack.headers.get("From") or "",
                           Call_ID=ack.call_id)  # fmt: skip
        peer.send(bye)
        await peer.response(200)
        assert await answered.call.wait_ended() == Ended(EndCause.REMOTE_BYE)


async def test_a_refused_call_is_acknowledged_and_told() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await ring_peer(one, peer)
        peer.reply(invite, 486, b"", ("Retry-After", "60"))
        result = await outgoing.result()
        assert isinstance(result, Refused)
        assert (result.status, result.headers.get("Retry-After"), result.local) == (486, "60", False)
        ack = await peer.request("ACK")
        assert ack.via == invite.via
        peer.reply(invite, 486)
        assert (await peer.request("ACK")).via == invite.via


async def test_an_invite_is_repeated_over_udp_and_given_up_after_64_t1() -> None:
    async with endpoint(policy=HASTY) as one, RawPeer(one) as peer:
        outgoing, invite = await ring_peer(one, peer)
        assert (await peer.request("INVITE")).to_bytes() == invite.to_bytes()
        assert await outgoing.result() == Refused(408, "no answer", local=True)


async def test_nobody_there_at_all_is_refused_locally() -> None:
    async with endpoint() as one:
        closed = await one.invite("sip:room@127.0.0.1:1;transport=tcp", US, "lo", OFFER)
        result = await closed.result()
        assert isinstance(result, Refused)
        assert (result.status, result.local) == (503, True)
        assert "no TCP connection to 127.0.0.1 port 1" in result.reason
        unknown = await (await one.invite("tel:+86771555", US, "lo", OFFER)).result()
        assert isinstance(unknown, Refused)
        assert "tel:" in unknown.reason


async def test_cancel_waits_for_a_provisional_response() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await ring_peer(one, peer)
        outgoing.cancel()
        peer.reply(invite, 180)
        cancel = await peer.request("CANCEL")
        assert (cancel.via, cancel.to.tag, cancel.cseq.number) == (invite.via, None, 1)
        peer.reply(cancel, 200)
        peer.reply(invite, 487)
        result = await outgoing.result()
        assert isinstance(result, Refused)
        assert result.status == 487
        await peer.request("ACK")


async def test_an_answer_that_crosses_the_cancel_is_hung_up() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await ring_peer(one, peer)
        outgoing.cancel()
        peer.reply(invite, 200, ANSWER)
        await peer.request("ACK")
        bye = await peer.request("BYE")
        peer.reply(bye, 200)
        assert await outgoing.result() == Refused(487, "cancelled", local=True)
        assert one.calls() == []


async def test_no_answer_within_the_ringing_time_is_cancelled() -> None:
    async with endpoint(policy=SipPolicy(timing=QUICK, ring_timeout=0.2)) as one, RawPeer(one) as peer:
        outgoing, invite = await ring_peer(one, peer)
        peer.reply(invite, 180)
        await peer.request("CANCEL")
        assert await outgoing.result() == Refused(408, "no answer", local=True)


async def test_the_second_answer_of_a_fork_is_acknowledged_and_hung_up() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await ring_peer(one, peer)
        peer.reply(invite, 200, ANSWER)
        other = [("Contact", f"<sip:other@127.0.0.1:{peer.port}>"), ("Content-Type", "application/sdp")]
        peer.send(respond(invite, 200, None, other, ANSWER, to_tag="other"))
        assert (await peer.request("ACK")).to.tag == "peer"
        assert (await peer.request("ACK")).to.tag == "other"
        bye = await peer.request("BYE")
        assert (bye.to.tag, bye.uri) == ("other", f"sip:other@127.0.0.1:{peer.port}")
        peer.reply(bye, 200)
        result = await outgoing.result()
        assert isinstance(result, Answered)
        assert result.call.ended is None
        assert one.calls() == [result.call]


async def test_an_offerless_call_answers_in_its_ack() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await ring_peer(one, peer, None)
        assert (invite.body, invite.content_type) == (b"", None)
        peer.reply(invite, 200, OFFER)
        result = await outgoing.result()
        assert isinstance(result, Answered)
        assert result.sdp == OFFER
        result.call.acknowledge(ANSWER)
        ack = await peer.request("ACK")
        assert ack.body == ANSWER
        peer.reply(invite, 200, OFFER)
        assert (await peer.request("ACK")).body == ANSWER


async def test_a_too_short_interval_is_raised_once_asked() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        _, invite = await ring_peer(one, peer)
        peer.reply(invite, 422, b"", ("Min-SE", "3600"))
        await peer.request("ACK")
        again = await peer.request("INVITE")
        assert (again.headers.get("Session-Expires"), again.headers.get("Min-SE")) == ("3600", "3600")
        assert (again.cseq.number, again.call_id) == (2, invite.call_id)


# -- digest, both sides of it ours


class Users:
    async def lookup(self, username: str, realm: str) -> Secret | None:
        return Password("secret") if username == "alice" else None


async def guarded(incoming: IncomingCall) -> None:
    """Take alice, challenge the others; a wrong password is forbidden."""
    match incoming.verdict.outcome:
        case Outcome.VERIFIED:
            await incoming.accept(ANSWER).wait_ended()
        case Outcome.WRONG:
            incoming.reject(403)
        case _:
            incoming.challenge()


@asynccontextmanager
async def two() -> AsyncIterator[tuple[SipEndpoint, SipEndpoint, str]]:
    """Two endpoints, the second guarded; and its address."""
    async with endpoint() as one, endpoint(guarded, authenticator=Users()) as other:
        yield one, other, f"sip:8001@127.0.0.1:{other.port('lo', 'UDP')}"


async def test_challenges_are_answered_with_the_stronger_algorithm() -> None:
    async with two() as (one, other, uri):
        outgoing = await one.invite(uri, US, "lo", OFFER, login=Login("alice", "secret"))
        result = await outgoing.result()
        assert isinstance(result, Answered)
        assert len(other.calls()) == 1
        await result.call.bye()
        assert other.calls() == []


@pytest.mark.parametrize(
    ("login", "status"), [(None, 401), (Login("alice", "wrong"), 403), (Login("bob", "x"), 403)]
)
async def test_without_the_password_there_is_no_call(login: Login | None, status: int) -> None:
    async with two() as (one, other, uri):
        result = await (await one.invite(uri, US, "lo", OFFER, login=login)).result()
        assert isinstance(result, Refused)
        assert result.status == status
        assert other.calls() == []


async def test_a_replayed_authorization_is_challenged_anew() -> None:
    async with endpoint(guarded, authenticator=Users()) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER))
        refused = await peer.response(401)
        nonce = re.search(r'nonce="([^"]*)"', refused.headers.get("WWW-Authenticate") or "")
        assert nonce is not None
        blank = DigestCredentials(
            "alice", "anshi", nonce.group(1), "sip:8001@127.0.0.1", "", "MD5", "cn", qop="auth", nc="00000001"
        )
        proof = expected_response(blank, Password("secret"), "INVITE", OFFER)
        text = str(replace(blank, response=proof or ""))
        peer.send(peer.compose(body=OFFER, branch="z9hG4bK2", CSeq="2 INVITE", Authorization=text))
        answer = await peer.response(200)
        peer.send(inside(peer, answer, "ACK", 2))
        peer.send(peer.compose(body=OFFER, branch="z9hG4bK3", Call_ID="replay", Authorization=text))
        again = await peer.response(401)
        assert "stale=true" in (again.headers.get("WWW-Authenticate") or "")


async def test_requests_outside_calls_with_credentials_and_handlers() -> None:
    texts: list[bytes] = []

    async def message(incoming: IncomingRequest) -> Reply:
        if incoming.verdict.outcome is not Outcome.VERIFIED:
            return incoming.challenge()
        texts.append(incoming.request.body)
        return Reply(202, headers=(("X-Seen", incoming.verdict.username),))

    async def take(incoming: IncomingCall) -> None:
        incoming.reject(603)

    async with (
        endpoint() as one,
        endpoint(take, authenticator=Users(), handlers={"MESSAGE": message}) as other,
    ):
        uri = f"sip:8001@127.0.0.1:{other.port('lo', 'TCP')};transport=tcp"
        login = Login("alice", "secret")
        answer = await one.request("MESSAGE", uri, US, "lo", body="消防".encode("gb18030"), login=login)
        assert (answer.status, answer.headers.get("X-Seen")) == (202, "alice")
        assert texts == ["消防".encode("gb18030")]
        assert (await one.request("OPTIONS", uri, US, "lo")).status == 200
        assert (await one.request("SUBSCRIBE", uri, US, "lo")).status == 405


# -- inside calls


async def test_reinvite_update_info_and_probe_between_two_endpoints() -> None:
    taken: asyncio.Queue[Call] = asyncio.Queue()

    async def on_call(incoming: IncomingCall) -> None:
        call = incoming.accept(ANSWER)
        taken.put_nowait(call)
        async for event in call.events():
            if isinstance(event, Reinvited):
                assert event.offer is not None
                if b"no thanks" in event.offer:
                    event.refuse(488)
                else:
                    event.answer(b"answer to " + event.offer)

    async with endpoint() as one, endpoint(on_call) as other:
        for transport in ("udp", "tcp"):
            uri = f"sip:8001@127.0.0.1:{other.port('lo', 'UDP')};transport={transport}"
            result = await (await one.invite(uri, US, "lo", OFFER)).result()
            assert isinstance(result, Answered)
            call = result.call
            assert call.flow.transport == transport.upper()
            assert await call.reinvite(b"one") == b"answer to one"
            assert await call.update(b"two") == b"answer to two"
            assert await call.reinvite(b"x" * 5000) == b"answer to " + b"x" * 5000
            with pytest.raises(ReinviteRefused) as refused:
                await call.reinvite(b"no thanks")
            assert refused.value.status == 488
            assert (call.local_sdp, call.remote_sdp) == (b"x" * 5000, b"answer to " + b"x" * 5000)
            assert await call.info("application/media_control+xml", b"<x/>") == 200
            assert await call.probe()
            theirs = await taken.get()
            assert await theirs.probe()
            await theirs.bye("enough")
            ended = await call.wait_ended()
            assert ended == Ended(EndCause.REMOTE_BYE, 'SIP;cause=200;text="enough"')
            with pytest.raises(CallOver):
                await call.reinvite(b"late")
            assert not await call.probe()
            await call.bye()


async def test_glare_is_491_and_waited_out() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        answer = await call_in(peer)
        (call,) = one.calls()
        asked = asyncio.create_task(call.reinvite(b"ours"))
        ours = await peer.request("INVITE")
        peer.send(inside(peer, answer, "INVITE", 2, OFFER))
        await peer.response(491)
        peer.reply(ours, 491)
        assert (await peer.request("ACK")).via == ours.via
        again = await peer.request("INVITE")
        assert again.cseq.number == ours.cseq.number + 1
        peer.reply(again, 200, b"theirs")
        assert await asked == b"theirs"
        ack = await peer.request("ACK")
        peer.reply(again, 200, b"theirs")
        assert (await peer.request("ACK")).to_bytes() == ack.to_bytes()


async def test_a_reinvite_nobody_waits_for_is_acknowledged_and_blocks_the_next() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        await call_in(peer)
        (call,) = one.calls()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await call.reinvite(b"first")
        first = await peer.request("INVITE")
        asked = asyncio.create_task(call.reinvite(b"second"))
        peer.reply(first, 180)
        await asyncio.sleep(0.1)
        peer.reply(first, 200, b"answer")
        assert (await peer.request("ACK")).cseq.number == first.cseq.number
        second = await peer.request("INVITE")
        assert second.body == b"second"
        assert call.local_sdp == b"first"
        peer.reply(second, 180)
        bye = peer.compose(
            "BYE", To=second.headers.get("From") or "", From=second.headers.get("To") or "", CSeq="9 BYE"
        )
        peer.send(bye)
        await peer.response(200)
        with pytest.raises(CallOver):
            await asked


async def test_our_reinvite_waits_until_theirs_is_done() -> None:
    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        async for event in incoming.accept(ANSWER).events():
            if isinstance(event, Reinvited):
                await asyncio.sleep(0.1)
                event.answer(ANSWER)

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        answer = await call_in(peer)
        (call,) = one.calls()
        peer.send(inside(peer, answer, "INVITE", 2, OFFER))
        await asyncio.sleep(0.02)
        asked = asyncio.create_task(call.reinvite(b"ours"))
        ok = await peer.response(200)
        assert ok.cseq.number == 2
        peer.send(inside(peer, answer, "ACK", 2))
        peer.reply(await peer.request("INVITE"), 200, b"theirs")
        assert await asked == b"theirs"


async def test_a_peer_that_lost_the_call_ends_it() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        call, _ = await call_out(one, peer)
        sent = asyncio.create_task(call.info("text/plain", b"x"))
        peer.reply(await peer.request("INFO"), 481)
        assert await sent == 481
        assert call.ended == Ended(EndCause.PEER_GONE, "481")
        assert one.calls() == []


async def test_a_challenge_inside_a_call_is_answered() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing = await one.invite(f"sip:room@127.0.0.1:{peer.port}", US, "lo", OFFER, login=Login("a", "b"))
        peer.reply(await peer.request("INVITE"), 200, ANSWER)
        result = await outgoing.result()
        assert isinstance(result, Answered)
        asked = asyncio.create_task(result.call.reinvite(b"more"))
        challenge = ("Proxy-Authenticate", 'Digest realm="p", nonce="n", algorithm=MD5, qop="auth"')
        peer.reply(await peer.request("INVITE"), 407, b"", challenge)
        again = await peer.request("INVITE")
        assert 'realm="p"' in (again.headers.get("Proxy-Authorization") or "")
        assert again.body == b"more"
        peer.reply(again, 200, b"fine")
        assert await asked == b"fine"


async def test_the_session_timer_is_refreshed_by_update_and_falls_back_to_invite() -> None:
    policy = SipPolicy(timing=QUICK, session_interval=90)
    async with endpoint(policy=policy) as one, RawPeer(one) as peer:
        call, _ = await call_out(
            one, peer, ("Session-Expires", "90;refresher=uac"), ("Allow", "INVITE, UPDATE")
        )
        call._start_refresh()
        update = await peer.request("UPDATE")
        assert (update.headers.get("Session-Expires"), update.body) == ("90;refresher=uac", b"")
        peer.reply(update, 405)
        again = await peer.request("INVITE")
        assert again.body == OFFER
        peer.reply(again, 200, ANSWER, ("Session-Expires", "90;refresher=uac"))
        await peer.request("ACK")
        events = call.events()
        assert await anext(events) == Refreshed(by_peer=False)


async def test_a_session_nobody_refreshes_is_hung_up() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        call, _ = await call_out(one, peer, ("Session-Expires", "90;refresher=uas"))
        snapshot = call.snapshot()
        assert snapshot.session_left is not None
        assert 59 < snapshot.session_left < 60
        call.agree(snapshot.session, left=0.05)
        peer.reply(await peer.request("BYE"), 200)
        assert (await call.wait_ended()).cause is EndCause.SESSION_EXPIRED


async def test_a_call_outlives_its_process() -> None:
    async with endpoint() as first, RawPeer(first) as peer:
        answer = await call_in(peer, Supported="timer", Record_Route=f"<sip:127.0.0.1:{peer.port};lr>")
        snapshot = first.calls()[0].snapshot()
        async with endpoint() as second:
            revived = second.restore(snapshot)
            assert revived.id == first.calls()[0].id
            again = revived.snapshot()
            assert again == replace(snapshot, session_left=again.session_left)
            assert again.session_left == pytest.approx(snapshot.session_left, abs=1)
            asked = asyncio.create_task(revived.reinvite(b"still here"))
            invite = await peer.request("INVITE")
            assert invite.to.tag == "p1"
            assert invite.headers.get("Route") == f"<sip:127.0.0.1:{peer.port};lr>"
            async with RawPeer(second) as same:
                same.reply(invite, 200, ANSWER)
                assert await asked == ANSWER
                same.send(inside(same, answer, "BYE", 2))
                assert (await same.response(200)).cseq.method == "BYE"
            assert (await revived.wait_ended()).cause is EndCause.REMOTE_BYE


async def test_a_contact_behind_a_nat_is_answered_where_it_was_heard() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        # The Via differs from the source, and the Contact cannot be reached.
        via = f"SIP/2.0/UDP 10.9.9.9:{peer.port};branch=z9hG4bKnat;rport"
        await call_in(peer, Via=via, Contact="<sip:peer@10.9.9.9:5060>")
        (call,) = one.calls()
        assert call.snapshot().behind_nat
        call.hang_up()
        bye = await peer.request("BYE")
        assert bye.uri == "sip:peer@10.9.9.9:5060"
        peer.reply(bye, 200)


async def names_fail(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """There is no DNS; what was asked for."""
    asked: list[str] = []

    async def fail(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "no DNS")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    return asked


@pytest.mark.parametrize(
    "route", [{"Record_Route": "<sip:proxy.invalid;lr>"}, {"Contact": "<sip:peer@room.invalid>"}]
)
async def test_an_adjacent_peer_with_a_name_nobody_knows_is_answered_where_it_was_heard(
    route: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await names_fail(monkeypatch)
    async with endpoint() as one, RawPeer(one) as peer:
        await call_in(peer, **route)
        (call,) = one.calls()
        big = ANSWER + b"a=x-filler:01234567890123456789\r\n" * 60
        for body in (ANSWER, big):
            offering = asyncio.create_task(call.reinvite(body))
            invite = await peer.request("INVITE")
            assert invite.headers.get("Route") == route.get("Record_Route")
            peer.send(respond(invite, 200, None, (), OFFER))
            assert (await peer.request("ACK")).cseq.number == invite.cseq.number
            await offering
        call.hang_up()
        peer.reply(await peer.request("BYE"), 200)
        assert len(asked) == 1  # not for every request: a lookup may take seconds


@pytest.mark.parametrize(
    "route",
    [
        {"Record_Route": "<sips:proxy.invalid;lr>"},
        {"Record_Route": "<sip:proxy.invalid;lr;transport=tls>"},
        {"Record_Route": "<sip:127.0.0.1;lr;transport=tls>"},  # known, and not to be reached
        {"proxied": "SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKfar", "Contact": "<sip:peer@room.invalid>"},
    ],
)
async def test_nobody_else_is_sent_what_is_for_a_name_nobody_knows(
    route: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await names_fail(monkeypatch)
    async with endpoint() as one, RawPeer(one) as peer:
        far = route.pop("proxied", None)
        invite = peer.compose(body=OFFER, **route)
        if far is not None:
            invite = replace(invite, headers=invite.headers.having(("Via", far)))
        peer.send(invite)
        await peer.response(180)
        answer = await peer.response(200)
        peer.send(Request("ACK", invite.uri, inside(peer, answer, "ACK", 1).headers))
        (call,) = one.calls()
        await call.wait_established()
        await call.bye()
        await peer.silence(0.1)


async def test_large_requests_prefer_tcp_and_take_udp_after_all() -> None:
    async with endpoint() as one, endpoint() as other, RawPeer(one) as peer:
        big = OFFER + b"a=x-filler:01234567890123456789\r\n" * 60
        both = await one.invite(f"sip:8001@127.0.0.1:{other.port('lo', 'UDP')}", US, "lo", big)
        result = await both.result()
        assert isinstance(result, Answered)
        assert result.call.flow.transport == "TCP"
        await one.invite(f"sip:8001@127.0.0.1:{peer.port}", US, "lo", big)
        invite = await peer.request("INVITE")
        assert (invite.via.transport, invite.body) == ("UDP", big)


async def test_responses_that_nobody_waits_for_are_dropped() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await ring_peer(one, peer)
        twice = respond(invite, 200, None, (), b"", to_tag="x")
        extra = twice.headers.led_by("Via", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKother")
        peer.send(Response(200, "OK", extra))
        peer.send(Response(200, "OK", twice.headers.replacing("Via", "SIP/2.0/UDP 1.2.3.4;branch=z9hG4bKno")))
        await asyncio.sleep(0.05)
        assert not outgoing.is_settled
        assert (one.counters.malformed, one.counters.stray_responses) == (1, 1)
