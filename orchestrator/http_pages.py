"""The built browser pages: hashed assets for ever, the one page for every path that is its own to route."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web
from aiohttp.helpers import ETag

from foundation.http_edge import not_found

ASSETS = "assets"
FOR_EVER = "public, max-age=31536000, immutable"
"""For assets, whose names change with their content."""
ASK_FIRST = "no-cache"
_PATHS = r"/{path:(?!(?:api|live)(?:/|$)|(?:ws|metrics)$).*}"
"""Not the service's own paths: there an unknown one must stay a 404, and a wrong method a 405."""


def serve_pages(app: web.Application, folder: Path) -> None:
    """Serve the build in `folder`; it is looked through once, so that a new build shows after a restart."""
    index = (folder / "index.html").read_bytes()
    tag = ETag(value=hashlib.sha256(index).hexdigest()[:32])
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    del files["index.html"]

    async def page(request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        is_asset = path.partition("/")[0] == ASSETS
        if path in files:
            return web.FileResponse(
                files[path], headers={"Cache-Control": FOR_EVER if is_asset else ASK_FIRST}
            )
        if is_asset:  # of an older build: its page must notice, not take HTML for a script
            raise not_found(f"there is nothing at {request.path}")
        response = web.Response(headers={"Cache-Control": ASK_FIRST})
        response.etag = tag
        if tag in (request.if_none_match or ()):
            response.set_status(304)
            return response
        response.body = index
        response.content_type = "text/html"
        response.charset = "utf-8"
        return response

    app.router.add_get(_PATHS, page)
