"""Meetings and participants as the rows tell them, running and past, for pages and outside tools."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import msgspec

from foundation.audit import AuditEntry, AuditTrail
from foundation.clock import Clock
from foundation.database import Database
from foundation.desks import View
from foundation.repositories.conferences import Conference, ConferenceRepository, Participant
from signaling.meeting import CallRecord


@dataclass(frozen=True, slots=True)
class ConferenceEntry:
    id: str
    number: str
    title: str
    state: str
    host_site_id: str
    view: View
    has_pin: bool
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ParticipantEntry:
    id: str
    name: str
    site_id: str | None
    address: str
    record: CallRecord | None
    joined_at: datetime | None
    left_at: datetime | None
    reason: str | None


class MeetingHistory:
    """Reads; and appends the audit rows of what operators did."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def conferences(self, sites: Collection[str]) -> list[ConferenceEntry]:
        """Those hosted by `sites`, newest first."""
        async with self._database.reading() as tx:
            rows = await ConferenceRepository(tx).all(sites=sites, limit=200)
        return [_conference(row) for row in rows]

    async def conference(self, conference_id: str) -> ConferenceEntry | None:
        async with self._database.reading() as tx:
            row = await ConferenceRepository(tx).get(conference_id)
        return None if row is None else _conference(row)

    async def host_site(self, conference_id: str) -> str | None:
        """The site that hosts a conference: where permission to see it lies."""
        entry = await self.conference(conference_id)
        return None if entry is None else entry.host_site_id

    async def participants(self, conference_id: str) -> list[ParticipantEntry]:
        """All who were ever called or came, in the order they were added."""
        async with self._database.reading() as tx:
            conferences = ConferenceRepository(tx)
            rows = await conferences.participants(conference_id)
            reasons = await conferences.reasons(conference_id)
        return [_participant(row, reasons.get(row.id)) for row in rows]

    async def participant(self, participant_id: str) -> ParticipantEntry | None:
        async with self._database.reading() as tx:
            conferences = ConferenceRepository(tx)
            row = await conferences.participant(participant_id)
            if row is None:
                return None
            return _participant(row, (await conferences.reasons(row.conference_id, row.id)).get(row.id))

    async def audit(self, entry: AuditEntry) -> None:
        async with self._database.transaction() as tx:
            await AuditTrail(tx, self._clock).append(entry)


def _conference(row: Conference) -> ConferenceEntry:
    return ConferenceEntry(
        id=row.id,
        number=row.number,
        title=row.title,
        state=row.state.value,
        host_site_id=row.host_site_id,
        view=msgspec.convert(row.layout, View) if row.layout else View(),
        has_pin=row.pin_hash is not None,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def _participant(row: Participant, reason: str | None) -> ParticipantEntry:
    return ParticipantEntry(
        id=row.id,
        name=row.name,
        site_id=row.site_id,
        address=row.address,
        record=None if row.description is None else CallRecord.from_json(row.description),
        joined_at=row.joined_at,
        left_at=row.left_at,
        reason=reason if row.state.final else None,
    )
