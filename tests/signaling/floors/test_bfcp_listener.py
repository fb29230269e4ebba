"""Terminals speak BFCP over datagrams and streams, byte for byte; who is refused, and how."""

from __future__ import annotations

import asyncio

import pytest

from foundation.tasks import TaskScope
from protocols.bfcp.attributes import ErrorCode, ErrorReason, RequestState
from protocols.bfcp.message import Message, Primitive, parse
from signaling import bfcp_listener as bfcp_listener_module
from signaling.bfcp_listener import BfcpLimits, BfcpSettings
from signaling.bfcp_service import BfcpService
from signaling.control.orders import Command
from signaling.meeting import Member
from tests.peers.waiting import until_true
from tests.signaling.floors.bfcp_peer import state_of
from tests.signaling.floors.floor_stage import FLOOR, GROUP_STYLE, STREAM_STYLE, Stage, floor_lines, staged
from tests.signaling.house import House


def ids_of(member: Member) -> tuple[bytes, bytes]:
    """Conference id and user id as they stand in a message."""
    seat = member.floor
    assert seat is not None
    return seat.conference.to_bytes(4, "big"), seat.user.to_bytes(2, "big")


async def test_literal_bytes_over_datagrams(stage: Stage) -> None:
    member, peer = await stage.terminal("group")
    ids, user = ids_of(member)
    peer.send(bytes.fromhex("400b 0000") + ids + bytes.fromhex("0001") + user)
    assert await peer.heard() == (
        bytes.fromhex("500c 000a") + ids + bytes.fromhex("0001") + user
        + bytes.fromhex("1713 0102030405060708090a0b0c0d0e0f1011 00")
        + bytes.fromhex("1514 020406080a0c0e10121416181a1c1e202224")
    )  # fmt: skip
    peer.send(bytes.fromhex("4001 0001") + ids + bytes.fromhex("0002") + user + bytes.fromhex("0504 0001"))
    assert await peer.heard() == (
        bytes.fromhex("5004 0004") + ids + bytes.fromhex("0002") + user
        + bytes.fromhex("1f10 0001 2508 0001 0b04 0300 2304 0001")
    )  # fmt: skip
    assert stage.slides == member.participant_id
    peer.send(bytes.fromhex("4002 0001") + ids + bytes.fromhex("0003") + user + bytes.fromhex("0704 0001"))
    assert await peer.heard() == (
        bytes.fromhex("5004 0004") + ids + bytes.fromhex("0003") + user
        + bytes.fromhex("1f10 0001 2508 0001 0b04 0600 2304 0001")
    )  # fmt: skip
    await until_true(lambda: stage.slides is None, "the slides to end", 10)
    await until_true(lambda: stage.told() == [member.participant_id, None], "the worker to hear of it", 10)


async def test_literal_bytes_over_a_stream_split_everywhere_and_pipelined(stage: Stage) -> None:
    member, peer = await stage.terminal("stream", STREAM_STYLE)
    ids, user = ids_of(member)
    query = bytes.fromhex("2007 0001") + ids + bytes.fromhex("0001") + user + bytes.fromhex("0504 0001")
    request = bytes.fromhex("2001 0001") + ids + bytes.fromhex("0002") + user + bytes.fromhex("0504 0001")
    for byte in query:
        peer.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert await peer.heard() == (
        bytes.fromhex("2008 0001") + ids + bytes.fromhex("0001") + user + bytes.fromhex("0504 0001")
    )
    hello = bytes.fromhex("200b 0000") + ids + bytes.fromhex("0003") + user
    peer.send(request[:7])
    await asyncio.sleep(0.01)
    peer.send(request[7:] + hello[:5])
    await asyncio.sleep(0.01)
    peer.send(hello[5:])
    heard = {parse(data).transaction_id: data for data in [await peer.heard() for _ in range(3)]}
    assert heard[2] == (
        bytes.fromhex("2004 0004") + ids + bytes.fromhex("0002") + user
        + bytes.fromhex("1f10 0001 2508 0001 0b04 0300 2304 0001")
    )  # fmt: skip
    assert heard[3][:4] == bytes.fromhex("200c 000a")
    assert heard[0] == (  # announced to who follows the floor: over a stream transaction 0
        bytes.fromhex("2008 0006") + ids + bytes.fromhex("0000") + user
        + bytes.fromhex("0504 0001 1f14 0001 2508 0001 0b04 0300 2304 0001 1d04") + user
    )  # fmt: skip


async def test_a_request_that_comes_twice_is_one_order(stage: Stage) -> None:
    _, peer = await stage.terminal("group")
    request = peer.bytes_of(Primitive.FLOOR_REQUEST, FLOOR)
    for _ in range(3):
        peer.send(request)
    first = await peer.heard()
    peer.send(request)
    assert await peer.heard() == first
    assert [c.command for c in stage.house.meeting.control.changes] == ["present"]


async def test_what_is_announced_is_sent_again_until_it_is_acknowledged(stage: Stage) -> None:
    _, peer = await stage.terminal("group")
    await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    await stage.house.give(Command.TAKE_BACK_SLIDES)
    revoked = await peer.heard()
    assert state_of(parse(revoked)) == (1, RequestState.REVOKED)
    assert await peer.heard() == revoked  # the acknowledgement was lost
    peer.acknowledge(parse(revoked))
    with pytest.raises(TimeoutError):
        await peer.heard(1.2)
    assert stage.slides is None


async def test_a_stranger_who_knows_the_ids_gets_nothing(stage: Stage) -> None:
    for sdp in (GROUP_STYLE, STREAM_STYLE):
        member, _ = await stage.join("group", sdp)
        stranger = await stage.peer(member, bind="127.0.0.9")
        stranger.send(stranger.bytes_of(Primitive.FLOOR_REQUEST, FLOOR))
        owner = await stage.peer(member)
        assert (await owner.ask(Primitive.FLOOR_QUERY, FLOOR)).attributes == (FLOOR,)
        with pytest.raises(TimeoutError):
            await stranger.heard(0.2)
    counters = stage.house.meetings.floors.counters
    await until_true(lambda: counters.strangers == 2, "both strangers to be counted", 10)
    assert stage.slides is None


async def test_wrong_ids_are_named_to_who_takes_part_and_to_nobody_else(stage: Stage) -> None:
    member, peer = await stage.terminal("group")

    def code(message: Message) -> int | None:
        found = message.first(ErrorCode)
        return None if found is None else found.reason

    peer.user ^= 1
    assert code(await peer.ask(Primitive.HELLO)) == ErrorReason.USER_DOES_NOT_EXIST
    peer.conference ^= 1
    assert code(await peer.ask(Primitive.HELLO)) == ErrorReason.CONFERENCE_DOES_NOT_EXIST
    peer.send(b"\x40\x01")  # no message at all
    other = await stage.peer(member, bind="127.0.0.9")
    other.conference ^= 1
    other.send(other.bytes_of(Primitive.HELLO))
    with pytest.raises(TimeoutError):
        await other.heard(0.2)


async def test_a_stream_that_says_nothing_sensible_is_closed(stage: Stage) -> None:
    _, peer = await stage.terminal("stream", STREAM_STYLE)
    peer.send(bytes.fromhex("2001 ffff") + bytes(8))
    with pytest.raises(ConnectionResetError):
        await peer.heard()
    await until_true(lambda: stage.listener.connections == 0, "the connection to be gone", 10)


@pytest.mark.parametrize("sdp", [GROUP_STYLE, STREAM_STYLE])
async def test_floors_are_reached_by_ipv6_too(house: House, sdp: str) -> None:
    async with staged(house, host="::1") as stage:
        member, answer = await stage.join("six", sdp, host="::1")
        assert "c=IN IP6 ::1" in floor_lines(answer)
        peer = await stage.peer(member, bind="::1")
        assert state_of(await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)) == (1, RequestState.GRANTED)


async def test_a_port_in_use_is_named(stage: Stage) -> None:
    address, floors = stage.listener.address, stage.house.meetings.floors
    for udp, tcp in ((address.udp, None), (None, address.tcp)):
        second = BfcpService([BfcpSettings("wan", "127.0.0.1", udp, tcp)], floors)
        async with TaskScope("second") as scope:
            with pytest.raises(OSError, match=rf"BFCP cannot listen on 127.0.0.1 port {udp or tcp} \(wan\)"):
                await second.start(scope)


async def test_one_host_does_not_take_every_connection(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfcp_listener_module, "BfcpLimits", lambda: BfcpLimits(of_one_host=2))
    async with staged(house) as stage:
        member, _ = await stage.join("stream", STREAM_STYLE)
        peers = [await stage.peer(member) for _ in range(3)]
        with pytest.raises(ConnectionError):
            await peers[2].ask(Primitive.HELLO)
        assert (await peers[1].ask(Primitive.HELLO)).primitive == Primitive.HELLO_ACK
        assert stage.listener.counters.connections_refused == 1
