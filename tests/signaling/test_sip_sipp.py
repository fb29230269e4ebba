"""The endpoint against SIPp: other people's SIP, scripted; and which test shows which flow.

Here and in `test_sip_sipp_dialogs` (D), `test_sip_service_sipp` (S), `journeys/test_callers` (J): SIPp. What
it cannot do (this build has no TLS, and no way to cut a stream as it likes) is shown by bare sockets: E is
`test_sip_endpoint`, I `test_sip_incoming`, C `test_sip_call`, B `test_sip_streams`, O `test_sip_outgoing`,
L `test_sip_listener`, R `test_registrar`, T `test_sip_torture`.

| flow | SIPp | bare sockets, other peers |
|---|---|---|
| UDP, TCP | test_twenty_calls, test_sipp_is_called | I, B, `journeys/test_transports` (baresip) |
| TLS, client certificates | | L test_calls_over_tls_with_a_client_certificate, `journeys/test_transports` |
| IPv6 | D test_a_call_over_ipv6 | L test_calls_over_ipv6, `test_sip_ipv6_torture` |
| connection reuse | D test_all_calls_of_a_peer_share_its_connection | L test_connections_are_opened_... |
| CRLF keep-alive, split and pipelined TCP | | B test_tcp_split_into_bytes_and_pipelined |
| lost framing, slow streams | | B test_a_stream_that_loses_its_framing_..., test_slow_and_idle_... |
| above 1300 bytes by TCP | D test_what_is_above_1300_bytes_goes_by_tcp | O test_large_requests_... |
| 60 kB INVITE | D test_an_invite_of_60_kilobytes | B the same |
| folded headers, GB18030 bytes | D test_folded_headers_and_gb18030 | I test_gb18030_folded_..., T wsinv |
| target refresh | D test_a_moved_terminal_is_hung_up_where_it_is_now | C test_requests_inside_a_call |
| re-INVITE, UPDATE | D test_reinvite_update_hold_and_an_offer_of_ours | O test_reinvite_update_info_... |
| hold | J test_a_room_holds_and_takes_up_again | `mcu_bridge/test_later_offers` test_hold_and_resume |
| offerless INVITE | D test_an_invite_without_an_offer | I the same |
| glare 491 | D test_glare | O test_glare_is_491_and_waited_out |
| PRACK | S test_an_invite_that_requires_100rel, test_an_early_answer_... | `test_sip_reliability` |
| CANCEL, late CANCEL | test_cancel_while_ringing, test_a_late_cancel | I, O |
| retransmitted INVITE | test_a_retransmitted_invite | I test_a_repeated_invite_is_one_call_... |
| merged requests 482 | D test_merged_requests | E the same |
| session timers, Min-SE | D test_session_timers_of_a_caller, test_we_refresh_..., test_a_callee_... | O |
| REFER into another meeting | S test_refer_into_another_meeting | `test_sip_referrals` |
| OPTIONS, unknown method | D test_options_..., test_unknown_method_... | E, T |
| INFO: key frame, dtmf-relay | D test_a_key_frame_..., S test_keys_lead_into_a_meeting | `test_sip_lobby` |
| RFC 4733 | (needs packets, not scripts) | `mcu_bridge/test_participant`, `media/test_rtp_receiver` |
| registrar, several contacts | S test_register_fetch_and_remove, test_many_... | R, `test_registered` |
| digest MD5 | test_digest | O, J |
| digest SHA-256 | (SIPp knows MD5 only) | O, J test_the_right_password_..., `test_digest` |
| conference events | S test_subscribe_refresh_and_unsubscribe | `test_conference_events` |
| 49 torture messages of RFC 4475 | | T |
"""

import asyncio
from pathlib import Path

import pytest

from protocols.sip.digest import Login, Outcome, Password, Secret
from signaling.sip_core import SipPolicy
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import EndCause
from signaling.sip_incoming import IncomingCall
from signaling.sip_progress import Answered
from tests.peers.requirement import requires
from tests.peers.sipp import Sipp
from tests.signaling.sip_raw import OFFER, endpoint, take_call

pytestmark = requires("sipp")

HEAD = """Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch};rport
From: "Room" <sip:room@[local_ip]:[local_port]>;tag=[pid]T[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>{to}
Call-ID: [call_id]
CSeq: {cseq}
Contact: <sip:room@[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70
"""
SDP = """Content-Type: application/sdp
Content-Length: [len]

v=0
o=room 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio [media_port] RTP/AVP 8
"""
EMPTY = "Content-Length: 0\n\n"
PEER_TAG = "[peer_tag_param]"


def message(
    method: str, cseq: int, *, branch: str = "[branch]", to: str = "", rest: str = EMPTY, more: str = ""
) -> str:
    head = HEAD.format(branch=branch, to=to, cseq=f"{cseq} {method}")
    return f"{method} sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n{head}{more}{rest}"


def send(text: str, options: str = "") -> str:
    return f"<send {options}><![CDATA[\n{text}]]></send>\n"


def receive(status: int, options: str = "") -> str:
    return f'<recv response="{status}" {options}/>\n'


def scenario(*steps: str) -> str:
    return f'<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="x">\n{"".join(steps)}</scenario>\n'


PROGRESS = receive(100, 'optional="true"') + receive(180)
GOODBYE = (
    send(message("ACK", 1, to=PEER_TAG))
    + send(message("BYE", 2, to=PEER_TAG), 'retrans="500"')
    + receive(200)
)
PLAIN_CALL = scenario(
    send(message("INVITE", 1, rest=SDP), 'retrans="500"'),
    PROGRESS,
    receive(200, 'rtd="true"'),
    GOODBYE,
)


async def run(one: SipEndpoint, folder: Path, xml: str, *arguments: str, transport: str = "udp") -> None:
    """Let SIPp call the endpoint; its scenario must go through as written."""
    target = ("127.0.0.1", one.port("lo", "TCP" if transport == "tcp" else "UDP"))
    async with Sipp(folder, xml, target, *arguments, service="8001", transport=transport) as peer:
        end = await peer.outcome()
    assert end.ok, f"{end.errors}\n{end.messages[-4000:]}"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_twenty_calls(tmp_path: Path, transport: str) -> None:
    async with endpoint(policy=SipPolicy()) as one:
        await run(one, tmp_path, PLAIN_CALL, "-m", "20", "-r", "30", transport=transport)
        assert one.calls() == []
        assert one.counters.requests_in == 60
        assert one.counters.malformed == 0


async def test_a_retransmitted_invite(tmp_path: Path) -> None:
    calls: list[str] = []

    async def on_call(incoming: IncomingCall) -> None:
        calls.append(incoming.call_id)
        await take_call(incoming)

    invite = send(message("INVITE", 1, branch="z9hG4bK-[call_id]", rest=SDP))
    xml = scenario(invite, PROGRESS, receive(200), invite, invite, '<pause milliseconds="50"/>', GOODBYE)
    async with endpoint(on_call, policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)
        assert len(calls) == 1


async def test_cancel_while_ringing(tmp_path: Path) -> None:
    cancelled = asyncio.Event()

    async def on_call(incoming: IncomingCall) -> None:
        incoming.ring()
        await incoming.wait_cancelled()
        cancelled.set()

    branch = "z9hG4bK-[call_id]"
    xml = scenario(
        send(message("INVITE", 1, branch=branch, rest=SDP), 'retrans="500"'),
        PROGRESS,
        send(message("CANCEL", 1, branch=branch), 'retrans="500"'),
        receive(200),
        receive(487),
        send(message("ACK", 1, branch=branch, to=PEER_TAG)),
    )
    async with endpoint(on_call, policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)
        assert cancelled.is_set()


async def test_a_late_cancel(tmp_path: Path) -> None:
    branch = "z9hG4bK-[call_id]"
    xml = scenario(
        send(message("INVITE", 1, branch=branch, rest=SDP), 'retrans="500"'),
        PROGRESS,
        receive(200),
        send(message("ACK", 1, to=PEER_TAG)),
        send(message("CANCEL", 1, branch=branch), 'retrans="500"'),
        receive(200),
        send(message("BYE", 2, to=PEER_TAG), 'retrans="500"'),
        receive(200),
    )
    async with endpoint(policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)


class Users:
    async def lookup(self, username: str, realm: str) -> Secret | None:
        return Password("secret") if username == "alice" else None


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_digest(tmp_path: Path, transport: str) -> None:
    async def on_call(incoming: IncomingCall) -> None:
        if incoming.verdict.outcome is Outcome.VERIFIED:
            await take_call(incoming)
        else:
            incoming.challenge()

    credentials = "[authentication username=alice password=secret]\n"
    xml = scenario(
        send(message("INVITE", 1, rest=SDP), 'retrans="500"'),
        receive(100, 'optional="true"'),
        receive(401, 'auth="true"'),
        send(message("ACK", 1, to=PEER_TAG)),
        send(message("INVITE", 2, rest=SDP, more=credentials), 'retrans="500"'),
        PROGRESS,
        receive(200),
        send(message("ACK", 2, to=PEER_TAG)),
        send(message("BYE", 3, to=PEER_TAG), 'retrans="500"'),
        receive(200),
    )
    async with endpoint(on_call, policy=SipPolicy(), authenticator=Users()) as one:
        await run(one, tmp_path, xml, transport=transport)


async def test_unknown_method_compact_names_and_odd_space(tmp_path: Path) -> None:
    odd = (
        message("INVITE", 1, rest=SDP)
        .replace("From: ", "f   :")
        .replace("Max-Forwards: ", "MAX-forwards  :  00")
    )
    xml = scenario(
        send(message("PUBLISH", 1), 'retrans="500"'),
        receive(405),
        send(odd, 'retrans="500"'),
        PROGRESS,
        receive(200),
        GOODBYE,
    )
    async with endpoint(policy=SipPolicy()) as one:
        await run(one, tmp_path, xml)


UAS = (
    """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="callee">
<recv request="INVITE"/>
<send><![CDATA[
SIP/2.0 180 Ringing
[last_Via:]
[last_From:]
[last_To:];tag=[pid]C[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
Content-Length: 0

]]></send>
<send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[pid]C[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
"""
    + SDP
    + """
]]></send>
<recv request="ACK"/>
<recv request="BYE"/>
<send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>
"""
)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_is_called(tmp_path: Path, transport: str) -> None:
    async with endpoint(policy=SipPolicy()) as one, Sipp(tmp_path, UAS, transport=transport) as peer:
        uri = f"{peer.uri};transport={transport}"
        for _ in range(50):
            outgoing = await one.invite(uri, "<sip:8001@127.0.0.1>", "lo", OFFER, login=Login("a", "b"))
            result = await outgoing.result()
            if isinstance(result, Answered) or transport == "udp":
                break
            await asyncio.sleep(0.1)  # SIPp has not begun to listen
        assert isinstance(result, Answered)
        assert b"m=audio" in (result.sdp or b"")
        await result.call.bye()
        assert (await result.call.wait_ended()).cause is EndCause.LOCAL_BYE
        end = await peer.outcome()
        assert end.ok, end.errors
