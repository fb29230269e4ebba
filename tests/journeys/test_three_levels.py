"""A county's camera seen in the province: each level pulls it from the one below, on demand, one copy a link.

Over RTSP, with an account that each level gives to the one above; GB/T 28181 between them is not there yet.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.cameras import WATCHED, camera, sent_slices, watch
from tests.peers.chromium import Chromium, Person
from tests.peers.gst_camera import pipeline
from tests.peers.node import PASSWORD, Node, Refused
from tests.peers.picture import RED
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = requires("gst-rtsp-server", "chromium")

TONE = 440.0
"""What gst's audiotestsrc plays."""
MOVING = "pattern=ball background-color=0xFFC82828 foreground-color=0xFFDC3C3C"
STILL = f"pattern=solid-color foreground-color={0xFFC82828}"
ESTABLISHED = "01"
"""Of /proc/net/tcp (proc(5))."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Three nodes, each of which knows the camera `gate` of the one before it; `device` is its port."""

    device: int
    county: Node
    city: Node
    province: Node

    def copies(self) -> tuple[int, int, int]:
        """Connections that pull the camera: from the device, from the county, from the city."""
        return players(self.device), players(self.county.rtsp_port), players(self.city.rtsp_port)

    def address(self, node: Node) -> str:
        """The camera, as a player of the level above asks for it."""
        return f"rtsp://above:{PASSWORD}@127.0.0.1:{node.rtsp_port}/camera/gate"


def players(port: int) -> int:
    """Connections that somebody made to a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == ESTABLISHED for row in rows)


@asynccontextmanager
async def levels(folder: Path) -> AsyncIterator[Levels]:
    launch = pipeline(0xC82828, width=640, height=360, sound="PCMA").replace(STILL, MOVING)
    assert MOVING in launch
    async with AsyncExitStack() as stack:
        county, city, province = [
            await stack.enter_async_context(Node(folder / name)) for name in ("county", "city", "province")
        ]
        device = await stack.enter_async_context(
            camera(county, folder, launch, camera_id="gate", site="wuming", name="东门")
        )
        for above, below, site in ((city, county, "nanning"), (province, city, "gx")):
            keeper = await below.user("system-admin")
            await keeper.post(f"/sites/{site}/sip-accounts", {"username": "above", "password": PASSWORD})
            told: dict[str, Any] = {"id": "gate", "site_id": "wuming", "name": "东门"}
            login = {"username": "above", "password": PASSWORD}
            url = f"rtsp://127.0.0.1:{below.rtsp_port}/camera/gate"
            await (await above.user("system-admin")).post("/cameras", {**told, **login, "url": url})
        yield Levels(int(device.rpartition(":")[2].partition("/")[0]), county, city, province)


async def test_a_county_s_camera_is_watched_in_the_province(tmp_path: Path) -> None:
    async with levels(tmp_path) as chain, Chromium(tmp_path / "watcher", Person()) as browser:
        assert chain.copies() == (0, 0, 0), "nobody watches"
        pages = [(await watch(chain.province, browser, "gate", user))[0] for user in ("monitor", "operator")]
        here, _ = await watch(chain.county, browser, "gate")
        for page in (*pages, here):
            await browser.sees(page, RED, WATCHED)
            await browser.hears(page, TONE, WATCHED)

        keeper = await chain.province.user("system-admin")
        await keeper.post("/sites/gx/sip-accounts", {"username": "above", "password": PASSWORD})
        direct, relayed = await asyncio.gather(
            asyncio.to_thread(sent_slices, f"rtsp://127.0.0.1:{chain.device}/camera", 6.0),
            asyncio.to_thread(sent_slices, chain.address(chain.province), 6.0),
        )
        assert len(set(direct)) > 50, "the camera's frames are not all the same"
        alike = SequenceMatcher(None, direct, relayed, autojunk=False)
        assert alike.find_longest_match().size >= 100, "untouched, one after the other"
        await copied(chain, (1, 1, 1))  # one copy a link, however many watch

        # The level between loses its worker: who watches above has picture and sound again without a hand.
        victim = (await chain.city.worker_pids())["media-0"]
        os.kill(victim, signal.SIGKILL)
        await until(
            chain.city.worker_pids, lambda pids: pids.get("media-0") not in (None, victim), "another", 10.0
        )
        for page in pages:
            await browser.sees(page, RED, WATCHED)
            await browser.hears(page, TONE, WATCHED)

        for page in pages:
            await page.close()
        await copied(chain, (1, 0, 0))  # the county watches on
        await here.close()
        await copied(chain, (0, 0, 0))


async def copied(chain: Levels, wanted: tuple[int, int, int]) -> None:
    async def copies() -> tuple[int, int, int]:
        return chain.copies()

    await until(copies, lambda found: found == wanted, f"the copies to be {wanted}", 60.0)


async def test_what_the_level_below_refuses_is_told_above(tmp_path: Path) -> None:
    async with levels(tmp_path) as chain:
        manager = await chain.city.user("system-admin")
        await manager.patch("/cameras/gate", {"password": "not this one"})
        monitor = await chain.province.user("monitor")
        with pytest.raises(Refused, match="503") as refused:
            await monitor.get("/cameras/gate/snapshot.jpg")
        assert "password" in refused.value.problem["detail"], refused.value.problem
