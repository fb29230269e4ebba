"""Meetings whose media worker was lost, or whose main process was: all go on without anybody dialling.

A lost worker's meetings move to another one. After a restart of main the rows say who was in, and the
workers, which kept the media running, say what they hold: both are made one. What a worker does not hold is
taken up as from a lost worker; what main has no row for is dropped. The protocols then take up their lines
(`SipCalls.take_up`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from foundation.desk_client import DeskFailed
from foundation.desks import ConferenceDesk, Dialled, HeldConference, Refusal, RefusalKind, View
from foundation.events import ConferenceOpened, RenegotiationNeeded
from signaling.floors import Floors
from signaling.meeting import Access, MediaRecord, Meeting, Member, MemberState
from signaling.roster import Roster, UnknownMeeting, tolerant, written
from signaling.site_budgets import SiteBudgets

log = structlog.get_logger(__name__)

SETTLE_SECONDS = 5.0
"""How long a meeting that ran before main's restart waits for the worker that may still hold it."""


class Recovery:
    """`leave` takes out a member (by id, with the reason) whose media cannot be had again."""

    def __init__(
        self,
        roster: Roster,
        budgets: SiteBudgets,
        floors: Floors,
        leave: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._roster = roster
        self._budgets = budgets
        self._floors = floors
        self._leave = leave
        self._taken_back: dict[str, str] = {}

    async def restore(self) -> None:
        """Take up the meetings that the rows say are running, and those who were in them."""
        for meeting in await self._roster.rows.running():
            for member in await self._roster.rows.members(meeting.conference_id):
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
                    await self._roster.rows.interrupted(participant_id, "service restarted")
            if meeting.members:
                self._roster.workers.await_all(SETTLE_SECONDS)
            self._roster.bus.publish(ConferenceOpened(meeting.conference_id))

    async def worker_lost(self, worker: str) -> None:
        """Move every meeting of a lost worker to another one, without anybody dialling again."""
        orphans = self._roster.workers.became_lost(worker)
        self._taken_back = {known: place for known, place in self._taken_back.items() if place != worker}
        log.warning("worker_lost", worker=worker, meetings=len(orphans))
        await asyncio.gather(*(self._move(orphan) for orphan in orphans if orphan in self._roster.meetings))

    async def worker_ready(self, worker: str, pid: int) -> None:
        """A worker answers: what it holds goes on there, and meetings that wait for a place get one."""
        await self._reconcile(worker)
        self._roster.workers.became_ready(worker, pid)
        waiting = [
            m for m in self._roster.running if m.members and self._roster.placed_desk(m.conference_id) is None
        ]
        await asyncio.gather(*(self._move(meeting.conference_id) for meeting in waiting))

    async def _reconcile(self, worker: str) -> None:
        """What a worker holds, which outlived our process or our connection, against what we know."""
        desk = self._roster.workers.asked(worker)
        try:
            held = await desk.holdings()
        except (Refusal, DeskFailed) as error:
            log.warning("holdings_unknown", worker=worker, why=str(error))
            return
        for conference in held:
            meeting = self._roster.meetings.get(conference.conference_id)
            if meeting is None or not self._roster.workers.found(conference.conference_id, worker):
                log.info("dropped_what_nobody_knows", worker=worker, meeting=conference.conference_id)
                await tolerant(desk.close(conference.conference_id))
                continue
            self._taken_back[conference.conference_id] = worker
            try:
                await self._take_back(desk, meeting, conference)
            except (Refusal, DeskFailed) as error:
                log.warning("meeting_not_taken_back", meeting=meeting.conference_id, why=str(error))

    async def _take_back(self, desk: ConferenceDesk, meeting: Meeting, held: HeldConference) -> None:
        """A meeting goes on where it is; the rows may be a step ahead of what the worker was last told."""
        await desk.open(meeting.spec)
        for participant_id in held.participants:
            member = meeting.members.get(participant_id)
            if member is None:
                await tolerant(desk.drop(participant_id))
                continue
            await tolerant(desk.set_muted(participant_id, member.muted))
            await tolerant(desk.set_budget(participant_id, member.budget))
        missing = [m for m in meeting.members.values() if m.participant_id not in held.participants]
        log.info("meeting_taken_back", meeting=meeting.conference_id, media=len(held.participants))
        await asyncio.gather(*(self._resume(desk, member) for member in missing))

    async def _move(self, conference_id: str) -> None:
        meeting = self._roster.meetings[conference_id]
        await self._roster.workers.settled()
        if conference_id in self._taken_back:
            return  # the worker that held it has been heard meanwhile
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
            await desk.admit_stream(member.spec, member.caller.address, known=True)
            await self._roster.still_in(desk, member)
        except Refusal as refusal:
            log.warning("not_resumed", participant=member.participant_id, why=refusal.detail)
            if refusal.kind not in (RefusalKind.WORKER_LOST, RefusalKind.UNKNOWN_PARTICIPANT):
                await self._leave(member.participant_id, f"media lost: {refusal.detail}")

    async def _renew(self, desk: ConferenceDesk, member: Member) -> None:
        try:
            ours = await desk.offer(member.spec, _as_secure_as(member))
            answer = await member.line.renew_media(self._floors.offered(member, ours))
            if answer is None:
                raise Refusal(RefusalKind.NOT_RESUMABLE, "the peer refused new media")
            answer = self._floors.taken(member, ours, answer)
            member.media = MediaRecord(await desk.answered(member.participant_id, answer), answer)
            member.access = Access.DIALLED_OUT
            await written(self._roster.rows.changed(member))
        except Refusal as refusal:
            await self._leave(member.participant_id, f"media lost: {refusal.detail}")


def _as_secure_as(member: Member) -> Dialled:
    """Whoever had keys in its description is offered keys again."""
    had_keys = member.media is not None and any(section.crypto for section in member.media.ours.sections)
    return Dialled.SECURED if had_keys else Dialled.PLAIN
