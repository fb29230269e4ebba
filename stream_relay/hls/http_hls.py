"""The routes of a broadcast: playlists, inits, segments and parts, all from memory.

    app.add_routes(hls_routes(resolve))           resolve(name) -> Channel | None

GET /live/{name}/index.m3u8 (multivariant), media.m3u8 (blocking, delta updates), init-N.mp4, seg-M.m4s,
part-M.I.m4s, info.json. Who may watch is decided before these routes; they only read. A broadcast that was
stopped answers its media playlist with the end and everything else with 410. Pages of other sites may play
it: every answer allows any origin.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from stream_relay.hls.channel import Channel
from stream_relay.hls.live_broadcast import LiveBroadcast, TooManyWaiting
from stream_relay.hls.viewers import new_key

PLAYLIST = "application/vnd.apple.mpegurl"
MP4 = "video/mp4"
RETRY_SECONDS = "2"
_ANY_ORIGIN = {"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"}
_FRESH = {"Cache-Control": "no-cache", **_ANY_ORIGIN}
_OWN = {"Cache-Control": "no-store", **_ANY_ORIGIN}
"""For what holds a viewer's key."""
_LASTING = {"Cache-Control": "public, max-age=60, immutable", "Content-Type": MP4, **_ANY_ORIGIN}
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
    **_ANY_ORIGIN,
}


def hls_routes(resolve: Callable[[str], Channel | None]) -> list[web.RouteDef]:
    """What the edge mounts."""
    handlers = _Handlers(resolve)
    return [  # what is asked most comes first: they are tried in this order
        web.get(r"/live/{name}/part-{msn:\d{1,12}}.{index:\d{1,4}}.m4s", handlers.part),
        web.get("/live/{name}/media.m3u8", handlers.media),
        web.get(r"/live/{name}/seg-{msn:\d{1,12}}.m4s", handlers.segment),
        web.get(r"/live/{name}/init-{number:\d{1,12}}.mp4", handlers.init),
        web.get("/live/{name}/index.m3u8", handlers.multivariant),
        web.get("/live/{name}/info.json", handlers.info),
        web.get("/live/{path:.*}", handlers.nothing),
        web.options("/live/{path:.*}", handlers.preflight),
    ]


class _Handlers:
    def __init__(self, resolve: Callable[[str], Channel | None]) -> None:
        self._resolve = resolve

    async def multivariant(self, request: web.Request) -> web.Response:
        """Waits for the first part, so that codecs and size are known."""
        live = self._watched(request).live
        await _wait(live, live.playlist.first, 0)
        self._watched(request)  # it may have been stopped meanwhile
        width, height = live.size
        text = (
            "#EXTM3U\n#EXT-X-VERSION:9\n"
            f'#EXT-X-STREAM-INF:BANDWIDTH={live.playlist.peak_rate},CODECS="{live.codecs}",RESOLUTION={width}x{height}\n'
            f"media.m3u8?v={new_key()}\n"
        )
        return web.Response(text=text, content_type=PLAYLIST, headers=_OWN)

    async def media(self, request: web.Request) -> web.Response:
        """Blocks until _HLS_msn and _HLS_part are there (RFC 8216bis 6.2.5.2)."""
        channel = self._channel(request)
        live = channel.live
        msn, part = _number(request, "_HLS_msn"), _number(request, "_HLS_part")
        if part is not None and msn is None:
            raise web.HTTPBadRequest(text="_HLS_part was asked without _HLS_msn", headers=_ANY_ORIGIN)
        if not channel.stopped:
            channel.viewers.saw(
                request.query.get("v"), request.remote or "", request.headers.get("User-Agent", "")
            )
            await _wait(live, live.playlist.first, 0)
        if msn is not None and not live.playlist.ended:
            if live.playlist.too_far(msn, part):
                raise web.HTTPBadRequest(text=f"segment {msn} is too far in the future", headers=_ANY_ORIGIN)
            await _wait(live, msn, part)
        skip = request.query.get("_HLS_skip") in ("YES", "v2") and not channel.stopped
        text = live.playlist.render(skip=skip).encode()
        channel.sent_bytes += len(text)
        return web.Response(body=text, content_type=PLAYLIST, headers=_FRESH)

    async def info(self, request: web.Request) -> web.Response:
        """What the watch page says beside the picture."""
        channel = self._channel(request)
        body = {
            "title": channel.title,
            "state": str(channel.state),
            "viewers": channel.viewers.count,
            "delay_seconds": channel.delay,
        }
        return web.json_response(body, headers=_FRESH)

    async def init(self, request: web.Request) -> web.Response:
        channel = self._watched(request)
        return _bytes(channel, channel.live.playlist.init(int(request.match_info["number"])))

    async def segment(self, request: web.Request) -> web.Response:
        channel = self._watched(request)
        return _bytes(channel, channel.live.playlist.segment(int(request.match_info["msn"])))

    async def part(self, request: web.Request) -> web.Response:
        """The part that is hinted at is waited for (4.4.5.3)."""
        channel = self._watched(request)
        live = channel.live
        msn, index = int(request.match_info["msn"]), int(request.match_info["index"])
        if (msn, index) == live.playlist.next_part and not live.playlist.ended:
            await _wait(live, msn, index)
            self._watched(request)
        return _bytes(channel, live.playlist.part(msn, index))

    async def nothing(self, _request: web.Request) -> web.Response:
        raise web.HTTPNotFound(text="there is nothing of that name", headers=_ANY_ORIGIN)

    async def preflight(self, _request: web.Request) -> web.Response:
        return web.Response(status=204, headers=_PREFLIGHT)

    def _channel(self, request: web.Request) -> Channel:
        channel = self._resolve(request.match_info["name"])
        if channel is None:
            raise web.HTTPNotFound(text="there is no such broadcast", headers=_ANY_ORIGIN)
        return channel

    def _watched(self, request: web.Request) -> Channel:
        """The broadcast, while it may be watched."""
        channel = self._channel(request)
        if channel.stopped:
            raise web.HTTPGone(text="the broadcast has ended", headers=_ANY_ORIGIN)
        return channel


async def _wait(live: LiveBroadcast, msn: int, part: int | None) -> None:
    if live.playlist.has(msn, part) and not live.playlist.beyond_parts(msn, part):
        return
    try:
        there = await live.wait_for(msn, part)
    except TooManyWaiting:
        there = False
    if not there:
        raise web.HTTPServiceUnavailable(
            text="the broadcast has nothing new", headers={"Retry-After": RETRY_SECONDS, **_ANY_ORIGIN}
        )


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise web.HTTPBadRequest(text=f"{name} is a number", headers=_ANY_ORIGIN)
    return int(text)


def _bytes(channel: Channel, data: bytes | None) -> web.Response:
    if data is None:
        raise web.HTTPNotFound(text="this is not there, or not any more", headers=_ANY_ORIGIN)
    channel.sent_bytes += len(data)
    return web.Response(body=data, headers=_LASTING)
