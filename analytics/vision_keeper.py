"""Holds a watcher for each camera of the plan: the vision process's desk.

    async with VisionKeeper(open_sampler, writer, judging, load) as keeper:
        await keeper.set_plan(plan)
        await keeper.report()

A plan given twice changes nothing. A camera whose rules change keeps its stream; one that leaves the plan is
let go of, and what it had flagged is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from analytics.violation_writer import ViolationWriter
from analytics.watcher import CameraWatcher, Judging, OpenSampler
from foundation.desks import VisionPlan, VisionReport
from foundation.tasks import TaskScope


class VisionKeeper:
    """Fulfils VisionDesk. `load` is the share of the inference threads in use."""

    def __init__(
        self,
        open_sampler: OpenSampler,
        writer: ViolationWriter,
        judging: Judging,
        load: Callable[[], float],
    ) -> None:
        self._open_sampler = open_sampler
        self._writer = writer
        self._judging = judging
        self._load = load
        self._scope = TaskScope("vision")
        self._watchers: dict[str, CameraWatcher] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._planned = asyncio.Event()

    async def __aenter__(self) -> VisionKeeper:
        await self._scope.__aenter__()
        self._scope.supervise("tidy", self._tidy)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._scope.__aexit__(kind, error, trace)
        self._watchers.clear()
        self._tasks.clear()

    async def set_plan(self, plan: VisionPlan) -> None:
        """Watch exactly these cameras, by these rules."""
        wanted = {camera.camera_id: camera for camera in plan.cameras}
        gone = [camera_id for camera_id in self._watchers if camera_id not in wanted]
        ending = []
        for camera_id in gone:
            del self._watchers[camera_id]
            ending.append(self._tasks.pop(camera_id))
        for camera_id, camera in wanted.items():
            watcher = self._watchers.get(camera_id)
            if watcher is None:
                watcher = CameraWatcher(camera, self._open_sampler, self._writer, self._judging)
                self._watchers[camera_id] = watcher
                self._tasks[camera_id] = self._scope.supervise(camera_id, watcher.run)
            elif watcher.camera != camera:
                watcher.change(camera)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        self._planned.set()

    async def report(self) -> VisionReport:
        statuses = tuple(watcher.status() for watcher in self._watchers.values())
        return VisionReport(statuses, str(self._judging.model), self._load())

    async def _tidy(self) -> None:
        """After each plan: nobody watches what cameras outside it had flagged."""
        while True:
            await self._planned.wait()
            self._planned.clear()
            for violation in await self._writer.unfinished():
                if violation.camera_id not in self._watchers:
                    await self._writer.finish(violation.id, self._judging.clock.now())
