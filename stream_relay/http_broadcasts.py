"""Broadcasts over HTTP, for those who run them; viewers ask the edge (`hls.http_hls`), never here."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import BaseModel, Field, field_validator

from config.settings import Settings
from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Action, Authorisation, Resource
from foundation.clock import Clock
from foundation.database import Database
from foundation.desks import BroadcastStatus
from foundation.events import BroadcastChanged, Event
from foundation.http_edge import Exchange, Route, Wanted, bad_request, conflict, forbidden, not_found
from foundation.repositories.broadcasts import (
    Broadcast,
    BroadcastKind,
    BroadcastNameTaken,
    BroadcastRepository,
    BroadcastSubject,
)
from protocols.rtmp.session import parse_rtmp_url

BROADCASTS = "/api/v1/broadcasts"
NAME = r"^[a-z0-9](?:[a-z0-9-]{1,62}[a-z0-9])$"
RESERVED = frozenset({"assets"})
LONGEST_DELAY = 600.0
_VIEWS = {BroadcastKind.CONFERENCE: Action.VIEW_CONFERENCES, BroadcastKind.CAMERA: Action.VIEW_CAMERA}
"""Who may know of a broadcast, and so of its address: who may see what it shows."""


HIDDEN = "…"
"""Stands where a platform's secret was."""


def _push_url(value: str | None) -> str | None:
    if value:
        if HIDDEN in value:
            raise ValueError("this is the address as it is shown, without its secret: give the whole one")
        parse_rtmp_url(value)
    return value


def _shown(push_url: str) -> str:
    """Where to; the application and the stream key behind it are the platform's secret."""
    if not push_url:
        return ""
    parts = urlsplit(push_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{HIDDEN}"


class NewBroadcast(Wanted):
    kind: Literal["conference", "camera"]
    subject: str = Field(min_length=1, max_length=128)
    title: str | None = Field(default=None, min_length=1, max_length=200, description="that of the subject")
    name: str | None = Field(
        default=None,
        pattern=NAME,
        description="the address below /live; chosen when absent; a private one is always chosen",
    )
    public: bool = True
    delay_seconds: float = Field(default=0.0, ge=0, le=LONGEST_DELAY)
    push_url: str | None = Field(default=None, max_length=500, description="rtmp:// or rtmps://")

    _checked = field_validator("push_url")(_push_url)


class BroadcastPatch(Wanted):
    title: str | None = Field(default=None, min_length=1, max_length=200)
    delay_seconds: float | None = Field(default=None, ge=0, le=LONGEST_DELAY)
    push_url: str | None = Field(default=None, max_length=500, description="empty to stop pushing")

    _checked = field_validator("push_url")(_push_url)


class BroadcastOut(BaseModel):
    id: str
    name: str
    title: str
    kind: str
    subject: str
    site_id: str
    public: bool
    delay_seconds: float
    push_url: str | None = Field(description="where it is pushed to, without the platform's secret")
    started_by: str
    started_at: datetime
    stopped_at: datetime | None
    state: str
    detail: str
    viewers: int
    latency: float
    push_state: str
    push_detail: str
    watch_url: str
    playlist_url: str


class BroadcastRoutes:
    """`changed` is awaited after every change, so that the edge follows; `statuses` are by broadcast name.

    `publish` puts an event on the bus.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        clock: Clock,
        authorisation: Authorisation,
        statuses: Mapping[str, BroadcastStatus],
        changed: Callable[[], Awaitable[None]],
        publish: Callable[[Event], None],
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._authorisation = authorisation
        self._statuses = statuses
        self._changed = changed
        self._publish = publish

    @property
    def routes(self) -> tuple[Route, ...]:
        one, manage = f"{BROADCASTS}/{{id}}", Action.MANAGE_BROADCASTS
        return (
            Route(
                "GET",
                BROADCASTS,
                self.list_broadcasts,
                "Broadcasts: running ones and the last 50",
                Action.VIEW_CONFERENCES,
                returns=list[BroadcastOut],
                filtered=True,
            ),
            Route(
                "POST",
                BROADCASTS,
                self.start,
                "Broadcast a meeting or a camera to the public",
                manage,
                self._new,
                body=NewBroadcast,
                returns=BroadcastOut,
                status=201,
            ),
            Route(
                "PATCH",
                one,
                self.change,
                "Change title, delay or push",
                manage,
                self._broadcast,
                body=BroadcastPatch,
                returns=BroadcastOut,
            ),
            Route("DELETE", one, self.stop, "Stop at once", manage, self._broadcast, status=204),
        )

    # --- permission's resources ---------------------------------------------------------------------

    async def _new(self, exchange: Exchange) -> Resource:
        wanted = exchange.parsed(NewBroadcast)
        found = await self._subject(wanted)
        return Resource("broadcast", None, found.site_id)

    async def _broadcast(self, exchange: Exchange) -> Resource:
        found = await self._get(exchange.path["id"])
        return Resource("broadcast", found.id, found.site_id)

    async def _subject(self, wanted: NewBroadcast) -> BroadcastSubject:
        kind = BroadcastKind(wanted.kind)
        async with self._database.reading() as tx:
            found = await BroadcastRepository(tx).subject(kind, wanted.subject)
        if found is None:
            raise not_found(f"there is no {kind} {wanted.subject}")
        return found

    # --- the routes ---------------------------------------------------------------------------------

    async def list_broadcasts(self, exchange: Exchange) -> list[BroadcastOut]:
        sites = {kind: self._authorisation.sites(exchange.who, action) for kind, action in _VIEWS.items()}
        async with self._database.reading() as tx:
            found = await BroadcastRepository(tx).recent(sites)
        return [self._out(exchange, one) for one in found]

    async def start(self, exchange: Exchange) -> BroadcastOut:
        wanted = exchange.parsed(NewBroadcast)
        subject = await self._subject(wanted)
        kind = BroadcastKind(wanted.kind)
        if not self._settings.edge.enabled:
            raise conflict("this node broadcasts nothing: edge.enabled is off")
        if kind is BroadcastKind.CAMERA:
            camera = Resource("camera", wanted.subject, subject.site_id)
            decision = self._authorisation.allowed(exchange.who, Action.VIEW_CAMERA, camera)
            if not decision:
                raise forbidden(decision.reason)
        if not subject.running:
            state = "is switched off" if kind is BroadcastKind.CAMERA else "has ended"
            raise conflict(f"{kind} {wanted.subject} {state}")
        made = Broadcast(
            id=secrets.token_hex(16),
            name=_name(wanted),
            title=wanted.title or subject.title,
            kind=kind,
            subject=wanted.subject,
            site_id=subject.site_id,
            public=wanted.public,
            delay_seconds=wanted.delay_seconds,
            push_url=wanted.push_url or "",
            started_by=exchange.name,
            started_at=self._clock.now(),
        )
        detail = {
            "kind": wanted.kind,
            "subject": wanted.subject,
            "public": wanted.public,
            "delay_seconds": wanted.delay_seconds,
            **({"name": made.name} if made.public else {}),
            **_push_detail(wanted.push_url),
        }
        try:
            async with self._database.transaction() as tx:
                await BroadcastRepository(tx).add(made)
                await self._audit(exchange, tx, "start-broadcast", made.id, detail)
        except BroadcastNameTaken as error:
            raise conflict(str(error)) from None
        await self._follow(made, "waiting")
        return self._out(exchange, made)

    async def change(self, exchange: Exchange) -> BroadcastOut:
        wanted = exchange.parsed(BroadcastPatch)
        broadcast_id = exchange.path["id"]
        detail = wanted.model_dump(exclude_none=True, exclude={"push_url"}) | _push_detail(wanted.push_url)
        async with self._database.transaction() as tx:
            running = await BroadcastRepository(tx).change(
                broadcast_id,
                title=wanted.title,
                delay_seconds=wanted.delay_seconds,
                push_url=wanted.push_url,
            )
            if not running:
                raise conflict("the broadcast has been stopped")
            await self._audit(exchange, tx, "change-broadcast", broadcast_id, detail)
        changed = await self._get(broadcast_id)
        await self._follow(changed, self._state(changed))
        return self._out(exchange, await self._get(broadcast_id))

    async def stop(self, exchange: Exchange) -> None:
        broadcast_id = exchange.path["id"]
        async with self._database.transaction() as tx:
            stopped = await BroadcastRepository(tx).stop(broadcast_id, self._clock.now())
            if stopped:
                await self._audit(exchange, tx, "stop-broadcast", broadcast_id, {})
        if stopped:
            await self._follow(await self._get(broadcast_id), "stopped")

    # --- what they share ----------------------------------------------------------------------------

    async def _get(self, broadcast_id: str) -> Broadcast:
        async with self._database.reading() as tx:
            found = await BroadcastRepository(tx).get(broadcast_id)
        if found is None:
            raise not_found(f"there is no broadcast {broadcast_id}")
        return found

    async def _audit(
        self, exchange: Exchange, tx: Any, action: str, broadcast_id: str, detail: Mapping[str, Any]
    ) -> None:
        entry = AuditEntry(
            exchange.name, action, f"broadcast:{broadcast_id}", "done", exchange.address, detail
        )
        await AuditTrail(tx, self._clock).append(entry)

    async def _follow(self, broadcast: Broadcast, state: str) -> None:
        await self._changed()
        self._publish(BroadcastChanged(broadcast.id, broadcast.site_id, state))

    def _state(self, broadcast: Broadcast) -> str:
        if broadcast.stopped_at is not None:
            return "stopped"
        status = self._statuses.get(broadcast.name)
        return "waiting" if status is None else status.state

    def _out(self, exchange: Exchange, one: Broadcast) -> BroadcastOut:
        running = one.stopped_at is None
        status = self._statuses.get(one.name) if running else None
        status = status or BroadcastStatus(one.name, "waiting" if running else "stopped")
        place = Resource("broadcast", one.id, one.site_id)
        manages = self._authorisation.allowed(exchange.who, Action.MANAGE_BROADCASTS, place)
        address = self._address(exchange.request)
        return BroadcastOut(
            id=one.id,
            name=one.name,
            title=one.title,
            kind=str(one.kind),
            subject=one.subject,
            site_id=one.site_id,
            public=one.public,
            delay_seconds=one.delay_seconds,
            push_url=_shown(one.push_url) if manages else None,
            started_by=one.started_by,
            started_at=one.started_at,
            stopped_at=one.stopped_at,
            state=status.state,
            detail=status.detail,
            viewers=status.viewers,
            latency=status.latency,
            push_state=status.push_state,
            push_detail=status.push_detail if manages else "",
            watch_url=f"{address}/watch/{one.name}",
            playlist_url=f"{address}/live/{one.name}/index.m3u8",
        )

    def _address(self, request: web.Request) -> str:
        """Where viewers go: as set, else the host that this caller used, at the edge's port."""
        edge = self._settings.edge
        if edge.external_url is not None:
            return edge.external_url.rstrip("/")
        host = urlsplit(f"//{request.host}").hostname or "localhost"
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self._settings.http.tls else 'http'}://{host}:{edge.port}"


def _name(wanted: NewBroadcast) -> str:
    """A private broadcast's name is its key: 128 bits that nobody guesses."""
    if not wanted.public:
        if wanted.name is not None:
            raise bad_request("name: a private broadcast gets a name that cannot be guessed")
        return secrets.token_hex(16)
    if wanted.name in RESERVED:
        raise bad_request(f"name: {wanted.name!r} is taken by the service itself")
    return wanted.name or f"{wanted.kind}-{secrets.token_hex(4)}"


def _push_detail(url: str | None) -> dict[str, str]:
    """For the audit: where to, without the platform's secret."""
    if url is None:
        return {}
    return {"push": parse_rtmp_url(url).host if url else ""}
