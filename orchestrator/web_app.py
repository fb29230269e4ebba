"""The HTTP edge: who asks is resolved once, permission asked once, then the domain's handler runs.

    edge = Edge(settings=settings, identity=identity, authorisation=authorisation, guests=guests)
    app = build_app(edge, (*sessions.routes, *conferences.routes, ...), pages, version)

Routes come as tables (`foundation.http_edge.Route`); this module turns each into an aiohttp handler
and serves the browser pages and the OpenAPI document made from the same table. Errors leave as problems
(`http_problems`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel, TypeAdapter, ValidationError

from config.settings import Settings
from foundation.authorisation import Authorisation, Resource
from foundation.http_edge import Exchange, Guest, Problem, Route, forbidden
from foundation.identity import Identity, SessionKind
from orchestrator.guest_passes import PREFIX, GuestPasses
from orchestrator.http_pages import serve_pages
from orchestrator.http_problems import Handler, problems
from orchestrator.openapi import openapi_document
from orchestrator.peer_address import TrustedProxies, is_loopback, peer_of

SESSION_COOKIE = "anshi_session"
MAX_BODY = 1 << 20
BODY_SECONDS = 20.0
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORWARDING = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "style-src 'self' 'unsafe-inline'; connect-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
HSTS = "max-age=31536000"


class Edge:
    """Resolves callers and asks permission."""

    def __init__(
        self, *, settings: Settings, identity: Identity, authorisation: Authorisation, guests: GuestPasses
    ) -> None:
        self._identity = identity
        self._authorisation = authorisation
        self._guests = guests
        self._http = settings.http
        self._proxies = TrustedProxies(settings.http.trusted_proxies)

    # --- where a request comes from -----------------------------------------------------------------

    def address(self, request: web.Request) -> str:
        """The caller's address; a trusted proxy's word for it is taken, nobody else's."""
        return self._proxies.address(request)

    def secure(self, request: web.Request) -> bool:
        """Whether the caller's own side of the connection is encrypted."""
        if self._http.tls:
            return True
        if peer_of(request) not in self._proxies:
            return False
        forwarded = request.headers.get("X-Forwarded-Proto")
        if forwarded is None:
            return (self._http.external_url or "").startswith("https:")
        return forwarded.rpartition(",")[2].strip().lower() == "https"

    def local(self, request: web.Request) -> bool:
        """Whether this machine or a trusted proxy asks for itself, not on somebody's behalf."""
        if any(name in request.headers for name in FORWARDING):
            return False
        peer = peer_of(request)
        return is_loopback(peer) or peer in self._proxies

    def check_listener(self, request: web.Request) -> None:
        """Without TLS only proxies (and this machine itself) are answered. Raises the 403 problem."""
        peer = peer_of(request)
        if not (self._http.tls or peer in self._proxies or is_loopback(peer)):
            raise forbidden("this listener has no TLS and answers its trusted proxies only")

    def check_origin(self, request: web.Request) -> None:
        """A page of ours asks, not somebody else's with our cookie. Raises the 403 problem."""
        origin = urlsplit(request.headers.get("Origin", ""))
        trusted = [request.headers.get("Host", "")]
        if peer_of(request) in self._proxies:
            trusted.append(request.headers.get("X-Forwarded-Host", ""))
        if self._http.external_url is not None:
            trusted.append(urlsplit(self._http.external_url).netloc)
        schemes = ("https",) if self.secure(request) else ("http", "https")
        same = origin.netloc.lower() in {
            _without_default_port(host, origin.scheme) for host in trusted if host
        }
        if origin.scheme not in schemes or not same:
            raise forbidden("the request's Origin is not this service")

    def hsts(self, request: web.Request) -> bool:
        """Whether browsers may be told to insist on TLS: not for a certificate that we signed ourselves."""
        return self.secure(request) and (self._http.certificate is not None or not self._http.tls)

    # --- who asks -----------------------------------------------------------------------------------

    async def caller(self, request: web.Request) -> Exchange:
        """Who asks. Raises the 401 problem for a token that is over, 403 for a missing CSRF token."""
        exchange = self._stranger(request)
        if await self.identify(exchange) is not SessionKind.COOKIE:
            return exchange
        presented = request.headers.get("X-CSRF-Token")
        token = exchange.token or ""
        if request.method not in SAFE_METHODS and not self._identity.csrf_valid(token, presented):
            raise forbidden("the request lacks the session's X-CSRF-Token")
        if hdrs.UPGRADE in request.headers:  # pages cannot put a header of ours on a WebSocket's request
            self.check_origin(request)
        return exchange

    async def identify(self, exchange: Exchange) -> SessionKind | None:
        """Fill in whose token the request carries; None without one. Raises the 401 problem."""
        scheme, _, credentials = exchange.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            exchange.token, kind = credentials.strip(), SessionKind.BEARER
        else:
            exchange.token, kind = exchange.request.cookies.get(SESSION_COOKIE), SessionKind.COOKIE
        if exchange.token is None:
            return None
        if exchange.token.startswith(PREFIX):
            exchange.guest = await self._guests.resolve(exchange.token)
            if exchange.guest is None:
                raise Problem(401, "Not signed in", "the guest pass is over; join again")
            return kind
        session = await self._identity.resolve(exchange.token, kind)
        if session is None:
            raise Problem(401, "Not signed in", "the session is over; sign in again")
        exchange.actor = session.actor
        return kind

    def _stranger(self, request: web.Request) -> Exchange:
        return Exchange(request, self.address(request), self.secure(request))

    # --- one request --------------------------------------------------------------------------------

    async def exchange(self, route: Route, request: web.Request) -> Exchange:
        """Everything the handler needs, permission asked: role first, then body, then the place."""
        if route.public or (route.local and self.local(request)):
            exchange = self._stranger(request)
            await _read(route, exchange)
            return exchange
        exchange = await self.caller(request)
        if exchange.actor is None and exchange.guest is None:
            raise Problem(401, "Not signed in", "sign in first")
        self._permit_role(route, exchange)
        await _read(route, exchange)
        await self._permit_place(route, exchange)
        return exchange

    def _permit_role(self, route: Route, exchange: Exchange) -> None:
        """Before anything is read or looked up: those without the right learn nothing, not even a 404."""
        if route.action is None:
            return
        if exchange.guest is not None:
            if not route.guests:
                raise forbidden("a guest may only join the meeting of the pass")
            return
        decision = self._authorisation.has_right(exchange.who, route.action)
        if not decision:
            raise forbidden(decision.reason)

    async def _permit_place(self, route: Route, exchange: Exchange) -> None:
        """The one question: may this actor do this to that?"""
        if route.action is None:
            return
        if exchange.guest is not None:
            _permit_guest(exchange.guest, await route.resource(exchange))
            return
        if route.filtered:
            return
        decision = self._authorisation.allowed(exchange.who, route.action, await route.resource(exchange))
        if not decision:
            raise forbidden(decision.reason)


def _permit_guest(guest: Guest, resource: Resource) -> None:
    if resource.kind != "conference" or resource.id != guest.conference_id:
        raise forbidden("a guest may only join the meeting of the pass")


# --- bodies, queries, answers -------------------------------------------------------------------------


async def _read(route: Route, exchange: Exchange) -> None:
    if route.query is not None:
        try:
            exchange.query = route.query.model_validate(dict(exchange.request.query))
        except ValidationError as error:
            raise _invalid("query", error) from None
    if route.body is not None:
        exchange.body = await _body(exchange.request, route.body)


async def _body(request: web.Request, model: type[BaseModel]) -> BaseModel:
    if request.content_type != "application/json":
        detail = f"the body's Content-Type is {request.content_type}, not application/json"
        raise Problem(415, "Unsupported Media Type", detail, headers={"Accept": "application/json"})
    try:
        async with asyncio.timeout(BODY_SECONDS):
            text = await request.read()
    except TimeoutError:
        detail = f"the body was not whole after {BODY_SECONDS:g} s"
        raise Problem(408, "Request Timeout", detail, headers={"Connection": "close"}) from None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise _invalid("body", error) from None


def _invalid(part: str, error: ValidationError) -> Problem:
    """400 for what is no JSON, 422 for JSON that does not say what it should."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    faults = [{"at": ".".join(map(str, fault["loc"])) or part, "what": fault["msg"]} for fault in found]
    detail = "; ".join(f"{fault['at']}: {fault['what']}" for fault in faults[:3])
    if any(fault["type"] == "json_invalid" for fault in found):
        return Problem(400, "Bad request", detail)
    return Problem(422, f"Invalid {part}", detail, faults=faults)


def _runner(edge: Edge, route: Route) -> Handler:
    adapter: TypeAdapter[Any] = TypeAdapter(route.returns)

    async def run(request: web.Request) -> web.StreamResponse:
        result = await route.handler(await edge.exchange(route, request))
        if isinstance(result, web.StreamResponse):
            return result
        if result is None:
            return web.Response(status=204)
        return web.Response(
            body=adapter.dump_json(result), status=route.status, content_type="application/json"
        )

    return run


# --- the application ------------------------------------------------------------------------------------


def build_app(edge: Edge, routes: Iterable[Route], pages: Path | None, version: str) -> web.Application:
    """The application of the main process; `pages` is the folder of the built pages, None without them."""
    table = tuple(routes)
    app = web.Application(middlewares=[problems, _listener(edge)], client_max_size=MAX_BODY)
    app.on_response_prepare.append(_headers(edge))
    for route in table:
        handler = _runner(edge, route)
        if route.method == "GET":
            app.router.add_get(route.path, handler)  # and HEAD
        else:
            app.router.add_route(route.method, route.path, handler)
    app.router.add_get("/api/v1/openapi.json", _openapi(table, version))
    if pages is not None and pages.is_dir():
        serve_pages(app, pages)
    return app


def _openapi(table: Sequence[Route], version: str) -> Handler:
    """The document is made when it is first asked for, beside the event loop: it takes a while."""
    making: list[asyncio.Task[bytes]] = []

    def make() -> bytes:
        return json.dumps(openapi_document(table, version), ensure_ascii=False).encode()

    async def openapi(_request: web.Request) -> web.Response:
        if not making:
            making.append(asyncio.create_task(asyncio.to_thread(make), name="openapi"))
        return web.Response(body=await asyncio.shield(making[0]), content_type="application/json")

    return openapi


def _listener(edge: Edge) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        edge.check_listener(request)
        return await handler(request)

    return check


def _headers(edge: Edge) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def add(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "anshi"  # not which versions of what it is made of
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        if edge.hsts(request):
            response.headers.setdefault("Strict-Transport-Security", HSTS)
        if request.path.startswith("/api/"):
            response.headers.setdefault("Cache-Control", "no-store")

    return add


# --- addresses -------------------------------------------------------------------------------------------


def _without_default_port(host: str, scheme: str) -> str:
    """As browsers write it in an Origin (RFC 6454 6.2)."""
    default = {"https": ":443", "http": ":80"}.get(scheme, "")
    return host.lower().removesuffix(default) if default else host.lower()
