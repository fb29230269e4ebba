"""Recordings over HTTP: listed and played by those whose sites they are of, in order, by range, as HLS."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import async_playwright

from foundation.authorisation import Authorisation, Role
from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import RecorderReport, RecordingPlan, RecordingStatus
from foundation.events import Event, RecordingChanged
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.recordings import (
    Recording,
    RecordingKind,
    RecordingRepository,
    RecordingState,
)
from foundation.site_tree import SiteTree
from media.packet import Format
from media.stream import Stream
from recordings.disk import Disk
from recordings.http_recordings import RecordingRoutes
from recordings.playlist import read_index
from recordings.recorder import Recorder, Subject
from recordings.recording_book import RecordingBook
from recordings.recording_folder import RecordingFolder
from tests.media.coded_pictures import coded, sound
from tests.orchestrator.http_service import SITES, Service, Signed, prepare, problem, serving
from tests.peers.ffmpeg import run_ffmpeg
from tests.peers.requirement import requires, which
from tests.recordings.stage import COLOURS, H264, colours, near

HERE = "/api/v1/recordings"
HLS = Path(__file__).parents[2] / "web/node_modules/hls.js/dist/hls.min.js"
ARRIVAL = 1000.0


class Desk:
    """A recorder that follows its plan."""

    def __init__(self) -> None:
        self.plan = RecordingPlan()
        self.given = 0

    async def set_plan(self, plan: RecordingPlan) -> None:
        self.plan, self.given = plan, self.given + 1

    async def report(self) -> RecorderReport:
        statuses = [RecordingStatus(one.kind, one.subject, "recording") for one in self.plan.orders]
        return RecorderReport(tuple(statuses), 10, 100, self.plan.preroll)


@dataclass
class Recorded:
    service: Service
    folder: RecordingFolder
    disk: Disk
    desk: Desk
    book: RecordingBook
    events: list[Event]
    began: datetime

    async def record(
        self, camera: str, site: str, *, seconds: int = 24, file_seconds: float = 8.0, sound_from: float = 0.0
    ) -> None:
        """A camera whose n-th second has the n-th colour of four, in files of 8 s with sound, which may come
        late."""
        clock = FakeClock(self.began)
        recorder = Recorder(
            Subject(RecordingKind.CAMERA, camera, site),
            self.folder,
            self.service.database,
            self.disk,
            clock,
            file_seconds=file_seconds,
            reserve_bytes=0,
        )
        pictures, tone = Stream("p", H264), Stream("s", Format("OPUS", 48_000, 2))
        running = asyncio.create_task(recorder.run(pictures, None if sound_from else tone))
        await asyncio.sleep(0)
        listening: asyncio.Task[None] | None = None
        coded_pictures = coded([COLOURS[n // 25 % 4] for n in range(25 * seconds)], arrival=ARRIVAL)
        heard, _ = sound("libopus", float(seconds), arrival=ARRIVAL)
        tagged = [(one, pictures) for one in coded_pictures] + [(one, tone) for one in heard]
        for number, (packet, stream) in enumerate(sorted(tagged, key=lambda one: one[0].arrival)):
            clock.advance(max(packet.arrival - clock.monotonic(), 0.0))
            if sound_from and listening is None and packet.arrival >= ARRIVAL + sound_from:
                listening = asyncio.create_task(recorder.listen(tone))
            stream.publish(packet)
            if number % 5 == 0:
                await asyncio.sleep(0.001)
        pictures.close()
        tone.close()
        await running
        if listening is not None:
            await listening

    async def rows(self) -> list[Recording]:
        async with self.service.database.reading() as tx:
            page = await RecordingRepository(tx).in_sites([site.id for site in SITES])
        return [*reversed(page)]

    async def get(self, who: Signed, path: str, **query: Any) -> Any:
        response = await self.service.client.get(HERE + path, params=query, headers=who.bearer)
        assert response.status == 200, await response.text()
        return await response.json()


@pytest.fixture
async def recorded(tmp_path: Path) -> AsyncIterator[Recorded]:
    path = tmp_path / "anshi.db"
    await prepare(f"sqlite:///{path}")
    database, disk, desk = Database(f"sqlite:///{path}"), Disk(), Desk()
    folder, events = RecordingFolder(tmp_path / "recordings"), list[Event]()
    book = RecordingBook(database, desk, poll_seconds=60.0)
    clock = FakeClock()
    async with database.transaction() as tx:
        for camera, site in (("gate", "nanning"), ("yard", "guangdong")):
            await CameraRepository(tx).add(
                Camera(camera, site, "南宁 东门/1", "rtsp://10.1.2.3/1", clock.now())
            )
    routes = RecordingRoutes(
        database=database,
        clock=clock,
        authorisation=Authorisation(SiteTree({site.id: site.parent_id for site in SITES}), "guangxi"),
        folder=folder,
        disk=disk,
        book=book,
        publish=events.append,
        zone=ZoneInfo("Asia/Shanghai"),
    )
    async with serving(path, extra=routes.routes) as service:
        yield Recorded(service, folder, disk, desk, book, events, datetime(2026, 5, 1, 2, tzinfo=UTC))
    await disk.aclose()
    await database.aclose()


async def test_only_ones_own_sites_recordings_are_seen_played_and_exported(recorded: Recorded) -> None:
    await recorded.record("gate", "nanning", seconds=9)
    await recorded.record("yard", "guangdong", seconds=2)
    monitor = await recorded.service.user(Role.MONITOR, site="nanning")
    county = await recorded.service.user(Role.MONITOR, site="cenxi")
    page = await recorded.get(monitor, "")
    assert [(one["subject"], one["subject_name"]) for one in page["items"]] == [("gate", "南宁 东门/1")] * 2
    assert page["items"][0]["started_at"] > page["items"][1]["started_at"]
    assert page["items"][1]["seconds"] == pytest.approx(8.0, abs=0.05)
    assert page["next"] is None
    (subject,) = await recorded.get(monitor, "/subjects")
    assert (subject["subject"], subject["name"], subject["recording"]) == ("gate", "南宁 东门/1", None)
    assert subject["bytes"] == sum(one["bytes"] for one in page["items"])
    assert (await recorded.get(county, ""))["items"] == []
    assert await recorded.get(county, "/subjects") == []
    client, one = recorded.service.client, page["items"][0]["id"]
    for path in (f"/{one}", f"/{one}/file.mp4", f"/{one}/file.mp4?download=1"):
        await problem(await client.get(HERE + path, headers=county.bearer), 403)
    span = {"kind": "camera", "subject": "gate", "from": "2026-05-01T00:00:00Z", "to": "2026-05-01T12:00:00Z"}
    await problem(await client.get(HERE + "/playlist.m3u8", params=span, headers=county.bearer), 404)
    await problem(await client.get(HERE + "/" + "0" * 32, headers=monitor.bearer), 404)


async def test_pages_and_filters(recorded: Recorded) -> None:
    await recorded.record("gate", "nanning")
    await recorded.record("yard", "guangdong", seconds=2)
    who = await recorded.service.user(Role.MONITOR, site="nation")
    seen, after = [], None
    while True:
        query = {"limit": 1} | ({"after": after} if after else {})
        page = await recorded.get(who, "", **query)
        seen += [one["id"] for one in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert sorted(seen) == sorted(one.id for one in await recorded.rows())
    assert len((await recorded.get(who, "", site_id="guangxi"))["items"]) == 3
    assert len((await recorded.get(who, "", subject="yard"))["items"]) == 1
    late = await recorded.get(who, "", **{"from": "2026-05-01T02:00:17Z", "subject": "gate"})
    assert len(late["items"]) == 1
    client = recorded.service.client
    for query, status in (
        ({"after": "yesterday"}, 400),
        ({"site_id": "atlantis"}, 400),
        ({"from": "2026-05-01T02:00:17"}, 422),
        ({"kind": "radio"}, 422),
        ({"from": "0001-01-01T00:00:00+08:00"}, 422),
        ({"to": "9999-12-31T23:59:59-08:00"}, 422),
        ({"after": "0001-01-01T00:00:00+08:00_a"}, 400),
    ):
        await problem(await client.get(HERE, params=query, headers=who.bearer), status)
    span = {"kind": "camera", "subject": "gate", "from": "0001-01-01T00:00:00+08:00"}
    answer = await client.get(
        HERE + "/playlist.m3u8", params={**span, "to": "0001-01-01T09:00:00+08:00"}, headers=who.bearer
    )
    assert "from: Value error, in UTC it is not within the years" in (await problem(answer, 422))["detail"]


async def test_a_file_is_served_by_range_and_downloaded_under_a_telling_name(recorded: Recorded) -> None:
    await recorded.record("gate", "nanning", seconds=4)
    (row,) = await recorded.rows()
    whole = recorded.folder.resolve(row.path).read_bytes()
    monitor = await recorded.service.user(Role.MONITOR, site="nanning")
    viewer = await recorded.service.user(Role.VIEWER, site="nanning")
    client, path = recorded.service.client, f"{HERE}/{row.id}/file.mp4"
    response = await client.get(path, headers={**viewer.bearer, "Range": "bytes=100-199"})
    assert (response.status, response.headers["Content-Range"]) == (206, f"bytes 100-199/{len(whole)}")
    assert response.content_type == "video/mp4"
    assert await response.read() == whole[100:200]
    await problem(await client.get(f"{path}?download=1", headers=viewer.bearer), 403)
    response = await client.get(f"{path}?download=1", headers=monitor.bearer)
    assert await response.read() == whole
    assert response.headers["Content-Disposition"] == (
        'attachment; filename="camera-gate-2026-05-01-100000.mp4"; '
        "filename*=UTF-8''%E5%8D%97%E5%AE%81%20%E4%B8%9C%E9%97%A8-1-2026-05-01-100000.mp4"
    )
    (audited,) = [one for one in await recorded.service.audited() if one.action == "export-recording"]
    assert (audited.actor, audited.subject) == (monitor.user.name, f"recording:{row.id}")
    assert json.loads(audited.detail)["subject"] == "gate"


async def test_whoever_exports_a_part_is_audited_too(recorded: Recorded) -> None:
    await recorded.record("gate", "nanning", seconds=2)
    (row,) = await recorded.rows()
    size = recorded.folder.resolve(row.path).stat().st_size
    monitor = await recorded.service.user(Role.MONITOR, site="nanning")
    path = f"{HERE}/{row.id}/file.mp4?download=1"
    for part in (f"bytes=-{size}", "bytes=00-", "bytes=1-"):
        response = await recorded.service.client.get(path, headers={**monitor.bearer, "Range": part})
        assert (response.status, len(await response.read()) >= size - 1) == (206, True)
        last = (await recorded.service.audited())[-1]
        assert (last.action, json.loads(last.detail)["part"]) == ("export-recording", part)


async def test_a_file_that_is_gone_or_outside_is_not_found(recorded: Recorded, tmp_path: Path) -> None:
    await recorded.record("gate", "nanning", seconds=2)
    (row,) = await recorded.rows()
    monitor = await recorded.service.user(Role.MONITOR, site="nanning")
    file = recorded.folder.resolve(row.path)
    file.unlink()
    path = f"{HERE}/{row.id}/file.mp4"
    await problem(await recorded.service.client.get(path, headers=monitor.bearer), 404)
    (tmp_path / "secret").write_text("secret")
    file.symlink_to(tmp_path / "secret")
    answer = await problem(await recorded.service.client.get(path, headers=monitor.bearer), 404)
    assert "symbolic link" in answer["detail"]


async def test_removing_takes_file_and_row_and_is_audited(recorded: Recorded) -> None:
    await recorded.record("gate", "nanning", seconds=2)
    (row,) = await recorded.rows()
    admin = await recorded.service.user(Role.SYSTEM_ADMIN, site="guangxi")
    monitor = await recorded.service.user(Role.MONITOR, site="nanning")
    client = recorded.service.client
    await problem(await client.delete(f"{HERE}/{row.id}", headers=monitor.bearer), 403)
    assert (await client.delete(f"{HERE}/{row.id}", headers=admin.bearer)).status == 204
    assert await recorded.rows() == []
    assert not recorded.folder.resolve(row.path).exists()
    assert [one.action for one in await recorded.service.audited()][-1] == "remove-recording"
    await problem(await client.delete(f"{HERE}/{row.id}", headers=admin.bearer), 404)
    async with recorded.service.database.transaction() as tx:
        await RecordingRepository(tx).open(replace(row, state=RecordingState.OPEN))
    await problem(await client.delete(f"{HERE}/{row.id}", headers=admin.bearer), 409)


async def test_orders_reach_the_recorder(recorded: Recorded) -> None:
    running = asyncio.create_task(recorded.book.run())
    monitor = await recorded.service.user(Role.MONITOR, site="nanning")
    county = await recorded.service.user(Role.MONITOR, site="cenxi")
    client, path = recorded.service.client, "/api/v1/cameras/gate/recording"
    assert await (await client.get(path, headers=monitor.bearer)).json() == {
        "on": False,
        "state": None,
        "detail": None,
    }
    await problem(await client.put(path, json={"on": True}, headers=county.bearer), 403)
    for _ in range(2):
        answer = await client.put(path, json={"on": True}, headers=monitor.bearer)
        assert (await answer.json())["on"] is True
    for _ in range(200):
        if recorded.book.status(RecordingKind.CAMERA, "gate") is not None:
            break
        await asyncio.sleep(0.01)
    assert [one.stream_id for one in recorded.desk.plan.orders] == ["camera:gate"]
    assert (await (await client.get(path, headers=monitor.bearer)).json())["state"] == "recording"
    (subject,) = await recorded.get(monitor, "/subjects")
    assert (subject["recording"]["state"], subject["first"]) == ("recording", None)
    assert recorded.events == [RecordingChanged("camera", "gate", "nanning")]
    operator = await recorded.service.user(Role.OPERATOR, site="guangxi")
    report = await recorded.get(operator, "/report")
    assert (report["free_bytes"], report["statuses"][0]["subject"]) == (10, "gate")
    await client.put(path, json={"on": False}, headers=monitor.bearer)
    audited = [one.action for one in await recorded.service.audited() if one.subject == "camera:gate"]
    assert audited == ["start-recording", "stop-recording"]
    running.cancel()


async def test_a_conference_that_is_over_is_not_recorded(recorded: Recorded) -> None:
    operator = await recorded.service.user(Role.OPERATOR, site="guangxi")
    meeting = await recorded.service.meeting("guangxi")
    client = recorded.service.client
    path = f"/api/v1/conferences/{meeting.conference_id}/recording"
    assert (await (await client.put(path, json={"on": True}, headers=operator.bearer)).json())["on"] is True
    assert [one.stream_id for one in (await recorded.book.plan()).orders] == [
        f"programme:{meeting.conference_id}"
    ]
    await recorded.service.meetings.end(meeting.conference_id, "over")
    assert (await recorded.book.plan()).orders == ()
    await client.put(path, json={"on": False}, headers=operator.bearer)
    await problem(await client.put(path, json={"on": True}, headers=operator.bearer), 409)


async def test_the_playlist_names_every_byte_of_the_time_that_is_asked_for(recorded: Recorded) -> None:
    await recorded.record("gate", "nanning")
    rows = await recorded.rows()
    monitor = await recorded.service.user(Role.MONITOR, site="nanning")
    text = await playlist(recorded, monitor, 0, 24)
    assert text.startswith("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-PLAYLIST-TYPE:VOD\n")
    assert text.endswith("#EXT-X-ENDLIST\n")
    assert text.count("#EXT-X-DISCONTINUITY\n") == 2
    times = re.findall(r"#EXT-X-PROGRAM-DATE-TIME:(.*)", text)
    assert [one[:19] for one in times] == [
        "2026-05-01T02:00:00",
        "2026-05-01T02:00:08",
        "2026-05-01T02:00:16",
    ]
    for row in rows:
        size = recorded.folder.resolve(row.path).stat().st_size
        ranges = re.findall(rf"#EXT-X-BYTERANGE:(\d+)@(\d+)\n{row.id}/file.mp4", text)
        ends = [int(at) + int(length) for length, at in ranges]
        assert ends[-1] == size
        assert [int(at) for _, at in ranges[1:]] == ends[:-1]
    seconds = [float(one) for one in re.findall(r"#EXTINF:([\d.]+),", text)]
    assert sum(seconds) == pytest.approx(24, abs=0.2)
    assert max(seconds) <= int(re.findall(r"TARGETDURATION:(\d+)", text)[0])
    assert all(2.0 <= one <= 6.0 for one in seconds[:-1])
    middle = await playlist(recorded, monitor, 9, 15)
    assert sum(float(one) for one in re.findall(r"#EXTINF:([\d.]+),", middle)) == pytest.approx(8, abs=0.1)
    too_long = {"from": "2026-05-01T00:00:00Z", "to": "2026-05-03T00:00:00Z"}
    query = {"kind": "camera", "subject": "gate", **too_long}
    client = recorded.service.client
    await problem(await client.get(HERE + "/playlist.m3u8", params=query, headers=monitor.bearer), 400)


async def playlist(recorded: Recorded, who: Signed, first: int, last: int) -> str:
    since, until = (recorded.began + timedelta(seconds=n) for n in (first, last))
    query = {"kind": "camera", "subject": "gate", "from": f"{since:%FT%TZ}", "to": f"{until:%FT%TZ}"}
    path = HERE + "/playlist.m3u8"
    response = await recorded.service.client.get(path, params=query, headers=who.bearer)
    assert response.status == 200, await response.text()
    assert response.content_type == "application/vnd.apple.mpegurl"
    return await response.text()


async def test_an_open_file_has_the_index_of_what_is_whole(recorded: Recorded, tmp_path: Path) -> None:
    await recorded.record("gate", "nanning", seconds=7)
    (row,) = await recorded.rows()
    file = recorded.folder.resolve(row.path)
    closed = read_index(file)
    data = bytearray(file.read_bytes())
    at = data.index(b"sidx")
    data[at : at + 4] = b"free"
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(bytes(data))
    assert read_index(torn) == closed
    torn.write_bytes(bytes(data[: closed.segments[-1].offset + 100]))
    assert read_index(torn).segments == closed.segments[:-1]


async def listening(recorded: Recorded, tmp_path: Path) -> web.Application:
    """A page's view of the service: the same paths without sign-in, as a browser with its cookie has."""
    monitor = await recorded.service.user(Role.MONITOR, site="nanning")

    async def relay(request: web.Request) -> web.Response:
        headers = dict(monitor.bearer)
        if "Range" in request.headers:
            headers["Range"] = request.headers["Range"]
        response = await recorded.service.client.get(request.path_qs, headers=headers)
        answer = {name: response.headers[name] for name in ("Content-Range",) if name in response.headers}
        return web.Response(
            status=response.status,
            body=await response.read(),
            headers={**answer, "Content-Type": response.headers["Content-Type"], "Accept-Ranges": "bytes"},
        )

    async def page(_: web.Request) -> web.Response:
        text = "<!doctype html><video muted playsinline></video><script src=/hls.js></script>"
        return web.Response(text=text, content_type="text/html")

    async def script(_: web.Request) -> web.FileResponse:
        return web.FileResponse(HLS)

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/hls.js", script), web.get("/api/{rest:.*}", relay)])
    return app


PLAYLIST = f"{HERE}/playlist.m3u8?kind=camera&subject=gate&from=2026-05-01T02:00:00Z&to=2026-05-01T02:00:24Z"


@requires("ffmpeg")
async def test_ffmpeg_plays_the_playlist_without_a_fault(recorded: Recorded, tmp_path: Path) -> None:
    await recorded.record("gate", "nanning")
    async with TestServer(await listening(recorded, tmp_path)) as server:
        source = str(server.make_url(PLAYLIST))
        out = tmp_path / "out.mp4"
        said = await run_ffmpeg(
            *(tmp_path, "-v", "warning", "-allowed_extensions", "ALL", "-extension_picky", "0"),
            *("-i", source, "-c:v", "copy", "-an", str(out)),
        )
    assert "rror" not in said
    seen = [colour for _, colour in colours(out)]
    assert len(seen) == 600
    assert all(near(one, COLOURS[n // 25 % 4]) for n, one in enumerate(seen))


@requires("chromium")
@pytest.mark.skipif(not HLS.is_file(), reason="the pages' packages are not installed")
@pytest.mark.parametrize("sound_from", [0.0, 2.5])
async def test_a_browser_plays_and_seeks_over_the_files_borders(
    recorded: Recorded, tmp_path: Path, sound_from: float
) -> None:
    """Also where the first file has no sound and the others have."""
    await recorded.record("gate", "nanning", sound_from=sound_from)
    assert ["opus" in row.codecs for row in await recorded.rows()] in ([True] * 3, [False] + [True] * 3)
    script = """async ([source, seconds]) => {
        const video = document.querySelector("video");
        if (!window.player) {
            window.faults = [];
            window.player = new Hls();
            window.player.on(Hls.Events.ERROR, (_, data) => {
                window.faults.push(data.details);
                if (data.fatal && data.type === Hls.ErrorTypes.MEDIA_ERROR) window.player.recoverMediaError();
            });
            window.player.loadSource(source);
            window.player.attachMedia(video);
            await new Promise(done => window.player.once(Hls.Events.LEVEL_LOADED, done));
            await new Promise(done => video.addEventListener("loadeddata", done, {once: true}));
        }
        video.currentTime = seconds;
        const canvas = document.createElement("canvas"), drawing = canvas.getContext("2d");
        let last = "", same = 0;
        for (let look = 0; look < 100 && same < 5; look++) {
            await new Promise(done => setTimeout(done, 50));
            if (video.seeking || video.readyState < 2) continue;
            [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
            drawing.drawImage(video, 0, 0);
            const pixel = [...drawing.getImageData(80, 48, 1, 1).data.slice(0, 3)].join();
            same = pixel === last ? same + 1 : 0;
            last = pixel;
        }
        return {pixel: last.split(",").map(Number), duration: video.duration, faults: window.faults};
    }"""
    async with TestServer(await listening(recorded, tmp_path)) as server, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        tab = await browser.new_page()
        await tab.goto(str(server.make_url("/")))
        for second in (0, 5, 14, 22, 9):
            answer = await tab.evaluate(script, [PLAYLIST, second + 0.5])
            assert sound_from or answer["faults"] == []
            assert answer["duration"] == pytest.approx(24, abs=0.3)
            lit = [value > 120 for value in answer["pixel"]]
            assert (
                lit
                == [[True, False, False], [False, True, False], [False, False, True], [True] * 3][second % 4]
            )
        await browser.close()
