"""The objects of the main process: signalling, meeting control, pages and API."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from zoneinfo import ZoneInfo

import structlog

from config.settings import Network, Settings
from foundation.authorisation import Authorisation
from foundation.clock import SystemClock
from foundation.database import Database
from foundation.desks import CameraDesk, ConferenceDesk
from foundation.event_bus import EventBus, EventCodec, InProcessBus, RedisBus
from foundation.events import EVENT_TYPES, Event
from foundation.jobs import JobEnqueued
from foundation.migration import migrate
from foundation.passwords import Passwords
from foundation.repositories.sites import SiteRepository
from foundation.sealed_rows import seal_anew
from foundation.secrets import SecretBox, secrets_of
from foundation.tasks import TaskScope
from foundation.telemetry import Telemetry
from foundation.throttle import AttemptThrottle
from media.link import LinkServer
from orchestrator.accounts import ensure_home_site
from orchestrator.certificate import client_trust, server_context
from orchestrator.control import Neighbours, WorkerAddress
from orchestrator.leg_gauges import LegGauges
from orchestrator.main_http import MainHttp
from orchestrator.main_parts import MainParts, Signalling
from orchestrator.media_process import media_part
from orchestrator.services_watch import ServicesWatch
from orchestrator.site_book import SiteBook
from orchestrator.surveillance import Surveillance
from orchestrator.trunk_gauges import TrunkGauges
from orchestrator.vitals import VitalSigns
from orchestrator.workers_watch import Follower, WorkersWatch, take_event
from signaling.admission import Admission
from signaling.bfcp_listener import BfcpSettings
from signaling.bfcp_service import BfcpService
from signaling.callers import CallerDirectory
from signaling.camera_calls import CameraCalls, CameraRows
from signaling.lobby_room import LOBBY
from signaling.media_workers import MediaWorkers
from signaling.meeting_rows import MeetingRows
from signaling.meetings import Meetings
from signaling.planned_calls import PlannedCalls
from signaling.schedules import Scheduler
from signaling.sip_listener import ListenerSettings
from signaling.sip_service import SipService
from signaling.viewings import VIEW, Viewings

log = structlog.get_logger(__name__)

INSIDE = "main"
INSIDE_EVENTS = 1024
DIGEST_ATTEMPTS_FREE = 5
GOODBYE_SECONDS = 2.5


async def run_main(
    settings: Settings, stop: asyncio.Event, around: Neighbours, ready: Callable[[], None]
) -> None:
    """Serve until `stop` is set; calls get their BYE before this returns."""
    await migrate(settings.database_url, key_file=settings.key_file)
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

    async def run(
        self, scope: TaskScope, meetings: Meetings, bus: EventBus, others: Mapping[str, Follower]
    ) -> None:
        while True:
            take_event(await self._queue.get(), scope, meetings, bus, others)


class MainProcess:
    """Builds each object once and hands it its desks; what was started last ends first."""

    def __init__(self, settings: Settings, around: Neighbours) -> None:
        self._settings = settings
        self._around = around
        self._clock = SystemClock()
        self._telemetry = Telemetry()
        self._passwords = Passwords()
        self._database = Database(settings.database_url, secrets=SecretBox.load(settings.key_file))
        self._realm = settings.node.id
        self._known_cameras = CameraRows(self._database)

    async def start(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        stack.callback(self._passwords.close)
        stack.push_async_callback(self._database.aclose)
        await self._seal_anew()
        book = await self._site_book()
        bus: InProcessBus | RedisBus = await stack.enter_async_context(self._bus())
        scope = await stack.enter_async_context(TaskScope("main"))
        watch = WorkersWatch(self._around.workers)
        services = ServicesWatch(self._around.services, bus)
        desks: Mapping[str, ConferenceDesk] = watch.desks
        cameras: Mapping[str, CameraDesk] = watch.cameras
        inside = InsideEvents()
        if not self._around.workers:
            part = await stack.enter_async_context(media_part(settings, 0, inside.put))
            desks, cameras = {INSIDE: part.bridge}, {INSIDE: part.cameras}
            if self._around.socket is not None:
                link = WorkerAddress(INSIDE, self._around.socket).link
                await stack.enter_async_context(LinkServer(link, part.streams))
        clock = self._clock
        parts = MainParts(settings, self._database, clock, bus, book, self._passwords, self._telemetry)
        surveillance = Surveillance(parts, services, cameras)
        stack.push_async_callback(surveillance.aclose)
        workers = MediaWorkers(desks)
        meetings = Meetings(
            rows=MeetingRows(self._database, clock),
            bus=bus,
            workers=workers,
            admission=book.admission,
            site_budget=book.budget,
        )
        viewings = self._viewings(workers)
        await meetings.restore()
        watch.on_ready(surveillance.cameras.worker_ready)
        stack.push_async_callback(watch.aclose)
        # Before workers: their media may need their lines.
        sip = await self._sip(stack, scope, meetings, workers, bus)
        others: dict[str, Follower] = {VIEW: viewings, LOBBY: sip.lobby}
        if self._around.workers:
            watch.run(scope, meetings, bus, others)
        else:
            await surveillance.cameras.worker_ready(INSIDE)
            await meetings.worker_ready(INSIDE, os.getpid())
            await viewings.worker_ready(INSIDE, os.getpid())
            scope.spawn("inside events", inside.run(scope, meetings, bus, others))
        stack.push_async_callback(services.aclose)
        services.run(scope)
        surveillance.run(scope)
        calls = CameraCalls(meetings, self._known_cameras, surveillance.cameras.measured_bps)
        scope.supervise("cameras in meetings", lambda: calls.run(bus))
        scope.supervise("viewings", lambda: viewings.run(bus))
        scope.supervise("trunk gauges", TrunkGauges(self._telemetry, sip.trunks).run)
        scope.supervise("leg gauges", LegGauges(self._telemetry, meetings).run)
        scope.supervise("vitals", VitalSigns(self._telemetry, desks, meetings, sip.flows.counters).run)
        record = None if surveillance.recordings is None else surveillance.recordings.changed
        planned, scheduler = self._schedules(bus, meetings, sip, calls, record)
        scope.supervise("schedules", scheduler.run)
        signalling = Signalling(meetings, sip, calls, viewings, self._known_cameras, scheduler, planned)
        await MainHttp(parts, signalling, surveillance).start(stack, scope)

    # --- parts ------------------------------------------------------------------------------------

    async def _seal_anew(self) -> None:
        """After a change of keys; here, because no other process of the node opens what is sealed."""
        async with self._database.transaction() as tx:
            changed = await (await tx.connection()).run_sync(seal_anew, secrets_of(tx))
        if changed:
            log.info("secrets_sealed_anew", secrets=changed)

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

    def _viewings(self, workers: MediaWorkers) -> Viewings:
        network = self._settings.browser_network
        return Viewings(
            workers=workers,
            cameras=self._known_cameras,
            clock=self._clock,
            network=None if network is None else network.name,
        )

    def _schedules(
        self,
        bus: EventBus,
        meetings: Meetings,
        sip: SipService,
        cameras: CameraCalls,
        record: Callable[[], Awaitable[None]] | None,
    ) -> tuple[PlannedCalls, Scheduler]:
        planned = PlannedCalls(
            meetings=meetings,
            dial=sip.calls.dial,
            cameras=cameras,
            database=self._database,
            bus=bus,
            clock=self._clock,
            realm=self._realm,
        )
        scheduler = Scheduler(
            meetings=meetings,
            calls=planned,
            database=self._database,
            bus=bus,
            clock=self._clock,
            zone=ZoneInfo(self._settings.analytics.time_zone),
            record=record,
        )
        return planned, scheduler

    async def _sip(
        self,
        stack: AsyncExitStack,
        scope: TaskScope,
        meetings: Meetings,
        workers: MediaWorkers,
        bus: EventBus,
    ) -> SipService:
        settings = self._settings
        attempts = AttemptThrottle(self._clock, free=DIGEST_ATTEMPTS_FREE)
        tls = any(network.sip.tls for network in settings.networks)
        context = server_context(settings) if tls else None
        service = SipService(
            [_listener(settings, network, context) for network in settings.networks],
            realm=self._realm,
            meetings=meetings,
            workers=workers,
            callers=CallerDirectory(self._database, self._clock, self._passwords, self._realm, attempts),
            database=self._database,
            clock=self._clock,
            bus=bus,
            lobby_number=settings.meetings.lobby_number,
            trunks=settings.trunks,
            srtp={network.name: network.sip.srtp for network in settings.networks},
            redirects={network.name: network.sip.redirects for network in settings.networks},
            flow_networks=[network.name for network in settings.networks if network.sip.flow_by_reinvite],
        )
        bfcp = BfcpService([_bfcp(settings, network) for network in settings.networks], meetings.floors)
        await bfcp.start(scope)
        stack.push_async_callback(bfcp.aclose)
        await service.start(scope)
        stack.push_async_callback(service.aclose, GOODBYE_SECONDS)
        stack.push_async_callback(_say_goodbye, meetings)
        return service


async def _say_goodbye(meetings: Meetings) -> None:
    """Every call gets its BYE, within what a stop may take."""
    try:
        async with asyncio.timeout(GOODBYE_SECONDS):
            await meetings.aclose()
    except TimeoutError:
        log.warning("goodbye_cut_short")


def _bfcp(settings: Settings, network: Network) -> BfcpSettings:
    return BfcpSettings(
        network.name,
        network.bind,
        settings.bfcp_port(network, "udp"),
        settings.bfcp_port(network, "tcp"),
        network.advertised,
        network.dscp.signalling,
    )


def _listener(settings: Settings, network: Network, context: ssl.SSLContext | None) -> ListenerSettings:
    trust = client_trust(settings, network) if network.sip.tls else None
    return ListenerSettings(
        network=network.name,
        host=network.bind,
        udp_port=network.sip.udp,
        tcp_port=network.sip.tcp,
        tls_port=network.sip.tls,
        advertised_host=network.advertised,
        tls=context if network.sip.tls else None,
        tls_client=None if trust is None else trust.others,
        tls_servers=() if trust is None else trust.servers,
        dscp=network.dscp.signalling,
    )
