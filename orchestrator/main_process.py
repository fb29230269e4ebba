"""The objects of the main process: signalling, meeting control, pages and API."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib.metadata import version

import structlog
from aiohttp import web

from config.settings import Network, Settings
from foundation.authorisation import Authorisation
from foundation.clock import SystemClock
from foundation.database import Database
from foundation.desks import ConferenceDesk
from foundation.event_bus import EventBus, EventCodec, InProcessBus, RedisBus
from foundation.events import EVENT_TYPES, Event
from foundation.identity import Identity, SessionLimits
from foundation.jobs import JobEnqueued
from foundation.migration import migrate
from foundation.passwords import Passwords
from foundation.repositories.sites import SiteRepository
from foundation.tasks import TaskScope
from foundation.telemetry import Telemetry
from foundation.throttle import AttemptThrottle
from orchestrator.accounts import ensure_home_site
from orchestrator.certificate import server_context
from orchestrator.control import Neighbours
from orchestrator.guest_passes import GuestPasses
from orchestrator.http_audit import AuditRoutes
from orchestrator.http_health import HealthRoutes
from orchestrator.http_ice import IceRoutes
from orchestrator.http_session import SessionRoutes
from orchestrator.http_sites import SiteRoutes
from orchestrator.http_users import UserRoutes
from orchestrator.live_events import LiveEvents
from orchestrator.media_process import media_part
from orchestrator.resources import pages_folder
from orchestrator.site_book import SiteBook
from orchestrator.vitals import VitalSigns
from orchestrator.web_app import Edge, build_app
from orchestrator.workers_watch import WorkersWatch, take_event
from signaling.admission import Admission
from signaling.browser_calls import BrowserCalls
from signaling.callers import CallerDirectory
from signaling.http_conferences import ConferenceRoutes
from signaling.media_workers import MediaWorkers
from signaling.meeting_history import MeetingHistory
from signaling.meeting_rows import MeetingRows
from signaling.meetings import Meetings
from signaling.sip_calls import SipCalls
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_listener import ListenerSettings

log = structlog.get_logger(__name__)

INSIDE = "main"
INSIDE_EVENTS = 1024
DIGEST_ATTEMPTS_FREE = 5
GOODBYE_SECONDS = 2.5


async def run_main(
    settings: Settings, stop: asyncio.Event, around: Neighbours, ready: Callable[[], None]
) -> None:
    """Serve until `stop` is set; calls get their BYE before this returns."""
    await migrate(settings.database_url)
    async with AsyncExitStack() as stack:
        main = MainProcess(settings, around)
        await main.start(stack)
        ready()
        await stop.wait()
        log.info("stopping")


class InsideEvents:
    """What the media part inside this process announces; bounded, the newest is dropped when full."""

    def __init__(self) -> None:
        self.dropped = 0
        self._queue: asyncio.Queue[Event] = asyncio.Queue(INSIDE_EVENTS)

    def put(self, event: Event) -> None:
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self, scope: TaskScope, meetings: Meetings, bus: EventBus) -> None:
        while True:
            take_event(await self._queue.get(), scope, meetings, bus)


class MainProcess:
    """Builds each object once and hands it its desks; what was started last ends first."""

    def __init__(self, settings: Settings, around: Neighbours) -> None:
        self._settings = settings
        self._around = around
        self._clock = SystemClock()
        self._telemetry = Telemetry()
        self._passwords = Passwords()
        self._database = Database(settings.database_url)
        self._realm = settings.node.id

    async def start(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        stack.callback(self._passwords.close)
        stack.push_async_callback(self._database.aclose)
        book = await self._site_book()
        bus: InProcessBus | RedisBus = await stack.enter_async_context(self._bus())
        scope = await stack.enter_async_context(TaskScope("main"))
        watch = WorkersWatch(self._around.workers)
        desks: Mapping[str, ConferenceDesk] = watch.desks
        inside = InsideEvents()
        if not self._around.workers:
            part = await stack.enter_async_context(media_part(settings, 0, inside.put))
            desks = {INSIDE: part.bridge}
        meetings = Meetings(
            rows=MeetingRows(self._database, self._clock),
            bus=bus,
            workers=MediaWorkers(desks),
            admission=book.admission,
            site_budget=book.budget,
        )
        await meetings.restore()
        if self._around.workers:
            stack.push_async_callback(watch.aclose)
            watch.run(scope, meetings, bus)
        else:
            await meetings.worker_ready(INSIDE, os.getpid())
            scope.spawn("inside events", inside.run(scope, meetings, bus))
        scope.supervise("vitals", VitalSigns(self._telemetry, desks, meetings).run)
        sip = await self._sip(stack, meetings)
        await self._http(stack, scope, meetings, bus, book, sip)

    # --- parts ------------------------------------------------------------------------------------

    async def _site_book(self) -> SiteBook:
        async with self._database.transaction() as tx:
            home = await ensure_home_site(tx, self._settings)
            tree = await SiteRepository(tx).tree()
        home_id = home.id if home is not None else next(iter(tree.roots), self._settings.node.id)
        guests = self._settings.guests.budget
        book = SiteBook(self._database, Authorisation(tree, home_id), Admission(tree, (), {}, guests), guests)
        await book.reload()
        return book

    def _bus(self) -> InProcessBus | RedisBus:
        url = self._settings.redis.url
        if url is None:
            return InProcessBus(self._telemetry)
        return RedisBus(str(url), EventCodec((*EVENT_TYPES, JobEnqueued)), self._telemetry)

    async def _sip(self, stack: AsyncExitStack, meetings: Meetings) -> SipCalls:
        settings = self._settings
        attempts = AttemptThrottle(self._clock, free=DIGEST_ATTEMPTS_FREE)
        callers = CallerDirectory(self._database, self._clock, self._passwords, self._realm, attempts)
        calls = SipCalls(meetings, callers, settings.networks[0].name)
        context = server_context(settings) if any(n.sip.tls for n in settings.networks) else None
        endpoint = SipEndpoint(
            [_listener(network, context) for network in settings.networks],
            realm=self._realm,
            on_call=calls.take,
            authenticator=callers,
        )
        calls.connect(endpoint)
        await endpoint.start()
        stack.push_async_callback(endpoint.aclose, GOODBYE_SECONDS)
        stack.push_async_callback(calls.aclose)
        stack.push_async_callback(_say_goodbye, meetings)
        return calls

    async def _http(
        self,
        stack: AsyncExitStack,
        scope: TaskScope,
        meetings: Meetings,
        bus: EventBus,
        book: SiteBook,
        sip: SipCalls,
    ) -> None:
        settings = self._settings
        limits = SessionLimits(
            timedelta(seconds=settings.sessions.idle), timedelta(seconds=settings.sessions.absolute)
        )
        identity = Identity(self._database, self._clock, self._passwords, limits=limits)
        guests = GuestPasses(self._clock)
        history = MeetingHistory(self._database, self._clock)
        browser_network = settings.browser_network
        browsers = BrowserCalls(meetings, None if browser_network is None else browser_network.name)
        edge = Edge(settings=settings, identity=identity, authorisation=book.authorisation, guests=guests)
        live = LiveEvents(
            edge=edge,
            bus=bus,
            authorisation=book.authorisation,
            host_site=history.host_site,
            telemetry=self._telemetry,
        )
        database, clock = self._database, self._clock
        parts = (
            SessionRoutes(
                identity=identity,
                guests=guests,
                meetings=meetings,
                passwords=self._passwords,
                database=database,
                clock=clock,
                sessions_changed=live.sessions_changed,
            ),
            UserRoutes(
                database=database,
                clock=clock,
                identity=identity,
                passwords=self._passwords,
                authorisation=book.authorisation,
                sessions_changed=live.sessions_changed,
            ),
            SiteRoutes(
                database=database,
                clock=clock,
                authorisation=book.authorisation,
                carried_bps=book.admission.carried_bps,
                changed=lambda: _follow_sites(book, meetings),
                realm=self._realm,
                networks=[network.name for network in settings.networks],
            ),
            ConferenceRoutes(
                meetings=meetings,
                history=history,
                browsers=browsers,
                sip=sip,
                authorisation=book.authorisation,
                passwords=self._passwords,
            ),
            AuditRoutes(database=database, clock=clock),
            HealthRoutes(
                settings=settings,
                version=version("anshi"),
                database=database,
                bus=bus,
                workers=lambda: meetings.workers_ready,
                telemetry=self._telemetry,
            ),
            IceRoutes(turn=settings.turn, clock=clock),
            live,
        )
        routes = [route for part in parts for route in part.routes]
        app = build_app(edge, routes, pages_folder(), version("anshi"))
        live.mount(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        context = server_context(settings) if settings.http.tls else None
        site = web.TCPSite(runner, settings.http.bind, settings.http.port, ssl_context=context)
        await site.start()
        scope.supervise("sessions", lambda: _forget_sessions(identity))


async def _forget_sessions(identity: Identity) -> None:
    while True:
        await identity.forget_expired()
        await asyncio.sleep(3600)


async def _follow_sites(book: SiteBook, meetings: Meetings) -> None:
    """A site or link was edited: permission, admission and running calls follow."""
    await book.reload()
    await meetings.sites_changed()


async def _say_goodbye(meetings: Meetings) -> None:
    """Every call gets its BYE, within what a stop may take."""
    try:
        async with asyncio.timeout(GOODBYE_SECONDS):
            await meetings.aclose()
    except TimeoutError:
        log.warning("goodbye_cut_short")


def _listener(network: Network, context: ssl.SSLContext | None) -> ListenerSettings:
    return ListenerSettings(
        network=network.name,
        host=network.bind,
        udp_port=network.sip.udp,
        tcp_port=network.sip.tcp,
        tls_port=network.sip.tls,
        advertised_host=network.advertised,
        tls=context if network.sip.tls else None,
        dscp=network.dscp.signalling,
    )
