"""Cameras over HTTP: list, add, change, remove, try out, and what one shows now."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web
from pydantic import BaseModel, Field

from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Action, Authorisation, Resource
from foundation.clock import Clock
from foundation.database import Database, Transaction
from foundation.desks import CameraDesk, CameraStatus, Refusal, RefusalKind
from foundation.event_bus import EventBus
from foundation.events import CameraChanged
from foundation.http_edge import Exchange, Problem, Route, Wanted, bad_request, conflict, not_found
from foundation.repositories.cameras import CAMERA_ID, Camera, CameraRepository
from foundation.repositories.sites import SiteRepository
from stream_relay.camera_address import CameraAddress, WrongAddress
from stream_relay.camera_pull import CameraSettings
from stream_relay.camera_trial import TrialResult, try_camera

CAMERAS = "/api/v1/cameras"
TRIALS_AT_ONCE = 4
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
"""A line break cannot be sent in a header: it would be said to be the camera's fault."""


class CameraOut(BaseModel):
    id: str
    site_id: str
    site_name: str
    name: str
    url: str | None = Field(description="null for those who may not manage devices")
    username: str | None
    udp: bool
    enabled: bool
    recording: bool
    analysed: bool
    state: str = Field(description="idle, connecting, playing, waiting (to try again) or unknown")
    fault: str
    cause: str
    codec: str
    width: int
    height: int
    bitrate_bps: int
    frame_rate: float
    sound: str


class CameraQuery(Wanted):
    site_id: str | None = None


class NewCamera(Wanted):
    id: str | None = Field(default=None, pattern=CAMERA_ID)
    site_id: str
    name: str = Field(min_length=1, max_length=200)
    url: str = Field(min_length=1, max_length=800)
    username: str | None = Field(default=None, max_length=128, pattern=PRINTABLE)
    password: str = Field(default="", max_length=256, pattern=PRINTABLE)
    udp: bool = False


class CameraPatch(Wanted):
    name: str | None = Field(default=None, min_length=1, max_length=200)
    url: str | None = Field(default=None, min_length=1, max_length=800)
    username: str | None = Field(
        default=None, max_length=128, pattern=PRINTABLE, description='"" or null: it asks for none'
    )
    password: str | None = Field(default=None, max_length=256, pattern=PRINTABLE)
    udp: bool | None = None
    enabled: bool | None = None


class CameraTest(Wanted):
    site_id: str
    url: str = Field(min_length=1, max_length=800)
    username: str | None = Field(default=None, max_length=128, pattern=PRINTABLE)
    password: str = Field(default="", max_length=256, pattern=PRINTABLE)
    udp: bool = False


class CameraTestOut(BaseModel):
    ok: bool
    cause: str
    detail: str
    codec: str
    width: int
    height: int
    sound: str


class SnapshotQuery(Wanted):
    width: int = Field(default=640, ge=16, le=3840)


class CameraRoutes:
    """`status` is what workers last said of each camera, `desk_of` finds the worker of one; `changed` is
    awaited after each change, so that plans follow. `try_out` is there for tests."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        authorisation: Authorisation,
        bus: EventBus,
        status: Callable[[], Mapping[str, CameraStatus]],
        desk_of: Callable[[str], CameraDesk],
        changed: Callable[[], Awaitable[None]],
        try_out: Callable[[CameraSettings], Awaitable[TrialResult]] = try_camera,
    ) -> None:
        self._database = database
        self._clock = clock
        self._authorisation = authorisation
        self._bus = bus
        self._status = status
        self._desk_of = desk_of
        self._changed = changed
        self._try_out = try_out
        self._trials = 0

    @property
    def routes(self) -> tuple[Route, ...]:
        seeing, viewing, managing = Action.LIST_CAMERAS, Action.VIEW_CAMERA, Action.MANAGE_DEVICES
        one = f"{CAMERAS}/{{id}}"
        return (
            Route(
                "GET",
                CAMERAS,
                self.all,
                "Cameras",
                seeing,
                returns=list[CameraOut],
                query=CameraQuery,
                filtered=True,
            ),
            Route("POST", CAMERAS, self.add, "Add a camera", managing, self._at, NewCamera, CameraOut, 201),
            Route(
                "POST",
                f"{CAMERAS}/test",
                self.test,
                "Try a camera once, within 8 s",
                managing,
                self._at,
                CameraTest,
                CameraTestOut,
            ),
            Route("GET", one, self.get, "A camera", seeing, self._camera, returns=CameraOut),
            Route(
                "PATCH", one, self.change, "Change a camera", managing, self._camera, CameraPatch, CameraOut
            ),
            Route("DELETE", one, self.remove, "Remove a camera", managing, self._camera, status=204),
            Route(
                "GET",
                f"{one}/snapshot.jpg",
                self.snapshot,
                "What a camera shows now",
                viewing,
                self._camera,
                query=SnapshotQuery,
            ),
        )

    async def _camera(self, exchange: Exchange) -> Resource:
        async with self._database.reading() as tx:
            camera = await _find(tx, exchange.path["id"])
        return Resource("camera", camera.id, camera.site_id)

    async def _at(self, exchange: Exchange) -> Resource:
        wanted = exchange.body
        assert isinstance(wanted, NewCamera | CameraTest), "the routes that ask this have such a body"
        if wanted.site_id not in self._authorisation.tree:
            raise bad_request(f"site_id: there is no site {wanted.site_id!r}")
        return Resource("camera", None, wanted.site_id)

    # --- reading ------------------------------------------------------------------------------------

    async def all(self, exchange: Exchange) -> list[CameraOut]:
        visible = self._authorisation.sites(exchange.who, Action.LIST_CAMERAS)
        site_id = exchange.asked(CameraQuery).site_id
        if site_id is not None:
            visible &= {site_id}
        async with self._database.reading() as tx:
            return await self._told(exchange, tx, await CameraRepository(tx).in_sites(visible))

    async def get(self, exchange: Exchange) -> CameraOut:
        return await self._now(exchange, exchange.path["id"])

    async def _told(
        self, exchange: Exchange, tx: Transaction, cameras: tuple[Camera, ...]
    ) -> list[CameraOut]:
        repository = CameraRepository(tx)
        recorded, analysed = await repository.recorded(), await repository.analysed()
        names = {site.id: site.name for site in await SiteRepository(tx).all()}
        managed = self._authorisation.sites(exchange.who, Action.MANAGE_DEVICES)
        statuses = self._status()
        told = []
        for camera in cameras:
            status = statuses.get(camera.id) or CameraStatus(camera.id, "unknown")
            may_manage = camera.site_id in managed
            told.append(
                CameraOut(
                    id=camera.id,
                    site_id=camera.site_id,
                    site_name=names.get(camera.site_id, camera.site_id),
                    name=camera.name,
                    url=camera.url if may_manage else None,
                    username=camera.username if may_manage else None,
                    udp=camera.udp,
                    enabled=camera.enabled,
                    recording=camera.id in recorded,
                    analysed=camera.id in analysed,
                    state=status.state,
                    fault=status.fault,
                    cause=status.cause,
                    codec=status.codec,
                    width=status.width,
                    height=status.height,
                    bitrate_bps=status.bitrate_bps,
                    frame_rate=round(status.frame_rate, 1),
                    sound=status.sound,
                )
            )
        return told

    async def snapshot(self, exchange: Exchange) -> web.Response:
        camera_id = exchange.path["id"]
        async with self._database.reading() as tx:
            camera = await _find(tx, camera_id)
        if not camera.enabled:
            raise conflict(f"camera {camera.name} is switched off")
        try:
            jpeg = await self._desk_of(camera_id).snapshot(camera_id, exchange.asked(SnapshotQuery).width)
        except Refusal as refusal:
            if refusal.kind is RefusalKind.UNKNOWN_CAMERA:
                detail = f"the media worker of camera {camera.name} does not know it yet"
                raise Problem(503, "Camera unavailable", detail, headers={"Retry-After": "2"}) from None
            raise Problem(503, "Camera unavailable", refusal.detail, headers={"Retry-After": "5"}) from None
        return web.Response(body=jpeg, content_type="image/jpeg", headers={"Cache-Control": "no-store"})

    # --- changing -----------------------------------------------------------------------------------

    async def add(self, exchange: Exchange) -> CameraOut:
        wanted = exchange.parsed(NewCamera)
        address = _address(wanted.url)
        username, password = _login(address, wanted.username, wanted.password)
        camera = Camera(
            id=wanted.id or f"cam-{secrets.token_hex(5)}",
            site_id=wanted.site_id,
            name=wanted.name,
            url=address.url,
            created_at=self._clock.now(),
            username=username,
            password=password,
            udp=wanted.udp,
        )

        async def write(repository: CameraRepository) -> dict[str, Any]:
            if await repository.get(camera.id) is not None:
                raise conflict(f"there is already a camera {camera.id!r}")
            await repository.add(camera)
            return _detail(camera)

        await self._write(exchange, "add-camera", camera.id, camera.site_id, write)
        return await self._now(exchange, camera.id)

    async def change(self, exchange: Exchange) -> CameraOut:
        wanted = exchange.parsed(CameraPatch)
        camera_id = exchange.path["id"]

        async def write(repository: CameraRepository) -> dict[str, Any]:
            before = await repository.get(camera_id)
            if before is None:
                raise _no_camera(camera_id)
            after = _changed(before, wanted)
            await repository.change(after)
            old, new = _detail(before), _detail(after)
            detail: dict[str, Any] = {key: new[key] for key in new if new[key] != old[key]}
            detail["before"] = {key: old[key] for key in new if new[key] != old[key]}
            if before.password != after.password:
                detail["password"] = "changed"
            return detail

        async with self._database.reading() as tx:
            site_id = (await _find(tx, camera_id)).site_id
        await self._write(exchange, "change-camera", camera_id, site_id, write)
        return await self._now(exchange, camera_id)

    async def remove(self, exchange: Exchange) -> None:
        camera_id = exchange.path["id"]
        async with self._database.reading() as tx:
            camera = await _find(tx, camera_id)

        async def write(repository: CameraRepository) -> dict[str, Any]:
            if not await repository.remove(camera_id, self._clock.now()):
                raise _no_camera(camera_id)
            return _detail(camera)

        await self._write(exchange, "remove-camera", camera_id, camera.site_id, write)

    async def test(self, exchange: Exchange) -> CameraTestOut:
        wanted = exchange.parsed(CameraTest)
        address = _address(wanted.url)
        username, password = _login(address, wanted.username, wanted.password)
        if self._trials >= TRIALS_AT_ONCE:
            raise Problem(503, "Busy", "other cameras are being tried just now", headers={"Retry-After": "5"})
        self._trials += 1
        try:
            result = await self._try_out(
                CameraSettings(address.url, username=username, password=password, udp=wanted.udp)
            )
        finally:
            self._trials -= 1
        fault = result.fault
        return CameraTestOut(
            ok=fault is None,
            cause="" if fault is None else fault.cause.value,
            detail="" if fault is None else fault.reason,
            codec=result.codec,
            width=result.width,
            height=result.height,
            sound=result.sound,
        )

    async def _write(
        self,
        exchange: Exchange,
        action: str,
        camera_id: str,
        site_id: str,
        write: Callable[[CameraRepository], Awaitable[dict[str, Any]]],
    ) -> None:
        """One transaction for the change and its audit row, whose detail `write` returns; then it is told."""
        async with self._database.transaction() as tx:
            detail = await write(CameraRepository(tx))
            entry = AuditEntry(exchange.name, action, f"camera:{camera_id}", "done", exchange.address, detail)
            await AuditTrail(tx, self._clock).append(entry)
        await self._changed()
        self._bus.publish(CameraChanged(camera_id, site_id))

    async def _now(self, exchange: Exchange, camera_id: str) -> CameraOut:
        async with self._database.reading() as tx:
            return (await self._told(exchange, tx, (await _find(tx, camera_id),)))[0]


def _no_camera(camera_id: str) -> Problem:
    return not_found(f"there is no camera {camera_id!r}")


async def _find(tx: Transaction, camera_id: str) -> Camera:
    camera = await CameraRepository(tx).get(camera_id)
    if camera is None:
        raise _no_camera(camera_id)
    return camera


def _address(url: str) -> CameraAddress:
    try:
        return CameraAddress.parse(url)
    except WrongAddress as error:
        raise bad_request(f"url: {error}") from None


def _login(address: CameraAddress, username: str | None, password: str) -> tuple[str | None, str]:
    """What is given by itself wins over what stood in the address."""
    if username:
        return username, password
    return (address.username, address.password) if address.username else (None, "")


def _changed(before: Camera, wanted: CameraPatch) -> Camera:
    """The camera after a change. A password is never sent to a host it was not given for."""
    given = wanted.model_fields_set
    after = before
    if wanted.name is not None:
        after = replace(after, name=wanted.name)
    if wanted.udp is not None:
        after = replace(after, udp=wanted.udp)
    if wanted.enabled is not None:
        after = replace(after, enabled=wanted.enabled)
    if "username" in given and not wanted.username:
        after = replace(after, username=None, password="")
    elif wanted.username is not None:
        after = replace(after, username=wanted.username)
    if wanted.password is not None and after.username is not None:
        after = replace(after, password=wanted.password)
    if wanted.url is None:
        return after
    address, known = _address(wanted.url), CameraAddress.parse(before.url)
    after = replace(after, url=address.url)
    if address.username and "username" not in given:
        return replace(after, username=address.username, password=address.password)
    elsewhere = (address.host, address.port) != (known.host, known.port)
    if elsewhere and after.password and wanted.password is None:
        raise bad_request(
            f"password: must be given again, because the address leads to another host ({address.host})"
        )
    return after


def _detail(camera: Camera) -> dict[str, Any]:
    """For the audit: everything but the password."""
    return {
        "site_id": camera.site_id,
        "name": camera.name,
        "url": camera.url,
        "username": camera.username,
        "udp": camera.udp,
        "enabled": camera.enabled,
    }
