"""The endpoint as a whole: what it refuses and how, whom it asks, what it bounds, and its end."""

import asyncio
import re

import pytest

from protocols.sip.digest import DigestClient, Login, Outcome, Password, Secret
from signaling.sip_core import SipPolicy
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_incoming import IncomingCall, IncomingRequest, Reply
from signaling.sip_listener import ListenerSettings
from tests.signaling.sip_raw import (
    ANSWER,
    OFFER,
    QUICK,
    RawPeer,
    call_in,
    compose,
    endpoint,
    inside,
    take_call,
)


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


async def test_credentials_with_the_number_of_the_challenged_invite_are_taken() -> None:
    async def on_call(incoming: IncomingCall) -> None:
        if incoming.verdict.outcome is Outcome.VERIFIED:
            await take_call(incoming)
        else:
            incoming.challenge()

    async with endpoint(on_call, authenticator=Users()) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER))
        refused = await peer.response(401)
        peer.send(peer.compose("ACK", To=refused.headers.get("To") or ""))
        client = DigestClient(Login("alice", "secret"))
        challenges = refused.headers.all("WWW-Authenticate")
        answer = client.answer(challenges, "INVITE", "sip:8001@127.0.0.1", OFFER, "cnonce")
        again = peer.compose(body=OFFER, branch="z9hG4bKagain", Authorization=str(answer))
        peer.send(again)
        await peer.response(180)
        peer.send(inside(peer, await peer.response(200), "ACK", 1))
        peer.send(peer.compose(body=OFFER, branch="z9hG4bKmerged", Authorization=str(answer)))
        merged = await peer.response()
        while merged.status == 200:  # repeated until its ACK was there
            merged = await peer.response()
        assert (merged.status, merged.via.branch) == (482, "z9hG4bKmerged")
        assert len(one.calls()) == 1


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


async def test_who_would_wait_too_long_is_sent_away_at_once_with_retry_after() -> None:
    answer_now = asyncio.Event()

    async def on_call(incoming: IncomingCall) -> None:
        await answer_now.wait()
        await incoming.accept(ANSWER).wait_ended()

    policy = SipPolicy(timing=QUICK, max_pending=1)
    async with endpoint(on_call, policy) as one, RawPeer(one) as peer:
        peer.send(peer.compose(body=OFFER))
        peer.send(peer.compose(body=OFFER, branch="z9hG4bK2", Call_ID="raw-2"))
        refused = await peer.response(503)
        assert (refused.call_id, refused.headers.get("Retry-After")) == ("raw-2", "10")
        answer_now.set()
        answer = await peer.response(200)
        peer.send(inside(peer, answer, "ACK", 1))
        peer.send(peer.compose(body=OFFER, branch="z9hG4bK3", Call_ID="raw-3"))
        while (await peer.response(200)).call_id != "raw-3":  # the first may be repeated
            pass
        assert len(one.calls()) == 2, "one that is answered keeps nobody out"


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
