"""Meetings that are to be held, templates of them, and the plans of those that run.

ScheduleRepository(tx): add, change, get, all, waiting, remove
PlanRepository(tx): add, get, extend
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, select, update

from foundation.database import Transaction
from foundation.schema import MeetingPlanRow, ScheduleRow

__all__ = [
    "MeetingPlan",
    "PlanRepository",
    "PlannedParticipant",
    "Repeat",
    "Schedule",
    "ScheduleChanged",
    "ScheduleRepository",
    "ScheduleState",
]


class Repeat(StrEnum):
    NONE = "none"
    DAILY = "daily"
    WEEKLY = "weekly"

    def next_after(self, start: datetime, after: datetime, zone: tzinfo) -> datetime | None:
        """The next start later than `after`, at the same hour of the wall clock in `zone`."""
        if self is Repeat.NONE:
            return None
        step = timedelta(days=1 if self is Repeat.DAILY else 7)
        following = start.astimezone(zone) + step * max(1, (after - start) // step)
        while following.astimezone(UTC) <= after:  # `+` is on the wall clock, whatever summer time does
            following += step
        return following.astimezone(UTC)


class ScheduleState(StrEnum):
    """A TEMPLATE has no start; DONE and MISSED have no further one."""

    TEMPLATE = "template"
    WAITING = "waiting"
    DONE = "done"
    MISSED = "missed"


class ScheduleChanged(ValueError):
    """Somebody else changed the schedule meanwhile."""


@dataclass(frozen=True, slots=True)
class PlannedParticipant:
    """Who is to be called: by `address`, or as the site whose terminal it is, or both.

    `on_screen`: everybody sees this one full screen as soon as it is in.
    """

    address: str | None = None
    site_id: str | None = None
    name: str | None = None
    on_screen: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Schedule:
    """See ScheduleRow. `version` grows with each change; `lobby` is a word of meeting control."""

    id: str
    title: str
    host_site_id: str
    duration_minutes: int
    created_by: str
    created_at: datetime
    starts_at: datetime | None = None
    number: str | None = None
    pin_hash: str | None = None
    repeat: Repeat = Repeat.NONE
    participants: tuple[PlannedParticipant, ...] = ()
    auto_record: bool = False
    auto_dial: bool = True
    ends_by_itself: bool = True
    redials: int = 3
    lobby: str = "off"
    state: ScheduleState = ScheduleState.TEMPLATE
    detail: str = ""
    conference_id: str | None = None
    version: int = 1

    @property
    def duration(self) -> timedelta:
        return timedelta(minutes=self.duration_minutes)


@dataclass(frozen=True, slots=True)
class MeetingPlan:
    """Until when a running meeting goes on, and who is called into it."""

    conference_id: str
    schedule_id: str | None
    ends_at: datetime
    ends_by_itself: bool
    redials: int
    participants: tuple[PlannedParticipant, ...] = ()


class ScheduleRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, schedule: Schedule) -> None:
        self._tx.add(ScheduleRow(id=schedule.id, **_values(schedule), version=schedule.version))
        await self._tx.flush()

    async def change(self, schedule: Schedule) -> Schedule:
        """Write all of it over the version it was made from. Raises ScheduleChanged."""
        changed = await self._tx.execute(
            update(ScheduleRow)
            .where(ScheduleRow.id == schedule.id, ScheduleRow.version == schedule.version)
            .values(**_values(schedule), version=schedule.version + 1)
            .returning(ScheduleRow)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        row = changed.scalar_one_or_none()
        if row is None:
            raise ScheduleChanged(f"schedule {schedule.id} was changed or removed by somebody else meanwhile")
        return _schedule(row)

    async def get(self, schedule_id: str) -> Schedule | None:
        row = await self._tx.get(ScheduleRow, schedule_id, populate_existing=True)
        return None if row is None else _schedule(row)

    async def all(self, sites: Collection[str], limit: int = 1000) -> tuple[Schedule, ...]:
        """Those hosted by `sites`: the next first, then templates and what is over."""
        query = (
            select(ScheduleRow)
            .where(ScheduleRow.host_site_id.in_(sites))
            .order_by(
                (ScheduleRow.state != ScheduleState.WAITING), ScheduleRow.starts_at, ScheduleRow.created_at
            )
            .limit(limit)
        )
        return tuple(_schedule(row) for row in await self._tx.scalars(query))

    async def waiting(self) -> tuple[Schedule, ...]:
        """All that have a start to come."""
        query = select(ScheduleRow).where(ScheduleRow.state == ScheduleState.WAITING)
        return tuple(_schedule(row) for row in await self._tx.scalars(query))

    async def remove(self, schedule_id: str) -> bool:
        gone = delete(ScheduleRow).where(ScheduleRow.id == schedule_id).returning(ScheduleRow.id)
        return (await self._tx.execute(gone)).first() is not None


class PlanRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, plan: MeetingPlan) -> None:
        self._tx.add(
            MeetingPlanRow(
                conference_id=plan.conference_id,
                schedule_id=plan.schedule_id,
                ends_at=plan.ends_at,
                ends_by_itself=plan.ends_by_itself,
                redials=plan.redials,
                participants=[one.to_json() for one in plan.participants],
            )
        )
        await self._tx.flush()

    async def get(self, conference_id: str) -> MeetingPlan | None:
        row = await self._tx.get(MeetingPlanRow, conference_id, populate_existing=True)
        if row is None:
            return None
        return MeetingPlan(
            row.conference_id,
            row.schedule_id,
            row.ends_at,
            row.ends_by_itself,
            row.redials,
            tuple(PlannedParticipant(**one) for one in row.participants),
        )

    async def extend(self, conference_id: str, ends_at: datetime) -> None:
        await self._tx.execute(
            update(MeetingPlanRow)
            .where(MeetingPlanRow.conference_id == conference_id)
            .values(ends_at=ends_at)
            .execution_options(synchronize_session=False)
        )


def _values(schedule: Schedule) -> dict[str, Any]:
    return {
        "title": schedule.title,
        "host_site_id": schedule.host_site_id,
        "number": schedule.number,
        "pin_hash": schedule.pin_hash,
        "starts_at": schedule.starts_at,
        "duration_minutes": schedule.duration_minutes,
        "repeat": str(schedule.repeat),
        "participants": [one.to_json() for one in schedule.participants],
        "auto_record": schedule.auto_record,
        "auto_dial": schedule.auto_dial,
        "ends_by_itself": schedule.ends_by_itself,
        "redials": schedule.redials,
        "lobby": schedule.lobby,
        "state": str(schedule.state),
        "detail": schedule.detail[:500],
        "conference_id": schedule.conference_id,
        "created_by": schedule.created_by,
        "created_at": schedule.created_at,
    }


def _schedule(row: ScheduleRow) -> Schedule:
    return Schedule(
        id=row.id,
        title=row.title,
        host_site_id=row.host_site_id,
        duration_minutes=row.duration_minutes,
        created_by=row.created_by,
        created_at=row.created_at,
        starts_at=row.starts_at,
        number=row.number,
        pin_hash=row.pin_hash,
        repeat=Repeat(row.repeat),
        participants=tuple(PlannedParticipant(**one) for one in row.participants),
        auto_record=row.auto_record,
        auto_dial=row.auto_dial,
        ends_by_itself=row.ends_by_itself,
        redials=row.redials,
        lobby=row.lobby,
        state=ScheduleState(row.state),
        detail=row.detail,
        conference_id=row.conference_id,
        version=row.version,
    )
