"""The node's general number: callers key in which meeting they want (by INFO; docs/decisions/0004-sip.md).

Until they are in one they are no participants and have no media worker: what they offered is accepted as it
is and held (a=inactive), and the meeting's media come with a re-INVITE. No prompt is shown or played.
"""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from dataclasses import replace

import structlog

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import (
    CryptoKey,
    Direction,
    MediaDescription,
    MediaSection,
    Refusal,
    RefusalKind,
    SectionKind,
)
from protocols.sip.dtmf import parse_key
from signaling.admission import NotAdmitted
from signaling.callers import CallerDirectory, Claim, Unidentified
from signaling.dial_plan import Chosen, DialPlan
from signaling.media_description import read_sdp
from signaling.meeting import Caller
from signaling.meetings import Meetings, UnknownMeeting
from signaling.sip_claims import claim_of_call
from signaling.sip_events import Ended, InfoReceived, Referred, Reinvited
from signaling.sip_incoming import IncomingCall
from signaling.sip_line import SdpSession, SipLine
from signaling.sip_moves import bring_in

log = structlog.get_logger(__name__)

MOST_CALLERS = 50
DISCARD_PORT = 9
"""Nothing is sent to an inactive section, but 0 would refuse it (RFC 3264 6)."""
_KEY_BYTES = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}


class SipLobby:
    """Takes the calls of `number`."""

    def __init__(self, meetings: Meetings, callers: CallerDirectory, number: str) -> None:
        self.number = number
        self._meetings = meetings
        self._callers = callers
        self._inside = 0

    async def take(self, call: IncomingCall, address: str) -> SipLine | None:
        """Answer, and listen to the keys; the line of a participant, or None when the call is over.

        `address` is ours on the caller's network. Raises Unidentified, Refusal, CallCancelled.
        """
        claim = claim_of_call(call, None)
        known = await self._callers.site(claim, "lobby")
        if known is None:
            await self._callers.challenge_known(claim)
        if call.offer is None:
            raise Refusal(RefusalKind.NO_COMMON_CODEC, "the general number takes calls with an offer only")
        if self._inside >= MOST_CALLERS:
            raise Refusal(RefusalKind.NO_CAPACITY, "too many callers key in a meeting number", retry_after=30)
        theirs = read_sdp(call.offer)
        session = SdpSession()
        held = _held(theirs, address)
        line = SipLine(call.accept(session.write(held)), session, "")
        self._inside += 1
        try:
            return await self._listen(line, _Visitor(claim, known, theirs, address))
        except Exception:
            line.call.hang_up("fault of ours", status=500)
            raise
        finally:
            self._inside -= 1

    async def _listen(self, line: SipLine, visitor: _Visitor) -> SipLine | None:
        loop = asyncio.get_running_loop()
        plan = DialPlan(needs_pin=visitor.known is None, now=loop.time())
        events = line.call.events()
        while True:
            try:
                async with asyncio.timeout_at(plan.deadline):
                    event = await anext(events)
            except TimeoutError:
                await self._let_go(line, 408, "No meeting number came")
                return None
            match event:
                case InfoReceived():
                    key = parse_key(event.content_type, event.body)
                    chosen = None if key is None else plan.press(key.key, loop.time())
                    if chosen is None:
                        continue
                    if await self._enter(line, visitor, chosen):
                        return line
                    if not plan.failed(loop.time()):
                        await self._let_go(line, 403, "No such meeting, or wrong PIN")
                        return None
                case Reinvited():
                    self._hold_again(line, visitor, event)
                case Referred():
                    event.refuse(603, "Not in a meeting yet")
                case Ended():
                    return None
                case _:
                    pass

    async def _enter(self, line: SipLine, visitor: _Visitor, chosen: Chosen) -> bool:
        """Bring the caller into the meeting of its choice; False when that may be tried again."""
        try:
            meeting = self._meetings.by_number(chosen.number)
            caller = visitor.known
            if caller is None:
                if chosen.pin is None or meeting.pin_hash is None:
                    return False
                caller = await self._callers.guest(visitor.claim, chosen.pin, meeting)
            await bring_in(self._meetings, line, meeting, caller, visitor.theirs)
        except (UnknownMeeting, Unidentified) as error:
            log.info("lobby_refused", why=str(error), source=visitor.claim.source)
            return False
        except (NotAdmitted, Refusal, DatabaseError, DeskFailed) as error:
            log.warning("lobby_refused", why=str(error), source=visitor.claim.source)
            return False
        return True

    def _hold_again(self, line: SipLine, visitor: _Visitor, event: Reinvited) -> None:
        """Other media are held like the first ones; what we would offer ourselves nobody needs yet."""
        try:
            if event.offer is None:
                event.refuse(488, "Not in a meeting yet")
                return
            visitor.theirs = read_sdp(event.offer)
            event.answer(line.session.write(_held(visitor.theirs, visitor.address)))
        except Refusal as refusal:
            event.refuse(488, refusal.detail)

    async def _let_go(self, line: SipLine, status: int, reason: str) -> None:
        log.info("lobby_left", why=reason)
        await line.call.bye(reason, status=status)


class _Visitor:
    """A caller who is in no meeting yet."""

    def __init__(self, claim: Claim, known: Caller | None, theirs: MediaDescription, address: str) -> None:
        self.claim = claim
        self.known = known
        self.theirs = theirs
        self.address = address


def _held(theirs: MediaDescription, address: str) -> MediaDescription:
    """Our answer that takes the first sound and picture, and sends nothing. Raises Refusal without any."""
    taken: set[SectionKind] = set()
    sections = []
    for section in theirs.sections:
        first = section.kind not in taken and section.kind is not SectionKind.OTHER
        if first and section.port and section.codecs and section.dtls is None:
            taken.add(section.kind)
            sections.append(_silent(section, address))
        else:
            sections.append(replace(section, port=0))
    if not taken:
        raise Refusal(RefusalKind.NO_COMMON_CODEC, "nothing of the offer can be held")
    return MediaDescription(tuple(sections))


def _silent(section: MediaSection, address: str) -> MediaSection:
    """The same codecs, but no telephone events: keys are to come as INFO, for nobody hears the medium.

    A secured section gets a key that will never be used.
    """
    codecs = tuple(codec for codec in section.codecs if codec.name != "TELEPHONE-EVENT")
    crypto = next((key for key in section.crypto if key.suite in _KEY_BYTES), None)
    keys: tuple[CryptoKey, ...] = ()
    if crypto is not None:
        secret = b64encode(secrets.token_bytes(_KEY_BYTES[crypto.suite])).decode()
        keys = (CryptoKey(crypto.tag, crypto.suite, secret),)
    return MediaSection(
        section.kind,
        address,
        DISCARD_PORT,
        section.protocol,
        codecs,
        Direction.INACTIVE,
        mid=section.mid,
        rtcp_mux=section.rtcp_mux,
        crypto=keys,
    )
