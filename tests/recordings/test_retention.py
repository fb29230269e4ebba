"""What is old or too much goes, the oldest first; what is open or lies elsewhere stays."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.events import Event, RecordingAlarm
from foundation.repositories.audit import AuditRepository
from foundation.repositories.recordings import (
    Recording,
    RecordingKind,
    RecordingRepository,
    RecordingState,
)
from foundation.schema import new_id
from recordings import retention
from recordings.disk import Disk
from recordings.recording_folder import OutsideFolder, RecordingFolder
from recordings.retention import Retention, Swept

SIZE = 1000


async def recorded(
    database: Database,
    folder: RecordingFolder,
    clock: FakeClock,
    hours: int,
    *,
    path: str = "",
    open_: bool = False,
) -> Recording:
    """A recording that began `hours` after the clock's start, with a file of SIZE bytes."""
    began, key = clock.now() + timedelta(hours=hours), new_id()
    path = path or folder.new_path(RecordingKind.CAMERA, "gate", began, key)
    made = Recording(key, RecordingKind.CAMERA, "gate", "nanning", path, "avc1", 16, 16, began)
    async with database.transaction() as tx:
        index = RecordingRepository(tx)
        await index.open(made)
        if not open_:
            await index.finish(key, RecordingState.FINISHED, began + timedelta(minutes=1), SIZE)
    file = folder.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(SIZE))
    return made


async def left(database: Database) -> set[str]:
    async with database.reading() as tx:
        return {one.id for one in await RecordingRepository(tx).in_sites(["nanning"])}


async def test_age_and_quota(
    database: Database, folder: RecordingFolder, disk: Disk, clock: FakeClock
) -> None:
    made = [await recorded(database, folder, clock, hours) for hours in (0, 24, 48, 72, 96)]
    being_written = await recorded(database, folder, clock, -24, open_=True)
    now = clock.now() + timedelta(hours=97)
    retention = Retention(database, folder, disk, max_age=timedelta(hours=80), quota_bytes=2 * SIZE)
    assert await retention.sweep(now) == Swept(files=3, bytes=3 * SIZE, failed=0)
    assert await left(database) == {made[3].id, made[4].id, being_written.id}
    on_disk = {path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*.mp4")}
    assert on_disk == {made[3].path, made[4].path, being_written.path}
    assert not (folder.root / made[0].path).parent.exists()
    assert await retention.sweep(now) == Swept(0, 0, 0)


async def test_a_file_that_is_gone_already_is_swept_again(
    database: Database, folder: RecordingFolder, disk: Disk, clock: FakeClock
) -> None:
    made = await recorded(database, folder, clock, 0)
    (folder.root / made.path).unlink()
    swept = await Retention(database, folder, disk, quota_bytes=0).sweep(clock.now())
    assert swept == Swept(1, SIZE, 0)


async def test_a_disk_that_lets_nothing_go_is_not_asked_for_every_file(
    database: Database,
    folder: RecordingFolder,
    disk: Disk,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    for hours in range(8):
        await recorded(database, folder, clock, hours, path=f"../precious-{hours}.mp4")
    swept = await Retention(database, folder, disk, quota_bytes=0).sweep(clock.now())
    assert swept == Swept(0, 0, failed=3)


async def test_nothing_outside_the_folder_is_removed(
    database: Database, folder: RecordingFolder, disk: Disk, clock: FakeClock
) -> None:
    outside = await recorded(database, folder, clock, 0, path="../precious.mp4")
    inside = await recorded(database, folder, clock, 1)
    swept = await Retention(database, folder, disk, quota_bytes=0).sweep(clock.now())
    assert swept == Swept(1, SIZE, failed=1)
    assert (folder.root / "../precious.mp4").exists()
    async with database.reading() as tx:
        assert [one.id for one in await RecordingRepository(tx).being_removed()] == [outside.id]
    assert not (folder.root / inside.path).exists()


async def test_a_file_goes_only_after_its_row_is_marked_and_the_audit_says_why(
    database: Database,
    folder: RecordingFolder,
    disk: Disk,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await recorded(database, folder, clock, 0)
    sweeping = Retention(database, folder, disk, quota_bytes=0, clock=clock)

    async def die(*_: object) -> bool:
        raise asyncio.CancelledError

    with monkeypatch.context() as killed:
        killed.setattr(sweeping, "_remove", die)
        with pytest.raises(asyncio.CancelledError):
            await sweeping.sweep(clock.now())
    assert (folder.root / made.path).exists()
    assert await left(database) == set(), "nobody is told of what is to go"
    async with database.reading() as tx:
        (entry,) = await AuditRepository(tx).after(0, 10)
        (marked,) = await RecordingRepository(tx).being_removed()
    assert (entry.action, entry.subject) == ("remove-recordings", "recordings:1")
    assert made.id in entry.detail
    assert marked.id == made.id
    again = Retention(database, folder, disk)
    assert await again.sweep(clock.now()) == Swept(1, SIZE, 0), "the next life goes on with it"
    assert not (folder.root / made.path).exists()
    async with database.reading() as tx:
        assert await RecordingRepository(tx).being_removed() == ()


@pytest.mark.parametrize("year", [1970, 2100])
async def test_a_clock_that_is_years_off_does_not_empty_the_archive(
    database: Database, folder: RecordingFolder, disk: Disk, clock: FakeClock, year: int
) -> None:
    for hours in range(60):
        await recorded(database, folder, clock, hours)
    alarms: list[Event] = []
    sweeping = Retention(database, folder, disk, max_age=timedelta(days=30), clock=clock, emit=alarms.append)
    wrong = clock.now().replace(year=year)
    swept = [await sweeping.sweep(wrong + timedelta(minutes=minute)) for minute in range(3)]
    if year == 1970:
        assert swept == [Swept(0, 0, 0)] * 3
        assert alarms == []
        return
    assert [one.files for one in swept] == [retention.LEAST_AGED] * 3
    assert [one.held for one in swept] == [55, 50, 45]
    (alarm,) = alarms
    assert isinstance(alarm, RecordingAlarm)
    assert (alarm.subject, alarm.cause) == ("gate", "recordings age too fast")
    assert "clock" in alarm.detail
    assert await sweeping.sweep(clock.now()) == Swept(0, 0, 0), "the clock is right again"
    assert len(await left(database)) == 45


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "camera/../../x", "camera/./..", "a\0b", ".hidden/x", "a//../b"],
)
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(OutsideFolder, match="folder of recordings"):
        RecordingFolder(tmp_path).resolve(path)


def test_a_symbolic_link_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "camera").symlink_to(tmp_path)
    with pytest.raises(OutsideFolder, match="symbolic link"):
        RecordingFolder(tmp_path / "root").resolve("camera/x.mp4")


@pytest.mark.parametrize("subject", ["../../etc", "摄像机 1", "", "a/b\0c", "." * 300, "camera:34020000"])
def test_any_subject_has_a_safe_path(tmp_path: Path, clock: FakeClock, subject: str) -> None:
    folder = RecordingFolder(tmp_path)
    path = folder.new_path(RecordingKind.CAMERA, subject, clock.now(), "f" * 32)
    assert folder.resolve(path).relative_to(tmp_path.resolve()).parts[0] == "camera"
    assert len(Path(path).parts) == 4
    assert len(path) < 500
