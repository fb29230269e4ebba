"""Violations over HTTP: the list, the evidence, the review."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from aiohttp import web
from pydantic import BaseModel, Field

from analytics.snapshot_drawing import with_boxes
from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Action, Authorisation, Resource
from foundation.clock import Clock
from foundation.database import Database
from foundation.event_bus import EventBus
from foundation.events import ViolationChanged
from foundation.http_edge import (
    Exchange,
    Problem,
    Route,
    UtcTime,
    Wanted,
    bad_request,
    conflict,
    in_utc,
    not_found,
)
from foundation.repositories.violations import (
    Review,
    ReviewConflict,
    Violation,
    ViolationFilter,
    ViolationRepository,
    ViolationState,
)

VIOLATIONS = "/api/v1/violations"
log = structlog.get_logger(__name__)


class ViolationQuery(Wanted):
    state: ViolationState | None = None
    camera_id: str | None = Field(default=None, max_length=64)
    kind: str | None = Field(default=None, max_length=32)
    since: UtcTime | None = Field(default=None, alias="from", description="started then or later")
    until: UtcTime | None = Field(default=None, alias="to", description="started before")
    limit: int = Field(default=50, ge=1, le=200)
    after: str | None = Field(default=None, max_length=200, description="`next` of the page before")


class ViolationOut(BaseModel):
    id: str
    camera_id: str
    camera_name: str
    site_id: str
    kind: str
    rule_name: str
    score: float
    started_at: datetime
    ended_at: datetime | None
    state: str = Field(description="open, claimed, confirmed or dismissed")
    clip_state: str = Field(description="pending, ready, partial or missing")
    clip_detail: str
    clip_moment: float | None = Field(description="seconds into the clip at which it began")
    snapshot: bool
    claimed_by: str | None
    decided_by: str | None
    decided_at: datetime | None
    version: int


class ViolationPage(BaseModel):
    items: list[ViolationOut]
    next: str | None


class BoxOut(BaseModel):
    label: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


class LogOut(BaseModel):
    at: datetime
    actor: str
    event: str = Field(description="claimed, released, confirmed, dismissed or comment")
    comment: str


class ViolationDetail(ViolationOut):
    rule: dict[str, Any] = Field(description="what the rule said then")
    model: dict[str, Any] = Field(description="name and sha256 of what detected; empty where nothing had to")
    boxes: list[BoxOut]
    snapshot_sha256: str | None
    snapshot_detail: str
    clip_sha256: str | None
    log: list[LogOut]


class ReviewBody(Wanted):
    action: Review
    version: int = Field(ge=1, description="the one that the reviewer saw")
    comment: str = Field(default="", max_length=4000)


class SnapshotQuery(Wanted):
    boxes: bool = True


class SummaryOut(BaseModel):
    open: int
    claimed: int
    today: int = Field(description="started today, whatever became of them")
    by_kind: dict[str, int] = Field(description="open and claimed")


class ViolationRoutes:
    """`evidence` is the folder of evidence; a day begins at midnight in `time_zone`. What one may not see is
    answered like what is not there."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        authorisation: Authorisation,
        bus: EventBus,
        evidence: Path,
        time_zone: str,
    ) -> None:
        self._database = database
        self._clock = clock
        self._authorisation = authorisation
        self._bus = bus
        self._evidence = evidence
        self._zone = ZoneInfo(time_zone)

    @property
    def routes(self) -> tuple[Route, ...]:
        view, one, here = Action.VIEW_VIOLATIONS, f"{VIOLATIONS}/{{id}}", self._resource
        return (
            Route(
                "GET",
                VIOLATIONS,
                self.page,
                "Violations, the newest first",
                view,
                returns=ViolationPage,
                query=ViolationQuery,
                filtered=True,
            ),
            Route(
                "GET",
                f"{VIOLATIONS}/summary",
                self.summary,
                "How many wait",
                view,
                returns=SummaryOut,
                filtered=True,
            ),
            Route("GET", one, self.show, "A violation", view, here, returns=ViolationDetail),
            Route(
                "GET",
                f"{one}/snapshot.jpg",
                self.snapshot,
                "Its picture, with boxes or (boxes=0) as it was written",
                view,
                here,
                query=SnapshotQuery,
            ),
            Route("GET", f"{one}/clip.mp4", self.clip, "The seconds around it", view, here),
            Route(
                "POST",
                f"{one}/review",
                self.review,
                "Claim, release, confirm, dismiss, comment",
                Action.REVIEW_VIOLATION,
                here,
                ReviewBody,
                ViolationOut,
            ),
        )

    async def _resource(self, exchange: Exchange) -> Resource:
        violation = await self._find(exchange)
        resource = Resource("violation", violation.id, violation.site_id)
        if not self._authorisation.allowed(exchange.who, Action.VIEW_VIOLATIONS, resource):
            raise _no_violation(exchange)
        return resource

    async def _find(self, exchange: Exchange) -> Violation:
        async with self._database.reading() as tx:
            violation = await ViolationRepository(tx).get(exchange.path["id"])
        if violation is None:
            raise _no_violation(exchange)
        return violation

    # --- reading ------------------------------------------------------------------------------------

    async def page(self, exchange: Exchange) -> ViolationPage:
        asked = exchange.asked(ViolationQuery)
        sites = self._authorisation.sites(exchange.who, Action.VIEW_VIOLATIONS)
        wanted = ViolationFilter(asked.state, asked.camera_id, asked.kind, asked.since, asked.until)
        after = None if asked.after is None else _place(asked.after)
        async with self._database.reading() as tx:
            found = await ViolationRepository(tx).page(sites, wanted, after=after, limit=asked.limit + 1)
        items, more = found[: asked.limit], len(found) > asked.limit
        following = _token(items[-1]) if more else None
        return ViolationPage(items=[ViolationOut(**_values(one)) for one in items], next=following)

    async def summary(self, exchange: Exchange) -> SummaryOut:
        sites = self._authorisation.sites(exchange.who, Action.VIEW_VIOLATIONS)
        now = self._clock.now().astimezone(self._zone)
        today = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
        async with self._database.reading() as tx:
            summary = await ViolationRepository(tx).summary(sites, today)
        return SummaryOut(
            open=summary.open, claimed=summary.claimed, today=summary.today, by_kind=summary.by_kind
        )

    async def show(self, exchange: Exchange) -> ViolationDetail:
        violation = await self._find(exchange)
        async with self._database.reading() as tx:
            entries = await ViolationRepository(tx).log(violation.id)
        return ViolationDetail(
            **_values(violation),
            rule=violation.rule,
            model=violation.model,
            boxes=[
                BoxOut(label=label, score=score, x1=x1, y1=y1, x2=x2, y2=y2)
                for label, score, x1, y1, x2, y2 in violation.boxes
            ],
            snapshot_sha256=violation.snapshot_sha256,
            snapshot_detail=violation.snapshot_detail,
            clip_sha256=violation.clip_sha256,
            log=[
                LogOut(at=entry.at, actor=entry.actor, event=entry.event, comment=entry.comment)
                for entry in entries
            ],
        )

    # --- evidence -----------------------------------------------------------------------------------

    async def snapshot(self, exchange: Exchange) -> web.Response:
        violation = await self._find(exchange)
        if violation.snapshot_path is None:
            raise not_found(violation.snapshot_detail or "this violation has no snapshot")
        path = self._evidence / violation.snapshot_path
        jpeg = await asyncio.to_thread(_check, path, violation.snapshot_sha256, "snapshot")
        if exchange.asked(SnapshotQuery).boxes:
            try:
                jpeg = await asyncio.to_thread(with_boxes, jpeg, violation)
            except ValueError as error:
                raise Problem(500, "Evidence damaged", str(error)) from None
        return web.Response(body=jpeg, content_type="image/jpeg")

    async def clip(self, exchange: Exchange) -> web.FileResponse:
        violation = await self._find(exchange)
        if violation.clip_path is None:
            raise not_found(violation.clip_detail or "the clip is not there yet")
        path = self._evidence / violation.clip_path
        await asyncio.to_thread(_check, path, violation.clip_sha256, "clip")  # some megabytes: milliseconds
        return web.FileResponse(path, headers={"Content-Type": "video/mp4"})

    # --- review -------------------------------------------------------------------------------------

    async def review(self, exchange: Exchange) -> ViolationOut:
        wanted = exchange.parsed(ReviewBody)
        comment = wanted.comment.strip()
        if wanted.action is Review.COMMENT and not comment:
            raise bad_request("comment: there is none")
        violation_id, actor = exchange.path["id"], exchange.name
        try:
            async with self._database.transaction() as tx:
                violation = await ViolationRepository(tx).review(
                    violation_id, wanted.action, actor, wanted.version, self._clock.now(), comment
                )
                detail = {"comment": comment, "state": str(violation.state), "version": violation.version}
                subject, action = f"violation:{violation_id}", f"{wanted.action}-violation"
                entry = AuditEntry(actor, action, subject, "done", exchange.address, detail)
                await AuditTrail(tx, self._clock).append(entry)
        except ReviewConflict as error:
            raise conflict(str(error)) from None
        except LookupError:
            raise _no_violation(exchange) from None
        self._bus.publish(
            ViolationChanged(violation.id, violation.camera_id, violation.site_id, str(violation.state))
        )
        return ViolationOut(**_values(violation))


def _values(violation: Violation) -> dict[str, Any]:
    values = {name: getattr(violation, name, None) for name in ViolationOut.model_fields}
    values["rule_name"] = str(violation.rule.get("name", ""))
    values["state"], values["clip_state"] = str(violation.state), str(violation.clip_state)
    values["snapshot"] = violation.snapshot_path is not None
    return values


def _check(path: Path, sha256: str | None, what: str) -> bytes:
    """The file, if it is still what was written. Raises the problem that says what happened to it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        log.error("evidence_gone", path=str(path))
        raise not_found(f"the {what}'s file is gone from the folder of evidence") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        log.error("evidence_altered", path=str(path))
        raise Problem(500, "Evidence damaged", f"the {what}'s file is not the one that was written")
    return data


def _token(last: Violation) -> str:
    place = f"{last.started_at.astimezone(UTC).isoformat()} {last.id}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _place(token: str) -> tuple[datetime, str]:
    """Where a page ended. Raises the 400 problem."""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii")
        at, violation_id = text.split(" ")
        started = datetime.fromisoformat(at)
        if started.tzinfo is None:
            raise ValueError("a time without its zone")
        return in_utc(started), violation_id
    except ValueError:
        raise bad_request("after: it is not the `next` of a page") from None


def _no_violation(exchange: Exchange) -> Problem:
    return not_found(f"there is no violation {exchange.path['id']!r}")
