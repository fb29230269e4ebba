"""The node's general number: callers key in which meeting they want (docs/decisions/0004-sip.md, point 9).

    lobby = SipLobby(meetings, callers, LobbyRoom(workers), number="8000")
    line = await lobby.take(call, Visit(claim, known))      # None: the call is over

Until they are in a meeting they are no participants: a media worker shows and tells them what to key in and
reads the telephone events of their media (RFC 4733); keys by INFO count too. Of a terminal that sends both,
the kind that came first counts. The meeting's media come with a re-INVITE.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import structlog

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import MediaDescription, Refusal, RefusalKind
from protocols.sip.dtmf import parse_key
from signaling.admission import NotAdmitted
from signaling.callers import CallerDirectory, Claim, Unidentified
from signaling.dial_plan import DialPlan
from signaling.lobby_room import LobbyRoom, Prompt, Visitor
from signaling.media_description import read_sdp
from signaling.meeting import Caller
from signaling.meetings import Meetings, UnknownMeeting
from signaling.sip_conversations import STATUS
from signaling.sip_events import (
    CallOver,
    Ended,
    InfoReceived,
    KeyPressed,
    MediaLost,
    Referred,
    Reinvited,
    ReinviteRefused,
)
from signaling.sip_incoming import IncomingCall
from signaling.sip_line import SdpSession, SipLine
from signaling.sip_moves import bring_in

log = structlog.get_logger(__name__)

MOST_CALLERS = 50
NUMBER_PROMPT = Prompt("请输入会议号，按 # 结束\nMeeting number, then #", "lobby-number")
PIN_PROMPT = Prompt("请输入会议密码，按 # 结束\nMeeting PIN, then #", "lobby-pin")
AGAIN_PROMPT = Prompt("会议号或密码有误，请重新输入\nNot found or wrong PIN: try again", "lobby-again")


@dataclass(frozen=True, slots=True)
class Visit:
    """A call to the general number, or to a meeting's own telephone number (`number`).

    `known` is its site; without one a PIN is asked for. A telephone is `sound_only`.
    """

    claim: Claim
    known: Caller | None = None
    number: str | None = None
    sound_only: bool = False


class SipLobby:
    """Takes the calls of `number`; with None only those that others hand over."""

    def __init__(
        self, meetings: Meetings, callers: CallerDirectory, room: LobbyRoom, number: str | None
    ) -> None:
        self.number = number
        self.room = room
        self._meetings = meetings
        self._callers = callers

    async def take(self, call: IncomingCall, visit: Visit) -> SipLine | None:
        """Answer, and listen to the keys; the line of a participant, or None when the call is over.

        Raises Refusal, CallCancelled.
        """
        if len(self.room) >= MOST_CALLERS:
            raise Refusal(RefusalKind.NO_CAPACITY, "too many callers key in a meeting number", retry_after=30)
        plan = DialPlan(
            needs_pin=visit.known is None, now=asyncio.get_running_loop().time(), given=visit.number
        )
        visitor = Visitor(call.network, _prompt(plan), visit.sound_only)
        talk = _Talk(visit, visitor, plan, SdpSession())
        try:
            line = await self._answered(call, talk)
            return None if line is None else await self._listen_well(line, talk)
        finally:
            await asyncio.shield(self.room.leave(visitor))

    async def _answered(self, call: IncomingCall, talk: _Talk) -> SipLine | None:
        visitor = talk.visitor
        if call.offer is not None:
            answer = await self.room.enter(visitor, read_sdp(call.offer))
            return _connected(SipLine(call.accept(talk.session.write(answer)), talk.session, ""), visitor)
        ours = await self.room.offer(visitor)
        line = _connected(SipLine(call.accept(talk.session.write(ours)), talk.session, ""), visitor)
        try:
            theirs = await line.call.wait_established()
            if theirs is None:
                raise Refusal(RefusalKind.BAD_DESCRIPTION, "the ACK brought no answer to our offer")
            await self.room.answered(visitor, read_sdp(theirs))
        except CallOver:
            return None
        except Refusal as refusal:
            await self._let_go(line, 488, refusal.detail)
            return None
        return line

    async def _listen_well(self, line: SipLine, talk: _Talk) -> SipLine | None:
        speaking = asyncio.create_task(self._speak(line, talk.visitor), name="lobby.speak")
        try:
            return await self._listen(line, talk)
        except Exception:
            line.call.hang_up("fault of ours", status=500)
            raise
        finally:
            speaking.cancel()
            await asyncio.wait([speaking])

    async def _speak(self, line: SipLine, visitor: Visitor) -> None:
        try:
            await line.call.wait_established()  # before its ACK a caller may not listen yet
        except CallOver:
            return
        await self.room.speak(visitor)

    async def _listen(self, line: SipLine, talk: _Talk) -> SipLine | None:
        events = line.call.events()
        while True:
            try:
                async with asyncio.timeout_at(talk.plan.deadline):
                    event = await anext(events)
            except TimeoutError:
                await self._let_go(line, 408, "No meeting number came")
                return None
            match event:
                case InfoReceived():
                    key = parse_key(event.content_type, event.body)
                    entered = key is not None and await self._pressed(line, talk, key.key, in_media=False)
                case KeyPressed():
                    entered = await self._pressed(line, talk, event.key, in_media=True)
                case Reinvited():
                    entered = False
                    await self._reinvited(line, talk.visitor, event)
                case Referred():
                    entered = False
                    event.refuse(603, "Not in a meeting yet")
                case MediaLost():
                    await self._let_go(line, 503, "The media were lost")
                    return None
                case Ended():
                    return None
                case _:
                    entered = False
            if entered:
                return line
            if talk.given_up:
                await self._let_go(line, 403, "No such meeting, or wrong PIN")
                return None

    async def _pressed(self, line: SipLine, talk: _Talk, key: str, *, in_media: bool) -> bool:
        """One key; whether the caller is in a meeting now."""
        talk.keys_in_media = in_media if talk.keys_in_media is None else talk.keys_in_media
        if talk.keys_in_media is not in_media:
            return False
        now = asyncio.get_running_loop().time
        chosen = talk.plan.press(key, now())
        prompt = _prompt(talk.plan)
        if chosen is not None:
            if await self._enter(line, talk, chosen.number, chosen.pin):
                return True
            talk.given_up = not talk.plan.failed(now())
            prompt = AGAIN_PROMPT
        elif key not in "#*" and talk.visitor.prompt == AGAIN_PROMPT:
            prompt = AGAIN_PROMPT  # until the next entry is whole
        if prompt != talk.visitor.prompt and not talk.given_up:
            await self.room.prompt(talk.visitor, prompt)
        return False

    async def _enter(self, line: SipLine, talk: _Talk, number: str, pin: str | None) -> bool:
        """Bring the caller into the meeting of its choice; False when that may be tried again."""
        visit, theirs = talk.visit, talk.visitor.theirs
        source = visit.claim.source
        try:
            meeting = self._meetings.by_number(number)
            caller = visit.known
            if caller is None:
                if pin is None or meeting.pin_hash is None:
                    return False
                caller = await self._callers.guest(visit.claim, pin, meeting)
            caller = replace(caller, sound_only=visit.sound_only)
            if theirs is None:
                return False
            await bring_in(self._meetings, line, meeting, caller, theirs)
        except (UnknownMeeting, Unidentified) as error:
            log.info("lobby_refused", why=str(error), source=source)
            return False
        except (NotAdmitted, Refusal, DatabaseError, DeskFailed) as error:
            log.warning("lobby_refused", why=str(error), source=source)
            return False
        return True

    async def _reinvited(self, line: SipLine, visitor: Visitor, event: Reinvited) -> None:
        """Other media, or ours once more where the caller wants our offer."""
        try:
            if event.offer is not None:
                theirs: MediaDescription = read_sdp(event.offer)
                event.answer(line.session.write(await self.room.renegotiate(visitor, theirs)))
            elif visitor.ours is not None:
                answer = await event.answer(line.session.write(visitor.ours))
                if answer is not None:
                    await self.room.renegotiate(visitor, read_sdp(answer))
        except Refusal as refusal:
            event.refuse(STATUS.get(refusal.kind, 488), refusal.detail)
        except DeskFailed as error:
            log.error("call_step_failed", why=str(error))
            event.refuse(500, "Fault of ours; the session stays as it was")
        except (CallOver, ReinviteRefused):
            return  # the events say so, too

    async def _let_go(self, line: SipLine, status: int, reason: str) -> None:
        log.info("lobby_left", why=reason)
        await line.call.bye(reason, status=status)


@dataclass(slots=True)
class _Talk:
    """One caller's way to a meeting. `keys_in_media` is how its keys come, once one has come."""

    visit: Visit
    visitor: Visitor
    plan: DialPlan
    session: SdpSession
    keys_in_media: bool | None = None
    given_up: bool = False


def _connected(line: SipLine, visitor: Visitor) -> SipLine:
    """What the worker tells of the visitor's media goes among the events of its call."""
    visitor.pressed = lambda key: line.call.tell(KeyPressed(key))
    visitor.lost = lambda reason: line.call.tell(MediaLost(reason))
    return line


def _prompt(plan: DialPlan) -> Prompt:
    return PIN_PROMPT if plan.awaits_pin else NUMBER_PROMPT
