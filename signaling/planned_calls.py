"""Whoever is planned to be in a meeting is called: a few at once, one after the other, again when absent.

    calls = PlannedCalls(meetings=..., dial=sip.dial, cameras=..., realm=..., ...)
    await calls.enqueue(tx, plan)       # with the meeting's other rows
    await calls.run()                   # until cancelled

Every call is a job, CALLS_AT_ONCE of them at work, their first attempts SPACING apart: a hundred sites are no
storm. One that is absent is called again after 30 s, 60 s, 120 s ..., as often as the plan says; one that is
in already, by whatever way, is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from foundation.clock import Clock
from foundation.database import Database, Transaction
from foundation.desk_client import DeskFailed
from foundation.desks import Refusal
from foundation.event_bus import EventBus
from foundation.events import BusReconnected, ParticipantChanged
from foundation.jobs import Job, JobQueue, JobWorker
from foundation.repositories.jobs import JobRepository
from foundation.repositories.schedules import MeetingPlan, PlannedParticipant, PlanRepository
from foundation.repositories.sites import SiteRepository
from signaling.admission import NotAdmitted
from signaling.camera_calls import CameraCalls, CameraOff
from signaling.control.orders import Command, NotAllowed, NotNow, Order
from signaling.meeting import CAMERA, Meeting, Member, MemberState
from signaling.meetings import AlreadyIn, Meetings, UnknownMeeting, UnknownMember
from signaling.sip_dialling import CallFailed

log = structlog.get_logger(__name__)

SCHEDULER = "scheduler"
"""Who acts when nobody does."""
CALL = "call-participant"
CALLS_AT_ONCE = 10
SPACING = timedelta(milliseconds=200)
FIRST_REDIAL = timedelta(seconds=30)
ANSWER_SECONDS = 90.0
"""Longer than any call of ours rings."""


class Absent(Exception):
    """A planned participant could not be had this time; the message says why."""


class Dial(Protocol):
    """Calls somebody and returns while it rings. Raises CallFailed, NotAdmitted, Refusal, UnknownMeeting."""

    def __call__(
        self, conference_id: str, address: str, site_id: str | None, name: str | None
    ) -> Awaitable[Member]: ...


@dataclass(frozen=True, slots=True)
class PlannedState:
    """Where a planned participant stands: `in_as` is its participant's id."""

    planned: PlannedParticipant
    in_as: str | None


class PlannedCalls:
    """See the module's head. `realm` is that of the SIP accounts by which sites are called."""

    def __init__(
        self,
        *,
        meetings: Meetings,
        dial: Dial,
        cameras: CameraCalls,
        database: Database,
        bus: EventBus,
        clock: Clock,
        realm: str,
    ) -> None:
        self._meetings = meetings
        self._dial = dial
        self._cameras = cameras
        self._database = database
        self._bus = bus
        self._clock = clock
        self._realm = realm
        self._jobs = JobQueue(database, bus, clock)

    async def run(self) -> None:
        worker = JobWorker(
            self._database,
            self._bus,
            self._clock,
            {CALL: self._call},
            name="planned-calls",
            concurrency=CALLS_AT_ONCE,
        )
        await worker.run()

    async def enqueue(self, tx: Transaction, plan: MeetingPlan) -> None:
        """The first attempt at each."""
        for index in range(len(plan.participants)):
            await self._attempt(tx, plan.conference_id, index, 0, index * SPACING)

    def states(self, meeting: Meeting, plan: MeetingPlan) -> list[PlannedState]:
        """Who of the plan is in, in its order."""
        return [PlannedState(planned, _in(meeting, planned)) for planned in plan.participants]

    async def _attempt(
        self, tx: Transaction, conference_id: str, index: int, attempt: int, delay: timedelta
    ) -> None:
        payload = {"conference": conference_id, "index": index, "attempt": attempt}
        key = f"{CALL}:{conference_id}:{index}:{attempt}"
        await JobRepository(tx).enqueue(CALL, payload, self._clock.now(), key=key, delay=delay)

    async def _call(self, job: Job) -> None:
        conference_id, index = job.payload["conference"], job.payload["index"]
        async with self._database.reading() as tx:
            plan = await PlanRepository(tx).get(conference_id)
        if plan is None or index >= len(plan.participants):
            return
        planned = plan.participants[index]
        try:
            meeting = self._meetings.meeting(conference_id)
            participant_id = _in(meeting, planned) or await self._bring_in(meeting, planned)
            if planned.on_screen:
                order = Order(Command.FULL_SCREEN, SCHEDULER, participant_id)
                await self._meetings.control.give(conference_id, order)
        except UnknownMeeting:
            return  # over
        except (UnknownMember, NotAllowed, NotNow) as error:
            log.info("not_shown_on_screen", who=planned.address or planned.site_id, why=str(error))
        except (Absent, CallFailed, CameraOff, NotAdmitted, Refusal, DeskFailed) as error:
            await self._again(plan, index, job.payload["attempt"], str(error))

    async def _again(self, plan: MeetingPlan, index: int, attempt: int, why: str) -> None:
        planned = plan.participants[index]
        who = planned.address or planned.site_id
        if attempt >= plan.redials:
            log.warning("planned_participant_absent", meeting=plan.conference_id, who=who, why=why)
            return
        delay = FIRST_REDIAL * 2**attempt
        log.info("planned_participant_redialled", who=who, why=why, seconds=delay.total_seconds())
        async with self._database.transaction() as tx:
            await self._attempt(tx, plan.conference_id, index, attempt + 1, delay)
        self._jobs.announce(CALL)

    async def _bring_in(self, meeting: Meeting, planned: PlannedParticipant) -> str:
        address = planned.address or await self._address_of(planned.site_id)
        if address.startswith(CAMERA):
            return await self._bring_in_camera(meeting, address, planned.name)
        async with self._bus.subscribe(ParticipantChanged, BusReconnected) as events:
            member = await self._dial(meeting.conference_id, address, planned.site_id, planned.name)
            participant_id = member.participant_id
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    while self._meetings.state(participant_id) is MemberState.CALLING:
                        await anext(events)
        if self._meetings.state(participant_id) in (MemberState.CONNECTED, MemberState.SILENT):
            return participant_id
        raise Absent(f"{address} did not answer")

    async def _bring_in_camera(self, meeting: Meeting, address: str, name: str | None) -> str:
        camera = await self._cameras.camera(address.removeprefix(CAMERA))
        if camera is None:
            raise Absent(f"there is no {address}")
        try:
            return (await self._cameras.join(meeting.conference_id, camera, name)).participant_id
        except AlreadyIn as error:
            raise Absent(str(error)) from None

    async def _address_of(self, site_id: str | None) -> str:
        """A site without an address is called by its SIP account; several are tried by their names."""
        async with self._database.reading() as tx:
            accounts = await SiteRepository(tx).sip_accounts()
        names = sorted(
            one.username for one in accounts if one.site_id == site_id and one.realm == self._realm
        )
        if not names:
            raise Absent(f"site {site_id} has no SIP account to be called by, and no address was given")
        return f"sip:{names[0]}@{self._realm}"


def _in(meeting: Meeting, planned: PlannedParticipant) -> str | None:
    """Who of the meeting it is: by its address, else by its site."""
    present = [m for m in meeting.members.values() if m.state is not MemberState.CALLING]
    for member in present:
        if planned.address is not None and member.caller.address == planned.address:
            return member.participant_id
    for member in present:
        cameras = (planned.address or "").startswith(CAMERA) or member.camera is not None
        if planned.site_id is not None and member.caller.site_id == planned.site_id and not cameras:
            return member.participant_id
    return None
