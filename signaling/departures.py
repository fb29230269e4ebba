"""The rows of those who left: closed however busy the database is, or else taken for people still in."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from foundation.database import DatabaseError
from signaling.call_quality import CallQuality
from signaling.meeting import Member
from signaling.meeting_rows import MeetingRows

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 1.0
MOST_WAITING = 10_000


class Departures:
    """What cannot be written at once is tried again every second until it is."""

    def __init__(self, rows: MeetingRows) -> None:
        self._rows = rows
        self._late: dict[str, tuple[Member, str, CallQuality | None]] = {}
        self._trying: asyncio.Task[None] | None = None
        self.lost = 0

    @property
    def waiting(self) -> int:
        """Rows that are still to be closed."""
        return len(self._late)

    async def write(self, member: Member, reason: str, quality: CallQuality | None = None) -> None:
        """Close the row of one who is gone, whether or not that can be written now."""
        try:
            await self._rows.left(member, reason, quality)
        except DatabaseError as error:
            log.error("row_not_closed_yet", participant=member.participant_id, why=str(error))
            self._keep(member, reason, quality)

    async def aclose(self) -> None:
        """One more try for what waits; the next start finds the rest in its rows."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)
        with suppress(DatabaseError):
            await self._write_late()

    def _keep(self, member: Member, reason: str, quality: CallQuality | None) -> None:
        if len(self._late) >= MOST_WAITING:
            self.lost += 1
            log.error("row_not_closed", participant=member.participant_id, lost=self.lost)
            return
        self._late[member.participant_id] = (member, reason, quality)
        if self._trying is None or self._trying.done():
            self._trying = asyncio.get_running_loop().create_task(self._try_again(), name="late departures")

    async def _try_again(self) -> None:
        while self._late:
            await asyncio.sleep(AGAIN_SECONDS)
            with suppress(DatabaseError):  # said when it was first
                await self._write_late()

    async def _write_late(self) -> None:
        """The oldest first. Raises DatabaseError."""
        for participant_id, (member, reason, quality) in tuple(self._late.items()):
            await self._rows.left(member, reason, quality)
            self._late.pop(participant_id, None)
