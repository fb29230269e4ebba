"""Cameras in meetings: a camera has no signalling, it is brought in, and is out when its row says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from foundation.database import Database, DatabaseError
from foundation.event_bus import EventBus
from foundation.events import BusReconnected, CameraChanged
from foundation.repositories.cameras import CameraRepository
from signaling.meeting import CAMERA, Caller, Member
from signaling.meetings import Meetings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KnownCamera:
    """What signalling needs to know of a camera."""

    camera_id: str
    site_id: str
    name: str
    enabled: bool = True


class CameraLookup(Protocol):
    """Finds a camera by its id; None for one that does not exist."""

    async def __call__(self, camera_id: str) -> KnownCamera | None: ...


class CameraRows:
    """The lookup in the rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, camera_id: str) -> KnownCamera | None:
        async with self._database.reading() as tx:
            row = await CameraRepository(tx).get(camera_id)
        return None if row is None else KnownCamera(row.id, row.site_id, row.name, row.enabled)


class CameraOff(Exception):
    """The camera is switched off: nobody can see it."""

    def __init__(self, camera: KnownCamera) -> None:
        super().__init__(f"camera {camera.camera_id} ({camera.name}) is switched off")


class CameraCalls:
    """Brings cameras into meetings, and takes out those that were switched off or removed.

    `measured_bps` tells what a camera sends just now, 0 when nobody knows: then a usual rate is admitted.
    """

    def __init__(
        self,
        meetings: Meetings,
        cameras: CameraLookup,
        measured_bps: Callable[[str], int] = lambda _camera_id: 0,
    ) -> None:
        self._meetings = meetings
        self._cameras = cameras
        self._measured_bps = measured_bps

    async def camera(self, camera_id: str) -> KnownCamera | None:
        """The camera as the rows have it."""
        return await self._cameras(camera_id)

    async def join(self, conference_id: str, camera: KnownCamera, name: str | None = None) -> Member:
        """Bring a camera in; `name` is drawn under its picture. Raises CameraOff; else as `join_camera`."""
        if not camera.enabled:
            raise CameraOff(camera)
        caller = Caller(name or camera.name, camera.site_id, "", f"{CAMERA}{camera.camera_id}")
        measured = self._measured_bps(camera.camera_id)
        return await self._meetings.join_camera(conference_id, caller, measured)

    async def run(self, bus: EventBus) -> None:
        """Follow what becomes of cameras that are in meetings, until cancelled."""
        async with bus.subscribe(CameraChanged, BusReconnected) as events:
            await self._check_all()  # a change may have come while nobody listened
            async for event in events:
                match event:
                    case CameraChanged(camera_id=camera_id):
                        await self._check(camera_id)
                    case _:
                        await self._check_all()

    async def _check_all(self) -> None:
        for camera_id in {member.camera for member in self._members()}:
            if camera_id is not None:
                await self._check(camera_id)

    def _members(self) -> list[Member]:
        return [member for meeting in self._meetings.running for member in meeting.members.values()]

    async def _check(self, camera_id: str) -> None:
        """Out with a camera that is no more to be seen."""
        mine = [member for member in self._members() if member.camera == camera_id]
        if not mine:
            return
        try:
            camera = await self._cameras(camera_id)
        except DatabaseError as error:
            log.warning("camera_not_checked", camera=camera_id, why=str(error))
            return
        if camera is not None and camera.enabled:
            return
        reason = "camera removed" if camera is None else "camera switched off"
        for member in mine:
            await self._meetings.leave(member.participant_id, reason)
