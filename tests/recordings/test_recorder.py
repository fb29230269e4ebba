"""Streams become files that play, whatever happens to the stream, the disk or the process."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from foundation.clock import FakeClock
from foundation.database import Database, DatabaseBusy
from foundation.repositories.recordings import (
    Recording,
    RecordingKind,
    RecordingRepository,
    RecordingState,
)
from media.fragments import UnsupportedFormat
from media.packet import Format, Packet
from media.stream import Stream
from recordings.disk import Disk
from recordings.mending import MendResult, mend_unfinished
from recordings.recorder import EndCause, LastFrame, Recorder, RecordingEnded, Subject
from recordings.recording_folder import RecordingFolder
from tests.media.coded_pictures import BLUE, GREEN, RED, coded, sound
from tests.peers.ffmpeg import probe, run_ffmpeg
from tests.peers.requirement import requires
from tests.peers.waiting import until_true
from tests.recordings.recording_process import FILLER

GATE = Subject(RecordingKind.CAMERA, "gate", "nanning")
H264 = Format("H264", 90_000)


class Service:
    """What one recording needs, with everything in a test's folder."""

    def __init__(self, folder: RecordingFolder, database: Database, disk: Disk, clock: FakeClock) -> None:
        self.folder, self.database, self.disk, self.clock = folder, database, disk, clock

    def recorder(
        self, file_seconds: float = 60.0, reserve: int = 0, before: LastFrame | None = None
    ) -> Recorder:
        return Recorder(
            GATE,
            self.folder,
            self.database,
            self.disk,
            self.clock,
            file_seconds=file_seconds,
            reserve_bytes=reserve,
            before=before,
        )

    async def rows(self) -> tuple[Recording, ...]:
        async with self.database.reading() as tx:
            return tuple(reversed(await RecordingRepository(tx).in_sites(["nanning"])))

    def file(self, recording: Recording) -> Path:
        return self.folder.resolve(recording.path)


@pytest.fixture
def service(folder: RecordingFolder, database: Database, disk: Disk, clock: FakeClock) -> Service:
    return Service(folder, database, disk, clock)


async def record(
    service: Service, packets: Sequence[Packet], heard: Sequence[Packet] = (), *, file_seconds: float = 60.0
) -> RecordingEnded:
    """Publish in the order of arrival and record to the end."""
    video, tone = Stream("gate", H264), Stream("gate.sound", Format("OPUS", 48_000, 2))
    running = asyncio.create_task(service.recorder(file_seconds).run(video, tone if heard else None))
    await asyncio.sleep(0)
    pictures = {id(one) for one in packets}
    for number, packet in enumerate(sorted([*packets, *heard], key=lambda one: one.arrival)):
        (video if id(packet) in pictures else tone).publish(packet)
        if number % 10 == 0:
            await asyncio.sleep(0.001)
    video.close()
    return await running


def colours(path: Path) -> list[tuple[int, ...]]:
    with av.open(str(path)) as container:
        found = []
        for frame in container.decode(video=0):
            array, height = frame.to_ndarray(), frame.height
            planes = (array[:height], array[height : height * 5 // 4], array[height * 5 // 4 :])
            found.append(tuple(int(np.median(plane)) for plane in planes))
        return found


def near(seen: tuple[int, ...], meant: tuple[int, ...]) -> bool:
    return all(abs(one - other) <= 6 for one, other in zip(seen, meant, strict=True))


@requires("ffmpeg")
async def test_a_stream_becomes_files_cut_at_key_frames(service: Service, tmp_path: Path) -> None:
    heard, _ = sound("libopus", 6.0)
    ended = await record(
        service, coded([RED] * 50 + [GREEN] * 50 + [BLUE] * 50, start=1 << 33), heard, file_seconds=2.0
    )
    assert (ended.cause, ended.files, ended.dropped) == (EndCause.STREAM_ENDED, 3, 0)
    rows = await service.rows()
    assert [row.state for row in rows] == [RecordingState.FINISHED] * 3
    in_order = sorted(rows, key=lambda one: service.file(one).stat().st_mtime_ns)
    for row, meant in zip(in_order, (RED, GREEN, BLUE), strict=True):
        file = service.file(row)
        assert row.bytes == file.stat().st_size
        assert row.codecs == "avc1.42c00b,opus"
        assert row.ended_at is not None
        assert row.ended_at - row.started_at == timedelta(seconds=2)
        found = await probe(tmp_path, str(file))
        assert {one["codec_name"] for one in found["streams"]} == {"h264", "opus"}
        assert float(found["format"]["duration"]) == pytest.approx(2.0, abs=0.1)
        assert "rror" not in await run_ffmpeg(tmp_path, "-v", "warning", "-i", str(file), "-f", "null", "-")
        seen = colours(file)
        assert len(seen) == 50
        assert all(near(one, meant) for one in seen)


async def test_a_source_that_begins_with_old_frames_is_listed_at_their_time(service: Service) -> None:
    """Its first eight frames come at once, 0.28 s after the first was taken; the others in time."""
    packets = coded([RED] * 50)
    late = [replace(one, arrival=max(one.arrival, packets[0].arrival + 0.28)) for one in packets]
    await record(service, late)
    (row,) = await service.rows()
    assert row.ended_at is not None
    assert row.ended_at - row.started_at == timedelta(seconds=2)
    in_time = service.clock.now() - timedelta(seconds=service.clock.monotonic() - packets[0].arrival)
    assert abs(row.started_at - in_time) < timedelta(seconds=0.05)


async def test_other_parameter_sets_begin_another_file(service: Service) -> None:
    small = coded([RED] * 25)
    large = coded([BLUE] * 25, size=(320, 192), start=25 * 3600, arrival=101.0)
    ended = await record(service, small + large)
    assert ended.files == 2
    rows = {(row.width, row.height): row for row in await service.rows()}
    assert set(rows) == {(160, 96), (320, 192)}
    assert len(colours(service.file(rows[160, 96]))) == 25
    assert all(near(one, BLUE) for one in colours(service.file(rows[320, 192])))


async def test_a_jump_of_time_begins_another_file(service: Service) -> None:
    ended = await record(service, coded([RED] * 25, start=90_000_000) + coded([GREEN] * 25, arrival=101.0))
    assert ended.files == 2
    assert [len(colours(service.file(row))) for row in await service.rows()] == [25, 25]


async def test_damaged_frames_are_left_out_to_the_next_key_frame(service: Service) -> None:
    packets = coded([RED] * 25 + [GREEN] * 25)
    packets[10] = Packet(b"", packets[10].pts, 100.4, keyframe=False, damaged=True)
    ended = await record(service, packets)
    assert ended.counts.damaged == 15
    (row,) = await service.rows()
    seen = colours(service.file(row))
    assert [near(one, RED) for one in seen] == [True] * 10 + [False] * 25


async def test_b_frames_are_recorded_in_order(service: Service) -> None:
    await record(service, coded([RED] * 20 + [BLUE] * 20, b_frames=3, gop=40))
    (row,) = await service.rows()
    seen = colours(service.file(row))
    assert [near(one, RED) for one in seen] == [True] * 20 + [False] * 20
    assert near(seen[-1], BLUE)


async def test_stopping_closes_the_file(service: Service) -> None:
    video, recorder = Stream("gate", H264), service.recorder()
    running = asyncio.create_task(recorder.run(video))
    await asyncio.sleep(0)
    for packet in coded([RED] * 50):
        video.publish(packet)
    await until_true(lambda: recorder.files > 0, "a file", 10)
    recorder.stop()
    assert (await running).cause is EndCause.STOPPED
    assert (await service.rows())[0].state is RecordingState.FINISHED


async def test_a_cancelled_recording_is_mended(service: Service) -> None:
    video, recorder = Stream("gate", H264), service.recorder()
    running = asyncio.create_task(recorder.run(video))
    await asyncio.sleep(0)
    for packet in coded([RED] * 50):
        video.publish(packet)
    await until_true(lambda: recorder.bytes > 4500, "fragments", 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await mend_unfinished(service.database, service.folder, service.disk) == MendResult(mended=1)
    (row,) = await service.rows()
    assert row.state is RecordingState.MENDED
    assert len(colours(service.file(row))) >= 12


async def test_what_has_no_file_is_lost_and_said_so(service: Service) -> None:
    async with service.database.transaction() as tx:
        path = service.folder.new_path(GATE.kind, GATE.id, service.clock.now(), "f" * 32)
        await RecordingRepository(tx).open(
            Recording("f" * 32, GATE.kind, GATE.id, "nanning", path, "avc1", 16, 16, service.clock.now())
        )
    assert await mend_unfinished(service.database, service.folder, service.disk) == MendResult(lost=1)
    assert [(row.state, row.bytes) for row in await service.rows()] == [(RecordingState.LOST, 0)]


async def test_sound_that_mp4_cannot_hold_is_refused_by_name(service: Service) -> None:
    with pytest.raises(UnsupportedFormat, match="PCMA sound"):
        await service.recorder().run(Stream("gate", H264), Stream("s", Format("PCMA", 8000)))
    with pytest.raises(UnsupportedFormat, match="VP8 pictures"):
        await service.recorder().run(Stream("gate", Format("VP8", 90_000)))
    assert await service.rows() == ()


async def test_no_room_beside_the_reserve_stops_with_an_alarm(service: Service) -> None:
    video = Stream("gate", H264)
    running = asyncio.create_task(service.recorder(reserve=1 << 60).run(video))
    await asyncio.sleep(0)
    video.publish(coded([RED])[0])
    ended = await running
    assert (ended.cause, ended.cause.alarm) == (EndCause.DISK_FULL, True)
    assert "kept for others" in ended.detail
    assert video.readers == 0
    assert [row.state for row in await service.rows()] == [RecordingState.LOST]


async def test_a_whole_file_whose_row_could_not_be_closed_is_not_called_lost(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, refused = RecordingRepository.finish, []

    async def busy_once(rows: RecordingRepository, *arguments: Any) -> bool:
        if not refused:
            refused.append(arguments)
            raise DatabaseBusy("the database is locked")
        return await finish(rows, *arguments)

    monkeypatch.setattr(RecordingRepository, "finish", busy_once)
    ended = await record(service, coded([RED] * 50))
    assert ended.cause is EndCause.INDEX_FAILED
    (row,) = await service.rows()
    assert (row.state, row.bytes) == (RecordingState.FINISHED, service.file(row).stat().st_size)
    assert row.ended_at == row.started_at + timedelta(seconds=2)


async def test_a_slow_disk_costs_counted_frames_and_nobody_waits(service: Service) -> None:
    """The publisher never waits, another reader of the stream misses nothing."""
    video = Stream("gate", H264)
    blocked = asyncio.Event()
    loop = asyncio.get_running_loop()

    class SlowDisk(Disk):
        async def run(self, work, *arguments, **named):  # type: ignore[no-untyped-def]  # as Disk.run's
            await blocked.wait()
            return await super().run(work, *arguments, **named)

    service.disk = slow = SlowDisk()
    running = asyncio.create_task(service.recorder().run(video))
    other = video.reader(capacity=2000)
    await asyncio.sleep(0)
    begun = loop.time()
    for packet in coded([RED] * 700):
        video.publish(packet)
        await asyncio.sleep(0)
    assert loop.time() - begun < 5
    assert other.queued == 700
    blocked.set()
    video.close()
    ended = await running
    assert ended.dropped > 0
    assert ended.cause is EndCause.STREAM_ENDED
    await slow.aclose()


async def process(service: Service, *arguments: str) -> asyncio.subprocess.Process:
    url = service.database.url.render_as_string()
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.recordings.recording_process"),
        *(str(service.folder.root), url, *arguments),
        stdout=asyncio.subprocess.PIPE,
    )


@requires("ffmpeg")
async def test_kill_9_loses_at_most_the_last_second(service: Service, tmp_path: Path) -> None:
    recording = await process(service)
    assert recording.stdout is not None
    while (line := await recording.stdout.readline()) != b"published 80\n":
        assert line
    recording.kill()
    await recording.wait()
    (row,) = await service.rows()
    assert row.state is RecordingState.OPEN
    unmended = colours(service.file(row))
    assert len(unmended) >= 80 - 25
    assert await mend_unfinished(service.database, service.folder, service.disk) == MendResult(mended=1)
    (row,) = await service.rows()
    assert row.state is RecordingState.MENDED
    assert row.bytes == service.file(row).stat().st_size
    assert row.ended_at is not None
    assert (row.ended_at - row.started_at).total_seconds() >= 2.2
    found = await probe(tmp_path, str(service.file(row)))
    assert float(found["format"]["duration"]) >= 2.2
    seen = colours(service.file(row))
    assert len(seen) >= 80 - 25
    assert all(near(one, (RED, GREEN, BLUE)[number % 3]) for number, one in enumerate(seen))


async def test_a_full_disk_stops_the_recording_and_the_file_plays(service: Service) -> None:
    recording = await process(service, "2000000")
    said, _ = await recording.communicate()
    assert said.splitlines()[-1] == b"ended disk full 1 True"
    assert recording.returncode == 0
    (row,) = await service.rows()
    assert row.state is RecordingState.FINISHED
    assert 0 < row.bytes == service.file(row).stat().st_size <= 2_000_000
    seen = colours(service.file(row))
    assert len(seen) >= 12
    assert near(seen[0], RED)


@requires("root")
async def test_a_small_file_system_that_fills_up_harms_nothing_else(service: Service, tmp_path: Path) -> None:
    """ENOSPC of a real file system: this recording stops, another of the same stream goes on elsewhere."""
    small = tmp_path / "small"
    small.mkdir()
    mounting = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small), stderr=asyncio.subprocess.DEVNULL
    )
    if await mounting.wait():
        pytest.skip("a file system cannot be mounted here")
    try:
        video = Stream("gate", H264)
        elsewhere = asyncio.create_task(service.recorder().run(video))
        whole, service.folder = service.folder, RecordingFolder(small)
        filling = asyncio.create_task(service.recorder().run(video))
        await asyncio.sleep(0)
        for packet in coded([RED] * 100):
            video.publish(Packet(packet.data + FILLER, packet.pts, packet.arrival, packet.keyframe))
            await asyncio.sleep(0.002)
        ended = await asyncio.wait_for(filling, 10)
        video.close()
        assert (await elsewhere).cause is EndCause.STREAM_ENDED
        assert (ended.cause, ended.files) == (EndCause.DISK_FULL, 1)
        cut, other = sorted(await service.rows(), key=lambda row: row.bytes)
        assert 0 < cut.bytes == service.file(cut).stat().st_size < 1 << 20
        assert len(colours(service.file(cut))) == 12
        assert len(colours(whole.resolve(other.path))) == 100
    finally:
        unmounting = await asyncio.create_subprocess_exec("umount", str(small))
        assert await unmounting.wait() == 0


async def test_a_stream_that_was_only_out_of_reach_is_not_recorded_twice(service: Service) -> None:
    """Its group of pictures comes again: what follows needs it, but nobody sees it a second time."""
    packets = coded([RED] * 41 + [BLUE] * 34, gop=25)
    first, second = Stream("gate", H264), Stream("gate", H264)
    before = service.recorder()
    running = asyncio.create_task(before.run(first))
    await asyncio.sleep(0)
    for packet in packets[:41]:
        first.publish(packet)
    first.close()
    await running
    assert before.last is not None
    assert (before.last.arrival, before.last.pts) == (packets[40].arrival, packets[40].pts)
    again = service.recorder(before=before.last)
    running = asyncio.create_task(again.run(second))
    await asyncio.sleep(0)
    for packet in packets[25:]:
        second.publish(packet)
    second.close()
    await running
    one, other = sorted(await service.rows(), key=lambda row: row.started_at)
    assert one.ended_at is not None
    assert other.ended_at is not None
    assert (other.started_at - one.started_at).total_seconds() == pytest.approx(40 * 0.04, abs=0.001)
    assert (other.ended_at - other.started_at).total_seconds() == pytest.approx(35 * 0.04, abs=0.01)
    with av.open(str(service.file(other))) as container:
        frames = [(frame.time, frame.to_ndarray()[:96]) for frame in container.decode(video=0)]
    assert len(frames) == 50, "all are decoded"
    seen = [np.median(bright) for time, bright in frames if (time or 0) > 0.02]
    assert len(seen) == 34
    assert all(abs(bright - BLUE[0]) <= 6 for bright in seen)
