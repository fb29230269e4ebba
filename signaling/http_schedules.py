"""Scheduled meetings and templates over HTTP, and the end of running ones."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Action, Authorisation, Resource
from foundation.clock import Clock
from foundation.database import Database
from foundation.http_edge import Exchange, Problem, Route, bad_request, conflict, forbidden, not_found
from foundation.passwords import Passwords
from foundation.repositories.conferences import NumberTaken
from foundation.repositories.schedules import (
    MeetingPlan,
    PlannedParticipant,
    PlanRepository,
    Repeat,
    Schedule,
    ScheduleChanged,
    ScheduleRepository,
    ScheduleState,
)
from foundation.schema import new_id
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.telephone import is_dialled
from protocols.sip.uri import SipUri
from signaling.camera_calls import CameraCalls
from signaling.control.state import Lobby
from signaling.meeting import CAMERA
from signaling.meeting_history import MeetingHistory
from signaling.meetings import Meetings, UnknownMeeting
from signaling.planned_calls import PlannedCalls
from signaling.schedule_bodies import (
    Extension,
    NewSchedule,
    OpenedOut,
    PlannedBody,
    PlannedOut,
    PlannedStateOut,
    PlanOut,
    ScheduleOut,
    SchedulePatch,
)
from signaling.schedules import NoPlan, Scheduler, TooLong

SCHEDULES = "/api/v1/schedules"
CONFERENCES = "/api/v1/conferences"
LATE = timedelta(minutes=1)
"""A start that is so long past is a mistake, not a slow form."""


class ScheduleRoutes:
    """The handlers; `routes` is their table."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        calls: PlannedCalls,
        meetings: Meetings,
        history: MeetingHistory,
        cameras: CameraCalls,
        database: Database,
        clock: Clock,
        authorisation: Authorisation,
        passwords: Passwords,
    ) -> None:
        self._scheduler = scheduler
        self._calls = calls
        self._meetings = meetings
        self._history = history
        self._cameras = cameras
        self._database = database
        self._clock = clock
        self._authorisation = authorisation
        self._passwords = passwords

    @property
    def routes(self) -> tuple[Route, ...]:
        one, here, there = f"{SCHEDULES}/{{id}}", self._here, self._conference
        create, view, operate = (
            Action.CREATE_CONFERENCE,
            Action.VIEW_CONFERENCES,
            Action.OPERATE_CONFERENCE,
        )
        plan, extend = f"{CONFERENCES}/{{id}}/plan", f"{CONFERENCES}/{{id}}/extend"
        return (
            Route(
                "GET",
                SCHEDULES,
                self.all,
                "Scheduled meetings and templates",
                view,
                returns=list[ScheduleOut],
                filtered=True,
            ),
            Route(
                "POST",
                SCHEDULES,
                self.add,
                "Schedule a meeting, or keep a template",
                create,
                self._new,
                body=NewSchedule,
                returns=ScheduleOut,
                status=201,
            ),
            Route("GET", one, self.show, "One schedule", view, here, returns=ScheduleOut),
            Route(
                "PATCH", one, self.change, "Change it", create, here, body=SchedulePatch, returns=ScheduleOut
            ),
            Route("DELETE", one, self.remove, "Remove it", create, here, status=204),
            Route(
                "POST",
                f"{one}/open",
                self.open,
                "Open a meeting after it, now",
                create,
                here,
                returns=OpenedOut,
                status=201,
            ),
            Route("GET", plan, self.plan, "A scheduled meeting's end", view, there, returns=PlanOut),
            Route("POST", extend, self.extend, "Extend it", operate, there, body=Extension, returns=PlanOut),
        )

    # --- permission's resources ---------------------------------------------------------------------

    async def _new(self, exchange: Exchange) -> Resource:
        host = exchange.parsed(NewSchedule).host_site_id
        return Resource("conference", None, host or exchange.who.site_id)

    async def _here(self, exchange: Exchange) -> Resource:
        schedule = await self._schedule(exchange)
        return Resource("schedule", schedule.id, schedule.host_site_id)

    async def _conference(self, exchange: Exchange) -> Resource:
        conference_id = exchange.path["id"]
        site = await self._history.host_site(conference_id)
        if site is None:
            raise not_found(f"there is no conference {conference_id}")
        return Resource("conference", conference_id, site)

    # --- schedules ----------------------------------------------------------------------------------

    async def all(self, exchange: Exchange) -> list[ScheduleOut]:
        sites = self._authorisation.sites(exchange.who, Action.VIEW_CONFERENCES)
        async with self._database.reading() as tx:
            return [_out(one) for one in await ScheduleRepository(tx).all(sites)]

    async def show(self, exchange: Exchange) -> ScheduleOut:
        return _out(await self._schedule(exchange))

    async def add(self, exchange: Exchange) -> ScheduleOut:
        wanted = exchange.parsed(NewSchedule)
        host = wanted.host_site_id or exchange.who.site_id
        if host not in self._authorisation.tree:
            raise bad_request(f"host_site_id: there is no site {host!r}")
        schedule = Schedule(
            id=new_id(),
            title=wanted.title,
            host_site_id=host,
            duration_minutes=wanted.duration_minutes,
            created_by=exchange.name,
            created_at=self._clock.now(),
            starts_at=self._start(wanted.starts_at),
            number=wanted.number,
            pin_hash=None if wanted.pin is None else await self._passwords.hash(wanted.pin),
            repeat=Repeat(wanted.repeat),
            participants=await self._participants(exchange, wanted.participants),
            auto_record=wanted.auto_record,
            auto_dial=wanted.auto_dial,
            ends_by_itself=wanted.ends_by_itself,
            redials=wanted.redials,
            lobby=wanted.lobby,
        )
        schedule = _in_state(schedule)
        await self._scheduler.add(schedule)
        await self._audit(exchange, "add-schedule", schedule)
        return _out(schedule)

    async def change(self, exchange: Exchange) -> ScheduleOut:
        wanted = exchange.parsed(SchedulePatch)
        schedule = await self._schedule(exchange)
        given = wanted.model_fields_set
        changes: dict[str, Any] = {
            key: getattr(wanted, key) for key in _PLAIN if getattr(wanted, key) is not None
        }
        if "number" in given:
            changes["number"] = wanted.number
        if "pin" in given:
            changes["pin_hash"] = None if wanted.pin is None else await self._passwords.hash(wanted.pin)
        if "starts_at" in given and wanted.starts_at != schedule.starts_at:
            changes["starts_at"] = self._start(wanted.starts_at)
        if wanted.repeat is not None:
            changes["repeat"] = Repeat(wanted.repeat)
        if wanted.participants is not None:
            changes["participants"] = await self._participants(exchange, wanted.participants)
        changed = replace(schedule, **changes, version=wanted.version)
        if "starts_at" in changes:
            changed = _in_state(changed)
        elif "repeat" in changes and schedule.state in (ScheduleState.DONE, ScheduleState.MISSED):
            raise conflict("it is over: give it a new starts_at as well")
        try:
            changed = await self._scheduler.change(changed)
        except ScheduleChanged as error:
            raise conflict(f"{error}; the present version is {schedule.version}") from None
        await self._audit(exchange, "change-schedule", changed, {"fields": sorted(given - {"version"})})
        return _out(changed)

    async def remove(self, exchange: Exchange) -> None:
        schedule = await self._schedule(exchange)
        await self._scheduler.remove(schedule.id)
        await self._audit(exchange, "remove-schedule", schedule)

    async def open(self, exchange: Exchange) -> OpenedOut:
        schedule = await self._schedule(exchange)
        try:
            meeting = await self._scheduler.open_now(schedule)
        except NumberTaken as error:
            raise Problem(409, "Number taken", str(error)) from None
        await self._audit(exchange, "open-schedule", schedule, {"conference": meeting.conference_id})
        return OpenedOut(conference_id=meeting.conference_id, number=meeting.number)

    # --- the end of running meetings ------------------------------------------------------------------

    async def plan(self, exchange: Exchange) -> PlanOut:
        async with self._database.reading() as tx:
            plan = await PlanRepository(tx).get(exchange.path["id"])
        if plan is None:
            raise not_found(f"conference {exchange.path['id']} was not scheduled: it has no plan")
        return self._plan_out(plan)

    async def extend(self, exchange: Exchange) -> PlanOut:
        conference_id, minutes = exchange.path["id"], exchange.parsed(Extension).minutes
        try:
            plan = await self._scheduler.extend(conference_id, timedelta(minutes=minutes))
        except UnknownMeeting as error:
            raise not_found(str(error)) from None
        except NoPlan as error:
            raise conflict(str(error)) from None
        except TooLong as error:
            raise bad_request(f"minutes: {error}") from None
        detail = {"minutes": minutes, "ends_at": plan.ends_at.isoformat()}
        subject = f"conference:{conference_id}"
        await self._history.audit(
            AuditEntry(exchange.name, "extend", subject, address=exchange.address, detail=detail)
        )
        return self._plan_out(plan)

    # --- helpers ------------------------------------------------------------------------------------

    async def _schedule(self, exchange: Exchange) -> Schedule:
        async with self._database.reading() as tx:
            schedule = await ScheduleRepository(tx).get(exchange.path["id"])
        if schedule is None:
            raise not_found(f"there is no schedule {exchange.path['id']}")
        return schedule

    def _start(self, wanted: datetime | None) -> datetime | None:
        if wanted is None:
            return None
        if wanted < self._clock.now() - LATE:
            raise bad_request(f"starts_at: {wanted.isoformat()} is past")
        return wanted.astimezone(UTC)

    async def _participants(
        self, exchange: Exchange, wanted: list[PlannedBody]
    ) -> tuple[PlannedParticipant, ...]:
        seen: set[tuple[str | None, str | None]] = set()
        for number, one in enumerate(wanted, start=1):
            where = f"participant {number}"
            if (one.address, one.site_id if one.address is None else None) in seen:
                raise bad_request(f"{where}: {one.address or one.site_id} is there twice")
            seen.add((one.address, one.site_id if one.address is None else None))
            if one.site_id is not None and one.site_id not in self._authorisation.tree:
                raise bad_request(f"{where}: there is no site {one.site_id!r}")
            if one.address is not None:
                await self._check(exchange, where, one.address)
        return tuple(PlannedParticipant(**one.model_dump()) for one in wanted)

    async def _check(self, exchange: Exchange, where: str, address: str) -> None:
        """Whoever plans a camera into a meeting must be allowed to see it, too."""
        if address.startswith(CAMERA):
            camera = await self._cameras.camera(address.removeprefix(CAMERA))
            if camera is None:
                raise bad_request(f"{where}: there is no {address}")
            place = Resource("camera", camera.camera_id, camera.site_id)
            decision = self._authorisation.allowed(exchange.who, Action.VIEW_CAMERA, place)
            if not decision:
                raise forbidden(f"{where}: {decision.reason}")
            return
        if is_dialled(address):
            return
        try:
            SipUri.parse(address)
        except SipSyntaxError as error:
            raise bad_request(f"{where}: {address!r} cannot be called: {error}") from None

    def _plan_out(self, plan: MeetingPlan) -> PlanOut:
        try:
            states = self._calls.states(self._meetings.meeting(plan.conference_id), plan)
            present = [state.in_as for state in states]
        except UnknownMeeting:
            present = [None] * len(plan.participants)
        return PlanOut(
            conference_id=plan.conference_id,
            schedule_id=plan.schedule_id,
            ends_at=plan.ends_at,
            ends_by_itself=plan.ends_by_itself,
            participants=[
                PlannedStateOut(**asdict(planned), participant_id=in_as)
                for planned, in_as in zip(plan.participants, present, strict=True)
            ],
        )

    async def _audit(
        self, exchange: Exchange, action: str, schedule: Schedule, detail: dict[str, Any] | None = None
    ) -> None:
        about = {"title": schedule.title, **(detail or {})}
        subject = f"schedule:{schedule.id}"
        entry = AuditEntry(exchange.name, action, subject, address=exchange.address, detail=about)
        async with self._database.transaction() as tx:
            await AuditTrail(tx, self._clock).append(entry)


_PLAIN = ("title", "duration_minutes", "auto_record", "auto_dial", "ends_by_itself", "redials", "lobby")


def _in_state(schedule: Schedule) -> Schedule:
    """As it is when its start was just given or taken away."""
    state = ScheduleState.TEMPLATE if schedule.starts_at is None else ScheduleState.WAITING
    return replace(schedule, state=state, detail="")


def _out(schedule: Schedule) -> ScheduleOut:
    return ScheduleOut(
        id=schedule.id,
        title=schedule.title,
        host_site_id=schedule.host_site_id,
        number=schedule.number,
        has_pin=schedule.pin_hash is not None,
        starts_at=schedule.starts_at,
        duration_minutes=schedule.duration_minutes,
        repeat=schedule.repeat.value,
        participants=[PlannedOut(**asdict(one)) for one in schedule.participants],
        auto_record=schedule.auto_record,
        auto_dial=schedule.auto_dial,
        ends_by_itself=schedule.ends_by_itself,
        redials=schedule.redials,
        lobby=Lobby(schedule.lobby).value,
        state=schedule.state.value,
        detail=schedule.detail,
        conference_id=schedule.conference_id,
        created_by=schedule.created_by,
        created_at=schedule.created_at,
        version=schedule.version,
    )
