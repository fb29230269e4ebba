"""Who shows slides: terminals by BFCP, pages and operators; over leaving, lost connections and restarts."""

from __future__ import annotations

import asyncio

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import Staging
from foundation.repositories.audit import AuditRepository
from protocols.bfcp.attributes import AttributeType, Number, RequestState
from protocols.bfcp.message import Primitive
from signaling import floors as floors_module
from signaling.control.orders import Command, NotNow
from signaling.media_description import read_sdp
from signaling.meeting import Member
from tests.peers.waiting import until, until_true
from tests.signaling.floors.bfcp_peer import state_of
from tests.signaling.floors.floor_stage import (
    BROWSER,
    FLOOR,
    GROUP_STYLE,
    STREAM_STYLE,
    MirrorDesk,
    Stage,
    staged,
)
from tests.signaling.house import House
from tests.signaling.recording_desk import RecordingLine


async def test_the_latest_request_has_the_slides_by_whatever_means(stage: Stage) -> None:
    (room, _), (stream, _), (page, _) = [
        await stage.join(name, sdp)
        for name, sdp in (("room", GROUP_STYLE), ("stream", STREAM_STYLE), ("page", BROWSER))
    ]
    udp, tcp = await stage.peer(room), await stage.peer(stream)
    assert state_of(await udp.ask(Primitive.FLOOR_REQUEST, FLOOR)) == (1, RequestState.GRANTED)
    assert state_of(await tcp.ask(Primitive.FLOOR_REQUEST, FLOOR)) == (2, RequestState.GRANTED)
    assert state_of(await udp.announced()) == (1, RequestState.REVOKED)
    await stage.present(page)
    assert state_of(await tcp.announced()) == (2, RequestState.REVOKED)
    status = await udp.ask(Primitive.FLOOR_QUERY, FLOOR)
    assert state_of(status) == (3, RequestState.GRANTED)
    assert stage.slides == page.participant_id
    assert state_of(await udp.ask(Primitive.FLOOR_REQUEST, FLOOR))[1] == RequestState.GRANTED
    assert stage.told() == [m.participant_id for m in (room, stream, page, room)]


async def test_what_terminals_do_with_slides_is_on_record(stage: Stage) -> None:
    member, peer = await stage.terminal("南宁")
    granted = await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    await peer.ask(Primitive.FLOOR_RELEASE, Number(AttributeType.FLOOR_REQUEST_ID, state_of(granted)[0]))

    async def audited() -> list[tuple[str, str]]:
        async with stage.house.database.reading() as tx:
            subjects = [f"conference:{member.conference_id}"]
            rows = await AuditRepository(tx).search(subjects=subjects, limit=10)
        return [(row.actor, row.action) for row in rows]

    expected = [("南宁", "stop-presenting"), ("南宁", "present")]
    await until(audited, lambda rows: rows == expected, "both to be on record", 10, 0.03)


async def test_who_may_not_present_is_told_why(stage: Stage) -> None:
    member, _ = await stage.join("room")
    lecturer, _ = await stage.join("lecturer")
    peer = await stage.peer(member)
    await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    await stage.house.give(Command.LECTURE, lecturer.participant_id)
    assert state_of(await peer.announced()) == (1, RequestState.REVOKED)
    denied = await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    assert state_of(denied) == (2, RequestState.DENIED)
    assert b"only the lecturer presents" in denied.print()
    with pytest.raises(NotNow, match="does not present"):
        await stage.house.give(Command.STOP_PRESENTING, member.participant_id)


async def test_who_leaves_or_loses_its_stream_presents_no_more(stage: Stage) -> None:
    first, _ = await stage.join("first")
    second, _ = await stage.join("second")
    await stage.present(first)
    await stage.house.meetings.leave(first.participant_id, "hung up")
    assert stage.slides is None
    await stage.present(second)
    without = read_sdp(GROUP_STYLE.replace("video 49158", "video 0").encode())
    await stage.house.meetings.renegotiate(second.participant_id, without)
    assert stage.slides is None
    with pytest.raises(NotNow, match="no stream for slides"):
        await stage.present(second)


async def test_a_broken_connection_keeps_the_floor_for_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, peer = await stage.terminal("stream", STREAM_STYLE)
    await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    peer.close()
    again = await stage.peer(member)  # in time
    assert state_of(await again.ask(Primitive.FLOOR_QUERY, FLOOR)) == (1, RequestState.GRANTED)
    assert stage.slides == member.participant_id
    monkeypatch.setattr(floors_module, "FREE_AFTER", 0.2)
    again.close()
    await until_true(lambda: stage.slides is None, "the floor to be freed", 10)


async def test_a_goodbye_frees_the_floor(stage: Stage) -> None:
    _, peer = await stage.terminal("room")
    await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    assert (await peer.ask(Primitive.GOODBYE)).primitive == Primitive.GOODBYE_ACK
    await until_true(lambda: stage.slides is None, "the floor to be freed", 10)


async def test_a_terminal_with_version_1_over_datagrams_has_its_slides(stage: Stage) -> None:
    member, peer = await stage.terminal("room")
    peer.version = 1
    granted = await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    assert (granted.version, granted.responder, state_of(granted)) == (1, False, (1, RequestState.GRANTED))
    assert stage.slides == member.participant_id
    seat = member.floor
    assert seat is not None
    assert seat.version == 1
    await until(
        lambda: stored(stage.house, member), lambda there: there == seat, "its version in its row", 10
    )
    await stage.house.give(Command.TAKE_BACK_SLIDES)
    revoked = await peer.announced()
    assert (revoked.version, state_of(revoked)) == (1, (1, RequestState.REVOKED))
    peer.user += 1  # wrong ids are told in the same version
    error = await peer.ask(Primitive.HELLO)
    assert (error.version, error.primitive) == (1, Primitive.ERROR)


async def test_terminals_go_on_after_a_restart(database: Database, clock: FakeClock, house: House) -> None:
    async with staged(house) as stage:
        holder, _ = await stage.join("holder")
        follower, _ = await stage.join("follower")
        stream, _ = await stage.join("stream", STREAM_STYLE)
        peer, follows = await stage.peer(holder), await stage.peer(follower)
        stage.peers.clear()
        await follows.ask(Primitive.FLOOR_QUERY, FLOOR)
        assert state_of(await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)) == (1, RequestState.GRANTED)
        await follows.announced()
        port = stage.listener.address.udp
        seats = {m.participant_id: m.floor for m in (holder, follower, stream)}
        assert port is not None
        there = follower.floor
        await until(lambda: stored(house, follower), lambda seat: seat == there, "its seat in its row", 10)
    again = House(database, clock, MirrorDesk)
    await again.meetings.restore()
    again.meeting = again.meetings.meeting(house.meeting.conference_id)
    for member in again.meeting.members.values():  # as SipRevival gives them their lines
        member.line = line = RecordingLine()
        line.peer_host = "127.0.0.1"
    async with staged(again, port) as stage:
        ready = again.meetings.worker_ready
        await asyncio.gather(ready("media-0", 100), ready("media-1", 101))
        assert {m.participant_id: m.floor for m in again.meeting.members.values()} == seats
        await again.give(Command.TAKE_BACK_SLIDES)
        assert state_of(await peer.announced()) == (1, RequestState.REVOKED)
        assert (await follows.announced()).attributes == (FLOOR,)
        tcp = await stage.peer(again.meeting.members[stream.participant_id])
        assert state_of(await tcp.ask(Primitive.FLOOR_REQUEST, FLOOR)) == (2, RequestState.GRANTED)
        assert state_of(await follows.announced()) == (2, RequestState.GRANTED)
    peer.close()
    follows.close()


async def stored(house: House, member: Member) -> object:
    return (await house.record(member.participant_id)).floor


async def test_a_worker_that_comes_later_is_told_whose_slides(stage: Stage) -> None:
    member, _ = await stage.join("room")
    await stage.present(member)
    assert stage.house.meeting.spec.staging == Staging(slides=member.participant_id)
