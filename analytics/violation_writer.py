"""Writes down what the rules flag: the row and its clip's job, then the event, then the snapshot.

    writer = ViolationWriter(database, clock, threads, folder, emit)
    id = await writer.flag(camera, rule, flag, started_at, model)
    await writer.finish(id, camera, ended_at)

A database that is busy or away is tried until it takes the row: a flagged violation is never let go of. A
snapshot that cannot be written leaves the violation as it is, with the reason in its row.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import cv2
import structlog

from analytics.detection import Bgr, Detection
from analytics.rules import Flag
from foundation.audit import AuditEntry, AuditTrail
from foundation.clock import Clock, boot_id
from foundation.database import Database, DatabaseBusy, DatabaseUnavailable, Transaction
from foundation.desks import AnalysedCamera, RuleSpec
from foundation.events import Event, ViolationChanged, ViolationFlagged
from foundation.repositories.jobs import JobRepository
from foundation.repositories.violations import CLIP_JOB, Violation, ViolationRepository, clip_key
from foundation.schema import new_id
from foundation.tasks import Backoff

log = structlog.get_logger(__name__)

ACTOR = "vision"
JPEG_QUALITY = 92
NOT_YET = "the snapshot was not written yet"
"""What a row says until it is; for good, where the process was killed in between."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ModelName:
    """What detects, as evidence names it; `fault` says why it does not, "" when it does."""

    name: str = ""
    sha256: str = ""
    fault: str = ""

    @property
    def usable(self) -> bool:
        return not self.fault and bool(self.sha256)

    def __str__(self) -> str:
        return self.fault or f"{self.name} {self.sha256}".strip()


class ViolationWriter:
    """`folder` is the folder of evidence, `threads` encode and write; `emit` announces."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        threads: ThreadPoolExecutor,
        folder: Path,
        emit: Callable[[Event], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._threads = threads
        self._folder = folder
        self._emit = emit

    async def flag(
        self, camera: AnalysedCamera, rule: RuleSpec, flag: Flag, started_at: datetime, model: ModelName
    ) -> str:
        """Write a violation and its evidence; returns its id once all that can be is written."""
        violation = Violation(
            id=new_id(),
            camera_id=camera.camera_id,
            camera_name=camera.name,
            site_id=camera.site_id,
            kind=rule.kind,
            rule=rule_record(rule),
            started_at=started_at,
            model={"name": model.name, "sha256": model.sha256} if flag.shown else {},
            score=round(flag.score, 4),
            boxes=tuple(_box(one) for one in flag.shown),
            snapshot_detail=NOT_YET if flag.sample is not None else flag.lacking,
        )

        async def add(tx: Transaction) -> None:
            await ViolationRepository(tx).add(violation)
            now = self._clock.now()
            # The clip is cut by a clock that nobody sets: a step of the wall clock would cut other seconds.
            since = self._clock.monotonic() - (now - started_at).total_seconds()
            payload = {"violation_id": violation.id, "monotonic": since, "boot": boot_id()}
            await JobRepository(tx).enqueue(CLIP_JOB, payload, now, key=clip_key(violation.id))

        await self._surely("flag", add)
        log.info("violation_flagged", violation=violation.id, camera=camera.camera_id, kind=rule.kind)
        self._emit(ViolationFlagged(violation.id, camera.camera_id, camera.site_id, rule.kind))
        if flag.sample is not None:
            await self._add_snapshot(violation, flag.sample.picture, flag.lacking)
        return violation.id

    async def finish(self, violation_id: str, ended_at: datetime) -> None:
        """It is over; known to be so already is no error."""

        async def end(tx: Transaction) -> Violation | None:
            rows = ViolationRepository(tx)
            if not await rows.finish(violation_id, ended_at):
                return None
            return await rows.get(violation_id)

        self._announce(await self._surely("finish", end))

    async def unfinished(self, camera_id: str | None = None) -> tuple[Violation, ...]:
        """Violations of a camera, or of all, that had not ended when somebody looked last."""

        async def read(tx: Transaction) -> tuple[Violation, ...]:
            return await ViolationRepository(tx).unfinished(camera_id)

        return await self._surely("read", read)

    async def _add_snapshot(self, violation: Violation, picture: Bgr, detail: str) -> None:
        path = Path("snapshots") / f"{violation.started_at:%Y-%m-%d}" / f"{violation.id}.jpg"
        loop = asyncio.get_running_loop()
        digest: str | None = None
        try:
            digest = await loop.run_in_executor(self._threads, write_snapshot, self._folder / path, picture)
        except (OSError, cv2.error) as error:
            why = getattr(error, "strerror", None) or str(error)
            detail = f"the snapshot could not be written: {why}"
            log.error("snapshot_not_written", violation=violation.id, reason=why)

        async def record(tx: Transaction) -> Violation | None:
            rows = ViolationRepository(tx)
            where = None if digest is None else path.as_posix()
            await rows.set_snapshot(violation.id, where, digest, detail)
            found: dict[str, Any] = {"sha256": digest, "detail": detail, "rule": violation.rule["id"]}
            outcome = "failed" if digest is None else "done"
            entry = AuditEntry(ACTOR, "record-snapshot", f"violation:{violation.id}", outcome, detail=found)
            await AuditTrail(tx, self._clock).append(entry)
            return await rows.get(violation.id)

        self._announce(await self._surely("snapshot", record))

    def _announce(self, violation: Violation | None) -> None:
        if violation is not None:
            self._emit(
                ViolationChanged(violation.id, violation.camera_id, violation.site_id, str(violation.state))
            )

    async def _surely(self, what: str, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
        """A transaction, again and again while the database cannot be had."""
        backoff = Backoff(first=0.2, limit=5.0)
        while True:
            try:
                async with self._database.transaction() as tx:
                    return await work(tx)
            except (DatabaseBusy, DatabaseUnavailable) as error:
                log.warning("violation_waits_for_database", step=what, reason=str(error))
            await asyncio.sleep(backoff.next_delay())


def rule_record(rule: RuleSpec) -> dict[str, Any]:
    """The rule as it was, for the violation's row."""
    return {
        "id": rule.rule_id,
        "kind": rule.kind,
        "name": rule.name,
        "zone": [list(point) for point in rule.zone],
        "parameters": dict(rule.parameters),
        "schedule": [dict(window) for window in rule.schedule],
    }


def write_snapshot(path: Path, picture: Bgr) -> str:
    """The picture as JPEG, whole or not at all; returns the SHA-256 of the file. Raises OSError."""
    written, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not written:
        raise OSError("the picture cannot be encoded")
    data = jpeg.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return hashlib.sha256(data).hexdigest()


def _box(one: Detection) -> tuple[str, float, float, float, float, float]:
    box = one.box
    return (one.label, round(one.score, 4), *(round(side, 5) for side in (box.x1, box.y1, box.x2, box.y2)))  # type: ignore[return-value]  # four sides
