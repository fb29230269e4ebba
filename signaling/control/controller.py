"""Carries orders out, one at a time a meeting, and turns the polling."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

import structlog

from foundation.database import DatabaseError
from foundation.desks import ConferenceDesk
from foundation.events import ConferenceChanged
from signaling.control.machine import Decision, decide
from signaling.control.orders import Command, Order
from signaling.control.people import People, Person, arriving, departed
from signaling.control.polling import following, turned, turned_without
from signaling.control.staging import staged
from signaling.control.state import ControlState
from signaling.meeting import Meeting, Member, MemberState
from signaling.roster import Roster, tolerant

log = structlog.get_logger(__name__)

LEAD_SECONDS = 0.6
"""How long before its turn a site is asked for a key frame: a round trip and a picture on a slow line."""


class MeetingControl:
    """`leave` takes a participant out (id, reason), `end` ends a meeting (id, reason).

    `slides_changed` is told when somebody else presents, or nobody.
    """

    def __init__(
        self,
        roster: Roster,
        leave: Callable[[str, str], Awaitable[None]],
        end: Callable[[str, str], Awaitable[None]],
        slides_changed: Callable[[Meeting], None],
    ) -> None:
        self._roster = roster
        self._leave = leave
        self._end = end
        self._slides_changed = slides_changed
        self._locks: dict[str, asyncio.Lock] = {}
        self._turns: dict[str, asyncio.Task[None]] = {}

    async def give(self, conference_id: str, order: Order) -> ControlState:
        """Carry an order out.

        Raises NotAllowed, NotNow, Outdated, UnknownMeeting, DatabaseError or Refusal, with nothing changed.
        """
        async with self._lock(conference_id):
            meeting = self._roster.meeting(conference_id)
            decision = decide(meeting.control, people_of(meeting), order, self._roster.rows.now())
            await self._decided(meeting, decision)
        if decision.drop is not None:
            await self._leave(decision.drop, f"dropped by {order.by}")
        if decision.end:
            await self._end(conference_id, f"ended by {order.by}")
        return decision.state

    async def arriving(self, meeting: Meeting, member: Member) -> None:
        """Before a newcomer's media is taken: it may have to wait in the lobby, or to be silent."""
        async with self._lock(meeting.conference_id):
            control = meeting.control
            guest = member.caller.site_id is None
            state = arriving(control, member.participant_id, self._roster.rows.now(), guest=guest)
            if state != control:
                await self._decided(meeting, Decision(state))

    async def departed(self, meeting: Meeting, participant_id: str) -> None:
        """Nothing is left of one who is gone. It is gone whether or not that can be written."""
        async with self._lock(meeting.conference_id):
            state = departed(meeting.control, participant_id, self._roster.rows.now())
            state = turned_without(state, people_of(meeting), participant_id)
            if state == meeting.control or meeting.conference_id not in self._roster.meetings:
                return
            view, _staging = staged(state, people_of(meeting))
            try:
                await self._roster.rows.controlled(meeting.conference_id, state, view, ())
            except DatabaseError as error:
                log.error("row_not_written", why=str(error))
            await self._apply(meeting, state)

    async def media_agreed(self, meeting: Meeting, participant_id: str) -> None:
        """A participant's media were agreed anew: without a stream for slides it presents no more."""
        if meeting.control.slides != participant_id:
            return
        async with self._lock(meeting.conference_id):
            state = meeting.control
            person = people_of(meeting).get(participant_id)
            if state.slides == participant_id and person is not None and not person.slides:
                ended = replace(state, slides=None)
                now = self._roster.rows.now()
                said = ended.decided(Command.STOP_PRESENTING, "lost its stream", now, participant_id)
                await self._decided(meeting, Decision(said))

    async def restored(self) -> None:
        """Meetings came from the rows: who is not among them any more is forgotten, pollings turn again."""
        for meeting in self._roster.running:
            state, now = meeting.control, self._roster.rows.now()
            for participant_id in mentioned(state) - meeting.members.keys():
                state = departed(state, participant_id, now)
            view, staging = staged(state, people_of(meeting))
            if state != meeting.control:
                await self._roster.rows.controlled(meeting.conference_id, state, view, ())
            meeting.control, meeting.view, meeting.staging = state, view, staging
            self._poll(meeting, ControlState())

    def forget(self, conference_id: str) -> None:
        """The meeting has ended."""
        self._locks.pop(conference_id, None)
        task = self._turns.pop(conference_id, None)
        if task is not None:
            task.cancel()

    async def aclose(self) -> None:
        turns = tuple(self._turns.values())
        for conference_id in tuple(self._turns):
            self.forget(conference_id)
        await asyncio.gather(*turns, return_exceptions=True)

    # --- steps ------------------------------------------------------------------------------------

    def _lock(self, conference_id: str) -> asyncio.Lock:
        return self._locks.setdefault(conference_id, asyncio.Lock())

    async def _decided(self, meeting: Meeting, decision: Decision) -> None:
        """Row, memory, worker, events."""
        state = decision.state
        view, staging = staged(state, people_of(meeting))
        desk = self._roster.placed_desk(meeting.conference_id)
        if desk is not None and staging.without_self - meeting.staging.without_self:
            await desk.set_staging(meeting.conference_id, view, staging)  # the worker may refuse it
        members = _muted(meeting, decision.mute, True) + _muted(meeting, decision.unmute, False)
        try:
            await self._roster.rows.controlled(meeting.conference_id, state, view, members)
        except BaseException:
            for member in members:
                member.muted = not member.muted
            raise
        await self._apply(meeting, state)
        if desk is not None:
            await asyncio.gather(
                *(tolerant(desk.set_muted(member.participant_id, member.muted)) for member in members)
            )
        for member in members:
            self._roster.announce(member)

    async def _apply(self, meeting: Meeting, state: ControlState) -> None:
        before, meeting.control = meeting.control, state
        if (before.slides, before.slides_request) != (state.slides, state.slides_request):
            self._slides_changed(meeting)
        await self._show(meeting)
        self._poll(meeting, before)
        self._roster.bus.publish(ConferenceChanged(meeting.conference_id))

    async def _show(self, meeting: Meeting) -> None:
        """Tell the worker what is shown now; another worker gets it with the meeting."""
        before = meeting.view, meeting.staging
        meeting.view, meeting.staging = staged(meeting.control, people_of(meeting))
        desk = self._roster.placed_desk(meeting.conference_id)
        if desk is None or before == (meeting.view, meeting.staging):
            return
        if before[1] == meeting.staging:
            await tolerant(desk.set_view(meeting.conference_id, meeting.view))
        else:
            await tolerant(desk.set_staging(meeting.conference_id, meeting.view, meeting.staging))

    # --- polling ----------------------------------------------------------------------------------

    def _poll(self, meeting: Meeting, before: ControlState) -> None:
        """A new turn, by whomever, is shown for a whole interval."""
        if meeting.control.polling == before.polling:
            return
        task = self._turns.pop(meeting.conference_id, None)
        if task is not None:
            task.cancel()
        if meeting.control.polling is not None:
            turning = self._turn(meeting.conference_id)
            name = f"poll {meeting.number}"
            self._turns[meeting.conference_id] = asyncio.get_running_loop().create_task(turning, name=name)

    async def _turn(self, conference_id: str) -> None:
        """Turn after turn until the polling ends; the next site's picture is made ready before its turn."""
        while True:
            meeting = self._roster.meetings.get(conference_id)
            polling = None if meeting is None else meeting.control.polling
            if meeting is None or polling is None:
                return
            await asyncio.sleep(polling.interval - LEAD_SECONDS)
            desk = self._roster.placed_desk(conference_id)
            if desk is not None:
                await self._prepare(desk, meeting)
            await asyncio.sleep(LEAD_SECONDS)
            async with self._lock(conference_id):
                state = turned(meeting.control, people_of(meeting))
                if state != meeting.control:
                    meeting.control = state
                    await self._show(meeting)
                    self._roster.bus.publish(ConferenceChanged(conference_id))

    async def _prepare(self, desk: ConferenceDesk, meeting: Meeting) -> None:
        upcoming = following(meeting.control, people_of(meeting))
        if meeting.control.polling is not None and upcoming != meeting.control.polling.shown:
            staging = replace(meeting.staging, next_shown=upcoming)
            await tolerant(desk.set_staging(meeting.conference_id, meeting.view, staging))


def people_of(meeting: Meeting) -> People:
    """The meeting's members as control sees them."""
    return {
        key: Person(
            member.caller.name,
            member.caller.site_id,
            member.muted,
            member.state is MemberState.CONNECTED,
            member.has_slides,
        )
        for key, member in meeting.members.items()
    }


def mentioned(state: ControlState) -> set[str]:
    """Everybody whom a state has something to say about."""
    wishes = (*state.chair_wishes, *state.floor_wishes, *state.waiting)
    single = (state.subject, state.chair, state.floor, state.view.participant_id, state.slides)
    call = () if state.roll_call is None else state.roll_call.entries
    return {
        *(wish.participant_id for wish in wishes),
        *(key for key in single if key is not None),
        *state.selected,
        *state.selected.values(),
        *state.deafened,
        *state.cameras_off,
        *state.without_self,
        *state.gains_db,
        *(entry.participant_id for entry in call),
    }


def _muted(meeting: Meeting, whom: Iterable[str], muted: bool) -> list[Member]:
    members = [meeting.members[key] for key in whom if key in meeting.members]
    for member in members:
        member.muted = muted
    return members
