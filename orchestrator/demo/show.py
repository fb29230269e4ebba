"""A demonstration that is running: its parts, and what is printed of them."""

from __future__ import annotations

import asyncio
import contextlib
import unicodedata
from dataclasses import dataclass
from typing import Any

from orchestrator.demo.node import Api, DemoNode, Plan
from orchestrator.demo.premises import NAMES, Premises
from orchestrator.demo.role import Role, Room, RoomFailed
from orchestrator.demo.seed import ACCOUNTS, HOME, NUMBER, ROOM_NAME, TITLE, Secrets
from orchestrator.resources import pages_folder

JOINED_SECONDS = 10.0
_LINE = "─" * 78


@dataclass(slots=True)
class Show:
    """`meeting` is its row; `operator` may do what operators may."""

    plan: Plan
    secrets: Secrets
    node: DemoNode
    operator: Api
    meeting: dict[str, Any]
    room: Room
    role: Role
    premises: Premises
    startup_seconds: float = 0.0

    @property
    def path(self) -> str:
        return f"/conferences/{self.meeting['id']}"

    async def joined(self, site_id: str) -> dict[str, Any]:
        """The row of the site's participant, once it is connected; cameras are none. Raises RoomFailed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOINED_SECONDS):
                while True:
                    for row in await self.operator.get(f"{self.path}/participants"):
                        there = row["site_id"] == site_id and row["state"] == "connected"
                        if there and not row["address"].startswith("camera:"):
                            return dict(row)
                    await asyncio.sleep(0.1)
        raise RoomFailed(f"site {site_id} is not connected in meeting {NUMBER} after {JOINED_SECONDS:g} s")

    def block(self, closing: str) -> str:
        """Addresses and accounts for the person at the terminal."""
        plan, pin = self.plan, self.secrets.pin
        room = f"{ROOM_NAME} ({self.room.program}), {round(self.role.tone_hz)} Hz, {self.room.address}"
        rows = [
            ("网页 pages", plan.url),
            ("", "证书为自签名，浏览器会警告 self-signed certificate: the browser will warn"),
            ("会议 meeting", f"{NUMBER}  {self.meeting['title']}  PIN {pin}"),
            ("拨入 dial", plan.sip_uri(NUMBER)),
            ("访客 guest", plan.sip_uri(f"{NUMBER}*{pin}")),
            ("会场 room", room),
            ("直播 live", self.premises.broadcast["watch_url"]),
            ("监控 cameras", "、".join(NAMES[name] for name in self.premises.cameras.names)),
            ("接口 API", f"{plan.url}/api/v1/openapi.json"),
            ("日志 log", str(self.node.log)),
        ]
        if pages_folder() is None:
            rows[1] = ("", "网页尚未生成 the pages are not built yet: make setup builds them")
        lines = [_LINE, f"  安视演示已就绪 The demonstration is ready ({self.startup_seconds:.1f} s)", _LINE]
        lines += [f"  {wide(name, 14)}{text}" for name, text in rows]
        lines += ["", "  账号 accounts"]
        for account in ACCOUNTS:
            password = self.secrets.users[account.name]
            lines.append(
                f"    {wide(account.name, 11)}{password}   {wide(account.role, 16)}{account.display_name}"
            )
        lines += [f"  ! {note}" for note in plan.notes]
        return "\n".join([*lines, _LINE, f"  {closing}"])


def wide(text: str, columns: int) -> str:
    """The text filled up to so many columns of a terminal; Chinese characters take two."""
    taken = sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)
    return text + " " * max(1, columns - taken)


async def open_meeting(operator: Api, pin: str) -> dict[str, Any]:
    """The running meeting of the demonstration's number, opened if it is not there."""
    for conference in await operator.get("/conferences"):
        if conference["number"] == NUMBER and conference["state"] == "running":
            return dict(conference)
    wanted = {"title": TITLE, "number": NUMBER, "host_site_id": HOME, "pin": pin}
    return dict(await operator.post("/conferences", wanted))
