"""Who may play which camera over RTSP: accounts, their sites, changes of both, and guessing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from foundation.desks import CameraPlan, CameraSpec, RtspAccount
from foundation.repositories.sites import sip_account
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamUnavailable
from stream_relay.camera_pull import CameraSettings
from stream_relay.camera_source import CameraSource
from stream_relay.camera_trial import try_camera
from stream_relay.rtsp_gate import FREE_ATTEMPTS, RtspGate
from stream_relay.rtsp_server import RtspLimits
from tests.peers.picture import RED
from tests.peers.waiting import until, until_true
from tests.stream_relay.cameras import Camera, collect, coloured_pictures, playing

HOST = "127.0.0.1"


def account(name: str, *sites: str, realm: str = "gx") -> RtspAccount:
    return RtspAccount(name, sip_account(name, realm, "secret", "x").ha1_md5, frozenset(sites))


CAMERAS = (
    CameraSpec("gate", "nanning", "Gate", "rtsp://192.0.2.1/"),
    CameraSpec("yard", "cenxi", "Yard", "rtsp://192.0.2.2/"),
    CameraSpec("dead", "nanning", "Dead", "rtsp://192.0.2.3/"),
)
PLAN = CameraPlan(CAMERAS, (account("city", "nanning", "cenxi"), account("county", "cenxi")), "gx")


class Cameras:
    """What the workers have: `gate` and `yard` show something, `dead` does not."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.held: list[str] = []

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        if stream_id.endswith("/sound"):
            raise NoSuchStream("no sound")
        if stream_id == "camera:dead":
            raise StreamUnavailable("camera Dead: connection refused:\r\nnothing listens")
        self.held.append(stream_id)
        try:
            yield self.stream
        finally:
            self.held.remove(stream_id)


@asynccontextmanager
async def gate() -> AsyncIterator[tuple[RtspGate, Cameras, int]]:
    camera = Camera(coloured_pictures(RED, seconds=1))
    cameras = Cameras(camera.stream)
    opened = RtspGate(cameras)
    server = await opened.start(HOST, 0, RtspLimits())
    async with playing(camera):
        try:
            yield opened, cameras, server.port
        finally:
            await opened.aclose()
            assert cameras.held == []


async def played(port: int, login: str, path: str) -> str:
    """ "" when it plays, else why not."""
    result = await try_camera(CameraSettings(f"rtsp://{login}@{HOST}:{port}/{path}"), seconds=5)
    return str(result.fault or "")


async def test_an_account_plays_the_cameras_of_its_sites_and_knows_of_no_others() -> None:
    async with gate() as (opened, _, port):
        assert "wrong password" in await played(port, "city:secret", "camera/gate"), "there is no plan yet"
        opened.set_plan(PLAN)
        for path in ("camera/gate", "camera:gate", "camera/yard", "camera/gate/"):
            assert await played(port, "city:secret", path) == ""
        assert await played(port, "county:secret", "camera/yard") == ""
        foreign, unknown = [
            (await played(port, "county:secret", f"camera/{name}")).replace(name, "X")
            for name in ("gate", "none")
        ]
        assert "404" in foreign
        assert foreign == unknown
        for path in ("", "gate", "camera", "camera/", "camera/../gate", "camera/gate/x", "programme:1"):
            assert "404" in await played(port, "city:secret", path)
        assert "wrong password" in await played(port, "city:wrong", "camera/gate")
        assert "wrong password" in await played(port, "nobody:secret", "camera/gate")
        assert "503" in await played(port, "city:secret", "camera/dead")


@pytest.mark.parametrize("change", ["account", "sites", "camera", "site"])
async def test_who_may_not_play_any_more_is_disconnected(change: str) -> None:
    async with gate() as (opened, cameras, port):
        opened.set_plan(PLAN)
        source = CameraSource("p", CameraSettings(f"rtsp://city:secret@{HOST}:{port}/camera/gate"))
        async with source.hold():
            await collect(await source.video(5), 3)
            opened.set_plan(replace(PLAN, cameras=(*CAMERAS, replace(CAMERAS[0], camera_id="new"))))
            assert opened.servers[0].connections == 1
            gone = {
                "account": replace(PLAN, accounts=PLAN.accounts[1:]),
                "sites": replace(PLAN, accounts=(account("city", "cenxi"),)),
                "camera": replace(PLAN, cameras=CAMERAS[1:]),
                "site": replace(PLAN, cameras=(replace(CAMERAS[0], site_id="guangdong"),)),
            }[change]
            opened.set_plan(gone)
            await until_true(lambda: cameras.held == [], "the player to be disconnected", 5)
        await source.aclose()


async def test_the_realm_is_that_of_the_plan() -> None:
    async with gate() as (opened, _, port):
        opened.set_plan(PLAN)
        opened.set_plan(replace(PLAN, accounts=(account("city", "nanning", realm="other"),), realm="other"))
        assert await played(port, "city:secret", "camera/gate") == ""


async def test_guessing_becomes_slow_for_that_account_alone() -> None:
    async with gate() as (opened, _, port):
        opened.set_plan(PLAN)
        for _ in range(FREE_ATTEMPTS + 1):
            assert "wrong password" in await played(port, "city:guess", "camera/gate")
        assert "503" in await played(port, "city:secret", "camera/gate")
        assert await played(port, "county:secret", "camera/yard") == ""
        await until(
            lambda: played(port, "city:secret", "camera/gate"), lambda fault: not fault, "the wait to end", 5
        )
