"""Cameras on pages and in meetings, from an RTSP server that is not ours to what is seen and heard."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import av
import pytest
import pytest_asyncio

from tests.journeys.cameras import WATCHED, camera, forwarded_slices, sent_slices, watch
from tests.journeys.scene import FULL_TILE, NANNING, TWO_TILES, WUMING, sees_all
from tests.journeys.wire import node_port
from tests.peers.baresip import Baresip
from tests.peers.chromium import Chromium, Person
from tests.peers.gst_camera import pipeline
from tests.peers.node import PASSWORD, SIP_ACCOUNT, MeetingHandle, Node, Refused
from tests.peers.picture import BLUE, RED, YELLOW
from tests.peers.requirement import requires
from tests.peers.tshark import Capture
from tests.peers.waiting import until

pytestmark = [requires("gst-rtsp-server", "chromium", "baresip"), pytest.mark.asyncio(loop_scope="module")]

TONE = 440.0
"""What gst's audiotestsrc plays."""
MOVING = "pattern=ball background-color=0xFFC82828 foreground-color=0xFFDC3C3C"
STILL = f"pattern=solid-color foreground-color={0xFFC82828}"
SCROLLING = "pattern=smpte75 horizontal-speed=15"
GREY, OCHRE, TEAL, GREEN = (180, 180, 180), (180, 180, 16), (16, 180, 180), (16, 180, 16)
PURPLE, MAROON, NAVY = (180, 16, 180), (180, 16, 16), (16, 16, 180)
BARS = (GREY, OCHRE, TEAL, GREEN, PURPLE, MAROON, NAVY)
"""The colours of smpte75, from the left."""
ARRIVES = """async () => {
  const packets = async () => {
    const reports = [...(await window.watching.getStats()).values()];
    return reports.filter((r) => r.type === "inbound-rtp").reduce((sum, r) => sum + r.packetsReceived, 0);
  };
  const before = await packets();
  await new Promise((done) => setTimeout(done, 500));
  return (await packets()) - before;
}"""
"""How many packets came in half a second."""
FRAME_COLOURS = """async ([selector, seconds]) => {
  const video = document.querySelector(selector), seen = [], end = performance.now() + 1000 * seconds;
  const canvas = new OffscreenCanvas(8, 8), context = canvas.getContext("2d", { willReadFrequently: true });
  while (performance.now() < end) {
    await new Promise((done) => video.requestVideoFrameCallback(done));
    const x = video.videoWidth / 2, y = video.videoHeight / 3;
    context.drawImage(video, x - 2, y - 2, 4, 4, 0, 0, 8, 8);
    seen.push([...context.getImageData(4, 4, 1, 1).data.slice(0, 3)]);
  }
  return seen;
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    async with Chromium(tmp_path_factory.mktemp("watcher"), Person()) as browser:
        yield browser


async def test_a_page_sees_and_hears_a_camera_by_whep(node: Node, browser: Chromium, tmp_path: Path) -> None:
    launch = pipeline(0xC82828, width=640, height=360, sound="PCMA")
    async with camera(node, tmp_path, launch, camera_id="gate", site="wuming", name="东门"):
        page, answer = await watch(node, browser, "gate")
        assert answer["status"] == 201
        await browser.sees(page, RED, WATCHED)
        await browser.hears(page, TONE, WATCHED)
        api = await node.user("monitor")
        await api.delete(answer["location"].removeprefix("/api/v1"))
        with pytest.raises(Refused, match="404"):
            await api.delete(answer["location"].removeprefix("/api/v1"))
        await page.close()


async def test_signing_out_ends_the_picture(node: Node, browser: Chromium, tmp_path: Path) -> None:
    launch = pipeline(0xC82828, width=640, height=360)
    async with camera(node, tmp_path, launch, camera_id="door", site="wuming"):
        page, answer = await watch(node, browser, "door", "viewer")
        assert answer["status"] == 403  # a viewer sees no cameras
        await page.close()
        page, answer = await watch(node, browser, "door", "operator")
        await browser.sees(page, RED, WATCHED)
        operator = await node.user("operator")
        await operator.delete("/session")
        node._clients.pop("operator")  # signed in anew at the next question

        async def arrives() -> int:
            return int(await page.evaluate(ARRIVES))

        await until(arrives, lambda packets: packets == 0, "nothing more to arrive", 20.0)
        again = await node.user("operator")
        with pytest.raises(Refused, match="404"):
            await again.delete(answer["location"].removeprefix("/api/v1"))
        await page.close()


async def test_b_frames_and_aac_reach_two_pages_in_order_by_one_encoder(
    node: Node, browser: Chromium, tmp_path: Path
) -> None:
    launch = pipeline(0, width=320, height=240, b_frames=2, sound="AAC").replace(
        "pattern=solid-color foreground-color=4278190080", SCROLLING
    )
    assert SCROLLING in launch
    async with camera(node, tmp_path, launch, camera_id="pit", site="wuming"):
        page, answer = await watch(node, browser, "pit")
        assert answer["status"] == 201
        await browser.hears(page, TONE, WATCHED)
        seen = await page.evaluate(FRAME_COLOURS, [WATCHED, 4.0])
        in_order(seen)
        alone = await codec_lanes(node)
        other, answer = await watch(node, browser, "pit", "operator")
        assert answer["status"] == 201
        in_order(await other.evaluate(FRAME_COLOURS, [WATCHED, 3.0]))
        await browser.hears(other, TONE, WATCHED)
        assert await codec_lanes(node) == alone
        await page.close()
        await other.close()


def in_order(colours: list[tuple[int, int, int]]) -> None:
    """The bars went by one after the other; frames shown in the order of decoding would step back."""
    assert len(colours) > 30, "a moving picture"
    shown = [bar for colour in colours if (bar := nearest(colour)) is not None]
    assert len(shown) > len(colours) / 2
    steps = [(after - before) % len(BARS) for before, after in itertools.pairwise(shown)]
    assert set(steps) <= {0, 1, 2, 3}, shown  # a moment is missing here and there, none comes again
    assert steps.count(1) > 5


def nearest(colour: tuple[int, int, int]) -> int | None:
    """Which bar a pixel is of; None on the seam of two."""
    distances = [max(abs(a - b) for a, b in zip(colour, bar, strict=True)) for bar in BARS]
    best = min(distances)
    return distances.index(best) if best < 60 else None


async def codec_lanes(node: Node) -> int:
    """How many decoders and encoders run on the node's workers, once their number stands still."""

    async def lanes() -> int:
        found = re.findall(r'^anshi_worker{.*"codec_lanes".*} ([\d.]+)$', await node.metrics(), re.MULTILINE)
        assert found
        return round(sum(map(float, found)))

    before = await lanes()
    for _ in range(20):
        await asyncio.sleep(1.0)
        now = await lanes()
        if now == before > 0:
            return now
        before = now
    raise AssertionError(f"the number of codecs never stood still: {before}")


# --- in meetings --------------------------------------------------------------------------------------


async def into(meeting: MeetingHandle, camera_id: str) -> dict[str, Any]:
    row: dict[str, Any] = await meeting.api.post(
        f"{meeting.path}/participants", {"address": f"camera:{camera_id}"}
    )
    return row


async def test_a_camera_in_the_mosaic_and_untouched_on_the_full_screen(
    node: Node, meeting: MeetingHandle, tmp_path: Path
) -> None:
    launch = pipeline(0xC82828, width=640, height=360, sound="PCMA").replace(STILL, MOVING)
    assert MOVING in launch
    async with (
        camera(node, tmp_path, launch, camera_id="shaft", site="wuming", name="竖井") as url,
        Baresip(tmp_path / "room", replace(NANNING, colour=BLUE, tone=880, video_codecs=())) as room,
    ):
        await room.dial(meeting.uri)
        await room.established()
        room_id = await meeting.joined(room.room.user)
        row = await into(meeting, "shaft")
        assert (row["name"], row["site_id"], row["state"]) == ("竖井", "wuming", "connected")
        with pytest.raises(Refused, match="409"):
            await into(meeting, "shaft")
        await sees_all(room, TWO_TILES, RED, BLUE)
        await room.hears(TONE)

        went = node_port(room, "video")
        async with Capture(tmp_path / "wire", f"udp and src port {went}") as wire:
            await meeting.command("full-screen", row["id"])
            await sees_all(room, (FULL_TILE,), RED)
            await until(meeting.report, lambda report: not report["encoders"], "every encoder to end", 8.0)
            sent = await asyncio.to_thread(sent_slices, url, 6.0)
            leg = await meeting.leg(room_id, "video", outgoing=True)
            assert leg is not None
            assert leg["source"] == f"pass-through:{row['id']}"
            await wire.stop()
        received = await forwarded_slices(wire, f"udp.srcport == {went}")
        assert len(set(sent)) > 50, "the camera's frames are not all the same"
        alike = SequenceMatcher(None, sent, received, autojunk=False)
        assert alike.find_longest_match().size >= 100, "as they left, one after the other"

        await meeting.command("mute", row["id"])
        await meeting.command("mosaic")
        await meeting.command("drop", row["id"])
        await sees_all(room, (FULL_TILE,), BLUE, timeout=15.0)


async def test_a_killed_worker_and_a_killed_main_keep_the_camera_in_its_meeting(
    node: Node, meeting: MeetingHandle, tmp_path: Path
) -> None:
    launch = pipeline(0xD2C828, width=640, height=360)
    async with (
        camera(node, tmp_path, launch, camera_id="yard", site="nanning"),
        Baresip(tmp_path / "room", replace(WUMING, video_codecs=())) as room,
    ):
        await room.dial(meeting.uri)
        await room.established()
        row = await into(meeting, "yard")
        await sees_all(room, TWO_TILES, YELLOW, BLUE)

        victim = (await node.worker_pids())["media-0"]
        os.kill(victim, signal.SIGKILL)
        await until(
            node.worker_pids, lambda pids: pids.get("media-0") not in (None, victim), "another worker", 10.0
        )
        await sees_all(room, TWO_TILES, YELLOW, BLUE, timeout=15.0)
        assert await meeting.joined("camera:yard") == row["id"]

    async with (
        camera(node, tmp_path, launch, camera_id="yard", site="nanning"),
        Baresip(tmp_path / "kept", NANNING) as kept,
    ):
        row = await into(meeting, "yard")
        await kept.dial(meeting.uri)
        await kept.established()
        os.kill(main_pid(node), signal.SIGKILL)

        async def again() -> dict[str, Any] | None:
            try:
                return await meeting.participant("camera:yard")
            except (Refused, OSError):
                return None

        seen = await until(again, lambda found: found is not None, "main to be there again", 20.0)
        assert seen is not None
        assert (seen["id"], seen["state"]) == (row["id"], "connected")
        await sees_all(kept, TWO_TILES, YELLOW, RED, timeout=15.0)  # its call went on


async def test_with_media_inside_main(browser: Chromium, tmp_path: Path) -> None:
    launch = pipeline(0xC82828, width=640, height=360)
    async with (
        Node(tmp_path / "small", workers=0) as small,
        camera(small, tmp_path, launch, camera_id="gate", site="wuming"),
        Baresip(tmp_path / "room", replace(NANNING, colour=BLUE, video_codecs=())) as room,
    ):
        meeting = await small.meeting()
        await room.dial(meeting.uri)
        await room.established()
        row = await into(meeting, "gate")
        page, _answer = await watch(small, browser, "gate")
        await browser.sees(page, RED, WATCHED)
        await sees_all(room, TWO_TILES, RED, BLUE)
        await meeting.command("drop", row["id"])
        await sees_all(room, (FULL_TILE,), BLUE, timeout=15.0)
        await page.close()


def main_pid(node: Node) -> int:
    """The process of this very node that is called main."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            called = (folder / "comm").read_text().strip() == "anshi-main"
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        assert node._process is not None
        if called and parent == node._process.pid:
            return int(folder.name)
    raise AssertionError("no process is called anshi-main")


# --- jurisdiction -------------------------------------------------------------------------------------


async def county(node: Node, *roles: str, name: str) -> None:
    """A user of another county than the camera's."""
    manager, keeper = await node.user("system-admin"), await node.user("security-admin")
    sites = {site["id"] for site in await manager.get("/sites")}
    if "hengxian" not in sites:
        site = {"id": "hengxian", "parent_id": "nanning", "name": "横县", "kind": "county"}
        await manager.post("/sites", site)
    user = {"name": name, "password": PASSWORD, "roles": list(roles), "site_id": "hengxian"}
    await keeper.post("/users", user)


async def test_another_county_s_camera_is_out_of_reach(node: Node, browser: Chromium, tmp_path: Path) -> None:
    await county(node, "monitor", name="heng-monitor")
    await county(node, "operator", name="heng-operator")
    manager = await node.user("system-admin")
    account = {"username": "heng-player", "password": PASSWORD}
    await manager.post("/sites/hengxian/sip-accounts", account)
    launch = pipeline(0xC82828, width=640, height=360)
    async with camera(node, tmp_path, launch, camera_id="adit", site="wuming"):
        page, answer = await watch(node, browser, "adit", "heng-monitor")
        assert answer == {"status": 403}
        await page.close()
        page, answer = await watch(node, browser, "adit")
        await browser.sees(page, RED, WATCHED)
        for name in ("heng-monitor", "heng-operator"):
            api = await node.user(name)
            assert await api.get("/cameras") == []
            for path in ("/cameras/adit", "/cameras/adit/snapshot.jpg"):
                with pytest.raises(Refused, match="403"):
                    await api.get(path)
            with pytest.raises(Refused, match="403"):
                await api.delete(answer["location"].removeprefix("/api/v1"))
        operator = await node.user("heng-operator")
        own = await operator.post("/conferences", {"title": "横县", "host_site_id": "hengxian"})
        with pytest.raises(Refused, match="403"):
            await operator.post(f"/conferences/{own['id']}/participants", {"address": "camera:adit"})
        await operator.delete(f"/conferences/{own['id']}")
        await page.close()
        rtsp = f"127.0.0.1:{node.rtsp_port}/camera/adit"
        with pytest.raises(av.HTTPNotFoundError):
            await asyncio.to_thread(first_packet, f"rtsp://heng-player:{PASSWORD}@{rtsp}")
        assert await asyncio.to_thread(first_packet, f"rtsp://{SIP_ACCOUNT[0]}:{PASSWORD}@{rtsp}")


def first_packet(url: str) -> int:
    """The size of the first packet that a player gets."""
    with av.open(url, options={"rtsp_transport": "tcp"}, timeout=10.0) as player:
        return next(packet.size for packet in player.demux(video=0))
