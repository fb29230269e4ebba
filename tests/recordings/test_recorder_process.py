"""The recorder as a process of its own: killed, stopped, and asked for the clip of a violation."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.loading import dump
from config.settings import Network, Node, Recordings, Settings
from foundation.clock import SystemClock
from foundation.database import Database
from foundation.desk_socket import DeskClient
from foundation.desks import RecordingDesk
from foundation.events import Event, ViolationChanged
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.jobs import JobRepository
from foundation.repositories.recording_orders import GivenOrder, OrderRepository
from foundation.repositories.recordings import (
    Recording,
    RecordingKind,
    RecordingRepository,
    RecordingState,
)
from foundation.repositories.violations import (
    CLIP_JOB,
    ClipState,
    Violation,
    ViolationRepository,
    clip_key,
)
from foundation.schema import RuleRow, new_id
from media.link import LinkServer
from media.packet import Packet
from orchestrator.control import WorkerAddress
from recordings.recording_book import RecordingBook
from tests.media.coded_pictures import coded
from tests.peers.ffmpeg import probe
from tests.peers.requirement import requires
from tests.peers.waiting import until, until_true
from tests.recordings.stage import COLOURS, Stage, colours, near
from tests.recordings.test_chromium import looked_at

ROOT = Path(__file__).parents[2]
SECONDS = 60


class Node1:
    """The other processes, as far as a recorder sees them: streams, rows, and main's book."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        self.stage = Stage()
        self.camera = self.stage.put("camera:gate")
        self.settings = Settings(
            node=Node(id="gx", name="广西", level="province", site_id="nanning"),
            networks=(Network(name="extranet", bind="127.0.0.1"),),
            data=folder,
            recordings=Recordings(reserve_megabytes=16),
        )
        self.streams = WorkerAddress("media-0", folder / "media-0.socket")
        self.socket = folder / "recorder.socket"
        self.client = DeskClient(self.socket)
        self.book = RecordingBook(database, self.client.desk(RecordingDesk, "recording"), poll_seconds=0.5)
        self.events: list[Event] = []
        self.published: list[Packet] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> asyncio.subprocess.Process:
        """A recorder, ready and with its plan."""
        dumped = self.folder / "settings.json"
        dumped.write_bytes(dump(self.settings))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.recordings.recorder_program"),
            *(str(dumped), str(self.socket), str(self.streams.socket)),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        while b"ready" not in (line := await process.stdout.readline()):
            assert line, "the recorder did not become ready"
        self._tasks.append(asyncio.create_task(self._drain(process.stdout)))
        await self.client.connect(wait=5.0)
        await self.book.changed()
        return process

    async def _drain(self, out: asyncio.StreamReader) -> None:
        while await out.readline():
            pass

    async def watch(self) -> None:
        async for event in self.client.events:
            self.events.append(event)

    async def play(self) -> None:
        """The camera: a colour a second, a key frame every second."""
        packets = coded([COLOURS[n // 25 % 4] for n in range(SECONDS * 25)], gop=25)
        began = time.monotonic()
        for number, packet in enumerate(packets):
            await asyncio.sleep(max(began + number * 0.04 - time.monotonic(), 0))
            placed = replace(packet, arrival=began + number * 0.04)
            self.published.append(placed)
            self.camera.publish(placed)

    def colour_at(self, at: datetime) -> int:
        """What the camera showed then."""
        age = time.monotonic() - (datetime.now(UTC) - at).total_seconds() - self.published[0].arrival
        return int(age) % 4

    async def rows(self) -> list[Recording]:
        async with self.database.reading() as tx:
            return [*reversed(await RecordingRepository(tx).in_sites(["nanning"]))]

    async def violation(self, violation_id: str) -> Violation:
        async with self.database.reading() as tx:
            found = await ViolationRepository(tx).get(violation_id)
        assert found is not None
        return found

    def shown(self, violation: Violation) -> list[int]:
        """Which of the four colours each frame of the clip has."""
        path = self.settings.evidence_folder / (violation.clip_path or "")
        return [next(n for n, meant in enumerate(COLOURS) if near(one, meant)) for _, one in colours(path)]

    async def flag(self) -> Violation:
        """A violation of now, with its clip ordered as analytics does."""
        violation = Violation(new_id(), "gate", "东门", "nanning", "black", {"id": "r"}, datetime.now(UTC))
        async with self.database.transaction() as tx:
            await ViolationRepository(tx).add(violation)
            await JobRepository(tx).enqueue(
                CLIP_JOB,
                {"violation_id": violation.id},
                violation.started_at,
                key=clip_key(violation.id),
            )
        return violation

    def file(self, row: Recording) -> Path:
        return self.settings.recordings_folder / row.path


@pytest.fixture
async def node(tmp_path: Path, database: Database) -> AsyncIterator[Node1]:
    now = SystemClock().now()
    async with database.transaction() as tx:
        await CameraRepository(tx).add(Camera("gate", "nanning", "东门", "rtsp://10.1.2.3/1", now))
        await OrderRepository(tx).give(GivenOrder(RecordingKind.CAMERA, "gate", "nanning", "wang", now))
        rule = RuleRow(id="r", camera_id="gate", kind="black", name="Black", zone=[], parameters={})
        rule.schedule, rule.enabled, rule.created_at = [], True, now
        tx.add(rule)
    made = Node1(tmp_path, database)
    async with LinkServer(made.streams.link, made.stage), running(made):
        yield made


@asynccontextmanager
async def running(node: Node1) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in (node.play(), node.book.run(), node.watch())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await node.client.aclose()


async def recording(node: Node1, seconds: float) -> None:
    """Until the recorder says that it has recorded, and so many seconds longer."""

    def begun() -> bool:
        report = node.book.report
        return report is not None and any(one.state == "recording" for one in report.statuses)

    await until_true(begun, "the recording's begin", 15, lambda: str(node.book.report))
    await asyncio.sleep(seconds)


async def in_chromium(path: Path, first: int) -> None:
    """The file, whose first second has that colour of the four, plays and seeks."""
    looks = [(second + 0.5, (first + second) % 4) for second in (4, 1, 2, 0) if (first + second) % 4 != 3]
    for (_, meant), (_, pixel) in zip(looks, await looked_at(path, looks), strict=True):
        assert pixel.index(max(pixel)) == meant, pixel
        assert max(pixel) > 100


@requires("ffmpeg", "chromium")
async def test_kill_9_loses_a_second_at_most_and_the_clip_comes_from_the_recording(node: Node1) -> None:
    process = await node.start()
    await recording(node, 6.0)
    violation = await node.flag()
    await asyncio.sleep(2.2)  # the cutter has the job, and waits for the seconds after
    process.kill()
    killed = len(node.published)
    await process.wait()
    (row,) = await node.rows()
    assert row.state is RecordingState.OPEN
    seen = colours(node.file(row))  # as the kill left it
    began = next(n for n, one in enumerate(node.published) if one.keyframe and _same(one, row))
    assert killed - began - len(seen) <= 25
    assert all(near(one, COLOURS[(began + n) // 25 % 4]) for n, (_, one) in enumerate(seen))
    found = await probe(node.folder, str(node.file(row)))
    assert found["streams"][0]["codec_name"] == "h264"

    await in_chromium(node.file(row), began // 25 % 4)

    again = await node.start()
    await recording(node, 1.0)
    first, *_ = await node.rows()
    assert first.state is RecordingState.MENDED
    assert first.bytes == node.file(first).stat().st_size
    found = await probe(node.folder, str(node.file(first)))
    assert float(found["format"]["duration"]) == pytest.approx(len(seen) / 25, abs=0.05)

    await in_chromium(node.file(first), began // 25 % 4)

    cut = await until(
        lambda: node.violation(violation.id), lambda one: one.clip_state != ClipState.PENDING, "a clip", 20
    )
    assert cut.clip_state is ClipState.PARTIAL
    assert cut.clip_detail.startswith("no picture was kept ")
    assert "the recorder was started at " in cut.clip_detail
    assert cut.clip_path is not None
    shown = node.shown(cut)
    first_colour = node.colour_at(violation.started_at - timedelta(seconds=5))
    assert shown[:150:25] == [(first_colour + n) % 4 for n in range(6)]
    again.terminate()
    assert await again.wait() == 0


def _same(packet: Packet, row: Recording) -> bool:
    """Whether the file began with this frame."""
    arrival = time.monotonic() - (datetime.now(UTC) - row.started_at).total_seconds()
    return abs(packet.arrival - arrival) < 0.02


async def test_the_clip_of_a_violation_is_cut_from_the_preroll(node: Node1) -> None:
    async with node.database.transaction() as tx:
        await OrderRepository(tx).end(RecordingKind.CAMERA, "gate")  # it is analysed, and not recorded
    process = await node.start()
    await until_true(
        lambda: node.book.report is not None and "gate" in node.book.report.preroll, "a ring", 20
    )
    await asyncio.sleep(7.0)
    violation = await node.flag()
    cut = await until(
        lambda: node.violation(violation.id), lambda one: one.clip_state != ClipState.PENDING, "a clip", 15
    )
    took = (datetime.now(UTC) - violation.started_at).total_seconds()
    assert took < 8.5
    assert (cut.clip_state, cut.clip_detail) == (ClipState.READY, "")
    assert cut.clip_path is not None
    # The clip begins with a whole second of the camera, so that its seconds are the camera's.
    first = node.colour_at(violation.started_at - timedelta(seconds=5))
    shown = node.shown(cut)
    assert shown[:250:25] == [(first + n) % 4 for n in range(10)]
    assert 250 <= len(shown) <= 276
    await until_true(
        lambda: ViolationChanged(violation.id, "gate", "nanning", "open") in node.events, "the event", 5
    )
    assert await node.rows() == []
    process.terminate()
    assert await process.wait() == 0


async def test_sigterm_closes_every_file_at_once(node: Node1) -> None:
    process = await node.start()
    await recording(node, 2.0)
    began = time.monotonic()
    process.terminate()
    assert await process.wait() == 0
    assert time.monotonic() - began < 4.0
    (row,) = await node.rows()
    assert row.state is RecordingState.FINISHED
    assert row.bytes == node.file(row).stat().st_size
    with suppress(FileNotFoundError):
        assert not os.listdir(node.settings.evidence_folder)
