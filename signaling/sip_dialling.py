"""Calls from us: to a SIP address, or to the terminals that an account of ours has registered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import Dialled, MediaDescription, Refusal, RefusalKind
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import NameAddress
from protocols.sip.uri import SipUri
from signaling.media_description import read_sdp
from signaling.meeting import Caller, Member
from signaling.meetings import Meetings, UnknownMeeting, UnknownMember
from signaling.registrar import Registrar
from signaling.sip_conversations import SipConversations
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import Answered, Refused
from signaling.sip_line import RingingLine, SdpSession, SipLine
from signaling.sip_routing import Reach

log = structlog.get_logger(__name__)

RING_SECONDS = 60.0
"""How long all terminals of one callee may ring together."""
LEAST_RING_SECONDS = 10.0


class CallFailed(Exception):
    """An outgoing call cannot even be tried; the message says why."""


@dataclass(frozen=True, slots=True)
class DialOutcome:
    """How a call of ours was answered, as a SIP status."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dialling:
    """A call under way: the participant, who is `calling`, and what will have become of it."""

    member: Member
    outcome: asyncio.Future[DialOutcome]


@dataclass(frozen=True, slots=True)
class _Callee:
    """Where to ring, best first; all on one network, for which the offer is made."""

    targets: tuple[tuple[SipUri, Reach | None], ...]
    network: str
    site_id: str | None


class SipDialler:
    """`connect` gives it the endpoint; without a registrar addresses are called as they are."""

    def __init__(
        self,
        meetings: Meetings,
        conversations: SipConversations,
        default_network: str,
        registrar: Registrar | None = None,
    ) -> None:
        self._meetings = meetings
        self._conversations = conversations
        self._default_network = default_network
        self._registrar = registrar
        self._endpoint: SipEndpoint | None = None
        self._dialling: set[asyncio.Task[None]] = set()

    def connect(self, endpoint: SipEndpoint) -> None:
        self._endpoint = endpoint

    async def dial(self, conference_id: str, address: str, site_id: str | None, name: str | None) -> Dialling:
        """Call somebody; returns while it rings. Raises CallFailed, NotAdmitted, Refusal, UnknownMeeting."""
        try:
            target = SipUri.parse(address)
        except SipSyntaxError as error:
            raise CallFailed(f"address {address!r}: {error}") from None
        endpoint = self._endpoint
        if endpoint is None:
            raise CallFailed("this node has no SIP listener")
        callee = await self._callee(endpoint, target)
        name = name or target.user_text or target.host
        caller = Caller(name, site_id or callee.site_id, callee.network, address)
        member, offer = await self._meetings.dial(conference_id, caller, Dialled.PLAIN)
        outcome: asyncio.Future[DialOutcome] = asyncio.get_running_loop().create_future()
        ringing = _Ringing(endpoint, member, callee, offer, outcome)
        task = asyncio.get_running_loop().create_task(self._ring(ringing), name=f"dial {address}")
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        return Dialling(member, outcome)

    async def _callee(self, endpoint: SipEndpoint, target: SipUri) -> _Callee:
        """The terminals of an account of ours, else the address itself."""
        terminals = None
        if self._registrar is not None and target.user and endpoint.is_ours(target):
            try:
                terminals = await self._registrar.terminals(target.user_text)
            except DatabaseError as error:
                raise CallFailed(f"who {target.user_text} is cannot be looked up: {error}") from None
        if terminals is None:
            return _Callee(((target, None),), self._default_network, None)
        if not terminals:
            raise CallFailed(f"no terminal of the SIP account {target.user_text!r} is registered")
        network = terminals[0].network
        there = tuple((one.uri, one.reach) for one in terminals if one.network == network)
        return _Callee(there, network, terminals[0].site_id)

    async def _ring(self, ringing: _Ringing) -> None:
        """Follow a call of ours to its end; whatever ends it, the participant is out then."""
        member = ringing.member
        try:
            await self._ring_out(ringing)
        except (UnknownMember, UnknownMeeting, Refusal, DatabaseError, DeskFailed) as error:
            log.warning("dialling_failed", address=member.caller.address, why=str(error))
            await self._meetings.leave(member.participant_id, str(error))
        except Exception as error:
            log.error("dialling_failed", address=member.caller.address, exc_info=error)
            await self._meetings.leave(member.participant_id, "fault of ours")
        finally:
            ringing.settle(500, "fault of ours")

    async def _ring_out(self, ringing: _Ringing) -> None:
        member = ringing.member
        meeting = self._meetings.meeting(member.conference_id)
        member.line = ringing.line
        host = next(section.address for section in ringing.offer.sections)
        from_ = NameAddress(SipUri(host, user=meeting.number), display_name=meeting.title)
        answered = await self._first_answer(ringing, from_)
        if isinstance(answered, Refused):
            reason = f"{answered.status} {answered.reason}"
            await self._meetings.leave(member.participant_id, reason, hang_up=False)
            ringing.settle(answered.status, answered.reason)
            return
        line = SipLine(answered.call, ringing.session, member.participant_id)
        try:
            if answered.sdp is None:
                raise Refusal(RefusalKind.BAD_DESCRIPTION, "the peer's 200 brought no answer")
            await self._meetings.answered(member.participant_id, read_sdp(answered.sdp), line)
        except (Refusal, UnknownMember, UnknownMeeting, DatabaseError, DeskFailed) as error:
            ringing.settle(488, str(error))
            await answered.call.bye(str(error))
            await self._meetings.leave(member.participant_id, str(error), hang_up=False)
            return
        ringing.settle(200, "OK")
        await self._conversations.remember(line)
        await self._conversations.follow(line)

    async def _first_answer(self, ringing: _Ringing, from_: NameAddress) -> Answered | Refused:
        """Ring one terminal after the other until one answers, declines for all (6xx), or time is up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RING_SECONDS
        targets = ringing.callee.targets
        outcome: Answered | Refused = Refused(480, "no terminal", local=True)
        for index, (target, reach) in enumerate(targets):
            left = deadline - loop.time()
            if ringing.line.given_up or (index and left <= 0):
                break
            share = max(left / (len(targets) - index), LEAST_RING_SECONDS)
            outcome = await self._ring_one(ringing, from_, target, reach, share)
            if isinstance(outcome, Answered) or outcome.status >= 600:
                break
        return outcome

    async def _ring_one(
        self, ringing: _Ringing, from_: NameAddress, target: SipUri, reach: Reach | None, seconds: float
    ) -> Answered | Refused:
        sdp = ringing.session.write(ringing.offer)
        network = ringing.callee.network
        outgoing = await ringing.endpoint.invite(target, from_, network, sdp, reach=reach)
        ringing.line.rings(outgoing.cancel)
        try:
            async with asyncio.timeout(seconds):
                return await outgoing.result()
        except TimeoutError:
            outgoing.cancel()
            return await outgoing.result()

    async def aclose(self) -> None:
        """Stop following calls that we made; the endpoint hangs them up."""
        for task in tuple(self._dialling):
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)


class _Ringing:
    """What one call of ours carries along until it is answered."""

    def __init__(
        self,
        endpoint: SipEndpoint,
        member: Member,
        callee: _Callee,
        offer: MediaDescription,
        outcome: asyncio.Future[DialOutcome],
    ) -> None:
        self.endpoint = endpoint
        self.member = member
        self.callee = callee
        self.offer = offer
        self.line = RingingLine()
        self.session = SdpSession()
        self._outcome = outcome

    def settle(self, status: int, reason: str) -> None:
        """The first word on it stands."""
        if not self._outcome.done():
            self._outcome.set_result(DialOutcome(status, reason))
