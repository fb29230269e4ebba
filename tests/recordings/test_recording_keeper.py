"""Orders are kept: with sound that comes late or goes, streams that end, and a disk that fills up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.clock import SystemClock
from foundation.database import Database
from foundation.desks import RecordingOrder, RecordingPlan, RecordingStatus
from foundation.events import Event, RecordingAlarm, RecordingChanged
from foundation.repositories.recordings import (
    Recording,
    RecordingKind,
    RecordingRepository,
    RecordingState,
)
from media.codec_worker import CodecPool
from media.packet import Format, Packet
from media.sound_codecs import SoundCodec, sound_encoder
from media.stream import Stream
from recordings import order_keeper
from recordings.disk import Disk
from recordings.order_keeper import RecordingParts
from recordings.recording_folder import RecordingFolder
from recordings.recording_keeper import RecordingKeeper
from recordings.shared_streams import SharedStreams
from tests.media.coded_pictures import coded
from tests.peers.requirement import requires
from tests.recordings.recording_process import FILLER
from tests.recordings.stage import BLUE, GREEN, RED, Stage, colours, heard_seconds, near, play

GATE = RecordingOrder("camera", "gate", "nanning")
MEETING = RecordingOrder("conference", "m1", "nanning")
PLAN = RecordingPlan((GATE,))


class Recorded:
    """A keeper with its stage, and what it announced."""

    def __init__(self, database: Database, folder: RecordingFolder, disk: Disk, pool: CodecPool) -> None:
        self.stage = Stage()
        self.events: list[Event] = []
        self.database, self.folder = database, folder
        self.parts = RecordingParts(
            source=SharedStreams(self.stage),
            folder=folder,
            database=database,
            disk=disk,
            clock=SystemClock(),
            pool=pool,
            emit=self.events.append,
            reserve_bytes=0,
            fault_seconds=0.2,
        )
        self.keeper = RecordingKeeper(self.parts, preroll_seconds=5.0)

    async def status(self, order: RecordingOrder = GATE) -> RecordingStatus:
        report = await self.keeper.report()
        return next(one for one in report.statuses if one.subject == order.subject)

    async def until(self, what: Callable[[RecordingStatus], bool], order: RecordingOrder = GATE) -> None:
        for _ in range(500):
            if what(await self.status(order)):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(await self.status(order))

    async def rows(self) -> list[Recording]:
        async with self.database.reading() as tx:
            return [*reversed(await RecordingRepository(tx).in_sites(["nanning"]))]

    def file(self, row: Recording) -> Path:
        return self.folder.resolve(row.path)


@pytest.fixture
async def recorded(
    database: Database, folder: RecordingFolder, disk: Disk
) -> AsyncIterator[Callable[[], Any]]:
    pool = CodecPool(1)

    @asynccontextmanager
    async def begin(where: RecordingFolder = folder) -> AsyncIterator[Recorded]:
        made = Recorded(database, where, disk, pool)
        async with made.keeper:
            await asyncio.wait_for(made.keeper.mended.wait(), 10)
            yield made

    yield begin
    await pool.aclose()


def g711(seconds: float, arrival: float = 100.0) -> list[Packet]:
    """A tone of 440 Hz in 20 ms packets of A-law."""
    encoder = sound_encoder(SoundCodec.PCMA)
    made = []
    for number in range(int(seconds * 50)):
        at = np.arange(number * 960, (number + 1) * 960)
        wave = (8000 * np.sin(at * 2 * np.pi * 440 / 48_000)).astype(np.int16)
        made.append(Packet(encoder.encode(wave), number * 160, arrival + number * 0.02))
    return made


def burst(stream: Stream, packets: list[Packet]) -> None:
    for packet in packets:
        stream.publish(packet)


async def test_g711_is_recorded_as_opus_and_withdrawal_closes_the_file(recorded: Callable[[], Any]) -> None:
    async with recorded() as made:
        pictures = made.stage.put("camera:gate")
        sound = made.stage.put("camera:gate/sound", Format("PCMA", 8000))
        await made.keeper.set_plan(PLAN)
        await made.until(lambda one: "key frame" in one.detail)
        await play(pictures, coded([RED] * 50 + [GREEN] * 25), sound, g711(3.0))
        status = await made.status()
        assert (status.state, status.files, status.detail) == ("recording", 1, "")
        assert made.stage.held == {"camera:gate": 1, "camera:gate/sound": 1}
        await made.keeper.set_plan(RecordingPlan())
        assert made.stage.held == {"camera:gate": 0, "camera:gate/sound": 0}
        assert (await made.keeper.report()).statuses == ()
        (row,) = await made.rows()
        assert (row.state, row.codecs.split(",")[1]) == (RecordingState.FINISHED, "opus")
        seen = [colour for _, colour in colours(made.file(row))]
        assert len(seen) >= 60
        assert near(seen[0], RED)
        assert near(seen[-1], GREEN)
        assert heard_seconds(made.file(row)) == pytest.approx(len(seen) / 25, abs=0.3)
        changes = [one for one in made.events if isinstance(one, RecordingChanged)]
        assert changes == [RecordingChanged("camera", "gate", "nanning")] * len(changes)


async def test_late_sound_begins_another_file_and_its_end_harms_nothing(
    recorded: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_keeper, "SOUND_AGAIN_SECONDS", 0.05)
    async with recorded() as made:
        pictures = made.stage.put("camera:gate")
        await made.keeper.set_plan(PLAN)
        packets = coded([RED] * 25 + [GREEN] * 50 + [BLUE] * 25)
        await made.until(lambda one: "key frame" in one.detail)
        await play(pictures, packets[:25])
        sound = made.stage.put("camera:gate/sound", Format("PCMA", 8000))
        await asyncio.sleep(0.2)
        await play(pictures, packets[25:75], sound, g711(2.0, 101.0))
        sound.close()
        await play(pictures, packets[75:])
        assert (await made.status()).state == "recording"
        await made.keeper.set_plan(RecordingPlan())
        rows = sorted(await made.rows(), key=lambda row: row.started_at)
        assert ["opus" in row.codecs for row in rows] == [False, True, False]
        for row, meant, pictures_in in zip(rows, (RED, GREEN, BLUE), (25, 50, 25), strict=True):
            seen = [one for _, one in colours(made.file(row))]
            assert abs(len(seen) - pictures_in) <= 25  # a border is at the key frame after sound came or went
            assert near(seen[-1], meant)
        assert 1.5 <= heard_seconds(made.file(rows[1])) <= 2.3


async def test_a_stream_that_ends_is_recorded_again(recorded: Callable[[], Any]) -> None:
    async with recorded() as made:
        made.stage.down["camera:gate"] = "the camera at 10.1.2.3 refuses the password"
        await made.keeper.set_plan(PLAN)
        await made.until(lambda one: one.detail == "the camera at 10.1.2.3 refuses the password")
        assert (await made.status()).state == "waiting"
        del made.stage.down["camera:gate"]
        for meant in (1, 2):
            pictures = made.stage.put("camera:gate")
            await made.until(lambda one: "key frame" in one.detail)
            await asyncio.sleep(0)
            burst(pictures, coded([RED] * 30))
            await made.until(lambda one, meant=meant: one.files == meant)  # type: ignore[misc]  # bound now
            pictures.close()
        await made.until(lambda one: one.state == "waiting")
        rows = await made.rows()
        assert [row.state for row in rows] == [RecordingState.FINISHED] * 2
        assert [len(colours(made.file(row))) for row in rows] == [30, 30]


async def test_pictures_that_cannot_be_recorded_are_named_and_others_go_on(
    recorded: Callable[[], Any],
) -> None:
    async with recorded() as made:
        made.stage.put("camera:gate", Format("H265", 90_000))
        pictures = made.stage.put("programme:m1")
        await made.keeper.set_plan(RecordingPlan((GATE, MEETING)))
        await made.until(lambda one: one.state == "failed")
        assert "H265" in (await made.status()).detail
        await made.until(lambda one: "key frame" in one.detail, MEETING)
        burst(pictures, coded([RED] * 30))
        await made.until(lambda one: one.state == "recording", MEETING)
    (row,) = await made.rows()
    assert (row.kind, row.state) == (RecordingKind.CONFERENCE, RecordingState.FINISHED)


async def test_a_plan_given_twice_changes_nothing(recorded: Callable[[], Any]) -> None:
    async with recorded() as made:
        pictures = made.stage.put("camera:gate")
        plan = RecordingPlan((GATE,), ("gate",))
        await made.keeper.set_plan(plan)
        await made.until(lambda one: "key frame" in one.detail)
        burst(pictures, coded([RED] * 30))
        await made.until(lambda one: one.state == "recording")
        await made.keeper.set_plan(plan)
        assert (await made.status()).files == 1
        assert (await made.keeper.report()).preroll == ("gate",)
        assert made.stage.opened["camera:gate"] == 1  # pre-roll and recording share one hold
    assert made.stage.held["camera:gate"] == 0
    assert [row.state for row in await made.rows()] == [RecordingState.FINISHED]


@requires("root")
async def test_a_full_disk_raises_an_alarm_once_and_recording_goes_on_when_there_is_room(
    recorded: Callable[[], Any], tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounting = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", "size=24m", "none", str(small), stderr=asyncio.subprocess.DEVNULL
    )
    if await mounting.wait():
        pytest.skip("a file system cannot be mounted here")
    ballast = small / "ballast"
    ballast.write_bytes(bytes(23 << 20))
    packets = [
        Packet(one.data + FILLER, one.pts, one.arrival, one.keyframe) for one in coded([RED] * 200, gop=25)
    ]
    try:
        async with recorded(RecordingFolder(small)) as made:
            pictures = made.stage.put("camera:gate")
            await made.keeper.set_plan(RecordingPlan((GATE,), ("gate",)))
            await made.until(lambda one: "key frame" in one.detail)
            for packet in packets[:50]:
                pictures.publish(packet)
                await asyncio.sleep(0.002)
            await made.until(lambda one: one.state == "failed")
            status = await made.status()
            assert "disk full" in status.detail
            assert "tried again" in status.detail
            preroll = made.keeper.preroll("gate")
            assert preroll is not None
            before = len(preroll.ring.footage().pictures)
            for packet in packets[50:100]:
                pictures.publish(packet)
                await asyncio.sleep(0.01)
            assert len(preroll.ring.footage().pictures) > before
            assert [one.cause for one in made.events if isinstance(one, RecordingAlarm)] == ["disk full"]
            ballast.unlink()
            await made.until(lambda one: "key frame" in one.detail or one.state == "recording")
            for packet in packets[100:150]:
                pictures.publish(packet)
                await asyncio.sleep(0.002)
            await made.until(lambda one: one.state == "recording")
            alarms = [one for one in made.events if isinstance(one, RecordingAlarm)]
            assert len(alarms) == 1
        rows = await made.rows()
        assert [row.state for row in rows] == [RecordingState.FINISHED] * 2
        assert all(len(colours(made.file(row))) >= 12 for row in rows)
    finally:
        unmounting = await asyncio.create_subprocess_exec("umount", str(small))
        assert await unmounting.wait() == 0


async def test_what_was_left_open_is_mended_before_anything_is_recorded(
    recorded: Callable[[], Any], database: Database, folder: RecordingFolder, disk: Disk
) -> None:
    path = folder.new_path(RecordingKind.CAMERA, "gate", SystemClock().now(), "e" * 32)
    now = SystemClock().now()
    async with database.transaction() as tx:
        await RecordingRepository(tx).open(
            Recording("e" * 32, RecordingKind.CAMERA, "gate", "nanning", path, "avc1", 16, 16, now)
        )
    async with recorded() as made:
        assert [row.state for row in await made.rows()] == [RecordingState.LOST]
