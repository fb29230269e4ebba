"""Main's half of the vision process: the plan made from rows, and what it reports back.

    plans = VisionPlans(database, bus, jobs, desk)       # desk None: this node does not analyse
    watch.on_ready("vision", plans.push)
    scope.supervise("vision plans", plans.run)
    plans.status(camera_id), plans.report

A plan is pushed when the process comes up, when a camera or its rules change, and again where it was not
taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import structlog

from foundation.database import Database, DatabaseBusy, DatabaseUnavailable
from foundation.desk_socket import DeskFailed
from foundation.desks import (
    AnalysedCamera,
    AnalysisStatus,
    Refusal,
    RuleSpec,
    VisionDesk,
    VisionPlan,
    VisionReport,
)
from foundation.event_bus import EventBus
from foundation.events import BusReconnected, CameraChanged, Event
from foundation.jobs import JobQueue
from foundation.repositories.jobs import JobRepository
from foundation.repositories.rules import Rule, RuleRepository
from foundation.repositories.violations import CLIP_JOB, ViolationRepository, clip_key
from foundation.tasks import TaskScope

log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
CLIP_RETRY_SECONDS = 10.0
CLIP_RESCAN_SECONDS = 600.0
DEAD_ENOUGH = 3
_TRANSIENT = (Refusal, DeskFailed, DatabaseBusy, DatabaseUnavailable)


class VisionPlans:
    """See the module's head."""

    def __init__(
        self,
        database: Database,
        bus: EventBus,
        jobs: JobQueue,
        desk: VisionDesk | None,
        *,
        poll: float = POLL_SECONDS,
    ) -> None:
        self._database = database
        self._bus = bus
        self._jobs = jobs
        self._desk = desk
        self._poll_seconds = poll
        self._changed = asyncio.Event()
        self._pushing = asyncio.Lock()
        self._pushed = False
        self.report: VisionReport | None = None
        """What the process said last; None while it is away or has not spoken yet."""

    def status(self, camera_id: str) -> AnalysisStatus:
        """How a camera's analysis does, as far as main knows."""
        if self._desk is None:
            return AnalysisStatus(camera_id, "failed", "this node does not analyse cameras")
        if self.report is None:
            return AnalysisStatus(camera_id, "waiting", "the vision process is not there now")
        for status in self.report.cameras:
            if status.camera_id == camera_id:
                return status
        return AnalysisStatus(camera_id, "waiting", "no rule is on, or the camera is off")

    async def push(self) -> None:
        """Give the process the plan as the rows have it now. Raises Refusal, DeskFailed and what the database
        does; then `run` tries again."""
        if self._desk is None:
            return
        async with self._pushing:
            self._pushed = False
            plan = await self.plan()
            await self._desk.set_plan(plan)
            self._pushed = True

    async def plan(self) -> VisionPlan:
        """Every camera that is on and has a rule that is."""
        async with self._database.reading() as tx:
            cameras = await RuleRepository(tx).at_work()
        return VisionPlan(
            tuple(
                AnalysedCamera(one.camera_id, one.site_id, one.name, tuple(map(_spec, one.rules)))
                for one in cameras
            )
        )

    async def run(self) -> None:
        """Follow rows and process until cancelled."""
        events = self._bus.subscribe(CameraChanged, BusReconnected)
        async with events, TaskScope("vision plans") as scope:
            scope.spawn("listen", self._listen(events))
            scope.spawn("clips", self._rescan_clips())
            while True:
                await self._keep_up()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._changed.wait()

    async def _keep_up(self) -> None:
        try:
            if self._changed.is_set() or not self._pushed:
                self._changed.clear()
                await self.push()
            if self._desk is not None:
                self.report = await self._desk.report()
        except _TRANSIENT as error:
            self.report, self._pushed = None, False
            if not isinstance(error, Refusal):  # that one says only that the process is away
                log.warning("vision_not_told", reason=str(error))

    async def _listen(self, events: AsyncIterator[Event]) -> None:
        async for _ in events:
            self._changed.set()

    async def _rescan_clips(self) -> None:
        """Now and then: a clip whose job is gone or dead would stay pending for ever."""
        while True:
            wait = CLIP_RESCAN_SECONDS
            try:
                await self.requeue_clips()
            except (DatabaseBusy, DatabaseUnavailable) as error:
                log.warning("clips_not_looked_for", reason=str(error))
                wait = CLIP_RETRY_SECONDS
            await asyncio.sleep(wait)

    async def requeue_clips(self) -> int:
        """Have the clips cut that are pending without a job; returns how many. After DEAD_ENOUGH jobs that
        died of it the next one only writes down that there is no clip."""
        count = 0
        while True:
            async with self._database.reading() as tx:
                lacking = await ViolationRepository(tx).without_clip_job()
            if not lacking:
                break
            for violation_id in lacking:
                key = clip_key(violation_id)
                async with self._database.reading() as tx:
                    dead, why = await JobRepository(tx).dead(key)
                payload = {"violation_id": violation_id}
                if dead >= DEAD_ENOUGH:
                    payload["give_up"] = why or "it died without a word"
                await self._jobs.enqueue(CLIP_JOB, payload, key=key)
            count += len(lacking)
        if count:
            log.info("clips_requeued", count=count)
        return count


def _spec(rule: Rule) -> RuleSpec:
    return RuleSpec(
        rule_id=rule.id,
        camera_id=rule.camera_id,
        kind=rule.kind,
        name=rule.name,
        zone=rule.zone,
        parameters=rule.parameters,
        schedule=rule.schedule,
    )
