"""Main's side of the recorder: the plan out of the rows, and what the recorder says of it.

    book = RecordingBook(database, desk)
    scope.supervise("recordings", book.run)
    await book.changed()                       rows have changed, or the recorder came up
    book.report                                what it said last, None while it does not answer

The rows are looked at again every few seconds, and the plan is given again where the report does not agree
with it: a call that was lost costs seconds only.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from foundation.database import Database, DatabaseError
from foundation.desk_socket import DeskFailed
from foundation.desks import (
    RecorderReport,
    RecordingDesk,
    RecordingOrder,
    RecordingPlan,
    RecordingStatus,
    Refusal,
)
from foundation.repositories.recording_orders import OrderRepository, SubjectRepository
from foundation.repositories.recordings import RecordingKind

POLL_SECONDS = 5.0

_log = structlog.get_logger("recording_book")


class RecordingBook:
    """`desk` may be one over a socket: that it does not answer is waited out."""

    def __init__(
        self, database: Database, desk: RecordingDesk, *, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self.report: RecorderReport | None = None
        self._database = database
        self._desk = desk
        self._poll_seconds = poll_seconds
        self._changed = asyncio.Event()

    def status(self, kind: RecordingKind, subject: str) -> RecordingStatus | None:
        """What the recorder last said of an order."""
        if self.report is None:
            return None
        asked = (str(kind), subject)
        return next((one for one in self.report.statuses if (one.kind, one.subject) == asked), None)

    async def changed(self) -> None:
        """Look at the rows now. Returns at once."""
        self._changed.set()

    async def run(self) -> None:
        """Give the plan, ask for the report, until cancelled."""
        given: RecordingPlan | None = None
        while True:
            self._changed.clear()
            try:
                given = await self._agree(given)
            except (Refusal, DeskFailed, DatabaseError) as error:
                if self.report is not None:
                    _log.warning("the recorder does not answer", reason=str(error))
                self.report, given = None, None
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._changed.wait()

    async def plan(self) -> RecordingPlan:
        """What the rows say now."""
        async with self._database.reading() as tx:
            orders = await OrderRepository(tx).in_force()
            analysed = await SubjectRepository(tx).with_rules()
        return RecordingPlan(
            tuple(RecordingOrder(str(one.kind), one.subject, one.site_id) for one in orders), analysed
        )

    async def _agree(self, given: RecordingPlan | None) -> RecordingPlan:
        plan = await self.plan()
        if plan != given:
            await self._desk.set_plan(plan)
        self.report = report = await self._desk.report()
        if not _follows(report, plan):
            await self._desk.set_plan(plan)  # another process than the one that was given it
            self.report = await self._desk.report()
        return plan


def _follows(report: RecorderReport, plan: RecordingPlan) -> bool:
    ordered = {(one.kind, one.subject) for one in plan.orders}
    kept = {(one.kind, one.subject) for one in report.statuses}
    return ordered == kept and set(plan.preroll) == set(report.preroll)
