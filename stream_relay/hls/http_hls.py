"""The routes of a broadcast: playlists, inits, segments and parts, all from memory.

    app.add_routes(hls_routes(resolve))           resolve(name) -> LiveBroadcast | None

GET /live/{name}/index.m3u8 (multivariant), media.m3u8 (blocking, delta updates), init-N.mp4, seg-M.m4s,
part-M.I.m4s. Who may watch is decided before these routes; they only read.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from stream_relay.hls.live_broadcast import LiveBroadcast, TooManyWaiting

PLAYLIST = "application/vnd.apple.mpegurl"
MP4 = "video/mp4"
RETRY_SECONDS = "2"
_FRESH = {"Cache-Control": "no-cache"}
_LASTING = {"Cache-Control": "public, max-age=60, immutable"}


def hls_routes(resolve: Callable[[str], LiveBroadcast | None]) -> list[web.RouteDef]:
    """What the edge mounts."""
    handlers = _Handlers(resolve)
    return [
        web.get("/live/{name}/index.m3u8", handlers.multivariant),
        web.get("/live/{name}/media.m3u8", handlers.media),
        web.get(r"/live/{name}/init-{number:\d{1,12}}.mp4", handlers.init),
        web.get(r"/live/{name}/seg-{msn:\d{1,12}}.m4s", handlers.segment),
        web.get(r"/live/{name}/part-{msn:\d{1,12}}.{index:\d{1,4}}.m4s", handlers.part),
    ]


class _Handlers:
    def __init__(self, resolve: Callable[[str], LiveBroadcast | None]) -> None:
        self._resolve = resolve

    async def multivariant(self, request: web.Request) -> web.Response:
        """Waits for the first part, so that codecs and size are known."""
        live = self._live(request)
        await _wait(live, 0, 0)
        width, height = live.size
        text = (
            "#EXTM3U\n#EXT-X-VERSION:9\n"
            f'#EXT-X-STREAM-INF:BANDWIDTH={live.playlist.peak_rate},CODECS="{live.codecs}",RESOLUTION={width}x{height}\n'
            "media.m3u8\n"
        )
        return web.Response(text=text, content_type=PLAYLIST, headers=_FRESH)

    async def media(self, request: web.Request) -> web.Response:
        """Blocks until _HLS_msn and _HLS_part are there (RFC 8216bis 6.2.5.2)."""
        live = self._live(request)
        msn, part = _number(request, "_HLS_msn"), _number(request, "_HLS_part")
        if part is not None and msn is None:
            raise web.HTTPBadRequest(text="_HLS_part was asked without _HLS_msn")
        if msn is None:
            await _wait(live, 0, 0)
        else:
            if live.playlist.too_far(msn, part) and not live.playlist.ended:
                raise web.HTTPBadRequest(text=f"segment {msn} is too far in the future")
            await _wait(live, msn, part)
        skip = request.query.get("_HLS_skip") in ("YES", "v2")
        return web.Response(text=live.playlist.render(skip=skip), content_type=PLAYLIST, headers=_FRESH)

    async def init(self, request: web.Request) -> web.Response:
        return _bytes(self._live(request).playlist.init(int(request.match_info["number"])))

    async def segment(self, request: web.Request) -> web.Response:
        return _bytes(self._live(request).playlist.segment(int(request.match_info["msn"])))

    async def part(self, request: web.Request) -> web.Response:
        """The part that is hinted at is waited for (4.4.5.3)."""
        live = self._live(request)
        msn, index = int(request.match_info["msn"]), int(request.match_info["index"])
        if (msn, index) == live.playlist.next_part and not live.playlist.ended:
            await _wait(live, msn, index)
        return _bytes(live.playlist.part(msn, index))

    def _live(self, request: web.Request) -> LiveBroadcast:
        live = self._resolve(request.match_info["name"])
        if live is None:
            raise web.HTTPNotFound(text="there is no such broadcast")
        return live


async def _wait(live: LiveBroadcast, msn: int, part: int | None) -> None:
    if live.playlist.has(msn, part):
        return
    try:
        there = await live.wait_for(msn, part)
    except TooManyWaiting:
        there = False
    if not there:
        raise web.HTTPServiceUnavailable(
            text="the broadcast has nothing new", headers={"Retry-After": RETRY_SECONDS}
        )


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise web.HTTPBadRequest(text=f"{name} is a number")
    return int(text)


def _bytes(data: bytes | None) -> web.Response:
    if data is None:
        raise web.HTTPNotFound(text="this is not there, or not any more")
    return web.Response(body=data, content_type=MP4, headers=_LASTING)
