"""The whole HTTP edge on a real SQLite file and real meeting control, for the tests of what it serves.

Only the media worker is a double: `RecordingDesk` stands where another process would be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path
from typing import Any, cast

from aiohttp import ClientResponse, DummyCookieJar
from aiohttp.test_utils import TestClient, TestServer
from argon2 import PasswordHasher

from config.settings import Http, Network, Node, Secret, Settings, Turn
from config.trunks import SipTrunk
from foundation.authorisation import Authorisation, Role
from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import (
    Budget,
    ConferenceDesk,
    ConferenceReport,
    ConferenceSpec,
    Dialled,
    HeldConference,
    MediaDescription,
    ParticipantSpec,
    Refusal,
    RefusalKind,
    Staging,
    View,
)
from foundation.event_bus import InProcessBus
from foundation.http_edge import Route
from foundation.identity import Identity, SessionKind, new_user
from foundation.migration import migrate
from foundation.passwords import Passwords
from foundation.repositories.audit import AuditRecord, AuditRepository
from foundation.repositories.sites import Link, Site, SiteRepository
from foundation.repositories.users import User, UserRepository
from foundation.site_tree import SiteTree
from foundation.telemetry import Telemetry
from foundation.throttle import AttemptThrottle
from orchestrator.guest_passes import GuestPasses
from orchestrator.http_audit import AuditRoutes
from orchestrator.http_health import HealthRoutes
from orchestrator.http_ice import IceRoutes
from orchestrator.http_session import SessionRoutes
from orchestrator.http_sites import SiteRoutes
from orchestrator.http_users import UserRoutes
from orchestrator.live_events import LiveEvents
from orchestrator.site_book import SiteBook
from orchestrator.web_app import SESSION_COOKIE, Edge, build_app
from signaling.admission import Admission
from signaling.browser_calls import BrowserCalls
from signaling.callers import CallerDirectory
from signaling.camera_calls import CameraCalls, KnownCamera
from signaling.http_conferences import ConferenceRoutes
from signaling.http_minutes import MinutesRoutes
from signaling.http_registrations import RegistrationRoutes
from signaling.http_schedules import ScheduleRoutes
from signaling.http_streams import StreamRoutes
from signaling.http_trunks import TrunkRoutes
from signaling.lobby_room import LobbyRoom
from signaling.media_workers import MediaWorkers
from signaling.meeting import Meeting
from signaling.meeting_history import MeetingHistory
from signaling.meeting_rows import MeetingRows
from signaling.meetings import Meetings
from signaling.minutes import MinutesBook
from signaling.planned_calls import PlannedCalls
from signaling.registrar import Registrar
from signaling.schedules import Scheduler
from signaling.sip_calls import SipCalls
from signaling.sip_dialling import DialledNetworks
from signaling.sip_lobby import SipLobby
from signaling.trunks.trunks import Trunks
from signaling.viewings import Viewings
from tests.keys import BOX

PASSWORD = "correct horse 电池"
PIN = "4711"
VERSION = "1.2.3"

OFFER = """v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
a=fingerprint:sha-256 AA:BB
a=setup:actpass
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=mid:0
a=rtcp-mux
a=rtpmap:111 opus/48000/2
"""


@dataclass
class RecordingDesk:
    """A media worker that agrees to everything and remembers what it was asked."""

    calls: list[tuple[str, Any]] = field(default_factory=list)
    refusal: Refusal | None = None

    def _note(self, name: str, *what: Any) -> None:
        self.calls.append((name, *what))
        if self.refusal is not None:
            raise self.refusal

    async def open(self, spec: ConferenceSpec) -> None:
        self._note("open", spec.conference_id)

    async def close(self, conference_id: str) -> None:
        self._note("close", conference_id)

    async def admit(
        self, participant: ParticipantSpec, offer: MediaDescription, resume: MediaDescription | None = None
    ) -> MediaDescription:
        self._note("admit", participant.name)
        return _answer(offer)

    async def admit_stream(self, participant: ParticipantSpec, stream_id: str, known: bool = False) -> None:
        self._note("admit_stream", participant.name, stream_id)

    async def offer(self, participant: ParticipantSpec, dialled: Dialled) -> MediaDescription:
        self._note("offer", participant.name)
        return MediaDescription(())

    async def answered(self, participant_id: str, answer: MediaDescription) -> MediaDescription:
        self._note("answered", participant_id)
        return answer

    async def resume_dialled(
        self, participant: ParticipantSpec, ours: MediaDescription, theirs: MediaDescription
    ) -> None:
        self._note("resume_dialled", participant.name)

    async def renegotiate(self, participant_id: str, offer: MediaDescription) -> MediaDescription:
        self._note("renegotiate", participant_id)
        return _answer(offer)

    async def set_budget(self, participant_id: str, budget: Budget) -> None:
        self._note("set_budget", participant_id, budget)

    async def holdings(self) -> tuple[HeldConference, ...]:
        return ()

    async def set_staging(self, conference_id: str, view: View, staging: Staging) -> None:
        self._note("set_staging", conference_id, view, staging)

    async def set_view(self, conference_id: str, view: View) -> None:
        self._note("set_view", conference_id, view)

    async def set_muted(self, participant_id: str, muted: bool) -> None:
        self._note("set_muted", participant_id, muted)

    async def announcements(self) -> tuple[str, ...]:
        return ("chime", "演习")

    async def announce(self, _conference_id: str, sound: str, participant_id: str | None) -> None:
        if sound not in await self.announcements():
            raise Refusal(RefusalKind.UNKNOWN_ANNOUNCEMENT, f"there is no announcement {sound!r}")
        self._note("announce", sound, participant_id)

    async def stop_announcing(self, conference_id: str) -> None:
        self._note("stop_announcing", conference_id)

    async def refresh_picture(self, participant_id: str) -> None:
        self._note("refresh_picture", participant_id)

    async def drop(self, participant_id: str) -> None:
        self._note("drop", participant_id)

    async def report(self, conference_id: str) -> ConferenceReport:
        self._note("report", conference_id)
        return ConferenceReport(conference_id, 4711)


def _answer(offer: MediaDescription) -> MediaDescription:
    """The same sections at our address: enough for an answer that can be written down."""
    ours = (replace(section, address="127.0.0.1", port=49000) for section in offer.sections)
    return MediaDescription(tuple(ours), bundle=offer.bundle)


@dataclass
class Signed:
    """Somebody with a session: headers for a tool (bearer) or for a page (cookie and CSRF token)."""

    user: User
    bearer: dict[str, str]
    cookie: dict[str, str]
    csrf: str

    @property
    def page(self) -> dict[str, str]:
        return {**self.cookie, "X-CSRF-Token": self.csrf}


@dataclass
class Service:
    client: TestClient[Any, Any]
    routes: tuple[Route, ...]
    settings: Settings
    database: Database
    clock: FakeClock
    passwords: Passwords
    identity: Identity
    authorisation: Authorisation
    meetings: Meetings
    desk: RecordingDesk
    bus: InProcessBus
    live: LiveEvents
    book: SiteBook
    guests: GuestPasses
    telemetry: Telemetry
    workers: dict[str, int]
    cameras: dict[str, KnownCamera]
    viewings: Viewings

    async def user(self, *roles: Role, name: str = "", site: str = "guangxi", grants: str = "") -> Signed:
        """An account with a session of each kind."""
        user = await new_user(
            self.passwords,
            self.clock,
            name=name or f"{roles[0].value}-of-{site}",
            password=PASSWORD,
            roles=frozenset(roles),
            site_id=site,
            grants=frozenset(grants.split()),
        )
        async with self.database.transaction() as tx:
            await UserRepository(tx).add(user)
        bearer = await self.identity.sign_in(user.name, PASSWORD, SessionKind.BEARER, "10.1.2.3")
        cookie = await self.identity.sign_in(user.name, PASSWORD, SessionKind.COOKIE, "10.1.2.3")
        return Signed(
            user,
            {"Authorization": f"Bearer {bearer.token}"},
            {"Cookie": f"{SESSION_COOKIE}={cookie.token}"},
            cookie.csrf_token,
        )

    async def meeting(self, site: str = "guangxi", *, number: str | None = None) -> Meeting:
        """A running meeting with the PIN."""
        pin_hash = await self.passwords.hash(PIN)
        return await self.meetings.open("安全生产例会", site, number=number, pin_hash=pin_hash)

    async def guest(self, meeting: Meeting, name: str = "刘") -> tuple[dict[str, str], dict[str, Any]]:
        """A guest's bearer header, and the answer to the guest's sign-in."""
        body = {"number": meeting.number, "pin": PIN, "name": name}
        response = await self.client.post("/api/v1/guest-session", json=body)
        assert response.status == 200, await response.text()
        answer = await response.json()
        return {"Authorization": f"Bearer {answer['token']}"}, answer

    async def audited(self) -> list[AuditRecord]:
        async with self.database.reading() as tx:
            return list(await AuditRepository(tx).after(0, 1000))


SITES = (
    Site("nation", "国家", "administration"),
    Site("guangxi", "广西", "administration", "nation"),
    Site("nanning", "南宁", "administration", "guangxi"),
    Site("cenxi", "岑溪", "administration", "nanning"),
    Site("guangdong", "广东", "administration", "nation"),
)
LINKS = (Link("guangxi-nanning", "guangxi", "nanning", 50_000_000),)


TRUNKS = (
    SipTrunk(
        name="telecom",
        server="sbc.telecom.example.cn",
        username="+867715861234",
        password=Secret("a-trunk-password"),
        prefixes=("+86771",),
    ),
)
CAMERAS = (
    KnownCamera("gate", "guangxi", "东门"),
    KnownCamera("yard", "cenxi", "院子"),
    KnownCamera("dark", "guangxi", "旧址", enabled=False),
)


def settings_with(**http: Any) -> Settings:
    return Settings(
        node=Node(id="gx", name="广西应急指挥中心", level="province", site_id="guangxi"),
        networks=(Network(name="extranet", bind="127.0.0.1"),),
        http=Http(**http),
        turn=Turn(urls=("stun:turn.gx:3478", "turn:turn.gx:3478?transport=udp"), secret=Secret("s3cret")),
    )


async def prepare(url: str) -> None:
    """Make the tables, and in them SITES and LINKS."""
    await migrate(url)
    database = Database(url, secrets=BOX)
    async with database.transaction() as tx:
        for site in SITES:
            await SiteRepository(tx).save(site)
        for link in LINKS:
            await SiteRepository(tx).save_link(link)
    await database.aclose()


@asynccontextmanager
async def serving(
    path: Path,
    *,
    settings: Settings | None = None,
    pages: Path | None = None,
    extra: tuple[Route, ...] = (),
    **live_options: Any,
) -> AsyncIterator[Service]:
    """The service on the prepared database at `path`."""
    settings = settings or settings_with()
    database = Database(f"sqlite:///{path}", busy_timeout=0.3, secrets=BOX)
    clock = FakeClock()
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    tree = SiteTree({site.id: site.parent_id for site in SITES})
    book = SiteBook(
        database, Authorisation(tree, "guangxi"), Admission(tree, LINKS, {}, 1_000_000), 1_000_000
    )
    await book.reload()
    desk, bus, telemetry = RecordingDesk(), InProcessBus(), Telemetry()
    workers, placement = {"media-0": 4711}, MediaWorkers({"media-0": cast(ConferenceDesk, desk)})
    meetings = Meetings(
        rows=MeetingRows(database, clock),
        bus=bus,
        workers=placement,
        admission=book.admission,
        site_budget=book.budget,
    )
    await meetings.worker_ready("media-0", 4711)
    identity, guests = Identity(database, clock, passwords), GuestPasses(database, clock)
    edge = Edge(settings=settings, identity=identity, authorisation=book.authorisation, guests=guests)
    history = MeetingHistory(database, clock)
    live = LiveEvents(
        edge=edge,
        bus=bus,
        authorisation=book.authorisation,
        host_site=history.host_site,
        telemetry=telemetry,
        **live_options,
    )
    callers = CallerDirectory(database, clock, passwords, "gx", AttemptThrottle(clock))
    cameras = {camera.camera_id: camera for camera in CAMERAS}

    async def camera_of(camera_id: str) -> KnownCamera | None:
        return cameras.get(camera_id)

    registrar = Registrar(database, clock, callers, "gx")
    trunks = Trunks(TRUNKS, default_network="extranet", node="gx", clock=clock)
    lobby = SipLobby(meetings, callers, LobbyRoom(placement), None)
    sip_calls = SipCalls(meetings, callers, DialledNetworks("extranet"), registrar, lobby, trunks)
    planned = PlannedCalls(
        meetings=meetings,
        dial=sip_calls.dial,
        cameras=CameraCalls(meetings, camera_of),
        database=database,
        bus=bus,
        clock=clock,
        realm="gx",
    )
    scheduler = Scheduler(meetings=meetings, calls=planned, database=database, bus=bus, clock=clock, zone=UTC)
    viewings = Viewings(workers=placement, cameras=camera_of, clock=clock, network="extranet")
    routes = (
        *SessionRoutes(
            identity=identity,
            guests=guests,
            meetings=meetings,
            passwords=passwords,
            database=database,
            clock=clock,
            sessions_changed=live.sessions_changed,
        ).routes,
        *UserRoutes(
            database=database,
            clock=clock,
            identity=identity,
            passwords=passwords,
            authorisation=book.authorisation,
            sessions_changed=live.sessions_changed,
        ).routes,
        *SiteRoutes(
            database=database,
            clock=clock,
            authorisation=book.authorisation,
            carried_bps=book.admission.carried_bps,
            changed=book.reload,
            realm="gx",
            networks=["extranet"],
        ).routes,
        *ConferenceRoutes(
            meetings=meetings,
            history=history,
            browsers=BrowserCalls(meetings, "extranet"),
            sip=sip_calls,
            authorisation=book.authorisation,
            passwords=passwords,
            cameras=CameraCalls(meetings, camera_of),
        ).routes,
        *ScheduleRoutes(
            scheduler=scheduler,
            calls=planned,
            meetings=meetings,
            history=history,
            cameras=CameraCalls(meetings, camera_of),
            database=database,
            clock=clock,
            authorisation=book.authorisation,
            passwords=passwords,
        ).routes,
        *MinutesRoutes(MinutesBook(database, clock, meetings), history, UTC).routes,
        *RegistrationRoutes(registrar=registrar, authorisation=book.authorisation).routes,
        *TrunkRoutes(trunks).routes,
        *StreamRoutes(
            viewings=viewings,
            cameras=camera_of,
            authorisation=book.authorisation,
            identify=edge.identify,
        ).routes,
        *AuditRoutes(database=database, clock=clock).routes,
        *HealthRoutes(
            settings=settings,
            version=VERSION,
            database=database,
            bus=bus,
            workers=lambda: workers,
            services=dict,
            trunks=lambda: {one.name: one.state for one in trunks.reports()},
            telemetry=telemetry,
        ).routes,
        *IceRoutes(turn=settings.turn, clock=clock).routes,
        *live.routes,
        *extra,
    )
    app = build_app(edge, routes, pages, VERSION)
    live.mount(app)
    async with TestClient(TestServer(app), cookie_jar=DummyCookieJar()) as client:
        yield Service(
            client,
            routes,
            settings,
            database,
            clock,
            passwords,
            identity,
            book.authorisation,
            meetings,
            desk,
            bus,
            live,
            book,
            guests,
            telemetry,
            workers,
            cameras,
            viewings,
        )
    bus.close()
    passwords.close()
    await database.aclose()


async def problem(response: ClientResponse, status: int) -> dict[str, Any]:
    """The problem document of a refused request; fails on anything else."""
    text = await response.text()
    assert response.status == status, text
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = await response.json()
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    return body
