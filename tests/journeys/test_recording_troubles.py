"""A recorded camera with a clock in its picture: played back, killed, on a full disk, stopped, grown old."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pytest_asyncio
from playwright.async_api import Page

from orchestrator.demo.viewer import LOOK_SCRIPT, viewer_look
from tests.journeys.clock import clock_of, clocks_of
from tests.journeys.live import listening
from tests.peers.chromium import Chromium
from tests.peers.ffmpeg import probe
from tests.peers.node import Api, Node
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires
from tests.peers.street import Street, street
from tests.peers.waiting import until

pytestmark = [requires("opencv-doc", "ffmpeg"), pytest.mark.asyncio(loop_scope="module")]

DISK, RESERVE = 96, 16
"""Megabytes of the disk that recordings are on, and that stay free."""
LOST = 1.0
TRANSPORT = 0.5
"""Seconds a picture may be under way from the camera's brush to the recorder."""
PATIENCE = 60.0
HLS = Path(__file__).parents[2] / "web/node_modules/hls.js/dist/hls.min.js"
PLAY = """async ([address, token]) => {
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  const hls = (window.player = new window.Hls({
    enableWorker: false,
    xhrSetup: (request) => request.setRequestHeader("Authorization", `Bearer ${token}`),
  }));
  window.faults = [];
  const { LEVEL_LOADED, ERROR } = window.Hls.Events;
  hls.on(ERROR, (_, data) => window.faults.push(data.details));
  const loaded = new Promise((done, fail) => {
    hls.once(LEVEL_LOADED, (_, data) => done(data.details.totalduration));
    hls.on(ERROR, (_, data) => data.fatal && fail(new Error(data.details)));
  });
  hls.loadSource(address);
  hls.attachMedia(video);
  return await loaded;
}"""
SEEK = """async (seconds) => {
  const video = document.querySelector("video"), end = performance.now() + 20000;
  video.currentTime = seconds;
  do await new Promise((done) => setTimeout(done, 200));
  while ((video.seeking || video.readyState < 2) && performance.now() < end);
  await new Promise((done) => setTimeout(done, 300));  // the drawn frame may lag behind
  return window.player.playingDate?.getTime() / 1000;
}"""


@dataclass(frozen=True, slots=True)
class Archive:
    """A node that records the street, and the disk on which it does."""

    node: Node
    street: Street
    monitor: Api
    disk: Path

    async def record(self, on: bool) -> None:
        await self.monitor.request("PUT", "/cameras/street/recording", {"on": on})

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.monitor.get("/cameras/street/recording")
        return found

    async def recording(self) -> None:
        """Until a file is being written."""
        await until(self.state, lambda state: state["state"] == "recording", "the recording", PATIENCE)

    async def rows(self) -> list[dict[str, Any]]:
        """The oldest first."""
        items: list[dict[str, Any]] = (await self.monitor.get("/recordings?subject=street"))["items"]
        return items[::-1]

    async def fetched(self, row: dict[str, Any], folder: Path) -> Path:
        data, _ = await self.monitor.download(f"/recordings/{row['id']}/file.mp4")
        path = folder / f"{row['id']}.mp4"
        path.write_bytes(data)
        return path


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of DISK megabytes; who is not root gets a folder."""
    folder.mkdir()
    if os.geteuid() != 0:
        yield folder
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def archive(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    with small_disk(folder / "disk") as disk, PortBlock() as ports:
        recordings = {"enabled": True, "reserve_megabytes": RESERVE, "folder": str(disk / "recordings")}
        async with (
            Node(folder / "node", settings={"recordings": recordings}) as node,
            street(folder, ports.take()) as camera,
        ):
            manager = await node.user("system-admin")
            told = {"id": "street", "site_id": "wuming", "name": "武鸣街口", "url": camera.url}
            await manager.post("/cameras", told)
            yield Archive(node, camera, await node.user("monitor"), disk)


async def test_a_killed_recorder_loses_the_last_second_at_most(
    archive: Archive, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    await archive.record(True)
    await archive.recording()
    await asyncio.sleep(5)
    killed = time.time()
    await archive.node.kill("recorder")
    rows = await until(
        archive.rows,
        lambda rows: len(rows) >= 2 and rows[0]["state"] == "mended",
        "the file to be mended, and the next",
        PATIENCE,
    )
    path = await archive.fetched(rows[0], tmp_path)
    clocks = clocks_of(path, killed)
    lost = killed - clocks[-1][1]
    record_property("lost_seconds", round(lost, 2))
    assert lost <= LOST + TRANSPORT
    probed = await probe(tmp_path, str(path))
    assert float(probed["format"]["duration"]) == pytest.approx(clocks[-1][0], abs=0.3)
    assert rows[0]["seconds"] == pytest.approx(clocks[-1][0], abs=0.5)
    assert_in_time(clocks)
    await archive.recording()
    await asyncio.sleep(3)
    await archive.record(False)
    rows = await until(archive.rows, lambda rows: rows[-1]["state"] == "finished", "its end", PATIENCE)
    after = clocks_of(await archive.fetched(rows[-1], tmp_path), killed)
    record_property("gap_seconds", round(after[0][1] - clocks[-1][1], 2))
    assert_in_time(after)


def assert_in_time(clocks: list[tuple[float, float]]) -> None:
    """Media time and the burnt-in clock run alike."""
    assert len(clocks) > 20
    assert all(abs((clock - clocks[0][1]) - (media - clocks[0][0])) < 0.3 for media, clock in clocks)


@requires("chromium")
async def test_a_browser_seeks_in_what_was_recorded(archive: Archive, tmp_path: Path) -> None:
    """Over both files: what is shown is what was painted at that time of day."""
    rows = await archive.rows()
    since, until_ = rows[0]["started_at"], rows[-1]["ended_at"]
    query = f"kind=camera&subject=street&from={since}&to={until_}".replace("+", "%2B")
    token = archive.monitor.headers["Authorization"].removeprefix("Bearer ")
    async with Chromium(tmp_path / "browser") as browser:
        page = await browser.open(f"{archive.node.url}/api/v1/health")
        await page.evaluate("() => {" + HLS.read_text() + "}")
        length = await page.evaluate(PLAY, [f"/api/v1/recordings/playlist.m3u8?{query}", token])
        assert length == pytest.approx(sum(row["seconds"] for row in rows), abs=1.0)
        for position in (length - 1.0, 1.0, rows[0]["seconds"] / 2):
            meant, seen = await shown_at(page, position)
            assert seen is not None, await page.evaluate("() => window.faults")
            assert abs(seen - meant) <= TRANSPORT + 0.3, (
                f"at {position:.1f} s: {meant} is said, {seen} is seen"
            )
        first = datetime.fromisoformat(since).timestamp()
        meant, seen = await shown_at(page, 1.0)
        assert seen == pytest.approx(first + 1.0, abs=TRANSPORT + 0.5)


async def shown_at(page: Page, position: float) -> tuple[float, float | None]:
    """The time of day that the player names there, and that of the picture."""
    meant = float(await page.evaluate(SEEK, position))
    look = viewer_look(await page.evaluate(LOOK_SCRIPT), 0)
    return meant, None if look.picture is None else clock_of(look.picture, meant)


async def test_the_download_has_a_telling_name(archive: Archive) -> None:
    row = (await archive.rows())[0]
    data, headers = await archive.monitor.download(f"/recordings/{row['id']}/file.mp4?download=1")
    name = headers["Content-Disposition"]
    assert name.startswith('attachment; filename="camera-street-')
    assert "filename*=UTF-8''%E6%AD%A6%E9%B8%A3%E8%A1%97%E5%8F%A3-" in name  # 武鸣街口
    assert len(data) == row["bytes"]
    auditor = await archive.node.user("auditor")
    entries = await auditor.get("/audit?limit=1000")
    assert any(
        (entry["action"], entry["subject"]) == ("export-recording", f"recording:{row['id']}")
        for entry in entries
    )


@requires("root")
async def test_a_full_disk_stops_the_recording_with_an_alarm_and_nothing_else(
    archive: Archive, tmp_path: Path
) -> None:
    meeting = await archive.node.meeting()
    await meeting.api.post(f"{meeting.path}/participants", {"address": "camera:street"})
    await archive.record(True)
    await archive.recording()
    await asyncio.sleep(3)  # of which the file is to tell
    filler = archive.disk / "filler"
    async with listening(archive.monitor) as live:
        free = os.statvfs(archive.disk).f_bavail * os.statvfs(archive.disk).f_frsize
        filler.write_bytes(bytes(free - (RESERVE << 20) - (512 << 10)))
        alarm = await live.hears("RecordingAlarm")
    assert (alarm["kind"], alarm["subject"], alarm["cause"]) == ("camera", "street", "disk full")
    state = await until(archive.state, lambda now: now["state"] == "failed", "the fault to be told", PATIENCE)
    assert "disk full" in state["detail"]

    now = time.time()
    assert (await archive.node.health() or {})["status"] == "ok"
    assert (await meeting.participant("camera:street") or {})["state"] == "connected"
    await until(lambda: snapshot_age(archive), lambda age: age < 5, "the camera's picture of now", PATIENCE)
    rows = await archive.rows()
    assert "open" not in {row["state"] for row in rows}
    last = clocks_of(await archive.fetched(rows[-1], tmp_path), now)
    assert_in_time(last)
    filler.unlink()
    await archive.record(False)
    await archive.record(True)
    await archive.recording()
    await meeting.command("end")


async def snapshot_age(archive: Archive) -> float:

    now = time.time()
    jpeg, _ = await archive.monitor.download("/cameras/street/snapshot.jpg?width=768")
    picture = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    clock = clock_of(picture[:, :, ::-1], now)
    return 1e9 if clock is None else now - clock


async def test_sigterm_closes_the_file(archive: Archive, tmp_path: Path) -> None:
    await archive.recording()
    await asyncio.sleep(3)
    before = await archive.rows()
    assert before[-1]["state"] == "open"
    stopped = time.time()
    await archive.node.stop()  # asserts 5 s and exit code 0
    with sqlite3.connect(archive.node.data / "anshi.db") as rows:
        states = rows.execute("SELECT state, path FROM recordings ORDER BY started_at").fetchall()
    assert [state for state, _ in states] == [*(row["state"] for row in before[:-1]), "finished"]
    path = archive.disk / "recordings" / states[-1][1]
    clocks = clocks_of(path, stopped)
    assert stopped - clocks[-1][1] < LOST + TRANSPORT
    assert float((await probe(tmp_path, str(path)))["format"]["duration"]) == pytest.approx(
        clocks[-1][0], abs=0.3
    )


async def test_what_is_over_the_quota_goes_the_oldest_first(archive: Archive) -> None:
    files = sorted((archive.disk / "recordings").rglob("*.mp4"), key=lambda path: path.stat().st_mtime)
    assert len(files) >= 3
    kept = files[-1].stat().st_size
    archive.node.change("recordings", quota_gigabytes=(kept + 1) / 1e9)
    await archive.node.start()

    async def gone() -> list[Path]:
        return [path for path in files if path.exists()]

    left = await until(gone, lambda left: len(left) <= 1, "the old files to go", PATIENCE)
    assert left in ([files[-1]], [])
    rows = await archive.rows()
    ids = {row["id"] for row in rows}
    assert not any(path.stem.endswith(one) for path in files[:-1] for one in ids)
    await archive.recording()  # the order outlived the restart
