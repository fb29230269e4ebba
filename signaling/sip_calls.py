"""SIP calls into meetings and out of them: what the endpoint knows, in meeting control's words."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import msgspec
import structlog

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import Dialled, Direction, MediaDescription, Refusal, RefusalKind
from foundation.telemetry import log_context
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import NameAddress
from protocols.sip.uri import SipUri
from signaling.admission import NotAdmitted
from signaling.callers import CallerDirectory, Claim, Unidentified
from signaling.media_description import read_sdp, write_sdp
from signaling.meeting import Access, Caller, Meeting, Member
from signaling.meetings import Meetings, UnknownMeeting, UnknownMember
from signaling.sip_call import Call
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import (
    CallCancelled,
    CallOver,
    Ended,
    InfoReceived,
    Refused,
    Reinvited,
    ReinviteRefused,
)
from signaling.sip_incoming import IncomingCall

log = structlog.get_logger(__name__)

FAST_UPDATE_TYPE = "application/media_control+xml"
FAST_UPDATE = (
    b'<?xml version="1.0" encoding="utf-8"?><media_control><vc_primitive><to_encoder>'
    b"<picture_fast_update/></to_encoder></vc_primitive></media_control>"
)
PIN_MARK = "*"
RING_SECONDS = 60.0
RENEW_SECONDS = 4.0

_STATUS = {
    RefusalKind.NO_COMMON_CODEC: 488,
    RefusalKind.BAD_DESCRIPTION: 400,
    RefusalKind.UNKNOWN_CONFERENCE: 404,
}


class CallFailed(Exception):
    """An outgoing call cannot even be tried; the message says why."""


class SdpSession:
    """Our side's o= line over a dialog's life: one id, a version that grows (RFC 3264 8)."""

    def __init__(self) -> None:
        self._session_id = secrets.randbits(48)
        self._version = 0

    def write(self, description: MediaDescription) -> bytes:
        self._version += 1
        return write_sdp(description, session_id=self._session_id, version=self._version)


class SipLine:
    """A participant's SIP dialog."""

    def __init__(self, call: Call, session: SdpSession) -> None:
        self.call = call
        self.session = session

    async def hang_up(self, reason: str) -> None:
        await self.call.bye(reason)

    async def probe(self) -> bool:
        return await self.call.probe()

    async def ask_fast_update(self) -> None:
        try:
            await self.call.info(FAST_UPDATE_TYPE, FAST_UPDATE)
        except CallOver:
            return

    async def renew_media(self, ours: MediaDescription) -> MediaDescription | None:
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                answer = await self.call.reinvite(self.session.write(ours))
        except (ReinviteRefused, CallOver, TimeoutError) as error:
            log.warning("new_media_refused", why=str(error))
            return None
        return None if answer is None else read_sdp(answer)


class SipCalls:
    """Brings SIP calls into meetings; `connect` gives it the endpoint that hands calls to `take`."""

    def __init__(self, meetings: Meetings, callers: CallerDirectory, default_network: str) -> None:
        self._meetings = meetings
        self._callers = callers
        self._default_network = default_network
        self._endpoint: SipEndpoint | None = None
        self._dialling: set[asyncio.Task[None]] = set()

    def connect(self, endpoint: SipEndpoint) -> None:
        self._endpoint = endpoint

    # --- calls to us ------------------------------------------------------------------------------

    async def take(self, call: IncomingCall) -> None:
        """Answer one INVITE, then follow the call to its end."""
        with log_context(call=call.call_id):
            try:
                joined = await self._answer(call)
            except CallCancelled:
                log.info("call_cancelled")
                return
            if joined is not None:
                member, line = joined
                await self._follow(member.participant_id, line)

    async def _answer(self, call: IncomingCall) -> tuple[Member, SipLine] | None:
        try:
            meeting, pin = self._called(call)
            caller = await self._callers.resolve(_claim(call, pin), meeting)
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
        uri = call.called
        user = uri.user_text if isinstance(uri, SipUri) else ""
        number, star, pin = user.partition(PIN_MARK)
        return self._meetings.by_number(number), pin if star else None

    async def _answer_offer(
        self, call: IncomingCall, meeting: Meeting, caller: Caller, offer: bytes
    ) -> tuple[Member, SipLine]:
        session = SdpSession()
        pending = _Pending()
        member, answer = await self._meetings.join(
            meeting.conference_id, caller, read_sdp(offer), Access.DIALLED_IN, pending
        )
        try:
            line = SipLine(call.accept(session.write(answer)), session)
        except CallCancelled:
            await self._meetings.leave(member.participant_id, "the caller gave up", hang_up=False)
            raise
        member.line = line
        await self._remember(member.participant_id, line)
        return member, line

    async def _answer_offerless(
        self, call: IncomingCall, meeting: Meeting, caller: Caller
    ) -> tuple[Member, SipLine] | None:
        """RFC 3264 1: the offer goes in our 200, the answer comes in the ACK."""
        session = SdpSession()
        member, offer = await self._meetings.dial(meeting.conference_id, caller, Dialled.PLAIN)
        try:
            accepted = call.accept(session.write(offer))
        except CallCancelled:
            await self._meetings.leave(member.participant_id, "the caller gave up", hang_up=False)
            raise
        line = member.line = SipLine(accepted, session)
        try:
            answer = await accepted.wait_established()
            if answer is None:
                raise Refusal(RefusalKind.BAD_DESCRIPTION, "the ACK brought no answer to our offer")
            await self._meetings.answered(member.participant_id, read_sdp(answer), line)
        except (Refusal, CallOver, UnknownMember, UnknownMeeting, DatabaseError, DeskFailed) as error:
            await self._meetings.leave(member.participant_id, str(error))
            await accepted.bye(str(error))
            return None
        await self._remember(member.participant_id, line)
        return member, line

    async def _follow(self, participant_id: str, line: SipLine) -> None:
        """What the peer does inside the call, until it ends."""
        async for event in line.call.events():
            match event:
                case Reinvited():
                    await self._tolerant(self._reinvited(participant_id, line, event))
                case InfoReceived() if b"picture_fast_update" in event.body:
                    await self._tolerant(self._meetings.refresh_picture(participant_id))
                case Ended():
                    await self._meetings.leave(participant_id, event.cause.value, hang_up=False)
                case _:
                    pass

    async def _reinvited(self, participant_id: str, line: SipLine, event: Reinvited) -> None:
        if event.offer is None:
            await self._offer_again(participant_id, line, event)
            return
        try:
            answer = await self._meetings.renegotiate(participant_id, read_sdp(event.offer))
        except Refusal as refusal:
            event.refuse(_STATUS.get(refusal.kind, 488), refusal.detail)
        except (UnknownMember, UnknownMeeting):
            event.refuse(481, "Participant has left")
        except (DatabaseError, DeskFailed):
            event.refuse(500, "Fault of ours; the session stays as it was")
            raise
        else:
            event.answer(line.session.write(answer))
            await self._remember(participant_id, line)

    async def _offer_again(self, participant_id: str, line: SipLine, event: Reinvited) -> None:
        """An offerless re-INVITE: we offer what runs, and take the answer as the peer's new side.

        Both ways, whatever was held: this is how a session is taken off hold too (RFC 6337 5.3).
        """
        try:
            media = self._meetings.member(participant_id).media
        except UnknownMember:
            event.refuse(481, "Participant has left")
            return
        if media is None:
            event.refuse(491, "No media yet")
            return
        sections = (replace(section, direction=Direction.SENDRECV) for section in media.ours.sections)
        answer = await event.answer(line.session.write(replace(media.ours, sections=tuple(sections))))
        if answer is not None:
            await self._tolerant(self._meetings.renegotiate(participant_id, read_sdp(answer)))

    async def _remember(self, participant_id: str, line: SipLine) -> None:
        snapshot: dict[str, Any] = msgspec.to_builtins(line.call.snapshot())
        await self._tolerant(self._meetings.remember_dialog(participant_id, snapshot))

    async def _tolerant(self, step: Coroutine[Any, Any, Any]) -> None:
        """A step for a participant who may have left a moment ago."""
        try:
            await step
        except (UnknownMember, UnknownMeeting, Refusal, ReinviteRefused, CallOver) as error:
            log.info("too_late", why=str(error))
        except (DatabaseError, DeskFailed) as error:
            log.error("call_step_failed", why=str(error))

    # --- calls from us ----------------------------------------------------------------------------

    async def dial(self, conference_id: str, address: str, site_id: str | None, name: str | None) -> Member:
        """Call somebody; returns while it rings. Raises CallFailed, NotAdmitted, Refusal, UnknownMeeting."""
        try:
            target = SipUri.parse(address)
        except SipSyntaxError as error:
            raise CallFailed(f"address {address!r}: {error}") from None
        endpoint = self._endpoint
        if endpoint is None:
            raise CallFailed("this node has no SIP listener")
        caller = Caller(name or target.user_text or target.host, site_id, self._default_network, address)
        member, offer = await self._meetings.dial(conference_id, caller, Dialled.PLAIN)
        task = asyncio.get_running_loop().create_task(
            self._ring(endpoint, member, target, offer), name=f"dial {address}"
        )
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        return member

    async def _ring(
        self, endpoint: SipEndpoint, member: Member, target: SipUri, offer: MediaDescription
    ) -> None:
        """Follow a call of ours to its end; whatever ends it, the participant is out then."""
        try:
            await self._ring_out(endpoint, member, target, offer)
        except (UnknownMember, UnknownMeeting, Refusal, DatabaseError, DeskFailed) as error:
            log.warning("dialling_failed", address=member.caller.address, why=str(error))
            await self._meetings.leave(member.participant_id, str(error))
        except Exception as error:
            log.error("dialling_failed", address=member.caller.address, exc_info=error)
            await self._meetings.leave(member.participant_id, "fault of ours")

    async def _ring_out(
        self, endpoint: SipEndpoint, member: Member, target: SipUri, offer: MediaDescription
    ) -> None:
        meeting = self._meetings.meeting(member.conference_id)
        session = SdpSession()
        host = next(section.address for section in offer.sections)
        from_ = NameAddress(SipUri(host, user=meeting.number), display_name=meeting.title)
        outgoing = await endpoint.invite(target, from_, member.caller.network, session.write(offer))
        member.line = _Ringing(outgoing.cancel)
        try:
            async with asyncio.timeout(RING_SECONDS):
                outcome = await outgoing.result()
        except TimeoutError:
            outgoing.cancel()
            outcome = await outgoing.result()
        if isinstance(outcome, Refused):
            reason = f"{outcome.status} {outcome.reason}"
            await self._meetings.leave(member.participant_id, reason, hang_up=False)
            return
        line = SipLine(outcome.call, session)
        try:
            if outcome.sdp is None:
                raise Refusal(RefusalKind.BAD_DESCRIPTION, "the peer's 200 brought no answer")
            await self._meetings.answered(member.participant_id, read_sdp(outcome.sdp), line)
        except (Refusal, UnknownMember, UnknownMeeting, DatabaseError, DeskFailed) as error:
            await outcome.call.bye(str(error))
            await self._meetings.leave(member.participant_id, str(error), hang_up=False)
            return
        await self._remember(member.participant_id, line)
        await self._follow(member.participant_id, line)

    async def aclose(self) -> None:
        """Stop following calls that we made; the endpoint hangs them up."""
        for task in tuple(self._dialling):
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)


class _Pending:
    """A caller between its INVITE and our answer: nothing can be asked of it yet."""

    async def hang_up(self, reason: str) -> None:
        return None

    async def probe(self) -> bool:
        return True

    async def ask_fast_update(self) -> None:
        return None

    async def renew_media(self, ours: MediaDescription) -> MediaDescription | None:
        return None


class _Ringing(_Pending):
    """Somebody whom we call and who has not answered: hanging up is giving up."""

    def __init__(self, cancel: Any) -> None:
        self._cancel = cancel

    async def hang_up(self, reason: str) -> None:
        self._cancel()


def _claim(call: IncomingCall, pin: str | None) -> Claim:
    uri = call.caller.uri
    return Claim(
        network=call.network,
        address=str(uri),
        source=call.source[0],
        verdict=call.verdict,
        certified=call.certified,
        claimed=uri.user_text if isinstance(uri, SipUri) else "",
        display_name=call.caller.display_name or "",
        pin=pin,
    )


def _reject(call: IncomingCall, refusal: Refusal) -> None:
    status = _STATUS.get(refusal.kind, 503)
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
