"""A call of an earlier process, by way of the JSON of a row: its numbers, its session, its description."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from foundation.desks import CodecDescription, MediaDescription, MediaSection, SectionKind
from protocols.sip.digest import Login
from signaling.sip_dialog_record import CSEQ_LEAP, DialogRecord
from signaling.sip_line import SdpSession, SipLine
from tests.signaling.sip_raw import RawPeer, call_in, endpoint, inside

OURS = MediaDescription(
    (MediaSection(SectionKind.AUDIO, "192.0.2.1", 4000, codecs=(CodecDescription("PCMA", 8, 8_000),)),)
)


def origin(sdp: bytes) -> list[bytes]:
    """Id and version of the o= line."""
    line = next(line for line in sdp.splitlines() if line.startswith(b"o="))
    return line.split()[1:3]


async def test_a_call_goes_on_from_its_row() -> None:
    async with endpoint() as first, RawPeer(first) as peer:
        answer = await call_in(peer, Supported="timer", Session_Expires="600;refresher=uac")
        (call,) = first.calls()
        session = SdpSession()
        session.picture_bps = 64_000
        session.write(OURS)
        call.local_sdp = session.write(OURS)
        record = DialogRecord.of(SipLine(call, session, "p1"))
        stored = msgspec.convert(json.loads(json.dumps(record.to_json())), DialogRecord)
        assert stored == record
        async with endpoint() as second:
            line = stored.revived(second, "p1", record.at + 100)
            revived = line.call.snapshot()
            assert revived.dialog.local_cseq == record.call.dialog.local_cseq + CSEQ_LEAP
            assert record.call.session_left is not None
            assert revived.session_left == pytest.approx(record.call.session_left - 100, abs=2)
            assert line.session.picture_bps == 64_000
            (same, before), (also, after) = origin(call.local_sdp), origin(line.session.write(OURS))
            assert (also, int(after)) == (same, int(before) + 1)
            async with RawPeer(second) as later:
                later.send(inside(later, answer, "BYE", 2))
                assert (await later.response(200)).cseq.method == "BYE"
            assert [type(event).__name__ async for event in line.call.events()] == ["Ended"]


async def test_a_session_that_ran_out_meanwhile_has_a_moment_left() -> None:
    async with endpoint() as first, RawPeer(first) as peer:
        await call_in(peer, Supported="timer", Session_Expires="600;refresher=uac")
        (call,) = first.calls()
        record = DialogRecord.of(SipLine(call, SdpSession(), "p1"))
        async with endpoint() as second:
            left = record.revived(second, "p1", record.at + 7200).call.snapshot().session_left
            assert left is not None
            assert 0 < left <= 10


async def test_a_server_that_asks_again_is_answered_by_the_trunks_login() -> None:
    """Providers challenge requests inside a call, too: the row has the trunk, the settings its password."""
    async with endpoint() as first, RawPeer(first) as peer:
        await call_in(peer)
        (call,) = first.calls()
        record = DialogRecord.of(SipLine(call, SdpSession(), "p1", "telecom"))
        stored = msgspec.convert(json.loads(json.dumps(record.to_json())), DialogRecord)
        assert stored.trunk == "telecom"
        async with endpoint() as second:
            line = stored.revived(second, "p1", record.at, Login("0771", "secret"))
            assert line.trunk == "telecom"
            hanging_up = asyncio.create_task(line.call.bye())
            peer.look_at(second)
            bye = await peer.request("BYE")
            peer.reply(bye, 407, b"", ("Proxy-Authenticate", 'Digest realm="x", nonce="n", qop="auth"'))
            again = await peer.request("BYE")
            while again.cseq == bye.cseq:  # repeated: the machine may be busy
                again = await peer.request("BYE")
            assert 'username="0771"' in (again.headers.get("Proxy-Authorization") or "")
            peer.reply(again, 200)
            await hanging_up
