"""Cameras and whose they are.

CameraRepository(tx): add, change, remove, get, all, in_sites, recorded, analysed
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import delete, select, update

from foundation.database import Transaction
from foundation.schema import BroadcastRow, CameraRow, RecordingOrderRow, RuleRow
from foundation.secrets import Cell, secrets_of

__all__ = ["CAMERA_ID", "Camera", "CameraRepository"]

CAMERA_ID = r"^[A-Za-z0-9_-]{1,64}$"
"""A national code of 20 digits (GB/T 28181 D.1), or a word."""


@dataclass(frozen=True, slots=True)
class Camera:
    """`url` carries no user and no password; without a `username` the camera asks for none."""

    id: str
    site_id: str
    name: str
    url: str
    created_at: datetime
    username: str | None = None
    password: str = field(default="", repr=False)
    udp: bool = False
    enabled: bool = True

    def __post_init__(self) -> None:
        if not re.match(CAMERA_ID, self.id):
            raise ValueError(f"camera id {self.id!r} is not 1 to 64 letters, digits, '-' and '_'")


class CameraRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, camera: Camera) -> None:
        self._tx.add(self._row(camera))
        await self._tx.flush()

    async def change(self, camera: Camera) -> None:
        """Replace the camera of that id."""
        await self._tx.merge(self._row(camera))
        await self._tx.flush()

    async def remove(self, camera_id: str, at: datetime) -> bool:
        """False when there is no such camera. Its rules and its recording order go with it, and its
        broadcasts end: another camera may get the id, at another site. What was recorded of it stays."""
        order, broadcast = RecordingOrderRow, BroadcastRow
        await self._tx.execute(
            update(broadcast)
            .where(broadcast.kind == "camera", broadcast.subject == camera_id, broadcast.stopped_at.is_(None))
            .values(stopped_at=at, push_url=None)
            .execution_options(synchronize_session=False)
        )
        await self._tx.execute(delete(order).where(order.kind == "camera", order.subject == camera_id))
        removed = await self._tx.execute(
            delete(CameraRow).where(CameraRow.id == camera_id).returning(CameraRow.id)
        )
        return removed.first() is not None

    async def get(self, camera_id: str) -> Camera | None:
        row = await self._tx.get(CameraRow, camera_id)
        return self._camera(row) if row else None

    async def all(self) -> tuple[Camera, ...]:
        """Every camera, by id."""
        rows = await self._tx.scalars(select(CameraRow).order_by(CameraRow.id))
        return tuple(self._camera(row) for row in rows)

    async def in_sites(self, sites: Collection[str]) -> tuple[Camera, ...]:
        """Those of these sites, by id."""
        # Not by IN: the number of sites of a nation is more than a statement may have parameters.
        return tuple(camera for camera in await self.all() if camera.site_id in sites)

    async def recorded(self) -> frozenset[str]:
        """Ids of the cameras that are to be recorded."""
        order = RecordingOrderRow
        return frozenset(await self._tx.scalars(select(order.subject).where(order.kind == "camera")))

    async def analysed(self) -> frozenset[str]:
        """Ids of the cameras with a rule that is on."""
        return frozenset(await self._tx.scalars(select(RuleRow.camera_id).where(RuleRow.enabled)))

    def _row(self, camera: Camera) -> CameraRow:
        cell = _password_of(camera.id)
        return CameraRow(
            id=camera.id,
            site_id=camera.site_id,
            name=camera.name,
            url=camera.url,
            username=camera.username,
            password=secrets_of(self._tx).seal(cell, camera.password) if camera.password else None,
            udp=camera.udp,
            enabled=camera.enabled,
            created_at=camera.created_at,
        )

    def _camera(self, row: CameraRow) -> Camera:
        cell = _password_of(row.id)
        return Camera(
            id=row.id,
            site_id=row.site_id,
            name=row.name,
            url=row.url,
            created_at=row.created_at,
            username=row.username,
            password=secrets_of(self._tx).open(cell, row.password) if row.password else "",
            udp=row.udp,
            enabled=row.enabled,
        )


def _password_of(camera_id: str) -> Cell:
    return Cell("cameras", "password", (camera_id,))
