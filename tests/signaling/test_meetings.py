"""Meeting control on a real database, with desks and lines that remember: each step, and each step undone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import Connection

from foundation.database import DatabaseBusy
from foundation.desk_client import DeskFailed
from foundation.desks import MediaDescription, Refusal, RefusalKind, View, ViewMode
from foundation.event_bus import Subscription
from foundation.events import ConferenceChanged, ConferenceEnded, ConferenceOpened, Event, ParticipantChanged
from foundation.repositories.conferences import ConferenceState, ParticipantState
from foundation.repositories.sites import Link
from signaling.admission import NotAdmitted
from signaling.control.orders import Command
from signaling.meeting import Access, Caller, Member, MemberState
from signaling.roster import UnknownMeeting, UnknownMember
from tests.signaling.house import ANSWER, FULL, MBIT, OFFER, OURS, House, description, locked
from tests.signaling.recording_desk import RecordingLine


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


async def test_a_caller_is_written_whole_and_once_and_once_more_when_it_leaves(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = 0
    write = house.database.write

    async def counted(work: Callable[[Connection], object]) -> object:
        nonlocal commits
        commits += 1
        return await write(work)

    def no_session() -> None:
        raise AssertionError("a call needs no other transaction")

    monkeypatch.setattr(house.database, "write", counted)
    monkeypatch.setattr(house.database, "transaction", no_session)
    caller = Caller("room", "nanning", "lan", "sip:room@192.0.2.1")
    member, _ = await house.meetings.join(
        house.meeting.conference_id, caller, OFFER, Access.DIALLED_IN, RecordingLine(), _dialog
    )
    assert commits == 1
    record, row = await house.record(member.participant_id), await house.row(member.participant_id)
    assert record.dialog == {"of": member.participant_id, "with": 40_000}
    assert row.joined_at is not None
    await house.meetings.leave(member.participant_id, "hung up", hang_up=False)
    assert commits == 2


def _dialog(member: Member, answer: MediaDescription) -> dict[str, object]:
    return {"of": member.participant_id, "with": answer.sections[0].port}


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


async def test_a_call_out_rings_is_answered_and_offers_anew(house: House) -> None:
    member = await house.dial()
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
    member = await house.dial()
    await house.meetings.leave(member.participant_id, "486 Busy Here", hang_up=False)
    assert (await house.row(member.participant_id)).state is ParticipantState.FAILED
    house.nothing_held()
    with pytest.raises(UnknownMember):
        await house.meetings.answered(member.participant_id, ANSWER, RecordingLine())


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
