"""Who may come in, and the clear answer to each who may not or cannot."""

import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from tests.journeys.raw_sip import AUDIO, VIDEO, Credentials, RawCaller, sdp
from tests.journeys.scene import FULL_TILE, WUMING, sees_all
from tests.peers.baresip import Baresip
from tests.peers.node import ADDRESSES, NOBODY, PASSWORD, SIP_ACCOUNT, MeetingHandle, Node
from tests.peers.picture import BLUE
from tests.peers.requirement import requires
from tests.peers.sipp import Sipp
from tests.signaling.test_sip_sipp import PEER_TAG, SDP, message, receive, scenario, send
from tests.signaling.test_sip_sipp_dialogs import finding

pytestmark = pytest.mark.asyncio(loop_scope="module")

USER, SITE = SIP_ACCOUNT
BOTH = sdp(AUDIO, VIDEO)


@requires("baresip")
async def test_a_room_that_dials_an_unknown_meeting_is_told_so(node: Node, tmp_path: Path) -> None:
    async with Baresip(tmp_path, WUMING) as room:
        await room.dial(node.sip_uri("000111"))
        assert "404 No such meeting" in (await room.closed()).parameter


@requires("baresip")
async def test_a_room_signs_in_by_digest_from_an_address_nobody_knows(
    meeting: MeetingHandle, tmp_path: Path
) -> None:
    stranger = replace(WUMING, user=USER, password=PASSWORD, address=NOBODY)
    async with Baresip(tmp_path, stranger) as room:
        await room.dial(meeting.uri)
        await room.established()
        row = await meeting.in_state(USER, "connected")
        assert row["site_id"] == SITE
        await sees_all(room, (FULL_TILE,), BLUE)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_the_right_password_lets_in_and_a_wrong_one_does_not(
    node: Node, meeting: MeetingHandle, algorithm: str
) -> None:
    async with RawCaller(node.sip_port, NOBODY, USER) as caller:
        bare = await caller.invite(meeting.number, BOTH)
        assert bare.status == 401
        assert [one for one in bare.headers("WWW-Authenticate") if algorithm in one]
        wrong = await caller.invite(
            meeting.number, BOTH, credentials=Credentials(USER, "guessed-it-maybe", algorithm)
        )
        assert (wrong.status, wrong.reason) == (403, "Wrong user name or password")
        right = await caller.invite(meeting.number, BOTH, credentials=Credentials(USER, PASSWORD, algorithm))
        assert right.status == 200
    row = await meeting.left(USER)
    assert row["site_id"] == SITE
    auditor = await node.user("auditor")
    audited = await auditor.get("/audit")
    rows = audited["rows"] if isinstance(audited, dict) else audited
    refused = [one for one in rows if one["action"] == "call" and one["outcome"] == "refused"]
    assert refused
    assert refused[-1]["detail"]["wrong"] == f"account {USER}"


async def test_a_caller_without_identity_or_pin_is_refused(node: Node, meeting: MeetingHandle) -> None:
    async with RawCaller(node.sip_port, NOBODY, "nanning-room") as caller:
        answer = await caller.invite(meeting.number, BOTH)
    assert answer.status == 403
    assert answer.reason == "Caller has no identity here and gave no meeting PIN"
    assert await meeting.participants() == []


async def test_a_pin_opens_its_meeting_to_a_guest_site(node: Node) -> None:
    pin = f"{secrets.randbelow(10**6):06}"
    meeting = await node.meeting(pin=pin)
    wrong_pin = f"{(int(pin) + 1) % 10**6:06}"
    async with RawCaller(node.sip_port, "127.0.0.11", "walk-in") as caller:
        wrong = await caller.invite(f"{meeting.number}*{wrong_pin}", BOTH)
        assert (wrong.status, wrong.reason) == (403, "Wrong meeting PIN")
        right = await caller.invite(f"{meeting.number}*{pin}", BOTH)
        assert right.status == 200
    row = await meeting.left("walk-in")
    assert row["site_id"] is None
    assert row["budget"]["to_site_bps"] == 1_000_000, "a guest site's budget"
    await meeting.command("end")


async def test_no_common_codec_is_488_with_what_was_offered(node: Node, meeting: MeetingHandle) -> None:
    exotic = "m=audio 40000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n"
    async with RawCaller(node.sip_port, ADDRESSES["wuming"]) as caller:
        answer = await caller.invite(meeting.number, sdp(exotic))
        assert answer.status == 488
        assert answer.header("Warning").startswith("305 ")
        assert "audio: G729" in answer.header("Warning")
        nonsense = await caller.invite(meeting.number, "this is no description\r\n")
        assert nonsense.status in (400, 488)
        assert (await caller.invite(meeting.number, BOTH)).status == 200, "and a good call goes on"


async def test_malformed_sip_is_400_and_harms_nobody(node: Node, meeting: MeetingHandle) -> None:
    async with RawCaller(node.sip_port, ADDRESSES["wuming"]) as caller:
        start = (
            f"INVITE {meeting.uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.3:{caller.port};branch=z9hG4bKbad\r\n"
        )
        # Without the From and CSeq that RFC 3261 8.1.1 wants; the response can still find its way.
        caller.send(f"{start}To: <{meeting.uri}>\r\nCall-ID: bad\r\nContent-Length: 0\r\n\r\n")
        answer = await caller.final("bad")
        assert answer.status == 400
        assert "CSeq" in answer.reason or "From" in answer.reason, answer.reason
        for noise in ("\r\n\r\n", "INVITE", "\0\xff" * 300, f"{start}\r\n"):
            caller.send(noise)
        assert (await caller.invite(meeting.number, BOTH)).status == 200
    assert (await node.health() or {})["status"] == "ok"


HELD = {
    "sendonly": ("a=sendonly", "a=recvonly"),
    "inactive": ("a=inactive", "a=inactive"),
    "the old way": ("c=IN IP4 0.0.0.0", "a=recvonly"),
}


@requires("sipp")
async def test_a_room_holds_and_takes_up_again(meeting: MeetingHandle, tmp_path: Path) -> None:
    """SIPp holds in three manners; our answers say that we take it so, and go on afterwards."""
    steps = []
    for number, (line, answer) in enumerate(HELD.values()):
        again = 2 + 2 * number
        media = SDP.rstrip("\n") + f"\n{line}\n"
        steps += [
            send(message("INVITE", again, to=PEER_TAG, rest=media), 'retrans="500"'),
            receive(100, 'optional="true"'),
            finding(answer, response=200),
            send(message("ACK", again, to=PEER_TAG)),
            send(message("INVITE", again + 1, to=PEER_TAG, rest=SDP), 'retrans="500"'),
            receive(100, 'optional="true"'),
            finding("a=sendrecv", response=200),
            send(message("ACK", again + 1, to=PEER_TAG)),
        ]
    xml = scenario(
        send(message("INVITE", 1, rest=SDP), 'retrans="500"'),
        receive(100, 'optional="true"'),
        receive(200),
        send(message("ACK", 1, to=PEER_TAG)),
        *steps,
        send(message("BYE", 20, to=PEER_TAG), 'retrans="500"'),
        receive(200),
    )
    target = ("127.0.0.1", meeting.node.sip_port)
    async with Sipp(tmp_path, xml, target, service=meeting.number, address=ADDRESSES["nanning"]) as peer:
        end = await peer.outcome()
    assert end.ok, f"{end.errors}\n{end.messages[-4000:]}"
    await meeting.left("南宁")
