"""SIP calls into meetings and out of them: what the endpoint knows, in meeting control's words."""

from __future__ import annotations

import structlog

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import Dialled, Refusal, RefusalKind
from foundation.telemetry import log_context
from protocols.sip.uri import SipUri
from signaling.admission import NotAdmitted
from signaling.callers import CallerDirectory, Unidentified
from signaling.media_description import read_sdp
from signaling.meeting import Access, Caller, Meeting, Member
from signaling.meetings import Meetings, UnknownMeeting, UnknownMember
from signaling.registrar import Registrar
from signaling.sip_claims import claim_of_call
from signaling.sip_conversations import STATUS, SipConversations
from signaling.sip_dialling import CallFailed, SipDialler
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import CallCancelled, CallOver
from signaling.sip_incoming import IncomingCall
from signaling.sip_line import PendingLine, SdpSession, SipLine
from signaling.sip_lobby import SipLobby
from signaling.sip_referrals import SipReferrals
from signaling.sip_revival import SipRevival

__all__ = ["CallFailed", "SipCalls"]

log = structlog.get_logger(__name__)

PIN_MARK = "*"


class SipCalls:
    """Brings SIP calls into meetings; `connect` gives it the endpoint that hands calls to `take`."""

    def __init__(
        self,
        meetings: Meetings,
        callers: CallerDirectory,
        default_network: str,
        registrar: Registrar | None = None,
        lobby: SipLobby | None = None,
    ) -> None:
        self._lobby = lobby
        self._endpoint: SipEndpoint | None = None
        self._meetings = meetings
        self._callers = callers
        self._conversations = SipConversations(meetings)
        self._dialler = SipDialler(meetings, self._conversations, default_network, registrar)
        self._referrals = SipReferrals(meetings, callers, self._dialler, self._conversations)
        self._conversations.refer_to(self._referrals.take)
        self._revival = SipRevival(meetings, self._conversations)

    def connect(self, endpoint: SipEndpoint) -> None:
        self._endpoint = endpoint
        self._dialler.connect(endpoint)
        self._referrals.connect(endpoint)

    async def take_up(self, endpoint: SipEndpoint) -> None:
        """Go on with the calls of an earlier process, before the first message can arrive."""
        await self._revival.take_up(endpoint)

    # --- calls to us ------------------------------------------------------------------------------

    async def take(self, call: IncomingCall) -> None:
        """Answer one INVITE, then follow the call to its end."""
        with log_context(call=call.call_id):
            try:
                line = await self._answer(call)
            except CallCancelled:
                log.info("call_cancelled")
                return
            if line is not None:
                await self._conversations.follow(line)

    async def _answer(self, call: IncomingCall) -> SipLine | None:
        try:
            if self._lobby is not None and self._endpoint is not None and _user(call) == self._lobby.number:
                return await self._from_lobby(call, self._lobby, self._endpoint)
            meeting, pin = self._called(call)
            caller = await self._callers.resolve(claim_of_call(call, pin), meeting)
            if call.offer is None:
                return await self._answer_offerless(call, meeting, caller)
            return await self._answer_offer(call, meeting, caller, call.offer)
        except UnknownMeeting as error:
            call.reject(404, "No such meeting")
            log.info("call_refused", why=str(error))
        except Unidentified as error:
            log.info("call_refused", why=error.reason, source=call.source[0])
            if error.challenge:
                call.challenge()
            else:
                call.reject(error.status, error.reason)
        except NotAdmitted as error:
            log.warning("call_refused", why=str(error))
            call.reject(503, str(error), (_warning(370, str(error)), ("Retry-After", "30")))
        except Refusal as error:
            log.warning("call_refused", why=error.detail, kind=error.kind)
            _reject(call, error)
        except DatabaseError as error:
            log.error("call_refused", why=str(error))
            call.reject(503, "Database busy", (("Retry-After", "5"),))
        return None

    def _called(self, call: IncomingCall) -> tuple[Meeting, str | None]:
        """The meeting of the Request-URI, and the PIN behind a star."""
        number, star, pin = _user(call).partition(PIN_MARK)
        return self._meetings.by_number(number), pin if star else None

    async def _from_lobby(self, call: IncomingCall, lobby: SipLobby, endpoint: SipEndpoint) -> SipLine | None:
        line = await lobby.take(call, endpoint.advertised_host(call.network))
        if line is not None:
            await self._conversations.remember(line)
        return line

    async def _answer_offer(
        self, call: IncomingCall, meeting: Meeting, caller: Caller, offer: bytes
    ) -> SipLine:
        session = SdpSession()
        pending = PendingLine()
        member, answer = await self._meetings.join(
            meeting.conference_id, caller, read_sdp(offer), Access.DIALLED_IN, pending
        )
        try:
            line = SipLine(call.accept(session.write(answer)), session, member.participant_id)
        except CallCancelled:
            await self._meetings.leave(member.participant_id, "the caller gave up", hang_up=False)
            raise
        member.line = line
        await self._conversations.remember(line)
        return line

    async def _answer_offerless(self, call: IncomingCall, meeting: Meeting, caller: Caller) -> SipLine | None:
        """RFC 3264 1: the offer goes in our 200, the answer comes in the ACK."""
        session = SdpSession()
        member, offer = await self._meetings.dial(meeting.conference_id, caller, Dialled.PLAIN)
        try:
            accepted = call.accept(session.write(offer))
        except CallCancelled:
            await self._meetings.leave(member.participant_id, "the caller gave up", hang_up=False)
            raise
        line = member.line = SipLine(accepted, session, member.participant_id)
        try:
            answer = await accepted.wait_established()
            if answer is None:
                raise Refusal(RefusalKind.BAD_DESCRIPTION, "the ACK brought no answer to our offer")
            await self._meetings.answered(member.participant_id, read_sdp(answer), line)
        except (Refusal, CallOver, UnknownMember, UnknownMeeting, DatabaseError, DeskFailed) as error:
            await self._meetings.leave(member.participant_id, str(error))
            await accepted.bye(str(error))
            return None
        await self._conversations.remember(line)
        return line

    # --- calls from us ----------------------------------------------------------------------------

    async def dial(self, conference_id: str, address: str, site_id: str | None, name: str | None) -> Member:
        """Call somebody; returns while it rings. Raises CallFailed, NotAdmitted, Refusal, UnknownMeeting."""
        return (await self._dialler.dial(conference_id, address, site_id, name)).member

    async def aclose(self) -> None:
        """Stop following calls that we made or took up; the endpoint hangs them up."""
        await self._referrals.aclose()
        await self._dialler.aclose()
        await self._revival.aclose()


def _user(call: IncomingCall) -> str:
    return call.called.user_text if isinstance(call.called, SipUri) else ""


def _reject(call: IncomingCall, refusal: Refusal) -> None:
    status = STATUS.get(refusal.kind, 503)
    fields = []
    if status == 488:
        fields.append(_warning(305, refusal.detail))
    if status == 503:
        fields.append(("Retry-After", str(refusal.retry_after or 5)))
    reason = "Not Acceptable Here" if status == 488 else refusal.detail
    call.reject(status, reason, fields)


def _warning(code: int, text: str) -> tuple[str, str]:
    """RFC 3261 20.43; the agent is a pseudonym, quotes are escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return ("Warning", f'{code} anshi "{escaped}"')
