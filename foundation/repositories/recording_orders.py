"""What is to be recorded until further notice, and what recordings are of.

OrderRepository(tx): give, end, get, all, in_force
SubjectRepository(tx): get, names, with_rules
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import and_, delete, or_, select

from foundation.database import Transaction
from foundation.repositories.recordings import RecordingKind
from foundation.schema import CameraRow, ConferenceRow, RecordingOrderRow, RuleRow

__all__ = ["GivenOrder", "OrderRepository", "RecordedSubject", "SubjectRepository"]

_SOME = 500


@dataclass(frozen=True, slots=True)
class GivenOrder:
    """Who ordered what to be recorded; `site_id` is whose recording it will be."""

    kind: RecordingKind
    subject: str
    site_id: str
    ordered_by: str
    ordered_at: datetime


@dataclass(frozen=True, slots=True)
class RecordedSubject:
    """A camera or a conference; `active` while it can be recorded (enabled, not ended)."""

    kind: RecordingKind
    id: str
    name: str
    site_id: str
    active: bool


class OrderRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def give(self, order: GivenOrder) -> bool:
        """False when it stands already; it is left as it was."""
        if await self.get(order.kind, order.subject) is not None:
            return False
        self._tx.add(
            RecordingOrderRow(
                kind=str(order.kind),
                subject=order.subject,
                site_id=order.site_id,
                ordered_by=order.ordered_by,
                ordered_at=order.ordered_at,
            )
        )
        await self._tx.flush()
        return True

    async def end(self, kind: RecordingKind, subject: str) -> bool:
        """Withdraw an order; False when there was none."""
        removed = await self._tx.execute(
            delete(RecordingOrderRow)
            .where(RecordingOrderRow.kind == str(kind), RecordingOrderRow.subject == subject)
            .returning(RecordingOrderRow.subject)
            .execution_options(synchronize_session=False)
        )
        return removed.first() is not None

    async def get(self, kind: RecordingKind, subject: str) -> GivenOrder | None:
        row = await self._tx.get(RecordingOrderRow, (str(kind), subject), populate_existing=True)
        return None if row is None else _order(row)

    async def all(self) -> tuple[GivenOrder, ...]:
        """Every order, by kind and subject."""
        query = select(RecordingOrderRow).order_by(RecordingOrderRow.kind, RecordingOrderRow.subject)
        return tuple(_order(row) for row in await self._tx.scalars(query))

    async def in_force(self) -> tuple[GivenOrder, ...]:
        """Orders for enabled cameras and for conferences that have not ended; the others rest.

        `site_id` is where the subject is now.
        """
        query = (
            select(RecordingOrderRow, CameraRow.site_id, ConferenceRow.host_site_id)
            .outerjoin(CameraRow, CameraRow.id == RecordingOrderRow.subject)
            .outerjoin(ConferenceRow, ConferenceRow.id == RecordingOrderRow.subject)
            .where(
                or_(
                    and_(RecordingOrderRow.kind == str(RecordingKind.CAMERA), CameraRow.enabled.is_(True)),
                    and_(
                        RecordingOrderRow.kind == str(RecordingKind.CONFERENCE),
                        ConferenceRow.id.is_not(None),
                        ConferenceRow.ended_at.is_(None),
                    ),
                )
            )
            .order_by(RecordingOrderRow.kind, RecordingOrderRow.subject)
        )
        return tuple(
            replace(_order(row), site_id=at if row.kind == str(RecordingKind.CAMERA) else host)
            for row, at, host in await self._tx.execute(query)
        )


class SubjectRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def get(self, kind: RecordingKind, subject: str) -> RecordedSubject | None:
        if kind is RecordingKind.CAMERA:
            camera = await self._tx.get(CameraRow, subject, populate_existing=True)
            if camera is None:
                return None
            return RecordedSubject(kind, camera.id, camera.name, camera.site_id, camera.enabled)
        meeting = await self._tx.get(ConferenceRow, subject, populate_existing=True)
        if meeting is None:
            return None
        return RecordedSubject(
            kind, meeting.id, meeting.title, meeting.host_site_id, meeting.ended_at is None
        )

    async def names(
        self, wanted: Iterable[tuple[RecordingKind, str]]
    ) -> dict[tuple[RecordingKind, str], str]:
        """Names of cameras and titles of conferences, of those that there still are."""
        asked = set(wanted)
        cameras = sorted(subject for kind, subject in asked if kind is RecordingKind.CAMERA)
        meetings = sorted(subject for kind, subject in asked if kind is RecordingKind.CONFERENCE)
        found: dict[tuple[RecordingKind, str], str] = {}
        for at in range(0, len(cameras), _SOME):
            some = CameraRow.id.in_(cameras[at : at + _SOME])
            for camera_id, name in await self._tx.execute(select(CameraRow.id, CameraRow.name).where(some)):
                found[RecordingKind.CAMERA, camera_id] = name
        for at in range(0, len(meetings), _SOME):
            some = ConferenceRow.id.in_(meetings[at : at + _SOME])
            for meeting_id, title in await self._tx.execute(
                select(ConferenceRow.id, ConferenceRow.title).where(some)
            ):
                found[RecordingKind.CONFERENCE, meeting_id] = title
        return found

    async def with_rules(self) -> tuple[str, ...]:
        """Enabled cameras that have an enabled rule: their last seconds are kept."""
        query = (
            select(RuleRow.camera_id)
            .join(CameraRow, CameraRow.id == RuleRow.camera_id)
            .where(RuleRow.enabled.is_(True), CameraRow.enabled.is_(True))
            .distinct()
            .order_by(RuleRow.camera_id)
        )
        return tuple(await self._tx.scalars(query))


def _order(row: RecordingOrderRow) -> GivenOrder:
    return GivenOrder(RecordingKind(row.kind), row.subject, row.site_id, row.ordered_by, row.ordered_at)
