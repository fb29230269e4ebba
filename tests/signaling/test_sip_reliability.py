"""Reliable provisional responses (RFC 3262), both ways."""

from __future__ import annotations

import asyncio

import pytest

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.message import Request, Response
from protocols.sip.reliability import RAck
from protocols.sip.replies import respond
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_incoming import IncomingCall
from signaling.sip_outgoing import OutgoingCall
from signaling.sip_progress import Answered, Provisional, Refused
from tests.signaling.sip_raw import ANSWER, HASTY, OFFER, RawPeer, ended, endpoint, inside


def test_what_a_prack_acknowledges() -> None:
    assert RAck.parse("776656 1  INVITE") == RAck(776656, 1, "INVITE")
    assert str(RAck(1, 2, "INVITE")) == "1 2 INVITE"
    for wrong in ("", "1 INVITE", "1 2 3 INVITE", "x 1 INVITE", "1 x INVITE", "-1 1 INVITE", "1 1 IN@VITE"):
        with pytest.raises(SipSyntaxError):
            RAck.parse(wrong)


# --- we answer ------------------------------------------------------------------------------------


def prack(peer: RawPeer, ringing: Response, number: int, rack: str) -> Request:
    return inside(peer, ringing, "PRACK", number, RAck=rack)


def rack_of(ringing: Response) -> str:
    assert ringing.headers.get("Require") == "100rel"
    return f"{ringing.headers.get('RSeq')} 1 INVITE"


async def test_ringing_is_repeated_until_it_is_acknowledged() -> None:
    rung = asyncio.Event()

    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        incoming.ring(183, ANSWER)
        await incoming.acknowledged()
        rung.set()
        await incoming.accept(ANSWER).wait_ended()

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER, Require="100rel"))
        first = await peer.response(180)
        again = await peer.response(180)
        assert first == again
        peer.send(prack(peer, first, 2, "1 1 INVITE"))
        while (wrong := await peer.response()).status == 180:
            pass
        assert wrong.status == 481
        peer.send(prack(peer, first, 3, rack_of(first)))
        while (right := await peer.response()).status == 180:
            pass
        assert (right.status, right.cseq.method) == (200, "PRACK")
        second = await peer.response(183)
        assert int(second.headers.get("RSeq") or 0) == int(first.headers.get("RSeq") or 0) + 1
        assert second.body == ANSWER
        assert not rung.is_set()
        peer.send(prack(peer, second, 4, rack_of(second)))
        answers = {(m.status, m.cseq.method) for m in [await peer.response(), await peer.response()]}
        assert answers == {(200, "PRACK"), (200, "INVITE")}
        peer.send(inside(peer, second, "ACK", 1))
        peer.send(inside(peer, second, "BYE", 5))
        assert (await peer.response()).status == 200


async def test_a_late_prack_after_the_answer_is_right() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER, Require="100rel"))
        ringing = await peer.response(180)
        answer = await peer.response(200)
        peer.send(inside(peer, answer, "ACK", 1))
        peer.send(prack(peer, answer, 2, rack_of(ringing)))
        assert (await peer.response()).status == 200
        peer.send(prack(peer, answer, 3, "7 1 INVITE"))
        assert (await peer.response()).status == 481
        peer.send(inside(peer, answer, "PRACK", 4, RAck="nonsense"))
        assert (await peer.response()).status == 400
        stray = peer.compose("PRACK", To="<sip:8001@127.0.0.1>;tag=no", RAck="1 1 INVITE", branch="z9hG4bKs")
        peer.send(stray)
        assert (await peer.response()).status == 481


async def test_who_never_acknowledges_is_refused() -> None:
    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        await incoming.wait_cancelled()

    async with endpoint(on_call, policy=HASTY) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER, Require="100rel"))
        rings = 0
        while (response := await peer.response()).status == 180:
            rings += 1
        assert (response.status, response.reason) == (504, "No PRACK came")
        assert 5 <= rings <= 8, "T1 doubles up to 64*T1"


async def test_nobody_who_only_supports_it_is_made_to_use_it() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER, Supported="100rel"))
        assert (await peer.response(180)).headers.get("RSeq") is None
        answer = await peer.response(200)
        assert "100rel" in answer.headers.tokens("Supported")
        assert "prack" in answer.headers.tokens("Allow")


# --- we call --------------------------------------------------------------------------------------


def early(
    peer: RawPeer, invite: Request, status: int, rseq: int, body: bytes = b"", tag: str = "peer"
) -> None:
    fields = [("Contact", f"<sip:peer@127.0.0.1:{peer.port}>"), ("Require", "100rel"), ("RSeq", str(rseq))]
    if body:
        fields.append(("Content-Type", "application/sdp"))
    peer.send(respond(invite, status, None, fields, body, to_tag=tag))


async def call_out(one: SipEndpoint, peer: RawPeer) -> tuple[OutgoingCall, Request]:
    outgoing = await one.invite(f"sip:peer@127.0.0.1:{peer.port}", "<sip:8001@127.0.0.1>", "lo", OFFER)
    return outgoing, await peer.request("INVITE")


async def test_the_answer_in_a_reliable_183_is_the_answer() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await call_out(one, peer)
        assert "100rel" in invite.headers.tokens("Supported")
        early(peer, invite, 183, 41, ANSWER)
        first = await peer.request("PRACK")
        assert (first.headers.get("RAck"), first.cseq.number) == ("41 1 INVITE", 2)
        assert first.uri == f"sip:peer@127.0.0.1:{peer.port}"
        peer.reply(first, 200)
        early(peer, invite, 183, 41, ANSWER)
        early(peer, invite, 180, 43)
        early(peer, invite, 180, 42)
        second = await peer.request("PRACK")
        assert (second.headers.get("RAck"), second.cseq.number) == ("42 1 INVITE", 3)
        peer.reply(second, 200)
        peer.reply(invite, 200)
        assert (await peer.request("ACK")).cseq.number == 1
        outcome = await outgoing.result()
        assert isinstance(outcome, Answered)
        assert outcome.sdp == ANSWER
        seen = [one async for one in outgoing if isinstance(one, Provisional)]
        assert [one.status for one in seen] == [183, 180]
        bye = asyncio.create_task(outcome.call.bye())
        goodbye = await peer.request("BYE")
        assert goodbye.cseq.number == 4, "above those of the PRACKs"
        peer.reply(goodbye, 200)
        await bye


async def test_forks_have_dialogs_of_their_own() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await call_out(one, peer)
        for tag, rseq in (("a", 1), ("b", 900)):
            early(peer, invite, 180, rseq, tag=tag)
            request = await peer.request("PRACK")
            assert (request.to.tag, request.headers.get("RAck")) == (tag, f"{rseq} 1 INVITE")
            peer.send(respond(request, 200))
        peer.send(respond(invite, 486, to_tag="a"))
        assert isinstance(await outgoing.result(), Refused)


async def test_a_ringing_that_cannot_be_acknowledged_is_not_heard() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await call_out(one, peer)
        peer.reply(invite, 180, b"", ("Require", "100rel"), ("RSeq", "x"))
        await peer.silence(0.1)
        peer.reply(invite, 200, ANSWER)
        await peer.request("ACK")
        outcome = await outgoing.result()
        assert isinstance(outcome, Answered)
        events = outcome.call.events()
        bye = inside(peer, respond(invite, 200, None, [("Contact", "<sip:x@127.0.0.1>")]), "BYE", 1)
        contact = invite.contact
        assert contact is not None
        fields = (("From", "<sip:peer@x>;tag=peer"), ("To", invite.headers.get("From") or ""))
        headers = bye.headers.replacing(*fields[0]).replacing(*fields[1]).replacing("Call-ID", invite.call_id)
        peer.send(Request("BYE", str(contact.uri), headers))
        assert (await ended(events)).cause.name == "REMOTE_BYE"
