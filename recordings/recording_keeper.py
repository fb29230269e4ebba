"""The recorder's desk: makes the plan so, and says how it goes.

    async with RecordingKeeper(parts, preroll_seconds=15.0, retention=retention) as keeper:   RecordingDesk
        await keeper.set_plan(plan)
        ring = keeper.preroll("gate")

What an earlier life left open is mended before the first recording begins. Leaving the context closes every
file, all at once.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

import structlog

from foundation.desks import RecorderReport, RecordingOrder, RecordingPlan
from foundation.tasks import Backoff, TaskScope
from recordings.mending import mend_unfinished
from recordings.order_keeper import OrderKeeper, RecordingParts, disk_usage
from recordings.preroll import PrerollKeeper
from recordings.retention import SWEEP_SECONDS, Retention

_log = structlog.get_logger("recording_keeper")


class RecordingKeeper:
    """Fulfils foundation.desks.RecordingDesk."""

    def __init__(
        self,
        parts: RecordingParts,
        *,
        preroll_seconds: float,
        retention: Retention | None = None,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self.mended = asyncio.Event()
        self._parts = parts
        self._preroll_seconds = preroll_seconds
        self._retention = retention
        self._sweep_seconds = sweep_seconds
        self._orders: dict[RecordingOrder, OrderKeeper] = {}
        self._prerolls: dict[str, PrerollKeeper] = {}
        self._plan = RecordingPlan()
        self._changing = asyncio.Lock()
        self._scope = TaskScope("recorder")

    async def __aenter__(self) -> RecordingKeeper:
        await self._scope.__aenter__()
        self._scope.supervise("disk", self._look_after, backoff=Backoff(first=0.5, limit=10.0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            async with self._changing:
                self._plan = RecordingPlan()
                await self._apply()
        finally:
            await self._scope.__aexit__(kind, error, trace)

    # --- the desk -----------------------------------------------------------------------------------

    async def set_plan(self, plan: RecordingPlan) -> None:
        """Record exactly this. Returns once what is withdrawn is closed and what is new has been begun."""
        async with self._changing:
            self._plan = plan
            await self._apply()

    async def report(self) -> RecorderReport:
        total, free = await self._parts.disk.run(disk_usage, self._parts.folder)
        statuses = tuple(keeper.status for keeper in self._orders.values())
        return RecorderReport(statuses, free, total, tuple(self._prerolls))

    def preroll(self, camera_id: str) -> PrerollKeeper | None:
        """Who keeps the camera's last seconds, if anybody does."""
        return self._prerolls.get(camera_id)

    # --- making it so -------------------------------------------------------------------------------

    async def _apply(self) -> None:
        await self._withdraw()
        for camera_id in self._plan.preroll:
            if camera_id not in self._prerolls:
                keeper = PrerollKeeper(
                    camera_id, self._parts.source, self._parts.clock, seconds=self._preroll_seconds
                )
                self._prerolls[camera_id] = keeper
                keeper.start(self._scope)
        if not self.mended.is_set():
            return
        for order in self._plan.orders:
            if order not in self._orders:
                self._orders[order] = keeping = OrderKeeper(order, self._parts)
                keeping.start(self._scope)

    async def _withdraw(self) -> None:
        orders = [self._orders.pop(one) for one in tuple(self._orders) if one not in self._plan.orders]
        rings = [self._prerolls.pop(one) for one in tuple(self._prerolls) if one not in self._plan.preroll]
        await asyncio.gather(*(one.aclose() for one in orders), *(one.aclose() for one in rings))

    async def _look_after(self) -> None:
        """Mend once, then sweep for ever."""
        if not self.mended.is_set():
            parts = self._parts
            result = await mend_unfinished(parts.database, parts.folder, parts.disk)
            if result.mended or result.lost or result.failed:
                _log.info("mended", files=result.mended, lost=result.lost, failed=result.failed)
            self.mended.set()
            async with self._changing:
                await self._apply()
        while self._retention is not None:
            swept = await self._retention.sweep(self._parts.clock.now())
            if swept.files or swept.failed:
                _log.info("swept", files=swept.files, bytes=swept.bytes, failed=swept.failed)
            await asyncio.sleep(self._sweep_seconds)
