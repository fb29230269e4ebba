"""The helpers themselves: SIPp, coturn, ffmpeg and the capture do what their callers rely on."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.peers.coturn import Coturn
from tests.peers.ffmpeg import frame_hashes, probe
from tests.peers.media import Footage, write_h264
from tests.peers.picture import GREEN
from tests.peers.ports import PortBlock
from tests.peers.requirement import missing, requires
from tests.peers.sipp import Sipp
from tests.peers.tshark import IP_UDP, Capture

OPTIONS = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="options"><send><![CDATA[
OPTIONS sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:a@[local_ip]>;tag=[call_number]
To: <sip:[service]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 OPTIONS
Max-Forwards: 70
Content-Length: 0

]]></send><recv response="200" timeout="3000"/></scenario>"""
ANSWER = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="answer"><recv request="OPTIONS"/><send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[call_number]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send></scenario>"""


@requires("sipp", "tshark")
async def test_two_scenarios_talk_and_the_wire_shows_it(tmp_path: Path) -> None:
    async with Sipp(tmp_path / "b", ANSWER, service="desk") as callee:
        target = ("127.0.0.1", callee.port)
        async with (
            Capture(tmp_path / "wire", f"udp port {callee.port}") as wire,
            Sipp(tmp_path / "a", OPTIONS, target, service="desk") as caller,
        ):
            asked, answered = await asyncio.gather(caller.outcome(), callee.outcome())
            await wire.stop()
    assert asked.ok, asked.errors
    assert answered.ok, answered.errors
    assert "OPTIONS sip:desk@127.0.0.1" in answered.messages
    sip = f"udp.port=={callee.port},sip"
    rows = await wire.fields("sip", "sip.Method", "sip.Status-Code", decode_as=[sip])
    assert rows == [("OPTIONS", ""), ("", "200")]
    sent = re.findall(r"UDP message sent \((\d+) bytes\)", asked.messages + answered.messages)
    assert len(sent) == 2
    assert await wire.bytes_per_second("udp") == [sum(int(size) + IP_UDP for size in sent)]


@requires("sipp")
async def test_a_scenario_that_goes_otherwise_is_no_success(tmp_path: Path) -> None:
    refusing = ANSWER.replace("200 OK", "403 Forbidden")
    async with (
        Sipp(tmp_path / "b", refusing) as callee,
        Sipp(tmp_path / "a", OPTIONS, ("127.0.0.1", callee.port)) as caller,
    ):
        outcome = await caller.outcome()
    assert not outcome.ok
    assert "403" in outcome.messages


@requires("coturn")
async def test_a_credential_is_made_as_coturn_wants_it(tmp_path: Path) -> None:
    from aioice.turn import create_turn_endpoint

    async with Coturn(tmp_path) as turn:
        made = turn.credential("anna")
        transport, _ = await create_turn_endpoint(
            asyncio.DatagramProtocol,
            server_addr=("127.0.0.1", turn.port),
            username=made.username,
            password=made.password,
        )
        relayed = transport.get_extra_info("sockname")
        transport.close()
        assert relayed[0] == "127.0.0.1"
        assert turn.relayed()


@requires("ffmpeg")
async def test_the_footage_is_what_it_says(tmp_path: Path) -> None:
    path = write_h264(tmp_path / "green.mp4", Footage(GREEN, 640, 360), seconds=2)
    found = await probe(tmp_path, str(path))
    (video,) = found["streams"]
    assert (video["codec_name"], video["width"], video["height"]) == ("h264", 640, 360)
    assert video["has_b_frames"] == 0
    hashes = await frame_hashes(tmp_path, str(path))
    assert len(hashes) == 50
    assert len(set(hashes)) == 50


def test_two_blocks_share_no_port() -> None:
    with PortBlock() as one, PortBlock() as other:
        first, second = one.take(40, even=True), other.take(40, even=True)
        assert first % 2 == second % 2 == 0
        assert abs(first - second) >= 40
        assert one.take() >= first + 40


def test_an_unknown_peer_is_refused_and_a_missing_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="barresip"):
        requires("barresip")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert missing(("sipp",)) == "sipp is not installed (Debian package sip-tester)"
