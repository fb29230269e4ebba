"""The endpoint against a peer that sends exact bytes: calls to us, and everything that is not one."""

import asyncio
import contextlib
import re

import pytest

from protocols.sip.digest import Outcome, Password, Secret
from protocols.sip.message import Request, Response, parse_message
from signaling.sip_core import SipPolicy
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import CallCancelled, EndCause, Ended, InfoReceived, Refreshed, Reinvited
from signaling.sip_incoming import IncomingCall, IncomingRequest, Reply
from signaling.sip_listener import ListenerLimits, ListenerSettings
from tests.signaling.sip_raw import (
    ANSWER,
    HASTY,
    OFFER,
    QUICK,
    RawPeer,
    call_in,
    compose,
    ended,
    endpoint,
    inside,
    take_call,
)


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


@pytest.mark.parametrize(
    ("method", "changes", "status", "header"),
    [
        ("OPTIONS", {}, 200, ("Accept", "application/sdp")),
        ("OPTIONS", {"Max_Forwards": ""}, 200, ("Supported", "timer, 100rel")),
        ("OPTIONS", {"Max_Forwards": "0"}, 200, ("Accept-Encoding", "identity")),
        ("INVITE", {"Accept": "text/plain"}, 406, None),
        ("PUBLISH", {}, 405, ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, PRACK")),
        ("REGISTER", {}, 405, None),
        ("!interesting-Method0123456789_*+`.%indeed'~", {}, 405, None),
        ("OPTIONS", {"Require": "nothing-we-know"}, 420, ("Unsupported", "nothing-we-know")),
        ("INVITE", {"Require": "100rel, path"}, 420, ("Unsupported", "path")),
        ("OPTIONS", {"uri": "nobodyknows:opaque"}, 416, None),
        ("INVITE", {"CSeq": "1 OPTIONS"}, 400, None),
        ("INVITE", {"Contact": ""}, 400, None),
        ("INVITE", {"Call_ID": ""}, 400, None),
        ("INVITE", {"Content_Type": "application/unknown"}, 415, ("Accept", "application/sdp")),
        ("INVITE", {"Supported": "timer", "Session_Expires": "30"}, 422, ("Min-SE", "90")),
        ("INVITE", {"Require": '"unbalanced'}, 400, None),
        ("BYE", {"To": "<sip:8001@127.0.0.1>;tag=gone"}, 481, None),
        ("INVITE", {"To": "<sip:8001@127.0.0.1>;tag=gone"}, 481, None),
        ("BYE", {}, 481, None),
    ],
)
async def test_what_is_refused_and_how(
    method: str, changes: dict[str, str], status: int, header: tuple[str, str] | None
) -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        peer.send(compose(peer.port, method, OFFER if method == "INVITE" else b"", **changes))
        answer = await peer.response(status)
        if header is not None:
            assert answer.headers.get(header[0]) == header[1]
        assert one.calls() == []


async def test_malformed_requests_get_400_that_says_what_is_wrong() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        good = peer.compose("OPTIONS").to_bytes()

        async def reason(data: bytes) -> str:
            peer.send(data)
            return (await peer.response()).reason

        assert "Content-Length says 99" in await reason(good.replace(b"Content-Length: 0", b"l: 99"))
        assert "contains a space" in await reason(good.replace(b"127.0.0.1 SIP", b"127.0.0.1; lr SIP"))
        assert "not a header line" in await reason(good.replace(b"Max-Forwards: 70", b"Max-Forwards"))
        assert "Via is missing" in await reason(re.sub(rb"Via: [^\r]*\r\n", b"", good))
        assert "not a Via" in await reason(re.sub(rb"Via: [^\r]*\r\n", b"Via: SIP/2.0\r\n", good))
        assert "Version" in await reason(good.replace(b" SIP/2.0\r\n", b" SIP/7.0\r\n", 1))
        peer.send(good.replace(b"OPTIONS", b"ACK"))
        peer.send(b"\r\n\r\n")
        peer.send(b"\0\0\0\0")
        peer.send(b"complete nonsense")
        peer.send(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\n\r\n")
        await peer.silence(0.2)
        assert one.counters.malformed == 8


async def test_merged_requests_are_482() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        peer.send(peer.compose("INVITE", OFFER, branch="z9hG4bKone"))
        peer.send(peer.compose("INVITE", OFFER, branch="z9hG4bKtwo"))
        statuses: dict[str, int] = {}
        while len(statuses) < 2:
            response = await peer.response()
            if response.status != 180:
                statuses[response.via.branch] = response.status
        assert statuses == {"z9hG4bKone": 200, "z9hG4bKtwo": 482}


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


async def test_a_caller_may_hang_up_while_it_rings() -> None:
    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        await incoming.wait_cancelled()

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER))
        ringing = await peer.response(180)
        peer.send(inside(peer, ringing, "BYE", 2))
        assert {(await peer.response()).status for _ in range(2)} == {200, 487}


class Users:
    """One user, alice."""

    async def lookup(self, username: str, realm: str) -> Secret | None:
        return Password("secret") if (username, realm) == ("alice", "anshi") else None


async def test_registrations_go_to_their_handler_with_a_verdict() -> None:
    async def register(incoming: IncomingRequest) -> Reply:
        if incoming.verdict.outcome is not Outcome.VERIFIED:
            return incoming.challenge()
        return Reply(200, headers=(("Expires", "60"),))

    handlers = {"REGISTER": register}
    async with endpoint(authenticator=Users(), handlers=handlers) as one, RawPeer(one) as peer:
        peer.send(peer.compose("REGISTER"))
        refused = await peer.response(401)
        schemes = refused.headers.all("WWW-Authenticate")
        assert ["SHA-256" in text for text in schemes] == [False, True]
        assert all('qop="auth"' in text for text in schemes)


async def test_too_many_calls_are_503_with_retry_after() -> None:
    policy = SipPolicy(timing=QUICK, max_calls=1)
    async with endpoint(policy=policy) as one, RawPeer(one) as peer:
        await call_in(peer)
        peer.send(peer.compose(body=OFFER, branch="z9hG4bK2", Call_ID="raw-2"))
        refused = await peer.response(503)
        assert refused.headers.get("Retry-After") == "10"


async def test_closing_hangs_up_every_call_and_refuses_ringing_ones() -> None:
    async def on_call(incoming: IncomingCall) -> None:
        if incoming.call_id == "raw-1":
            await take_call(incoming)
        else:
            incoming.ring()
            await incoming.wait_cancelled()

    async with endpoint(on_call) as one, RawPeer(one) as peer:
        await call_in(peer)
        peer.send(peer.compose(body=OFFER, branch="z9hG4bK2", Call_ID="raw-2"))
        await peer.response(180)
        closing = asyncio.create_task(one.aclose(timeout=2.0))
        await peer.response(503)
        bye = await peer.request("BYE")
        assert bye.call_id == "raw-1"
        peer.reply(bye, 200)
        async with asyncio.timeout(1.5):
            await closing


async def test_closing_does_not_wait_for_the_dead() -> None:
    async with endpoint() as one, RawPeer(one) as peer:
        await call_in(peer)
        async with asyncio.timeout(1.0):
            await one.aclose(timeout=0.3)


async def test_a_port_in_use_ends_the_start_with_its_address() -> None:
    async with endpoint() as one:
        port = one.port("lo", "UDP")
        second = SipEndpoint([ListenerSettings("lo", "127.0.0.1", port, port)], realm="x", on_call=take_call)
        with pytest.raises(OSError, match=rf"127\.0\.0\.1 port {port} \(lo\)"):
            await second.start()


# -- streams


async def _stream(one: SipEndpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port("lo", "TCP"))
    return reader, writer, writer.get_extra_info("sockname")[1]


async def _read_until(reader: asyncio.StreamReader, wanted: bytes, times: int = 1) -> bytes:
    data = b""
    async with asyncio.timeout(3):
        while data.count(wanted) < times:
            piece = await reader.read(65536)
            assert piece, f"closed after {data!r}"
            data += piece
    return data


async def test_tcp_split_into_bytes_and_pipelined() -> None:
    async with endpoint() as one:
        reader, writer, port = await _stream(one)
        invite = compose(port, body=OFFER, transport="TCP").to_bytes()
        for at in range(len(invite)):
            writer.write(invite[at : at + 1])
            if at % 50 == 0:
                await asyncio.sleep(0)
        data = await _read_until(reader, b"SIP/2.0 200 OK")
        assert b"transport=tcp" in data
        many = [
            compose(port, "OPTIONS", transport="TCP", branch=f"z9hG4bK{n}", Call_ID=str(n)) for n in range(20)
        ]
        writer.write(b"\r\n\r\n" + b"".join(message.to_bytes() for message in many) + b"\r\n\r\n")
        data = await _read_until(reader, b"CSeq: 1 OPTIONS", 20)
        assert data.startswith(b"\r\n\r\nSIP/2.0 200 OK")  # the answers to both pings overtake
        writer.close()


async def test_an_invite_of_60_kilobytes_by_both_transports() -> None:
    offers: list[int] = []

    async def on_call(incoming: IncomingCall) -> None:
        offers.append(len(incoming.offer or b""))
        await take_call(incoming)

    big = OFFER + b"a=x-filler:0123456789012345678901234567890123456789\r\n" * 1150
    async with endpoint(on_call) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=big))
        assert (await peer.response(180)).status == 180
        reader, writer, port = await _stream(one)
        writer.write(compose(port, body=big, transport="TCP", Call_ID="raw-2").to_bytes())
        await _read_until(reader, b"SIP/2.0 200 OK")
        assert offers == [len(big)] * 2
        assert len(big) > 60_000
        writer.close()


async def test_a_stream_that_loses_its_framing_is_told_and_closed() -> None:
    async with endpoint() as one:
        reader, writer, port = await _stream(one)
        bad = compose(port, "OPTIONS", transport="TCP").to_bytes().replace(b"Content-Length: 0", b"l: -1")
        writer.write(bad)
        async with asyncio.timeout(3):
            data = await reader.read()
        message = parse_message(data)
        assert not isinstance(message, Request)
        assert (message.status, message.reason) == (400, "Bad Request: Content-Length is not a number: '-1'")
        writer.close()


async def test_slow_and_idle_streams_are_closed() -> None:
    limits = ListenerLimits(first_message=0.2, message=0.2, idle=0.4, connections=2)
    async with endpoint(limits=limits) as one:
        mute, silent, _ = await _stream(one)
        reader, writer, port = await _stream(one)
        third, refused, _ = await _stream(one)
        async with asyncio.timeout(3):
            assert await third.read() == b""
            writer.write(compose(port, "OPTIONS", transport="TCP").to_bytes())
            await _read_until(reader, b"200 OK")
            assert await mute.read() == b""
            assert await reader.read() == b""
        counters = one.listeners["lo"].counters
        assert (counters.connections_slow, counters.connections_refused) == (2, 1)
        for one_writer in (silent, writer, refused):
            one_writer.close()


async def test_a_dialog_over_tcp_uses_the_connection_of_the_caller() -> None:
    async with endpoint() as one:
        reader, writer, port = await _stream(one)
        # The Contact cannot be reached: only the connection leads back.
        invite = compose(port, body=OFFER, transport="TCP", Contact="<sip:peer@192.0.2.77;transport=tcp>")
        writer.write(invite.to_bytes())
        data = await _read_until(reader, b"m=audio 5000")
        tag = re.search(rb"SIP/2.0 200 OK.*?To: ([^\r]*)", data, re.DOTALL)
        assert tag is not None
        ack = compose(port, "ACK", transport="TCP", branch="z9hG4bKack", To=tag.group(1).decode())
        writer.write(ack.to_bytes())
        (call,) = one.calls()
        await call.wait_established()
        call.hang_up()
        assert b"BYE sip:peer@192.0.2.77;transport=tcp SIP/2.0" in await _read_until(reader, b"BYE sip:")
        writer.close()
