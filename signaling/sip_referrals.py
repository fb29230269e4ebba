"""REFER from participants (RFC 3515): into another meeting of ours, or somebody else into this one.

What is taken, and from whom, is in docs/decisions/0004-sip.md. Everything else is refused by name.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import structlog

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import Refusal
from protocols.sip.digest import Outcome, Verdict
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.refer import SIPFRAG, Referral, sipfrag
from protocols.sip.uri import SipUri
from signaling.admission import NotAdmitted
from signaling.callers import CallerDirectory, Claim, Unidentified
from signaling.meeting import Caller, Meeting, Member
from signaling.meetings import Meetings, UnknownMeeting, UnknownMember
from signaling.sip_conversations import STATUS, SipConversations
from signaling.sip_dialling import CallFailed, SipDialler
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import CallOver, Referred
from signaling.sip_line import SipLine
from signaling.sip_moves import bring_in
from signaling.trunks.trunks import Trunks

log = structlog.get_logger(__name__)

PIN_MARK = "*"
SECONDS = 60
"""How long we say that a referral may take; RING_SECONDS of a call bounds it."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What became of a referral, as the status of a SIP response."""

    status: int
    reason: str | None = None


class SipReferrals:
    """Takes the REFERs of calls that are up; one at a time of each call."""

    def __init__(
        self,
        meetings: Meetings,
        callers: CallerDirectory,
        dialler: SipDialler,
        conversations: SipConversations,
        trunks: Trunks,
    ) -> None:
        self._trunks = trunks
        self._meetings = meetings
        self._callers = callers
        self._dialler = dialler
        self._conversations = conversations
        self._endpoint: SipEndpoint | None = None
        self._busy: dict[SipLine, Referral] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self, endpoint: SipEndpoint) -> None:
        self._endpoint = endpoint

    def take(self, line: SipLine, event: Referred) -> None:
        """Answer the REFER at once, and do what it asks in a task of its own."""
        try:
            referral = Referral.parse(event.request)
            member = self._meetings.member(line.participant_id)
        except SipSyntaxError as error:
            event.refuse(400, f"Bad Request: {error}")
            return
        except UnknownMember:
            event.refuse(481, "Participant has left")
            return
        target = referral.target
        if not referral.is_plain_invite or not isinstance(target, SipUri):
            event.refuse(603, "Only a plain INVITE of a SIP address can be referred to")
        elif line in self._busy:
            event.refuse(491, "An earlier REFER is under way")
        elif self._endpoint is None or not (self._leads_here(target) or self._may_invite(member)):
            event.refuse(403, "Only terminals of the host's site may call others in")
        else:
            event.accept(() if referral.notified else (("Refer-Sub", "false"),))
            work = self._carry_out(line, member, referral, target)
            task = asyncio.get_running_loop().create_task(work, name=f"refer {target}")
            self._busy[line] = referral
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _leads_here(self, target: SipUri) -> bool:
        """To a meeting of ours, or to what would be one: then the terminal moves itself."""
        return self._endpoint is not None and self._endpoint.is_ours(target)

    def _may_invite(self, member: Member) -> bool:
        try:
            host = self._meetings.meeting(member.conference_id).host_site_id
        except UnknownMeeting:
            return False
        return member.caller.site_id == host

    async def _carry_out(self, line: SipLine, member: Member, referral: Referral, target: SipUri) -> None:
        try:
            await self._tell(line, referral, _Verdict(100), last=False)
            verdict = await self._verdict(line, member, referral, target)
            log.info("referred", target=str(target), status=verdict.status, by=member.caller.name)
            self._free(line, referral)  # the peer may ask anew as soon as it has read how this ended
            await self._tell(line, referral, verdict, last=True)
        except CallOver:
            return  # nobody is left to be told
        finally:
            self._free(line, referral)

    def _free(self, line: SipLine, referral: Referral) -> None:
        if self._busy.get(line) is referral:
            del self._busy[line]

    async def _verdict(self, line: SipLine, member: Member, referral: Referral, target: SipUri) -> _Verdict:
        try:
            if self._leads_here(target):
                number, _star, pin = target.user_text.partition(PIN_MARK)
                if not await self._is_account(number):
                    return await self._move(line, member, self._meetings.by_number(number), pin)
                if not self._may_invite(member):
                    return _Verdict(403)
            if self._trunks.at(target) is not None:
                return _Verdict(403, "Telephones are called by operators only")
            return await self._invite(member, referral, target)
        except UnknownMeeting:
            return _Verdict(404)
        except Unidentified as error:
            return _Verdict(error.status if error.status != 401 else 403, error.reason)
        except CallFailed as error:
            return _Verdict(480, str(error))
        except NotAdmitted as error:
            return _Verdict(503, str(error))
        except Refusal as error:
            return _Verdict(STATUS.get(error.kind, 503), error.detail)
        except UnknownMember:
            return _Verdict(481)
        except (DatabaseError, DeskFailed) as error:
            log.error("referral_failed", why=str(error))
            return _Verdict(500)

    async def _is_account(self, user: str) -> bool:
        running = any(meeting.number == user for meeting in self._meetings.running)
        return not running and await self._callers.known_account(user) is not None

    async def _move(self, line: SipLine, member: Member, meeting: Meeting, pin: str) -> _Verdict:
        if meeting.conference_id == member.conference_id:
            return _Verdict(200)
        caller = await self._admissible(line, member.caller, meeting, pin)
        if member.media is None:
            return _Verdict(491, "No media yet")
        await bring_in(self._meetings, line, meeting, caller, member.media.theirs)
        await self._conversations.remember(line)
        return _Verdict(200)

    async def _admissible(self, line: SipLine, caller: Caller, meeting: Meeting, pin: str) -> Caller:
        """A site may enter any meeting, a guest those whose PIN it knows. Raises Unidentified."""
        if caller.site_id is not None:
            return caller
        if not pin or meeting.pin_hash is None:
            raise Unidentified(403, "A guest needs the PIN of the other meeting")
        claim = Claim(
            network=caller.network,
            address=caller.address,
            source=line.call.flow.host,
            verdict=Verdict(Outcome.ABSENT),
            certified=None,
            claimed="",
            display_name=caller.name,
            pin=pin,
        )
        return replace(await self._callers.guest(claim, pin, meeting), name=caller.name)

    async def _invite(self, member: Member, referral: Referral, target: SipUri) -> _Verdict:
        name = referral.display_name or None
        dialling = await self._dialler.dial(member.conference_id, str(target), None, name)
        await self._callers.note(member.caller, "call", f"conference:{member.conference_id}", str(target))
        outcome = await dialling.outcome
        return _Verdict(outcome.status, outcome.reason)

    async def _tell(self, line: SipLine, referral: Referral, verdict: _Verdict, *, last: bool) -> None:
        """NOTIFY (2.4.5); its id tells the referrals of a dialog apart, the first may go without (2.4.6)."""
        if not referral.notified:
            return
        event = "refer" if line.first_referral in (None, referral.number) else f"refer;id={referral.number}"
        line.first_referral = line.first_referral or referral.number
        state = "terminated;reason=noresource" if last else f"active;expires={SECONDS}"
        fields = (("Event", event), ("Subscription-State", state), ("Content-Type", SIPFRAG))
        await line.call.notify(fields, sipfrag(verdict.status, verdict.reason))

    async def aclose(self) -> None:
        """Let what is under way go."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
