"""Cuts the clip of a violation: the seconds before and after it, out of the pre-roll or of recordings.

    cutter = ClipCutter(...)
    JobWorker(database, bus, clock, {CLIP_JOB: cutter.cut}, ...)

The clip lies in the folder of evidence under its final name only when it is whole; its digest goes into the
violation's row and into the audit, together. What is missing, and why, is said in words. A job that was
killed in between runs again and finds nothing half done. A file that is there is never replaced, so that its
digest holds whoever writes it down: an attempt after one that was cut off between file and row takes the
file as it is, and says so where that is not what it would have written.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from statistics import median

import structlog

from foundation.audit import AuditEntry, AuditTrail
from foundation.clock import Clock, boot_id
from foundation.database import Database, DatabaseError
from foundation.events import Event, ViolationChanged
from foundation.jobs import Job, JobRefused
from foundation.repositories.recordings import RecordingKind, RecordingRepository
from foundation.repositories.violations import ClipState, Violation, ViolationRepository
from recordings.disk import Disk
from recordings.footage import (
    NoPicture,
    RecordedFile,
    WrittenClip,
    earlier_clip,
    read_footage,
    write_clip,
)
from recordings.preroll import Footage, PrerollKeeper
from recordings.recording_folder import OutsideFolder, RecordingFolder

REPLAYED = 3.0
"""Seconds that a recorder's first pictures may be older than it: the group that waits for its readers."""
BEFORE = AFTER = 5.0
"""Seconds of the clip around the violation's start."""
LATE = 1.0
"""Seconds after the clip's end in which its last pictures may still come."""
TOLERANCE = 1.0
"""A hole of so many seconds at an end or in the middle is none ..."""
PACES = 2.5
"""... and none of so many of the camera's usual steps: the pictures of slow cameras are apart."""
MOST_TOLERANCE = 5.0
LONGEST_WAIT = 30.0
KEPT_FOOTAGE = 8
"""Clips whose footage waits in memory for another attempt, when disk or database could not take them."""
ACTOR = "recorder"
EARLIER = "the clip is of an earlier attempt that was cut off: which of its seconds are missing is not known"

_log = structlog.get_logger("clips")


@dataclass(frozen=True, slots=True)
class Span:
    """What is wanted, in monotonic seconds of this machine; `began` is when this recorder did, `zone` is for
    people."""

    since: float
    until: float
    began: float
    now: float
    today: datetime
    zone: tzinfo

    def clock_time(self, at: float) -> str:
        """A monotonic instant as hours, minutes and seconds in the node's time zone."""
        return f"{(self.today + timedelta(seconds=at - self.now)).astimezone(self.zone):%H:%M:%S}"


@dataclass(frozen=True, slots=True)
class Found:
    """Footage of the span, what of it is missing in words, and how many seconds of it are there.

    The violation began `moment` seconds into it; None where the footage has a hole before, or begins later.
    """

    footage: Footage
    missing: tuple[str, ...]
    seconds: float
    moment: float | None = None


class ClipCutter:
    """`preroll` finds who keeps a camera's last seconds; `evidence` is the folder of evidence."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        disk: Disk,
        folder: RecordingFolder,
        evidence: Path,
        preroll: Callable[[str], PrerollKeeper | None],
        emit: Callable[[Event], None],
        zone: tzinfo,
        reserve_bytes: int = 0,
    ) -> None:
        self._database = database
        self._clock = clock
        self._disk = disk
        self._folder = folder
        self._evidence = evidence
        self._preroll = preroll
        self._emit = emit
        self._zone = zone
        self._reserve = reserve_bytes
        self._began = clock.monotonic()
        self._kept: OrderedDict[str, Found] = OrderedDict()

    async def cut(self, job: Job) -> None:
        """A handler of jobs. Raises JobRefused without such a violation, OSError when the disk failed,
        DatabaseError; another attempt has the same footage."""
        violation = await self._violation(job)
        if violation.clip_state in (ClipState.READY, ClipState.PARTIAL):
            return
        if why := job.payload.get("give_up"):
            await self._give_up(violation, f"it could not be cut: {why}")
            return
        try:
            await self._cut(job, violation)
        except (JobRefused, DatabaseError):
            raise
        except Exception as error:
            if job.attempts < job.max_attempts:
                raise
            # Nobody tries again: what is missing is said now, and not pending until somebody wonders.
            why = f"the last of {job.max_attempts} attempts failed: {type(error).__name__}: {error}"
            await self._give_up(violation, why)
            raise

    async def _cut(self, job: Job, violation: Violation) -> None:
        start = _start(job)
        found = self._kept.get(violation.id)
        if found is None:
            await self._wait(violation, start)
            found = await self._find(violation, start)
        try:
            path = self._evidence / _place(violation)
            clip: WrittenClip | None = await self._disk.run(write_clip, found.footage, path, self._reserve)
        except NoPicture:
            clip = await self._earlier(violation)
        except OSError as error:
            if job.attempts < job.max_attempts:
                self._keep(violation.id, found)
                raise
            found = replace(found, missing=(f"the clip could not be written: {error.strerror or error}",))
            clip = await self._earlier(violation)
        try:
            await self._finish(violation, clip, found)
        except DatabaseError:  # the next attempt must not find a pre-roll that has gone on
            self._keep(violation.id, found)
            raise
        self._kept.pop(violation.id, None)

    async def _violation(self, job: Job) -> Violation:
        violation_id = str(job.payload.get("violation_id", ""))
        async with self._database.reading() as tx:
            violation = await ViolationRepository(tx).get(violation_id)
        if violation is None:
            raise JobRefused(f"there is no violation {violation_id!r}")
        return violation

    async def _wait(self, violation: Violation, start: float | None) -> None:
        """Until the seconds after have passed and the camera has had the time to send them."""
        until = self._span(violation, start).until
        wait = until - self._clock.monotonic()
        await asyncio.sleep(min(max(wait, 0.0), LONGEST_WAIT))
        keeper = self._preroll(violation.camera_id)
        for _ in range(10):
            if keeper is None or wait < -LATE or keeper.ring.latest >= until:
                return
            await asyncio.sleep(LATE / 10)

    def _span(self, violation: Violation, start: float | None) -> Span:
        """`start` is when the violation began, in monotonic seconds; None where only the wall clock says."""
        now, today = self._clock.monotonic(), self._clock.now()
        if start is None:
            start = now + (violation.started_at - today).total_seconds()
        else:  # rows of then were written by the wall clock as it was then
            today = violation.started_at + timedelta(seconds=now - start)
        return Span(start - BEFORE, start + AFTER, self._began, now, today, self._zone)

    # --- finding ------------------------------------------------------------------------------------

    async def _find(self, violation: Violation, start: float | None) -> Found:
        """The better of pre-roll and recordings."""
        span = self._span(violation, start)
        keeper = self._preroll(violation.camera_id)
        footage = _within(keeper.ring.footage(), span) if keeper is not None else Footage()
        why = self._why(keeper, span)
        kept = _judge(footage, span, why)
        if not kept.missing:
            return kept
        recorded = await self._recorded(violation, span)
        found = _judge(recorded, span, f"{why}, and it was not recorded then")
        return found if found.seconds > kept.seconds + TOLERANCE / 2 else kept

    def _why(self, keeper: PrerollKeeper | None, span: Span) -> str:
        """Why the pre-roll has not what is missing, as far as that is known."""
        if keeper is None:
            return f"the recorder, started at {span.clock_time(self._began)}, does not keep this camera"
        if keeper.since > span.since:
            return f"the recorder began to keep this camera at {span.clock_time(keeper.since)}"
        return keeper.fault or "the camera sent nothing that could be kept"

    async def _recorded(self, violation: Violation, span: Span) -> Footage:
        started, margin = violation.started_at, timedelta(seconds=BEFORE + TOLERANCE)
        async with self._database.reading() as tx:
            rows = await RecordingRepository(tx).of_subject(
                RecordingKind.CAMERA, violation.camera_id, started - margin, started + margin
            )
        files = []
        for row in rows:
            arrival = span.now + (row.started_at - span.today).total_seconds()
            try:
                files.append(RecordedFile(await self._disk.run(self._folder.resolve, row.path), arrival))
            except OutsideFolder as error:
                _log.error("recording passed over", recording=row.id, detail=str(error))
        return await self._disk.run(read_footage, files, span.since, span.until)

    def _keep(self, violation_id: str, found: Found) -> None:
        self._kept[violation_id] = found
        while len(self._kept) > KEPT_FOOTAGE:
            self._kept.popitem(last=False)

    # --- the end ------------------------------------------------------------------------------------

    async def _give_up(self, violation: Violation, why: str) -> None:
        await self._finish(violation, await self._earlier(violation), _nothing(why))

    async def _earlier(self, violation: Violation) -> WrittenClip | None:
        """The file of an attempt that was cut off before the row was written; evidence even so."""
        try:
            return await self._disk.run(earlier_clip, self._evidence / _place(violation))
        except OSError as error:
            _log.error("clip_unreadable", violation=violation.id, why=str(error))
            return None

    async def _finish(self, violation: Violation, clip: WrittenClip | None, found: Found) -> None:
        if clip is not None and clip.earlier:
            found = replace(found, missing=(EARLIER,), moment=None)
        missing = found.missing
        if clip is not None and clip.shortened:
            missing = (*missing, "the end: the camera's picture changed its shape, and a clip has one")
        state = ClipState.MISSING if clip is None else ClipState.PARTIAL if missing else ClipState.READY
        detail = "; ".join(missing)
        where, digest = (str(_place(violation)), clip.sha256) if clip is not None else (None, None)
        async with self._database.transaction() as tx:
            moment = None if clip is None else found.moment
            rows = ViolationRepository(tx)
            if not await rows.set_clip(violation.id, state, where, digest, detail, moment):
                return  # there is one already: evidence stays as it was
            about = {
                "clip_state": str(state),
                "clip_sha256": digest,
                "clip_path": where,
                "clip_detail": detail,
                "snapshot_sha256": violation.snapshot_sha256,
            }
            entry = AuditEntry(ACTOR, "keep-clip", f"violation:{violation.id}", "done", "", about)
            if clip is None:
                entry = replace(entry, outcome="failed")
            await AuditTrail(tx, self._clock).append(entry)
        _log.info("clip", violation=violation.id, state=str(state), missing=detail)
        self._emit(
            ViolationChanged(violation.id, violation.camera_id, violation.site_id, str(violation.state))
        )


def _start(job: Job) -> float | None:
    """When the violation began, if this machine was not started anew since."""
    start = job.payload.get("monotonic")
    return float(start) if start is not None and job.payload.get("boot") == boot_id() else None


def _nothing(why: str) -> Found:
    return Found(Footage(), (f"the whole clip: {why}",), 0.0)


def _within(footage: Footage, span: Span) -> Footage:
    """From the key frame at or before the span's start to its end."""
    pictures = [one for one in footage.pictures if one.arrival <= span.until]
    starts = [n for n, one in enumerate(pictures) if one.keyframe]
    before = [n for n in starts if pictures[n].arrival <= span.since]
    first = before[-1] if before else starts[0] if starts else len(pictures)
    return replace(footage, pictures=tuple(pictures[first:]))


def _judge(footage: Footage, span: Span, why: str) -> Found:
    """What the footage has of the span, and what it lacks, in words."""
    times = [min(max(one.arrival, span.since), span.until) for one in footage.pictures]
    if not times:
        return replace(_nothing(why), footage=footage)
    missing = []
    inside = [one.arrival for one in footage.pictures if span.since <= one.arrival <= span.until]
    steps = [after - one for one, after in itertools.pairwise(inside)]
    pace = PACES * median(steps) if len(steps) > 1 else 0.0
    tolerance = min(max(TOLERANCE, pace), MOST_TOLERANCE)
    if times[0] - span.since > tolerance:
        lacking = f"the first {times[0] - span.since:.0f} of the {BEFORE:g} s before"
        if times[0] >= span.since + BEFORE:
            lacking = f"the {BEFORE:g} s before"
        missing.append(f"{lacking} were not kept: {why}")
    holes = [(one, after) for one, after in itertools.pairwise(times) if after - one > tolerance]
    for one, after in holes:
        restart = _restart(span, one, after)
        missing.append(
            f"no picture was kept from {span.clock_time(one)} to {span.clock_time(after)}{restart}"
        )
    if span.until - times[-1] > tolerance:
        restart = _restart(span, times[-1], math.inf)
        missing.append(f"no picture was kept after {span.clock_time(times[-1])}{restart}")
    seconds = times[-1] - times[0] - sum(after - one for one, after in holes)
    began, first = span.since + BEFORE, footage.pictures[0].arrival
    whole = first <= began and not any(one < began for one, _ in holes)
    return Found(footage, tuple(missing), seconds, began - first if whole else None)


def _place(violation: Violation) -> Path:
    """Where the clip is, from the folder of evidence."""
    return Path("clips") / f"{violation.started_at:%Y-%m-%d}" / f"{violation.id}.mp4"


def _restart(span: Span, since: float, until: float) -> str:
    """Names the recorder's own absence as the cause, where it was."""
    return (
        f": the recorder was started at {span.clock_time(span.began)}"
        if since < span.began < until + REPLAYED
        else ""
    )


def clear_unfinished(evidence: Path) -> int:
    """Remove what a killed job left half written; blocks. To be called before any clip is cut."""
    left = [part for part in (evidence / "clips").glob("*/.*.part") if part.is_file()]
    for part in left:
        part.unlink(missing_ok=True)
    return len(left)
