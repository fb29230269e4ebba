"""Meetings that are held by the clock: opened, called together, warned before their end, ended.

    scheduler = Scheduler(meetings=..., calls=PlannedCalls(...), database=..., bus=..., clock=..., zone=...)
    await scheduler.add(schedule); await scheduler.change(schedule); await scheduler.remove(schedule)
    meeting = await scheduler.open_now(schedule, "ma")
    plan = await scheduler.extend(conference_id, timedelta(minutes=30))
    await scheduler.run()                                   # until cancelled

Everything that is to happen is a job with its time. A job carries what it was made for (a start, an end) and
does nothing once the rows say otherwise, so that a change only ever adds jobs. What came due while nobody
ran is done late: a meeting whose time has passed altogether is missed, and the next one of its kind waits.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import Any

import structlog

from foundation.audit import AuditEntry, AuditTrail
from foundation.clock import Clock
from foundation.database import Database, Transaction
from foundation.event_bus import EventBus
from foundation.events import ConferenceChanged, ConferenceEnding, RecordingChanged
from foundation.jobs import Job, JobQueue, JobWorker
from foundation.repositories.conferences import NumberTaken
from foundation.repositories.jobs import JobRepository
from foundation.repositories.recording_orders import GivenOrder, OrderRepository
from foundation.repositories.recordings import RecordingKind
from foundation.repositories.schedules import (
    MeetingPlan,
    PlanRepository,
    Schedule,
    ScheduleRepository,
    ScheduleState,
)
from signaling.control.orders import Command, Order
from signaling.control.state import Lobby
from signaling.meeting import Meeting
from signaling.meetings import Meetings, UnknownMeeting
from signaling.planned_calls import CALL, SCHEDULER, PlannedCalls

log = structlog.get_logger(__name__)

OPEN, WARN, END = "open-meeting", "warn-of-end", "end-meeting"
WARNING = timedelta(minutes=5)
OPEN_ATTEMPTS = 5
LONGEST = timedelta(hours=48)
"""No meeting is extended beyond this from now: whoever means it may do it again."""
_IDS = uuid.UUID("1f0e9d52-55a4-4f0e-9f43-6a0f6f0f7c1b")


class NoPlan(Exception):
    """The meeting has no end that could be moved."""


class TooLong(Exception):
    """Nobody means a meeting of that length."""


class Scheduler:
    """`zone` is whose wall clock counts; `record` tells of an order to record, None where nothing records."""

    def __init__(
        self,
        *,
        meetings: Meetings,
        calls: PlannedCalls,
        database: Database,
        bus: EventBus,
        clock: Clock,
        zone: tzinfo,
        record: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._meetings = meetings
        self._calls = calls
        self._database = database
        self._bus = bus
        self._clock = clock
        self._zone = zone
        self._record = record
        self._jobs = JobQueue(database, bus, clock)

    async def run(self) -> None:
        """Work off what is due, until cancelled."""
        handlers = {OPEN: self._open, WARN: self._warn, END: self._end}
        clock = JobWorker(self._database, self._bus, self._clock, handlers, name="schedules", concurrency=4)
        async with asyncio.TaskGroup() as group:
            group.create_task(clock.run(), name="schedules")
            group.create_task(self._calls.run(), name="planned calls")

    # --- what operators do --------------------------------------------------------------------------

    async def add(self, schedule: Schedule) -> None:
        async with self._database.transaction() as tx:
            await ScheduleRepository(tx).add(schedule)
            await self._wait_for(tx, schedule)
        self._jobs.announce(OPEN)

    async def change(self, schedule: Schedule) -> Schedule:
        """Raises ScheduleChanged."""
        async with self._database.transaction() as tx:
            changed = await ScheduleRepository(tx).change(schedule)
            await self._wait_for(tx, changed)
        self._jobs.announce(OPEN)
        return changed

    async def remove(self, schedule_id: str) -> bool:
        """A meeting of it that runs goes on."""
        async with self._database.transaction() as tx:
            return await ScheduleRepository(tx).remove(schedule_id)

    async def open_now(self, schedule: Schedule) -> Meeting:
        """A meeting after this pattern, now; its times to come stay. Raises NumberTaken."""
        now = self._clock.now()
        return await self._hold(schedule, self._id_of(schedule, now), now + schedule.duration)

    async def extend(self, conference_id: str, by: timedelta) -> MeetingPlan:
        """Move the end of a running meeting. Raises UnknownMeeting, NoPlan, TooLong."""
        self._meetings.meeting(conference_id)
        async with self._database.transaction() as tx:
            plan = await PlanRepository(tx).get(conference_id)
            if plan is None:
                raise NoPlan(f"conference {conference_id} was not scheduled: it has no end to move")
            now = self._clock.now()
            later = replace(plan, ends_at=max(plan.ends_at, now) + by)
            if later.ends_at - now > LONGEST:
                raise TooLong(f"the meeting would last until {later.ends_at:%Y-%m-%d %H:%M} UTC")
            await PlanRepository(tx).extend(conference_id, later.ends_at)
            await self._watch_end(tx, later)
        self._announce()
        self._bus.publish(ConferenceChanged(conference_id))
        return later

    # --- jobs ---------------------------------------------------------------------------------------

    async def _wait_for(self, tx: Transaction, schedule: Schedule) -> None:
        if schedule.state is ScheduleState.WAITING and schedule.starts_at is not None:
            start = schedule.starts_at.isoformat()
            payload = {"schedule": schedule.id, "at": start}
            await self._at(tx, OPEN, payload, f"{schedule.id}:{start}", schedule.starts_at, OPEN_ATTEMPTS)

    async def _watch_end(self, tx: Transaction, plan: MeetingPlan) -> None:
        ends = plan.ends_at.isoformat()
        payload = {"conference": plan.conference_id, "ends_at": ends}
        key = f"{plan.conference_id}:{ends}"
        await self._at(tx, WARN, payload, key, plan.ends_at - WARNING)
        if plan.ends_by_itself:
            await self._at(tx, END, payload, key, plan.ends_at)

    async def _at(
        self, tx: Transaction, kind: str, payload: dict[str, Any], key: str, at: datetime, attempts: int = 5
    ) -> None:
        now = self._clock.now()
        await JobRepository(tx).enqueue(
            kind, payload, now, key=f"{kind}:{key}", delay=max(at - now, timedelta(0)), max_attempts=attempts
        )

    def _announce(self) -> None:
        for kind in (OPEN, WARN, END, CALL):
            self._jobs.announce(kind)

    async def _open(self, job: Job) -> None:
        async with self._database.reading() as tx:
            schedule = await ScheduleRepository(tx).get(job.payload["schedule"])
        start = datetime.fromisoformat(job.payload["at"])
        if schedule is None or schedule.state is not ScheduleState.WAITING or schedule.starts_at != start:
            return
        if start + schedule.duration <= self._clock.now():
            log.warning("scheduled_meeting_missed", schedule=schedule.id, title=schedule.title)
            detail = f"missed: the service was away at {start:%Y-%m-%d %H:%M} UTC"
            await self._next(schedule, ScheduleState.MISSED, detail)
            return
        conference_id = self._id_of(schedule, start)
        try:
            if not await self._held(conference_id):
                await self._hold(schedule, conference_id, start + schedule.duration)
        except NumberTaken as error:
            if job.attempts < job.max_attempts:
                raise
            log.error("scheduled_meeting_not_opened", schedule=schedule.id, why=str(error))
            await self._next(schedule, ScheduleState.MISSED, f"not opened: {error}")
            return
        await self._next(schedule, ScheduleState.DONE, "", conference_id)

    async def _warn(self, job: Job) -> None:
        plan = await self._still(job)
        if plan is not None:
            self._bus.publish(ConferenceEnding(plan.conference_id, plan.ends_at.isoformat()))

    async def _end(self, job: Job) -> None:
        plan = await self._still(job)
        if plan is None:
            return
        await self._meetings.end(plan.conference_id, "its time is over")
        await self._audit(AuditEntry(SCHEDULER, "end-conference", f"conference:{plan.conference_id}"))

    async def _still(self, job: Job) -> MeetingPlan | None:
        """The plan, if the meeting runs and its end is still the one the job was made for."""
        conference_id = job.payload["conference"]
        try:
            self._meetings.meeting(conference_id)
        except UnknownMeeting:
            return None
        async with self._database.reading() as tx:
            plan = await PlanRepository(tx).get(conference_id)
        ends_at = datetime.fromisoformat(job.payload["ends_at"])
        return plan if plan is not None and plan.ends_at == ends_at else None

    # --- steps --------------------------------------------------------------------------------------

    def _id_of(self, schedule: Schedule, start: datetime) -> str:
        """The same for the same start: a job that is done twice opens one meeting."""
        return uuid.uuid5(_IDS, f"{schedule.id} {start.isoformat()}").hex

    async def _held(self, conference_id: str) -> bool:
        """An earlier attempt at the job came to its end; the meeting may be over by now."""
        async with self._database.reading() as tx:
            return await PlanRepository(tx).get(conference_id) is not None

    async def _hold(self, schedule: Schedule, conference_id: str, ends_at: datetime) -> Meeting:
        """The meeting is open, its end is watched, its participants are called. Raises NumberTaken."""
        try:
            meeting = self._meetings.meeting(conference_id)
        except UnknownMeeting:
            meeting = await self._meetings.open(
                schedule.title,
                schedule.host_site_id,
                number=schedule.number,
                pin_hash=schedule.pin_hash,
                conference_id=conference_id,
            )
        if schedule.lobby != Lobby.OFF:  # before anybody is called
            order = Order(Command.LOBBY, SCHEDULER, lobby=Lobby(schedule.lobby))
            await self._meetings.control.give(conference_id, order)
        plan = MeetingPlan(
            conference_id,
            schedule.id,
            ends_at,
            schedule.ends_by_itself,
            schedule.redials,
            schedule.participants,
        )
        async with self._database.transaction() as tx:
            if await PlanRepository(tx).get(conference_id) is not None:
                return meeting
            await PlanRepository(tx).add(plan)
            await self._watch_end(tx, plan)
            if schedule.auto_dial:
                await self._calls.enqueue(tx, plan)
            if schedule.auto_record and self._record is not None:
                await self._order(tx, schedule, conference_id)
            detail = {"schedule": schedule.id, "title": schedule.title}
            subject = f"conference:{conference_id}"
            await AuditTrail(tx, self._clock).append(
                AuditEntry(SCHEDULER, "open-conference", subject, detail=detail)
            )
        self._announce()
        if schedule.auto_record and self._record is not None:
            self._bus.publish(
                RecordingChanged(str(RecordingKind.CONFERENCE), conference_id, schedule.host_site_id)
            )
            await self._record()
        log.info("scheduled_meeting_open", schedule=schedule.id, meeting=meeting.number)
        return meeting

    async def _order(self, tx: Transaction, schedule: Schedule, conference_id: str) -> None:
        order = GivenOrder(
            RecordingKind.CONFERENCE,
            conference_id,
            schedule.host_site_id,
            schedule.created_by,
            self._clock.now(),
        )
        await OrderRepository(tx).give(order)

    async def _next(
        self, schedule: Schedule, state: ScheduleState, detail: str, conference_id: str | None = None
    ) -> None:
        """The present start is dealt with; wait for the next one, if there is one."""
        start = schedule.starts_at
        assert start is not None, "only what has a start is opened"
        following = schedule.repeat.next_after(start, max(start, self._clock.now()), self._zone)
        after = replace(
            schedule,
            starts_at=following or start,
            state=state if following is None else ScheduleState.WAITING,
            detail=detail,
            conference_id=conference_id or schedule.conference_id,
        )
        await self.change(after)

    async def _audit(self, entry: AuditEntry) -> None:
        async with self._database.transaction() as tx:
            await AuditTrail(tx, self._clock).append(entry)
