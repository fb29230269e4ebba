"""The HTTP listener of main: every domain's routes, the pages, live events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib.metadata import version
from zoneinfo import ZoneInfo

from aiohttp import web

from config.settings import Settings
from foundation.address_bounds import AddressBounds
from foundation.http_edge import Route
from foundation.identity import Identity, SessionLimits
from foundation.tasks import TaskScope
from orchestrator import edge_door
from orchestrator.certificate import server_context
from orchestrator.edge_door import Door
from orchestrator.guest_passes import GuestPasses
from orchestrator.http_audit import AuditRoutes
from orchestrator.http_health import HealthRoutes
from orchestrator.http_ice import IceRoutes
from orchestrator.http_session import SessionRoutes
from orchestrator.http_sites import SiteRoutes
from orchestrator.http_users import UserRoutes
from orchestrator.live_events import LiveEvents
from orchestrator.main_parts import MainParts, Signalling
from orchestrator.peer_address import TrustedProxies
from orchestrator.resources import pages_folder
from orchestrator.surveillance import Surveillance
from orchestrator.web_app import Edge, build_app
from signaling.browser_calls import BrowserCalls
from signaling.http_conferences import ConferenceRoutes
from signaling.http_minutes import MinutesRoutes
from signaling.http_registrations import RegistrationRoutes
from signaling.http_schedules import ScheduleRoutes
from signaling.http_streams import StreamRoutes
from signaling.http_trunks import TrunkRoutes
from signaling.meeting_history import MeetingHistory
from signaling.minutes import MinutesBook

BESIDE_SOCKETS = 3000
BESIDE_SOCKETS_OF_ONE = 500
"""Connections of pages and tools that are no live sockets, in all and of one address."""


class MainHttp:
    """`start` once everything that the routes ask is running."""

    def __init__(self, parts: MainParts, signalling: Signalling, surveillance: Surveillance) -> None:
        self._parts = parts
        self._signalling = signalling
        self._surveillance = surveillance
        limits = parts.settings.sessions
        self._identity = Identity(
            parts.database,
            parts.clock,
            parts.passwords,
            limits=SessionLimits(timedelta(seconds=limits.idle), timedelta(seconds=limits.absolute)),
        )
        self._guests = GuestPasses(parts.database, parts.clock)
        self._history = MeetingHistory(parts.database, parts.clock)
        self._edge = Edge(
            settings=parts.settings,
            identity=self._identity,
            authorisation=parts.authorisation,
            guests=self._guests,
        )
        http = parts.settings.http
        self._live = LiveEvents(
            edge=self._edge,
            bus=parts.bus,
            authorisation=parts.authorisation,
            host_site=self._history.host_site,
            telemetry=parts.telemetry,
            most=http.live_sockets,
            crowd=AddressBounds(http.live_sockets_of_one, TrustedProxies(http.trusted_proxies).networks),
        )

    async def start(self, stack: AsyncExitStack, scope: TaskScope) -> None:
        """Raises OSError when the port cannot be had."""
        settings = self._parts.settings
        routes = (*self._people(), *self._meetings(), *self._surveillance.routes, *self._node())
        app = build_app(self._edge, (*routes, *self._live.routes), pages_folder(), version("anshi"))
        self._live.mount(app)
        await listen(settings, app, stack, scope)
        scope.supervise("sessions", self._forget_sessions)

    def _sessions_changed(self) -> None:
        self._live.sessions_changed()
        self._signalling.viewings.check_now()

    def _people(self) -> tuple[Route, ...]:
        parts = self._parts
        return (
            *SessionRoutes(
                identity=self._identity,
                guests=self._guests,
                meetings=self._signalling.meetings,
                passwords=parts.passwords,
                database=parts.database,
                clock=parts.clock,
                sessions_changed=self._sessions_changed,
            ).routes,
            *UserRoutes(
                database=parts.database,
                clock=parts.clock,
                identity=self._identity,
                passwords=parts.passwords,
                authorisation=parts.authorisation,
                sessions_changed=self._sessions_changed,
            ).routes,
        )

    def _meetings(self) -> tuple[Route, ...]:
        parts, signalling = self._parts, self._signalling
        network = parts.settings.browser_network
        return (
            *ConferenceRoutes(
                meetings=signalling.meetings,
                history=self._history,
                browsers=BrowserCalls(signalling.meetings, None if network is None else network.name),
                sip=signalling.sip.calls,
                authorisation=parts.authorisation,
                passwords=parts.passwords,
                cameras=signalling.cameras,
            ).routes,
            *TrunkRoutes(signalling.sip.trunks).routes,
            *RegistrationRoutes(registrar=signalling.sip.registrar, authorisation=parts.authorisation).routes,
            *MinutesRoutes(
                MinutesBook(parts.database, parts.clock, signalling.meetings),
                self._history,
                ZoneInfo(parts.settings.analytics.time_zone),
            ).routes,
            *ScheduleRoutes(
                scheduler=signalling.scheduler,
                calls=signalling.planned_calls,
                meetings=signalling.meetings,
                history=self._history,
                cameras=signalling.cameras,
                database=parts.database,
                clock=parts.clock,
                authorisation=parts.authorisation,
                passwords=parts.passwords,
            ).routes,
            *StreamRoutes(
                viewings=signalling.viewings,
                cameras=signalling.known_cameras,
                authorisation=parts.authorisation,
                identify=self._edge.identify,
            ).routes,
        )

    def _node(self) -> tuple[Route, ...]:
        parts, settings, meetings = self._parts, self._parts.settings, self._signalling.meetings
        follow: tuple[Callable[[], Awaitable[None]], ...] = (
            parts.book.reload,
            meetings.sites_changed,
            self._surveillance.sites_changed,
        )
        return (
            *SiteRoutes(
                database=parts.database,
                clock=parts.clock,
                authorisation=parts.authorisation,
                carried_bps=parts.book.admission.carried_bps,
                changed=lambda: _one_by_one(follow),
                realm=settings.node.id,
                networks=[network.name for network in settings.networks],
            ).routes,
            *AuditRoutes(database=parts.database, clock=parts.clock).routes,
            *HealthRoutes(
                settings=settings,
                version=version("anshi"),
                database=parts.database,
                bus=parts.bus,
                workers=lambda: meetings.workers_ready,
                services=lambda: self._surveillance.processes,
                trunks=lambda: {one.name: one.state for one in self._signalling.sip.trunks.reports()},
                telemetry=parts.telemetry,
            ).routes,
            *IceRoutes(turn=settings.turn, clock=parts.clock).routes,
        )

    async def _forget_sessions(self) -> None:
        while True:
            await self._identity.forget_expired()
            await asyncio.sleep(3600)


async def listen(settings: Settings, app: web.Application, stack: AsyncExitStack, scope: TaskScope) -> Door:
    """Serve the application behind a door with room for the live sockets and for pages and tools beside them.
    Who pauses a recording reads nothing for long, so that the door is patient. Raises OSError when the port
    cannot be had."""
    http = settings.http
    proxies = TrustedProxies(http.trusted_proxies)
    crowd = AddressBounds(http.live_sockets_of_one + BESIDE_SOCKETS_OF_ONE, proxies.networks)
    door = Door(http.live_sockets + BESIDE_SOCKETS, crowd, proxies, who="clients", patient=True)
    app.middlewares.insert(0, door.asked)
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=edge_door.KEEP_ALIVE_SECONDS
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    if runner.server is None:
        raise RuntimeError("aiohttp made no server")
    context = server_context(settings) if http.tls else None
    listener = edge_door.listening(http.bind, http.port)
    stack.push_async_callback(door.aclose)
    door.open(runner.server, listener, context)
    scope.supervise("door", door.run)
    return door


async def _one_by_one(works: tuple[Callable[[], Awaitable[None]], ...]) -> None:
    """A site or link was edited: permission first, then admission and running calls, then cameras."""
    for work in works:
        await work()
