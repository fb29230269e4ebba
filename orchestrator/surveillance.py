"""Cameras, recordings and violations in main: the rows as plans for the processes that carry them out.

    surveillance = Surveillance(parts, services, cameras)
    surveillance.run(scope)
    app routes: surveillance.routes
    await surveillance.sites_changed()

Main only keeps rows and hands out plans; pulling, recording and looking happen elsewhere, and go on while
main is away.
"""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from analytics.http_rules import RuleRoutes
from analytics.http_violations import ViolationRoutes
from analytics.vision_plans import VisionPlans
from foundation.desks import CameraDesk, RecordingDesk, VisionDesk
from foundation.http_edge import Route
from foundation.jobs import JobQueue
from foundation.tasks import TaskScope
from orchestrator.camera_book import CameraBook
from orchestrator.main_parts import MainParts
from orchestrator.services_watch import ServicesWatch
from recordings.disk import Disk
from recordings.http_recordings import RecordingRoutes
from recordings.recording_book import RecordingBook
from recordings.recording_folder import RecordingFolder
from stream_relay.http_cameras import CameraRoutes

DISK_THREADS = 2
"""They read what pages play back."""


class Surveillance:
    """See the module's head. `cameras` are the desks of the media workers, in their order."""

    def __init__(self, parts: MainParts, services: ServicesWatch, cameras: Mapping[str, CameraDesk]) -> None:
        self._parts = parts
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
        )

    def run(self, scope: TaskScope) -> None:
        self.cameras.run(scope)
        scope.supervise("vision plans", self.vision.run)
        if self.recordings is not None:
            scope.supervise("recordings", self.recordings.run)

    async def sites_changed(self) -> None:
        """The tree, links or accounts were edited: who may play which camera follows."""
        await self.cameras.changed()

    async def _cameras_changed(self) -> None:
        await self.cameras.changed()
        if self.recordings is not None:
            await self.recordings.changed()

    async def aclose(self) -> None:
        await self._disk.aclose()
