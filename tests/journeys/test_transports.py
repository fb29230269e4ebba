"""Every way signalling and media may come, in one meeting with a browser: seen and heard both ways."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from playwright.async_api import Page

from foundation.database import Database
from foundation.repositories.sites import SiteAddress, SiteRepository
from tests.journeys.scene import MINE, NANNING, WIDE, falls_silent, sees_all
from tests.journeys.test_browser import PROGRAMME, VIEWER, enter
from tests.journeys.wire import answer_to
from tests.peers.baresip import Baresip
from tests.peers.chromium import Chromium
from tests.peers.node import PASSWORD, MeetingHandle, Node
from tests.peers.picture import BLUE, CYAN, GREEN, MAGENTA, RED, YELLOW, Colour, Region, near
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = [requires("baresip", "chromium"), pytest.mark.asyncio(loop_scope="module")]

NINE_TILES = tuple(Region(0, 0, 1, 1).tile(x, y, 3, 3) for y in range(3) for x in range(3))
IPV6 = "extranet6"
SMALL = replace(WIDE, width=352, height=288, rate=15, video_bit_rate=300_000)
ROOMS = {
    "udp": replace(SMALL, user="udp-room", address=NANNING.address, colour=RED, tone=440),
    "tcp": replace(SMALL, user="tcp-room", transport="tcp", colour=BLUE, tone=620),
    "sdes": replace(
        SMALL, user="sdes-room", transport="tls", encryption="srtp-mand", colour=YELLOW, tone=1320
    ),
    "dtls": replace(
        SMALL, user="dtls-room", address=MINE.address, encryption="dtls_srtp", colour=CYAN, tone=1760
    ),
    "ipv6": replace(SMALL, user="ipv6-room", address="::1", colour=MAGENTA, tone=2200),
}
EVERYBODY: tuple[Colour, ...] = (*(room.colour for room in ROOMS.values()), GREEN)


class OpenNode(Node):
    """Listens for TLS too, and on the machine's IPv6 loopback, which is a site."""

    def _configure(self, ports: PortBlock) -> None:
        super()._configure(ports)
        self.tls_port, self.sip6_port, webrtc = ports.take(), ports.take(), ports.take()
        rtp = ports.take(20, even=True)
        settings = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        settings["networks"][0]["sip"]["tls"] = self.tls_port
        sip = {"udp": self.sip6_port, "tcp": self.sip6_port, "tls": None}
        settings["networks"].append(
            {
                "name": IPV6,
                "bind": "::1",
                "sip": sip,
                "rtp_ports": [rtp, rtp + 19],
                "webrtc_port": webrtc,
                "rtsp": None,
            }
        )
        self.config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")

    async def start(self) -> None:
        database = Database(self.database_url)
        try:
            async with database.transaction() as tx:
                await SiteRepository(tx).save_address(SiteAddress(IPV6, "::1", "wuming"))
        finally:
            await database.aclose()
        await super().start()

    def uri_for(self, room: str, number: str) -> str:
        if room == "ipv6":
            return f"sip:{number}@[::1]:{self.sip6_port}"
        return f"sip:{number}@127.0.0.1:{self.tls_port if room == 'sdes' else self.sip_port}"


@dataclass(frozen=True, slots=True)
class Hall:
    """A terminal for each way, and the viewer's page."""

    rooms: dict[str, Baresip]
    ids: dict[str, str]
    browser: Chromium
    page: Page
    browser_id: str
    meeting: MeetingHandle


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with OpenNode(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hall(node: OpenNode, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hall]:
    folder: Path = tmp_path_factory.mktemp("hall")
    async with AsyncExitStack() as stack:
        browser = await stack.enter_async_context(Chromium(folder / "browser", VIEWER))
        meeting = await node.meeting()
        page = await browser.open(f"{node.url}/meetings/{meeting.id}/join")
        await page.get_by_test_id("signin-name").fill("viewer")
        await page.get_by_test_id("signin-password").fill(PASSWORD)
        await page.get_by_test_id("signin-password").press("Enter")
        browser_id = await enter(page)
        rooms, ids = {}, {}
        for way, described in ROOMS.items():
            room = rooms[way] = await stack.enter_async_context(Baresip(folder / way, described))
            await room.dial(node.uri_for(way, meeting.number))
            await room.established()
            ids[way] = await meeting.joined(described.user)
        yield Hall(rooms, ids, browser, page, browser_id, meeting)


@pytest.mark.parametrize("way", ROOMS)
async def test_each_room_sees_everybody(hall: Hall, way: str) -> None:
    await sees_all(hall.rooms[way], NINE_TILES, *EVERYBODY, timeout=20)


async def test_the_browser_sees_every_room(hall: Hall) -> None:
    async def look() -> list[Colour]:
        seen = [await hall.browser.colour(hall.page, PROGRAMME, tile) for tile in NINE_TILES]
        return [one[0] for one in seen if one is not None]

    def each(seen: list[Colour]) -> bool:
        return all(any(near(one, colour) for one in seen) for colour in EVERYBODY)

    await until(look, each, "the programme to show everybody", 15.0)


@pytest.mark.parametrize("way", ROOMS)
async def test_each_room_and_the_browser_hear_each_other(hall: Hall, way: str) -> None:
    for other, participant_id in hall.ids.items():
        await hall.meeting.command("unmute" if other == way else "mute", participant_id)
    await hall.rooms[way].hears(VIEWER.tone)
    await hall.browser.hears(hall.page, ROOMS[way].tone, PROGRAMME)
    await falls_silent(hall.rooms[way], ROOMS[next(w for w in ROOMS if w != way)].tone, timeout=3.0)


async def test_each_came_the_way_it_was_told(hall: Hall) -> None:
    answers = {way: answer_to(room) for way, room in hall.rooms.items()}
    for way, via in (("udp", "UDP"), ("tcp", "TCP"), ("sdes", "TLS"), ("dtls", "UDP"), ("ipv6", "UDP")):
        assert f"SIP/2.0/{via}" in answers[way]
    assert "RTP/SAVP" in answers["sdes"]
    assert "a=crypto:" in answers["sdes"]
    assert "UDP/TLS/RTP/SAVP" in answers["dtls"]
    assert "a=fingerprint:sha-256" in answers["dtls"]
    assert "a=setup:passive" in answers["dtls"]
    assert "a=crypto:" not in answers["dtls"]
    assert "c=IN IP6 ::1" in answers["ipv6"]
