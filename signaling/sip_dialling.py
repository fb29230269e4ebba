"""Calls from us: to a SIP address, to an account's registered terminals, to a telephone number by a trunk."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import structlog

from config.trunks import SrtpPolicy
from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import Dialled, MediaDescription, Refusal, RefusalKind, SectionKind
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import NameAddress
from protocols.sip.telephone import dialled_number, is_dialled
from protocols.sip.uri import SipUri
from signaling.callers import CallerDirectory
from signaling.media_description import read_sdp
from signaling.meeting import Caller, Member
from signaling.meetings import Meetings, UnknownMeeting, UnknownMember
from signaling.registrar import Registrar
from signaling.sip_conversations import SipConversations
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_line import RingingLine, SdpSession, SipLine
from signaling.sip_outgoing import OutgoingCall
from signaling.sip_progress import Answered, Refused
from signaling.sip_redirects import GIVEN_UP, Redirected, SipRedirects, is_by_tls, named
from signaling.sip_routing import Reach
from signaling.trunks.trunk import Trunk
from signaling.trunks.trunks import NoTrunk, Trunks, why_not

log = structlog.get_logger(__name__)

RING_SECONDS = 60.0
"""How long all terminals of one callee may ring together."""
LEAST_RING_SECONDS = 10.0


_MEDIA = (SectionKind.AUDIO, SectionKind.VIDEO, SectionKind.SLIDES)
_KEYS_REFUSED = frozenset({415, 488, 606})
"""Answers to an offer of SRTP after which plain RTP is offered, where that may be."""


@dataclass(frozen=True, slots=True)
class DialledNetworks:
    """The network that calls go out on when nothing names another; whether those by TLS offer SRTP, and where
    a 3xx may lead, by network."""

    default: str
    srtp: Mapping[str, SrtpPolicy] = field(default_factory=dict)
    redirects: Mapping[str, Sequence[str]] = field(default_factory=dict)


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
    srtp: SrtpPolicy = "off"
    trunk: Trunk | None = None
    number: str = ""

    @property
    def dialled(self) -> Dialled:
        """Keys are made if anybody may be sent them."""
        secured = self.srtp != "off" and any(is_by_tls(target, reach) for target, reach in self.targets)
        return Dialled.SECURED if secured else Dialled.PLAIN

    def offers_to(
        self, target: SipUri, reach: Reach | None, ours: MediaDescription
    ) -> tuple[MediaDescription, ...]:
        """What one terminal is offered, one after the other while it refuses; keys go by TLS only."""
        match self.srtp:
            case "offered" if is_by_tls(target, reach):
                return ours, _without_keys(ours)
            case "required":
                return (ours,) if is_by_tls(target, reach) else ()
            case _:
                return (_without_keys(ours),)

    def takes(self, answer: MediaDescription) -> bool:
        """Whether an answer is as secure as is required."""
        media = (s for s in answer.sections if s.port and s.kind in _MEDIA)
        return self.srtp != "required" or all(section.crypto for section in media)


class SipDialler:
    """`connect` gives it the endpoint."""

    def __init__(
        self,
        meetings: Meetings,
        conversations: SipConversations,
        networks: DialledNetworks,
        registrar: Registrar,
        trunks: Trunks,
        callers: CallerDirectory,
    ) -> None:
        self._redirects = SipRedirects(callers, trunks, networks.redirects)
        self._meetings = meetings
        self._conversations = conversations
        self._networks = networks
        self._registrar = registrar
        self._trunks = trunks
        self._endpoint: SipEndpoint | None = None
        self._dialling: set[asyncio.Task[None]] = set()

    def connect(self, endpoint: SipEndpoint) -> None:
        self._endpoint = endpoint

    async def dial(self, conference_id: str, address: str, site_id: str | None, name: str | None) -> Dialling:
        """Call somebody; returns while it rings. Raises CallFailed, NotAdmitted, Refusal, UnknownMeeting."""
        telephone = self._telephone(address)
        endpoint = self._endpoint
        if endpoint is None:
            raise CallFailed("this node has no SIP listener")
        callee = telephone or await self._callee_of(endpoint, address)
        target = callee.targets[0][0]
        sound_only = callee.trunk is not None and callee.trunk.settings.sound_only
        name = name or callee.number or target.user_text or target.host
        caller = Caller(name, site_id or callee.site_id, callee.network, address, sound_only)
        member, offer = await self._meetings.dial(conference_id, caller, callee.dialled)
        outcome: asyncio.Future[DialOutcome] = asyncio.get_running_loop().create_future()
        ringing = _Ringing(endpoint, member, callee, offer, outcome)
        task = asyncio.get_running_loop().create_task(self._ring(ringing), name=f"dial {address}")
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        return Dialling(member, outcome)

    def _telephone(self, address: str) -> _Callee | None:
        """Whom a telephone number means, None for an address of another kind. Raises CallFailed."""
        if not is_dialled(address):
            return None
        number = dialled_number(address)
        try:
            trunk = self._trunks.way_out(number)
        except NoTrunk as error:
            raise CallFailed(str(error)) from None
        return _over(trunk, trunk.target(number), number)

    async def _callee_of(self, endpoint: SipEndpoint, address: str) -> _Callee:
        """Whom a SIP address means. Raises CallFailed."""
        try:
            target = SipUri.parse(address)
        except SipSyntaxError as error:
            raise CallFailed(f"address {address!r}: {error}") from None
        trunk_there = self._trunks.at(target)
        if trunk_there is not None and target.user and not endpoint.is_ours(target):
            if trunk_there.is_full:
                raise CallFailed(why_not(trunk_there))
            return _over(trunk_there, target, target.user_text)
        callee = await self._callee(endpoint, target)
        if callee.srtp == "required" and not any(is_by_tls(*one) for one in callee.targets):
            raise CallFailed(f"{address} is not called by TLS, and network {callee.network} requires SRTP")
        return callee

    async def _callee(self, endpoint: SipEndpoint, target: SipUri) -> _Callee:
        """The terminals of an account of ours, else the address itself."""
        terminals = None
        if target.user and endpoint.is_ours(target):
            try:
                terminals = await self._registrar.terminals(target.user_text)
            except DatabaseError as error:
                raise CallFailed(f"who {target.user_text} is cannot be looked up: {error}") from None
        if terminals is None:
            network = self._networks.default
            return _Callee(((target, None),), network, None, self._networks.srtp.get(network, "off"))
        if not terminals:
            raise CallFailed(f"no terminal of the SIP account {target.user_text!r} is registered")
        network = terminals[0].network
        there = tuple((one.uri, one.reach) for one in terminals if one.network == network)
        return _Callee(there, network, terminals[0].site_id, self._networks.srtp.get(network, "off"))

    async def _ring(self, ringing: _Ringing) -> None:
        """Follow a call of ours to its end; whatever ends it, the participant is out then."""
        member, trunk = ringing.member, ringing.callee.trunk
        try:
            with nullcontext() if trunk is None else self._trunks.counted(trunk, outgoing=True):
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
        trunk = ringing.callee.trunk
        host = next(section.address for section in ringing.offer.sections)
        from_ = NameAddress(SipUri(host, user=meeting.number), display_name=meeting.title)
        if trunk is not None:
            from_ = trunk.caller
        answered = await self._first_answer(ringing, from_)
        if isinstance(answered, Refused):
            reason = f"{answered.status} {answered.reason}"
            await self._meetings.leave(member.participant_id, reason, hang_up=False)
            ringing.settle(answered.status, answered.reason)
            return
        trunk_name = None if trunk is None else trunk.name
        line = SipLine(answered.call, ringing.session, member.participant_id, trunk_name)
        try:
            if answered.sdp is None:
                raise Refusal(RefusalKind.BAD_DESCRIPTION, "the peer's 200 brought no answer")
            answer = read_sdp(answered.sdp)
            if not ringing.callee.takes(answer):
                raise Refusal(RefusalKind.NO_COMMON_CODEC, "the answer has no SRTP, which is required")
            await self._meetings.answered(member.participant_id, answer, line)
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
        """One terminal, and whoever answers in its place."""
        deadline = asyncio.get_running_loop().time() + seconds
        outcome = await self._offer_to(ringing, from_, target, reach, seconds)
        if not isinstance(outcome, Refused) or not named(outcome):
            return outcome

        async def ask(other: SipUri, to: NameAddress) -> Answered | Refused:
            left = deadline - asyncio.get_running_loop().time()
            if ringing.line.given_up or left <= 0:
                return Refused(GIVEN_UP, "no answer in time", local=True)
            return await self._offer_to(ringing, from_, other, None, left, to)

        callee = ringing.callee
        call = Redirected(ringing.endpoint, ringing.member, target, reach, callee.network, callee.trunk, ask)
        return await self._redirects.follow(call, outcome)

    async def _offer_to(
        self,
        ringing: _Ringing,
        from_: NameAddress,
        target: SipUri,
        reach: Reach | None,
        seconds: float,
        to: NameAddress | None = None,
    ) -> Answered | Refused:
        outcome: Answered | Refused = Refused(488, "SRTP is required, and needs TLS", local=True)
        for offer in ringing.callee.offers_to(target, reach, ringing.offer):
            outgoing = await self._invited(ringing, from_, target, reach, offer, to)
            ringing.line.rings(outgoing.cancel)
            try:
                async with asyncio.timeout(seconds):
                    outcome = await outgoing.result()
            except TimeoutError:
                outgoing.cancel()
                return await outgoing.result()
            if isinstance(outcome, Answered) or outcome.status not in _KEYS_REFUSED:
                break
        return outcome

    async def _invited(
        self,
        ringing: _Ringing,
        from_: NameAddress,
        target: SipUri,
        reach: Reach | None,
        offer: MediaDescription,
        to: NameAddress | None,
    ) -> OutgoingCall:
        trunk, sdp = ringing.callee.trunk, ringing.session.write(offer)
        network = ringing.callee.network
        if trunk is None:
            return await ringing.endpoint.invite(target, from_, network, sdp, reach=reach, to=to)
        fields = trunk.identity_fields
        return await ringing.endpoint.invite(
            target, from_, network, sdp, login=trunk.login, headers=fields, hop=trunk.hop, to=to
        )

    async def aclose(self) -> None:
        """Stop following calls that we made; the endpoint hangs them up."""
        for task in tuple(self._dialling):
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)


def _over(trunk: Trunk, target: SipUri, number: str) -> _Callee:
    if trunk.settings.transport == "tls" and trunk.settings.srtp != "off":
        target = replace(target, parameters=target.parameters.with_value("transport", "tls"))
    return _Callee(((target, None),), trunk.network, None, trunk.settings.srtp, trunk, number)


def _without_keys(ours: MediaDescription) -> MediaDescription:
    return replace(
        ours,
        sections=tuple(
            replace(section, protocol="RTP/AVP", crypto=()) if section.crypto else section
            for section in ours.sections
        ),
    )


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
