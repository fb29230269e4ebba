"""Recordings over HTTP: what there is, the files themselves, playlists, and what is to be recorded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from urllib.parse import quote

from aiohttp import hdrs, web

from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Action, Authorisation, Resource
from foundation.clock import Clock
from foundation.database import Database, Transaction
from foundation.events import Event, RecordingChanged
from foundation.http_edge import (
    Exchange,
    Problem,
    Route,
    bad_request,
    conflict,
    forbidden,
    in_utc,
    not_found,
)
from foundation.repositories.recording_orders import (
    GivenOrder,
    OrderRepository,
    RecordedSubject,
    SubjectRepository,
)
from foundation.repositories.recordings import (
    Recording,
    RecordingFilter,
    RecordingKind,
    RecordingRepository,
    RecordingState,
)
from recordings.disk import Disk
from recordings.http_models import (
    FileQuery,
    OrderStateOut,
    PlaylistQuery,
    RecorderReportOut,
    RecordingOut,
    RecordingPage,
    RecordingQuery,
    RecordingStatusOut,
    RecordingSubjectOut,
    RecordingSwitch,
    RecordingSwitchOut,
)
from recordings.index_cache import IndexCache
from recordings.playlist import playlist
from recordings.recording_book import RecordingBook
from recordings.recording_folder import OutsideFolder, RecordingFolder

RECORDINGS = "/api/v1/recordings"
LONGEST_PLAYLIST = timedelta(hours=24)
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
SECOND = timedelta(seconds=1)


class RecordingRoutes:
    """`book` None: this node does not record; what there is can still be played. `zone` names downloads."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        authorisation: Authorisation,
        folder: RecordingFolder,
        disk: Disk,
        book: RecordingBook | None,
        publish: Callable[[Event], None],
        zone: tzinfo,
    ) -> None:
        self._database = database
        self._clock = clock
        self._authorisation = authorisation
        self._folder = folder
        self._disk = disk
        self._book = book
        self._publish = publish
        self._zone = zone
        self._indexes = IndexCache(folder, disk)

    @property
    def routes(self) -> tuple[Route, ...]:
        play, one = Action.PLAY_RECORDING, f"{RECORDINGS}/{{id}}"
        camera, meeting = "/api/v1/cameras/{id}/recording", "/api/v1/conferences/{id}/recording"
        switch, state = RecordingSwitch, RecordingSwitchOut
        return (
            Route(
                "GET",
                RECORDINGS,
                self.page,
                "Recordings, the newest first",
                play,
                returns=RecordingPage,
                filtered=True,
                query=RecordingQuery,
            ),
            Route(
                "GET",
                f"{RECORDINGS}/subjects",
                self.subjects,
                "What has recordings, or is being recorded",
                play,
                returns=list[RecordingSubjectOut],
                filtered=True,
            ),
            Route(
                "GET",
                f"{RECORDINGS}/report",
                self.report,
                "How the recorder does",
                Action.VIEW_SYSTEM,
                returns=RecorderReportOut,
            ),
            Route(
                "GET",
                f"{RECORDINGS}/playlist.m3u8",
                self.playlist,
                "Recordings of a time as HLS",
                play,
                filtered=True,
                query=PlaylistQuery,
            ),
            Route("GET", one, self.show, "One recording", play, self._recording, returns=RecordingOut),
            Route("DELETE", one, self.remove, "Remove", Action.MANAGE_DEVICES, self._recording, status=204),
            Route("GET", f"{one}/file.mp4", self.file, "The file", play, self._recording, query=FileQuery),
            Route(
                "GET",
                camera,
                self.camera,
                "Whether it is recorded",
                Action.VIEW_CAMERA,
                self._of_camera,
                returns=state,
            ),
            Route(
                "PUT",
                camera,
                self.order_camera,
                "Record it, or no longer",
                Action.CONTROL_CAMERA,
                self._of_camera,
                switch,
                state,
            ),
            Route(
                "GET",
                meeting,
                self.meeting,
                "Whether it is recorded",
                Action.VIEW_CONFERENCES,
                self._of_meeting,
                returns=state,
            ),
            Route(
                "PUT",
                meeting,
                self.order_meeting,
                "Record it, or no longer",
                Action.OPERATE_CONFERENCE,
                self._of_meeting,
                switch,
                state,
            ),
        )

    # --- permission's resources ---------------------------------------------------------------------

    async def _recording(self, exchange: Exchange) -> Resource:
        found = await self._found(exchange)
        return Resource("recording", found.id, found.site_id)

    async def _of_camera(self, exchange: Exchange) -> Resource:
        subject = await self._subject(exchange, RecordingKind.CAMERA)
        return Resource("camera", subject.id, subject.site_id)

    async def _of_meeting(self, exchange: Exchange) -> Resource:
        subject = await self._subject(exchange, RecordingKind.CONFERENCE)
        return Resource("conference", subject.id, subject.site_id)

    async def _found(self, exchange: Exchange) -> Recording:
        async with self._database.reading() as tx:
            found = await RecordingRepository(tx).get(exchange.path["id"])
        if found is None:
            raise not_found(f"there is no recording {exchange.path['id']}")
        return found

    async def _subject(self, exchange: Exchange, kind: RecordingKind) -> RecordedSubject:
        async with self._database.reading() as tx:
            found = await SubjectRepository(tx).get(kind, exchange.path["id"])
        if found is None:
            raise not_found(f"there is no {kind} {exchange.path['id']}")
        return found

    # --- what there is ------------------------------------------------------------------------------

    async def page(self, exchange: Exchange) -> RecordingPage:
        asked = exchange.asked(RecordingQuery)
        sites = self._authorisation.sites(exchange.who, Action.PLAY_RECORDING)
        if asked.site_id is not None:
            if asked.site_id not in self._authorisation.tree:
                raise bad_request(f"site_id: there is no site {asked.site_id!r}")
            sites &= self._authorisation.tree.subtree(asked.site_id)
        wanted = RecordingFilter(asked.kind, asked.subject, asked.since, asked.until)
        async with self._database.reading() as tx:
            found = await RecordingRepository(tx).page(
                sites, wanted, after=_place(asked.after), limit=asked.limit + 1
            )
            names = await SubjectRepository(tx).names((one.kind, one.subject) for one in found)
        items = [_out(one, names) for one in found[: asked.limit]]
        more = len(found) > asked.limit
        return RecordingPage(items=items, next=_mark(found[asked.limit - 1]) if more else None)

    async def show(self, exchange: Exchange) -> RecordingOut:
        found = await self._found(exchange)
        async with self._database.reading() as tx:
            return _out(found, await SubjectRepository(tx).names([(found.kind, found.subject)]))

    async def subjects(self, exchange: Exchange) -> list[RecordingSubjectOut]:
        sites = self._authorisation.sites(exchange.who, Action.PLAY_RECORDING)
        async with self._database.reading() as tx:
            found = await RecordingRepository(tx).subjects(sites)
            orders = [one for one in await OrderRepository(tx).in_force() if one.site_id in sites]
            standing = {(one.kind, one.subject, one.site_id) for one in orders}
            recorded = {(one.kind, one.subject, one.site_id) for one in found}
            names = await SubjectRepository(tx).names(one[:2] for one in standing | recorded)
        out = [
            RecordingSubjectOut(
                kind=one.kind,
                subject=one.subject,
                name=names.get((one.kind, one.subject), one.subject),
                site_id=one.site_id,
                first=one.first,
                last=one.last,
                bytes=one.bytes,
                recording=self._state(one.kind, one.subject)
                if (one.kind, one.subject, one.site_id) in standing
                else None,
            )
            for one in found
        ]
        return out + [
            RecordingSubjectOut(
                kind=kind,
                subject=subject,
                name=names.get((kind, subject), subject),
                site_id=site_id,
                first=None,
                last=None,
                bytes=0,
                recording=self._state(kind, subject),
            )
            for kind, subject, site_id in sorted(standing - recorded)
        ]

    async def report(self, _exchange: Exchange) -> RecorderReportOut:
        report = self._book.report if self._book is not None else None
        if report is None:
            raise Problem(503, "No recorder", "the recorder does not answer", headers={"Retry-After": "5"})
        return RecorderReportOut(
            statuses=[
                RecordingStatusOut(
                    kind=RecordingKind(one.kind),
                    subject=one.subject,
                    state=one.state,
                    detail=one.detail,
                    since=datetime.fromtimestamp(one.since, UTC),
                    files=one.files,
                    bytes=one.bytes,
                    dropped=one.dropped,
                )
                for one in report.statuses
            ],
            free_bytes=report.free_bytes,
            total_bytes=report.total_bytes,
            preroll=[*report.preroll],
        )

    # --- files --------------------------------------------------------------------------------------

    async def file(self, exchange: Exchange) -> web.StreamResponse:
        found = await self._found(exchange)
        headers = {hdrs.CONTENT_TYPE: "video/mp4", hdrs.CACHE_CONTROL: "private, no-cache"}
        download = exchange.asked(FileQuery).download
        if download:
            resource = Resource("recording", found.id, found.site_id)
            decision = self._authorisation.allowed(exchange.who, Action.EXPORT_RECORDING, resource)
            if not decision:
                raise forbidden(decision.reason)
        path = await self._path(found)
        if download:
            async with self._database.transaction() as tx:
                names = await SubjectRepository(tx).names([(found.kind, found.subject)])
                part = exchange.request.headers.get(hdrs.RANGE)  # any part is evidence that left the house
                await self._audit(tx, exchange, "export-recording", found, part)
            name = names.get((found.kind, found.subject), found.subject)
            headers[hdrs.CONTENT_DISPOSITION] = self._disposition(found, name)
        return web.FileResponse(path, headers=headers)

    async def playlist(self, exchange: Exchange) -> web.Response:
        asked = exchange.asked(PlaylistQuery)
        if not timedelta() < asked.until - asked.since <= LONGEST_PLAYLIST:
            raise bad_request("a playlist is of a time between 0 and 24 hours")
        sites = self._authorisation.sites(exchange.who, Action.PLAY_RECORDING)
        async with self._database.reading() as tx:
            rows = await RecordingRepository(tx).of_subject(
                asked.kind, asked.subject, asked.since, asked.until
            )
        files = await self._indexes.of(one for one in rows if one.site_id in sites)
        text = await self._disk.run(playlist, files, asked.since, asked.until)  # a day's has 4 MB
        if not text:
            raise not_found(f"there is no recording of {asked.kind} {asked.subject} in that time")
        headers = {hdrs.CACHE_CONTROL: "private, no-cache"}
        return web.Response(text=text, content_type=PLAYLIST_TYPE, headers=headers)

    async def remove(self, exchange: Exchange) -> None:
        found = await self._found(exchange)
        if found.state is RecordingState.OPEN:
            raise conflict("this recording is still being written; it can be removed in a minute")
        try:
            path = await self._disk.run(self._folder.resolve, found.path)
        except (OSError, OutsideFolder) as error:
            raise Problem(500, "Not removed", f"the file cannot be removed: {error}") from None
        async with self._database.transaction() as tx:  # before its file goes, which nothing brings back
            if not await RecordingRepository(tx).begin_removal(found.id):
                raise not_found("this recording has been removed meanwhile")
            await self._audit(tx, exchange, "remove-recording", found)
        try:
            await self._disk.run(path.unlink, missing_ok=True)
        except OSError as error:  # the row stays marked: the recorder tries again
            detail = f"the file cannot be removed now, and will be later: {error}"
            raise Problem(500, "Not removed", detail) from None
        async with self._database.transaction() as tx:
            await RecordingRepository(tx).remove(found.id)
        self._publish(RecordingChanged(str(found.kind), found.subject, found.site_id))

    async def _path(self, found: Recording) -> Path:
        try:
            path = await self._disk.run(self._folder.resolve, found.path)
        except OutsideFolder as error:
            raise not_found(str(error)) from None
        if not await self._disk.run(path.is_file):
            raise not_found("the file of this recording is not there any more")
        return path

    def _disposition(self, found: Recording, name: str) -> str:
        """RFC 6266 4.1, RFC 8187 3.2: a name in ASCII, and the name that tells."""
        at = f"{found.started_at.astimezone(self._zone):%Y-%m-%d-%H%M%S}"
        plain = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in found.subject)[:64]
        telling = "".join("-" if sign in '\\/:*?"<>|' or not sign.isprintable() else sign for sign in name)
        ascii_name, full_name = f"{found.kind}-{plain}-{at}.mp4", f"{telling[:80]}-{at}.mp4"
        return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(full_name, safe='')}"

    # --- orders -------------------------------------------------------------------------------------

    async def camera(self, exchange: Exchange) -> RecordingSwitchOut:
        return await self._switch(RecordingKind.CAMERA, exchange.path["id"])

    async def meeting(self, exchange: Exchange) -> RecordingSwitchOut:
        return await self._switch(RecordingKind.CONFERENCE, exchange.path["id"])

    async def order_camera(self, exchange: Exchange) -> RecordingSwitchOut:
        return await self._order(exchange, RecordingKind.CAMERA)

    async def order_meeting(self, exchange: Exchange) -> RecordingSwitchOut:
        return await self._order(exchange, RecordingKind.CONFERENCE)

    async def _order(self, exchange: Exchange, kind: RecordingKind) -> RecordingSwitchOut:
        on, subject = exchange.parsed(RecordingSwitch).on, await self._subject(exchange, kind)
        if on and self._book is None:
            raise conflict("this node does not record: recordings.enabled is false in its settings")
        if on and not subject.active:
            what = "switched off" if kind is RecordingKind.CAMERA else "over"
            raise conflict(f"{subject.name} is {what}; it cannot be recorded")
        given = GivenOrder(kind, subject.id, subject.site_id, exchange.name, self._clock.now())
        async with self._database.transaction() as tx:
            orders = OrderRepository(tx)
            changed = await orders.give(given) if on else await orders.end(kind, subject.id)
            if changed:
                action = "start-recording" if on else "stop-recording"
                entry = AuditEntry(exchange.name, action, f"{kind}:{subject.id}", "done", exchange.address)
                await AuditTrail(tx, self._clock).append(entry)
        if changed:
            if self._book is not None:
                await self._book.changed()
            self._publish(RecordingChanged(str(kind), subject.id, subject.site_id))
        return await self._switch(kind, subject.id)

    async def _switch(self, kind: RecordingKind, subject: str) -> RecordingSwitchOut:
        async with self._database.reading() as tx:
            order = await OrderRepository(tx).get(kind, subject)
        if order is None:
            return RecordingSwitchOut(on=False, state=None, detail=None)
        state = self._state(kind, subject)
        return RecordingSwitchOut(on=True, state=state.state, detail=state.detail)

    def _state(self, kind: RecordingKind, subject: str) -> OrderStateOut:
        if self._book is None:
            return OrderStateOut(state="unknown", detail="this node does not record")
        status = self._book.status(kind, subject)
        if status is not None:
            return OrderStateOut(state=status.state, detail=status.detail)
        answers = self._book.report is not None
        why = "the recorder has not begun with it yet" if answers else "the recorder does not answer"
        return OrderStateOut(state="waiting" if answers else "unknown", detail=why)

    async def _audit(
        self, tx: Transaction, exchange: Exchange, action: str, found: Recording, part: str | None = None
    ) -> None:
        detail = {"kind": str(found.kind), "subject": found.subject, "started_at": _stamp(found.started_at)}
        if part is not None:
            detail["part"] = part[:100]
        entry = AuditEntry(exchange.name, action, f"recording:{found.id}", "done", exchange.address, detail)
        await AuditTrail(tx, self._clock).append(entry)


def _out(one: Recording, names: dict[tuple[RecordingKind, str], str]) -> RecordingOut:
    lasted = (one.ended_at - one.started_at) / SECOND if one.ended_at is not None else 0.0
    return RecordingOut(
        id=one.id,
        kind=one.kind,
        subject=one.subject,
        subject_name=names.get((one.kind, one.subject), one.subject),
        site_id=one.site_id,
        started_at=one.started_at,
        ended_at=one.ended_at,
        state=one.state,
        bytes=one.bytes,
        seconds=round(lasted, 3),
        width=one.width,
        height=one.height,
        codecs=one.codecs,
    )


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _mark(one: Recording) -> str:
    """Where a page ended."""
    return f"{_stamp(one.started_at)}_{one.id}"


def _place(mark: str | None) -> tuple[datetime, str] | None:
    """Raises the 400 problem for what is no mark of ours."""
    if mark is None:
        return None
    at, _, last_id = mark.partition("_")
    try:
        return in_utc(datetime.fromisoformat(at)), last_id
    except ValueError:
        raise bad_request("after: this is not what a page's `next` said") from None
