"""The minutes of a conference over HTTP."""

from __future__ import annotations

from datetime import tzinfo
from urllib.parse import quote

from aiohttp import web

from foundation.authorisation import Action, Resource
from foundation.http_edge import Exchange, Route, not_found
from signaling.meeting_history import MeetingHistory
from signaling.minutes import MinutesBook
from signaling.minutes_sheet import MinutesSheet, language_of

MINUTES = "/api/v1/conferences/{id}/minutes"


class MinutesRoutes:
    """Whoever may operate a conference reads its minutes, running or over: they hold addresses."""

    def __init__(self, book: MinutesBook, history: MeetingHistory, zone: tzinfo) -> None:
        self._book = book
        self._history = history
        self._zone = zone

    @property
    def routes(self) -> tuple[Route, ...]:
        operate, here = Action.OPERATE_CONFERENCE, self._conference
        return (
            Route("GET", f"{MINUTES}.html", self.page, "Minutes, to read and print", operate, here),
            Route("GET", f"{MINUTES}.csv", self.sheet, "Minutes, for a spreadsheet", operate, here),
        )

    async def page(self, exchange: Exchange) -> web.Response:
        sheet, language = await self._sheet(exchange)
        headers = {"Content-Language": language, "Vary": "Accept-Language", "Cache-Control": "no-store"}
        return web.Response(text=sheet.html(), content_type="text/html", charset="utf-8", headers=headers)

    async def sheet(self, exchange: Exchange) -> web.Response:
        sheet, language = await self._sheet(exchange)
        name = f"minutes-{exchange.path['id'][:8]}.csv"
        headers = {
            "Content-Language": language,
            "Vary": "Accept-Language",
            "Cache-Control": "no-store",
            "Content-Disposition": f"attachment; filename=\"{name}\"; filename*=UTF-8''{quote(name)}",
        }
        return web.Response(text=sheet.csv(), content_type="text/csv", charset="utf-8", headers=headers)

    async def _sheet(self, exchange: Exchange) -> tuple[MinutesSheet, str]:
        conference_id = exchange.path["id"]
        minutes = await self._book.of(conference_id)
        if minutes is None:
            raise not_found(f"there is no conference {conference_id}")
        language = language_of(exchange.request.headers.get("Accept-Language"))
        return MinutesSheet(minutes, language, self._zone), "zh-CN" if language == "zh" else "en"

    async def _conference(self, exchange: Exchange) -> Resource:
        conference_id = exchange.path["id"]
        site = await self._history.host_site(conference_id)
        if site is None:
            raise not_found(f"there is no conference {conference_id}")
        return Resource("conference", conference_id, site)
