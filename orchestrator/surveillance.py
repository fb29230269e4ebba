"""Cameras, recordings, violations, broadcasts in main: rows as plans for the processes that carry them out.

    surveillance = Surveillance(parts, services, cameras)
    surveillance.run(scope)
    app routes: surveillance.routes
    await surveillance.sites_changed()

Main only keeps rows and hands out plans; pulling, recording and looking happen elsewhere, and go on while
main is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from zoneinfo import ZoneInfo

from analytics.http_rules import RuleRoutes
from analytics.http_violations import ViolationRoutes
from analytics.vision_plans import VisionPlans
from foundation.desks import BroadcastDesk, CameraDesk, RecordingDesk, VisionDesk
from foundation.events import BusReconnected, ConferenceEnded
from foundation.http_edge import Route
from foundation.jobs import JobQueue
from foundation.repositories.broadcasts import BroadcastKind, BroadcastRepository
from foundation.repositories.conferences import ConferenceRepository
from foundation.repositories.recording_orders import OrderRepository
from foundation.repositories.recordings import RecordingKind
from foundation.tasks import TaskScope
from orchestrator.camera_book import CameraBook
from orchestrator.main_parts import MainParts
from orchestrator.services_watch import ServicesWatch
from orchestrator.surveillance_gauges import SurveillanceGauges
from recordings.disk import Disk
from recordings.http_recordings import RecordingRoutes
from recordings.recording_book import RecordingBook
from recordings.recording_folder import RecordingFolder
from stream_relay.broadcast_book import BroadcastBook
from stream_relay.http_broadcasts import BroadcastRoutes
from stream_relay.http_cameras import CameraRoutes

GAUGE_SECONDS = 5.0
DISK_THREADS = 2
"""They read what pages play back."""


class Surveillance:
    """See the module's head. `cameras` are the desks of the media workers, in their order."""

    def __init__(self, parts: MainParts, services: ServicesWatch, cameras: Mapping[str, CameraDesk]) -> None:
        self._parts = parts
        self._services = services
        self._gauges = SurveillanceGauges(parts.telemetry)
        self._disk = Disk(DISK_THREADS)
        database, bus = parts.database, parts.bus
        self.cameras = CameraBook(database, parts.authorisation, parts.settings.node.id, cameras)
        vision = services.desk("vision", VisionDesk, "vision")
        self.vision = VisionPlans(database, bus, JobQueue(database, bus, parts.clock), vision)
        services.on_ready("vision", self.vision.push)
        recorder = services.desk("recorder", RecordingDesk, "recording")
        self.recordings = None if recorder is None else RecordingBook(database, recorder)
        if self.recordings is not None:
            services.on_ready("recorder", self.recordings.changed)
        edge = services.desk("edge", BroadcastDesk, "broadcast")
        self.broadcasts = BroadcastBook(database, parts.clock, edge, bus.publish)
        services.on_ready("edge", self.broadcasts.edge_ready)

    @property
    def processes(self) -> Mapping[str, int | None]:
        """Recorder, vision and edge, as far as this node has them; None for one that is away."""
        return self._services.pids

    @property
    def routes(self) -> tuple[Route, ...]:
        parts, settings = self._parts, self._parts.settings
        database, clock, bus, authorisation = parts.database, parts.clock, parts.bus, parts.authorisation
        zone = settings.analytics.time_zone
        return (
            *CameraRoutes(
                database=database,
                clock=clock,
                authorisation=authorisation,
                bus=bus,
                status=lambda: self.cameras.status,
                desk_of=self.cameras.desk_of,
                changed=self._cameras_changed,
            ).routes,
            *RuleRoutes(
                database=database,
                clock=clock,
                authorisation=authorisation,
                bus=bus,
                plans=self.vision,
                time_zone=zone,
            ).routes,
            *ViolationRoutes(
                database=database,
                clock=clock,
                authorisation=authorisation,
                bus=bus,
                evidence=settings.evidence_folder,
                time_zone=zone,
            ).routes,
            *RecordingRoutes(
                database=database,
                clock=clock,
                authorisation=authorisation,
                folder=RecordingFolder(settings.recordings_folder),
                disk=self._disk,
                book=self.recordings,
                publish=bus.publish,
                zone=ZoneInfo(zone),
            ).routes,
            *BroadcastRoutes(
                settings=settings,
                database=database,
                clock=clock,
                authorisation=authorisation,
                statuses=self.broadcasts.statuses,
                changed=self.broadcasts.changed,
                publish=bus.publish,
            ).routes,
        )

    def run(self, scope: TaskScope) -> None:
        self.cameras.run(scope)
        scope.supervise("vision plans", self.vision.run)
        if self.recordings is not None:
            scope.supervise("recordings", self.recordings.run)
        scope.supervise("broadcasts", self.broadcasts.run)
        scope.supervise("ended meetings", self._follow_meetings)
        scope.supervise("surveillance gauges", self._measure)

    async def sites_changed(self) -> None:
        """The tree, links or accounts were edited: who may play which camera follows."""
        await self.cameras.changed()

    async def _measure(self) -> None:
        while True:
            report = None if self.recordings is None else self.recordings.report
            self._gauges.set(self.cameras.status, self.vision.report, report, self.broadcasts.statuses)
            await asyncio.sleep(GAUGE_SECONDS)

    async def _follow_meetings(self) -> None:
        """What was recorded and broadcast of a meeting ends with it; one that ended unheard is looked up."""
        async with self._parts.bus.subscribe(ConferenceEnded, BusReconnected) as events:
            await self._end_what_is_over()
            async for event in events:
                if isinstance(event, ConferenceEnded):
                    await self._meeting_over(event.conference_id)
                else:
                    await self._end_what_is_over()

    async def _end_what_is_over(self) -> None:
        async with self._parts.database.reading() as tx:
            conferences, kind = ConferenceRepository(tx), RecordingKind.CONFERENCE
            subjects = {one.subject for one in await OrderRepository(tx).all() if one.kind is kind}
            subjects |= {
                one.subject
                for one in await BroadcastRepository(tx).running()
                if one.kind is BroadcastKind.CONFERENCE
            }
            rows = {subject: await conferences.get(subject) for subject in subjects}
        for conference_id, row in rows.items():
            if row is None or row.ended_at is not None:
                await self._meeting_over(conference_id)

    async def _meeting_over(self, conference_id: str) -> None:
        await self.broadcasts.conference_ended(conference_id)
        async with self._parts.database.transaction() as tx:
            await OrderRepository(tx).end(RecordingKind.CONFERENCE, conference_id)
        if self.recordings is not None:
            await self.recordings.changed()

    async def _cameras_changed(self) -> None:
        await asyncio.gather(self.cameras.changed(), self.broadcasts.changed())
        if self.recordings is not None:
            await self.recordings.changed()

    async def aclose(self) -> None:
        await self._disk.aclose()
