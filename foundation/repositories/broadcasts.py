"""Live broadcasts: who started which of what, and when it was stopped.

BroadcastRepository(tx): subject, add, get, running, of_subject, recent, change, stop
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, false, or_, select, update
from sqlalchemy.exc import IntegrityError

from foundation.database import Transaction
from foundation.schema import BroadcastRow, CameraRow, ConferenceRow
from foundation.secrets import Cell, secrets_of

__all__ = ["Broadcast", "BroadcastKind", "BroadcastNameTaken", "BroadcastRepository", "BroadcastSubject"]


class BroadcastKind(StrEnum):
    CONFERENCE = "conference"
    CAMERA = "camera"


class BroadcastNameTaken(ValueError):
    """Another broadcast of that name is running."""


@dataclass(frozen=True, slots=True)
class BroadcastSubject:
    """What may be broadcast: whose it is, what people call it, whether there is anything to show."""

    site_id: str
    title: str
    running: bool


@dataclass(frozen=True, slots=True)
class Broadcast:
    """`name` is its address while it runs; `push_url` holds a platform's secret. Runs until `stopped_at`."""

    id: str
    name: str
    title: str
    kind: BroadcastKind
    subject: str
    site_id: str
    public: bool
    delay_seconds: float
    push_url: str = field(repr=False)
    started_by: str
    started_at: datetime
    stopped_at: datetime | None = None

    @property
    def stream_id(self) -> str:
        """The name of its pictures' stream (`media.stream_source`)."""
        kind = "programme" if self.kind is BroadcastKind.CONFERENCE else "camera"
        return f"{kind}:{self.subject}"


class BroadcastRepository:
    """All of it inside the caller's transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def subject(self, kind: BroadcastKind, subject: str) -> BroadcastSubject | None:
        """The meeting or camera; None when there is none of that id."""
        if kind is BroadcastKind.CAMERA:
            camera = await self._tx.get(CameraRow, subject)
            return None if camera is None else BroadcastSubject(camera.site_id, camera.name, camera.enabled)
        conference = await self._tx.get(ConferenceRow, subject, populate_existing=True)
        if conference is None:
            return None
        return BroadcastSubject(conference.host_site_id, conference.title, conference.state != "ended")

    async def add(self, broadcast: Broadcast) -> None:
        """Raises BroadcastNameTaken."""
        taken = select(BroadcastRow.id).where(
            BroadcastRow.name == broadcast.name, BroadcastRow.stopped_at.is_(None)
        )
        if await self._tx.scalar(taken) is not None:
            raise BroadcastNameTaken(f"a broadcast named {broadcast.name!r} is running")
        self._tx.add(
            BroadcastRow(
                id=broadcast.id,
                name=broadcast.name,
                title=broadcast.title,
                kind=str(broadcast.kind),
                subject=broadcast.subject,
                site_id=broadcast.site_id,
                public=broadcast.public,
                delay_seconds=broadcast.delay_seconds,
                push_url=self._sealed(broadcast.id, broadcast.push_url),
                started_by=broadcast.started_by,
                started_at=broadcast.started_at,
                stopped_at=broadcast.stopped_at,
            )
        )
        try:
            await self._tx.flush()
        except IntegrityError:
            raise BroadcastNameTaken(f"a broadcast named {broadcast.name!r} is running") from None

    async def get(self, broadcast_id: str) -> Broadcast | None:
        row = await self._tx.get(BroadcastRow, broadcast_id, populate_existing=True)
        return None if row is None else self._broadcast(row)

    async def running(self) -> tuple[Broadcast, ...]:
        """The oldest first."""
        rows = await self._tx.scalars(
            select(BroadcastRow)
            .where(BroadcastRow.stopped_at.is_(None))
            .order_by(BroadcastRow.started_at, BroadcastRow.id)
        )
        return tuple(self._broadcast(row) for row in rows)

    async def of_subject(self, kind: BroadcastKind, subject: str) -> tuple[Broadcast, ...]:
        """All there were of one camera or conference, in order."""
        rows = await self._tx.scalars(
            select(BroadcastRow)
            .where(BroadcastRow.kind == str(kind), BroadcastRow.subject == subject)
            .order_by(BroadcastRow.started_at, BroadcastRow.id)
        )
        return tuple(self._broadcast(row) for row in rows)

    async def recent(
        self, sites: Mapping[BroadcastKind, Collection[str]], stopped: int = 50
    ) -> tuple[Broadcast, ...]:
        """Those that run and the newest `stopped` others, newest first, of each kind at these sites only."""
        seen = or_(
            false(),
            *(
                and_(BroadcastRow.kind == str(kind), BroadcastRow.site_id.in_(allowed))
                for kind, allowed in sites.items()
            ),
        )
        newest = (BroadcastRow.started_at.desc(), BroadcastRow.id)
        runs = await self._tx.scalars(
            select(BroadcastRow).where(seen, BroadcastRow.stopped_at.is_(None)).order_by(*newest)
        )
        over = await self._tx.scalars(
            select(BroadcastRow)
            .where(seen, BroadcastRow.stopped_at.is_not(None))
            .order_by(*newest)
            .limit(stopped)
        )
        return tuple(self._broadcast(row) for row in (*runs, *over))

    async def change(
        self,
        broadcast_id: str,
        *,
        title: str | None = None,
        delay_seconds: float | None = None,
        push_url: str | None = None,
    ) -> bool:
        """Change what is given of a running broadcast; False when it does not run."""
        given = {"title": title, "delay_seconds": delay_seconds, "push_url": push_url}
        values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if push_url is not None:
            values["push_url"] = self._sealed(broadcast_id, push_url)
        if not values:
            found = await self.get(broadcast_id)
            return found is not None and found.stopped_at is None
        changed = await self._tx.execute(
            update(BroadcastRow)
            .where(BroadcastRow.id == broadcast_id, BroadcastRow.stopped_at.is_(None))
            .values(**values)
            .returning(BroadcastRow.id)
            .execution_options(synchronize_session=False)
        )
        return changed.first() is not None

    async def stop(self, broadcast_id: str, at: datetime) -> bool:
        """Forget the push address and end it; False when it did not run (any more)."""
        changed = await self._tx.execute(
            update(BroadcastRow)
            .where(BroadcastRow.id == broadcast_id, BroadcastRow.stopped_at.is_(None))
            .values(stopped_at=at, push_url=None)
            .returning(BroadcastRow.id)
            .execution_options(synchronize_session=False)
        )
        return changed.first() is not None

    def _sealed(self, broadcast_id: str, push_url: str) -> str | None:
        return secrets_of(self._tx).seal(_push_url_of(broadcast_id), push_url) if push_url else None

    def _broadcast(self, row: BroadcastRow) -> Broadcast:
        cell = _push_url_of(row.id)
        return Broadcast(
            id=row.id,
            name=row.name,
            title=row.title,
            kind=BroadcastKind(row.kind),
            subject=row.subject,
            site_id=row.site_id,
            public=row.public,
            delay_seconds=row.delay_seconds,
            push_url=secrets_of(self._tx).open(cell, row.push_url) if row.push_url else "",
            started_by=row.started_by,
            started_at=row.started_at,
            stopped_at=row.stopped_at,
        )


def _push_url_of(broadcast_id: str) -> Cell:
    return Cell("broadcasts", "push_url", (broadcast_id,))
