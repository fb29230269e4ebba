"""Cameras over HTTP, with a real camera behind them: jurisdiction, secrets, plans, snapshots, trials."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foundation.authorisation import Authorisation, Role
from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import CameraPlan, CameraStatus, Refusal, RefusalKind
from foundation.event_bus import InProcessBus
from foundation.events import CameraChanged
from foundation.repositories.cameras import CameraRepository
from foundation.repositories.sites import SiteRepository, sip_account
from foundation.site_tree import SiteTree
from foundation.tasks import TaskScope
from orchestrator.camera_book import CameraBook
from stream_relay.camera_keeper import CameraKeeper
from stream_relay.http_cameras import CameraRoutes
from stream_relay.rtsp_server import RtspServer
from tests.keys import BOX
from tests.orchestrator.http_service import SITES, Service, Signed, problem, serving
from tests.peers.picture import RED, shows
from tests.peers.waiting import until_true
from tests.stream_relay.cameras import Camera, Shelf, coloured_pictures, playing

CAMERAS = "/api/v1/cameras"
REALM = "gx"


@dataclass
class House:
    service: Service
    database: Database
    book: CameraBook
    keeper: CameraKeeper
    bus: InProcessBus
    url: str
    """Of a camera that shows red."""
    admin: Signed
    """Of Guangxi, below which Nanning and Cenxi lie."""
    monitor: Signed
    """Of Nanning."""
    neighbour: Signed
    """Monitor of Guangdong."""

    async def ask(self, method: str, path: str, who: Signed, body: object = None) -> Any:
        return await self.service.client.request(method, CAMERAS + path, headers=who.bearer, json=body)

    async def json(self, method: str, path: str, who: Signed, body: object = None) -> Any:
        response = await self.ask(method, path, who, body)
        assert response.status < 300, await response.text()
        return None if response.status == 204 else await response.json()

    async def add(self, camera_id: str = "gate", site_id: str = "nanning", **fields: Any) -> Any:
        wanted = {"id": camera_id, "site_id": site_id, "name": camera_id.title(), "url": self.url, **fields}
        return await self.json("POST", "", self.admin, wanted)


@pytest.fixture
async def house(sqlite_file: Path) -> AsyncIterator[House]:
    database, bus = Database(f"sqlite:///{sqlite_file}", secrets=BOX), InProcessBus()
    authorisation = Authorisation(SiteTree({site.id: site.parent_id for site in SITES}), "guangxi")
    camera = Camera(coloured_pictures(RED, seconds=1))
    server = RtspServer(Shelf(ch1=[camera.stream]))
    await server.start("127.0.0.1", 0)
    async with playing(camera), CameraKeeper(lambda _: None) as keeper, TaskScope("test") as scope:
        book = CameraBook(database, authorisation, REALM, {"main": keeper}, look=0.05)
        book.run(scope)
        await book.worker_ready("main")
        routes = CameraRoutes(
            database=database,
            clock=FakeClock(),
            authorisation=authorisation,
            bus=bus,
            status=lambda: book.status,
            desk_of=book.desk_of,
            changed=book.changed,
        ).routes
        async with serving(sqlite_file, extra=routes) as service:
            yield House(
                service,
                database,
                book,
                keeper,
                bus,
                f"rtsp://127.0.0.1:{server.port}/ch1",
                await service.user(Role.SYSTEM_ADMIN),
                await service.user(Role.MONITOR, site="nanning"),
                await service.user(Role.MONITOR, site="guangdong"),
            )
        await server.aclose()
    await database.aclose()


async def test_a_camera_is_added_seen_changed_and_removed(house: House) -> None:
    async with house.bus.subscribe(CameraChanged) as events:
        added = await house.add(url=house.url.replace("rtsp://", "rtsp://admin:s3cret@"))
        assert await anext(events) == CameraChanged("gate", "nanning")
        assert added.pop("state") in ("unknown", "idle"), "the worker may have told of it already"
        assert added == {
            "id": "gate",
            "site_id": "nanning",
            "site_name": "南宁",
            "name": "Gate",
            "url": house.url,
            "username": "admin",
            "udp": False,
            "enabled": True,
            "recording": False,
            "analysed": False,
            "fault": "",
            "cause": "",
            "codec": "",
            "width": 0,
            "height": 0,
            "bitrate_bps": 0,
            "frame_rate": 0.0,
            "sound": "",
        }
        response = await house.ask("GET", "/gate/snapshot.jpg?width=160", house.monitor)
        assert (response.status, response.content_type) == (200, "image/jpeg")
        picture = np.asarray(Image.open(io.BytesIO(await response.read())))
        assert picture.shape == (120, 160, 3)
        assert shows(picture, RED)
        await until_true(
            lambda: "gate" in house.book.status and house.book.status["gate"].state == "playing",
            "its state",
            5,
        )
        seen = await house.json("GET", "/gate", house.monitor)
        assert (seen["state"], seen["codec"], seen["width"], seen["height"]) == ("playing", "H264", 320, 240)
        assert (seen["url"], seen["username"]) == (None, None), "not for those who only look"
        changed = await house.json("PATCH", "/gate", house.admin, {"name": "西门", "enabled": False})
        assert (changed["name"], changed["enabled"]) == ("西门", False)
        assert await house.keeper.status() == ()
        await house.json("DELETE", "/gate", house.admin)
        await problem(await house.ask("GET", "/gate", house.admin), 404)
    rows = [row for row in await house.service.audited() if row.subject == "camera:gate"]
    assert [row.action for row in rows] == ["add-camera", "change-camera", "remove-camera"]
    assert json.loads(rows[1].detail)["before"] == {"name": "Gate", "enabled": True}
    assert "s3cret" not in "".join(row.detail for row in rows)


async def test_a_camera_of_another_county_is_not_there(house: House) -> None:
    await house.add("gate", "nanning")
    await house.add("yard", "cenxi")
    await house.add("top", "guangxi")
    ids = [camera["id"] for camera in await house.json("GET", "", house.monitor)]
    assert ids == ["gate", "yard"]
    assert [one["id"] for one in await house.json("GET", "?site_id=cenxi", house.monitor)] == ["yard"]
    assert await house.json("GET", "?site_id=guangxi", house.monitor) == []
    assert await house.json("GET", "", house.neighbour) == []
    for path in ("/gate", "/gate/snapshot.jpg"):
        await problem(await house.ask("GET", path, house.neighbour), 403)
    for method, path, body in (
        ("POST", "", {"site_id": "nanning", "name": "x", "url": house.url}),
        ("POST", "/test", {"site_id": "nanning", "url": house.url}),
        ("PATCH", "/gate", {"name": "x"}),
        ("DELETE", "/gate", None),
    ):
        await problem(await house.ask(method, path, house.monitor, body), 403)
    await problem(await house.ask("GET", "/gate/snapshot.jpg", house.admin), 403)
    below = await house.service.user(Role.SYSTEM_ADMIN, site="cenxi", name="admin-below")
    await problem(await house.ask("PATCH", "/gate", below, {"name": "x"}), 403)
    wanted = {"site_id": "nanning", "name": "x", "url": house.url}
    await problem(await house.ask("POST", "", below, wanted), 403)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"url": "http://192.0.2.1/"}, 400, "url: only rtsp:// addresses are taken, not http://"),
        ({"url": "rtsp:///x"}, 400, "url: there is no host"),
        ({"site_id": "atlantis"}, 400, "site_id: there is no site 'atlantis'"),
        ({"id": "gate"}, 409, "already a camera 'gate'"),
        ({"id": "a b"}, 422, "id"),
        ({"name": ""}, 422, "name"),
        ({"username": "ad\r\nmin"}, 422, "username"),
        ({"username": "admin", "password": "a\nb"}, 422, "password"),
        ({"url": "rtsp://admin:a%0ab@10.0.0.1/1"}, 400, "user or password"),
        ({"colour": "red"}, 422, "colour"),
    ],
)
async def test_a_camera_that_cannot_be(house: House, fields: dict[str, Any], status: int, words: str) -> None:
    await house.add()
    wanted = {"id": "new", "site_id": "nanning", "name": "New", "url": house.url, **fields}
    answer = await problem(await house.ask("POST", "", house.admin, wanted), status)
    assert words in answer["detail"]


async def test_a_password_is_not_carried_to_another_host(house: House) -> None:
    await house.add(url="rtsp://192.0.2.7/1", username="admin", password="s3cret")

    async def stored() -> tuple[str, str | None, str]:
        async with house.database.reading() as tx:
            camera = await CameraRepository(tx).get("gate")
        assert camera is not None
        return camera.url, camera.username, camera.password

    await house.json("PATCH", "/gate", house.admin, {"url": "rtsp://192.0.2.7/2"})
    assert await stored() == ("rtsp://192.0.2.7/2", "admin", "s3cret")
    answer = await problem(await house.ask("PATCH", "/gate", house.admin, {"url": "rtsp://192.0.2.8/2"}), 400)
    assert "password: must be given again" in answer["detail"]
    await house.json("PATCH", "/gate", house.admin, {"url": "rtsp://192.0.2.8/2", "password": "other"})
    assert await stored() == ("rtsp://192.0.2.8/2", "admin", "other")
    await house.json("PATCH", "/gate", house.admin, {"url": "rtsp://u:p@192.0.2.9/"})
    assert await stored() == ("rtsp://192.0.2.9/", "u", "p")
    await house.json("PATCH", "/gate", house.admin, {"username": None})
    assert await stored() == ("rtsp://192.0.2.9/", None, "")


async def test_snapshots_of_what_cannot_be_seen(house: House) -> None:
    await problem(await house.ask("GET", "/none/snapshot.jpg", house.monitor), 404)
    await house.add("off")
    await house.json("PATCH", "/off", house.admin, {"enabled": False})
    answer = await problem(await house.ask("GET", "/off/snapshot.jpg", house.monitor), 409)
    assert "switched off" in answer["detail"]
    await house.add("lost", url="rtsp://127.0.0.1:9/x")
    answer = await problem(await house.ask("GET", "/lost/snapshot.jpg", house.monitor), 503)
    assert "connection refused: nothing listens on 127.0.0.1:9" in answer["detail"]
    await problem(await house.ask("GET", "/lost/snapshot.jpg?width=9999", house.monitor), 422)
    known = house.book
    await until_true(lambda: "lost" in known.status and bool(known.status["lost"].fault), "the fault", 5)
    seen = await house.json("GET", "/lost", house.monitor)
    assert "connection refused" in seen["fault"]


async def test_a_camera_is_tried_before_it_is_added(house: House) -> None:
    tried = await house.json("POST", "/test", house.admin, {"site_id": "nanning", "url": house.url})
    assert tried == {
        "ok": True,
        "cause": "",
        "detail": "",
        "codec": "H264",
        "width": 320,
        "height": 240,
        "sound": "",
    }
    wanted = {"site_id": "nanning", "url": house.url.replace("ch1", "ch2")}
    tried = await house.json("POST", "/test", house.admin, wanted)
    assert (tried["ok"], tried["cause"]) == (False, "not found")
    assert "404" in tried["detail"]
    answer = await problem(
        await house.ask("POST", "/test", house.admin, {"site_id": "nanning", "url": "x"}), 400
    )
    assert "url: only rtsp://" in answer["detail"]


# --- the plan ----------------------------------------------------------------------------------------


class Desk:
    """A worker that notes its plans, or is not there."""

    def __init__(self) -> None:
        self.plans: list[CameraPlan] = []
        self.refusal: Refusal | None = None

    async def set_plan(self, plan: CameraPlan) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.plans.append(plan)

    async def status(self) -> tuple[CameraStatus, ...]:
        if self.refusal is not None:
            raise self.refusal
        return (CameraStatus("gate", "playing", bitrate_bps=2_000_000),)

    async def snapshot(self, camera_id: str, width: int) -> bytes:
        return b""


async def test_plans_reach_every_worker_and_again_the_one_that_was_away(house: House) -> None:
    await house.add("gate", "nanning", username="admin", password="s3cret")
    async with house.database.transaction() as tx:
        await SiteRepository(tx).save_sip_account(sip_account("room", REALM, "secret", "nanning"))
        await SiteRepository(tx).save_sip_account(sip_account("other", "elsewhere", "secret", "nanning"))
    first, second = Desk(), Desk()
    authorisation = Authorisation(SiteTree({site.id: site.parent_id for site in SITES}), "guangxi")
    book = CameraBook(house.database, authorisation, REALM, {"media-0": first, "media-1": second}, look=0.02)
    await book.worker_ready("media-0")
    assert second.plans == []
    second.refusal = Refusal(RefusalKind.WORKER_LOST, "away")
    await book.worker_ready("media-1")
    (plan,) = first.plans
    assert [(one.camera_id, one.username, one.password) for one in plan.cameras] == [
        ("gate", "admin", "s3cret")
    ]
    (account,) = plan.accounts
    assert (account.username, set(account.sites), plan.realm) == ("room", {"nanning", "cenxi"}, REALM)
    assert account.ha1_md5 == sip_account("room", REALM, "secret", "nanning").ha1_md5
    assert {book.desk_of(f"camera-{n}") for n in range(30)} == {first, second}
    async with TaskScope("test") as scope:
        book.run(scope)
        await until_true(lambda: book.measured_bps("gate") == 2_000_000, "a look", 5)
        second.refusal = None
        await until_true(lambda: second.plans == [plan], "the plan to be told when it is back", 5)
        await book.changed()
        assert (first.plans, second.plans) == ([plan], [plan]), "nothing was changed"
        first.refusal = second.refusal = Refusal(RefusalKind.WORKER_LOST, "away")
        await until_true(lambda: "gate" not in book.status, "its state to be unknown", 5)
        first.refusal = None
        await asyncio.gather(book.worker_ready("media-0"), house.add("yard", "cenxi"))
        await book.changed()
        assert [one.camera_id for one in first.plans[-1].cameras] == ["gate", "yard"]
