"""What a callee asks before it answers: requests in the early dialogs of calls of ours."""

from __future__ import annotations

import itertools

import pytest

from protocols.sip.digest import Login
from protocols.sip.message import Headers, Request, Response
from protocols.sip.replies import respond
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_outgoing import OutgoingCall
from signaling.sip_progress import Answered, Refused
from tests.signaling.sip_raw import ANSWER, OFFER, RawPeer, ended, endpoint

_branches = itertools.count()


async def call_out(
    one: SipEndpoint, peer: RawPeer, offer: bytes | None = OFFER
) -> tuple[OutgoingCall, Request]:
    outgoing = await one.invite(f"sip:peer@127.0.0.1:{peer.port}", "<sip:8001@127.0.0.1>", "lo", offer)
    return outgoing, await peer.request("INVITE")


async def ring_reliably(peer: RawPeer, invite: Request, rseq: int = 1, body: bytes = b"") -> Request:
    """A reliable 183 and its PRACK, answered."""
    peer.reply(invite, 183, body, ("Require", "100rel"), ("RSeq", str(rseq)))
    prack = await peer.request("PRACK")
    peer.reply(prack, 200)
    return prack


def of_callee(
    peer: RawPeer,
    invite: Request,
    method: str,
    number: int,
    body: bytes = b"",
    tag: str = "peer",
    **more: str,
) -> Request:
    """A request from the callee of that INVITE."""
    contact = invite.contact
    assert contact is not None
    fields = [
        ("Via", f"SIP/2.0/UDP 127.0.0.1:{peer.port};branch=z9hG4bKearly{next(_branches)};rport"),
        ("From", f"{invite.headers.get('To')};tag={tag}"),
        ("To", invite.headers.get("From") or ""),
        ("Call-ID", invite.call_id),
        ("CSeq", f"{number} {method}"),
        ("Max-Forwards", "70"),
        ("Contact", f"<sip:peer@127.0.0.1:{peer.port}>"),
    ]
    fields += [("Content-Type", "application/sdp")] if body else []
    changed = Headers(tuple(fields))
    for name, value in more.items():
        changed = changed.replacing(name.replace("_", "-"), value)
    return Request(method, str(contact.uri), changed, body)


async def asked(
    peer: RawPeer, invite: Request, method: str, number: int, body: bytes = b"", **more: str
) -> Response:
    peer.send(of_callee(peer, invite, method, number, body, **more))
    return await peer.response()


@pytest.mark.parametrize("reliable", [True, False])
async def test_requests_of_a_callee_that_rings_are_answered(reliable: bool) -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await call_out(one, peer)
        if reliable:
            await ring_reliably(peer, invite)
        else:
            peer.reply(invite, 180)
        update = await asked(peer, invite, "UPDATE", 5)
        assert (update.status, update.contact) == (200, invite.contact)
        assert (await asked(peer, invite, "INFO", 6)).status == 200
        assert (await asked(peer, invite, "INFO", 7, **{"Info-Package": "x"})).status == 469
        options = await asked(peer, invite, "OPTIONS", 8)
        assert options.status == 200
        assert "update" in options.headers.tokens("Allow")
        statuses = [(await asked(peer, invite, m, 9 + i)).status for i, m in enumerate(("BYE", "PRACK"))]
        assert statuses == [481, 481]
        peer.send(refused := of_callee(peer, invite, "INVITE", 11, OFFER))
        answer = await peer.response(491)
        peer.send(Request("ACK", refused.uri, refused.headers.replacing("CSeq", "11 ACK")))
        assert answer.cseq.method == "INVITE"
        late = await asked(peer, invite, "UPDATE", 11)
        assert (late.status, late.headers.get("Retry-After")) == (500, None)  # out of order (12.2.2)
        assert (await asked(peer, invite, "UPDATE", 12, tag="other")).status == 481
        assert not outgoing.is_settled
        peer.reply(invite, 200, ANSWER)
        await peer.request("ACK")
        assert isinstance(await outgoing.result(), Answered)


async def test_offers_of_a_callee_that_rings_wait() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        _, invite = await call_out(one, peer)
        await ring_reliably(peer, invite)
        assert (await asked(peer, invite, "UPDATE", 1, OFFER)).status == 491  # ours is unanswered
        await ring_reliably(peer, invite, 2, ANSWER)
        refused = await asked(peer, invite, "UPDATE", 2, OFFER)
        assert refused.status == 500
        assert 0 <= int(refused.headers.get("Retry-After") or -1) <= 10
        odd = await asked(peer, invite, "UPDATE", 3, OFFER, Content_Type="text/plain")
        assert odd.status == 415
    async with endpoint() as one, RawPeer(one) as peer:
        _, invite = await call_out(one, peer, None)
        peer.reply(invite, 180)
        assert (await asked(peer, invite, "UPDATE", 1, OFFER)).status == 500  # of ours there is none


async def test_an_update_moves_the_target_of_what_comes_before_the_answer() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        _, invite = await call_out(one, peer)
        first = await ring_reliably(peer, invite)
        moved = f"sip:moved@127.0.0.1:{peer.port}"
        assert (await asked(peer, invite, "UPDATE", 1, Contact=f"<{moved}>")).status == 200
        second = await ring_reliably(peer, invite, 2)
        assert (first.uri, second.uri) == (f"sip:peer@127.0.0.1:{peer.port}", moved)


async def test_numbers_of_the_early_dialog_go_on_in_the_call() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await call_out(one, peer)
        peer.reply(invite, 180)  # and reliably from now on: the same dialog
        assert (await asked(peer, invite, "UPDATE", 7)).status == 200
        await ring_reliably(peer, invite)
        assert (await asked(peer, invite, "UPDATE", 7)).status == 500
        peer.reply(invite, 200, ANSWER)
        await peer.request("ACK")
        outcome = await outgoing.result()
        assert isinstance(outcome, Answered)
        assert (await asked(peer, invite, "INFO", 7)).status == 500
        assert (await asked(peer, invite, "INFO", 8)).status == 200
        events = outcome.call.events()
        assert (await asked(peer, invite, "BYE", 9)).status == 200
        assert (await ended(events)).cause.name == "REMOTE_BYE"
        assert not one._core.dialogs


async def test_what_rang_and_did_not_answer_is_gone() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing, invite = await call_out(one, peer)
        for tag in ("a", "b"):
            peer.send(
                respond(invite, 180, None, [("Contact", f"<sip:{tag}@127.0.0.1:{peer.port}>")], to_tag=tag)
            )
            assert (await asked(peer, invite, "UPDATE", 1, tag=tag)).status == 200
        peer.send(respond(invite, 486, to_tag="a"))
        assert isinstance(await outgoing.result(), Refused)
        assert [(await asked(peer, invite, "UPDATE", 2, tag=tag)).status for tag in ("a", "b")] == [481, 481]
        assert not one._core.dialogs


async def test_who_rang_before_its_challenge_rings_anew() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        outgoing = await one.invite(
            f"sip:peer@127.0.0.1:{peer.port}", "<sip:8001@127.0.0.1>", "lo", OFFER, login=Login("a", "b")
        )
        invite = await peer.request("INVITE")
        await ring_reliably(peer, invite, 41)
        assert (await asked(peer, invite, "UPDATE", 9)).status == 200
        challenge = ("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5')
        peer.reply(invite, 401, b"", challenge)
        again = await peer.request("INVITE")
        assert (await asked(peer, invite, "UPDATE", 10)).status == 481
        prack = await ring_reliably(peer, again, 7)  # its RSeq and CSeq count from anywhere
        assert prack.headers.get("RAck") == f"7 {again.cseq.number} INVITE"
        assert (await asked(peer, again, "UPDATE", 1)).status == 200
        peer.reply(again, 200, ANSWER)
        await peer.request("ACK")
        assert isinstance(await outgoing.result(), Answered)
