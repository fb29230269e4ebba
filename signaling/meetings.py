"""Meeting control: who is in which meeting, with what budget, on which worker.

`Meetings` owns the running meetings of a node. Every change goes the same way: the ledger grants, the
row is written, the worker's desk is asked, the event is announced; a step that fails undoes those
before it. Who calls is answered by the desk at once: its row is written after that, whole. The protocols
(SIP, browsers, H.323) bring callers in as a `Caller`, an offer and a `Line`, and hear nothing of one
another. Commands of operators arrive here too, already permitted at the edge.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace

import structlog

from foundation.desks import (
    Budget,
    ConferenceDesk,
    ConferenceReport,
    Dialled,
    Direction,
    MediaDescription,
    Refusal,
    RefusalKind,
    View,
    ViewMode,
)
from foundation.event_bus import EventBus
from foundation.events import (
    ConferenceEnded,
    ConferenceOpened,
)
from foundation.repositories.roll_calls import RollCallRecord
from foundation.schema import new_id
from signaling.admission import Admission
from signaling.call_quality import LastReports
from signaling.control.controller import MeetingControl
from signaling.control.orders import Command, Order
from signaling.departures import Departures
from signaling.floors import Floors
from signaling.line import Line, NoLine
from signaling.media_workers import MediaWorkers
from signaling.meeting import Access, Caller, MediaRecord, Meeting, Member, MemberState
from signaling.meeting_rows import MeetingRows
from signaling.recovery import Recovery
from signaling.roster import AlreadyIn, Roster, UnknownMeeting, UnknownMember, has_left, tolerant
from signaling.site_budgets import SiteBudgets

__all__ = ["AlreadyIn", "Meetings", "UnknownMeeting", "UnknownMember"]

log = structlog.get_logger(__name__)

PROBE_SECONDS = 3.5
HANG_UP_SECONDS = 4.0
REOFFER_SECONDS = 5.0

DialogMaker = Callable[[Member, MediaDescription], dict[str, object]]


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
        self._roster = Roster(rows, bus, workers)
        self._budgets = SiteBudgets(self._roster, admission, site_budget)
        self._qualities = LastReports()
        self._departures = Departures(rows)
        self.floors = Floors(self._roster)
        self._recovery = Recovery(self._roster, self._budgets, self.floors, self.leave)
        self.control = MeetingControl(self._roster, self.leave, self.end, self.floors.slides_changed)
        self.floors.ordered_by(self.control.give)

    # --- who is there -------------------------------------------------------------------------------

    @property
    def running(self) -> tuple[Meeting, ...]:
        return self._roster.running

    @property
    def workers_ready(self) -> dict[str, int]:
        """Process ids of the media workers that answer, by name."""
        return self._roster.workers_ready

    def meeting(self, conference_id: str) -> Meeting:
        """Raises UnknownMeeting."""
        return self._roster.meeting(conference_id)

    def by_number(self, number: str) -> Meeting:
        """Raises UnknownMeeting."""
        return self._roster.by_number(number)

    def member(self, participant_id: str) -> Member:
        """Raises UnknownMember."""
        return self._roster.member(participant_id)

    def state(self, participant_id: str) -> MemberState:
        """Where a participant stands now; one who is unknown has left."""
        return self._roster.state(participant_id)

    # --- meetings ---------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Take up the meetings that the rows say are running, and those who were in them."""
        await self._recovery.restore()
        await self.control.restored()
        self.floors.restored()

    async def open(
        self,
        title: str,
        host_site_id: str,
        *,
        number: str | None = None,
        pin_hash: str | None = None,
        conference_id: str | None = None,
    ) -> Meeting:
        """A new meeting; without a number it gets a free one of six digits. Raises NumberTaken."""
        if number is None:
            taken = {meeting.number for meeting in self._roster.meetings.values()}
            number = next(n for n in iter(_random_number, "") if n not in taken)
        meeting = Meeting(conference_id or new_id(), number, title, host_site_id, pin_hash)
        await self._roster.rows.opened(meeting)
        self._roster.meetings[meeting.conference_id] = meeting
        self._roster.bus.publish(ConferenceOpened(meeting.conference_id))
        return meeting

    async def end(self, conference_id: str, reason: str) -> None:
        """Close the row, hang everybody up, free the worker."""
        meeting = self._roster.meeting(conference_id)
        await self._roster.rows.ended(conference_id)
        if self._roster.meetings.pop(conference_id, None) is None:
            return  # ended by somebody else meanwhile
        self.control.forget(conference_id)
        await asyncio.gather(*(self.leave(member, reason) for member in tuple(meeting.members)))
        self.floors.forget(conference_id)
        desk = self._roster.placed_desk(conference_id)
        self._roster.workers.forget(conference_id)
        if desk is not None:
            await tolerant(desk.close(conference_id))
        self._roster.bus.publish(ConferenceEnded(conference_id, reason))

    async def set_view(self, conference_id: str, view: View, by: str = "schedule") -> None:
        """Mosaic, or one participant full screen. Raises UnknownMember for one who is not in."""
        meeting = self._roster.meeting(conference_id)
        if view.mode is ViewMode.FULL_SCREEN and view.participant_id not in meeting.members:
            raise UnknownMember(f"participant {view.participant_id} is not in meeting {meeting.number}")
        command = Command.FULL_SCREEN if view.mode is ViewMode.FULL_SCREEN else Command.MOSAIC
        order = Order(command, by, participant_id=view.participant_id, layout=view.layout)
        await self.control.give(conference_id, order)

    async def roll_calls(self, conference_id: str) -> tuple[RollCallRecord, ...]:
        """The records of a meeting, the latest first."""
        return await self._roster.rows.roll_calls(conference_id)

    async def report(self, conference_id: str) -> ConferenceReport:
        """What the meeting's worker measures; empty while the meeting has no worker."""
        self._roster.meeting(conference_id)
        desk = self._roster.placed_desk(conference_id)
        return ConferenceReport(conference_id, 0) if desk is None else await desk.report(conference_id)

    def desk(self, conference_id: str) -> ConferenceDesk | None:
        """Who has the meeting's media; None while nobody has. Raises UnknownMeeting."""
        self._roster.meeting(conference_id)
        return self._roster.placed_desk(conference_id)

    # --- participants -----------------------------------------------------------------------------

    async def join(
        self,
        conference_id: str,
        caller: Caller,
        offer: MediaDescription,
        access: Access,
        line: Line,
        dialog: DialogMaker | None = None,
    ) -> tuple[Member, MediaDescription]:
        """Admit a caller and answer its offer. Raises NotAdmitted, Refusal, UnknownMeeting.

        A locked meeting takes no newcomers; where there is a lobby, they wait in it. `dialog` makes the
        protocol's own state of the call, as it will be with our answer, for the caller's row.
        """
        meeting = self._roster.meeting(conference_id)
        if meeting.control.locked:
            raise Refusal(RefusalKind.LOCKED, f"meeting {meeting.number} is locked, nobody can join it now")
        member, others = self._admitted(meeting, caller, self._budgets.wanted(caller, offer), access, line)
        try:
            await self._budgets.share(others)
            await self.control.arriving(meeting, member)
            desk = await self._roster.desk(meeting)
            spec = member.spec
            answer = await desk.admit(spec, offer)
            await self._roster.still_in(desk, member)
            told = self.floors.answered(member, offer, answer)
            member.media, member.state = MediaRecord(answer, offer), MemberState.CONNECTED
            if dialog is not None:
                member.dialog = dialog(member, told)
            if not await self._roster.rows.joined(member):
                raise has_left(member)
            await self._roster.still_in(desk, member)
            await self._budgets.settle(member, spec.budget)
            self._announce_joined(meeting, member)
        except BaseException as error:
            await self._undo(meeting, member, error)
            raise
        return member, told

    async def join_camera(self, conference_id: str, caller: Caller, measured_bps: int = 0) -> Member:
        """Admit a camera, whose stream is named by the caller's address ("camera:ID").

        `measured_bps` is what it sends, 0 when nobody knows. Raises AlreadyIn; else as `join`.
        """
        meeting = self._roster.meeting(conference_id)
        if any(mate.caller.address == caller.address for mate in meeting.members.values()):
            raise AlreadyIn(f"{caller.address} is in meeting {meeting.number} already")
        wanted = self._budgets.camera(caller.site_id, measured_bps)
        member, _nobody = self._admitted(meeting, caller, wanted, Access.STREAM, NoLine())
        try:
            await self._roster.rows.joining(member)
            desk = await self._roster.desk(meeting)
            await desk.admit_stream(member.spec, caller.address)
            await self._roster.still_in(desk, member)
            await self._connected(meeting, member, None)
        except BaseException as error:
            await self._undo(meeting, member, error)
            raise
        return member

    async def dial(
        self, conference_id: str, caller: Caller, dialled: Dialled
    ) -> tuple[Member, MediaDescription]:
        """Make room for somebody whom we call; the offer to send. Raises as `join`."""
        meeting = self._roster.meeting(conference_id)
        wanted = self._budgets.of(caller)
        member, others = self._admitted(meeting, caller, wanted, Access.DIALLED_OUT, NoLine())
        try:
            await self._roster.rows.joining(member)
            await self._budgets.share(others)
            desk = await self._roster.desk(meeting)
            spec = member.spec
            offer = member.offered = await desk.offer(spec, dialled)
            await self._roster.still_in(desk, member)
            await self._budgets.settle(member, spec.budget)
        except BaseException as error:
            await self._undo(meeting, member, error)
            raise
        self._roster.announce(member)
        return member, offer if dialled is Dialled.WEBRTC else self.floors.offered(member, offer)

    async def answered(self, participant_id: str, answer: MediaDescription, line: Line) -> None:
        """The called peer answered."""
        member = self._roster.member(participant_id)
        meeting = self._roster.meeting(member.conference_id)
        member.line = line
        desk = await self._roster.desk(meeting)
        if member.offered is not None:
            answer = self.floors.taken(member, member.offered, answer)
        try:
            ours = await desk.answered(participant_id, answer)
        except Refusal as refusal:
            if refusal.kind is not RefusalKind.UNKNOWN_PARTICIPANT or member.offered is None:
                raise
            ours = member.offered  # its worker was lost while it rang
            await desk.resume_dialled(member.spec, ours, answer)
        await self._roster.still_in(desk, member)
        await self._connected(meeting, member, MediaRecord(ours, answer))

    async def renegotiate(self, participant_id: str, offer: MediaDescription) -> MediaDescription:
        """Answer a re-INVITE, or a page that offers anew after its worker was lost."""
        member = self._roster.member(participant_id)
        meeting = self._roster.meeting(member.conference_id)
        desk = await self._roster.desk(meeting)
        try:
            answer = await desk.renegotiate(participant_id, offer)
        except Refusal as refusal:
            if refusal.kind is not RefusalKind.UNKNOWN_PARTICIPANT:
                raise
            self._roster.member(participant_id)  # unknown there because it has left
            answer = await desk.admit(member.spec, offer)
        await self._roster.still_in(desk, member)
        member.media = MediaRecord(answer, offer)
        if member.access is Access.DIALLED_OUT:
            member.access = Access.DIALLED_IN  # our side is an answer now, and is taken up again as one
        told = self.floors.answered(member, offer, answer)
        await self._roster.set_state(member, MemberState.CONNECTED)
        await self.control.media_agreed(meeting, participant_id)
        return told

    def said_again(self, participant_id: str) -> MediaDescription | None:
        """What runs, as an offer of ours that changes nothing: no direction, no floor that was not there.

        None before there are media. Raises UnknownMember.
        """
        member = self._roster.member(participant_id)
        ours = None if member.media is None else member.media.ours
        return ours if ours is None or member.floor is None else self.floors.offered(member, ours)

    def offered_again(self, participant_id: str) -> MediaDescription | None:
        """What runs, as an offer of ours; None before there are media. Raises UnknownMember.

        Both ways, whatever was held: this is how a session is taken off hold too (RFC 6337 5.3).
        """
        member = self._roster.member(participant_id)
        if member.media is None:
            return None
        sections = (replace(s, direction=Direction.SENDRECV) for s in member.media.ours.sections)
        return self.floors.offered(member, replace(member.media.ours, sections=tuple(sections)))

    async def remember_dialog(self, participant_id: str, dialog: dict[str, object]) -> None:
        """Keep the protocol's own state of the call in the participant's row."""
        member = self._roster.member(participant_id)
        member.dialog = dialog
        await self._roster.rows.changed(member)

    async def leave(self, participant_id: str, reason: str, *, hang_up: bool = True) -> None:
        """Take a participant out; `hang_up` False when the peer itself ended the call."""
        member = self._roster.members.pop(participant_id, None)
        if member is None:
            return
        meeting = self._roster.meetings.get(member.conference_id)
        if meeting is not None:
            meeting.members.pop(participant_id, None)
        self._budgets.release(participant_id)
        self.floors.left(member)
        member.state = MemberState.LEFT
        goodbye = [_hang_up(member, reason)] if hang_up else []
        await asyncio.gather(self._write_off(member, meeting, reason), *goodbye)

    async def _write_off(self, member: Member, meeting: Meeting | None, reason: str) -> None:
        """Media, row and event of one who left; nothing waits for a goodbye that nobody may answer."""
        participant_id = member.participant_id
        desk = self._roster.placed_desk(member.conference_id)
        quality = None
        if desk is not None:
            if member.media is not None:
                quality = await self._qualities.of(desk, member.conference_id, participant_id)
            await tolerant(desk.drop(participant_id))
        await self._departures.write(member, reason, quality)
        self._roster.announce(member)
        await self._budgets.give_back(member.caller.site_id)
        if meeting is not None:
            await self.control.departed(meeting, participant_id)

    async def set_budget(self, participant_id: str, wanted: Budget) -> Budget:
        """Ask for another budget in mid-call; what was granted. Raises NotAdmitted and changes nothing."""
        return await self._budgets.set_budget(participant_id, wanted)

    async def sites_changed(self) -> None:
        """Sites or links were edited: running calls follow."""
        await self._budgets.sites_changed()

    async def refresh_picture(self, participant_id: str) -> None:
        """The peer asked for a key frame by signalling."""
        member = self._roster.member(participant_id)
        desk = self._roster.placed_desk(member.conference_id)
        if desk is not None:
            await desk.refresh_picture(participant_id)

    async def aclose(self) -> None:
        """The service stops: hang everybody up. Meetings, and cameras in them, go on when it runs again."""
        callers = [m.participant_id for m in self._roster.members.values() if m.camera is None]
        await asyncio.gather(*(self.leave(participant_id, "service stopped") for participant_id in callers))
        await self._departures.aclose()
        await self.control.aclose()

    # --- what workers tell ------------------------------------------------------------------------

    async def silent(self, participant_id: str) -> None:
        """No media for ten seconds, or ten more: probe the peer, and let it go when it does not answer."""
        member = self._roster.members.get(participant_id)
        if member is None or member.state is MemberState.CALLING or member.camera is not None:
            return
        if member.state is MemberState.CONNECTED:
            await self._roster.set_state(member, MemberState.SILENT)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                alive = await member.line.probe()
        except TimeoutError:
            alive = False
        if not alive and self._roster.state(participant_id) is MemberState.SILENT:
            await self.leave(participant_id, "vanished: no media and no answer")

    async def heard(self, participant_id: str) -> None:
        member = self._roster.members.get(participant_id)
        if member is not None and member.state is MemberState.SILENT:
            await self._roster.set_state(member, MemberState.CONNECTED)

    async def media_failed(self, participant_id: str, reason: str) -> None:
        """A transport is over. A page has a moment to offer anew before it counts as gone."""
        member = self._roster.members.get(participant_id)
        if member is None or member.camera is not None:  # its worker opens a stream again by itself
            return
        log.info("media_failed", participant=participant_id, why=reason)
        media = member.media
        await asyncio.sleep(REOFFER_SECONDS)
        if member.media is media:
            await self.leave(participant_id, reason)

    async def ask_fast_update(self, participant_id: str) -> None:
        """We need a key frame of a peer without RTCP feedback."""
        member = self._roster.members.get(participant_id)
        if member is not None:
            await member.line.ask_fast_update()

    def pressed(self, participant_id: str, digit: str) -> None:
        """Keys mean nothing once a caller is in."""

    async def worker_lost(self, worker: str) -> None:
        """Move every meeting of a lost worker to another one, without anybody dialling again."""
        await self._recovery.worker_lost(worker)

    async def worker_ready(self, worker: str, pid: int) -> None:
        """A worker answers: meetings that wait for a place get one."""
        await self._recovery.worker_ready(worker, pid)

    # --- steps ------------------------------------------------------------------------------------

    def _admitted(
        self, meeting: Meeting, caller: Caller, wanted: Budget, access: Access, line: Line
    ) -> tuple[Member, dict[str, Budget]]:
        """The new member, and the budgets of those at its site who had to make room."""
        participant_id = new_id()
        conference_id = meeting.conference_id
        member = Member(participant_id, conference_id, caller, access, wanted, wanted, line)
        member.since = self._roster.rows.moment()
        member.muted = meeting.control.mutes_newcomers
        grant = self._budgets.grant(meeting, member)
        member.budget = grant.budget
        self._roster.members[participant_id] = member
        meeting.members[participant_id] = member
        return member, grant.others

    async def _undo(self, meeting: Meeting, member: Member, error: BaseException) -> None:
        self._roster.members.pop(member.participant_id, None)
        meeting.members.pop(member.participant_id, None)
        self._budgets.release(member.participant_id)
        self.floors.left(member)
        desk = self._roster.placed_desk(meeting.conference_id)
        if desk is not None:
            await asyncio.shield(tolerant(desk.drop(member.participant_id)))
        await asyncio.shield(self._departures.write(member, str(error) or "cancelled"))
        await asyncio.shield(self._budgets.give_back(member.caller.site_id))
        await asyncio.shield(self.control.departed(meeting, member.participant_id))

    async def _connected(self, meeting: Meeting, member: Member, media: MediaRecord | None) -> None:
        member.media = media
        member.state = MemberState.CONNECTED
        await self._roster.rows.connected(member)
        self._announce_joined(meeting, member)

    def _announce_joined(self, meeting: Meeting, member: Member) -> None:
        self._roster.announce(member)
        log.info("joined", meeting=meeting.number, participant=member.participant_id, name=member.caller.name)


async def _hang_up(member: Member, reason: str) -> None:
    try:
        async with asyncio.timeout(HANG_UP_SECONDS):
            await member.line.hang_up(reason)
    except TimeoutError:
        log.warning("hang_up_unanswered", participant=member.participant_id)


def _random_number() -> str:
    return str(secrets.randbelow(900_000) + 100_000)
