"""Somebody of the public who watches the broadcast: Chromium on the watch page.

async with Viewer(folder) as viewer:
    await viewer.watch("https://127.0.0.1:8444/watch/nanning")
    look = await viewer.look()              the picture, how many frames and parts, how old its clock is
"""

from __future__ import annotations

import base64
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np

from orchestrator.demo import stamp
from orchestrator.demo.browser import FLAGS, WINDOW, JoinFailed, browser_program

if TYPE_CHECKING:
    from playwright.async_api import Page

FIRST_PICTURE_SECONDS = 30.0

LOOK_SCRIPT = """
() => {
  const video = document.querySelector("video");
  const parts = performance.getEntriesByType("resource").filter((one) => one.name.includes("/part-"));
  const shown = { parts: parts.length, frames: 0, dropped: 0, picture: null, width: 0, height: 0 };
  if (!video || !video.videoWidth || video.readyState < 2) return shown;
  const quality = video.getVideoPlaybackQuality();
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  return {
    parts: parts.length, frames: quality.totalVideoFrames, dropped: quality.droppedVideoFrames,
    picture: canvas.toDataURL("image/jpeg", 0.85).split(",")[1],
    width: video.videoWidth, height: video.videoHeight,
  };
}
"""


@dataclass(frozen=True, slots=True)
class ViewerLook:
    """What the viewer sees. `age` is how many seconds old the camera's clock in it is; None: not readable."""

    parts: int
    frames: int
    dropped: int
    picture: stamp.Rgb8 | None
    age: float | None

    @property
    def size(self) -> tuple[int, int] | None:
        return None if self.picture is None else (self.picture.shape[1], self.picture.shape[0])

    def share(self, colour: tuple[int, int, int], within: int = 48) -> float:
        """How much of the picture is of this colour."""
        if self.picture is None:
            return 0.0
        distance = np.abs(self.picture.astype(np.int16) - np.array(colour, np.int16)).max(axis=2)
        return float((distance <= within).mean())


def viewer_look(seen: dict[str, Any], now: int) -> ViewerLook:
    """What LOOK_SCRIPT found in a page at `now`, in milliseconds since 1970."""
    picture = age = None
    if seen["picture"] is not None:
        coded = np.frombuffer(base64.b64decode(seen["picture"]), np.uint8)
        picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1]
        at = stamp.read(picture)
        age = None if at is None else stamp.age(at, now) / 1000
    return ViewerLook(seen["parts"], seen["frames"], seen["dropped"], picture, age)


class Viewer:
    """One browser with the watch page."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.AsyncExitStack()
        self._page: Page

    async def __aenter__(self) -> Self:
        from playwright.async_api import async_playwright

        self._folder.mkdir(parents=True, exist_ok=True)
        flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]  # Chromium's own rule for root
        try:
            playwright = await self._stack.enter_async_context(async_playwright())
            browser = await playwright.chromium.launch(
                executable_path=browser_program(), headless=True, args=flags
            )
            self._stack.push_async_callback(browser.close)
            context = await browser.new_context(
                ignore_https_errors=True,  # the node signed its certificate itself
                viewport={"width": WINDOW[0], "height": WINDOW[1]},
            )
            await context.add_init_script("performance.setResourceTimingBufferSize(5000)")
            self._page = await context.new_page()
            self._page.on("console", lambda message: self._note(f"{message.type}: {message.text}"))
            self._page.on("pageerror", lambda error: self._note(f"error: {error}"))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _note(self, line: str) -> None:
        with (self._folder / "console.log").open("a") as log:
            log.write(line + "\n")

    async def watch(self, url: str) -> None:
        """Open the page and wait for its first picture. Raises JoinFailed."""
        from playwright.async_api import Error

        try:
            await self._page.goto(url)
            await self._page.wait_for_function(
                "() => (document.querySelector('video')?.videoWidth ?? 0) > 0",
                timeout=FIRST_PICTURE_SECONDS * 1000,
            )
        except Error as error:
            await self._page.screenshot(path=self._folder / "failed.png")
            reason = str(error).splitlines()[0]
            raise JoinFailed(f"the broadcast did not come: {reason} (see {self._folder})") from None

    async def look(self) -> ViewerLook:
        seen = await self._page.evaluate(LOOK_SCRIPT)
        return viewer_look(seen, round(time.time() * 1000))

    async def screenshot(self, path: Path) -> None:
        await self._page.screenshot(path=path)
