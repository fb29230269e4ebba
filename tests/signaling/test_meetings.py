"""Meeting control on a real database, with desks and lines that remember: each step, and each step undone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from foundation.clock import FakeClock
from foundation.database import Database, DatabaseBusy
from foundation.desk_client import DeskFailed
from foundation.desks import (
    Budget,
    CryptoKey,
    Dialled,
    MediaDescription,
    Refusal,
    RefusalKind,
    View,
    ViewMode,
)
from foundation.event_bus import Subscription
from foundation.events import (
    ConferenceChanged,
    ConferenceEnded,
    ConferenceOpened,
    Event,
    ParticipantChanged,
    RenegotiationNeeded,
)
from foundation.repositories.conferences import (
    ConferenceState,
    ParticipantState,
)
from foundation.repositories.sites import Link
from signaling import meetings as meetings_module
from signaling.admission import NotAdmitted
from signaling.control.orders import Command
from signaling.meeting import Access, Caller, Member, MemberState
from signaling.roster import UnknownMeeting, UnknownMember
from signaling.site_budgets import SOUND_BPS
from tests.peers.waiting import until_true
from tests.signaling.house import ANSWER, FULL, HALF, MBIT, OFFER, OURS, House, description, locked
from tests.signaling.recording_desk import RecordingLine

# --- joining and leaving ---------------------------------------------------------------------------------


async def test_a_caller_joins_ledger_row_desk_event(house: House) -> None:
    member = await house.join("room")
    assert member.state is MemberState.CONNECTED
    assert member.budget == FULL
    assert house.admission.carried_bps("gx-nn") == 3 * MBIT
    assert [name for name, _ in house.desk.calls] == ["open", "admit"]
    assert house.desk.participants[member.participant_id].budget == FULL
    row, record = await house.row(member.participant_id), await house.record(member.participant_id)
    assert (row.state, row.site_id, row.name) == (ParticipantState.JOINED, "nanning", "room")
    assert record.media is not None
    assert (record.media.ours, record.media.theirs) == (OURS, OFFER)
    second = await house.join("second", "guangxi")
    assert house.desk.named("open") == [house.meeting.spec]
    await house.meetings.leave(member.participant_id, "hung up", hang_up=False)
    assert (await house.row(member.participant_id)).state is ParticipantState.LEFT
    assert await house.reason(member.participant_id) == "hung up"
    assert house.desk.named("drop") == [member.participant_id]
    assert house.meetings.state(member.participant_id) is MemberState.LEFT
    assert list(house.meeting.members) == [second.participant_id]
    await house.meetings.leave(member.participant_id, "again")
    assert await house.reason(member.participant_id) == "hung up"


@pytest.mark.parametrize(
    ("method", "failure"),
    [
        ("admit", Refusal(RefusalKind.NO_COMMON_CODEC, "no codec")),
        ("admit", Refusal(RefusalKind.WORKER_LOST, "gone")),
        ("admit", DeskFailed("a fault there")),
        ("admit", asyncio.CancelledError()),
        ("open", Refusal(RefusalKind.WORKER_LOST, "gone")),
    ],
)
async def test_a_desk_that_fails_undoes_ledger_and_row(
    house: House, method: str, failure: BaseException
) -> None:
    desk = house.desks["media-0"]
    desk.failures[method] = failure
    with pytest.raises(type(failure)):
        await house.join("room")
    house.nothing_held()
    (row,) = await house.people()
    assert row.state is ParticipantState.FAILED
    desk.failures.clear()
    member = await house.join("room")  # nothing of the failure stands in the way
    assert member.participant_id in desk.participants
    assert house.meeting.conference_id in desk.conferences


async def test_a_database_that_is_locked_refuses_a_join_as_a_whole(house: House) -> None:
    with locked(house.database), pytest.raises(DatabaseBusy):
        await house.join("room")
    house.nothing_held()
    assert await house.people() == []
    await house.join("room")


async def test_a_join_that_cannot_be_written_as_joined_is_undone(house: House) -> None:
    other = contextlib.ExitStack()

    async def lock() -> None:
        other.enter_context(locked(house.database))

    house.desks["media-0"].meanwhile["admit"] = lock
    with other, pytest.raises(DatabaseBusy):
        await house.join("room")
    house.nothing_held()


async def test_what_cannot_fit_leaves_no_trace(house: House) -> None:
    await house.join("room", "nanning")
    house.admission.replace_tree(
        house.admission._sites,
        (Link("gx-nn", "guangxi", "nanning", 3 * MBIT),),
        dict.fromkeys(("nation", "guangxi", "nanning"), 9 * MBIT),
    )
    with pytest.raises(NotAdmitted, match="link gx-nn is full: capacity 3 Mbit/s, carries 3 Mbit/s"):
        await house.join("more", "nanning")
    assert len(await house.people()) == 1
    assert len(house.meeting.members) == 1


@pytest.mark.parametrize("method", ["admit", "open"])
async def test_a_meeting_that_ends_during_a_join_is_not_opened_again(house: House, method: str) -> None:
    desk = house.desks["media-0"]
    desk.meanwhile[method] = lambda: house.meetings.end(house.meeting.conference_id, "over")
    with pytest.raises((Refusal, UnknownMeeting)):
        await house.join("room")
    house.nothing_held()
    assert not desk.conferences
    assert house.workers.worker_of(house.meeting.conference_id) is None
    assert [row.state.final for row in await house.people()] == [True]


async def test_one_who_is_dropped_while_joining_stays_out(house: House) -> None:
    async def drop() -> None:
        (participant_id,) = house.meeting.members
        await house.meetings.leave(participant_id, "dropped")

    house.desks["media-0"].meanwhile["admit"] = drop
    with pytest.raises(Refusal) as refused:
        await house.join("room")
    assert refused.value.kind is RefusalKind.UNKNOWN_PARTICIPANT
    house.nothing_held()


async def test_a_peer_that_takes_less_is_budgeted_less_but_never_out_of_its_sound(house: House) -> None:
    member = await house.join("room", offer=description(5004, 768_000))
    assert member.budget == Budget(768_000, 3 * MBIT)
    phone = await house.join("phone", "guangxi", offer=description(5004, 20_000))
    assert phone.budget.to_site_bps == SOUND_BPS


async def test_a_newcomer_lowers_its_mates_and_its_end_gives_back(house: House) -> None:
    room = await house.join("room", "guangxi")
    desk = await house.join("desk", "guangxi")
    assert (room.budget, desk.budget) == (HALF, HALF)
    assert (room.participant_id, HALF) in house.desk.named("set_budget")
    assert (await house.record(room.participant_id)).budget == HALF
    await house.meetings.leave(desk.participant_id, "hung up")
    assert room.budget == FULL
    assert house.desk.named("set_budget")[-1] == (room.participant_id, FULL)
    assert house.admission.held(room.participant_id) == FULL


@pytest.mark.parametrize("busy", [False, True])
async def test_a_newcomer_that_fails_gives_back_too(house: House, busy: bool) -> None:
    room = await house.join("room", "guangxi")
    if busy:
        with locked(house.database), pytest.raises(DatabaseBusy):
            await house.join("desk", "guangxi")
    else:
        house.desk.failures["admit"] = Refusal(RefusalKind.NO_COMMON_CODEC, "no codec")
        with pytest.raises(Refusal):
            await house.join("desk", "guangxi")
    assert room.budget == FULL
    assert house.admission.held(room.participant_id) == FULL


# --- calling out ------------------------------------------------------------------------------------------


async def dial(house: House, site: str = "guangxi") -> Member:
    caller = Caller("called", site, "lan", "sip:called@192.0.2.9")
    member, offer = await house.meetings.dial(house.meeting.conference_id, caller, Dialled.PLAIN)
    assert offer == OURS
    return member


async def test_a_call_out_rings_is_answered_and_offers_anew(house: House) -> None:
    member = await dial(house)
    assert (await house.row(member.participant_id)).state is ParticipantState.CALLING
    line = RecordingLine()
    await house.meetings.answered(member.participant_id, ANSWER, line)
    assert member.line is line
    record = await house.record(member.participant_id)
    assert record.access is Access.DIALLED_OUT
    assert record.media is not None
    assert record.media.theirs == ANSWER
    await house.meetings.renegotiate(member.participant_id, OFFER)
    record = await house.record(member.participant_id)
    assert record.access is Access.DIALLED_IN, "our side is an answer now"


async def test_a_call_that_is_not_answered_has_failed(house: House) -> None:
    member = await dial(house)
    await house.meetings.leave(member.participant_id, "486 Busy Here", hang_up=False)
    assert (await house.row(member.participant_id)).state is ParticipantState.FAILED
    house.nothing_held()
    with pytest.raises(UnknownMember):
        await house.meetings.answered(member.participant_id, ANSWER, RecordingLine())


async def test_a_call_answered_after_its_worker_was_lost_finds_the_new_one(house: House) -> None:
    member = await dial(house)
    await house.meetings.worker_ready("media-1", 200)
    await house.meetings.worker_lost("media-0")
    assert house.workers.worker_of(house.meeting.conference_id) == "media-1"
    await house.meetings.answered(member.participant_id, ANSWER, RecordingLine())
    assert house.desks["media-1"].resumed == {member.participant_id: OURS}
    assert member.state is MemberState.CONNECTED


# --- later offers ------------------------------------------------------------------------------------------


async def test_an_offer_of_one_who_left_meanwhile_is_not_admitted_anew(house: House) -> None:
    member = await house.join("room")
    desk = house.desk
    desk.meanwhile["renegotiate"] = lambda: house.meetings.leave(member.participant_id, "hung up")
    with pytest.raises((UnknownMember, Refusal)):
        await house.meetings.renegotiate(member.participant_id, OFFER)
    house.nothing_held()


async def test_a_refused_offer_changes_nothing(house: House) -> None:
    member = await house.join("room")
    house.desk.failures["renegotiate"] = Refusal(RefusalKind.NO_COMMON_CODEC, "no codec")
    with pytest.raises(Refusal):
        await house.meetings.renegotiate(member.participant_id, description(7000))
    assert member.media is not None
    assert member.media.theirs == OFFER


# --- budgets, mute, view -----------------------------------------------------------------------------------


async def test_a_budget_is_changed_and_a_failing_desk_changes_nothing(house: House) -> None:
    member = await house.join("room")
    mate = await house.join("mate")
    lowered = (member.budget, mate.budget)
    assert lowered[0].to_site_bps + lowered[1].to_site_bps <= 3 * MBIT
    small = Budget(500_000, 500_000)
    assert await house.meetings.set_budget(member.participant_id, small) == small
    assert (await house.record(member.participant_id)).budget == small
    house.desk.failures["set_budget"] = Refusal(RefusalKind.WORKER_LOST, "gone")
    with pytest.raises(Refusal):
        await house.meetings.set_budget(member.participant_id, Budget(2 * MBIT, 2 * MBIT))
    assert (member.wanted, member.budget) == (small, small)
    assert house.admission.held(member.participant_id) == small
    assert (await house.record(member.participant_id)).budget == small
    del house.desk.failures["set_budget"]
    with locked(house.database), pytest.raises(DatabaseBusy):
        await house.meetings.set_budget(member.participant_id, FULL)
    assert house.admission.held(member.participant_id) == small


async def test_mute_is_kept_where_the_worker_is_gone_and_not_where_it_cannot_be_written(house: House) -> None:
    first, second = await house.join("a", "nation"), await house.join("b", "guangxi")
    house.desk.participants.clear()  # a worker that does not know them yet
    await house.give(Command.MUTE_ALL)
    assert (first.muted, second.muted) == (True, True)
    assert (await house.record(second.participant_id)).muted is True
    assert first.spec.muted
    with locked(house.database), pytest.raises(DatabaseBusy):
        await house.set_muted(first.participant_id, False)
    assert first.muted


async def test_the_view_follows_and_falls_back_when_the_shown_one_leaves(house: House) -> None:
    member = await house.join("room")
    shown = View(ViewMode.FULL_SCREEN, member.participant_id)
    with pytest.raises(UnknownMember):
        await house.meetings.set_view(
            house.meeting.conference_id, View(ViewMode.FULL_SCREEN, "somebody else")
        )
    await house.meetings.set_view(house.meeting.conference_id, shown)
    assert house.desk.named("set_view") == [shown]
    house.desk.failures["set_view"] = Refusal(RefusalKind.WORKER_LOST, "gone")
    await house.meetings.leave(member.participant_id, "hung up")
    assert house.meeting.view == View()
    (stored,) = await house.rows.running()
    assert stored.view == View()


# --- silence -----------------------------------------------------------------------------------------------


async def test_a_silent_peer_that_answers_stays_and_is_probed_again(house: House) -> None:
    line = RecordingLine()
    member = await house.join("room", line=line)
    await house.meetings.silent(member.participant_id)
    assert member.state is MemberState.SILENT
    assert line.probes == 1
    await house.meetings.heard(member.participant_id)
    assert house.meetings.state(member.participant_id) is MemberState.CONNECTED
    await house.meetings.silent(member.participant_id)
    line.alive = False  # it answered once, and vanished later
    await house.meetings.silent(member.participant_id)
    assert house.meetings.state(member.participant_id) is MemberState.LEFT
    assert await house.reason(member.participant_id) == "vanished: no media and no answer"
    house.nothing_held()


async def test_a_probe_without_an_answer_is_waited_for_only_so_long(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meetings_module, "PROBE_SECONDS", 0.05)
    line = RecordingLine()
    line.hanging = asyncio.Event()
    member = await house.join("room", line=line)
    await house.meetings.silent(member.participant_id)
    assert house.meetings.state(member.participant_id) is MemberState.LEFT
    assert line.hung_up == ["vanished: no media and no answer"]


async def test_one_who_is_heard_during_the_probe_stays(house: House) -> None:
    line = RecordingLine(alive=False)
    line.hanging = asyncio.Event()
    member = await house.join("room", line=line)
    probing = asyncio.create_task(house.meetings.silent(member.participant_id))
    await until_true(lambda: line.probes == 1, "the probe", 2.0)
    await house.meetings.heard(member.participant_id)
    line.hanging.set()
    await probing
    assert house.meetings.state(member.participant_id) is MemberState.CONNECTED


async def test_silence_during_a_locked_database_raises_nothing(house: House) -> None:
    """What workers tell runs in main's own scope: an exception there would end main."""
    member = await house.join("room", line=RecordingLine(alive=False))
    with locked(house.database):
        await house.meetings.silent(member.participant_id)
    house.nothing_held()
    await house.meetings.silent("unknown")
    await house.meetings.heard("unknown")


async def test_a_page_whose_transport_failed_has_a_moment_to_offer_anew(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meetings_module, "REOFFER_SECONDS", 0.05)
    stays, goes = await house.join("stays", "nation"), await house.join("goes", "guangxi")
    failing = [house.meetings.media_failed(m.participant_id, "DTLS failed") for m in (stays, goes)]
    both = asyncio.gather(*failing)
    await house.meetings.renegotiate(stays.participant_id, OFFER)
    await both
    assert list(house.meeting.members) == [stays.participant_id]


# --- workers lost ------------------------------------------------------------------------------------------


async def test_a_lost_worker_s_meeting_goes_on_at_another(house: House) -> None:
    room = await house.join("room", "nation")
    page = await house.join("page", "guangxi", access=Access.BROWSER)
    called = await dial(house, "nanning")
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


# --- the end -----------------------------------------------------------------------------------------------


async def test_the_end_hangs_up_frees_the_worker_and_closes_the_row(house: House) -> None:
    lines = [RecordingLine() for _ in range(3)]
    for number, line in enumerate(lines):
        await house.join(f"room-{number}", "guangxi", line=line)
    house.desk.failures["drop"] = Refusal(RefusalKind.WORKER_LOST, "gone")
    desk = house.desk
    await house.meetings.end(house.meeting.conference_id, "over")
    assert [line.hung_up for line in lines] == [["over"]] * 3
    assert desk.named("close") == [house.meeting.conference_id]
    assert await house.state() is ConferenceState.ENDED
    assert {row.state for row in await house.people()} == {ParticipantState.LEFT}
    assert not house.admission._held
    with pytest.raises(UnknownMeeting):
        house.meetings.by_number("8001")
    with pytest.raises(UnknownMeeting):
        await house.meetings.end(house.meeting.conference_id, "again")
    await house.meetings.open("again", "nation", number="8001")


async def test_an_end_that_cannot_be_written_ends_nothing(house: House) -> None:
    line = RecordingLine()
    await house.join("room", line=line)
    with locked(house.database), pytest.raises(DatabaseBusy):
        await house.meetings.end(house.meeting.conference_id, "over")
    assert line.hung_up == []
    assert house.meetings.by_number("8001") is house.meeting
    assert await house.state() is ConferenceState.RUNNING


async def test_after_a_restart_of_main_a_meeting_goes_on_where_its_media_are(
    house: House, database: Database, clock: FakeClock
) -> None:
    """The worker that still holds it is found, whoever is ready first; rows decide what it did not hear."""
    room, second = await house.join("room"), await house.join("second", "guangxi")
    late = await house.join("late", None, access=Access.BROWSER)
    view = View(ViewMode.FULL_SCREEN, room.participant_id)
    await house.meetings.set_view(house.meeting.conference_id, view)
    caller = Caller("rings", "guangxi", "lan", "sip:rings@192.0.2.1")
    ringing, _ = await house.meetings.dial(house.meeting.conference_id, caller, Dialled.PLAIN)
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


async def test_everybody_is_hung_up_when_the_service_stops_and_the_meeting_stays(house: House) -> None:
    line = RecordingLine()
    await house.join("room", line=line)
    await house.meetings.aclose()
    assert line.hung_up == ["service stopped"]
    assert await house.state() is ConferenceState.RUNNING
    house.nothing_held()


@asynccontextmanager
async def listening(house: House, count: int) -> AsyncIterator[list[Event]]:
    """The next so many events."""
    kinds = (ConferenceOpened, ConferenceChanged, ConferenceEnded, ParticipantChanged)
    subscription: Subscription[Event] = house.bus.subscribe(*kinds)
    heard: list[Event] = []

    async def listen() -> None:
        async for event in subscription:
            heard.append(event)
            if len(heard) == count:
                return

    task = asyncio.create_task(listen())
    yield heard
    async with asyncio.timeout(2):
        await task


async def test_what_is_announced_is_so_already(house: House) -> None:
    async with listening(house, 5) as heard:
        member = await house.join("room")
        await house.set_muted(member.participant_id, True)
        await house.meetings.leave(member.participant_id, "hung up")
        await house.meetings.end(house.meeting.conference_id, "over")
    conference_id, participant_id = house.meeting.conference_id, member.participant_id
    assert heard == [
        ParticipantChanged(conference_id, participant_id, "connected"),
        ConferenceChanged(conference_id),
        ParticipantChanged(conference_id, participant_id, "connected"),
        ParticipantChanged(conference_id, participant_id, "left"),
        ConferenceEnded(conference_id, "over"),
    ]
