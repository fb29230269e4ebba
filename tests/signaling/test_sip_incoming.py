"""Calls to us, from INVITE to their first answer and end, against a peer that sends exact bytes."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from protocols.sip.digest import Outcome
from protocols.sip.message import Response
from signaling.sip_events import CallCancelled, CallSnapshot, EndCause, Ended
from signaling.sip_incoming import IncomingCall
from tests.signaling.sip_raw import ANSWER, HASTY, OFFER, RawPeer, call_in, ended, endpoint, inside, take_call


async def test_a_call_comes_is_answered_and_goes() -> None:
    seen: list[IncomingCall] = []

    async def on_call(incoming: IncomingCall) -> None:
        seen.append(incoming)
        incoming.ring()
        call = incoming.accept(ANSWER)
        assert await call.wait_established() is None
        assert await ended(call.events()) == Ended(EndCause.REMOTE_BYE, "Q.850;cause=16")

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER))
        ringing = await peer.response(180)
        answer = await peer.response(200)
        assert answer.body == ANSWER
        assert answer.to.tag == ringing.to.tag
        assert answer.headers.get("Contact") == f"<sip:8001@127.0.0.1:{one.port('lo', 'UDP')}>"
        assert {"invite", "bye", "update"} <= answer.headers.tokens("Allow")
        assert answer.via.parameters.get("rport") == str(peer.port)
        peer.send(inside(peer, answer, "ACK", 1))
        peer.send(inside(peer, answer, "BYE", 2, Reason="Q.850;cause=16"))
        await peer.response(200)
        assert one.calls() == []
        (incoming,) = seen
        assert (incoming.network, incoming.source) == ("lo", ("127.0.0.1", peer.port))
        assert incoming.offer == OFFER
        assert str(incoming.called) == "sip:8001@127.0.0.1"
        assert incoming.verdict.outcome is Outcome.ABSENT


async def test_a_call_can_be_kept_as_it_will_be_before_its_200_is_sent() -> None:
    kept: list[CallSnapshot] = []

    async def on_call(incoming: IncomingCall) -> None:
        prepared = incoming.prepare(ANSWER)
        kept.append(prepared.snapshot)
        assert one.calls() == [], "nobody has heard of it"
        call = prepared.send()
        kept.append(call.snapshot())
        await call.wait_ended()

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER, Supported="timer", Session_Expires="1800;refresher=uac"))
        answer = await peer.response(200)
        planned, live = kept
        assert planned.session is not None
        assert planned.session_left == planned.session.expires_at(0.0)
        assert replace(planned, session_left=None) == replace(live, session_left=None)
        peer.send(inside(peer, answer, "ACK", 1))


async def test_a_repeated_invite_is_one_call_and_200_is_repeated_until_the_ack() -> None:
    calls = 0

    async def on_call(incoming: IncomingCall) -> None:
        nonlocal calls
        calls += 1
        await take_call(incoming)

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        invite = peer.compose(body=OFFER)
        for _ in range(3):
            peer.send(invite)
        answers = [await _response_to_invite(peer, 200) for _ in range(3)]
        assert len({message.to_bytes() for message in answers}) == 1
        peer.send(inside(peer, answers[0], "ACK", 1))
        await _drained(peer)
        await peer.silence(0.3)
        peer.send(invite)
        await peer.silence(0.2)
        assert (calls, len(one.calls())) == (1, 1)


async def _response_to_invite(peer: RawPeer, status: int) -> Response:
    """The next response of that status, others passed over."""
    while (message := await peer.response()).status != status:
        pass
    return message


async def _drained(peer: RawPeer) -> None:
    with contextlib.suppress(TimeoutError):
        while True:
            await peer.next(0.12)


async def test_without_an_ack_the_call_is_hung_up_after_64_t1() -> None:
    over: list[Ended] = []

    async def on_call(incoming: IncomingCall) -> None:
        over.append(await incoming.accept(ANSWER).wait_ended())

    async with endpoint(on_call, HASTY) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER))
        bye = await peer.request("BYE")
        peer.reply(bye, 200)
        assert bye.uri == f"sip:peer@127.0.0.1:{peer.port}"
        assert over == [Ended(EndCause.NO_ACK, "no ACK")]


async def test_cancel_is_answered_487_and_the_handler_is_told() -> None:
    told = asyncio.Event()

    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        await incoming.wait_cancelled()
        with pytest.raises(CallCancelled):
            incoming.accept(ANSWER)
        told.set()

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER))
        ringing = await peer.response(180)
        peer.send(peer.compose("CANCEL"))
        cancelled = await peer.response(200)
        assert cancelled.cseq.method == "CANCEL"
        refused = await peer.response(487)
        assert refused.to.tag == ringing.to.tag == cancelled.to.tag
        peer.send(peer.compose("ACK", To=refused.headers.get("To") or ""))
        await asyncio.wait_for(told.wait(), 2)
        await _drained(peer)
        await peer.silence(0.3)


async def test_a_late_cancel_changes_nothing() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        answer = await call_in(peer)
        peer.send(peer.compose("CANCEL"))
        assert (await peer.response(200)).cseq.method == "CANCEL"
        assert len(one.calls()) == 1
        peer.send(peer.compose("CANCEL", branch="z9hG4bKnever"))
        await peer.response(481)
        peer.send(inside(peer, answer, "BYE", 2))
        assert (await peer.response(200)).cseq.method == "BYE"


async def test_a_handler_that_fails_or_forgets_is_500() -> None:
    async def fails(incoming: IncomingCall) -> None:
        raise RuntimeError("a fault of ours")

    async def forgets(incoming: IncomingCall) -> None:
        return

    for on_call in (fails, forgets):
        async with endpoint(on_call) as one, RawPeer(one) as peer:
            peer.send(peer.compose(body=OFFER))
            await peer.response(500)


async def test_refusals_by_the_handler() -> None:
    async def on_call(incoming: IncomingCall) -> None:
        incoming.reject(486, "Line\r\nbusy", [("Retry-After", "30")])

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER))
        refused = await peer.response(486)
        assert (refused.reason, refused.headers.get("Retry-After")) == ("Line??busy", "30")
        peer.send(peer.compose("ACK", To=refused.headers.get("To") or ""))


async def test_gb18030_folded_and_bare_line_feeds() -> None:
    name = "南宁市应急管理局".encode("gb18030")
    names: list[bytes] = []

    async def on_call(incoming: IncomingCall) -> None:
        names.append(incoming.caller.display_name.encode("utf-8", "surrogateescape"))
        await take_call(incoming)

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        data = peer.compose(body=b"").to_bytes()
        data = data.replace(b"From: Peer ", b'From:\r\n  "' + name + b'"\r\n\t').replace(b"\r\n", b"\n")
        peer.send(data)
        answer = await peer.response(180)
        assert names == [name]
        assert name in answer.to_bytes()


async def test_an_offerless_invite_gets_our_offer_and_answers_in_the_ack() -> None:
    answers: list[bytes | None] = []

    async def on_call(incoming: IncomingCall) -> None:
        assert incoming.offer is None
        incoming.ring()
        call = incoming.accept(OFFER)
        answers.append(await call.wait_established())
        assert call.remote_sdp == ANSWER
        await call.wait_ended()

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        peer.send(peer.compose())
        answer = await peer.response(180)
        answer = await peer.response(200)
        assert answer.body == OFFER
        peer.send(inside(peer, answer, "ACK", 1, ANSWER))
        peer.send(inside(peer, answer, "BYE", 2))
        await peer.response(200)
        assert answers == [ANSWER]


async def test_a_caller_may_hang_up_while_it_rings() -> None:
    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        await incoming.wait_cancelled()

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER))
        ringing = await peer.response(180)
        peer.send(inside(peer, ringing, "BYE", 2))
        assert {(await peer.response()).status for _ in range(2)} == {200, 487}
