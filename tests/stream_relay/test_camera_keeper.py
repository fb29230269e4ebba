"""The cameras of a worker: kept by plan, opened by name, photographed, and their faults in clear words."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foundation.desks import CameraPlan, CameraSpec, CameraStatus, Refusal, RefusalKind
from foundation.events import CameraStateChanged, Event
from foundation.tasks import Backoff
from media.node_streams import home_worker
from media.rtp_socket import PortRange
from media.stream_source import NoSuchStream, StreamUnavailable
from stream_relay import camera_keeper, snapshots
from stream_relay.camera_keeper import CameraKeeper
from stream_relay.camera_source import CameraSettings, CameraSource
from stream_relay.camera_trial import try_camera
from stream_relay.rtsp_server import RtspServer
from tests.peers.picture import BLUE, RED, shows
from tests.peers.ports import PortBlock
from tests.peers.waiting import until_true
from tests.stream_relay.cameras import (
    H264_SDP,
    H265_PAYLOADS,
    H265_SDP,
    Camera,
    ScriptedCamera,
    Shelf,
    collect,
    coloured_pictures,
    playing,
)

HOST = "127.0.0.1"


def source(spec: CameraSpec, ports: PortRange, **times: float) -> CameraSource:
    settings: dict[str, Any] = {"response_timeout": 0.3, "silence": 0.5, "pictureless": 0.4, **times}
    return CameraSource(
        spec.camera_id,
        CameraSettings(spec.url, username=spec.username, password=spec.password, ports=ports, **settings),
        idle_after=0.1,
        backoff=Backoff(first=0.05, limit=0.2),
    )


@asynccontextmanager
async def keeping(*cameras: CameraSpec) -> AsyncIterator[tuple[CameraKeeper, list[CameraStateChanged]]]:
    told: list[CameraStateChanged] = []

    def emit(event: Event) -> None:
        assert isinstance(event, CameraStateChanged)
        told.append(event)

    async with CameraKeeper(emit, source=source) as keeper:
        await keeper.set_plan(CameraPlan(cameras))
        yield keeper, told


@asynccontextmanager
async def camera_at(camera: Camera, port: int = 0) -> AsyncIterator[RtspServer]:
    server = RtspServer(Shelf(ch1=[camera.stream]))
    await server.start(HOST, port)
    async with playing(camera):
        try:
            yield server
        finally:
            await server.aclose()


def spec(camera_id: str, port: int, **fields: Any) -> CameraSpec:
    return CameraSpec(camera_id, "cenxi", f"Gate {camera_id}", f"rtsp://{HOST}:{port}/ch1", **fields)


async def status(keeper: CameraKeeper, camera_id: str = "1") -> CameraStatus:
    return next(one for one in await keeper.status() if one.camera_id == camera_id)


async def test_a_camera_is_pulled_while_somebody_holds_it_and_measured() -> None:
    camera = Camera(coloured_pictures(RED))
    async with camera_at(camera) as server, keeping(spec("1", server.port)) as (keeper, told):
        assert (await status(keeper)).state == "idle"
        async with keeper.open("camera:1") as stream:
            await collect(stream, 30)
            seen = await status(keeper)
            assert (seen.state, seen.holders, seen.fault, seen.connections) == ("playing", 1, "", 1)
            assert (seen.codec, seen.width, seen.height, seen.sound) == ("H264", 320, 240, "")
            assert 15 <= seen.frame_rate <= 40
            assert seen.bitrate_bps > 5_000
            with pytest.raises(NoSuchStream, match="Gate 1 sends no sound"):
                async with keeper.open("camera:1/sound"):
                    pass
            await until_true(lambda: bool(told), "the state to be told", 5)
        await until_true(lambda: stream.closed, "the idle time", 5)
        assert told[0] == CameraStateChanged("1", "cenxi", "playing")
        idle = await status(keeper)
        assert (idle.state, idle.bitrate_bps, idle.width) == ("idle", 0, 320)


async def test_unchanged_cameras_go_on_while_others_come_change_and_go() -> None:
    camera = Camera(coloured_pictures(RED))
    async with camera_at(camera) as server, AsyncExitStack() as stack:
        keeper, _ = await stack.enter_async_context(
            keeping(spec("same", server.port), spec("gone", server.port), spec("moved", server.port))
        )
        streams = {
            name: await stack.enter_async_context(keeper.open(f"camera:{name}"))
            for name in ("same", "gone", "moved")
        }
        renamed = CameraSpec("same", "nanning", "Another name", f"rtsp://{HOST}:{server.port}/ch1")
        moved = spec("moved", server.port, username="admin")
        await keeper.set_plan(CameraPlan((renamed, moved, spec("new", server.port))))
        assert not streams["same"].closed
        await collect(streams["same"], 2)
        assert streams["gone"].closed
        assert streams["moved"].closed
        assert (await status(keeper, "same")).connections == 1
        assert [one.camera_id for one in await keeper.status()] == ["same", "moved", "new"]
        with pytest.raises(NoSuchStream, match="'camera:gone'"):
            async with keeper.open("camera:gone"):
                pass
        async with keeper.open("camera:new") as stream:
            await collect(stream, 2)


async def test_each_worker_keeps_its_own_cameras() -> None:
    cameras = tuple(spec(str(number), 9) for number in range(40))
    kept = []
    for index in range(3):
        async with CameraKeeper(lambda _: None, index=index, workers=3) as keeper:
            await keeper.set_plan(CameraPlan(cameras))
            mine = [one.camera_id for one in await keeper.status()]
            assert all(home_worker(camera, 3) == index for camera in mine)
            assert len(mine) > 5
            kept += mine
    assert sorted(kept) == sorted(camera.camera_id for camera in cameras)


async def test_a_camera_that_dies_and_comes_back_is_told_twice_and_its_readers_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(camera_keeper, "_LOOK", 0.02)
    monkeypatch.setattr(camera_keeper, "_BETWEEN_EVENTS", 0.1)
    camera = Camera(coloured_pictures(RED, seconds=1))
    async with AsyncExitStack() as life:
        server = await life.enter_async_context(camera_at(camera))
        port = server.port
        async with keeping(spec("1", port)) as (keeper, told), keeper.open("camera:1") as stream:
            await collect(stream, 5)
            await until_true(lambda: len(told) == 1, "the camera to be told of", 5)
            await life.aclose()
            await until_true(lambda: len(told) >= 2, "its loss to be told", 5)
            await asyncio.sleep(0.5)  # it tries again a few times meanwhile
            retries = len(told)
            assert not stream.closed
            async with camera_at(camera, port):
                await collect(stream, 5)
                await until_true(lambda: told[-1].state == "playing", "its return to be told", 5)
    assert [event.state for event in (told[0], told[-1])] == ["playing", "playing"]
    assert {event.state for event in told[1:-1]} == {"waiting"}
    assert retries <= 3, "a retry is no news"
    assert "connection refused: nothing listens on" in told[-2].fault


@pytest.mark.parametrize(("b_frames", "size"), [(0, (320, 240)), (2, (1280, 720))])
async def test_a_snapshot_shows_the_camera(b_frames: int, size: tuple[int, int]) -> None:
    camera = Camera(coloured_pictures(BLUE, seconds=1, size=size, b_frames=b_frames))
    async with camera_at(camera) as server, keeping(spec("1", server.port)) as (keeper, _):
        jpeg = await keeper.snapshot("1", 200)
        picture = np.asarray(Image.open(io.BytesIO(jpeg)))
        assert picture.shape == (round(200 * size[1] / size[0]), 200, 3)
        assert shows(picture, BLUE)
        large = np.asarray(Image.open(io.BytesIO(await keeper.snapshot("1", 3840))))
        assert large.shape == (size[1], size[0], 3), "never made larger than the camera's picture"


async def test_simultaneous_snapshots_are_one_picture_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def developed(key_frame: bytes, width: int) -> bytes:
        made.append(width)
        return develop(key_frame, width)

    develop = snapshots.jpeg_of
    monkeypatch.setattr(snapshots, "jpeg_of", developed)
    monkeypatch.setattr(camera_keeper, "SNAPSHOT_KEPT", 0.5)
    camera = Camera(coloured_pictures(RED, seconds=1))
    async with camera_at(camera) as server, keeping(spec("1", server.port)) as (keeper, _):
        leaving = asyncio.create_task(keeper.snapshot("1", 320))
        await asyncio.sleep(0)
        asked = [asyncio.create_task(keeper.snapshot("1", 320)) for _ in range(20)]
        await asyncio.sleep(0)
        leaving.cancel()  # the others still get theirs
        pictures = await asyncio.gather(*asked)
        assert len(set(pictures)) == 1
        assert made == [320]
        await keeper.snapshot("1", 320)
        assert made == [320]
        await asyncio.sleep(0.6)
        await keeper.snapshot("1", 320)
        assert made == [320, 320]


async def test_nobody_asks_for_more_snapshots_than_a_worker_can_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(camera_keeper, "SNAPSHOTS", 3)
    monkeypatch.setattr(camera_keeper, "SNAPSHOT_KEPT", 0.1)
    camera = Camera(coloured_pictures(RED, seconds=1))
    async with camera_at(camera) as server, keeping(spec("1", server.port)) as (keeper, _):
        asked = [asyncio.create_task(keeper.snapshot("1", width)) for width in range(100, 110)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(one, bytes) for one in found] == [True] * 3 + [False] * 7
        assert isinstance(found[-1], Refusal)
        assert (found[-1].kind, found[-1].retry_after) == (RefusalKind.NO_CAPACITY, 2)
        await asyncio.sleep(0.2)
        assert await keeper.snapshot("1", 120)


async def test_a_snapshot_of_what_cannot_be_seen() -> None:
    with PortBlock() as ports:
        port = ports.take()
    async with keeping(spec("1", port)) as (keeper, _):
        with pytest.raises(Refusal, match="camera Gate 1: connection refused: nothing listens") as refused:
            await keeper.snapshot("1", 640)
        assert refused.value.kind is RefusalKind.CAMERA_FAULT
        with pytest.raises(Refusal, match="no camera '2'") as refused:
            await keeper.snapshot("2", 640)
        assert refused.value.kind is RefusalKind.UNKNOWN_CAMERA
    broken = ScriptedCamera(H264_SDP, [])
    broken.payloads([b"\x67\x42\x00\x1f\x00", b"\x68\xce", b"\x65\x88" + bytes(50)], 0)
    async with await asyncio.start_server(broken.serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with keeping(spec("1", port)) as (keeper, _):
            with pytest.raises(Refusal, match="Gate 1: ") as refused:
                await keeper.snapshot("1", 640)
            assert refused.value.kind is RefusalKind.CAMERA_FAULT


# --- done when 3: whoever erred, it is said ----------------------------------------------------------


def says(data: bytes) -> Any:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)

    return serve


def answers(status_line: str) -> Any:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            cseq = next(line for line in head.split("\r\n") if line.startswith("CSeq"))
            answer = "200 OK" if head.startswith("OPTIONS") else status_line
            writer.write(f"RTSP/1.0 {answer}\r\n{cseq}\r\n\r\n".encode())

    return serve


def payloads_of(*payloads: bytes) -> Any:
    camera = ScriptedCamera(H264_SDP, [])
    for number, payload in enumerate(payloads):
        camera.payloads([payload], number * 3600)
    return camera.serve


@pytest.mark.parametrize(
    ("camera", "cause", "words"),
    [
        (answers("404 Not Found"), "not found", "404"),
        (answers("403 Forbidden"), "refused", "403"),
        (says(b""), "timed out", "OPTIONS"),
        (says(b"\x80\x00garbage" * 50), "not RTSP", "neither"),
        (says(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"), "not RTSP", "HTTP/1.1"),
        (ScriptedCamera(H265_SDP, []).serve, "no usable track", "video H265; pictures are taken as H.264"),
        (
            ScriptedCamera(H264_SDP.replace("96", "26").replace("H264", "JPEG"), []).serve,
            "no usable track",
            "video JPEG; pictures are taken as H.264",
        ),
        (ScriptedCamera(H264_SDP, []).serve, "silent", "no media for"),
        (
            payloads_of(*(b"\x00" * 100 for _ in range(30))),
            "garbage",
            "no whole key frame within 0.4 s",
        ),
        (payloads_of(*H265_PAYLOADS), "codec changed", "sends H.265 in the track that it described as H264"),
    ],
)
async def test_who_erred_is_in_the_status(camera: Any, cause: str, words: str) -> None:
    async with await asyncio.start_server(camera, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with keeping(spec("1", port)) as (keeper, told):
            with pytest.raises(StreamUnavailable, match="camera Gate 1: ") as raised:
                async with keeper.open("camera:1"):
                    pass
            assert words in str(raised.value)
            seen = await status(keeper)
            assert seen.cause == cause
            assert words in seen.fault
            await until_true(lambda: any(words in one.fault for one in told), "the fault to be told", 5)


async def test_an_address_that_is_none() -> None:
    wrong = CameraSpec("1", "cenxi", "Gate", "http://192.0.2.1/")
    async with keeping(wrong, spec("2", 9)) as (keeper, _):
        seen = await status(keeper)
        assert (seen.state, seen.cause) == ("waiting", "wrong address")
        assert "rtsp://host" in seen.fault
        with pytest.raises(StreamUnavailable, match="wrong address"):
            async with keeper.open("camera:1"):
                pass
        assert (await status(keeper, "2")).state == "idle"


@pytest.mark.parametrize("announced", [True, False])
async def test_another_codec_in_mid_stream_is_said_and_then_refused(announced: bool) -> None:
    """`announced` by another payload type; else the camera changes its encoder and says nothing."""
    camera = ScriptedCamera(H264_SDP, [])
    for data, pts, _ in coloured_pictures(RED, seconds=1):
        camera.picture(data, pts)
    camera.payloads(H265_PAYLOADS, 100_000, 98 if announced else 96)
    async with await asyncio.start_server(camera.serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with keeping(spec("1", port)) as (keeper, _), keeper.open("camera:1") as stream:
            packets = await collect(stream, 24)
            assert packets[0].keyframe
            causes = []

            async def cause(wanted: str) -> CameraStatus:
                async with asyncio.timeout(5):
                    while (seen := await status(keeper)).cause != wanted:
                        causes.append(seen.cause)
                        await asyncio.sleep(0.005)
                return seen

            words = "payload type 98" if announced else "H.265"
            assert f"sends {words} in the track" in (await cause("codec changed")).fault
            camera.sdp = H265_SDP
            assert "video H265; pictures are taken as H.264" in (await cause("no usable track")).fault
            camera.sdp = H264_SDP
            camera.rtp = [one for one in camera.rtp if one[1] & 0x7F == 96][:24]
            await cause("")
            assert not stream.closed, "the same picture again: readers go on"


async def test_another_resolution_in_mid_stream_is_another_stream() -> None:
    camera = Camera(coloured_pictures(RED, seconds=1))
    async with camera_at(camera) as server, keeping(spec("1", server.port)) as (keeper, _):
        async with keeper.open("camera:1") as stream:
            await collect(stream, 5)
            camera.coded[:] = coloured_pictures(BLUE, seconds=1, size=(640, 360))
            await until_true(lambda: stream.closed, "the old stream to end", 5)
            async with keeper.open("camera:1") as again:
                await collect(again, 5)
        seen = await status(keeper)
        assert (seen.width, seen.height, seen.fault, seen.connections) == (640, 360, "", 1)
        assert shows(np.asarray(Image.open(io.BytesIO(await keeper.snapshot("1", 640)))), BLUE)


async def test_a_wrong_password_is_not_tried_again_by_whoever_comes() -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            cseq = next(line for line in head.split("\r\n") if line.startswith("CSeq"))
            challenge = 'WWW-Authenticate: Digest realm="x", nonce="y"\r\n'
            asked += "Authorization" in head
            ok = head.startswith("OPTIONS")
            writer.write(
                f"RTSP/1.0 {'200 OK' if ok else '401 No'}\r\n{cseq}\r\n{'' if ok else challenge}\r\n".encode()
            )

    async with await asyncio.start_server(serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with keeping(spec("1", port, username="admin", password="wrong")) as (keeper, _):
            for _ in range(4):
                with pytest.raises(StreamUnavailable, match="wrong password"):
                    async with keeper.open("camera:1"):
                        pass
                await asyncio.sleep(0.15)  # long enough to be let go of
            assert asked == 1


async def test_a_trial_says_what_a_camera_has_or_why_not() -> None:
    camera = Camera(coloured_pictures(RED))
    async with camera_at(camera) as server:
        seen = await try_camera(CameraSettings(f"rtsp://{HOST}:{server.port}/ch1"))
        assert (seen.fault, seen.codec, seen.width, seen.height, seen.sound) == (None, "H264", 320, 240, "")
        missing = await try_camera(CameraSettings(f"rtsp://{HOST}:{server.port}/other"))
        assert "not found" in str(missing.fault)
        await until_true(lambda: server.connections == 0, "the camera to be let go", 5)
    for address in ("http://x/", "rtsp://a..b/", f"rtsp://{'a' * 64}/"):
        wrong = await try_camera(CameraSettings(address))
        assert "wrong address" in str(wrong.fault)
    async with await asyncio.start_server(ScriptedCamera(H264_SDP, []).serve, HOST, 0) as server2:
        port = server2.sockets[0].getsockname()[1]
        silent = await try_camera(CameraSettings(f"rtsp://{HOST}:{port}/"), seconds=0.2)
        assert "it plays, but no picture came" in str(silent.fault)
