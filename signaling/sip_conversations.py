"""SIP calls of participants while they are up: what the peer asks inside the dialog, until it ends."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import MediaDescription, Refusal, RefusalKind
from signaling.media_description import read_sdp
from signaling.meetings import Meetings, UnknownMeeting, UnknownMember
from signaling.sip_dialog_record import DialogRecord
from signaling.sip_events import (
    CallOver,
    Ended,
    InfoReceived,
    Referred,
    Refreshed,
    Reinvited,
    ReinviteRefused,
)
from signaling.sip_line import SipLine

log = structlog.get_logger(__name__)

STATUS = {
    RefusalKind.NO_COMMON_CODEC: 488,
    RefusalKind.BAD_DESCRIPTION: 400,
    RefusalKind.UNKNOWN_CONFERENCE: 404,
    RefusalKind.LOCKED: 603,
}
"""What the refusal of a worker is in SIP; all others are 503."""


ReferTaker = Callable[[SipLine, Referred], None]


class SipConversations:
    """Follows the calls of participants."""

    def __init__(self, meetings: Meetings) -> None:
        self._meetings = meetings
        self._refer: ReferTaker | None = None

    def refer_to(self, taker: ReferTaker) -> None:
        """Name who takes REFERs; without one they are declined."""
        self._refer = taker

    async def follow(self, line: SipLine) -> None:
        """What the peer does inside the call, until it ends."""
        async for event in line.call.events():
            match event:
                case Reinvited():
                    await self._tolerant(self._reinvited(line, event))
                case InfoReceived() if b"picture_fast_update" in event.body:
                    await self._tolerant(self._meetings.refresh_picture(line.participant_id))
                case Referred():
                    if self._refer is None:
                        event.refuse(603)
                    else:
                        self._refer(line, event)
                case Refreshed():
                    await self.remember(line)
                case Ended():
                    await self._meetings.leave(line.participant_id, event.cause.value, hang_up=False)
                case _:
                    pass

    async def remember(self, line: SipLine) -> None:
        """Keep the dialog in the participant's row."""
        record = DialogRecord.of(line).to_json()
        await self._tolerant(self._meetings.remember_dialog(line.participant_id, record))

    async def agreed(self, line: SipLine, theirs: MediaDescription) -> None:
        """The peer's answer to an offer of ours is its new side."""
        await self._tolerant(self._meetings.renegotiate(line.participant_id, theirs))

    async def _reinvited(self, line: SipLine, event: Reinvited) -> None:
        if event.offer is None:
            await self._offer_again(line, event)
            return
        try:
            answer = await self._meetings.renegotiate(line.participant_id, read_sdp(event.offer))
        except Refusal as refusal:
            event.refuse(STATUS.get(refusal.kind, 488), refusal.detail)
        except (UnknownMember, UnknownMeeting):
            event.refuse(481, "Participant has left")
        except (DatabaseError, DeskFailed):
            event.refuse(500, "Fault of ours; the session stays as it was")
            raise
        else:
            event.answer(line.session.write(answer))
            await self.remember(line)

    async def _offer_again(self, line: SipLine, event: Reinvited) -> None:
        """An offerless re-INVITE: we offer what runs, and take the answer as the peer's new side."""
        try:
            ours = self._meetings.offered_again(line.participant_id)
        except UnknownMember:
            event.refuse(481, "Participant has left")
            return
        if ours is None:
            event.refuse(491, "No media yet")
            return
        answer = await event.answer(line.session.write(ours))
        if answer is not None:
            await self.agreed(line, read_sdp(answer))

    async def _tolerant(self, step: Coroutine[Any, Any, Any]) -> None:
        """A step for a participant who may have left a moment ago."""
        try:
            await step
        except (UnknownMember, UnknownMeeting, Refusal, ReinviteRefused, CallOver) as error:
            log.info("too_late", why=str(error))
        except (DatabaseError, DeskFailed) as error:
            log.error("call_step_failed", why=str(error))
