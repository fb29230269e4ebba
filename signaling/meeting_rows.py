"""Meetings and participants as rows: written before anything is announced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from foundation.audit import AuditEntry, AuditTrail
from foundation.clock import Clock
from foundation.database import Database
from foundation.desks import View
from foundation.repositories.conferences import Conference, ConferenceRepository, ConferenceState
from foundation.repositories.participants import LogLine, Participant, ParticipantRows, ParticipantState
from foundation.repositories.roll_calls import RollCallRecord, RollCallRepository
from signaling.call_quality import QUALITY, CallQuality
from signaling.control.state import ControlState
from signaling.meeting import Access, Caller, CallRecord, Meeting, Member, MemberState


class MeetingRows:
    """What meeting control writes; each method is one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def running(self) -> list[Meeting]:
        """The meetings that were running when the rows were last written, oldest first."""
        async with self._database.reading() as tx:
            rows = await ConferenceRepository(tx).all(states=[ConferenceState.RUNNING])
        return [_meeting(row) for row in reversed(rows)]

    def now(self) -> str:
        """The time as control writes it: ISO 8601 in UTC."""
        return self._clock.now().isoformat()

    async def controlled(
        self, conference_id: str, state: ControlState, view: View, muted: Sequence[Member]
    ) -> None:
        """What was decided, what is seen, whose sound changed; and the roll call's record."""
        async with self._database.transaction() as tx:
            conferences = ConferenceRepository(tx)
            await conferences.set_layout(conference_id, msgspec.to_builtins(view))
            await conferences.set_control(conference_id, state.to_json())
            for member in muted:
                await conferences.describe(member.participant_id, member.record.to_json())
            calls = RollCallRepository(tx)
            under_way = None if state.roll_call is None else state.roll_call.id
            await calls.close(conference_id, self._clock.now(), but=under_way)
            if state.roll_call is not None:
                await calls.save(state.roll_call.record(conference_id))

    async def roll_calls(self, conference_id: str) -> tuple[RollCallRecord, ...]:
        """The records of a meeting, the latest first."""
        async with self._database.reading() as tx:
            return await RollCallRepository(tx).of(conference_id)

    async def audit(self, entry: AuditEntry) -> None:
        """What a terminal ordered by its own means goes on record as what operators order."""
        async with self._database.transaction() as tx:
            await AuditTrail(tx, self._clock).append(entry)

    async def opened(self, meeting: Meeting) -> None:
        """Raises NumberTaken."""
        now = self._clock.now()
        async with self._database.transaction() as tx:
            await ConferenceRepository(tx).add(
                Conference(
                    id=meeting.conference_id,
                    number=meeting.number,
                    title=meeting.title,
                    host_site_id=meeting.host_site_id,
                    created_at=now,
                    state=ConferenceState.RUNNING,
                    pin_hash=meeting.pin_hash,
                    layout=msgspec.to_builtins(meeting.view),
                    started_at=now,
                )
            )

    async def view(self, conference_id: str, view: View) -> None:
        async with self._database.transaction() as tx:
            await ConferenceRepository(tx).set_layout(conference_id, msgspec.to_builtins(view))

    async def ended(self, conference_id: str) -> None:
        async with self._database.transaction() as tx:
            now = self._clock.now()
            await ConferenceRepository(tx).set_state(conference_id, ConferenceState.ENDED, now)
            await RollCallRepository(tx).close(conference_id, now)

    def moment(self) -> datetime:
        """The time as rows have it."""
        return self._clock.now()

    async def joining(self, member: Member) -> None:
        """Somebody is called, which takes its time."""
        row = _row(member, ParticipantState.CALLING)
        await self._database.write(lambda connection: ParticipantRows(connection).add(row))

    async def joined(self, member: Member) -> bool:
        """A caller is in, who has no row yet: all that is known of it at once. False when it has left."""
        record, now = member.record, self._clock.now()
        row = replace(_row(member, ParticipantState.JOINED), joined_at=now)

        def write(connection: Connection) -> None:
            rows = ParticipantRows(connection)
            rows.add(row)
            rows.note(row.id, now, [LogLine(row.state.value)])

        try:
            await self._database.write(write)
        except IntegrityError:
            if await self._database.read(lambda connection: ParticipantRows(connection).is_there(row.id)):
                return False
            raise
        if member.record != record:  # whoever changed it then found no row
            await self.changed(member)
        return True

    async def connected(self, member: Member) -> None:
        """The same for one who has a row."""
        description, now = member.record.to_json(), self._clock.now()

        def write(connection: Connection) -> None:
            rows = ParticipantRows(connection)
            rows.describe(member.participant_id, description)
            rows.move(member.participant_id, ParticipantState.JOINED, now)

        await self._database.write(write)

    async def changed(self, member: Member) -> None:
        """Anything that recovery needs is different now."""
        whose, description = member.participant_id, member.record.to_json()
        await self._database.write(
            lambda connection: ParticipantRows(connection).describe(whose, description)
        )

    async def left(self, member: Member, reason: str, quality: CallQuality | None = None) -> None:
        """Final: failed for one who never joined, left for the others; reason and quality go to the log."""
        now = self._clock.now()
        lines = [LogLine("reason", {"reason": reason})]
        if quality is not None:
            lines.insert(0, LogLine(QUALITY, msgspec.to_builtins(quality)))
        whose = member.participant_id

        def write(connection: Connection) -> None:
            rows = ParticipantRows(connection)
            if rows.leave(whose, now, lines) or rows.is_there(whose):
                return
            row = replace(_row(member, ParticipantState.FAILED), left_at=now)
            rows.add(row)
            rows.note(whose, now, [LogLine(row.state.value), *lines])

        try:
            await self._database.write(write)
        except IntegrityError:  # where writers take no turns: it was written as joined between our two looks
            await self._database.write(write)

    async def interrupted(self, participant_id: str, reason: str) -> None:
        """Final for one of whom there is nothing but its row."""
        now, lines = self._clock.now(), [LogLine("reason", {"reason": reason})]
        await self._database.write(
            lambda connection: ParticipantRows(connection).leave(participant_id, now, lines)
        )

    async def unfinished(self, conference_id: str) -> list[str]:
        """Participants whom the rows still hold to be in the meeting."""
        async with self._database.reading() as tx:
            rows = await ConferenceRepository(tx).participants(conference_id, present=True)
        return [row.id for row in rows]

    async def members(self, conference_id: str) -> list[Member]:
        """Those whom the rows hold to be in the meeting and whose media can be taken up."""
        async with self._database.reading() as tx:
            rows = await ConferenceRepository(tx).participants(conference_id, present=True)
        found = (_member(row) for row in rows if row.state is ParticipantState.JOINED)
        return [member for member in found if member is not None]


def _row(member: Member, state: ParticipantState) -> Participant:
    return Participant(
        id=member.participant_id,
        conference_id=member.conference_id,
        name=member.caller.name,
        address=member.caller.address,
        created_at=member.since,
        site_id=member.caller.site_id,
        state=state,
        description=member.record.to_json(),
    )


def _meeting(row: Conference) -> Meeting:
    view = msgspec.convert(row.layout, View) if row.layout else View()
    control = ControlState(view=view) if row.control is None else ControlState.from_json(row.control)
    return Meeting(row.id, row.number, row.title, row.host_site_id, row.pin_hash, view=view, control=control)


def _member(row: Participant) -> Member | None:
    """The member of a row; None for one without media, and for what another version wrote."""
    try:
        record = CallRecord.from_json(row.description or {})
    except msgspec.ValidationError:
        return None
    if record.media is None and record.access is not Access.STREAM:
        return None
    return Member(
        row.id,
        row.conference_id,
        Caller(row.name, row.site_id, record.network, row.address, record.sound_only),
        record.access,
        record.wanted,
        record.budget,
        since=row.created_at,
        state=MemberState.CONNECTED,
        muted=record.muted,
        budget_set=record.budget_set,
        media=record.media,
        dialog=record.dialog,
        floor=record.floor,
    )
