"""The built browser pages: hashed assets for ever, the one page for every path that is its own to route."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web
from aiohttp.helpers import ETag

FOR_EVER = "public, max-age=31536000, immutable"
ASK_FIRST = "no-cache"
_OURS = r"/{path:(?!(?:api|live|assets)(?:/|$)|(?:ws|metrics)$).*}"
"""Not the service's own paths: there an unknown one must stay a 404, and a wrong method a 405."""


def serve_pages(app: web.Application, folder: Path) -> None:
    """Serve the build in `folder`; it is read once, so that a rebuild shows after a restart."""
    index = (folder / "index.html").read_bytes()
    tag = ETag(value=hashlib.sha256(index).hexdigest()[:32])
    files = {file.name: file for file in folder.iterdir() if file.is_file() and file.name != "index.html"}

    async def page(request: web.Request) -> web.StreamResponse:
        file = files.get(request.match_info["path"])
        if file is not None:
            return web.FileResponse(file, headers={"Cache-Control": ASK_FIRST})
        response = web.Response(headers={"Cache-Control": ASK_FIRST})
        response.etag = tag
        if tag in (request.if_none_match or ()):
            response.set_status(304)
            return response
        response.body = index
        response.content_type = "text/html"
        response.charset = "utf-8"
        return response

    async def remember(request: web.Request, response: web.StreamResponse) -> None:
        if request.path.startswith("/assets/") and response.status in (200, 206, 304):
            response.headers["Cache-Control"] = FOR_EVER  # their names change with their content

    if (folder / "assets").is_dir():
        app.router.add_static("/assets", folder / "assets")
        app.on_response_prepare.append(remember)
    app.router.add_get(_OURS, page)
