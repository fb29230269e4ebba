"""Rooms of every age in one meeting: H.263, VP8, H.261 and a browser's H.264; A-law, Opus and G.722."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from orchestrator.demo.terminal.footage import Region as Part
from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from tests.journeys.scene import FOUR_TILES, FULL_TILE, NANNING, WUMING, last_heard, sees_all
from tests.peers.baresip import Baresip
from tests.peers.chromium import Chromium, Person
from tests.peers.node import ADDRESSES, PASSWORD, MeetingHandle, Node
from tests.peers.picture import BLUE, GREEN, RED, YELLOW, Colour, Region, near
from tests.peers.requirement import requires
from tests.peers.sound import hears
from tests.peers.waiting import until

pytestmark = [requires("baresip", "chromium"), pytest.mark.asyncio(loop_scope="module")]

OLD = replace(NANNING, video_codecs=("H263",), audio_codecs=("PCMA/8000/1",), width=352, height=288, tone=440)
FREE = replace(WUMING, video_codecs=("VP8",), audio_codecs=("opus/48000/1",), tone=880)
OLDEST = TerminalSettings(
    "mine-room",
    bind=ADDRESSES["mine"],
    colour="yellow",
    tone_hz=1320,
    video=("H261",),
    audio=("G722",),
    bitrate=300_000,
)
PERSON = Person(GREEN, 1760)
PROGRAMME = "[data-testid=programme]"
TONES = {"old": 440, "free": 880, "oldest": 1320, "browser": 1760}
COLOURS = {"old": RED, "free": BLUE, "oldest": YELLOW, "browser": GREEN}
NAMES = {RED: "red", BLUE: "blue", YELLOW: "yellow", GREEN: "green"}

# 16:9 on a picture of 4:3 leaves an eighth of the lines black above and below.
BARRED = Region(0, 0.125, 1, 0.875)
BARRED_TILES = tuple(BARRED.tile(x, y, 2, 2) for y in (0, 1) for x in (0, 1))
BARRED_PARTS = tuple(Part(0, 0.125, 1, 0.75).tile(x, y, 2, 2) for y in (0, 1) for x in (0, 1))


@dataclass(frozen=True, slots=True)
class Hall:
    """Four ages of terminals, and their participants' ids."""

    old: Baresip
    free: Baresip
    oldest: RoomTerminal
    browser: Chromium
    page: Page
    meeting: MeetingHandle
    ids: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hall(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hall]:
    folder = tmp_path_factory.mktemp("mixed")
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(Baresip(folder / "old", OLD))
        free = await stack.enter_async_context(Baresip(folder / "free", FREE))
        oldest = await stack.enter_async_context(RoomTerminal(OLDEST))
        browser = await stack.enter_async_context(Chromium(folder / "browser", PERSON))
        meeting = await node.meeting("混合会商")
        await old.dial(meeting.uri)
        await free.dial(meeting.uri)
        await oldest.dial(meeting.uri)
        await old.established()
        await free.established()
        page = await browser.open(f"{node.url}/meetings/{meeting.id}/join")
        await page.get_by_test_id("signin-name").fill("viewer")
        await page.get_by_test_id("signin-password").fill(PASSWORD)
        await page.get_by_test_id("signin-password").press("Enter")
        await page.get_by_test_id("join-enter").click()
        room = page.get_by_test_id("room")
        await expect(room).to_have_attribute("data-state", "connected", timeout=15_000)
        ids = {
            "old": await meeting.joined(OLD.user),
            "free": await meeting.joined(FREE.user),
            "oldest": await meeting.joined(OLDEST.name),
            "browser": str(await room.get_attribute("data-participant-id")),
        }
        yield Hall(old, free, oldest, browser, page, meeting, ids)


async def oldest_sees_all(terminal: RoomTerminal, *colours: Colour, timeout: float = 10.0) -> None:
    async def look() -> set[str]:
        screen = terminal.screen
        return {
            name for name in NAMES.values() if any(screen.shows(_rgb(name), part) for part in BARRED_PARTS)
        }

    wanted = {NAMES[colour] for colour in colours}
    await until(look, lambda seen: seen == wanted, f"the H.261 terminal to see {wanted}", timeout)


def _rgb(name: str) -> Colour:
    return next(colour for colour, called in NAMES.items() if called == name)


async def page_sees_all(hall: Hall, *colours: Colour, timeout: float = 10.0) -> None:
    async def look() -> list[Colour]:
        seen = [await hall.browser.colour(hall.page, PROGRAMME, tile) for tile in FOUR_TILES]
        return [one[0] for one in seen if one is not None]

    def each(seen: list[Colour]) -> bool:
        return all(any(near(one, colour) for one in seen) for colour in colours)

    await until(look, each, f"the page to show {colours}", timeout)


async def test_each_sees_all_four_in_the_mosaic(hall: Hall) -> None:
    everyone = tuple(COLOURS.values())
    await sees_all(hall.old, BARRED_TILES, *everyone)
    await sees_all(hall.free, FOUR_TILES, *everyone)
    await oldest_sees_all(hall.oldest, *everyone)
    await page_sees_all(hall, *everyone)


async def test_each_hears_the_others_and_not_itself(hall: Hall) -> None:
    for tone in (880, 1320, 1760):
        await hall.old.hears(tone)
    for tone in (440, 1320, 1760):
        await hall.free.hears(tone)
    for tone in (440, 880, 1760):
        await hall.oldest.hears(tone)
    for tone in (440, 880, 1320):
        await hall.browser.hears(hall.page, tone, PROGRAMME)
    assert not hears(last_heard(hall.old), 440)
    assert not hears(last_heard(hall.free), 880)
    await hall.oldest.hears(1320, present=False)


async def test_the_report_tells_codecs_classes_and_why(hall: Hall) -> None:
    report = await hall.meeting.report()
    codecs = {(leg["participant_id"], leg["kind"]): leg["codec"] for leg in report["legs"] if leg["outgoing"]}
    expected = {
        "old": ("H263", "PCMA"),
        "free": ("VP8", "OPUS"),
        "oldest": ("H261", "G722"),
        "browser": ("H264", "OPUS"),
    }
    for who, (picture, sound) in expected.items():
        participant = hall.ids[who]
        assert (codecs[participant, "video"], codecs[participant, "audio"]) == (picture, sound)
    encoders = {encoder["codec"]: encoder for encoder in report["encoders"]}
    assert set(encoders) == {"H261", "H263", "H264", "VP8"}
    assert len(report["encoders"]) == 4
    assert {encoder["reason"] for encoder in report["encoders"]} == {"mosaic"}
    assert (encoders["H261"]["width"], encoders["H261"]["height"]) == (352, 288)
    # baresip says that it takes CIF and 4CIF.
    assert (encoders["H263"]["width"], encoders["H263"]["height"]) == (704, 576)
    assert all(encoder["receivers"] == 1 for encoder in encoders.values())


@pytest.mark.parametrize("shown", ["old", "free", "oldest", "browser"])
async def test_full_screen_of_each_reaches_the_others(hall: Hall, shown: str) -> None:
    await hall.meeting.command("full-screen", hall.ids[shown])
    colour = COLOURS[shown]
    looks = []
    if shown != "old":
        looks.append(hall.old.sees(colour))
    if shown != "free":
        looks.append(hall.free.sees(colour))
    if shown != "oldest":
        looks.append(hall.oldest.sees(NAMES[colour]))
    await asyncio.gather(*looks)
    if shown != "browser":
        await hall.browser.sees(hall.page, colour, PROGRAMME, FULL_TILE)
    report = await hall.meeting.report()
    reasons = {encoder["key"]: encoder["reason"] for encoder in report["encoders"]}
    shown_in = {key: why for key, why in reasons.items() if key.startswith(f"full-screen:{hall.ids[shown]} ")}
    assert len(shown_in) == 3, reasons
    assert all("receiver takes" in why for why in shown_in.values()), reasons
    await hall.meeting.command("mosaic")
    await sees_all(hall.free, FOUR_TILES, *COLOURS.values())
