"""The HTTP edge: who asks is resolved once, permission asked once, then the domain's handler runs.

Routes come as tables (`foundation.http_edge.Route`); this module turns each into an aiohttp handler,
answers problems as RFC 9457, serves the browser pages and the OpenAPI document made from the same table.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError

from config.settings import Settings
from foundation.authorisation import Authorisation, Resource
from foundation.database import DatabaseBusy, DatabaseUnavailable
from foundation.desks import Refusal
from foundation.http_edge import Exchange, Guest, Problem, Route
from foundation.identity import HasherBusy, Identity, Session, SessionKind, TooManyAttempts
from orchestrator.guest_passes import GuestPasses
from orchestrator.openapi import openapi_document

log = structlog.get_logger(__name__)

SESSION_COOKIE = "anshi_session"
GUEST_PREFIX = "guest."
MAX_BODY = 1 << 20
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
)

Middleware = Callable[[web.Request, Callable[[web.Request], Awaitable[web.StreamResponse]]], Any]


class Edge:
    """Resolves callers and runs routes."""

    def __init__(
        self, settings: Settings, identity: Identity, authorisation: Authorisation, guests: GuestPasses
    ) -> None:
        self._identity = identity
        self._authorisation = authorisation
        self._guests = guests
        self._proxies = [ipaddress.ip_network(proxy) for proxy in settings.http.trusted_proxies]

    def address(self, request: web.Request) -> str:
        """The caller's address; a trusted proxy's word for it is taken, nobody else's."""
        peer = request.remote or "unknown"
        forwarded = request.headers.get("X-Forwarded-For")
        if forwarded is None or not self._is_proxy(peer):
            return peer
        hops = [hop.strip() for hop in forwarded.split(",")]
        return next((hop for hop in reversed(hops) if not self._is_proxy(hop)), peer)

    def _is_proxy(self, address: str) -> bool:
        try:
            host = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(host in network for network in self._proxies)

    async def caller(self, request: web.Request) -> Exchange:
        """Who asks. Raises the 401 problem for a token that is over, 403 for a missing CSRF token."""
        address = self.address(request)
        bearer = request.headers.get("Authorization", "")
        if bearer.startswith("Bearer "):
            return await self._signed(request, address, bearer[7:].strip(), SessionKind.BEARER)
        cookie = request.cookies.get(SESSION_COOKIE)
        if cookie is None:
            return Exchange(request, address)
        exchange = await self._signed(request, address, cookie, SessionKind.COOKIE)
        presented = request.headers.get("X-CSRF-Token")
        if request.method not in SAFE_METHODS and not self._identity.csrf_valid(cookie, presented):
            raise Problem(403, "Forbidden", "the request lacks the session's X-CSRF-Token")
        return exchange

    async def _signed(self, request: web.Request, address: str, token: str, kind: SessionKind) -> Exchange:
        if token.startswith(GUEST_PREFIX):
            guest = self._guests.resolve(token)
            if guest is None:
                raise Problem(401, "Not signed in", "the guest pass is over; join again")
            return Exchange(request, address, guest=guest, token=token)
        session: Session | None = await self._identity.resolve(token, kind)
        if session is None:
            raise Problem(401, "Not signed in", "the session is over; sign in again")
        return Exchange(request, address, actor=session.actor, token=token)

    async def run(self, route: Route, request: web.Request) -> web.StreamResponse:
        exchange = await self._caller_for(route, request)
        if route.action is not None and exchange.actor is None and exchange.guest is None:
            raise Problem(401, "Not signed in", "sign in first")
        if route.body is not None:
            exchange.body = await _body(request, route.body)
        await self._permit(route, exchange)
        return _answer(route, await route.handler(exchange))

    async def _caller_for(self, route: Route, request: web.Request) -> Exchange:
        if route.action is not None:
            return await self.caller(request)
        try:
            return await self.caller(request)
        except Problem:
            return Exchange(request, self.address(request))  # a public route does not mind an old cookie

    async def _permit(self, route: Route, exchange: Exchange) -> None:
        """The one question: may this actor do this to that?"""
        if route.action is None:
            return
        if exchange.guest is not None:
            self._permit_guest(route, exchange.guest, await route.resource(exchange))
            return
        actor = exchange.who
        if route.filtered:
            resource = Resource("list", None, actor.site_id)
        else:
            resource = await route.resource(exchange)
        decision = self._authorisation.allowed(actor, route.action, resource)
        if not decision:
            raise Problem(403, "Forbidden", decision.reason)

    def _permit_guest(self, route: Route, guest: Guest, resource: Resource) -> None:
        if not route.guests or resource.kind != "conference" or resource.id != guest.conference_id:
            raise Problem(403, "Forbidden", "a guest may only join the meeting of the pass")


async def _body(request: web.Request, model: type[BaseModel]) -> BaseModel:
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        faults = [
            {"at": ".".join(str(part) for part in fault["loc"]) or "body", "what": fault["msg"]}
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        detail = "; ".join(f"{fault['at']}: {fault['what']}" for fault in faults[:3])
        raise Problem(422, "Invalid body", detail, faults=faults) from None


def _answer(route: Route, result: Any) -> web.StreamResponse:
    if isinstance(result, web.StreamResponse):
        return result
    if result is None:
        return web.Response(status=204)
    encoded = TypeAdapter(route.returns).dump_json(result)
    return web.Response(body=encoded, status=route.status, content_type="application/json")


def problem_response(problem: Problem) -> web.Response:
    body = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    return web.Response(
        status=problem.status,
        headers=problem.headers,
        body=json.dumps(body, ensure_ascii=False).encode(),
        content_type="application/problem+json",
    )


def _known_failure(error: Exception) -> Problem | None:
    """Failures that any route may meet, with their words."""
    match error:
        case DatabaseBusy() | DatabaseUnavailable():
            return Problem(503, "Database unavailable", str(error), headers={"Retry-After": "2"})
        case TooManyAttempts():
            seconds = str(max(1, round(error.retry_after)))
            return Problem(429, "Too many attempts", str(error), headers={"Retry-After": seconds})
        case HasherBusy():
            return Problem(503, "Busy", str(error), headers={"Retry-After": "1"})
        case Refusal():
            seconds = str(error.retry_after or 2)
            return Problem(503, "Media worker unavailable", error.detail, headers={"Retry-After": seconds})
        case _:
            return None


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every error leaves as a problem document; an unknown one is logged and says nothing of the inside."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem_response(problem)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return problem_response(Problem(error.status, error.reason, error.text or error.reason))
    except Exception as error:
        known = _known_failure(error)
        if known is not None:
            return problem_response(known)
        log.exception("request_failed", method=request.method, path=request.path)
        return problem_response(Problem(500, "Internal error", "the service failed; its log says why"))


async def _security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if response.content_type == "application/json":
        response.headers.setdefault("Cache-Control", "no-store")


def build_app(edge: Edge, routes: Iterable[Route], pages: Path | None, version: str) -> web.Application:
    """The application of the main process; `pages` is the folder of the built pages, None without them."""
    table = tuple(routes)
    app = web.Application(middlewares=[problems], client_max_size=MAX_BODY)
    app.on_response_prepare.append(_security_headers)
    for route in table:
        app.router.add_route(route.method, route.path, _runner(edge, route))
    document = json.dumps(openapi_document(table, version), ensure_ascii=False).encode()

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    app.router.add_get("/api/v1/openapi.json", openapi)
    if pages is not None and pages.is_dir():
        _serve_pages(app, pages)
    return app


def _runner(edge: Edge, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def run(request: web.Request) -> web.StreamResponse:
        return await edge.run(route, request)

    return run


def _serve_pages(app: web.Application, pages: Path) -> None:
    """The built pages: hashed assets for ever, the page itself for any other path (history routing)."""
    index = (pages / "index.html").read_bytes()
    files = {file.name: file for file in pages.iterdir() if file.is_file()}

    async def page(request: web.Request) -> web.StreamResponse:
        if request.path.startswith(("/api/", "/ws", "/live/")):
            raise Problem(404, "Not found", f"there is nothing at {request.path}")
        file = files.get(request.match_info["path"])
        if file is not None:
            return web.FileResponse(file)
        return web.Response(body=index, content_type="text/html", headers={"Cache-Control": "no-cache"})

    if (pages / "assets").is_dir():
        app.router.add_static("/assets", pages / "assets", append_version=False)
    app.router.add_get("/{path:.*}", page)
