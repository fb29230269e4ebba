"""Rules of cameras over HTTP, and how their analysis does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from analytics.rule_kinds import RULE_KINDS, ParameterFault, settled
from analytics.schedule import MOST_WINDOWS, Schedule, ScheduleFault
from analytics.vision_plans import VisionPlans
from analytics.zones import MOST_POINTS, Zone, ZoneFault
from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Action, Authorisation, Resource
from foundation.clock import Clock
from foundation.database import Database
from foundation.event_bus import EventBus
from foundation.events import CameraChanged
from foundation.http_edge import Exchange, Problem, Route, Wanted, conflict, not_found
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.rules import Rule, RuleRepository
from foundation.schema import new_id

CAMERAS, RULES = "/api/v1/cameras", "/api/v1/rules"
MOST_RULES = 32
"""Of one camera."""

PointIn = Annotated[list[float], Field(min_length=2, max_length=2)]
Zoned = Annotated[list[PointIn], Field(max_length=MOST_POINTS, description="points [x, y] in 0..1")]
Parameters = Annotated[dict[str, float], Field(max_length=32)]


class Hours(Wanted):
    """Day 0 is Monday. `to` may be "24:00"; an end that is not after `from` is on the next day."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    days: list[int] = Field(min_length=1, max_length=7)
    start: str = Field(alias="from")
    end: str = Field(alias="to")


Hourly = Annotated[list[Hours], Field(max_length=MOST_WINDOWS, description="empty is always")]


class RuleOut(BaseModel):
    id: str
    camera_id: str
    kind: str
    name: str
    zone: list[PointIn]
    parameters: dict[str, float]
    schedule: list[dict[str, Any]]
    enabled: bool


class NewRule(Wanted):
    kind: str
    name: str = Field(min_length=1, max_length=200)
    zone: Zoned = Field(default_factory=list)
    parameters: Parameters = Field(default_factory=dict)
    schedule: Hourly = Field(default_factory=list)
    enabled: bool = True


class RulePatch(Wanted):
    kind: str | None = None
    name: str | None = Field(default=None, min_length=1, max_length=200)
    zone: Zoned | None = None
    parameters: Parameters | None = None
    schedule: Hourly | None = None
    enabled: bool | None = None


class ParameterOut(BaseModel):
    name: str
    default: float
    min: float
    max: float
    unit: str = Field(description="s, looks, levels (of brightness, 0..255) or share (0..1)")


class RuleKindOut(BaseModel):
    kind: str
    needs_zone: bool
    parameters: list[ParameterOut]


class AnalysisOut(BaseModel):
    camera_id: str
    state: str = Field(description="waiting, watching, overloaded or failed")
    detail: str
    samples: int
    inferences: int
    wanted_rate: float
    achieved_rate: float
    last_sample_ago: float | None
    persons: int
    model: str = Field(description="name and digest of what detects, or why nothing does")


class RuleRoutes:
    """Schedules are in `time_zone`. What one may not see is answered like what is not there."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        authorisation: Authorisation,
        bus: EventBus,
        plans: VisionPlans,
        time_zone: str,
    ) -> None:
        self._database = database
        self._clock = clock
        self._authorisation = authorisation
        self._bus = bus
        self._plans = plans
        self._time_zone = time_zone

    @property
    def routes(self) -> tuple[Route, ...]:
        view, control = Action.VIEW_VIOLATIONS, Action.CONTROL_CAMERA
        one, of_camera = f"{RULES}/{{id}}", f"{CAMERAS}/{{id}}/rules"
        camera, rule = self._camera_resource, self._rule_resource
        return (
            Route(
                "GET",
                "/api/v1/rule-kinds",
                self.kinds,
                "What can be looked for",
                view,
                returns=list[RuleKindOut],
                filtered=True,
            ),
            Route("GET", of_camera, self.of_camera, "Rules", view, camera, returns=list[RuleOut]),
            Route("POST", of_camera, self.add, "Add a rule", control, camera, NewRule, RuleOut, 201),
            Route("PATCH", one, self.change, "Change a rule", control, rule, RulePatch, RuleOut),
            Route("DELETE", one, self.remove, "Remove a rule", control, rule, status=204),
            Route(
                "GET",
                f"{CAMERAS}/{{id}}/analysis",
                self.analysis,
                "How the analysis of a camera does",
                Action.LIST_CAMERAS,
                self._known_camera,
                returns=AnalysisOut,
            ),
        )

    # --- permission's resources ---------------------------------------------------------------------

    async def _camera_resource(self, exchange: Exchange) -> Resource:
        return await self._found(exchange, Action.VIEW_VIOLATIONS)

    async def _known_camera(self, exchange: Exchange) -> Resource:
        """Who runs the cameras must learn why one is not analysed."""
        return await self._found(exchange, Action.LIST_CAMERAS)

    async def _found(self, exchange: Exchange, action: Action) -> Resource:
        camera = await self._camera(exchange.path["id"])
        if camera is None:
            raise _no_camera(exchange.path["id"])
        return self._seen(exchange, action, camera, _no_camera(camera.id))

    async def _rule_resource(self, exchange: Exchange) -> Resource:
        async with self._database.reading() as tx:
            rule = await RuleRepository(tx).get(exchange.path["id"])
        camera = None if rule is None else await self._camera(rule.camera_id)
        if camera is None:
            raise _no_rule(exchange.path["id"])
        return self._seen(exchange, Action.VIEW_VIOLATIONS, camera, _no_rule(exchange.path["id"]))

    def _seen(self, exchange: Exchange, action: Action, camera: Camera, otherwise: Problem) -> Resource:
        resource = Resource("camera", camera.id, camera.site_id)
        if not self._authorisation.allowed(exchange.who, action, resource):
            raise otherwise
        return resource

    async def _camera(self, camera_id: str) -> Camera | None:
        async with self._database.reading() as tx:
            return await CameraRepository(tx).get(camera_id)

    # --- handlers -----------------------------------------------------------------------------------

    async def kinds(self, _exchange: Exchange) -> list[RuleKindOut]:
        return [
            RuleKindOut(
                kind=kind.kind,
                needs_zone=kind.needs_zone,
                parameters=[
                    ParameterOut(
                        name=one.name, default=one.default, min=one.least, max=one.most, unit=one.unit
                    )
                    for one in kind.parameters
                ],
            )
            for kind in RULE_KINDS.values()
        ]

    async def of_camera(self, exchange: Exchange) -> list[RuleOut]:
        async with self._database.reading() as tx:
            return [_out(rule) for rule in await RuleRepository(tx).of_camera(exchange.path["id"])]

    async def add(self, exchange: Exchange) -> RuleOut:
        wanted = exchange.parsed(NewRule)
        rule = self._checked(
            Rule(
                id=new_id(),
                camera_id=exchange.path["id"],
                kind=wanted.kind,
                name=wanted.name,
                created_at=self._clock.now(),
                zone=_points(wanted.zone),
                parameters=wanted.parameters,
                schedule=_windows(wanted.schedule),
                enabled=wanted.enabled,
            )
        )

        async def write(rules: RuleRepository) -> tuple[Rule, dict[str, Any]]:
            if len(await rules.of_camera(rule.camera_id)) >= MOST_RULES:
                raise conflict(f"a camera has at most {MOST_RULES} rules")
            await rules.add(rule)
            return rule, _out(rule).model_dump()

        return await self._write(exchange, "add-rule", rule.id, write)

    async def change(self, exchange: Exchange) -> RuleOut:
        wanted = exchange.parsed(RulePatch)
        rule_id = exchange.path["id"]

        async def write(rules: RuleRepository) -> tuple[Rule, dict[str, Any]]:
            before = await rules.get(rule_id)
            if before is None:
                raise _no_rule(rule_id)
            after = self._checked(_patched(before, wanted))
            await rules.change(after)
            old, new = _out(before).model_dump(), _out(after).model_dump()
            changed = [key for key in new if new[key] != old[key]]
            detail = {key: new[key] for key in changed}
            return after, {**detail, "before": {key: old[key] for key in changed}}

        return await self._write(exchange, "change-rule", rule_id, write)

    async def remove(self, exchange: Exchange) -> None:
        rule_id = exchange.path["id"]

        async def write(rules: RuleRepository) -> tuple[Rule, dict[str, Any]]:
            rule = await rules.get(rule_id)
            if rule is None:
                raise _no_rule(rule_id)
            await rules.remove(rule_id)
            return rule, _out(rule).model_dump()

        await self._write(exchange, "remove-rule", rule_id, write)

    async def analysis(self, exchange: Exchange) -> AnalysisOut:
        status = self._plans.status(exchange.path["id"])
        report = self._plans.report
        return AnalysisOut(
            camera_id=status.camera_id,
            state=status.state,
            detail=status.detail,
            samples=status.samples,
            inferences=status.inferences,
            wanted_rate=status.wanted_rate,
            achieved_rate=round(status.achieved_rate, 2),
            last_sample_ago=status.last_sample_ago,
            persons=status.persons,
            model="" if report is None else report.model,
        )

    async def _write(
        self,
        exchange: Exchange,
        action: str,
        rule_id: str,
        write: Callable[[RuleRepository], Awaitable[tuple[Rule, dict[str, Any]]]],
    ) -> RuleOut:
        """One transaction for the change and its audit row; then it is told."""
        async with self._database.transaction() as tx:
            rule, detail = await write(RuleRepository(tx))
            camera = await CameraRepository(tx).get(rule.camera_id)
            if camera is None:
                raise _no_camera(rule.camera_id)
            entry = AuditEntry(exchange.name, action, f"rule:{rule_id}", "done", exchange.address, detail)
            await AuditTrail(tx, self._clock).append(entry)
        self._bus.publish(CameraChanged(camera.id, camera.site_id))
        return _out(rule)

    def _checked(self, rule: Rule) -> Rule:
        """The rule with every parameter of its kind. Raises the 422 problem that says what cannot be."""
        kind = RULE_KINDS.get(rule.kind)
        if kind is None:
            raise _invalid(f"kind: {rule.kind!r} is none of {', '.join(RULE_KINDS)}")
        if kind.needs_zone and not rule.zone:
            raise _invalid(f"zone: {rule.kind} needs one (the whole picture is [[0,0],[1,0],[1,1],[0,1]])")
        if rule.zone and not kind.needs_zone:
            raise _invalid(f"zone: {rule.kind} judges the whole picture")
        try:
            Zone(rule.zone)
        except ZoneFault as fault:
            raise _invalid(f"zone: {fault}") from None
        try:
            Schedule.of(rule.schedule, self._time_zone)
        except ScheduleFault as fault:
            raise _invalid(f"schedule: {fault}") from None
        try:
            return replace(rule, parameters=settled(rule.kind, rule.parameters))
        except ParameterFault as fault:
            raise _invalid(f"parameters: {fault}") from None


def _patched(before: Rule, wanted: RulePatch) -> Rule:
    after = before
    if wanted.kind is not None and wanted.kind != before.kind:
        after = replace(after, kind=wanted.kind, parameters={})
        if wanted.zone is None and wanted.kind in RULE_KINDS and not RULE_KINDS[wanted.kind].needs_zone:
            after = replace(after, zone=())
    if wanted.name is not None:
        after = replace(after, name=wanted.name)
    if wanted.zone is not None:
        after = replace(after, zone=_points(wanted.zone))
    if wanted.parameters is not None:
        after = replace(after, parameters=wanted.parameters)
    if wanted.schedule is not None:
        after = replace(after, schedule=_windows(wanted.schedule))
    if wanted.enabled is not None:
        after = replace(after, enabled=wanted.enabled)
    return after


def _points(points: list[list[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in points)


def _windows(windows: list[Hours]) -> tuple[dict[str, Any], ...]:
    return tuple({"days": sorted(set(one.days)), "from": one.start, "to": one.end} for one in windows)


def _out(rule: Rule) -> RuleOut:
    return RuleOut(
        id=rule.id,
        camera_id=rule.camera_id,
        kind=rule.kind,
        name=rule.name,
        zone=[list(point) for point in rule.zone],
        parameters=rule.parameters,
        schedule=list(rule.schedule),
        enabled=rule.enabled,
    )


def _invalid(detail: str) -> Problem:
    return Problem(422, "Invalid rule", detail)


def _no_camera(camera_id: str) -> Problem:
    return not_found(f"there is no camera {camera_id!r}")


def _no_rule(rule_id: str) -> Problem:
    return not_found(f"there is no rule {rule_id!r}")
