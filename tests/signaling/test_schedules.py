"""Meetings by the clock: opened, called together without a storm, called again, extended, ended, missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import Dialled, Refusal, RefusalKind, ViewMode
from foundation.events import ConferenceEnding, Event
from foundation.jobs import JobEnqueued
from foundation.repositories.audit import AuditRepository
from foundation.repositories.jobs import JobRepository, JobState
from foundation.repositories.recording_orders import OrderRepository
from foundation.repositories.recordings import RecordingKind
from foundation.repositories.schedules import (
    PlannedParticipant,
    PlanRepository,
    Repeat,
    Schedule,
    ScheduleChanged,
    ScheduleRepository,
    ScheduleState,
)
from foundation.repositories.sites import SiteRepository, sip_account
from foundation.schema import new_id
from signaling.camera_calls import CameraCalls, KnownCamera
from signaling.meeting import Access, Caller, Member
from signaling.meetings import UnknownMeeting
from signaling.planned_calls import CALL, CALLS_AT_ONCE, PlannedCalls
from signaling.schedules import END, OPEN, WARN, NoPlan, Scheduler, TooLong
from signaling.sip_dialling import CallFailed
from tests.keys import BOX
from tests.peers.waiting import until_true
from tests.signaling.house import ANSWER, OFFER, House
from tests.signaling.recording_desk import RecordingLine

SHANGHAI = ZoneInfo("Asia/Shanghai")
KINDS = (OPEN, WARN, END, CALL)


class Exchange:
    """Who is dialled: those `at_home` answer, the others do not; how many ring at once."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.at_home: set[str] = set()
        self.dialled: list[str] = []
        self.sites: list[str | None] = []
        self.most_at_once = 0
        self.gate: asyncio.Event | None = None
        self._ringing = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def dial(self, conference_id: str, address: str, site_id: str | None, name: str | None) -> Member:
        self.dialled.append(address)
        self.sites.append(site_id)
        if address.startswith("sip:broken"):
            raise CallFailed("no terminal is registered")
        if address.startswith("sip:full"):
            raise Refusal(RefusalKind.NO_PORT, "no port left")
        meetings = self.house.meetings
        caller = Caller(name or address, None, "lan", address)
        member, _offer = await meetings.dial(conference_id, caller, Dialled.PLAIN)
        task = asyncio.create_task(self._ring(member.participant_id, address))
        self._tasks.add(task)
        return member

    async def _ring(self, participant_id: str, address: str) -> None:
        self._ringing += 1
        self.most_at_once = max(self.most_at_once, self._ringing)
        if self.gate is not None:
            await self.gate.wait()
        self._ringing -= 1
        if address in self.at_home:
            await self.house.meetings.answered(participant_id, ANSWER, RecordingLine())
        else:
            await self.house.meetings.leave(participant_id, "408 no answer", hang_up=False)


class Office:
    """A scheduler at work on a house's meetings."""

    def __init__(self, house: House, clock: FakeClock) -> None:
        self.house = house
        self.clock = clock
        self.exchange = Exchange(house)
        self.orders_told = 0

        async def camera(camera_id: str) -> KnownCamera | None:
            return KnownCamera(camera_id, "nanning", "东门") if camera_id == "gate" else None

        self.calls = PlannedCalls(
            meetings=house.meetings,
            dial=self.exchange.dial,
            cameras=CameraCalls(house.meetings, camera),
            database=house.database,
            bus=house.bus,
            clock=clock,
            realm="gx",
        )
        self.scheduler = Scheduler(
            meetings=house.meetings,
            calls=self.calls,
            database=house.database,
            bus=house.bus,
            clock=clock,
            zone=SHANGHAI,
            record=self._told,
        )

    async def _told(self) -> None:
        self.orders_told += 1

    def pass_time(self, seconds: float) -> None:
        """Time passes, and whoever works looks what is due."""
        self.clock.advance(seconds)
        for kind in KINDS:
            self.house.bus.publish(JobEnqueued(kind))

    async def schedule(self, **changes: object) -> Schedule:
        """One that begins in an hour, lasts 30 minutes and calls nobody."""
        now = self.clock.now()
        made = Schedule(
            new_id(), "周例会", "guangxi", 30, "ma", now, starts_at=now + timedelta(hours=1), number="900"
        )
        made = replace(made, state=ScheduleState.WAITING, **changes)  # type: ignore[arg-type]  # a test's words
        await self.scheduler.add(made)
        return made

    async def row(self, schedule_id: str) -> Schedule:
        async with self.house.database.reading() as tx:
            found = await ScheduleRepository(tx).get(schedule_id)
        assert found is not None
        return found

    async def jobs(self, kind: str) -> dict[JobState, int]:
        async with self.house.database.reading() as tx:
            return await JobRepository(tx).count(kind)

    async def calm(self) -> None:
        """Nothing that is due is left to do."""

        async def none_due() -> bool:
            async with self.house.database.reading() as tx:
                due = await JobRepository(tx).next_due(KINDS)
                busy = [(await JobRepository(tx).count(kind))[JobState.LEASED] for kind in KINDS]
            return not sum(busy) and (due is None or due > self.clock.now())

        await until_true(none_due, "the jobs to be done", 5)

    def open(self, number: str = "900") -> bool:
        try:
            self.house.meetings.by_number(number)
        except UnknownMeeting:
            return False
        return True


@pytest.fixture
async def database(database: Database) -> AsyncIterator[Database]:
    """The same, with the patience that a service has: many write at once here."""
    patient = Database(f"sqlite:///{database.path}", secrets=BOX)
    yield patient
    await patient.aclose()


@pytest.fixture
async def office(house: House, clock: FakeClock) -> AsyncIterator[Office]:
    one = Office(house, clock)
    task = asyncio.create_task(one.scheduler.run())
    yield one
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@asynccontextmanager
async def hearing(house: House) -> AsyncIterator[list[Event]]:
    heard: list[Event] = []
    async with house.bus.subscribe(ConferenceEnding) as events:

        async def listen() -> None:
            async for event in events:
                heard.append(event)

        task = asyncio.create_task(listen())
        yield heard
        task.cancel()


@pytest.mark.parametrize(
    ("lobby", "waiting"), [("off", []), ("guests", ["guest"]), ("all", ["guest", "site"])]
)
async def test_from_the_start_newcomers_wait_outside(office: Office, lobby: str, waiting: list[str]) -> None:
    await office.schedule(lobby=lobby)
    office.pass_time(3600)
    await until_true(office.open, "the meeting to open", 5)
    await office.calm()
    meetings = office.house.meetings
    meeting = meetings.by_number("900")
    came = {}
    for name, site in (("guest", None), ("site", "nanning")):
        caller = Caller(name, site, "lan", f"sip:{name}@192.0.2.1")
        member, _answer = await meetings.join(
            meeting.conference_id, caller, OFFER, Access.DIALLED_IN, RecordingLine()
        )
        came[member.participant_id] = name
    assert [came[wish.participant_id] for wish in meeting.control.waiting] == waiting


async def test_a_meeting_opens_warns_is_extended_and_ends_by_the_clock(office: Office) -> None:
    made = await office.schedule(auto_record=True, pin_hash="hash")
    await office.calm()
    assert not office.open()
    office.pass_time(3600)
    await until_true(office.open, "the meeting to open", 5)
    await office.calm()
    meeting = office.house.meetings.by_number("900")
    assert (meeting.title, meeting.host_site_id, meeting.pin_hash) == ("周例会", "guangxi", "hash")
    row = await office.row(made.id)
    assert (row.state, row.conference_id) == (ScheduleState.DONE, meeting.conference_id)
    async with office.house.database.reading() as tx:
        order = await OrderRepository(tx).get(RecordingKind.CONFERENCE, meeting.conference_id)
    assert order is not None
    assert order.ordered_by == "ma"
    assert office.orders_told == 1
    ends = office.clock.now() + timedelta(minutes=30)
    async with hearing(office.house) as heard:
        office.pass_time(25 * 60)
        await until_true(lambda: bool(heard), "the warning", 5)
        assert heard == [ConferenceEnding(meeting.conference_id, ends.isoformat())]
        plan = await office.scheduler.extend(meeting.conference_id, timedelta(minutes=30))
        assert plan.ends_at == ends + timedelta(minutes=30)
        office.pass_time(10 * 60)
        await office.calm()
        assert office.open()  # the first end is past, and was moved
        office.pass_time(20 * 60)
        await until_true(lambda: len(heard) == 2, "the second warning", 5)
    office.pass_time(5 * 60)
    await until_true(lambda: not office.open(), "the meeting to end", 5)
    await office.calm()
    async with office.house.database.reading() as tx:
        actions = [row.action for row in await AuditRepository(tx).after(0, 10)]
    assert actions == ["open-conference", "end-conference"]
    with pytest.raises(UnknownMeeting):
        await office.scheduler.extend(meeting.conference_id, timedelta(minutes=30))


async def test_extending_what_has_no_end_or_without_end(office: Office) -> None:
    with pytest.raises(NoPlan, match="was not scheduled"):
        await office.scheduler.extend(office.house.meeting.conference_id, timedelta(minutes=30))
    meeting = await office.scheduler.open_now(await office.schedule(ends_by_itself=False))
    office.pass_time(45 * 60)  # past its end: it is extended from now
    await office.calm()
    assert office.open()
    plan = await office.scheduler.extend(meeting.conference_id, timedelta(minutes=30))
    assert plan.ends_at == office.clock.now() + timedelta(minutes=30)
    with pytest.raises(TooLong):
        await office.scheduler.extend(meeting.conference_id, timedelta(hours=48))


async def test_many_sites_are_no_storm(office: Office) -> None:
    addresses = [f"sip:site-{number}@192.0.2.1" for number in range(60)]
    office.exchange.at_home = set(addresses)
    office.exchange.gate = asyncio.Event()
    office.house.admission.replace_tree(
        office.house.admission._sites, (), dict.fromkeys(("nation", "guangxi", "nanning"), 10**9)
    )
    planned = tuple(PlannedParticipant(address) for address in addresses)
    await office.schedule(participants=planned)
    office.pass_time(3600)
    await until_true(office.open, "the meeting to open", 30)
    await until_true(lambda: len(office.exchange.dialled) == 1, "the first call", 30)
    assert (await office.jobs(CALL))[JobState.READY] == 59  # each has its own moment
    office.pass_time(30)  # less than a lease: the clock jumps, and nobody has given a sign of life
    await until_true(lambda: len(office.exchange.dialled) == CALLS_AT_ONCE, "the first calls", 30)
    await asyncio.sleep(0.05)
    assert len(office.exchange.dialled) == CALLS_AT_ONCE
    office.exchange.gate.set()
    meeting = office.house.meetings.by_number("900")
    await until_true(lambda: len(office.exchange.dialled) == 60, "all calls", 60)
    await office.calm()
    assert office.exchange.most_at_once <= CALLS_AT_ONCE
    assert sorted(office.exchange.dialled) == sorted(addresses)
    assert len(meeting.members) == 60


async def test_absent_sites_are_called_again_with_growing_delay_and_those_who_came_are_not(
    office: Office,
) -> None:
    planned = (
        PlannedParticipant("sip:away@192.0.2.1"),
        PlannedParticipant("sip:broken@192.0.2.1"),
        PlannedParticipant("sip:full@192.0.2.1"),
        PlannedParticipant("camera:gate", on_screen=True),
        PlannedParticipant("camera:unknown"),
    )
    await office.schedule(participants=planned, redials=2, duration_minutes=60)
    office.pass_time(3600)
    await until_true(office.open, "the meeting to open", 5)
    await office.calm()
    office.pass_time(2)
    await office.calm()
    meeting = office.house.meetings.by_number("900")
    assert [member.camera for member in meeting.members.values()] == ["gate"]
    assert meeting.view.mode is ViewMode.FULL_SCREEN
    dialled = office.exchange.dialled
    assert sorted(dialled) == ["sip:away@192.0.2.1", "sip:broken@192.0.2.1", "sip:full@192.0.2.1"]
    office.pass_time(25)
    await office.calm()
    assert len(dialled) == 3
    office.pass_time(8)
    await office.calm()
    assert len(dialled) == 6
    office.exchange.at_home.add("sip:away@192.0.2.1")
    office.pass_time(40)
    await office.calm()
    assert len(dialled) == 6
    office.pass_time(25)
    await office.calm()
    assert len(dialled) == 9
    assert {member.caller.address for member in meeting.members.values()} == {
        "camera:gate",
        "sip:away@192.0.2.1",
    }
    office.pass_time(1200)
    await office.calm()
    assert len(dialled) == 9  # twice again was the plan
    async with office.house.database.reading() as tx:
        plan = await PlanRepository(tx).get(meeting.conference_id)
    assert plan is not None
    there = [state.in_as is not None for state in office.calls.states(meeting, plan)]
    assert there == [True, False, False, True, False]


async def test_a_site_is_called_by_its_account_unless_it_dialled_in(office: Office) -> None:
    async with office.house.database.transaction() as tx:
        for name, realm, site in (("hall", "gx", "nanning"), ("elsewhere", "x", "nanning")):
            await SiteRepository(tx).save_sip_account(sip_account(name, realm, "secret word", site))
    sites = (PlannedParticipant(site_id="nanning"), PlannedParticipant(site_id="nation"))
    made = await office.schedule(participants=sites, redials=1)
    meeting = await office.scheduler.open_now(made)
    office.house.meeting = meeting
    await office.house.join("by itself", "nation")
    office.pass_time(1)
    await office.calm()
    assert office.exchange.dialled == ["sip:hall@gx"]
    assert office.exchange.sites == ["nanning"]
    await office.house.join("late", "nanning")
    office.pass_time(60)
    await office.calm()
    assert office.exchange.dialled == ["sip:hall@gx"]


async def test_a_start_while_nobody_ran(office: Office) -> None:
    """Late is late; a meeting whose time has passed is missed, and the next day's waits."""
    late = await office.schedule(number="901")
    daily = await office.schedule(number="902", repeat=Repeat.DAILY)
    start = late.starts_at
    assert start is not None
    office.clock.advance(3600 + 20 * 60)
    office.pass_time(0)
    await until_true(lambda: office.open("901") and office.open("902"), "the late meetings", 5)
    await office.calm()
    following = await office.row(daily.id)
    assert (following.state, following.starts_at) == (ScheduleState.WAITING, start + timedelta(days=1))
    office.clock.advance(3 * 86_400)
    office.pass_time(0)
    await until_true(lambda: not office.open("902"), "yesterday's meeting to end", 5)
    await office.calm()
    following = await office.row(daily.id)
    assert following.detail.startswith("missed: the service was away at")
    assert following.starts_at == start + timedelta(days=4)
    assert not office.open("902")


async def test_a_number_in_use_is_waited_for_and_then_said(office: Office) -> None:
    blocker = await office.house.meetings.open("占用", "nation", number="900")
    made = await office.schedule(duration_minutes=120)
    office.pass_time(3600)
    for _ in range(5):
        await office.calm()
        office.pass_time(100)
    await office.calm()
    row = await office.row(made.id)
    assert row.state is ScheduleState.MISSED
    assert row.detail == "not opened: number 900 belongs to another conference"
    await office.house.meetings.end(blocker.conference_id, "over")


async def test_what_was_changed_or_removed_does_not_open_as_it_was(office: Office) -> None:
    moved, removed = await office.schedule(number="901"), await office.schedule(number="902")
    assert moved.starts_at is not None
    later = replace(moved, starts_at=moved.starts_at + timedelta(hours=1))
    changed = await office.scheduler.change(later)
    assert changed.version == 2
    with pytest.raises(ScheduleChanged):
        await office.scheduler.change(later)
    assert await office.scheduler.remove(removed.id)
    office.pass_time(3600)
    await office.calm()
    assert not office.open("901")
    assert not office.open("902")
    office.pass_time(3600)
    await until_true(lambda: office.open("901"), "the moved meeting", 5)


async def test_an_opening_that_was_cut_off_is_finished_once(
    house: House, clock: FakeClock, database: Database
) -> None:
    """Killed after the meeting's row was written: the next attempt takes the same meeting."""
    first = Office(house, clock)
    made = await first.schedule(participants=(PlannedParticipant("sip:a@192.0.2.1"),))
    start = made.starts_at
    assert start is not None
    half = await house.meetings.open(
        made.title, made.host_site_id, number="900", conference_id=first.scheduler._id_of(made, start)
    )
    clock.advance(3600)
    task = asyncio.create_task(first.scheduler.run())
    await until_true(lambda: bool(first.exchange.dialled), "the call", 5)
    await first.calm()
    assert (await first.row(made.id)).conference_id == half.conference_id
    assert len([m for m in house.meetings.running if m.title == made.title]) == 1
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize(
    ("repeat", "start", "after", "following"),
    [
        (Repeat.DAILY, "2026-03-28T08:00+00:00", "2026-03-28T08:00+00:00", "2026-03-29T07:00+00:00"),
        (Repeat.WEEKLY, "2026-01-05T01:00+00:00", "2026-01-20T00:00+00:00", "2026-01-26T01:00+00:00"),
        (Repeat.DAILY, "2026-01-05T01:00+00:00", "2026-01-20T01:00+00:00", "2026-01-21T01:00+00:00"),
        (Repeat.NONE, "2026-01-05T01:00+00:00", "2026-01-20T01:00+00:00", None),
    ],
)
def test_the_next_start_is_at_the_same_hour_of_the_clock_on_the_wall(
    repeat: Repeat, start: str, after: str, following: str | None
) -> None:
    found = repeat.next_after(
        datetime.fromisoformat(start), datetime.fromisoformat(after), ZoneInfo("Europe/Berlin")
    )
    assert found == (None if following is None else datetime.fromisoformat(following).astimezone(UTC))
