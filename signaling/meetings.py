"""Meeting control: who is in which meeting, with what budget, on which worker.

`Meetings` owns the running meetings of a node. Every change goes the same way: the ledger grants, the
row is written, the worker's desk is asked, the event is announced; a step that fails undoes those
before it. The protocols (SIP, browsers, H.323) bring callers in as a `Caller`, an offer and a `Line`, and
hear nothing of one another. Commands of operators arrive here too, already permitted at the edge.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping

import structlog

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import (
    Budget,
    ConferenceDesk,
    ConferenceReport,
    Dialled,
    MediaDescription,
    Refusal,
    RefusalKind,
    View,
    ViewMode,
)
from foundation.event_bus import EventBus
from foundation.events import (
    ConferenceChanged,
    ConferenceEnded,
    ConferenceOpened,
    ParticipantChanged,
    RenegotiationNeeded,
)
from foundation.schema import new_id
from signaling.admission import Admission, Ask, NotAdmitted
from signaling.line import Line, NoLine
from signaling.media_workers import MediaWorkers
from signaling.meeting import Access, Caller, MediaRecord, Meeting, Member, MemberState
from signaling.meeting_rows import MeetingRows

log = structlog.get_logger(__name__)

PROBE_SECONDS = 3.5
HANG_UP_SECONDS = 4.0
REOFFER_SECONDS = 5.0
SOUND_BPS = 96_000
"""G.711 with its headers and RTCP: whatever lower limit a peer names, it is not meant to end the sound."""


class UnknownMeeting(Exception):
    """No running meeting has this number or id."""


class UnknownMember(Exception):
    """No participant of a running meeting has this id."""


class Meetings:
    """The running meetings of a node; see the module's head. All calls belong to the event loop."""

    def __init__(
        self,
        *,
        rows: MeetingRows,
        bus: EventBus,
        workers: MediaWorkers,
        admission: Admission,
        site_budget: Callable[[str | None], int],
    ) -> None:
        self._rows = rows
        self._bus = bus
        self._workers = workers
        self._admission = admission
        self._site_budget = site_budget
        self._meetings: dict[str, Meeting] = {}
        self._members: dict[str, Member] = {}

    # --- meetings ---------------------------------------------------------------------------------

    @property
    def running(self) -> tuple[Meeting, ...]:
        return tuple(self._meetings.values())

    def meeting(self, conference_id: str) -> Meeting:
        try:
            return self._meetings[conference_id]
        except KeyError:
            raise UnknownMeeting(f"no running meeting has the id {conference_id}") from None

    def by_number(self, number: str) -> Meeting:
        found = next((m for m in self._meetings.values() if m.number == number), None)
        if found is None:
            raise UnknownMeeting(f"no running meeting has the number {number!r}")
        return found

    def member(self, participant_id: str) -> Member:
        try:
            return self._members[participant_id]
        except KeyError:
            raise UnknownMember(f"no participant has the id {participant_id}") from None

    @property
    def workers_ready(self) -> dict[str, int]:
        """Process ids of the media workers that answer, by name."""
        return dict(self._workers.ready)

    def state(self, participant_id: str) -> MemberState:
        """Where a participant stands now; one who is unknown has left."""
        member = self._members.get(participant_id)
        return MemberState.LEFT if member is None else member.state

    async def restore(self) -> None:
        """Take up the meetings that the rows say are running; who was in them has to join again."""
        for meeting in await self._rows.running():
            self._meetings[meeting.conference_id] = meeting
            if meeting.view != View():  # it names somebody who is not in any more
                meeting.view = View()
                await self._rows.view(meeting.conference_id, meeting.view)
            for participant_id in await self._rows.unfinished(meeting.conference_id):
                await self._rows.left(participant_id, "service restarted")
            self._bus.publish(ConferenceOpened(meeting.conference_id))

    async def open(
        self, title: str, host_site_id: str, *, number: str | None = None, pin_hash: str | None = None
    ) -> Meeting:
        """A new meeting; without a number it gets a free one of six digits."""
        if number is None:
            taken = {meeting.number for meeting in self._meetings.values()}
            number = next(n for n in iter(_random_number, "") if n not in taken)
        meeting = Meeting(new_id(), number, title, host_site_id, pin_hash)
        await self._rows.opened(meeting)
        self._meetings[meeting.conference_id] = meeting
        self._bus.publish(ConferenceOpened(meeting.conference_id))
        return meeting

    async def end(self, conference_id: str, reason: str) -> None:
        """Close the row, hang everybody up, free the worker."""
        meeting = self.meeting(conference_id)
        await self._rows.ended(conference_id)
        if self._meetings.pop(conference_id, None) is None:
            return  # ended by somebody else meanwhile
        await asyncio.gather(*(self.leave(member, reason) for member in tuple(meeting.members)))
        desk = self._placed_desk(conference_id)
        self._workers.forget(conference_id)
        if desk is not None:
            await _tolerant(desk.close(conference_id))
        self._bus.publish(ConferenceEnded(conference_id, reason))

    async def set_view(self, conference_id: str, view: View) -> None:
        """Mosaic, or one participant full screen. Raises UnknownMember for one who is not in."""
        meeting = self.meeting(conference_id)
        if view.mode is ViewMode.FULL_SCREEN and view.participant_id not in meeting.members:
            raise UnknownMember(f"participant {view.participant_id} is not in meeting {meeting.number}")
        await self._rows.view(conference_id, view)
        meeting.view = view
        desk = self._placed_desk(conference_id)
        if desk is not None:
            await _tolerant(desk.set_view(conference_id, view))  # another worker gets it with the meeting
        self._bus.publish(ConferenceChanged(conference_id))

    async def report(self, conference_id: str) -> ConferenceReport:
        """What the meeting's worker measures; empty while the meeting has no worker."""
        self.meeting(conference_id)
        desk = self._placed_desk(conference_id)
        return ConferenceReport(conference_id, 0) if desk is None else await desk.report(conference_id)

    # --- participants -----------------------------------------------------------------------------

    async def join(
        self, conference_id: str, caller: Caller, offer: MediaDescription, access: Access, line: Line
    ) -> tuple[Member, MediaDescription]:
        """Admit a caller and answer its offer. Raises NotAdmitted, Refusal, UnknownMeeting."""
        meeting = self.meeting(conference_id)
        member, others = self._admitted(meeting, caller, self._wanted(caller, offer), access, line)
        try:
            await self._rows.joining(member)
            await self._share(others)
            desk = await self._desk(meeting)
            answer = await desk.admit(member.spec, offer)
            await self._still_in(desk, member)
            await self._connected(meeting, member, MediaRecord(answer, offer))
        except BaseException as error:
            await self._undo(meeting, member, error)
            raise
        return member, answer

    async def dial(
        self, conference_id: str, caller: Caller, dialled: Dialled
    ) -> tuple[Member, MediaDescription]:
        """Make room for somebody whom we call; the offer to send. Raises as `join`."""
        meeting = self.meeting(conference_id)
        budget = self._site_budget(caller.site_id)
        member, others = self._admitted(meeting, caller, Budget(budget, budget), Access.DIALLED_OUT, NoLine())
        try:
            await self._rows.joining(member)
            await self._share(others)
            desk = await self._desk(meeting)
            offer = member.offered = await desk.offer(member.spec, dialled)
            await self._still_in(desk, member)
        except BaseException as error:
            await self._undo(meeting, member, error)
            raise
        self._announce(member)
        return member, offer

    async def answered(self, participant_id: str, answer: MediaDescription, line: Line) -> None:
        """The called peer answered."""
        member = self.member(participant_id)
        meeting = self.meeting(member.conference_id)
        member.line = line
        desk = await self._desk(meeting)
        try:
            ours = await desk.answered(participant_id, answer)
        except Refusal as refusal:
            if refusal.kind is not RefusalKind.UNKNOWN_PARTICIPANT or member.offered is None:
                raise
            ours = member.offered  # its worker was lost while it rang
            await desk.resume_dialled(member.spec, ours, answer)
        await self._still_in(desk, member)
        await self._connected(meeting, member, MediaRecord(ours, answer))

    async def renegotiate(self, participant_id: str, offer: MediaDescription) -> MediaDescription:
        """Answer a re-INVITE, or a page that offers anew after its worker was lost."""
        member = self.member(participant_id)
        meeting = self.meeting(member.conference_id)
        desk = await self._desk(meeting)
        try:
            answer = await desk.renegotiate(participant_id, offer)
        except Refusal as refusal:
            if refusal.kind is not RefusalKind.UNKNOWN_PARTICIPANT:
                raise
            self.member(participant_id)  # unknown there because it has left
            answer = await desk.admit(member.spec, offer)
        await self._still_in(desk, member)
        member.media = MediaRecord(answer, offer)
        if member.access is Access.DIALLED_OUT:
            member.access = Access.DIALLED_IN  # our side is an answer now, and is taken up again as one
        await self._set_state(member, MemberState.CONNECTED)
        return answer

    async def remember_dialog(self, participant_id: str, dialog: dict[str, object]) -> None:
        """Keep the protocol's own state of the call in the participant's row."""
        member = self.member(participant_id)
        member.dialog = dialog
        await self._rows.changed(member)

    async def leave(self, participant_id: str, reason: str, *, hang_up: bool = True) -> None:
        """Take a participant out; `hang_up` False when the peer itself ended the call."""
        member = self._members.pop(participant_id, None)
        if member is None:
            return
        meeting = self._meetings.get(member.conference_id)
        if meeting is not None:
            meeting.members.pop(participant_id, None)
        self._admission.release(participant_id)
        member.state = MemberState.LEFT
        goodbye = [_hang_up(member, reason)] if hang_up else []
        await asyncio.gather(self._write_off(member, meeting, reason), *goodbye)

    async def _write_off(self, member: Member, meeting: Meeting | None, reason: str) -> None:
        """Media, row and event of one who left; nothing waits for a goodbye that nobody may answer."""
        participant_id = member.participant_id
        desk = self._placed_desk(member.conference_id)
        if desk is not None:
            await _tolerant(desk.drop(participant_id))
        await _written(self._rows.left(participant_id, reason))
        self._announce(member)
        await self._give_back(member.caller.site_id)
        if meeting is not None and meeting.view.participant_id == participant_id:
            with contextlib.suppress(UnknownMeeting):
                await _written(self.set_view(meeting.conference_id, View()))

    async def set_muted(self, participant_id: str, muted: bool) -> None:
        member = self.member(participant_id)
        before, member.muted = member.muted, muted
        try:
            await self._rows.changed(member)
        except BaseException:
            member.muted = before
            raise
        desk = self._placed_desk(member.conference_id)
        if desk is not None:
            await _tolerant(desk.set_muted(participant_id, muted))  # another worker gets it with its place
        self._announce(member)

    async def mute_all(self, conference_id: str) -> None:
        for participant_id in tuple(self.meeting(conference_id).members):
            with contextlib.suppress(UnknownMember):  # left meanwhile
                await self.set_muted(participant_id, True)

    async def set_budget(self, participant_id: str, wanted: Budget) -> Budget:
        """Ask for another budget in mid-call; what was granted. Raises NotAdmitted and changes nothing."""
        member = self.member(participant_id)
        meeting = self.meeting(member.conference_id)
        before = member.wanted, member.budget
        grant = self._admission.admit(
            Ask(participant_id, member.caller.site_id, meeting.host_site_id, wanted)
        )
        member.wanted, member.budget = wanted, grant.budget
        desk = self._placed_desk(member.conference_id)
        try:
            await self._rows.changed(member)
            if desk is not None:
                await desk.set_budget(participant_id, grant.budget)
        except BaseException:
            member.wanted, member.budget = before
            if participant_id in self._members:
                self._admission.restore(self._ask(meeting, member), member.budget)
                await asyncio.shield(_written(self._rows.changed(member)))
            await asyncio.shield(self._give_back(member.caller.site_id))
            raise
        self._announce(member)
        await self._share(grant.others)
        return grant.budget

    async def refresh_picture(self, participant_id: str) -> None:
        """The peer asked for a key frame by signalling."""
        member = self.member(participant_id)
        desk = self._placed_desk(member.conference_id)
        if desk is not None:
            await desk.refresh_picture(participant_id)

    async def aclose(self) -> None:
        """The service stops: hang everybody up; the meetings go on when it runs again."""
        stopping = (self.leave(participant_id, "service stopped") for participant_id in tuple(self._members))
        await asyncio.gather(*stopping)

    # --- what workers tell ------------------------------------------------------------------------

    async def silent(self, participant_id: str) -> None:
        """No media for ten seconds, or ten more: probe the peer, and let it go when it does not answer."""
        member = self._members.get(participant_id)
        if member is None or member.state is MemberState.CALLING:
            return
        if member.state is MemberState.CONNECTED:
            await self._set_state(member, MemberState.SILENT)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                alive = await member.line.probe()
        except TimeoutError:
            alive = False
        if not alive and self.state(participant_id) is MemberState.SILENT:
            await self.leave(participant_id, "vanished: no media and no answer")

    async def heard(self, participant_id: str) -> None:
        member = self._members.get(participant_id)
        if member is not None and member.state is MemberState.SILENT:
            await self._set_state(member, MemberState.CONNECTED)

    async def media_failed(self, participant_id: str, reason: str) -> None:
        """A transport is over. A page has a moment to offer anew before it counts as gone."""
        member = self._members.get(participant_id)
        if member is None:
            return
        log.info("media_failed", participant=participant_id, why=reason)
        media = member.media
        await asyncio.sleep(REOFFER_SECONDS)
        if member.media is media:
            await self.leave(participant_id, reason)

    async def ask_fast_update(self, participant_id: str) -> None:
        """We need a key frame of a peer without RTCP feedback."""
        member = self._members.get(participant_id)
        if member is not None:
            await member.line.ask_fast_update()

    async def worker_lost(self, worker: str) -> None:
        """Move every meeting of a lost worker to another one, without anybody dialling again."""
        orphans = self._workers.became_lost(worker)
        log.warning("worker_lost", worker=worker, meetings=len(orphans))
        await asyncio.gather(*(self._move(orphan) for orphan in orphans if orphan in self._meetings))

    async def worker_ready(self, worker: str, pid: int) -> None:
        """A worker answers: meetings that wait for a place get one."""
        self._workers.became_ready(worker, pid)
        waiting = [m for m in self.running if m.members and self._placed_desk(m.conference_id) is None]
        await asyncio.gather(*(self._move(meeting.conference_id) for meeting in waiting))

    async def _move(self, conference_id: str) -> None:
        meeting = self._meetings[conference_id]
        try:
            desk = await self._desk(meeting)
        except UnknownMeeting:
            return  # ended meanwhile
        except (Refusal, DeskFailed) as error:
            log.warning("meeting_waits_for_worker", meeting=conference_id, why=str(error))
            return
        log.info("meeting_moved", meeting=conference_id, worker=self._workers.worker_of(conference_id))
        await asyncio.gather(*(self._resume(desk, member) for member in tuple(meeting.members.values())))

    async def _resume(self, desk: ConferenceDesk, member: Member) -> None:
        """Give a member its media back; a fault with one is not to keep the others from theirs."""
        try:
            await self._take_up(desk, member)
        except Exception as error:
            log.error("not_resumed", participant=member.participant_id, exc_info=error)
            await self.leave(member.participant_id, "media lost")

    async def _take_up(self, desk: ConferenceDesk, member: Member) -> None:
        """The same ports if possible, else a new offer, else let it go."""
        if member.media is None:
            return  # still ringing: its answer will find the new worker
        if member.access is Access.BROWSER:
            self._bus.publish(RenegotiationNeeded(member.conference_id, member.participant_id))
            return
        try:
            if member.access is Access.DIALLED_IN:
                await desk.admit(member.spec, member.media.theirs, resume=member.media.ours)
            else:
                await desk.resume_dialled(member.spec, member.media.ours, member.media.theirs)
            await self._still_in(desk, member)
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
            await _written(self._rows.changed(member))
        except Refusal as refusal:
            await self.leave(member.participant_id, f"media lost: {refusal.detail}")

    # --- steps ------------------------------------------------------------------------------------

    def _wanted(self, caller: Caller, offer: MediaDescription) -> Budget:
        """A peer that names a lower limit for what it takes is not budgeted above it."""
        budget = self._site_budget(caller.site_id)
        limit = offer.bandwidth_bps
        if limit:
            limit = max(limit, SOUND_BPS)
        return Budget(to_site_bps=min(budget, limit) if limit else budget, from_site_bps=budget)

    def _admitted(
        self, meeting: Meeting, caller: Caller, wanted: Budget, access: Access, line: Line
    ) -> tuple[Member, dict[str, Budget]]:
        """The new member, and the budgets of those at its site who had to make room."""
        participant_id = new_id()
        grant = self._admission.admit(Ask(participant_id, caller.site_id, meeting.host_site_id, wanted))
        if grant.lowered_by is not None:
            log.info("answered_lower", participant=participant_id, why=str(grant.lowered_by))
        member = Member(
            participant_id, meeting.conference_id, caller, access, wanted, grant.budget, line=line
        )
        self._members[participant_id] = member
        meeting.members[participant_id] = member
        return member, grant.others

    async def _share(self, budgets: Mapping[str, Budget]) -> None:
        """Others of the same site have another share of its budget now."""
        for participant_id, budget in budgets.items():
            member = self._members.get(participant_id)
            if member is not None:
                await self._apply_budget(member, budget)

    async def _apply_budget(self, member: Member, budget: Budget) -> None:
        member.budget = budget
        desk = self._placed_desk(member.conference_id)
        if desk is not None:
            await _tolerant(desk.set_budget(member.participant_id, budget))
        await _written(self._rows.changed(member))
        self._announce(member)

    async def _give_back(self, site_id: str | None) -> None:
        """Somebody of a site left: those whom it had lowered get what they asked, as far as it fits."""
        for member in tuple(self._members.values()):
            meeting = self._meetings.get(member.conference_id)
            if site_id is None or meeting is None or member.caller.site_id != site_id:
                continue
            if self._admission.held(member.participant_id) != member.wanted:
                try:
                    grant = self._admission.admit(self._ask(meeting, member))
                except NotAdmitted:
                    continue  # its link was made smaller than what it carries: what is held stays held
                if grant.budget != member.budget:
                    await self._apply_budget(member, grant.budget)
                await self._share(grant.others)

    def _ask(self, meeting: Meeting, member: Member) -> Ask:
        return Ask(member.participant_id, member.caller.site_id, meeting.host_site_id, member.wanted)

    async def _still_in(self, desk: ConferenceDesk, member: Member) -> None:
        """A worker took it in; by now it may have been dropped, or its meeting ended. Raises Refusal."""
        participant_id = member.participant_id
        if self._members.get(participant_id) is not member:
            await asyncio.shield(_tolerant(desk.drop(participant_id)))
            detail = f"participant {participant_id} has left meanwhile"
            raise Refusal(RefusalKind.UNKNOWN_PARTICIPANT, detail)

    async def _undo(self, meeting: Meeting, member: Member, error: BaseException) -> None:
        self._members.pop(member.participant_id, None)
        meeting.members.pop(member.participant_id, None)
        self._admission.release(member.participant_id)
        desk = self._placed_desk(meeting.conference_id)
        if desk is not None:
            await asyncio.shield(_tolerant(desk.drop(member.participant_id)))
        await asyncio.shield(_written(self._rows.left(member.participant_id, str(error) or "cancelled")))
        await asyncio.shield(self._give_back(member.caller.site_id))

    async def _connected(self, meeting: Meeting, member: Member, media: MediaRecord) -> None:
        member.media = media
        member.state = MemberState.CONNECTED
        await self._rows.connected(member)
        self._announce(member)
        log.info("joined", meeting=meeting.number, participant=member.participant_id, name=member.caller.name)

    async def _set_state(self, member: Member, state: MemberState) -> None:
        member.state = state
        await _written(self._rows.changed(member))
        self._announce(member)

    def _announce(self, member: Member) -> None:
        self._bus.publish(ParticipantChanged(member.conference_id, member.participant_id, member.state.value))

    async def _desk(self, meeting: Meeting) -> ConferenceDesk:
        """The desk of the meeting's worker, which knows the meeting from now on."""
        conference_id = meeting.conference_id
        known = self._workers.worker_of(conference_id) is not None
        desk = self._workers.place(conference_id)
        if known:
            return desk
        place = self._workers.worker_of(conference_id)
        try:
            await desk.open(meeting.spec)
            self.meeting(conference_id)  # it may have ended while it was opened
        except BaseException:
            if self._workers.worker_of(conference_id) == place:
                self._workers.forget(conference_id)
                await asyncio.shield(_tolerant(desk.close(conference_id)))
            raise
        return desk

    def _placed_desk(self, conference_id: str) -> ConferenceDesk | None:
        if self._workers.worker_of(conference_id) is None:
            return None
        return self._workers.place(conference_id)


async def _hang_up(member: Member, reason: str) -> None:
    try:
        async with asyncio.timeout(HANG_UP_SECONDS):
            await member.line.hang_up(reason)
    except TimeoutError:
        log.warning("hang_up_unanswered", participant=member.participant_id)


async def _tolerant(call: Awaitable[None]) -> None:
    """What a worker is told though it may be lost: freeing things, or what the next worker gets anyway."""
    try:
        await call
    except (Refusal, DeskFailed) as error:
        log.info("desk_refused", why=str(error))


async def _written(write: Awaitable[None]) -> None:
    """Writing what has happened whether or not it can be written: a busy database does not undo it."""
    try:
        await write
    except DatabaseError as error:
        log.error("row_not_written", why=str(error))


def _random_number() -> str:
    return str(secrets.randbelow(900_000) + 100_000)
