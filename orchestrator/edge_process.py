"""The objects of the edge process: the public's listener, and the broadcasts behind it.

Nothing a viewer asks reaches main: playlists, parts and the watch page come from this process's memory. What
is broadcast is told by main over the desk "broadcast"; the pictures come over the links of the processes
that have them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import mimetypes
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.helpers import ETag

from config.settings import Settings
from foundation.address_bounds import AddressBounds
from foundation.desk_socket import DeskServer
from foundation.desks import BroadcastDesk
from foundation.tasks import TaskScope
from media.link import LinkClient
from media.node_streams import NodeStreams
from media.stream_source import StreamSource
from orchestrator.certificate import server_context
from orchestrator.control import WorkerAddress
from orchestrator.edge_door import KEEP_ALIVE_SECONDS, TURNED_AWAY, Door, listening
from orchestrator.peer_address import TrustedProxies, is_loopback, peer_of
from orchestrator.resources import pages_folder
from stream_relay.broadcasts import Broadcasts
from stream_relay.hls.channel import Channel
from stream_relay.hls.http_hls import hls_routes

DESK = "broadcast"
LINGER_SECONDS = 2.0
OWN_DESCRIPTORS = 256
FOR_EVER = "public, max-age=31536000, immutable"
HSTS = "max-age=31536000"
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; connect-src 'self'; "
        "style-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
    ),
    "Permissions-Policy": "camera=(), microphone=(), display-capture=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = structlog.get_logger("edge")


async def run_edge(
    settings: Settings,
    socket_path: Path,
    links: Sequence[WorkerAddress],
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Serve the broadcast desk on `socket_path` and viewers on the edge's port until `stop` is set."""
    streams = NodeStreams([LinkClient(address.link) for address in links])
    async with (
        edge_part(settings, streams) as broadcasts,
        DeskServer(socket_path, {DESK: (BroadcastDesk, broadcasts)}),
    ):
        ready()
        await stop.wait()


@asynccontextmanager
async def edge_part(settings: Settings, streams: StreamSource) -> AsyncIterator[Broadcasts]:
    """Running broadcasts and their listener. Raises OSError when the port is taken, ConfigurationError."""
    context = server_context(settings) if settings.http.tls else None
    _room_for(settings.edge.viewers)
    async with AsyncExitStack() as stack:
        broadcasts = await stack.enter_async_context(Broadcasts(streams))
        scope = await stack.enter_async_context(TaskScope("edge"))
        proxies = TrustedProxies(settings.http.trusted_proxies)
        crowd = AddressBounds(settings.edge.viewers_of_one, proxies.networks)
        door = Door(settings.edge.viewers, crowd, proxies)
        app = _app(settings, broadcasts, door)
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=0.2,  # a viewer comes again by itself
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if runner.server is None:
            raise RuntimeError("aiohttp made no server")
        listener = listening(settings.edge.bind, settings.edge.port)
        stack.push_async_callback(door.aclose)
        door.open(runner.server, listener, context)
        scope.supervise("door", door.run)
        yield broadcasts


def _app(settings: Settings, broadcasts: Broadcasts, door: Door) -> web.Application:
    def resolve(name: str) -> Channel | None:
        if not broadcasts.planned:  # main will say in a moment what there is
            raise web.HTTPServiceUnavailable(
                text="the service is starting",
                headers={"Retry-After": "1", "Access-Control-Allow-Origin": "*"},
            )
        return broadcasts.channel(name)

    app = web.Application(middlewares=[*_listener(settings), door.asked])
    app.add_routes(hls_routes(resolve))
    app.add_routes(_page_routes(WatchPage.load()))
    hsts = settings.http.tls and settings.http.certificate is not None

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "anshi"
        if not request.path.startswith("/live/"):  # media has what it needs
            response.headers.update(SECURITY_HEADERS)
        if hsts:
            response.headers["Strict-Transport-Security"] = HSTS

    app.on_response_prepare.append(add_headers)
    return app


def _listener(settings: Settings) -> list[Callable[..., Awaitable[web.StreamResponse]]]:
    """Without TLS only trusted proxies and this machine itself are answered, as at the other listener."""
    if settings.http.tls:
        return []
    proxies = TrustedProxies(settings.http.trusted_proxies)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = peer_of(request)
        if not is_loopback(peer) and peer not in proxies:
            raise web.HTTPForbidden(text="this listener has no TLS and answers its trusted proxies only")
        return await handler(request)

    return [check]


def _room_for(viewers: int) -> None:
    """A descriptor for each connection, as far as this process may have them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = viewers + TURNED_AWAY + OWN_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < viewers:
        _log.warning("too_few_descriptors", viewers=viewers, descriptors=wanted)


# --- the watch page -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the build, in memory; `packed` is its gzip."""

    data: bytes
    packed: bytes
    content_type: str
    tag: str

    @classmethod
    def load(cls, path: Path) -> PageFile:
        data = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return cls(data, gzip.compress(data, mtime=0), kind, hashlib.sha256(data).hexdigest()[:32])

    def answer(self, request: web.Request, cache: str) -> web.Response:
        response = web.Response(headers={"Cache-Control": cache, "Vary": "Accept-Encoding"})
        response.etag = ETag(self.tag)
        if any(tag.value == self.tag for tag in request.if_none_match or ()):
            response.set_status(304)
            return response
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.headers["Content-Encoding"] = "gzip"
            response.body = self.packed
        else:
            response.body = self.data
        response.content_type = self.content_type
        if self.content_type.startswith("text/"):
            response.charset = "utf-8"
        return response


@dataclass(frozen=True, slots=True)
class WatchPage:
    """The build of web/watch, read once at start; `index` is None before set-up has built it."""

    index: PageFile | None
    assets: dict[str, PageFile]

    @classmethod
    def load(cls) -> WatchPage:
        pages = pages_folder()
        folder = None if pages is None else pages / "watch"
        if folder is None or not (folder / "index.html").is_file():
            return cls(None, {})
        assets = {file.name: PageFile.load(file) for file in (folder / "assets").iterdir() if file.is_file()}
        return cls(PageFile.load(folder / "index.html"), assets)


def _page_routes(page: WatchPage) -> list[web.RouteDef]:
    async def watch(request: web.Request) -> web.Response:
        if page.index is None:
            raise web.HTTPServiceUnavailable(text="the watch page has not been built")
        return page.index.answer(request, "no-cache")

    async def asset(request: web.Request) -> web.Response:
        found = page.assets.get(request.match_info["file"])
        if found is None:
            raise web.HTTPNotFound(text="there is no such file")
        return found.answer(request, FOR_EVER)

    return [web.get("/watch/{name}", watch), web.get("/watch/assets/{file}", asset)]
