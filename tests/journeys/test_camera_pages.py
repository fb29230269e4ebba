"""Cameras, rules, violations, recordings and broadcasts through the pages of a whole node."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.journeys.cameras import camera
from tests.peers.chromium import Chromium, Person
from tests.peers.gst_camera import gst_camera, pipeline
from tests.peers.node import PASSWORD, Node
from tests.peers.picture import RED
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = [requires("gst-rtsp-server", "chromium"), pytest.mark.asyncio(loop_scope="module")]

RED_PICTURE = pipeline(0xC82828, width=640, height=360, sound="PCMA")
SLOW = 30_000
"""ms; a first picture, a process that comes up."""
SECONDS = 5.0
"""Of a recording."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A node with all its processes."""
    settings: dict[str, Any] = {
        "recordings": {"enabled": True, "reserve_megabytes": 16},
        "analytics": {"enabled": True},
        "edge": {"enabled": True},
    }
    async with Node(tmp_path_factory.mktemp("pages-node"), settings=settings) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    async with Chromium(tmp_path_factory.mktemp("pages-browser"), Person()) as browser:
        yield browser


@contextlib.asynccontextmanager
async def signed_in(node: Node, browser: Chromium, user: str, path: str) -> AsyncIterator[Page]:
    """A page as this user; signed out after."""
    await browser.context.clear_cookies()
    page = await browser.open(f"{node.url}{path}")
    await page.get_by_test_id("signin-name").fill(user)
    await page.get_by_test_id("signin-password").fill(PASSWORD)
    await page.get_by_test_id("signin-password").press("Enter")
    await expect(page.get_by_test_id("user-name")).to_be_visible(timeout=SLOW)
    try:
        yield page
    finally:
        await page.close()


async def point(stage: Locator, x: float, y: float) -> tuple[float, float]:
    """Where (x, y) of 0..1 of an element is in the window."""
    box = await stage.bounding_box()
    assert box is not None
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


async def test_a_camera_is_tried_added_and_removed_on_the_page(
    node: Node, browser: Chromium, tmp_path: Path
) -> None:
    with PortBlock() as ports:
        port, nobody = ports.take(), ports.take()
        async with (
            gst_camera(tmp_path, port, RED_PICTURE, name="added"),
            signed_in(node, browser, "system-admin", "/cameras") as page,
        ):
            await page.get_by_test_id("camera-add").click()
            await page.get_by_test_id("camera-name").fill("井口")
            await page.get_by_test_id("site-select").locator("input").fill("武鸣")
            await page.get_by_role("option", name="武鸣县").first.click()
            await page.get_by_test_id("camera-url").fill(f"rtsp://127.0.0.1:{nobody}/camera")
            await page.get_by_test_id("camera-test-button").click()
            result = page.get_by_test_id("camera-test")
            await expect(result).to_have_attribute("data-ok", "false", timeout=SLOW)
            await expect(result).to_contain_text("摄像机拒绝连接")
            await page.get_by_test_id("camera-url").fill(f"rtsp://127.0.0.1:{port}/camera")
            await page.get_by_test_id("camera-test-button").click()
            await expect(result).to_have_attribute("data-ok", "true", timeout=SLOW)
            await expect(result).to_contain_text("640×360")
            await page.get_by_test_id("camera-submit").click()
            row = page.get_by_test_id("camera-row").filter(has_text="井口")
            await expect(row).to_contain_text(f"rtsp://127.0.0.1:{port}/camera")
            await row.get_by_test_id("camera-remove").click()
            await page.locator(".confirm-danger").click()
            await expect(row).to_have_count(0)


async def test_the_wall_shows_a_camera_and_lets_go_of_it(
    node: Node, browser: Chromium, tmp_path: Path
) -> None:
    async with (
        camera(node, tmp_path, RED_PICTURE, camera_id="gate", site="wuming", name="东门"),
        signed_in(node, browser, "monitor", "/cameras") as page,
    ):
        tile = page.locator("[data-testid=camera-tile][data-camera-id=gate]")
        await expect(tile).to_have_attribute("data-view", "live", timeout=SLOW)
        await browser.sees(page, RED, "[data-camera-id=gate] video")
        in_tree = page.locator("[data-testid=tree-camera][data-camera-id=gate]")
        await expect(in_tree).to_have_attribute("data-state", "playing", timeout=SLOW)
        await page.get_by_test_id("camera-search").fill("no such camera")
        await expect(tile).to_have_count(0)
        monitor = await node.user("monitor")

        async def state() -> str:
            return str((await monitor.get("/cameras/gate"))["state"])

        await until(state, lambda word: word == "idle", "the camera to be let go", 40)


async def test_a_camera_is_brought_into_a_meeting_by_two_clicks(
    node: Node, browser: Chromium, tmp_path: Path
) -> None:
    async with camera(node, tmp_path, RED_PICTURE, camera_id="yard", site="wuming", name="料场"):
        meeting = await node.meeting("调度会")
        async with signed_in(node, browser, "operator", "/cameras") as page:
            await page.locator("[data-testid=tree-camera][data-camera-id=yard]").click()
            await page.get_by_test_id("camera-meeting").click()
            await page.locator(f"[data-meeting-id='{meeting.id}']").click()
            row = await meeting.in_state("camera:yard", "connected", timeout=30)
            assert row["name"] == "料场"
        await meeting.command("end")


async def test_a_zone_is_drawn_on_the_picture_and_kept(node: Node, browser: Chromium, tmp_path: Path) -> None:
    async with camera(node, tmp_path, RED_PICTURE, camera_id="belt", site="wuming", name="皮带"):
        async with signed_in(node, browser, "monitor", "/cameras/belt/rules") as page:
            stage = page.get_by_test_id("zone-stage")
            await expect(stage.locator("img")).to_be_visible(timeout=SLOW)
            await page.get_by_test_id("rule-add").click()
            await expect(stage).to_have_attribute("data-drawing", "true")
            for corner in ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2)):
                await page.mouse.click(*await point(stage, *corner))
            await expect(stage).to_have_attribute("data-drawing", "false")
            await page.get_by_test_id("zone-point").nth(3).focus()
            await page.keyboard.press("Delete")
            await page.get_by_test_id("rule-name").fill("皮带有人")
            await page.get_by_test_id("parameter-score").fill("0.7")
            await page.get_by_test_id("schedule-add").click()
            await page.get_by_test_id("rule-save").click()
            await expect(page.get_by_test_id("rule-row")).to_have_count(1, timeout=SLOW)
        [rule] = await (await node.user("monitor")).get("/cameras/belt/rules")
        assert (rule["kind"], rule["name"], rule["enabled"]) == ("person-in-zone", "皮带有人", True)
        corners = [value for corner in rule["zone"] for value in corner]
        assert corners == pytest.approx([0.2, 0.2, 0.8, 0.2, 0.8, 0.8], abs=0.01)
        assert rule["parameters"]["score"] == 0.7
        assert rule["schedule"] == [{"days": [0, 1, 2, 3, 4], "from": "08:00", "to": "18:00"}]


async def test_a_violation_appears_by_itself_and_is_decided(
    node: Node, browser: Chromium, tmp_path: Path
) -> None:
    black = pipeline(0, width=640, height=360)
    async with camera(node, tmp_path, black, camera_id="dark", site="wuming", name="暗处"):
        monitor = await node.user("monitor")
        async with signed_in(node, browser, "monitor", "/violations") as page:
            await expect(page.get_by_test_id("violation-summary")).to_be_visible()
            rule = {"kind": "black", "name": "镜头遮挡", "parameters": {"seconds": 1}}
            await monitor.post("/cameras/dark/rules", rule)
            detail = page.get_by_test_id("violation")
            await expect(detail).to_have_attribute("data-state", "open", timeout=2 * SLOW)
            await expect(detail).to_contain_text("镜头遮挡")
            await page.keyboard.press("c")
            await expect(detail).to_have_attribute("data-state", "claimed")
            await page.get_by_test_id("review-comment-text").fill("已派人擦拭")
            await page.get_by_test_id("review-confirm").click()
            await expect(detail).to_have_attribute("data-state", "confirmed")
            await expect(page.get_by_test_id("violation-log")).to_contain_text("已派人擦拭")
            violation = (await monitor.get("/violations"))["items"][0]
            assert (violation["state"], violation["decided_by"]) == ("confirmed", "monitor")
            digest = page.get_by_test_id("snapshot-digest")
            await expect(digest).to_have_text(re.compile(r"[0-9a-f]{64}"), timeout=SLOW)


async def test_a_recording_is_switched_on_and_played_on_the_page(
    node: Node, browser: Chromium, tmp_path: Path
) -> None:
    async with camera(node, tmp_path, RED_PICTURE, camera_id="shaft", site="wuming", name="竖井"):
        monitor = await node.user("monitor")
        async with signed_in(node, browser, "monitor", "/cameras") as page:
            await page.locator("[data-testid=tree-camera][data-camera-id=shaft]").click()
            await page.get_by_test_id("camera-record").click()

            switch = page.get_by_test_id("camera-record")
            await expect(switch).to_have_attribute("aria-pressed", "true", timeout=SLOW)
            order = "/cameras/shaft/recording"
            await until(
                lambda: monitor.get(order),
                lambda now: now["state"] == "recording",
                "the recording's begin",
                30,
            )
            await asyncio.sleep(SECONDS)
            await switch.click()
            await expect(switch).to_have_attribute("aria-pressed", "false")
            await page.get_by_test_id("camera-recordings").click()
            await expect(page.get_by_test_id("timeline-piece").first).to_be_visible(timeout=SLOW)
            await page.get_by_test_id("recording-play").click()
            await browser.sees(page, RED, "[data-testid=recording-video]", timeout=30)
            await expect(page.get_by_test_id("recording-download").first).to_be_visible(timeout=SLOW)


async def test_a_meeting_is_broadcast_and_stopped_by_its_operator(node: Node, browser: Chromium) -> None:
    meeting = await node.meeting("公开会")
    async with signed_in(node, browser, "operator", f"/meetings/{meeting.id}/operate") as page:
        await page.get_by_test_id("broadcast-start").click()
        await page.get_by_test_id("broadcast-submit").click()
        link = page.get_by_test_id("watch-link")
        await expect(link).to_have_attribute("href", re.compile(r"/watch/"), timeout=SLOW)
        await page.get_by_test_id("menu-broadcasts").click()
        running = page.get_by_test_id("broadcast").filter(has_text="公开会")
        await expect(running).to_have_count(1)
        await running.get_by_test_id("broadcast-stop").click()
        await page.locator(".confirm-danger").click()
        await expect(running).to_have_count(0)
        await expect(page.get_by_test_id("broadcasts-past")).to_contain_text("公开会")
    await meeting.command("end")
