"""Violations, their evidence and their review.

ViolationRepository(tx): add, get, page, summary, set_snapshot, set_clip, finish, unfinished,
                         without_clip_job, review, log
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update

from foundation.database import Transaction
from foundation.repositories.jobs import JobState
from foundation.schema import JobRow, ViolationLogRow, ViolationRow

__all__ = [
    "CLIP_JOB",
    "ClipState",
    "LogEntry",
    "Review",
    "ReviewConflict",
    "Violation",
    "ViolationFilter",
    "ViolationRepository",
    "ViolationState",
    "ViolationSummary",
    "clip_key",
]

CLIP_JOB = "cut-clip"
"""The kind of the job that cuts a clip; its payload is {"violation_id": ID}."""
_LONGEST_DETAIL = 500


def clip_key(violation_id: str) -> str:
    """The key of a violation's clip job: one open job each."""
    return f"clip:{violation_id}"


class ClipState(StrEnum):
    """PARTIAL lacks some of what was wanted, MISSING all of it; the detail says what and why."""

    PENDING = "pending"
    READY = "ready"
    PARTIAL = "partial"
    MISSING = "missing"


class ViolationState(StrEnum):
    OPEN = "open"
    CLAIMED = "claimed"
    CONFIRMED = "confirmed"
    DISMISSED = "dismissed"


class Review(StrEnum):
    """What a reviewer does."""

    CLAIM = "claim"
    RELEASE = "release"
    CONFIRM = "confirm"
    DISMISS = "dismiss"
    COMMENT = "comment"


class ReviewConflict(Exception):
    """The violation is not (any more) as the reviewer thinks; the text says who did what."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`rule` is what the rule said then: id, kind, name, zone, parameters, schedule. `model` has name and
    sha256, or is empty when no model was asked. `boxes` are [label, score, x1, y1, x2, y2] in 0..1 of the
    snapshot. Paths are relative to the folder of evidence."""

    id: str
    camera_id: str
    camera_name: str
    site_id: str
    kind: str
    rule: dict[str, Any] = field(hash=False)
    started_at: datetime
    model: dict[str, Any] = field(default_factory=dict, hash=False)
    score: float = 0.0
    boxes: tuple[tuple[str, float, float, float, float, float], ...] = ()
    ended_at: datetime | None = None
    snapshot_path: str | None = None
    snapshot_sha256: str | None = None
    snapshot_detail: str = ""
    clip_state: ClipState = ClipState.PENDING
    clip_path: str | None = None
    clip_sha256: str | None = None
    clip_detail: str = ""
    clip_moment: float | None = None
    state: ViolationState = ViolationState.OPEN
    claimed_by: str | None = None
    claimed_at: datetime | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class ViolationFilter:
    """Which violations; None is any. `since` and `until` bound the time it started (until excluded)."""

    state: ViolationState | None = None
    camera_id: str | None = None
    kind: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ViolationSummary:
    """`today` counts what started since a given time; `by_kind` what is open or claimed."""

    open: int
    claimed: int
    today: int
    by_kind: dict[str, int] = field(hash=False)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """`event`: claimed, released, confirmed, dismissed or comment."""

    at: datetime
    actor: str
    event: str
    comment: str


@dataclass(frozen=True, slots=True)
class _Transition:
    """From which states; whether only the holder may; to which state; the word for the log."""

    sources: frozenset[ViolationState]
    target: ViolationState
    word: str


_UNDECIDED = frozenset({ViolationState.OPEN, ViolationState.CLAIMED})
_TRANSITIONS: Mapping[Review, _Transition] = MappingProxyType(
    {
        Review.CLAIM: _Transition(frozenset({ViolationState.OPEN}), ViolationState.CLAIMED, "claimed"),
        Review.RELEASE: _Transition(frozenset({ViolationState.CLAIMED}), ViolationState.OPEN, "released"),
        Review.CONFIRM: _Transition(_UNDECIDED, ViolationState.CONFIRMED, "confirmed"),
        Review.DISMISS: _Transition(_UNDECIDED, ViolationState.DISMISSED, "dismissed"),
    }
)
"""What each step asks for; a claimed violation is the claimant's alone. A comment changes nothing."""


class ViolationRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, violation: Violation) -> None:
        """Before anything else is done about it."""
        values = {name: getattr(violation, name) for name in Violation.__slots__}
        values["boxes"] = [list(box) for box in violation.boxes]
        values["clip_state"], values["state"] = str(violation.clip_state), str(violation.state)
        self._tx.add(ViolationRow(**values))
        await self._tx.flush()

    async def get(self, violation_id: str) -> Violation | None:
        row = await self._tx.get(ViolationRow, violation_id, populate_existing=True)
        return None if row is None else _violation(row)

    # --- finding ------------------------------------------------------------------------------------

    async def page(
        self,
        site_ids: Collection[str],
        wanted: ViolationFilter | None = None,
        *,
        after: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> tuple[Violation, ...]:
        """Violations of these sites and no others, the newest first; `after` is the start and id of the last
        one of the page before."""
        here = await self._among(site_ids)
        query = select(ViolationRow).where(here, *_conditions(wanted))
        if after is not None:
            at, last_id = after
            same_time = and_(ViolationRow.started_at == at, ViolationRow.id < last_id)
            query = query.where(or_(ViolationRow.started_at < at, same_time))
        rows = await self._tx.scalars(
            query.order_by(ViolationRow.started_at.desc(), ViolationRow.id.desc()).limit(limit)
        )
        return tuple(_violation(row) for row in rows)

    async def summary(self, site_ids: Collection[str], today: datetime) -> ViolationSummary:
        """Counts over these sites; `today` is when the day began."""
        here = await self._among(site_ids)
        undecided = await self._tx.execute(
            select(ViolationRow.state, ViolationRow.kind, func.count())
            .where(here, ViolationRow.state.in_([str(state) for state in _UNDECIDED]))
            .group_by(ViolationRow.state, ViolationRow.kind)
        )
        states: dict[str, int] = {}
        kinds: dict[str, int] = {}
        for state, kind, count in undecided:
            states[state] = states.get(state, 0) + count
            kinds[kind] = kinds.get(kind, 0) + count
        since = await self._tx.scalar(
            select(func.count()).select_from(ViolationRow).where(here, ViolationRow.started_at >= today)
        )
        return ViolationSummary(
            states.get(ViolationState.OPEN, 0), states.get(ViolationState.CLAIMED, 0), since or 0, kinds
        )

    async def _among(self, site_ids: Collection[str]) -> ColumnElement[bool]:
        """Only of these sites: of those that have violations at all, as a nation has more sites than a
        statement may have parameters."""
        known = await self._tx.scalars(select(ViolationRow.site_id).distinct())
        return ViolationRow.site_id.in_([site_id for site_id in known if site_id in site_ids])

    async def unfinished(self, camera_id: str | None = None) -> tuple[Violation, ...]:
        """Those without an end, of a camera or of all, the oldest first."""
        query = select(ViolationRow).where(ViolationRow.ended_at.is_(None))
        if camera_id is not None:
            query = query.where(ViolationRow.camera_id == camera_id)
        rows = await self._tx.scalars(query.order_by(ViolationRow.started_at, ViolationRow.id))
        return tuple(_violation(row) for row in rows)

    async def without_clip_job(self, limit: int = 500) -> tuple[str, ...]:
        """Ids of violations whose clip is pending though no open job will cut it, the oldest first."""
        job = exists().where(
            JobRow.key == "clip:" + ViolationRow.id, JobRow.state.in_([JobState.READY, JobState.LEASED])
        )
        found = await self._tx.scalars(
            select(ViolationRow.id)
            .where(ViolationRow.clip_state == str(ClipState.PENDING), ~job)
            .order_by(ViolationRow.started_at, ViolationRow.id)
            .limit(limit)
        )
        return tuple(found)

    # --- evidence -----------------------------------------------------------------------------------

    async def set_snapshot(
        self, violation_id: str, path: str | None, sha256: str | None, detail: str = ""
    ) -> bool:
        """The snapshot was written, or could not be (`detail` says why). False when there is one already:
        evidence stays as it was."""
        return await self._write_evidence(
            violation_id,
            ViolationRow.snapshot_sha256.is_(None),
            {
                "snapshot_path": path,
                "snapshot_sha256": sha256,
                "snapshot_detail": detail[:_LONGEST_DETAIL],
            },
        )

    async def set_clip(
        self,
        violation_id: str,
        state: ClipState,
        path: str | None,
        sha256: str | None,
        detail: str = "",
        moment: float | None = None,
    ) -> bool:
        """The clip was cut, or not (`detail` says what is missing). The violation began `moment` seconds into
        it; None when that is not known. False when there is one already."""
        return await self._write_evidence(
            violation_id,
            ViolationRow.clip_sha256.is_(None),
            {
                "clip_state": str(state),
                "clip_path": path,
                "clip_sha256": sha256,
                "clip_detail": detail[:_LONGEST_DETAIL],
                "clip_moment": moment,
            },
        )

    async def finish(self, violation_id: str, ended_at: datetime) -> bool:
        """It is over; False when it had an end already."""
        return await self._write_evidence(
            violation_id, ViolationRow.ended_at.is_(None), {"ended_at": ended_at}
        )

    async def _write_evidence(
        self, violation_id: str, condition: ColumnElement[bool], values: dict[str, Any]
    ) -> bool:
        changed = await self._tx.execute(
            update(ViolationRow)
            .where(ViolationRow.id == violation_id, condition)
            .values(values)
            .returning(ViolationRow.id)
            .execution_options(synchronize_session=False)
        )
        return changed.first() is not None

    # --- review -------------------------------------------------------------------------------------

    async def review(
        self, violation_id: str, step: Review, actor: str, version: int, now: datetime, comment: str = ""
    ) -> Violation:
        """Take a step, with its line in the log; returns the violation as it is then.

        `version` is the one that the reviewer saw. Raises ReviewConflict when it is another by now, somebody
        else holds it, or it is decided; LookupError without such a violation.
        """
        violation = await self.get(violation_id)
        if violation is None:
            raise LookupError(violation_id)
        transition = _TRANSITIONS.get(step)
        if transition is not None:
            _check(violation, step, transition, actor, version)
            await self._change(violation, _values(transition, violation, actor, now))
        word = str(step) if transition is None else transition.word
        self._tx.add(
            ViolationLogRow(violation_id=violation_id, at=now, actor=actor, event=word, comment=comment)
        )
        await self._tx.flush()
        return await self.get(violation_id) or violation

    async def _change(self, violation: Violation, values: dict[str, Any]) -> None:
        changed = await self._tx.execute(
            update(ViolationRow)
            .where(ViolationRow.id == violation.id, ViolationRow.version == violation.version)
            .values(values | {"version": violation.version + 1})
            .returning(ViolationRow.id)
            .execution_options(synchronize_session=False)
        )
        if changed.first() is None:
            raise ReviewConflict("somebody else changed this violation a moment ago; look again")

    async def log(self, violation_id: str) -> tuple[LogEntry, ...]:
        rows = await self._tx.scalars(
            select(ViolationLogRow)
            .where(ViolationLogRow.violation_id == violation_id)
            .order_by(ViolationLogRow.id)
        )
        return tuple(LogEntry(row.at, row.actor, row.event, row.comment) for row in rows)


def _check(violation: Violation, step: Review, wanted: _Transition, actor: str, version: int) -> None:
    if violation.state in (ViolationState.CONFIRMED, ViolationState.DISMISSED):
        raise ReviewConflict(f"this violation was {violation.state} by {violation.decided_by}")
    holder = violation.claimed_by
    if holder is not None and holder != actor:
        raise ReviewConflict(f"this violation is claimed by {holder}")
    if violation.state not in wanted.sources:
        held = "already claimed by you" if holder else "not claimed by anybody"
        raise ReviewConflict(f"{step}: this violation is {held}")
    if violation.version != version:
        raise ReviewConflict(
            f"this violation is at version {violation.version}, not {version}: it was changed meanwhile"
        )


def _values(transition: _Transition, violation: Violation, actor: str, now: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {"state": str(transition.target)}
    match transition.target:
        case ViolationState.CLAIMED:
            return values | {"claimed_by": actor, "claimed_at": now}
        case ViolationState.OPEN:
            return values | {"claimed_by": None, "claimed_at": None}
    claimed_at = violation.claimed_at or now  # who decides an open one claims it by that
    return values | {"claimed_by": actor, "claimed_at": claimed_at, "decided_by": actor, "decided_at": now}


def _conditions(wanted: ViolationFilter | None) -> list[ColumnElement[bool]]:
    if wanted is None:
        return []
    conditions: list[ColumnElement[bool]] = []
    if wanted.state is not None:
        conditions.append(ViolationRow.state == str(wanted.state))
    if wanted.camera_id is not None:
        conditions.append(ViolationRow.camera_id == wanted.camera_id)
    if wanted.kind is not None:
        conditions.append(ViolationRow.kind == wanted.kind)
    if wanted.since is not None:
        conditions.append(ViolationRow.started_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(ViolationRow.started_at < wanted.until)
    return conditions


def _violation(row: ViolationRow) -> Violation:
    values = {name: getattr(row, name) for name in Violation.__slots__}
    values["boxes"] = tuple((str(box[0]), *map(float, box[1:])) for box in row.boxes)
    values["clip_state"], values["state"] = ClipState(row.clip_state), ViolationState(row.state)
    return Violation(**values)
