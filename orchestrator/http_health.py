"""How the node is: for load balancers and pages (health), and for Prometheus (metrics).

Health is public and says little: what works, which processes run. 200 while the node can hold
meetings, be it "degraded"; 503 and "unavailable" when its database or every media worker is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Literal

import structlog
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy import text

from config.settings import Settings
from foundation.authorisation import Action
from foundation.database import Database, DatabaseError
from foundation.event_bus import EventBus, RedisBus
from foundation.http_edge import Exchange, Route
from foundation.telemetry import Telemetry
from signaling.trunks.trunk import TrunkState

log = structlog.get_logger(__name__)

DATABASE_SECONDS = 2.0
INSIDE = "main"


class NodeOut(BaseModel):
    id: str
    name: str
    level: str


class WorkerOut(BaseModel):
    name: str
    pid: int | None
    state: Literal["ready", "away"]


class TrunkOut(BaseModel):
    name: str
    state: Literal["ready", "starting", "away"]


class HealthOut(BaseModel):
    status: Literal["ok", "degraded", "unavailable"]
    version: str
    node: NodeOut
    workers: list[WorkerOut]
    services: list[WorkerOut]
    trunks: list[TrunkOut]
    database: Literal["ok", "away"]
    bus: Literal["ok", "away"]


class HealthRoutes:
    """`workers` says which media workers answer now: their process ids by name; `services` names the other
    processes, with None for one that is away; `trunks` says how each SIP trunk stands."""

    def __init__(
        self,
        *,
        settings: Settings,
        version: str,
        database: Database,
        bus: EventBus,
        workers: Callable[[], Mapping[str, int]],
        services: Callable[[], Mapping[str, int | None]],
        trunks: Callable[[], Mapping[str, TrunkState]],
        telemetry: Telemetry,
    ) -> None:
        self._node = NodeOut(id=settings.node.id, name=settings.node.name, level=settings.node.level)
        self._expected = [f"media-{index}" for index in range(settings.media.workers)] or [INSIDE]
        self._version = version
        self._database = database
        self._bus = bus
        self._workers = workers
        self._services = services
        self._trunks = trunks
        self._telemetry = telemetry
        self._asking: asyncio.Task[bool] | None = None

    @property
    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/api/v1/health", self.health, "How the node is", None, returns=HealthOut),
            Route("GET", "/metrics", self.metrics, "Figures", Action.VIEW_SYSTEM, local=True),
        )

    async def health(self, _exchange: Exchange) -> web.Response:
        database, bus, workers = await self._database_answers(), self._bus_up(), self._worker_list()
        ready = [worker for worker in workers if worker.state == "ready"]
        services = [_worker(name, pid) for name, pid in self._services().items()]
        trunks = [_trunk(name, state) for name, state in self._trunks().items()]
        states = [one.state for one in (*workers, *services)] + [trunk.state for trunk in trunks]
        status: Literal["ok", "degraded", "unavailable"] = "ok"
        if not database or not ready:
            status = "unavailable"
        elif not bus or "away" in states:
            status = "degraded"
        body = HealthOut(
            status=status,
            version=self._version,
            node=self._node,
            workers=workers,
            services=services,
            trunks=trunks,
            database="ok" if database else "away",
            bus="ok" if bus else "away",
        )
        return web.Response(
            status=503 if status == "unavailable" else 200,
            body=body.model_dump_json().encode(),
            content_type="application/json",
        )

    async def metrics(self, _exchange: Exchange) -> web.Response:
        return web.Response(body=self._telemetry.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _bus_up(self) -> bool:
        return not isinstance(self._bus, RedisBus) or self._bus.connected

    def _worker_list(self) -> list[WorkerOut]:
        answering = dict(self._workers())
        names = [*self._expected, *sorted(answering.keys() - set(self._expected))]
        return [_worker(name, answering.get(name)) for name in names]

    async def _database_answers(self) -> bool:
        """However many ask at once, the database is asked once."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_database(), name="health.database")
        return await asyncio.shield(self._asking)

    async def _ask_database(self) -> bool:
        try:
            async with asyncio.timeout(DATABASE_SECONDS), self._database.reading() as tx:
                await tx.execute(text("SELECT 1 FROM sites LIMIT 1"))
        except (DatabaseError, TimeoutError) as error:
            log.warning("database_away", why=str(error) or "no answer in time")
            return False
        return True


def _trunk(name: str, state: TrunkState) -> TrunkOut:
    if state is TrunkState.STARTING:
        return TrunkOut(name=name, state="starting")
    return TrunkOut(name=name, state="ready" if state.is_up else "away")


def _worker(name: str, pid: int | None) -> WorkerOut:
    return WorkerOut(name=name, pid=pid, state="away" if pid is None else "ready")
