"""Conferences, who takes part, and what happened to them.

ConferenceRepository(tx): add, get, by_number, all, set_state, set_layout, set_control, rename, remove;
                          add_participant, participant, participants, set_participant_state, describe,
                          log, log_of, reasons
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, delete, select, update

from foundation.database import Transaction
from foundation.repositories.participants import (
    LogLine,
    Participant,
    ParticipantEvent,
    ParticipantRows,
    ParticipantState,
)
from foundation.schema import ConferenceRow, ParticipantLogRow, ParticipantRow

__all__ = [
    "Conference",
    "ConferenceRepository",
    "ConferenceState",
    "NumberTaken",
    "Participant",
    "ParticipantEvent",
    "ParticipantState",
]

_Result = TypeVar("_Result")


class ConferenceState(StrEnum):
    SCHEDULED = "scheduled"
    RUNNING = "running"
    ENDED = "ended"


class NumberTaken(ValueError):
    """Another conference that has not ended has this number."""


@dataclass(frozen=True, slots=True)
class Conference:
    """`number` is what terminals dial; it is free again once the conference has ended."""

    id: str
    number: str
    title: str
    host_site_id: str
    created_at: datetime
    state: ConferenceState = ConferenceState.SCHEDULED
    pin_hash: str | None = None
    layout: dict[str, Any] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    control: dict[str, Any] | None = None


class ConferenceRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, conference: Conference) -> None:
        """Raises NumberTaken."""
        if conference.ended_at is None and await self.by_number(conference.number) is not None:
            raise NumberTaken(f"number {conference.number} belongs to another conference")
        self._tx.add(
            ConferenceRow(
                id=conference.id,
                number=conference.number,
                title=conference.title,
                host_site_id=conference.host_site_id,
                pin_hash=conference.pin_hash,
                state=conference.state,
                layout=conference.layout or {},
                control=conference.control,
                created_at=conference.created_at,
                started_at=conference.started_at,
                ended_at=conference.ended_at,
            )
        )
        await self._tx.flush()

    async def get(self, conference_id: str) -> Conference | None:
        row = await self._tx.get(ConferenceRow, conference_id, populate_existing=True)
        return _conference(row) if row else None

    async def by_number(self, number: str) -> Conference | None:
        """The conference that has this number now (not one that has ended)."""
        wanted = select(ConferenceRow).where(ConferenceRow.number == number, ConferenceRow.ended_at.is_(None))
        row = await self._tx.scalar(wanted.execution_options(populate_existing=True))
        return _conference(row) if row else None

    async def all(
        self,
        *,
        states: Collection[ConferenceState] | None = None,
        sites: Collection[str] | None = None,
        limit: int = 1000,
    ) -> tuple[Conference, ...]:
        """Newest first; only those in `states` and hosted by `sites`, where given."""
        wanted = (
            select(ConferenceRow).order_by(ConferenceRow.created_at.desc(), ConferenceRow.id).limit(limit)
        )
        if states is not None:
            wanted = wanted.where(ConferenceRow.state.in_(states))
        if sites is not None:
            wanted = wanted.where(ConferenceRow.host_site_id.in_(sites))
        return tuple(_conference(row) for row in await self._tx.scalars(wanted))

    async def set_state(self, conference_id: str, state: ConferenceState, at: datetime) -> bool:
        """Move on, never back: False when the conference is gone or is in that state or a later one."""
        earlier = {
            ConferenceState.SCHEDULED: (),
            ConferenceState.RUNNING: (ConferenceState.SCHEDULED,),
            ConferenceState.ENDED: (ConferenceState.SCHEDULED, ConferenceState.RUNNING),
        }[state]
        values: dict[str, Any] = {"state": state}
        if state is ConferenceState.RUNNING:
            values["started_at"] = at
        elif state is ConferenceState.ENDED:
            values["ended_at"] = at
        return await self._change(conference_id, values, ConferenceRow.state.in_(earlier))

    async def set_layout(self, conference_id: str, layout: dict[str, Any]) -> bool:
        return await self._change(conference_id, {"layout": layout})

    async def set_control(self, conference_id: str, control: dict[str, Any]) -> bool:
        """What meeting control has decided, as it writes it."""
        return await self._change(conference_id, {"control": control})

    async def rename(self, conference_id: str, title: str) -> bool:
        return await self._change(conference_id, {"title": title})

    async def remove(self, conference_id: str) -> bool:
        """Remove the conference with its participants and their log."""
        gone = delete(ConferenceRow).where(ConferenceRow.id == conference_id).returning(ConferenceRow.id)
        return (await self._tx.execute(gone)).first() is not None

    async def add_participant(self, participant: Participant) -> None:
        await self._step(lambda rows: rows.add(participant))

    async def participant(self, participant_id: str) -> Participant | None:
        row = await self._tx.get(ParticipantRow, participant_id, populate_existing=True)
        return _participant(row) if row else None

    async def participants(self, conference_id: str, *, present: bool = False) -> tuple[Participant, ...]:
        """In the order they were added; `present` leaves out those who left or failed."""
        wanted = (
            select(ParticipantRow)
            .where(ParticipantRow.conference_id == conference_id)
            .order_by(ParticipantRow.created_at, ParticipantRow.id)
        )
        if present:
            wanted = wanted.where(ParticipantRow.state.not_in([s for s in ParticipantState if s.final]))
        rows = await self._tx.scalars(wanted.execution_options(populate_existing=True))
        return tuple(_participant(row) for row in rows)

    async def set_participant_state(self, participant_id: str, state: ParticipantState, at: datetime) -> bool:
        """Set the state and its time, and log it; False when the participant is gone or already final."""
        return await self._step(lambda rows: rows.move(participant_id, state, at))

    async def describe(self, participant_id: str, description: dict[str, Any] | None) -> bool:
        """Replace what recovery needs."""
        return await self._step(lambda rows: rows.describe(participant_id, description))

    async def log(
        self, participant_id: str, event: str, at: datetime, detail: dict[str, Any] | None = None
    ) -> None:
        await self._step(lambda rows: rows.note(participant_id, at, [LogLine(str(event), detail or {})]))

    async def log_of(self, participant_id: str) -> tuple[ParticipantEvent, ...]:
        """What happened to the participant, in order."""
        rows = await self._tx.scalars(
            select(ParticipantLogRow)
            .where(ParticipantLogRow.participant_id == participant_id)
            .order_by(ParticipantLogRow.id)
        )
        return tuple(ParticipantEvent(row.participant_id, row.at, row.event, row.detail) for row in rows)

    async def reasons(self, conference_id: str, participant_id: str | None = None) -> dict[str, str]:
        """The last reason that the log has of each participant, or of one: why it left, or could not come."""
        wanted = (
            select(ParticipantLogRow.participant_id, ParticipantLogRow.detail)
            .join(ParticipantRow, ParticipantRow.id == ParticipantLogRow.participant_id)
            .where(ParticipantRow.conference_id == conference_id, ParticipantLogRow.event == "reason")
            .order_by(ParticipantLogRow.id)
        )
        if participant_id is not None:
            wanted = wanted.where(ParticipantRow.id == participant_id)
        return {whose: str(detail.get("reason")) for whose, detail in await self._tx.execute(wanted)}

    async def _step(self, step: Callable[[ParticipantRows], _Result]) -> _Result:
        connection = await self._tx.connection()
        return await connection.run_sync(lambda plain: step(ParticipantRows(plain)))

    async def _change(
        self, conference_id: str, values: dict[str, Any], *conditions: ColumnElement[bool]
    ) -> bool:
        changed = await self._tx.execute(
            update(ConferenceRow)
            .where(ConferenceRow.id == conference_id, *conditions)
            .values(values)
            .returning(ConferenceRow.id)
        )
        return changed.first() is not None


def _conference(row: ConferenceRow) -> Conference:
    return Conference(
        id=row.id,
        number=row.number,
        title=row.title,
        host_site_id=row.host_site_id,
        created_at=row.created_at,
        state=ConferenceState(row.state),
        pin_hash=row.pin_hash,
        layout=row.layout,
        started_at=row.started_at,
        ended_at=row.ended_at,
        control=row.control,
    )


def _participant(row: ParticipantRow) -> Participant:
    return Participant(
        id=row.id,
        conference_id=row.conference_id,
        name=row.name,
        address=row.address,
        created_at=row.created_at,
        site_id=row.site_id,
        state=ParticipantState(row.state),
        description=row.description,
        joined_at=row.joined_at,
        left_at=row.left_at,
    )
