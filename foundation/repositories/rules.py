"""What is looked for in cameras' pictures.

RuleRepository(tx): add, change, remove, get, of_camera, at_work
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from foundation.database import Transaction
from foundation.schema import CameraRow, RuleRow

__all__ = ["Rule", "RuleRepository", "RuledCamera"]

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rule:
    """As RuleSpec of the desks: `zone` in 0..1 of the picture, `schedule` windows of the week."""

    id: str
    camera_id: str
    kind: str
    name: str
    created_at: datetime
    zone: tuple[Point, ...] = ()
    parameters: dict[str, float] = field(default_factory=dict, hash=False)
    schedule: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class RuledCamera:
    """A camera that is on, with the rules that are."""

    camera_id: str
    site_id: str
    name: str
    rules: tuple[Rule, ...]


class RuleRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, rule: Rule) -> None:
        self._tx.add(_row(rule))
        await self._tx.flush()

    async def change(self, rule: Rule) -> None:
        """Replace the rule of that id."""
        await self._tx.merge(_row(rule))
        await self._tx.flush()

    async def remove(self, rule_id: str) -> bool:
        """False when there is no such rule; what it flagged stays."""
        removed = await self._tx.execute(delete(RuleRow).where(RuleRow.id == rule_id).returning(RuleRow.id))
        return removed.first() is not None

    async def get(self, rule_id: str) -> Rule | None:
        row = await self._tx.get(RuleRow, rule_id, populate_existing=True)
        return None if row is None else _rule(row)

    async def of_camera(self, camera_id: str) -> tuple[Rule, ...]:
        """In the order in which they were made."""
        rows = await self._tx.scalars(
            select(RuleRow).where(RuleRow.camera_id == camera_id).order_by(RuleRow.created_at, RuleRow.id)
        )
        return tuple(_rule(row) for row in rows)

    async def at_work(self) -> tuple[RuledCamera, ...]:
        """Every camera that is on and has a rule that is, by id."""
        found = await self._tx.execute(
            select(CameraRow, RuleRow)
            .join(RuleRow, RuleRow.camera_id == CameraRow.id)
            .where(CameraRow.enabled, RuleRow.enabled)
            .order_by(CameraRow.id, RuleRow.created_at, RuleRow.id)
        )
        cameras: dict[str, CameraRow] = {}
        rules: dict[str, list[Rule]] = {}
        for camera, rule in found:
            cameras[camera.id] = camera
            rules.setdefault(camera.id, []).append(_rule(rule))
        return tuple(
            RuledCamera(camera.id, camera.site_id, camera.name, tuple(rules[camera.id]))
            for camera in cameras.values()
        )


def _row(rule: Rule) -> RuleRow:
    return RuleRow(
        id=rule.id,
        camera_id=rule.camera_id,
        kind=rule.kind,
        name=rule.name,
        zone=[list(point) for point in rule.zone],
        parameters=dict(rule.parameters),
        schedule=[dict(window) for window in rule.schedule],
        enabled=rule.enabled,
        created_at=rule.created_at,
    )


def _rule(row: RuleRow) -> Rule:
    return Rule(
        id=row.id,
        camera_id=row.camera_id,
        kind=row.kind,
        name=row.name,
        created_at=row.created_at,
        zone=tuple((float(x), float(y)) for x, y in row.zone),
        parameters=dict(row.parameters),
        schedule=tuple(dict(window) for window in row.schedule),
        enabled=row.enabled,
    )
