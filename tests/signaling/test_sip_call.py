"""What a peer asks inside a call: INFO, OPTIONS, UPDATE, re-INVITE, and their refusals."""

import asyncio

from protocols.sip.message import Request
from signaling.sip_core import SipPolicy
from signaling.sip_events import Ended, InfoReceived, Refreshed, Reinvited
from signaling.sip_incoming import IncomingCall
from tests.signaling.sip_raw import ANSWER, OFFER, QUICK, RawPeer, call_in, endpoint, inside


async def test_requests_inside_a_call() -> None:
    heard: list[object] = []

    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        call = incoming.accept(ANSWER)
        async for event in call.events():
            heard.append(event)
            if isinstance(event, Reinvited):
                if event.offer == OFFER:
                    event.answer(b"v=0 second\r\n")
                else:
                    event.refuse()

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        answer = await call_in(peer, Supported="timer", Session_Expires="600;refresher=uac")
        assert answer.headers.get("Session-Expires") == "600;refresher=uac"
        assert "timer" in answer.headers.tokens("Require")

        update = b"<media_control/>"
        info = inside(peer, answer, "INFO", 2, update, Content_Type="application/media_control+xml")
        peer.send(info)
        await peer.response(200)
        peer.send(inside(peer, answer, "OPTIONS", 3))
        assert (await peer.response(200)).headers.get("Accept") == "application/sdp"

        peer.send(inside(peer, answer, "UPDATE", 4, Session_Expires="600;refresher=uac", Supported="timer"))
        assert (await peer.response(200)).headers.get("Session-Expires") == "600;refresher=uac"

        moved = f"<sip:moved@127.0.0.1:{peer.port}>"
        peer.send(inside(peer, answer, "INVITE", 5, OFFER, Contact=moved))
        second = await peer.response(200)
        assert second.body == b"v=0 second\r\n"
        peer.send(inside(peer, answer, "ACK", 5))
        peer.send(inside(peer, answer, "UPDATE", 6, b"v=0 cannot\r\n"))
        await peer.response(488)
        peer.send(inside(peer, answer, "INFO", 6))
        assert "is not above" in (await peer.response(500)).reason
        peer.send(inside(peer, answer, "INFO", 7, Info_Package="foo"))
        await peer.response(469)

        (call,) = one.calls()
        bye = asyncio.create_task(call.bye("meeting over"))
        said = await peer.request("BYE")
        assert said.uri == f"sip:moved@127.0.0.1:{peer.port}"
        assert said.headers.get("Reason") == 'SIP;cause=200;text="meeting over"'
        peer.reply(said, 200)
        await bye
        assert [type(event) for event in heard] == [InfoReceived, Refreshed, Reinvited, Reinvited, Ended]
        assert isinstance(heard[0], InfoReceived)
        assert (heard[0].content_type, heard[0].body) == ("application/media_control+xml", update)
        assert heard[1] == Refreshed(by_peer=True)
        peer.send(inside(peer, answer, "INFO", 8))
        await peer.response(481)


async def test_a_reinvite_nobody_answers_is_500_and_the_call_lives() -> None:
    async with endpoint(policy=SipPolicy(timing=QUICK, reinvite_answer=0.2)) as one, RawPeer(one) as peer:
        answer = await call_in(peer)
        peer.send(inside(peer, answer, "INVITE", 2, OFFER))
        peer.send(inside(peer, answer, "UPDATE", 3, OFFER))
        busy = await peer.response(500)
        assert busy.cseq.method == "UPDATE"
        assert 0 <= int(busy.headers.get("Retry-After") or "-1") <= 10
        late = await peer.response(500)
        assert (late.cseq.method, late.reason) == ("INVITE", "no answer in time")
        assert len(one.calls()) == 1


async def test_a_reinvite_can_be_cancelled() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        answer = await call_in(peer)
        again = inside(peer, answer, "INVITE", 2, OFFER)
        peer.send(again)
        cancel = inside(peer, answer, "CANCEL", 2)
        peer.send(
            Request("CANCEL", again.uri, cancel.headers.replacing("Via", again.headers.get("Via") or ""))
        )
        assert {(await peer.response()).status for _ in range(2)} == {200, 487}
        assert len(one.calls()) == 1


async def test_nothing_overtakes_an_offer_that_may_be_lost() -> None:
    """Repeated after a request with a higher CSeq, it would be refused as out of order."""
    async with endpoint() as one, RawPeer(one) as peer:
        await call_in(peer)
        (call,) = one.calls()
        offer = asyncio.create_task(call.reinvite(OFFER))
        first = await peer.request("INVITE")
        update = asyncio.create_task(call.info("application/media_control+xml", b"<media_control/>"))
        again = await peer.next()
        assert isinstance(again, Request)
        assert again == first, "repeated, and nothing else came"
        peer.reply(again, 100)
        info = await peer.request("INFO")
        assert info.cseq.number > again.cseq.number
        peer.reply(info, 200)
        assert await update == 200
        peer.reply(again, 200, body=ANSWER)
        assert await offer == ANSWER
        hurry = asyncio.create_task(call.update(OFFER))
        late = await peer.request("UPDATE")
        bye = asyncio.create_task(call.bye())
        assert (await peer.request("BYE")).cseq.number > late.cseq.number, "a BYE waits for nobody"
        hurry.cancel()
        bye.cancel()
