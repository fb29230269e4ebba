"""What goes on inside a call, and messages that no good terminal sends, against SIPp."""

from __future__ import annotations

from pathlib import Path

import pytest

from signaling.sip_core import SipPolicy
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import EndCause, InfoReceived, Refreshed, Reinvited
from signaling.sip_incoming import IncomingCall
from signaling.sip_listener import ListenerSettings
from signaling.sip_progress import Answered
from tests.peers.requirement import requires
from tests.peers.sipp import Sipp
from tests.peers.waiting import until_true
from tests.signaling.sip_raw import ANSWER, OFFER, endpoint, take_call
from tests.signaling.test_sip_sipp import (
    EMPTY,
    GOODBYE,
    PEER_TAG,
    PLAIN_CALL,
    PROGRESS,
    SDP,
    message,
    receive,
    run,
    scenario,
    send,
)

pytestmark = requires("sipp")

ACK = send(message("ACK", 1, to=PEER_TAG))
BRANCH = "z9hG4bK-[call_id]"


def dialled(*fields: str, body: str = SDP) -> str:
    """The call is made, answered and acknowledged."""
    more = "".join(f"{field}\n" for field in fields)
    return send(message("INVITE", 1, rest=body, more=more), 'retrans="500"') + PROGRESS + receive(200) + ACK


def inside(method: str, cseq: int, *fields: str, body: str = EMPTY, options: str = 'retrans="500"') -> str:
    more = "".join(f"{field}\n" for field in fields)
    return send(message(method, cseq, to=PEER_TAG, more=more, rest=body), options)


def acknowledged(cseq: int) -> str:
    return inside("ACK", cseq, options="")


def hung_up(cseq: int) -> str:
    return inside("BYE", cseq) + receive(200)


def finding(pattern: str, response: int | None = None, request: str = "") -> str:
    """A message in which the pattern is found."""
    what = f'response="{response}"' if response is not None else f'request="{request}"'
    return (
        f'<recv {what}><action><ereg regexp="{pattern}" search_in="msg" check_it="true" assign_to="found"/>'
        '<log message="[$found]"/></action></recv>\n'
    )


def keeping(request: str) -> str:
    """A request whose Via and CSeq are kept, for an answer that comes after other messages."""
    kept = "".join(
        f'<ereg regexp=".*" search_in="hdr" header="{name}:" assign_to="{name.lower()}"/>'
        for name in ("Via", "CSeq")
    )
    return f'<recv request="{request}"><action>{kept}</action></recv>\n'


def answered(status: str, *fields: str, body: str = EMPTY, kept: bool = False) -> str:
    """The answer to our request: the last one, or the one that was kept."""
    via, cseq = ("Via:[$via]", "CSeq:[$cseq]") if kept else ("[last_Via:]", "[last_CSeq:]")
    more = "".join(f"{field}\n" for field in fields)
    return (
        f"<send><![CDATA[\nSIP/2.0 {status}\n{via}\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n{cseq}\n"
        f"{more}{body}\n]]></send>\n"
    )


ROOM = "Contact: <sip:room@[local_ip]:[local_port];transport=[transport]>"


async def taking_all(incoming: IncomingCall) -> None:
    """Every offer is accepted."""
    incoming.ring()
    call = incoming.accept(ANSWER)
    async for event in call.events():
        if isinstance(event, Reinvited):
            event.answer(ANSWER if event.offer else OFFER)


async def test_a_call_over_ipv6(tmp_path: Path) -> None:
    one = SipEndpoint([ListenerSettings("lo", "::1", 0, 0)], realm="x", on_call=take_call)
    await one.start()
    try:
        target = ("[::1]", one.port("lo", "UDP"))
        xml = PLAIN_CALL.replace("IN IP4", "IN IP[local_ip_type]")
        async with Sipp(tmp_path, xml, target, service="8001", address="::1") as peer:
            end = await peer.outcome()
        assert end.ok, f"{end.errors}\n{end.messages[-4000:]}"
    finally:
        await one.aclose(0.2)


async def test_all_calls_of_a_peer_share_its_connection(tmp_path: Path) -> None:
    async with endpoint(policy=SipPolicy()) as one:
        connections: set[int] = set()

        async def on_call(incoming: IncomingCall) -> None:
            connections.add(incoming.flow.connection)
            await take_call(incoming)

        one._on_call = on_call
        await run(one, tmp_path, PLAIN_CALL, "-m", "10", "-r", "30", transport="tcp")
        assert len(connections) == 1


@pytest.mark.parametrize("moved_by", ["INVITE", "UPDATE"])
async def test_a_moved_terminal_is_hung_up_where_it_is_now(tmp_path: Path, moved_by: str) -> None:
    """Target refresh (RFC 3261 12.2, RFC 3311 5.2)."""

    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        call = incoming.accept(ANSWER)
        async for event in call.events():
            if isinstance(event, Reinvited):
                event.answer(ANSWER)
            if isinstance(event, Reinvited | Refreshed):
                break
        await until_true(lambda: not call._answers, "the ACK", 5)
        await call.bye()

    moved = message("X", 2).replace("sip:room@[local_ip]", "sip:moved@[local_ip]")
    body = SDP if moved_by == "INVITE" else EMPTY
    refresh = message(moved_by, 2, to=PEER_TAG, rest=body).replace("<sip:room@", "<sip:moved@")
    assert "moved" in moved
    xml = scenario(
        dialled("Supported: timer"),
        send(refresh, 'retrans="500"'),
        receive(200),
        acknowledged(2) if moved_by == "INVITE" else "",
        finding("BYE sip:moved@", request="BYE"),
        answered("200 OK"),
    )
    async with endpoint(on_call, policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)


async def test_reinvite_update_hold_and_an_offer_of_ours(tmp_path: Path) -> None:
    """Offers by both methods, and a re-INVITE without one, whose ACK brings the answer."""
    hold = SDP.replace("m=audio", "a=sendonly\nm=audio")
    xml = scenario(
        dialled(),
        inside("INVITE", 2, body=hold),
        finding("m=audio 5000", response=200),
        acknowledged(2),
        inside("UPDATE", 3, body=SDP),
        finding("m=audio 5000", response=200),
        inside("INVITE", 4),
        finding("m=audio 4000", response=200),
        inside("ACK", 4, body=SDP, options=""),
        hung_up(5),
    )
    async with endpoint(taking_all, policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)


async def test_an_invite_without_an_offer(tmp_path: Path) -> None:
    answers: list[bytes | None] = []

    async def on_call(incoming: IncomingCall) -> None:
        assert incoming.offer is None
        incoming.ring()
        call = incoming.accept(OFFER)
        answers.append(await call.wait_established())
        await call.wait_ended()

    xml = scenario(
        send(message("INVITE", 1), 'retrans="500"'),
        PROGRESS,
        finding("m=audio 4000", response=200),
        inside("ACK", 1, body=SDP, options=""),
        hung_up(2),
    )
    async with endpoint(on_call, policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)
    assert b"m=audio" in (answers[0] or b"")


async def test_glare(tmp_path: Path) -> None:
    """Both re-INVITE at once: each refuses the other with 491, and ours comes again by itself."""
    answers: list[bytes | None] = []

    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        call = incoming.accept(ANSWER)
        await call.wait_established()
        answers.append(await call.reinvite(OFFER))
        await call.wait_ended()

    theirs = message("INVITE", 2, branch=f"{BRANCH}-2", to=PEER_TAG, rest=SDP)
    xml = scenario(
        dialled(),
        keeping("INVITE"),
        send(theirs),
        receive(491),
        send(message("ACK", 2, branch=f"{BRANCH}-2", to=PEER_TAG)),
        answered("491 Request Pending", kept=True),
        '<recv request="ACK"/>',
        '<recv request="INVITE"/>',
        answered("200 OK", ROOM, body=SDP),
        '<recv request="ACK"/>',
        hung_up(3),
    )
    async with endpoint(on_call, policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)
    assert b"m=audio" in (answers[0] or b"")


async def test_merged_requests(tmp_path: Path) -> None:
    """The same INVITE by two ways: the second is 482 (RFC 3261 8.2.2.2)."""

    async def on_call(incoming: IncomingCall) -> None:
        await until_true(lambda: one.counters.requests_in >= 2, "both", 5)
        await take_call(incoming)

    first = send(message("INVITE", 1, branch=f"{BRANCH}-1", rest=SDP))
    xml = scenario(
        first,
        send(message("INVITE", 1, branch=f"{BRANCH}-2", rest=SDP)),
        receive(100, 'optional="true"'),
        receive(482),
        send(message("ACK", 1, branch=f"{BRANCH}-2", to=PEER_TAG)),
        PROGRESS,
        receive(200),
        GOODBYE,
    )
    async with endpoint(on_call, policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)


async def test_session_timers_of_a_caller(tmp_path: Path) -> None:
    """Too short an interval is 422 with Min-SE; the agreed one is stated, and refreshed by UPDATE."""
    timer = "Supported: timer"
    xml = scenario(
        send(message("INVITE", 1, rest=SDP, more=f"{timer}\nSession-Expires: 60\n"), 'retrans="500"'),
        finding("Min-SE: 90", response=422),
        send(message("ACK", 1, to=PEER_TAG)),
        send(
            message("INVITE", 2, rest=SDP, more=f"{timer}\nSession-Expires: 90;refresher=uac\nMin-SE: 90\n"),
            'retrans="500"',
        ),
        PROGRESS,
        finding("Session-Expires: 90;refresher=uac", response=200),
        acknowledged(2),
        inside("UPDATE", 3, timer, "Session-Expires: 90;refresher=uac"),
        finding("Session-Expires: 90;refresher=uac", response=200),
        inside("UPDATE", 4, timer, "Session-Expires: 60;refresher=uac"),
        finding("Min-SE: 90", response=422),
        hung_up(5),
    )
    async with endpoint(policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)


async def test_we_refresh_where_the_caller_wants_it(tmp_path: Path) -> None:
    xml = scenario(
        dialled("Supported: timer", "Session-Expires: 2;refresher=uas", "Allow: INVITE, ACK, BYE, UPDATE"),
        finding("Session-Expires: 2;refresher=uac", request="UPDATE"),
        answered("200 OK", ROOM, "Session-Expires: 90;refresher=uac", "Require: timer"),
        hung_up(2),
    )
    async with endpoint(policy=SipPolicy(least_session_interval=2)) as one:
        await run(one, tmp_path, xml)


MIN_SE_CALLEE = scenario(
    '<recv request="INVITE"/>',
    answered("422 Session Interval Too Small", "Min-SE: 3600"),
    '<recv request="ACK"/>',
    finding("Session-Expires: 3600.*Min-SE: 3600", request="INVITE"),
    answered("200 OK", ROOM, "Session-Expires: 3600;refresher=uas", "Require: timer", body=SDP),
    '<recv request="ACK"/><recv request="BYE"/>',
    answered("200 OK"),
)


async def test_a_callee_wants_a_longer_interval(tmp_path: Path) -> None:
    async with endpoint(policy=SipPolicy()) as one, Sipp(tmp_path, MIN_SE_CALLEE) as peer:
        outgoing = await one.invite(peer.uri, "<sip:8001@127.0.0.1>", "lo", OFFER)
        result = await outgoing.result()
        assert isinstance(result, Answered)
        session = result.call.snapshot().session
        assert session is not None
        assert (session.seconds, session.ours) == (3600, False)
        await result.call.bye()
        end = await peer.outcome()
        assert end.ok, f"{end.errors}\n{end.messages[-4000:]}"


async def test_options_inside_and_outside_and_what_is_unknown_in_a_call(tmp_path: Path) -> None:
    xml = scenario(
        send(message("OPTIONS", 1), 'retrans="500"'),
        finding("Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, PRACK", response=200),
        send(message("INVITE", 2, rest=SDP), 'retrans="500"'),
        PROGRESS,
        receive(200),
        acknowledged(2),
        inside("OPTIONS", 3),
        finding("Accept: application/sdp", response=200),
        inside("DISTURB", 4),
        finding("Allow: INVITE", response=405),
        inside("INFO", 5, "Info-Package: g.3gpp.mid-call"),
        receive(469),
        hung_up(6),
    )
    async with endpoint(policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)


async def test_a_key_frame_and_a_key_by_info(tmp_path: Path) -> None:
    heard: list[InfoReceived] = []

    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        async for event in incoming.accept(ANSWER).events():
            if isinstance(event, InfoReceived):
                heard.append(event)

    update = (
        "Content-Type: application/media_control+xml\nContent-Length: [len]\n\n"
        '<?xml version="1.0"?><media_control><vc_primitive><to_encoder><picture_fast_update/></to_encoder>'
        "</vc_primitive></media_control>\n"
    )
    key = "Content-Type: application/dtmf-relay\nContent-Length: [len]\n\nSignal=5\nDuration=160\n"
    xml = scenario(
        dialled(), inside("INFO", 2, body=update), receive(200), inside("INFO", 3, body=key), receive(200),
        hung_up(4),
    )  # fmt: skip
    async with endpoint(on_call, policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)
    assert [event.content_type for event in heard] == [
        "application/media_control+xml",
        "application/dtmf-relay",
    ]
    assert b"picture_fast_update" in heard[0].body


async def test_folded_headers_and_gb18030(tmp_path: Path) -> None:
    names: list[bytes] = []

    async def on_call(incoming: IncomingCall) -> None:
        names.append(incoming.caller.display_name.encode("utf-8", "surrogateescape"))
        await take_call(incoming)

    name = "南宁市应急管理局".encode("gb18030")
    odd = (
        message("INVITE", 1, rest=SDP)
        .replace('From: "Room" ', f'From:\n[$fold]"{name.decode("latin-1")}"\n[$fold]')
        .replace("CSeq: 1 INVITE", "CSeq:\n[$fold]1\n[$fold]INVITE")
        .replace("Via: SIP/2.0/", "Via:\n[$fold]SIP / 2.0 / ")
    )
    async with endpoint(on_call, policy=SipPolicy()) as one:
        # SIPp takes spaces at the start of a line for its own; a variable may hold them.
        fold = '<nop><action><assignstr assign_to="fold" value="  "/></action></nop>\n'
        await run(one, tmp_path, scenario(fold, send(odd, 'retrans="500"'), PROGRESS, receive(200), GOODBYE))
    assert names == [name]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_an_invite_of_60_kilobytes(tmp_path: Path, transport: str) -> None:
    sizes: list[int] = []

    async def on_call(incoming: IncomingCall) -> None:
        sizes.append(len(incoming.offer or b""))
        await take_call(incoming)

    big = SDP + "a=x-filler:0123456789012345678901234567890123456789\n" * 1130
    xml = scenario(send(message("INVITE", 1, rest=big)), PROGRESS, receive(200), GOODBYE)
    async with endpoint(on_call, policy=SipPolicy()) as one:
        await run(one, tmp_path, xml, transport=transport)
    assert sizes[0] > 59_000


LARGE_CALLEE = scenario(
    finding("Via: SIP/2.0/TCP", request="INVITE"),
    answered("200 OK", ROOM, body=SDP),
    '<recv request="ACK"/><recv request="BYE"/>',
    answered("200 OK"),
)


async def test_what_is_above_1300_bytes_goes_by_tcp(tmp_path: Path) -> None:
    """The URI names no transport (RFC 3261 18.1.1)."""
    big = OFFER + b"a=x-filler:01234567890123456789\r\n" * 60
    async with (
        endpoint(policy=SipPolicy()) as one,
        Sipp(tmp_path, LARGE_CALLEE, transport="tcp") as peer,
    ):
        await peer.listening()
        result = await (await one.invite(peer.uri, "<sip:8001@127.0.0.1>", "lo", big)).result()
        assert isinstance(result, Answered)
        assert result.call.flow.transport == "TCP"
        await result.call.bye()
        assert (await result.call.wait_ended()).cause is EndCause.LOCAL_BYE
        end = await peer.outcome()
        assert end.ok, f"{end.errors}\n{end.messages[-4000:]}"


async def test_an_ack_with_the_branch_of_its_invite(tmp_path: Path) -> None:
    """Old terminals send the ACK of a 2xx in the INVITE's transaction; the call is up all the same."""
    xml = scenario(
        send(message("INVITE", 1, branch=BRANCH, rest=SDP), 'retrans="500"'),
        PROGRESS,
        receive(200),
        send(message("ACK", 1, branch=BRANCH, to=PEER_TAG)),
        '<pause milliseconds="1200"/>',
        hung_up(2),
    )
    async with endpoint(policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)
