"""Meetings whose media worker was lost, or whose main process was: what can go on without anybody dialling.

A lost worker's meetings move to another one. After a restart of main the dialogs are gone, and who called
has to call again; a camera has no dialog, and is in its meeting again as soon as a worker is ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from foundation.desk_client import DeskFailed
from foundation.desks import ConferenceDesk, Dialled, Refusal, RefusalKind, View
from foundation.events import ConferenceOpened, RenegotiationNeeded
from signaling.meeting import Access, MediaRecord, Member, MemberState
from signaling.roster import Roster, UnknownMeeting, written
from signaling.site_budgets import SiteBudgets

log = structlog.get_logger(__name__)


class Recovery:
    """`leave` takes out a member (by id, with the reason) whose media cannot be had again."""

    def __init__(
        self, roster: Roster, budgets: SiteBudgets, leave: Callable[[str, str], Awaitable[None]]
    ) -> None:
        self._roster = roster
        self._budgets = budgets
        self._leave = leave

    async def restore(self) -> None:
        """Take up the meetings that the rows say are running, and the cameras in them."""
        for meeting in await self._roster.rows.running():
            for member in await self._roster.rows.streams(meeting.conference_id):
                meeting.members[member.participant_id] = member
                self._roster.members[member.participant_id] = member
                self._budgets.restore(meeting, member)
            self._roster.meetings[meeting.conference_id] = meeting
            shown = meeting.view.participant_id
            if shown is not None and shown not in meeting.members:
                meeting.view = View()
                await self._roster.rows.view(meeting.conference_id, meeting.view)
            for participant_id in await self._roster.rows.unfinished(meeting.conference_id):
                if participant_id not in meeting.members:
                    await self._roster.rows.left(participant_id, "service restarted")
            self._roster.bus.publish(ConferenceOpened(meeting.conference_id))

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
        if member.access is Access.STREAM:
            await self._show_again(desk, member)
            return
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

    async def _show_again(self, desk: ConferenceDesk, member: Member) -> None:
        if member.state is MemberState.CALLING:
            return  # whoever brings it in is told that its worker was lost
        try:
            await desk.admit_stream(member.spec, member.caller.address)
            await self._roster.still_in(desk, member)
        except Refusal as refusal:
            log.warning("not_resumed", participant=member.participant_id, why=refusal.detail)
            if refusal.kind not in (RefusalKind.WORKER_LOST, RefusalKind.UNKNOWN_PARTICIPANT):
                await self._leave(member.participant_id, f"media lost: {refusal.detail}")

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
