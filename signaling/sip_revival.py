"""SIP calls of an earlier process: their dialogs as rows keep them, and how they are taken up again.

    revival = SipRevival(meetings, conversations)
    await revival.take_up(endpoint)          before the endpoint's listeners open
    await revival.aclose()

The media have gone on in their worker meanwhile. Whoever's dialog cannot be read is let go; a peer that gave
the call up while nobody answered it shows by its silence, or says 481 to the first word of ours.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from foundation.telemetry import log_context
from signaling.line import NoLine
from signaling.meeting import Access, Member
from signaling.meetings import Meetings
from signaling.sip_conversations import SipConversations
from signaling.sip_dialog_record import DialogRecord
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_line import SipLine
from signaling.trunks.trunks import Trunks

log = structlog.get_logger(__name__)

_SIP = (Access.DIALLED_IN, Access.DIALLED_OUT)


class SipRevival:
    """Gives restored participants their lines, and follows these calls to their end."""

    def __init__(self, meetings: Meetings, conversations: SipConversations, trunks: Trunks) -> None:
        self._trunks = trunks
        self._meetings = meetings
        self._conversations = conversations
        self._following: set[asyncio.Task[None]] = set()

    async def take_up(self, endpoint: SipEndpoint) -> None:
        """Every participant that speaks SIP has its line again, or is out."""
        members = [m for meeting in self._meetings.running for m in meeting.members.values()]
        lost = []
        for member in members:
            if member.access in _SIP and isinstance(member.line, NoLine):
                line = self._line(endpoint, member)
                if line is None:
                    lost.append(member.participant_id)
                    continue
                member.line = line
                self._follow(line)
        if self._following or lost:
            log.info("calls_taken_up", calls=len(self._following), lost=len(lost))
        for participant_id in lost:
            await self._meetings.leave(participant_id, "the call could not be taken up after a restart")

    def _line(self, endpoint: SipEndpoint, member: Member) -> SipLine | None:
        try:
            record = msgspec.convert(member.dialog, DialogRecord)
        except msgspec.ValidationError as error:
            log.error("dialog_unreadable", participant=member.participant_id, why=str(error))
            return None
        if record.call.network not in endpoint.listeners:
            log.error("dialog_of_another_network", participant=member.participant_id)
            return None
        login = None if record.trunk is None else self._trunks.login(record.trunk)
        return record.revived(endpoint, member.participant_id, time.time(), login)

    def _follow(self, line: SipLine) -> None:
        work = self._followed(line)
        task = asyncio.get_running_loop().create_task(work, name=f"revived {line.call.call_id}")
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _followed(self, line: SipLine) -> None:
        with log_context(call=line.call.call_id):
            await self._conversations.follow(line)

    async def aclose(self) -> None:
        """Stop following; the endpoint hangs the calls up."""
        for task in tuple(self._following):
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
