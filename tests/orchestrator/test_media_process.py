"""Two real media workers with cameras: found wherever they live, played over RTSP by whom they concern."""

from __future__ import annotations

import asyncio
import base64
import io
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config.loading import dump
from config.settings import Media, Network, Node, Settings, Sip
from foundation.desk_socket import DeskClient
from foundation.desks import (
    Budget,
    CameraDesk,
    CameraPlan,
    CameraSpec,
    CameraStatus,
    ConferenceDesk,
    ConferenceSpec,
    ParticipantSpec,
    RtspAccount,
    View,
    ViewMode,
)
from foundation.events import CameraStateChanged
from foundation.repositories.sites import sip_account
from media.codecs import VideoCodec, VideoDecoder
from media.link import LinkClient
from media.node_streams import NodeStreams, home_worker
from media.stream import Stream
from media.stream_source import NoSuchStream
from orchestrator.control import WorkerAddress, start_failure
from orchestrator.media_process import CAMERAS, DESK, media_part
from tests.peers.ffmpeg import ffmpeg
from tests.peers.gst_camera import gst_camera, pipeline
from tests.peers.picture import RED, load, shows
from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess
from tests.peers.requirement import requires
from tests.peers.waiting import until

HOST = "127.0.0.1"
REALM = "cenxi"
PROGRAM = """
import asyncio, base64, sys
from pathlib import Path
from config.loading import restore
from orchestrator.control import WorkerAddress
from orchestrator.media_process import run_media_worker

settings, index, folder = restore(base64.b64decode(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3])
workers = [WorkerAddress(f"media-{n}", folder / f"media-{n}.socket") for n in range(2)]
asyncio.run(
    run_media_worker(settings, index, workers[index].socket, workers, asyncio.Event(), lambda: print("ready"))
)
"""


def settings_for(ports: PortBlock) -> Settings:
    network = Network(
        name="lan",
        bind=HOST,
        sip=Sip(udp=None, tcp=None, tls=None),
        rtp_ports=(first := ports.take(40, even=True), first + 39),
        webrtc_port=None,
        rtsp=ports.take(),
    )
    return Settings(node=Node(id=REALM, name="岑溪"), networks=(network,), media=Media(workers=2))


@dataclass
class Workers:
    """Two worker processes, started and killed at will."""

    folder: Path
    settings: Settings
    stack: AsyncExitStack
    plan: CameraPlan = field(default_factory=CameraPlan)
    processes: dict[int, PeerProcess] = field(default_factory=dict)
    clients: dict[int, DeskClient] = field(default_factory=dict)

    @property
    def addresses(self) -> list[WorkerAddress]:
        return [WorkerAddress(f"media-{n}", self.folder / f"media-{n}.socket") for n in range(2)]

    async def start(self, index: int) -> None:
        encoded = base64.b64encode(dump(self.settings)).decode()
        command = [sys.executable, "-u", "-c", PROGRAM, encoded, str(index), str(self.folder)]
        process = await PeerProcess.start(f"media-{index}", command, self.folder)
        self.stack.push_async_callback(process.aclose)
        await process.said("ready", 30)
        self.processes[index] = process
        client = DeskClient(self.addresses[index].socket)
        await client.connect(wait=10)
        self.stack.push_async_callback(client.aclose)
        self.clients[index] = client
        await self.desk(index).set_plan(self.plan)

    def desk(self, index: int) -> CameraDesk:
        return self.clients[index].desk(CameraDesk, CAMERAS)

    async def set_plan(self, plan: CameraPlan) -> None:
        self.plan = plan
        for index in self.clients:
            await self.desk(index).set_plan(plan)

    async def status(self) -> dict[str, CameraStatus]:
        said = [await self.desk(index).status() for index in self.clients]
        return {one.camera_id: one for statuses in said for one in statuses}


@asynccontextmanager
async def two_workers(folder: Path, ports: PortBlock) -> AsyncIterator[Workers]:
    async with AsyncExitStack() as stack:
        workers = Workers(folder, settings_for(ports), stack)
        await asyncio.gather(workers.start(0), workers.start(1))
        yield workers


def account(name: str, *sites: str) -> RtspAccount:
    return RtspAccount(name, sip_account(name, REALM, "secret", "x").ha1_md5, frozenset(sites))


AT_0 = next(f"cam-{n}" for n in range(20) if home_worker(f"cam-{n}", 2) == 0)
AT_1 = next(f"cam-{n}" for n in range(20) if home_worker(f"cam-{n}", 2) == 1)


def plan_of(port: int) -> CameraPlan:
    url = f"rtsp://{HOST}:{port}/camera"
    cameras = tuple(
        CameraSpec(camera_id, "cenxi", camera_id, url, "admin", "camera's") for camera_id in (AT_0, AT_1)
    )
    accounts = (account("room", "cenxi", "nanning"), account("stranger", "guangdong"))
    return CameraPlan(cameras, accounts, REALM)


async def first_packets(stream: Stream, count: int = 5) -> None:
    async with asyncio.timeout(10), stream.reader() as reader:
        for _ in range(count):
            await anext(reader)


@requires("gst-rtsp-server")
@requires("ffmpeg")
async def test_cameras_of_every_worker_are_played_by_whom_they_concern(tmp_path: Path) -> None:
    with PortBlock() as ports:
        port = ports.take()
        async with (
            two_workers(tmp_path, ports) as workers,
            gst_camera(tmp_path, port, pipeline(0xC82828, sound="PCMA"), "digest", "admin", "camera's"),
        ):
            await workers.set_plan(plan_of(port))
            rtsp = workers.settings.networks[0].rtsp

            async def play(login: str, path: str, transport: str = "tcp") -> str:
                seen = tmp_path / "seen.png"
                seen.unlink(missing_ok=True)
                url = f"rtsp://{login}@{HOST}:{rtsp}/{path}"
                one = ("-frames:v", "1", "-update", "1", str(seen))
                async with ffmpeg(tmp_path, "-rtsp_transport", transport, "-i", url, *one) as player:
                    before = len(player.words())
                    code = await player.wait(20)
                    words = player.words()[before:]
                    assert (code == 0) is seen.exists(), words
                    return words if code else str(shows(load(seen), RED))

            assert await play("room:secret", f"camera/{AT_0}") == "True"
            assert await play("room:secret", f"camera/{AT_1}") == "True"
            assert await play("room:secret", f"camera:{AT_1}", "udp") == "True"
            assert "401 Unauthorized" in await play("room:wrong", f"camera/{AT_0}")
            assert "401 Unauthorized" in await play("nobody:secret", f"camera/{AT_0}")
            assert "404 Not Found" in await play("stranger:secret", f"camera/{AT_0}")
            assert "404 Not Found" in await play("room:secret", "camera/cam-99")
            status = await workers.status()
            assert {one.sound for one in status.values()} == {"PCMA"}
            assert [status[AT_0].connections, status[AT_1].connections] == [1, 1], "one pull for all players"

            url = f"rtsp://room:secret@{HOST}:{rtsp}/camera/{AT_1}"
            async with ffmpeg(
                tmp_path, "-rtsp_transport", "tcp", "-i", url, "-f", "null", "-", name="long"
            ) as player:
                await player.said(r"frame= *[1-9]")
                withdrawn = CameraPlan(workers.plan.cameras, (account("room", "nanning"),), REALM)
                await workers.set_plan(withdrawn)
                await player.wait(10)  # it may not play this any more


@requires("gst-rtsp-server")
async def test_streams_are_found_again_after_a_camera_or_a_worker_died(tmp_path: Path) -> None:
    with PortBlock() as ports:
        port = ports.take()
        async with two_workers(tmp_path, ports) as workers:
            await workers.set_plan(plan_of(port))
            streams = NodeStreams([LinkClient(address.link) for address in workers.addresses])
            launch, login = pipeline(0xC82828, sound="PCMA"), ("digest", "admin", "camera's")
            async with gst_camera(tmp_path, port, launch, *login):
                jpeg = await workers.desk(1).snapshot(AT_1, 160)
                assert shows(np.asarray(Image.open(io.BytesIO(jpeg))), RED)
                async with streams.open(f"camera:{AT_0}") as near, streams.open(f"camera:{AT_1}") as far:
                    await asyncio.gather(first_packets(near), first_packets(far))
                    async with streams.open(f"camera:{AT_1}/sound") as sound:
                        assert sound.format.codec == "PCMA"
                        await first_packets(sound)
                    await until(
                        workers.status, lambda seen: seen[AT_1].holders == 1, "the sound to be let go", 5
                    )
                    workers.processes[1].send(signal.SIGKILL)
                    async with asyncio.timeout(5), far.reader() as reader:
                        async for _ in reader:
                            pass
                    await first_packets(near)
                await workers.start(1)
                async with streams.open(f"camera:{AT_1}") as again:
                    await first_packets(again)
                with pytest.raises(NoSuchStream):
                    async with streams.open("camera:cam-99"):
                        pass
                held = AsyncExitStack()
                stream = await held.enter_async_context(streams.open(f"camera:{AT_1}"))
            async with held:
                lost = await told_of(workers.clients[1], AT_1, "waiting")
                assert "connection refused" in lost.fault or "ended" in lost.fault
                async with gst_camera(tmp_path, port, launch, *login, name="back"):
                    await first_packets(stream, 30)
                    assert (await workers.status())[AT_1].state == "playing"
                    assert not (await told_of(workers.clients[1], AT_1, "playing")).fault


@requires("gst-rtsp-server")
async def test_a_camera_of_another_worker_is_in_a_meeting_and_its_programme(tmp_path: Path) -> None:
    with PortBlock() as ports:
        port = ports.take()
        launch, login = pipeline(0xC82828, b_frames=2), ("digest", "admin", "camera's")
        async with two_workers(tmp_path, ports) as workers, gst_camera(tmp_path, port, launch, *login):
            await workers.set_plan(plan_of(port))
            streams = NodeStreams([LinkClient(address.link) for address in workers.addresses])
            meeting = workers.clients[0].desk(ConferenceDesk, DESK)
            await meeting.open(ConferenceSpec("m1", "1001", "例会", View(ViewMode.FULL_SCREEN, "p1")))
            budget = Budget(4_000_000, 4_000_000)
            await meeting.admit_stream(ParticipantSpec("p1", "m1", "大门", "lan", budget), f"camera:{AT_1}")
            async with streams.open("programme:m1") as programme, asyncio.timeout(20):
                await red_shown(programme)
                workers.processes[1].send(signal.SIGKILL)
                await workers.start(1)
                async with streams.open(f"camera:{AT_1}") as camera:
                    await first_packets(camera)
                    await until(workers.status, lambda seen: seen[AT_1].holders == 2, "the meeting", 10)
                await red_shown(programme)
            await meeting.drop("p1")
            await until(workers.status, lambda seen: seen[AT_1].holders == 0, "the camera to be let go", 5)


async def red_shown(programme: Stream) -> None:
    """Until its picture is red in the middle."""
    decoder = VideoDecoder(VideoCodec.H264)
    async with programme.reader() as reader:
        async for packet in reader:
            for picture in decoder.decode(packet):
                height, width = picture.y.shape
                luma, cb, cr = (
                    int(plane[plane.shape[0] // 2, plane.shape[1] // 2])
                    for plane in (picture.y, picture.u, picture.v)
                )
                if abs(luma - 81) < 25 and cb < 118 and cr > 180:
                    assert height > 0 < width
                    return
    raise AssertionError("the programme ended")


async def told_of(client: DeskClient, camera_id: str, state: str) -> CameraStateChanged:
    """The next event of a camera that says it is in this state."""
    async with asyncio.timeout(10):
        async for event in client.events:
            if isinstance(event, CameraStateChanged) and (event.camera_id, event.state) == (camera_id, state):
                return event
    raise AssertionError("the worker went away")


async def test_an_rtsp_port_that_is_taken_is_one_line() -> None:
    with PortBlock() as ports:
        settings = settings_for(ports)
        port = settings.networks[0].rtsp
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), HOST, port)
        async with server:
            with pytest.raises(Exception) as failure:  # noqa: PT011  # its line is what counts
                async with media_part(settings, 0, lambda _: None):
                    pass
        words = start_failure(failure.value)
        assert words == f"networks[0].rtsp: {HOST}:{port}/tcp is in use by another program"
