"""SIP calls into meetings and out of them: what the endpoint knows, in meeting control's words."""

from __future__ import annotations

from contextlib import nullcontext

import structlog

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import Dialled, MediaDescription, Refusal, RefusalKind
from foundation.telemetry import log_context
from protocols.sip.digest import Outcome, Verdict
from protocols.sip.uri import SipUri
from signaling.admission import NotAdmitted
from signaling.callers import LONGEST_NAME, CallerDirectory, Claim, Unidentified
from signaling.media_description import read_sdp
from signaling.meeting import Access, Caller, Meeting, Member
from signaling.meetings import Meetings, UnknownMeeting, UnknownMember
from signaling.registrar import Registrar
from signaling.sip_claims import claim_of_call
from signaling.sip_conversations import STATUS, SipConversations
from signaling.sip_dialling import CallFailed, DialledNetworks, SipDialler
from signaling.sip_dialog_record import DialogRecord
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import CallCancelled, CallOver
from signaling.sip_incoming import IncomingCall, PreparedAnswer
from signaling.sip_line import PendingLine, SdpSession, SipLine
from signaling.sip_lobby import SipLobby, Visit
from signaling.sip_referrals import SipReferrals
from signaling.sip_revival import SipRevival
from signaling.trunks.trunks import TrunkCall, Trunks

__all__ = ["CallFailed", "SipCalls"]

log = structlog.get_logger(__name__)

PIN_MARK = "*"
_NO_SEPARATORS = str.maketrans("", "", "-.()")


class SipCalls:
    """Brings SIP calls into meetings; `connect` gives it the endpoint that hands calls to `take`."""

    def __init__(
        self,
        meetings: Meetings,
        callers: CallerDirectory,
        networks: DialledNetworks,
        registrar: Registrar,
        lobby: SipLobby,
        trunks: Trunks,
    ) -> None:
        self._lobby = lobby
        self._trunks = trunks
        self._meetings = meetings
        self._callers = callers
        self.conversations = SipConversations(meetings)
        self._dialler = SipDialler(meetings, self.conversations, networks, registrar, trunks, callers)
        self._referrals = SipReferrals(meetings, callers, self._dialler, self.conversations, trunks)
        self.conversations.refer_to(self._referrals.take)
        self._revival = SipRevival(meetings, self.conversations, trunks)

    def connect(self, endpoint: SipEndpoint) -> None:
        self._dialler.connect(endpoint)
        self._referrals.connect(endpoint)

    async def take_up(self, endpoint: SipEndpoint) -> None:
        """Go on with the calls of an earlier process, before the first message can arrive."""
        await self._revival.take_up(endpoint)

    # --- calls to us ------------------------------------------------------------------------------

    async def take(self, call: IncomingCall) -> None:
        """Answer one INVITE, then follow the call to its end."""
        brought = self._trunks.recognised(call)
        counted = self._trunks.counted(brought.trunk, outgoing=False) if brought else nullcontext()
        with log_context(call=call.call_id), counted:
            try:
                line = await self._answer(call, brought)
            except CallCancelled:
                log.info("call_cancelled")
                return
            if line is not None:
                await self.conversations.follow(line)

    async def _answer(self, call: IncomingCall, brought: TrunkCall | None) -> SipLine | None:
        try:
            if brought is not None:
                return await self._from_trunk(call, brought)
            if self._lobby.number is not None and _user(call) == self._lobby.number:
                return await self._from_lobby(call, await self._visit(call))
            meeting, pin = self._called(call)
            caller = await self._callers.resolve(claim_of_call(call, pin), meeting)
            return await self._join(call, meeting, caller)
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

    async def _join(self, call: IncomingCall, meeting: Meeting, caller: Caller) -> SipLine | None:
        if call.offer is None:
            return await self._answer_offerless(call, meeting, caller)
        return await self._answer_offer(call, meeting, caller, call.offer)

    async def _visit(self, call: IncomingCall) -> Visit:
        claim = claim_of_call(call, None)
        known = await self._callers.site(claim, "lobby")
        if known is None:
            await self._callers.challenge_known(claim)
        return Visit(claim, known)

    async def _from_lobby(self, call: IncomingCall, visit: Visit) -> SipLine | None:
        line = await self._lobby.take(call, visit)
        if line is not None:
            await self.conversations.remember(line)
        return line

    async def _from_trunk(self, call: IncomingCall, brought: TrunkCall) -> SipLine | None:
        """A guest, whatever its From or address says: to its number's meeting, else to the general number.

        A meeting without a PIN is open to those who dial the number that the settings give it.
        """
        trunk, number = brought.trunk, brought.meeting
        if trunk.calls_now > trunk.settings.calls:
            detail = f"trunk {trunk.name} carries {trunk.settings.calls} calls already"
            raise Refusal(RefusalKind.NO_CAPACITY, detail, retry_after=30)
        if number in (None, self._lobby.number):
            if self._lobby.number is None:
                raise UnknownMeeting(f"nobody is called by {brought.called} of trunk {trunk.name}")
            return await self._from_lobby(call, Visit(_claim(call, brought), sound_only=_telephone(brought)))
        meeting = self._meetings.by_number(number or "")
        if meeting.pin_hash is None:
            claim = _claim(call, brought)
            caller = Caller(claim.display_name, None, claim.network, claim.address, _telephone(brought))
            return await self._join(call, meeting, caller)
        visit = Visit(_claim(call, brought), number=number, sound_only=_telephone(brought))
        return await self._from_lobby(call, visit)

    async def _answer_offer(
        self, call: IncomingCall, meeting: Meeting, caller: Caller, offer: bytes
    ) -> SipLine:
        session = SdpSession()
        prepared: PreparedAnswer | None = None

        def dialog(member: Member, answer: MediaDescription) -> dict[str, object]:
            nonlocal prepared
            prepared = call.prepare(session.write(answer))
            return DialogRecord.planned(prepared.snapshot).to_json()

        member, _answer = await self._meetings.join(
            meeting.conference_id, caller, read_sdp(offer), Access.DIALLED_IN, PendingLine(), dialog
        )
        assert prepared is not None, "a join makes the dialog"
        try:
            line = SipLine(prepared.send(), session, member.participant_id)
        except CallCancelled:
            await self._meetings.leave(member.participant_id, "the caller gave up", hang_up=False)
            raise
        member.line = line
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
        await self.conversations.remember(line)
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


def _claim(call: IncomingCall, brought: TrunkCall) -> Claim:
    """What a trunk's caller brings along. Wrong PINs count against its number, not against the provider."""
    number = brought.number or "anonymous"
    name = "".join(sign for sign in brought.name if sign.isprintable())[:LONGEST_NAME].strip()
    return Claim(
        network=call.network,
        address=f"tel:{number}"[:200],
        source=f"{brought.trunk.name}:{number}"[:64],
        verdict=Verdict(Outcome.ABSENT),
        certified=None,
        claimed="",
        display_name=name or number[:LONGEST_NAME],
        pin=None,
    )


def _telephone(brought: TrunkCall) -> bool:
    return brought.trunk.settings.sound_only


def _user(call: IncomingCall) -> str:
    """What was dialled, of a telephone number (RFC 3966) without its separators and parameters."""
    if isinstance(call.called, SipUri):
        return call.called.user_text.partition(";")[0]
    dialled = call.called.rest.partition(";")[0] if call.called.scheme == "tel" else ""
    return dialled.translate(_NO_SEPARATORS)


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
