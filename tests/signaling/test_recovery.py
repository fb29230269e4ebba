"""Meetings go on: at another worker when theirs is lost, and where their media are after main came back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desk_client import DeskFailed
from foundation.desks import CryptoKey, Dialled, MediaDescription, Refusal, RefusalKind, View, ViewMode
from foundation.events import RenegotiationNeeded
from foundation.repositories.conferences import ParticipantState
from signaling.meeting import Access, Caller, MemberState
from tests.peers.waiting import until_true
from tests.signaling.house import ANSWER, MBIT, OFFER, OURS, House
from tests.signaling.recording_desk import RecordingLine


async def test_a_call_answered_after_its_worker_was_lost_finds_the_new_one(house: House) -> None:
    member = await house.dial()
    await house.meetings.worker_ready("media-1", 200)
    await house.meetings.worker_lost("media-0")
    assert house.workers.worker_of(house.meeting.conference_id) == "media-1"
    await house.meetings.answered(member.participant_id, ANSWER, RecordingLine())
    assert house.desks["media-1"].resumed == {member.participant_id: OURS}
    assert member.state is MemberState.CONNECTED


async def test_a_lost_worker_s_meeting_goes_on_at_another(house: House) -> None:
    room = await house.join("room", "nation")
    page = await house.join("page", "guangxi", access=Access.BROWSER)
    called = await house.dial(site="nanning")
    await house.meetings.answered(called.participant_id, ANSWER, RecordingLine())
    await house.set_muted(room.participant_id, True)
    await house.meetings.worker_ready("media-1", 200)
    wanted = house.bus.subscribe(RenegotiationNeeded)
    await house.meetings.worker_lost("media-0")
    other = house.desks["media-1"]
    assert other.resumed == {room.participant_id: OURS, called.participant_id: OURS}
    assert other.participants[room.participant_id].muted
    assert other.conferences[house.meeting.conference_id] == house.meeting.spec
    async with asyncio.timeout(1):
        assert (await anext(aiter(wanted))).participant_id == page.participant_id
    await house.meetings.renegotiate(page.participant_id, OFFER)
    assert page.participant_id in other.participants
    assert house.meetings.workers_ready == {"media-1": 200}


async def test_without_another_worker_the_meeting_waits_for_one(house: House) -> None:
    room = await house.join("room")
    await house.meetings.worker_lost("media-0")
    with pytest.raises(Refusal) as refused:
        await house.join("second", "guangxi")
    assert refused.value.kind is RefusalKind.WORKER_LOST
    report = await house.meetings.report(house.meeting.conference_id)
    assert report.worker_pid == 0
    house.desks["media-0"].participants.clear()
    await house.meetings.worker_ready("media-0", 300)
    assert house.desks["media-0"].resumed == {room.participant_id: OURS}


@pytest.mark.parametrize("accepts", [True, False])
async def test_what_cannot_be_resumed_is_renewed_or_let_go(house: House, accepts: bool) -> None:
    line = RecordingLine(renewed=ANSWER if accepts else None)
    room = await house.join("room", line=line)
    await house.meetings.worker_ready("media-1", 200)
    house.desks["media-1"].failures["admit"] = Refusal(RefusalKind.NOT_RESUMABLE, "ports taken")
    await house.meetings.worker_lost("media-0")
    if accepts:
        record = await house.record(room.participant_id)
        assert record.access is Access.DIALLED_OUT
        assert record.media is not None
        assert (record.media.ours, record.media.theirs) == (OURS, ANSWER)
        return
    assert house.meetings.state(room.participant_id) is MemberState.LEFT
    assert await house.reason(room.participant_id) == "media lost: the peer refused new media"
    assert line.hung_up


@pytest.mark.parametrize(
    ("crypto", "again"),
    [((), Dialled.PLAIN), ((CryptoKey(1, "AES_CM_128_HMAC_SHA1_80", "key"),), Dialled.SECURED)],
)
async def test_who_had_keys_is_offered_keys_again(
    house: House, crypto: tuple[CryptoKey, ...], again: Dialled
) -> None:
    secured = MediaDescription(tuple(replace(section, crypto=crypto) for section in OURS.sections))
    for desk in house.desks.values():
        desk._ours = secured
    caller = Caller("room", "nanning", "lan", "sip:room@192.0.2.1")
    line = RecordingLine(renewed=ANSWER)
    await house.meetings.join(house.meeting.conference_id, caller, OFFER, Access.DIALLED_IN, line)
    await house.meetings.worker_ready("media-1", 200)
    other = house.desks["media-1"]
    other.failures["admit"] = Refusal(RefusalKind.NOT_RESUMABLE, "ports taken")
    await house.meetings.worker_lost("media-0")
    assert list(other.dialled.values()) == [again]


async def test_a_fault_with_one_member_keeps_no_other_from_its_media(house: House) -> None:
    bad, good = await house.join("bad", "nation"), await house.join("good", "guangxi")
    await house.meetings.worker_ready("media-1", 200)
    other = house.desks["media-1"]

    async def fail_once() -> None:
        raise DeskFailed("planted")

    other.meanwhile["admit"] = fail_once
    await house.meetings.worker_lost("media-0")
    assert len(other.resumed) == 1
    assert {house.meetings.state(m.participant_id) for m in (bad, good)} == {
        MemberState.LEFT,
        MemberState.CONNECTED,
    }


async def test_one_who_leaves_while_it_is_resumed_is_not_left_on_the_worker(house: House) -> None:
    room = await house.join("room")
    await house.meetings.worker_ready("media-1", 200)
    other = house.desks["media-1"]
    other.meanwhile["admit"] = lambda: house.meetings.leave(room.participant_id, "hung up")
    house.desks["media-0"].participants.clear()
    await house.meetings.worker_lost("media-0")
    house.nothing_held()
    assert "offer" not in [name for name, _ in other.calls]


async def test_after_a_restart_of_main_a_meeting_goes_on_where_its_media_are(
    house: House, database: Database, clock: FakeClock
) -> None:
    """The worker that still holds it is found, whoever is ready first; rows decide what it did not hear."""
    room, second = await house.join("room"), await house.join("second", "guangxi")
    late = await house.join("late", None, access=Access.BROWSER)
    view = View(ViewMode.FULL_SCREEN, room.participant_id)
    await house.meetings.set_view(house.meeting.conference_id, view)
    ringing = await house.dial("rings")
    holder = house.desk
    other = next(desk for desk in house.desks.values() if desk is not holder)
    again = House(database, clock)
    again.desks[holder.name].conferences = {
        **holder.conferences,
        "view:x": holder.conferences[house.meeting.conference_id],
    }
    again.desks[holder.name].participants = dict(holder.participants)
    del again.desks[holder.name].participants[second.participant_id]  # its join was cut off midway
    await again.meetings.restore()
    (meeting,) = again.meetings.running
    assert (meeting.number, meeting.title, meeting.view) == ("8001", "演练", view)
    assert set(meeting.members) == {m.participant_id for m in (room, second, late)}
    assert again.admission.carried_bps("gx-nn") == 3 * MBIT
    assert await house.reason(ringing.participant_id) == "service restarted"
    await again.set_muted(room.participant_id, True)  # nobody to tell it to yet
    first = asyncio.create_task(again.meetings.worker_ready(other.name, 8))
    await until_true(lambda: bool(again.workers.ready), "the wrong worker to be ready", 1)
    await again.meetings.worker_ready(holder.name, 7)
    await first
    again.meeting = meeting
    desk = again.desk
    assert desk.name == holder.name
    assert again.desks[other.name].conferences == {}
    assert list(desk.conferences) == [meeting.conference_id]  # nobody knows the other one
    assert desk.named("admit") == [second.participant_id]
    assert desk.resumed == {second.participant_id: OURS}
    assert (room.participant_id, True) in desk.named("set_muted")
    assert ringing.participant_id not in desk.participants
    assert (await house.row(room.participant_id)).state is ParticipantState.JOINED
    for member in (room, second, late):
        await again.meetings.leave(member.participant_id, "hung up", hang_up=False)
    assert not desk.participants
    again.nothing_held()


async def test_a_worker_that_never_comes_back_keeps_a_meeting_waiting_for_moments_only(
    house: House, database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await house.join("room")
    monkeypatch.setattr("signaling.recovery.SETTLE_SECONDS", 0.05)
    again = House(database, clock)
    await again.meetings.restore()
    await again.meetings.worker_ready("media-1", 9)
    assert again.desks["media-1"].resumed == {room.participant_id: OURS}


async def test_what_a_worker_holds_of_a_meeting_that_moved_is_closed_there(house: House) -> None:
    await house.join("room")
    desk = house.desk
    other = next(one for one in house.desks.values() if one is not desk)
    other.conferences = dict(desk.conferences)
    await house.meetings.worker_ready(other.name, 5)
    assert not other.conferences
    assert house.desk is desk
