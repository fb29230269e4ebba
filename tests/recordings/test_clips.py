"""The clip of a violation shows the seconds before and after it, or says which are missing and why."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from foundation.audit import verify
from foundation.clock import FakeClock, boot_id
from foundation.database import Database, DatabaseBusy
from foundation.events import Event, ViolationChanged
from foundation.jobs import Job, JobRefused, JobState
from foundation.repositories.audit import AuditRepository
from foundation.repositories.recordings import RecordingKind
from foundation.repositories.violations import ClipState, Violation, ViolationRepository
from media.packet import Format, Packet
from media.stream import Stream
from recordings.clips import EARLIER, ClipCutter, clear_unfinished
from recordings.disk import Disk
from recordings.preroll import PrerollKeeper, Ring
from recordings.recorder import Recorder, Subject
from recordings.recording_folder import RecordingFolder
from tests.media.coded_pictures import coded, sound
from tests.peers.ffmpeg import probe, run_ffmpeg
from tests.peers.requirement import requires
from tests.recordings.stage import COLOURS, H264, Stage, colours, heard_seconds, near
from tests.recordings.test_chromium import looked_at
from tests.recordings.test_recording_keeper import g711

VIOLATION = "a" * 32
SHANGHAI = ZoneInfo("Asia/Shanghai")


def seconds_of_colour(first: int, last: int) -> list[Packet]:
    """A camera whose n-th second since its start (arrival 0) has the n-th colour of four."""
    pictures = [COLOURS[second % 4] for second in range(first, last) for _ in range(25)]
    return coded(pictures, gop=50, arrival=float(first), start=first * 90_000)


class Evidence:
    """A cutter, its violation and what became of it. The camera's second 0 is the clock's at the start."""

    def __init__(self, database: Database, folder: RecordingFolder, disk: Disk, clock: FakeClock) -> None:
        self.database, self.folder, self.disk, self.clock = database, folder, disk, clock
        self.began = clock.monotonic()
        self.start = clock.now()
        self.root = folder.root / "evidence"
        self.events: list[Event] = []
        self.keeper: PrerollKeeper | None = None
        self.cutter = self.new_cutter()

    def new_cutter(self) -> ClipCutter:
        return ClipCutter(
            database=self.database,
            clock=self.clock,
            disk=self.disk,
            folder=self.folder,
            evidence=self.root,
            preroll=lambda camera: self.keeper if camera == "gate" else None,
            emit=self.events.append,
            zone=SHANGHAI,
        )

    def keep(self, *packets: Iterable[Packet], seconds: float = 15.0) -> Ring:
        """A ring that saw these streams, one after another."""
        if self.keeper is None:
            self.keeper = PrerollKeeper("gate", Stage(), self.clock, seconds=seconds)
        for stream in packets:
            self.keeper.ring.begin()
            for packet in stream:
                self.keeper.ring.take(self.here(packet))
        return self.keeper.ring

    def here(self, packet: Packet) -> Packet:
        return replace(packet, arrival=self.began + packet.arrival)

    async def flag(self, at: float, camera: str = "gate") -> None:
        """A violation `at` seconds after the start; the clock goes on past its clip."""
        violation = Violation(
            VIOLATION, camera, "东门", "nanning", "black", {"id": "r"}, self.start + timedelta(seconds=at)
        )
        async with self.database.transaction() as tx:
            await ViolationRepository(tx).add(violation)
        self.clock.advance(at + 7.0)

    def job(self, attempts: int = 1, **more: object) -> Job:
        payload = {"violation_id": VIOLATION, **more}
        return Job("j", "cut-clip", payload, JobState.LEASED, attempts, 5, self.clock.now())

    async def cut(self, attempts: int = 1, **more: object) -> Violation:
        await self.cutter.cut(self.job(attempts, **more))
        return await self.violation()

    async def violation(self) -> Violation:
        async with self.database.reading() as tx:
            found = await ViolationRepository(tx).get(VIOLATION)
        assert found is not None
        return found

    def file(self, violation: Violation) -> Path:
        assert violation.clip_path is not None
        return self.root / violation.clip_path


@pytest.fixture
def evidence(database: Database, folder: RecordingFolder, disk: Disk, clock: FakeClock) -> Evidence:
    return Evidence(database, folder, disk, clock)


def shown(path: Path) -> list[tuple[float, int]]:
    """Each frame's time in the file and which of the four colours it has."""
    return [
        (time, next(n for n, meant in enumerate(COLOURS) if near(seen, meant)))
        for time, seen in colours(path)
    ]


@requires("ffmpeg")
async def test_the_clip_has_five_seconds_before_and_after(evidence: Evidence, tmp_path: Path) -> None:
    ring = evidence.keep(seconds_of_colour(0, 21))
    heard, _ = sound("libopus", 21.0, arrival=0.0)
    ring.begin_sound(Format("OPUS", 48_000, 2))
    for packet in heard:
        ring.take_sound(evidence.here(packet))
    await evidence.flag(13.0)
    violation = await evidence.cut()
    assert (violation.clip_state, violation.clip_detail) == (ClipState.READY, "")
    file = evidence.file(violation)
    assert violation.clip_sha256 == sha256(file.read_bytes()).hexdigest()
    assert violation.clip_moment == pytest.approx(5.0, abs=0.05)
    frames = shown(file)
    # Key frames every 2 s: the last at or before second 8 is 8 itself; the end is second 18.
    assert len(frames) in (250, 251)
    assert [colour for _, colour in frames[:250:25]] == [second % 4 for second in range(8, 18)]
    assert all(colour == (8 + int(time + 1e-6)) % 4 for time, colour in frames)
    found = await probe(tmp_path, str(file))
    assert float(found["format"]["duration"]) == pytest.approx(10.0, abs=0.1)
    assert {one["codec_name"] for one in found["streams"]} == {"h264", "opus"}
    assert heard_seconds(file) == pytest.approx(10.0, abs=0.3)
    said = await run_ffmpeg(tmp_path, "-v", "warning", "-i", str(file), "-f", "null", "-")
    assert "rror" not in said
    sought = await run_ffmpeg(
        tmp_path, "-v", "warning", "-ss", "5.5", "-i", str(file), "-frames:v", "1", "-f", "null", "-"
    )
    assert "rror" not in sought


async def test_a_clip_that_begins_with_an_earlier_key_frame_says_where_the_moment_is(
    evidence: Evidence,
) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(14.0)  # five seconds before is 9, the key frame at or before it 8
    violation = await evidence.cut()
    assert violation.clip_moment == pytest.approx(6.0, abs=0.05)
    at = next(colour for time, colour in shown(evidence.file(violation)) if time >= violation.clip_moment)
    assert at == 14 % 4


@requires("chromium")
async def test_the_clip_plays_and_seeks_in_a_browser(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    looks = [(second - 8 + 0.5, second % 4) for second in (13, 8, 17, 10)]
    found = await looked_at(evidence.file(await evidence.cut()), looks)
    for (_, meant), (duration, pixel) in zip(looks, found, strict=True):
        assert duration == pytest.approx(10.0, abs=0.1)
        assert pixel.index(max(pixel)) == meant
        assert max(pixel) > 100


async def test_digests_enter_the_audit_and_a_second_cut_changes_nothing(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    async with evidence.database.transaction() as tx:
        await ViolationRepository(tx).set_snapshot(VIOLATION, "snapshots/a.jpg", "5" * 64)
    violation = await evidence.cut()
    assert evidence.events == [ViolationChanged(VIOLATION, "gate", "nanning", "open")]
    async with evidence.database.reading() as tx:
        (row,) = await AuditRepository(tx).after(0, 10)
    assert (row.action, row.subject, row.actor) == ("keep-clip", f"violation:{VIOLATION}", "recorder")
    assert violation.clip_sha256 is not None
    assert violation.clip_sha256 in row.detail
    assert "5" * 64 in row.detail
    assert await verify(evidence.database)
    written = evidence.file(violation).stat().st_mtime_ns
    assert await evidence.cut() == violation
    assert evidence.file(violation).stat().st_mtime_ns == written
    assert len(evidence.events) == 1


async def test_a_group_of_pictures_that_comes_again_is_kept_once(evidence: Evidence) -> None:
    packets = seconds_of_colour(0, 21)
    cut = 13 * 25 + 10
    again = [one for one in packets if one.arrival >= 12.0]
    ring = evidence.keep(packets[:cut], again)
    kept = [one.arrival - evidence.began for one in ring.footage().pictures]
    assert kept == sorted(set(kept))
    await evidence.flag(13.0)
    violation = await evidence.cut()
    assert (violation.clip_state, violation.clip_detail) == (ClipState.READY, "")
    frames = shown(evidence.file(violation))
    assert [colour for _, colour in frames[:250:25]] == [second % 4 for second in range(8, 18)]


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_a_step_of_the_wall_clock_cuts_no_other_seconds(evidence: Evidence, step: int) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    evidence.clock._start += timedelta(seconds=step)
    violation = await evidence.cut(monotonic=evidence.began + 13.0, boot=boot_id())
    assert (violation.clip_state, violation.clip_detail) == (ClipState.READY, "")
    frames = shown(evidence.file(violation))
    assert [colour for _, colour in frames[:250:25]] == [second % 4 for second in range(8, 18)]


async def test_another_run_of_the_machine_has_another_monotonic_clock(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    violation = await evidence.cut(monotonic=5.0, boot="another")
    assert violation.clip_state is ClipState.READY


@pytest.mark.parametrize("apart", [1.04, 1.9])
async def test_a_camera_with_a_picture_a_second_or_less_has_no_holes(
    evidence: Evidence, apart: float
) -> None:
    pictures = coded([COLOURS[0]] * 24, gop=2)
    paced = [replace(one, pts=round(n * apart * 90_000), arrival=n * apart) for n, one in enumerate(pictures)]
    evidence.keep([one for one in paced if one.arrival < 21])
    await evidence.flag(13.0)
    violation = await evidence.cut()
    assert (violation.clip_state, violation.clip_detail) == (ClipState.READY, "")


async def test_what_nobody_foresaw_is_written_down_at_the_last_attempt(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble(*_: object) -> object:
        raise ValueError("a box of no length")

    monkeypatch.setattr(evidence.cutter, "_find", stumble)
    await evidence.flag(13.0)
    for attempt, state in ((4, ClipState.PENDING), (5, ClipState.MISSING)):
        with pytest.raises(ValueError, match="no length"):
            await evidence.cut(attempt)
        assert (await evidence.violation()).clip_state is state
    detail = (await evidence.violation()).clip_detail
    assert detail == "the whole clip: the last of 5 attempts failed: ValueError: a box of no length"


async def test_a_clip_that_kills_whoever_cuts_it_is_given_up_in_words(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    violation = await evidence.cut(give_up="the lease ran out: worker gone")
    assert violation.clip_state is ClipState.MISSING
    assert "could not be cut: the lease ran out" in violation.clip_detail


async def test_what_was_not_kept_is_said_in_words(evidence: Evidence) -> None:
    evidence.clock.advance(10)
    evidence.keep(seconds_of_colour(10, 21))
    await evidence.flag(13.0)
    violation = await evidence.cut()
    assert violation.clip_state is ClipState.PARTIAL
    assert violation.clip_detail == (
        "the first 2 of the 5 s before were not kept: the recorder began to keep this camera at 08:00:10"
    )
    assert next(colour for _, colour in shown(evidence.file(violation))) == 10 % 4
    assert violation.clip_moment == pytest.approx(3.0, abs=0.05)


async def test_a_camera_that_fell_silent_is_said_with_the_time(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 14))
    await evidence.flag(13.0)
    violation = await evidence.cut()
    assert violation.clip_state is ClipState.PARTIAL
    assert violation.clip_detail == "no picture was kept after 08:00:13"


async def test_a_stream_that_was_opened_again_is_one_clip_with_its_hole_named(evidence: Evidence) -> None:
    again = [replace(one, pts=one.pts + 7_000_000_000) for one in seconds_of_colour(14, 21)]
    evidence.keep(seconds_of_colour(0, 12), again)
    await evidence.flag(13.0)
    violation = await evidence.cut()
    assert violation.clip_detail == "no picture was kept from 08:00:11 to 08:00:14"
    frames = shown(evidence.file(violation))
    after = [(round(time, 1), colour) for time, colour in frames if time > 4.5]
    assert after[0] == (6.0, 14 % 4)
    assert frames[-1][0] == pytest.approx(10.0, abs=0.1)


async def test_without_preroll_and_recording_the_clip_is_missing(evidence: Evidence) -> None:
    await evidence.flag(13.0)
    violation = await evidence.cut()
    assert (violation.clip_state, violation.clip_path, violation.clip_sha256) == (
        ClipState.MISSING,
        None,
        None,
    )
    assert violation.clip_detail == (
        "the whole clip: the recorder, started at 08:00:00, does not keep this camera"
    )
    assert len(evidence.events) == 1


@pytest.mark.parametrize(("still_open", "codec"), [(False, "libopus"), (True, "aac")])
async def test_when_the_preroll_is_gone_the_recording_serves(
    evidence: Evidence, still_open: bool, codec: str
) -> None:
    """Files cut every 8 s: the clip is out of two of them; the last may still be written."""
    subject = Subject(RecordingKind.CAMERA, "gate", "nanning")
    folder, database, disk, clock = evidence.folder, evidence.database, evidence.disk, evidence.clock
    recorder = Recorder(subject, folder, database, disk, clock, file_seconds=8.0, reserve_bytes=0)
    heard, config = sound(codec, 21.0, arrival=0.0)
    coded_sound = Format("OPUS", 48_000, 2)
    if codec == "aac":
        coded_sound = Format("MPEG4-GENERIC", 48_000, 2, {"config": config.hex()})
    pictures, tone = Stream("gate", H264), Stream("gate/sound", coded_sound)
    clock.advance(21.0)
    running = asyncio.create_task(recorder.run(pictures, tone))
    await asyncio.sleep(0)
    seen = [(evidence.here(one), pictures) for one in seconds_of_colour(0, 21)]
    sounding = [(evidence.here(one), tone) for one in heard]
    for packet, stream in sorted([*seen, *sounding], key=lambda one: one[0].arrival):
        stream.publish(packet)
        await asyncio.sleep(0.0005)
    await asyncio.sleep(0.1)
    if not still_open:
        pictures.close()
        await running
    await evidence.flag(13.0)
    violation = await evidence.cut()
    assert (violation.clip_state, violation.clip_detail) == (ClipState.READY, "")
    frames = shown(evidence.file(violation))
    assert [colour for _, colour in frames[:250:25]] == [second % 4 for second in range(8, 18)]
    assert heard_seconds(evidence.file(violation)) == pytest.approx(10.0, abs=0.3)
    pictures.close()
    await running


async def test_g711_beside_the_pictures_becomes_opus(evidence: Evidence) -> None:
    ring = evidence.keep(seconds_of_colour(0, 21))
    ring.begin_sound(Format("PCMA", 8000))
    for packet in g711(21.0, 0.0):
        ring.take_sound(evidence.here(packet))
    await evidence.flag(13.0)
    violation = await evidence.cut()
    assert heard_seconds(evidence.file(violation)) == pytest.approx(10.0, abs=0.3)


async def test_a_killed_cut_leaves_no_half_file_and_runs_again(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    folder = evidence.root / "clips" / "2026-01-01"
    folder.mkdir(parents=True)
    torn = folder / f".{VIOLATION}.mp4.part"
    torn.write_bytes(b"half")
    assert clear_unfinished(evidence.root) == 1
    torn.write_bytes(b"half")
    violation = await evidence.cut()
    assert violation.clip_state is ClipState.READY
    assert sorted(one.name for one in folder.iterdir()) == [torn.name, f"{VIOLATION}.mp4"]
    assert torn.read_bytes() == b"half", "it may be another attempt's, and is cleared at the next start"


async def test_an_attempt_that_comes_late_leaves_file_and_row_as_they_are(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    before = await evidence.violation()
    cut = await evidence.cut()
    evidence.keeper = None
    evidence.keep(seconds_of_colour(1, 22))
    late = evidence.new_cutter()
    await late._cut(evidence.job(2), before)
    assert await evidence.violation() == cut
    assert sha256(evidence.file(cut).read_bytes()).hexdigest() == cut.clip_sha256
    assert [one.name for one in evidence.file(cut).parent.iterdir()] == [f"{VIOLATION}.mp4"]
    assert len(evidence.events) == 1


@pytest.mark.parametrize("how", ["other footage", "no footage", "given up"])
async def test_a_file_of_an_attempt_that_died_before_the_row_is_the_clip(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async def die(*_: object) -> None:
        raise asyncio.CancelledError

    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    monkeypatch.setattr(evidence.cutter, "_finish", die)
    with pytest.raises(asyncio.CancelledError):
        await evidence.cutter.cut(evidence.job())
    (file,) = (evidence.root / "clips").glob("*/*")
    kept = file.read_bytes()
    evidence.keeper, evidence.cutter = None, evidence.new_cutter()
    if how == "other footage":
        evidence.keep(seconds_of_colour(1, 22))
    violation = await evidence.cut(2, **({"give_up": "worker gone"} if how == "given up" else {}))
    assert violation.clip_state is ClipState.PARTIAL
    assert (violation.clip_detail, violation.clip_moment) == (EARLIER, None)
    assert (evidence.file(violation), violation.clip_sha256) == (file, sha256(kept).hexdigest())
    assert file.read_bytes() == kept


async def test_two_attempts_at_once_are_one_clip(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    other = evidence.new_cutter()
    await asyncio.gather(evidence.cutter.cut(evidence.job()), other.cut(evidence.job(2)))
    violation = await evidence.violation()
    assert (violation.clip_state, violation.clip_detail) == (ClipState.READY, "")
    assert sha256(evidence.file(violation).read_bytes()).hexdigest() == violation.clip_sha256
    assert [one.name for one in evidence.file(violation).parent.iterdir()] == [f"{VIOLATION}.mp4"]


async def test_a_full_disk_is_tried_again_with_the_same_footage_and_then_said(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    evidence.root.mkdir(parents=True)
    blocked = evidence.root / "clips"
    blocked.write_bytes(b"a file where the folder should be")
    with pytest.raises(OSError, match=r"xist|irectory"):
        await evidence.cut()
    evidence.keeper = None  # by now the pre-roll is another one
    blocked.unlink()
    violation = await evidence.cut(attempts=2)
    assert violation.clip_state is ClipState.READY


async def test_a_busy_database_is_tried_again_with_the_same_footage(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    evidence.database.busy_timeout = 0.2
    async with evidence.database.transaction():
        with pytest.raises(DatabaseBusy):
            await asyncio.create_task(evidence.cutter.cut(evidence.job()))
    evidence.keeper = None  # by now the pre-roll is another one
    violation = await evidence.cut(attempts=2)
    assert (violation.clip_state, violation.clip_detail) == (ClipState.READY, "")


async def test_at_the_last_attempt_the_fault_is_the_detail(evidence: Evidence) -> None:
    evidence.keep(seconds_of_colour(0, 21))
    await evidence.flag(13.0)
    evidence.root.mkdir(parents=True)
    (evidence.root / "clips").write_bytes(b"")
    violation = await evidence.cut(attempts=5)
    assert violation.clip_state is ClipState.MISSING
    assert violation.clip_detail.startswith("the clip could not be written: ")


async def test_an_unknown_violation_is_refused(evidence: Evidence) -> None:
    with pytest.raises(JobRefused, match="no violation"):
        await evidence.cut()


def test_a_ring_is_bounded_in_seconds_and_bytes_and_begins_at_a_key_frame() -> None:
    ring = Ring(6.0)
    packets = seconds_of_colour(0, 20)
    for packet in packets:
        ring.take(packet)
    kept = ring.footage().pictures
    assert kept[0].keyframe
    assert 6.0 <= kept[-1].arrival - kept[0].arrival <= 8.0
    small = Ring(60.0, sum(len(one) for one in packets) // 2)
    for packet in packets:
        small.take(packet)
    held = small.footage().pictures
    assert held[0].keyframe
    assert 0 < sum(len(one) for one in held) <= sum(len(one) for one in packets) // 2


def test_sound_is_bounded_where_pictures_have_stopped() -> None:
    ring = Ring(15.0)
    for packet in seconds_of_colour(0, 2):
        ring.take(packet)
    ring.begin_sound(Format("PCMA", 8000))
    for number in range(50_000):
        ring.take_sound(Packet(b"", number * 160, ring.latest + number / 50))
    kept = ring.footage().sound
    assert kept[-1].arrival - kept[0].arrival <= 301


def test_a_damaged_picture_is_left_out_to_the_next_key_frame() -> None:
    ring = Ring(60.0)
    packets = seconds_of_colour(0, 4)
    packets[10] = replace(packets[10], damaged=True)
    for packet in packets:
        ring.take(packet)
    assert len(ring.footage().pictures) == 10 + 50
    assert ring.dropped == 40
