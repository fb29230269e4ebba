"""Chromium, headless, with a camera of one colour and a microphone of one tone.

Fake devices belong to a whole browser, so that each `Chromium` is one person. Its helper script takes echo
cancelling, noise suppression and gain control out of getUserMedia: they would take a steady tone for noise.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.peers.media import Footage, write_tone, write_y4m
from tests.peers.picture import CENTRE, CODED, GREEN, Colour, Region, near
from tests.peers.requirement import which
from tests.peers.sound import AUDIBLE, NEARBY
from tests.peers.waiting import until

FLAGS = (
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--lang=en-GB",
)
HELPERS = (Path(__file__).parent / "chromium_helpers.js").read_text()


@dataclass(frozen=True, slots=True)
class Person:
    """Who sits before the browser: colour and tone, and the size of camera and window."""

    colour: Colour = GREEN
    tone: float = 880.0
    width: int = 640
    height: int = 360
    rate: int = 20
    detail: int = 0
    window: tuple[int, int] = (1440, 900)


@dataclass(frozen=True, slots=True)
class Tone:
    """The loudest frequency (Hz) of what an element plays, its level (dBFS), and that of the asked one."""

    frequency: float
    level: float
    asked: float


class Chromium:
    """One browser: `async with Chromium(folder, Person()) as browser: page = await browser.open(url)`."""

    def __init__(self, folder: Path, person: Person | None = None, *flags: str) -> None:
        self.folder = folder
        self.person = person or Person()
        self.log = folder / "chromium.log"
        self._flags = flags
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        person = self.person
        footage = Footage(person.colour, person.width, person.height, person.rate, person.detail)
        camera = write_y4m(self.folder / "camera.y4m", footage)
        microphone = write_tone(self.folder / "microphone.wav", person.tone)
        try:
            playwright = await self._stack.enter_async_context(async_playwright())
            self.browser: Browser = await playwright.chromium.launch(
                executable_path=which("chromium"),
                headless=True,
                args=[
                    *FLAGS,
                    f"--use-file-for-fake-video-capture={camera}",
                    f"--use-file-for-fake-audio-capture={microphone}",
                    *self._flags,
                ],
            )
            self._stack.push_async_callback(self.browser.close)
            self.context: BrowserContext = await self.browser.new_context(
                ignore_https_errors=True,
                locale="en-GB",
                viewport={"width": person.window[0], "height": person.window[1]},
                permissions=["camera", "microphone"],
            )
            await self.context.add_init_script(HELPERS)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def open(self, url: str) -> Page:
        """A page at `url`; what it says on its console, its errors and failed requests go to the log."""
        page = await self.context.new_page()
        page.on("console", lambda message: self._note(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self._note(f"error: {error}"))
        page.on("requestfailed", lambda request: self._note(f"failed: {request.url} {request.failure}"))
        await page.goto(url)
        return page

    def _note(self, line: str) -> None:
        with self.log.open("a") as log:
            log.write(line + "\n")

    async def colour(
        self, page: Page, selector: str = "video", region: Region = CENTRE
    ) -> tuple[Colour, bool] | None:
        """The mean of a video's region, and whether its quarters are the same; None without a picture."""
        bounds = [region.left, region.top, region.right, region.bottom]
        means = await page.evaluate("([s, r]) => window.anshiPeer.colours(s, r)", [selector, bounds])
        if means is None:
            return None
        whole, *quarters = [(int(red), int(green), int(blue)) for red, green, blue in means]
        return whole, all(near(quarter, whole, CODED) for quarter in quarters)

    async def sees(
        self,
        page: Page,
        colour: Colour,
        selector: str = "video",
        region: Region = CENTRE,
        timeout: float = 15.0,
        tolerance: int = CODED,
    ) -> None:
        """Wait until a video element shows the colour there; AssertionError with what it shows instead."""
        await until(
            lambda: self.colour(page, selector, region),
            lambda seen: seen is not None and seen[1] and near(seen[0], colour, tolerance),
            f"{selector} to show {colour}",
            timeout,
        )

    async def tone(self, page: Page, asked: float, selector: str = "video") -> Tone | None:
        """What an audio or video element plays just now; None while it has no sound track."""
        heard: dict[str, Any] | None = await page.evaluate(
            "([s, f]) => window.anshiPeer.tone(s, f)", [selector, asked]
        )
        return None if heard is None else Tone(heard["frequency"], heard["level"], heard["asked"])

    async def hears(
        self, page: Page, frequency: float, selector: str = "video", timeout: float = 15.0
    ) -> None:
        """Wait until the tone is in what the element plays, beside others or alone; else AssertionError."""
        await until(
            lambda: self.tone(page, frequency, selector),
            lambda heard: heard is not None and heard.asked >= AUDIBLE and heard.asked >= heard.level - 20,
            f"{selector} to play {frequency} Hz (within {NEARBY} Hz)",
            timeout,
        )
