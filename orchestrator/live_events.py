"""Live events for pages and tools: a WebSocket at /ws that says what has just become so.

    live = LiveEvents(edge=edge, bus=bus, authorisation=authorisation, host_site=history.host_site, ...)
    app = build_app(edge, (*live.routes, ...), ...)
    live.mount(app)                    # sockets end with the application

Each message is JSON: {"type": class name of the event, ...its fields}. A socket hears of the meetings,
cameras, recordings and violations that its user may see, a guest's of its own meeting only. An event only
says that rows changed: a reader too slow for its queue is closed (1013), comes again, and reads the rows.
An open socket is use of its session; it ends when that ends.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass

import msgspec
import structlog
from aiohttp import WSCloseCode, web

from foundation.address_bounds import AddressBounds
from foundation.authorisation import Action, Authorisation, Resource
from foundation.database import DatabaseError
from foundation.event_bus import EventBus
from foundation.events import (
    BroadcastChanged,
    BusReconnected,
    CameraChanged,
    CameraStateChanged,
    ConferenceChanged,
    ConferenceEnded,
    ConferenceEnding,
    ConferenceOpened,
    Event,
    ParticipantChanged,
    RecordingAlarm,
    RecordingChanged,
    RenegotiationNeeded,
    SpeakersChanged,
    ViolationChanged,
    ViolationFlagged,
)
from foundation.http_edge import Exchange, Problem, Route
from foundation.telemetry import Telemetry
from orchestrator.web_app import Edge

log = structlog.get_logger(__name__)

OF_MEETINGS: tuple[type[Event], ...] = (
    ConferenceOpened,
    ConferenceChanged,
    ConferenceEnded,
    ConferenceEnding,
    ParticipantChanged,
    SpeakersChanged,
    RenegotiationNeeded,
)
OF_SITES: Mapping[type[Event], tuple[Action, str, str]] = {
    CameraChanged: (Action.LIST_CAMERAS, "camera", "camera_id"),
    CameraStateChanged: (Action.LIST_CAMERAS, "camera", "camera_id"),
    RecordingChanged: (Action.PLAY_RECORDING, "recording", "subject"),
    RecordingAlarm: (Action.PLAY_RECORDING, "recording", "subject"),
    ViolationFlagged: (Action.VIEW_VIOLATIONS, "violation", "violation_id"),
    ViolationChanged: (Action.VIEW_VIOLATIONS, "violation", "violation_id"),
    BroadcastChanged: (Action.VIEW_CONFERENCES, "broadcast", "broadcast_id"),
}
"""Events that name their site: who may do this to such a thing of the site, by the field with its id."""
SESSION_OVER = 4401
SLOW_READER = int(WSCloseCode.TRY_AGAIN_LATER)
GOING_AWAY = int(WSCloseCode.GOING_AWAY)
MAX_SOCKETS_OF_ONE = 20
KNOWN_MEETINGS = 5000
BUS_QUEUE = 4000
LONGEST_MESSAGE = 4096
CLOSE_SECONDS = 1.0


class LiveEvents:
    """The sockets of this process, `most` at once, and of one address as `crowd` lets them. `host_site` tells
    the site that hosts a conference, for permission."""

    def __init__(
        self,
        *,
        edge: Edge,
        bus: EventBus,
        authorisation: Authorisation,
        host_site: Callable[[str], Awaitable[str | None]],
        telemetry: Telemetry,
        most: int = 2000,
        crowd: AddressBounds | None = None,
        heartbeat: float = 20.0,
        check_seconds: float = 30.0,
        queue_length: int = 256,
    ) -> None:
        self._edge = edge
        self._bus = bus
        self._authorisation = authorisation
        self._host_site = host_site
        self._most = most
        self._crowd = crowd or AddressBounds(most)
        self._heartbeat = heartbeat
        self._check_seconds = check_seconds
        self._queue_length = queue_length
        self._drops = telemetry.drops("live_events")
        self._open = telemetry.gauge("anshi_live_sockets", "WebSockets that hear live events")
        self._hosts: OrderedDict[str, str] = OrderedDict()
        self._sockets: set[_Socket] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._sockets)

    @property
    def routes(self) -> tuple[Route, ...]:
        return (Route("GET", "/ws", self.socket, "Live events", None, signed_in=True),)

    def mount(self, app: web.Application) -> None:
        """Relay while the application runs; its sockets end with it."""
        app.cleanup_ctx.append(self._relaying)
        app.on_shutdown.append(self._shut_down)

    def sessions_changed(self) -> None:
        """A session may have ended: every socket asks after its own now."""
        for socket in self._sockets:
            socket.check_now.set()

    # --- sockets ------------------------------------------------------------------------------------

    async def socket(self, exchange: Exchange) -> web.WebSocketResponse:
        """Serve one socket until it ends."""
        mine = sum(socket.exchange.name == exchange.name for socket in self._sockets)
        if self._closing or len(self._sockets) >= self._most or mine >= MAX_SOCKETS_OF_ONE:
            raise _too_many("too many sockets for live events are open; close one")
        if not self._crowd.enter(exchange.address):
            raise _too_many("too many sockets for live events are open from this address")
        try:
            return await self._serve(exchange)
        finally:
            self._crowd.leave(exchange.address)

    async def _serve(self, exchange: Exchange) -> web.WebSocketResponse:
        response = web.WebSocketResponse(
            heartbeat=self._heartbeat, max_msg_size=LONGEST_MESSAGE, compress=False
        )
        if not response.can_prepare(exchange.request):
            upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
            raise Problem(426, "Upgrade Required", "/ws is for WebSockets", headers=upgrade)
        socket = _Socket(exchange, response, self._queue_length)
        self._sockets.add(socket)  # before the peer knows that it listens, so that it misses nothing
        self._open.set(len(self._sockets))
        checking = asyncio.create_task(self._check(socket), name="live_events.check")
        try:
            try:
                await response.prepare(exchange.request)
            except ConnectionError:  # nobody is left to read this, and nothing of ours failed
                raise Problem(400, "Bad request", "the connection was lost during the upgrade") from None
            await socket.serve()
        finally:
            checking.cancel()
            self._sockets.discard(socket)
            self._open.set(len(self._sockets))
        return response

    async def _check(self, socket: _Socket) -> None:
        """Follow the session: other rights are other events, and its end is the socket's."""
        while True:
            try:
                async with asyncio.timeout(self._check_seconds):
                    await socket.check_now.wait()
            except TimeoutError:
                pass
            socket.check_now.clear()
            try:
                await self._edge.identify(socket.exchange)
            except Problem as problem:
                socket.end(SESSION_OVER, problem.detail)
                return
            except DatabaseError as error:
                log.warning("session_not_checked", why=str(error))
            except Exception:  # without this task a session that ends would hear on
                log.exception("session_not_checked")

    async def _shut_down(self, _app: web.Application) -> None:
        self._closing = True
        for socket in tuple(self._sockets):
            socket.end(GOING_AWAY, "the service stops")

    # --- events -------------------------------------------------------------------------------------

    async def _relaying(self, _app: web.Application) -> AsyncIterator[None]:
        relay = asyncio.create_task(self._relay(), name="live_events.relay")
        yield
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)

    async def _relay(self) -> None:
        async with self._bus.subscribe(
            *OF_MEETINGS, *OF_SITES, BusReconnected, queue_length=BUS_QUEUE
        ) as events:
            async for event in events:
                try:
                    self._deliver(event, await self._question(event))
                except Exception:  # whoever may hear of it is unknown: let all read the rows, which are safe
                    log.exception("event_not_relayed", event_type=type(event).__name__)
                    self._deliver(BusReconnected(), None)

    async def _question(self, event: Event) -> _Question | None:
        """What is to be asked of each socket's user; None for what everyone may hear."""
        if (row := OF_SITES.get(type(event))) is not None:
            action, kind, field = row
            facts = asdict(event)
            return _Question(action, Resource(kind, facts[field], facts["site_id"]))
        conference_id = getattr(event, "conference_id", None)
        if conference_id is None:
            return None
        host = await self._host(conference_id)
        resource = None if host is None else Resource("conference", conference_id, host)
        return _Question(Action.VIEW_CONFERENCES, resource, conference_id)

    def _deliver(self, event: Event, question: _Question | None) -> None:
        text = message(event)
        for socket in tuple(self._sockets):
            if question is not None and not self._may_hear(socket.exchange, question):
                continue
            if not socket.offer(text):
                self._drops.add()

    def _may_hear(self, exchange: Exchange, question: _Question) -> bool:
        if exchange.guest is not None:
            return exchange.guest.conference_id == question.conference_id
        if exchange.actor is None or question.resource is None:
            return False
        return bool(self._authorisation.allowed(exchange.actor, question.action, question.resource))

    async def _host(self, conference_id: str) -> str | None:
        """A conference never changes its host, so that the rows are asked once."""
        known = self._hosts.get(conference_id)
        if known is not None:
            self._hosts.move_to_end(conference_id)
            return known
        host = await self._host_site(conference_id)
        if host is not None:
            self._hosts[conference_id] = host
            if len(self._hosts) > KNOWN_MEETINGS:
                self._hosts.popitem(last=False)
        return host


@dataclass(frozen=True, slots=True)
class _Question:
    """May this be heard of? `resource` None: by no user; a guest may hear of `conference_id`."""

    action: Action
    resource: Resource | None
    conference_id: str | None = None


def message(event: Event) -> str:
    """An event as a page reads it."""
    return msgspec.json.encode({"type": type(event).__name__, **msgspec.to_builtins(event)}).decode()


def _too_many(detail: str) -> Problem:
    return Problem(503, "Too many sockets", detail, headers={"Retry-After": "5"})


class _Socket:
    """One WebSocket and what waits to be sent on it."""

    def __init__(self, exchange: Exchange, response: web.WebSocketResponse, queue_length: int) -> None:
        self.exchange = exchange
        self.check_now = asyncio.Event()
        self._response = response
        self._queue: deque[str] = deque()
        self._queue_length = queue_length
        self._queued = asyncio.Event()
        self._over = asyncio.Event()
        self._farewell = (int(WSCloseCode.OK), "")

    def offer(self, text: str) -> bool:
        """Queue a message; False, and the socket ends, when the reader is too slow."""
        if len(self._queue) >= self._queue_length:
            self.end(SLOW_READER, "too slow; come again and read the rows")
            return False
        self._queue.append(text)
        self._queued.set()
        return True

    def end(self, code: int, reason: str) -> None:
        """Close with this code; the first one counts."""
        if not self._over.is_set():
            self._farewell = (code, reason)
            self._over.set()

    async def serve(self) -> None:
        """Until the peer goes or `end` is called."""
        tasks = [asyncio.create_task(work) for work in (self._read(), self._write(), self._wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            try:
                await self._close()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)  # a lost connection is no fault of ours

    async def _read(self) -> None:
        """Nothing is expected of pages; reading answers pings and notices the end."""
        async for _message in self._response:
            pass

    async def _write(self) -> None:
        while True:
            while self._queue:
                await self._response.send_str(self._queue.popleft())
            self._queued.clear()
            await self._queued.wait()

    async def _wait(self) -> None:
        await self._over.wait()

    async def _close(self) -> None:
        """Say why, to a peer that still listens; one that does not is cut off."""
        code, reason = self._farewell
        transport = self.exchange.request.transport
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._response.close(code=code, message=reason.encode()[:120])
        except (TimeoutError, ConnectionError, asyncio.CancelledError) as error:
            if transport is not None:
                transport.abort()  # to close it would wait for the peer to read what is still buffered
            if isinstance(error, asyncio.CancelledError):
                raise
