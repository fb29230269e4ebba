"""Orders carried out on a real database: row, memory, worker, event; after a restart; two at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from foundation.clock import FakeClock
from foundation.database import Database, DatabaseBusy
from foundation.desks import Dialled, Refusal, RefusalKind, Staging, View, ViewMode
from foundation.events import ConferenceChanged
from signaling.control import controller as controller_module
from signaling.control.orders import Command, NotNow, Order, Outdated
from signaling.control.staging import LOBBY_PROMPT
from signaling.control.state import Lobby, Mark, Mode
from signaling.meeting import Access, Caller
from tests.peers.waiting import until_true
from tests.signaling.house import OFFER, House, locked
from tests.signaling.recording_desk import RecordingLine


def full(name: str) -> View:
    return View(ViewMode.FULL_SCREEN, name)


async def joined(house: House, *names: str) -> list[str]:
    return [(await house.join(name, "guangxi")).participant_id for name in names]


async def test_an_order_is_written_shown_and_announced(house: House) -> None:
    a, b = await joined(house, "a", "b")
    async with house.bus.subscribe(ConferenceChanged) as events:
        await house.give(Command.SELECT_VIEW, a, target_id=b)
        heard = await anext(aiter(events))
    assert heard == ConferenceChanged(house.meeting.conference_id)
    assert house.desk.named("set_staging") == [(View(), Staging(views={a: full(b)}))]
    (stored,) = await house.rows.running()
    assert stored.control == house.meeting.control
    assert stored.control.selected == {a: b}


async def test_what_cannot_be_written_changes_nothing(house: House) -> None:
    a, _b = await joined(house, "a", "b")
    before, calls = house.meeting.control, len(house.desk.calls)
    with locked(house.database), pytest.raises(DatabaseBusy):
        await house.give(Command.GRANT_FLOOR, a)
    assert house.meeting.control == before
    assert not any(member.muted for member in house.meeting.members.values())
    assert len(house.desk.calls) == calls


async def test_a_worker_without_room_refuses_a_mosaic_of_one_s_own(house: House) -> None:
    (a,) = await joined(house, "a")
    house.desk.failures["set_staging"] = Refusal(RefusalKind.NO_CAPACITY, "busy")
    with pytest.raises(Refusal):
        await house.give(Command.HIDE_SELF, a)
    assert not house.meeting.control.without_self
    (stored,) = await house.rows.running()
    assert not stored.control.without_self


async def test_a_roll_call_s_record_outlives_it(house: House, clock: FakeClock) -> None:
    a, b = await joined(house, "a", "b")
    await house.give(Command.ROLL_CALL)
    await house.give(Command.ROLL_CALL_NEXT)
    assert [m.muted for m in house.meeting.members.values()] == [False, True]
    await house.give(Command.ROLL_CALL_MARK, a, mark=Mark.PRESENT)
    newcomer = await house.join("late", "guangxi")
    assert newcomer.muted
    assert house.desk.participants[newcomer.participant_id].muted
    await house.meetings.leave(b, "hung up")
    clock.advance(60)
    await house.give(Command.STOP)
    (record,) = await house.meetings.roll_calls(house.meeting.conference_id)
    assert [(site.name, site.mark, site.marked_by) for site in record.sites] == [
        ("a", "present", "operator"),
        ("b", "absent", "left the meeting"),
    ]
    assert record.ended_at is not None
    assert (record.ended_at - record.started_at).total_seconds() == 60
    assert not house.meeting.members[a].muted


async def test_a_locked_meeting_takes_nobody_but_whom_operators_call(house: House) -> None:
    await joined(house, "a")
    await house.give(Command.LOCK)
    with pytest.raises(Refusal, match="8001 is locked") as refused:
        await house.join("late", "guangxi")
    assert refused.value.kind is RefusalKind.LOCKED
    assert len(house.meeting.members) == 1
    caller = Caller("invited", "guangxi", "lan", "sip:invited@192.0.2.1")
    await house.meetings.dial(house.meeting.conference_id, caller, Dialled.PLAIN)
    await house.give(Command.UNLOCK)
    await house.join("late", "guangxi")


async def test_the_worker_knows_who_waits_outside_before_it_takes_them_in(house: House) -> None:
    await joined(house, "a")
    await house.give(Command.LOBBY, lobby=Lobby.GUESTS)
    caller = Caller("guest", None, "lan", "sip:guest@192.0.2.9")
    member, _answer = await house.meetings.join(
        house.meeting.conference_id, caller, OFFER, Access.DIALLED_IN, RecordingLine()
    )
    last = [name for name, _subject in house.desk.calls][-2:]
    assert last == ["set_staging", "admit"]
    assert house.meeting.staging.prompts == {member.participant_id: LOBBY_PROMPT}
    await house.give(Command.ADMIT, member.participant_id)
    assert house.meeting.staging.prompts == {}
    await house.give(Command.LOBBY, lobby=Lobby.ALL)
    failing = house.desk.failures
    failing["admit"] = Refusal(RefusalKind.NO_COMMON_CODEC, "no codec")
    with pytest.raises(Refusal):
        await house.join("b", "guangxi")
    assert house.meeting.control.waiting == ()


async def test_who_leaves_takes_the_chair_and_its_broadcast_along(house: House) -> None:
    a, b = await joined(house, "a", "b")
    await house.give(Command.GRANT_CHAIR, a)
    await house.give(Command.BROADCAST, b)
    await house.meetings.leave(b, "hung up")
    assert house.meeting.control.mode is Mode.FREE
    assert house.meeting.view == View()
    await house.meetings.leave(a, "hung up")
    assert house.meeting.control.chair is None
    assert house.meeting.control.changes[-1].by == "left the meeting"
    (stored,) = await house.rows.running()
    assert stored.control == house.meeting.control


async def test_control_survives_a_restart_without_those_who_did_not(
    house: House, database: Database, clock: FakeClock
) -> None:
    a, b, c = await joined(house, "a", "b", "c")
    await house.give(Command.GRANT_CHAIR, a)
    await house.give(Command.BANNER, text="会议纪律")
    await house.give(Command.LOCK)
    await house.give(Command.DEAFEN, c)
    await house.give(Command.BROADCAST, b)
    await house.rows.interrupted(c, "gone while nobody looked")
    again = House(database, clock)
    await again.meetings.restore()
    (meeting,) = again.meetings.running
    assert meeting.control == replace(house.meeting.control, deafened=frozenset())
    assert meeting.view == full(b)
    assert meeting.staging.banner == "会议纪律"
    assert meeting.spec.staging == meeting.staging
    await again.meetings.control.aclose()


async def test_of_two_operators_at_once_one_is_told_of_the_other(house: House) -> None:
    a, b = await joined(house, "a", "b")
    control, conference_id = house.meetings.control, house.meeting.conference_id
    version = house.meeting.control.version
    both = await asyncio.gather(
        control.give(conference_id, Order(Command.BROADCAST, "ma", a, version=version)),
        control.give(conference_id, Order(Command.BROADCAST, "li", b, version=version)),
        return_exceptions=True,
    )
    (outdated,) = [answer for answer in both if isinstance(answer, Outdated)]
    assert "broadcast by ma" in str(outdated)
    assert house.meeting.control.subject == a


async def test_polling_turns_and_makes_the_next_ready(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_module, "LEAD_SECONDS", 2.95)
    a, b, c = await joined(house, "a", "b", "c")
    await house.give(Command.POLL, interval=3.0, order=(a, c, b))
    assert house.meeting.view == full(a)

    def ready() -> list[tuple[str, ...]]:
        told = (subject for subject in house.desk.named("set_staging") if isinstance(subject, tuple))
        return [staging.next_shown for _view, staging in told if staging.next_shown]

    await until_true(lambda: bool(ready()), "the next site to be made ready", 1.0)
    assert ready()[0] == (c,)
    await house.give(Command.POLL_NEXT)
    assert house.meeting.view == full(c)
    await house.give(Command.STOP)
    assert house.meeting.view == View()
    assert not house.meetings.control._turns
    with pytest.raises(NotNow):
        await house.give(Command.POLL_NEXT)
    await house.give(Command.POLL, interval=3.0)
    await house.meetings.end(house.meeting.conference_id, "over")
    assert not house.meetings.control._turns
