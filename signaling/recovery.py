"""Meetings whose media worker was lost: moved to another one, without anybody dialling again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from foundation.desk_client import DeskFailed
from foundation.desks import ConferenceDesk, Dialled, Refusal, RefusalKind
from foundation.events import RenegotiationNeeded
from signaling.meeting import Access, MediaRecord, Member
from signaling.roster import Roster, UnknownMeeting, written

log = structlog.get_logger(__name__)


class Recovery:
    """`leave` takes out a member (by id, with the reason) whose media cannot be had again."""

    def __init__(self, roster: Roster, leave: Callable[[str, str], Awaitable[None]]) -> None:
        self._roster = roster
        self._leave = leave

    async def worker_lost(self, worker: str) -> None:
        """Move every meeting of a lost worker to another one, without anybody dialling again."""
        orphans = self._roster.workers.became_lost(worker)
        log.warning("worker_lost", worker=worker, meetings=len(orphans))
        await asyncio.gather(*(self._move(orphan) for orphan in orphans if orphan in self._roster.meetings))

    async def worker_ready(self, worker: str, pid: int) -> None:
        """A worker answers: meetings that wait for a place get one."""
        self._roster.workers.became_ready(worker, pid)
        waiting = [
            m for m in self._roster.running if m.members and self._roster.placed_desk(m.conference_id) is None
        ]
        await asyncio.gather(*(self._move(meeting.conference_id) for meeting in waiting))

    async def _move(self, conference_id: str) -> None:
        meeting = self._roster.meetings[conference_id]
        try:
            desk = await self._roster.desk(meeting)
        except UnknownMeeting:
            return  # ended meanwhile
        except (Refusal, DeskFailed) as error:
            log.warning("meeting_waits_for_worker", meeting=conference_id, why=str(error))
            return
        log.info("meeting_moved", meeting=conference_id, worker=self._roster.workers.worker_of(conference_id))
        await asyncio.gather(*(self._resume(desk, member) for member in tuple(meeting.members.values())))

    async def _resume(self, desk: ConferenceDesk, member: Member) -> None:
        """Give a member its media back; a fault with one is not to keep the others from theirs."""
        try:
            await self._take_up(desk, member)
        except Exception as error:
            log.error("not_resumed", participant=member.participant_id, exc_info=error)
            await self._leave(member.participant_id, "media lost")

    async def _take_up(self, desk: ConferenceDesk, member: Member) -> None:
        """The same ports if possible, else a new offer, else let it go."""
        if member.media is None:
            return  # still ringing: its answer will find the new worker
        if member.access is Access.BROWSER:
            self._roster.bus.publish(RenegotiationNeeded(member.conference_id, member.participant_id))
            return
        try:
            if member.access is Access.DIALLED_IN:
                await desk.admit(member.spec, member.media.theirs, resume=member.media.ours)
            else:
                await desk.resume_dialled(member.spec, member.media.ours, member.media.theirs)
            await self._roster.still_in(desk, member)
        except Refusal as refusal:
            log.warning("not_resumed", participant=member.participant_id, why=refusal.detail)
            if refusal.kind not in (RefusalKind.WORKER_LOST, RefusalKind.UNKNOWN_PARTICIPANT):
                await self._renew(desk, member)

    async def _renew(self, desk: ConferenceDesk, member: Member) -> None:
        try:
            ours = await desk.offer(member.spec, Dialled.PLAIN)
            answer = await member.line.renew_media(ours)
            if answer is None:
                raise Refusal(RefusalKind.NOT_RESUMABLE, "the peer refused new media")
            member.media = MediaRecord(await desk.answered(member.participant_id, answer), answer)
            member.access = Access.DIALLED_OUT
            await written(self._roster.rows.changed(member))
        except Refusal as refusal:
            await self._leave(member.participant_id, f"media lost: {refusal.detail}")
