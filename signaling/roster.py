"""Who is in which meeting, and the steps that every change of it is made of.

Meeting control, budgets and recovery share one `Roster`; nobody else changes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import ConferenceDesk, Refusal, RefusalKind
from foundation.event_bus import EventBus
from foundation.events import ParticipantChanged
from signaling.media_workers import MediaWorkers
from signaling.meeting import Meeting, Member, MemberState
from signaling.meeting_rows import MeetingRows

log = structlog.get_logger(__name__)


class UnknownMeeting(Exception):
    """No running meeting has this number or id."""


class UnknownMember(Exception):
    """No participant of a running meeting has this id."""


class AlreadyIn(Exception):
    """A camera can be in a meeting once only."""


class Roster:
    """The running meetings and their members in memory, beside their rows, the bus and the workers' desks."""

    def __init__(self, rows: MeetingRows, bus: EventBus, workers: MediaWorkers) -> None:
        self.rows = rows
        self.bus = bus
        self.workers = workers
        self.meetings: dict[str, Meeting] = {}
        self.members: dict[str, Member] = {}

    @property
    def running(self) -> tuple[Meeting, ...]:
        return tuple(self.meetings.values())

    def meeting(self, conference_id: str) -> Meeting:
        try:
            return self.meetings[conference_id]
        except KeyError:
            raise UnknownMeeting(f"no running meeting has the id {conference_id}") from None

    def by_number(self, number: str) -> Meeting:
        found = next((m for m in self.meetings.values() if m.number == number), None)
        if found is None:
            raise UnknownMeeting(f"no running meeting has the number {number!r}")
        return found

    def member(self, participant_id: str) -> Member:
        try:
            return self.members[participant_id]
        except KeyError:
            raise UnknownMember(f"no participant has the id {participant_id}") from None

    @property
    def workers_ready(self) -> dict[str, int]:
        """Process ids of the media workers that answer, by name."""
        return dict(self.workers.ready)

    def state(self, participant_id: str) -> MemberState:
        """Where a participant stands now; one who is unknown has left."""
        member = self.members.get(participant_id)
        return MemberState.LEFT if member is None else member.state

    # --- steps that every change is made of -----------------------------------------------------

    async def still_in(self, desk: ConferenceDesk, member: Member) -> None:
        """A worker took it in; by now it may have been dropped, or its meeting ended. Raises Refusal."""
        participant_id = member.participant_id
        if self.members.get(participant_id) is not member:
            await asyncio.shield(tolerant(desk.drop(participant_id)))
            raise has_left(member)

    async def set_state(self, member: Member, state: MemberState) -> None:
        member.state = state
        await written(self.rows.changed(member))
        self.announce(member)

    def announce(self, member: Member) -> None:
        self.bus.publish(ParticipantChanged(member.conference_id, member.participant_id, member.state.value))

    async def desk(self, meeting: Meeting) -> ConferenceDesk:
        """The desk of the meeting's worker, which knows the meeting from now on."""
        conference_id = meeting.conference_id
        if self.workers.worker_of(conference_id) is None:
            await self.workers.settled()
        known = self.workers.worker_of(conference_id) is not None
        desk = self.workers.place(conference_id)
        if known:
            return desk
        place = self.workers.worker_of(conference_id)
        try:
            await desk.open(meeting.spec)
            self.meeting(conference_id)  # it may have ended while it was opened
        except BaseException:
            if self.workers.worker_of(conference_id) in (place, None):
                self.workers.forget(conference_id)
                await asyncio.shield(tolerant(desk.close(conference_id)))
            raise
        return desk

    def placed_desk(self, conference_id: str) -> ConferenceDesk | None:
        if self.workers.worker_of(conference_id) is None:
            return None
        return self.workers.place(conference_id)


def has_left(member: Member) -> Refusal:
    """What a step for somebody who is gone is refused with."""
    detail = f"participant {member.participant_id} has left meanwhile"
    return Refusal(RefusalKind.UNKNOWN_PARTICIPANT, detail)


async def tolerant(call: Awaitable[None]) -> None:
    """What a worker is told though it may be lost: freeing things, or what the next worker gets anyway."""
    try:
        await call
    except (Refusal, DeskFailed) as error:
        log.info("desk_refused", why=str(error))


async def written(write: Awaitable[None]) -> None:
    """Writing what has happened whether or not it can be written: a busy database does not undo it."""
    try:
        await write
    except DatabaseError as error:
        log.error("row_not_written", why=str(error))
