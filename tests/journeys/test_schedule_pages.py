"""Meetings scheduled, opened, prolonged, called over and read up through the pages."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from tests.peers.chromium import Chromium
from tests.peers.node import ADDRESSES, PASSWORD, MeetingHandle, Node
from tests.peers.requirement import requires

pytestmark = [requires("chromium"), pytest.mark.asyncio(loop_scope="module")]

SLOW = 30_000
"""ms; what a page shows on a busy machine."""
ROOM = TerminalSettings("南宁会议室", bind=ADDRESSES["nanning"], fps=10)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    """The operator's, whose clock is eight hours ahead of the service's."""
    async with Chromium(tmp_path_factory.mktemp("schedules")) as browser:
        there = await browser.browser.new_context(
            ignore_https_errors=True,
            timezone_id="Asia/Shanghai",
            viewport={"width": 1440, "height": 900},
        )
        page = await there.new_page()
        page.set_default_timeout(SLOW)
        await page.goto(f"{node.url}/meetings/schedules")
        await page.get_by_test_id("signin-name").fill("operator")
        await page.get_by_test_id("signin-password").fill(PASSWORD)
        await page.get_by_test_id("signin-password").press("Enter")
        await expect(page.get_by_test_id("zone")).to_contain_text("Asia/Shanghai, UTC+08:00", timeout=SLOW)
        yield page
        await there.close()


async def start_at(page: Page, local: str) -> None:
    """Type a start into the date field, as the page shows it."""
    field = page.get_by_test_id("schedule-start").locator("input")
    await field.fill(local)
    await field.press("Enter")


def said_at(page: Page, field: str) -> Locator:
    """What the form says is wrong, in the field's own item."""
    item = page.locator(".el-form-item").filter(has=page.get_by_test_id(field))
    return item.locator(".el-form-item__error")


async def test_what_is_wrong_is_said_beside_its_field(page: Page) -> None:
    await page.get_by_test_id("schedule-add").click()
    await start_at(page, "2020-01-01 09:00")
    await expect(said_at(page, "schedule-start")).to_have_text("这个时间已过，请选择以后的时间", timeout=SLOW)
    for field, value, words in (
        ("schedule-minutes", "20", "时长应为 30 至 1440 分钟的整数"),
        ("schedule-number", "12", "会议号应为 3 至 12 位数字"),
        ("schedule-pin", "12a4", "会议密码应为 4 至 12 位数字"),
        ("schedule-redials", "11", "应为 0 至 10 的整数"),
        ("people-extra-address", "room at home", "地址应形如 sip:会场@主机 或 camera:编号"),
    ):
        await page.get_by_test_id(field).fill(value)
        await expect(said_at(page, field)).to_have_text(words, timeout=SLOW)
    await expect(page.get_by_test_id("schedule-submit")).to_be_disabled()
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("schedule-submit")).to_be_hidden(timeout=SLOW)


async def test_a_meeting_is_scheduled_in_the_time_of_the_browser_changed_and_cancelled(
    node: Node, page: Page
) -> None:
    await page.get_by_test_id("schedule-add").click()
    await page.get_by_test_id("schedule-title").fill("全区调度会")
    await start_at(page, "2030-05-06 09:30")
    await page.get_by_test_id("schedule-minutes").fill("90")
    await page.get_by_test_id("schedule-pin").fill("482913")
    await page.get_by_test_id("people-find").fill("南宁")
    await page.get_by_test_id("people-all").click()
    await page.get_by_test_id("people-extra-address").fill("sip:bureau@10.1.2.3")
    await page.get_by_test_id("people-extra-name").fill("监察局")
    await page.get_by_test_id("people-add").click()
    await page.get_by_test_id("schedule-submit").click()
    card = page.get_by_test_id("schedule").filter(has_text="全区调度会")
    await expect(card.get_by_test_id("schedule-when")).to_have_text("2030-05-06 09:30–11:00", timeout=SLOW)
    operator = await node.user()
    [row] = await operator.get("/schedules")
    assert datetime.fromisoformat(row["starts_at"]) == datetime.fromisoformat("2030-05-06T01:30:00Z")
    assert (row["duration_minutes"], row["has_pin"], row["auto_dial"]) == (90, True, True)
    planned = {(one["site_id"], one["address"], one["name"]) for one in row["participants"]}
    assert planned == {
        ("nanning", None, None),
        ("wuming", None, None),
        ("mine", None, None),
        (None, "sip:bureau@10.1.2.3", "监察局"),
    }
    await card.get_by_test_id("schedule-edit").click()
    await page.get_by_test_id("schedule-minutes").fill("120")
    await page.get_by_test_id("schedule-lobby").click()
    await page.get_by_role("option", name="仅凭密码加入者").click()
    await page.get_by_test_id("schedule-submit").click()
    await expect(card.get_by_test_id("schedule-when")).to_have_text("2030-05-06 09:30–11:30", timeout=SLOW)
    await expect(card).to_contain_text("等候室: 仅凭密码加入者")
    [changed] = await operator.get("/schedules")
    assert (changed["starts_at"], changed["lobby"]) == (row["starts_at"], "guests")
    assert changed["has_pin"]
    await card.get_by_test_id("schedule-remove").click()
    await page.locator(".confirm-danger").click()
    await expect(card).to_have_count(0, timeout=SLOW)
    assert await operator.get("/schedules") == []


async def test_from_a_template_to_the_minutes(node: Node, page: Page, tmp_path: Path) -> None:
    operator = await node.user()
    async with RoomTerminal(ROOM) as room:
        await page.get_by_test_id("template-add").click()
        await page.get_by_test_id("schedule-title").fill("月度例会")
        await page.get_by_test_id("people-site-wuming").click()
        await page.get_by_test_id("people-extra-address").fill(room.uri)
        await page.get_by_test_id("people-extra-name").fill(ROOM.name)
        await page.get_by_test_id("people-add").click()
        await page.get_by_test_id("schedule-submit").click()
        template = page.get_by_test_id("schedules-templates").get_by_test_id("schedule")
        await expect(template).to_contain_text("月度例会", timeout=SLOW)
        await template.get_by_test_id("schedule-use").click()
        await expect(page.get_by_test_id("schedule-title")).to_have_value("月度例会", timeout=SLOW)
        await expect(page.get_by_test_id("people-count")).to_have_text("已选 2 个")
        await page.keyboard.press("Escape")
        await template.get_by_test_id("schedule-open").click()
        await page.locator(".confirm-danger").click()
        await page.wait_for_url(re.compile(r"/meetings/[^/]+/operate"))
        conference = await operator.get(f"/conferences/{page.url.split('/')[-2]}")
        meeting = MeetingHandle(node, operator, conference["id"], conference["number"])
        await room.answered()
        await meeting.joined(ROOM.name)
        await prolong(page, meeting)
        await call_over(page)
        await meeting.command("end")
    await read_up(node, page, meeting, tmp_path)


async def prolong(page: Page, meeting: MeetingHandle) -> None:
    """Half an hour more, by the operator's page."""
    before = (await meeting.api.get(f"{meeting.path}/plan"))["ends_at"]
    await expect(page.get_by_test_id("plan-absent")).to_contain_text("武鸣县", timeout=SLOW)
    await expect(page.get_by_test_id("plan-absent")).not_to_contain_text(ROOM.name, timeout=SLOW)
    await page.get_by_test_id("extend").click()
    await page.get_by_test_id("extend-30").click()
    await expect(page.get_by_test_id("plan")).not_to_have_attribute("data-ends-at", before, timeout=SLOW)
    after = (await meeting.api.get(f"{meeting.path}/plan"))["ends_at"]
    assert (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds() == 1800


async def call_over(page: Page) -> None:
    """A roll call in the order of the tree; its record stands on the page after it."""
    await page.get_by_test_id("roll-begin").click()
    await page.get_by_test_id("roll-start").click()
    entry = page.get_by_test_id("roll-entry").filter(has_text=ROOM.name)
    await entry.get_by_test_id("roll-call-one").click()
    await entry.get_by_test_id("roll-present").click()
    await expect(entry).to_have_attribute("data-mark", "present", timeout=SLOW)
    await page.get_by_test_id("roll-end").click()
    record = page.get_by_test_id("roll-record-entry").filter(has_text=ROOM.name)
    await expect(record).to_have_attribute("data-mark", "present", timeout=SLOW)
    await expect(record).to_contain_text(re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"))


async def read_up(node: Node, page: Page, meeting: MeetingHandle, folder: Path) -> None:
    """The minutes of the ended meeting, read and downloaded."""
    await page.goto(f"{node.url}/meetings/minutes")
    await page.get_by_test_id("minutes-find").fill(meeting.number)
    await page.get_by_test_id("minutes-row").click()
    sheet = page.frame_locator("[data-testid=minutes-sheet]").locator("body")
    await expect(sheet).to_contain_text("会议纪要 · 月度例会", timeout=SLOW)
    for words in (ROOM.name, "点名", "extend", "H264"):
        await expect(sheet).to_contain_text(words)
    for form, begin in (("csv", b"\xef\xbb\xbf"), ("html", b"<!doctype html>")):
        async with page.expect_download() as waiting:
            await page.get_by_test_id(f"minutes-{form}").click()
        download = await waiting.value
        assert re.fullmatch(rf"月度例会 .* 纪要\.{form}", download.suggested_filename)
        kept = folder / f"minutes.{form}"
        await download.save_as(kept)
        content = kept.read_bytes()
        assert content.startswith(begin)
        assert ROOM.name in content.decode()
