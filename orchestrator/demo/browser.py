"""A person before a browser, who signs in and joins through the pages: Chromium with a camera of one colour.

    reason = browser_missing(pages)              None when it can be done here
    async with BrowserPerson(folder, ...) as person:
        await person.join(url, conference_id, "viewer", password)
        (await person.glimpse()).share(colour)

The fake camera and microphone are files of one colour and one tone. A script in the page keeps echo
cancelling and noise suppression off (they take a steady tone for noise), and looks at what is played.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import os
import shutil
import wave
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from media.sound_codecs import RATE
from orchestrator.demo.glimpse import Glimpse, spectrum
from orchestrator.demo.terminal.footage import COLOURS, Footage, Rgb
from orchestrator.demo.terminal.reels import AMPLITUDE

if TYPE_CHECKING:
    from playwright.async_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
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
)
WINDOW = (1280, 800)
FRAMES = 40
JOIN_SECONDS = 30.0
WIDE, HIGH = 160, 90

PAGE_SCRIPT = """
(() => {
  const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const devices = navigator.mediaDevices;
  if (devices) {
    const capture = devices.getUserMedia.bind(devices);
    devices.getUserMedia = (wanted) => {
      const audio = wanted.audio && { ...(wanted.audio === true ? {} : wanted.audio), ...raw };
      return capture({ ...wanted, audio });
    };
  }
  const peers = [];
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...rest) { super(...rest); peers.push(this); }
  };
  const text = (bytes) => {
    let all = "";
    for (let at = 0; at < bytes.length; at += 8192)
      all += String.fromCharCode(...bytes.subarray(at, at + 8192));
    return btoa(all);
  };
  let ear = null;
  const listen = (track) => {
    if (ear === null || ear.track !== track) {
      const context = ear?.context ?? new AudioContext({ sampleRate: 48000 });
      const analyser = new AnalyserNode(context, { fftSize: 32768 });
      context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
      ear = { track, context, analyser };
    }
    return ear;
  };
  const hear = async (stream) => {
    const [track] = stream?.getAudioTracks() ?? [];
    if (!track) return null;
    const { context, analyser } = listen(track);
    if (context.state !== "running") await context.resume();
    const samples = new Float32Array(analyser.fftSize);
    analyser.getFloatTimeDomainData(samples);
    return text(new Uint8Array(samples.buffer));
  };
  const see = (video, width, height) => {
    if (!video.videoWidth || video.readyState < 2) return null;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(video, 0, 0, width, height);
    return text(context.getImageData(0, 0, width, height).data);
  };
  const measure = async () => {
    const all = [];
    for (const peer of peers) {
      const reports = new Map([...(await peer.getStats())]);
      for (const report of reports.values())
        if (report.type === "inbound-rtp" || report.type === "outbound-rtp")
          all.push({ ...report, codec: reports.get(report.codecId)?.mimeType ?? null });
    }
    return all;
  };
  window.anshiDemo = async (width, height) => {
    const video = document.querySelector("[data-testid=programme]");
    if (!video) return null;
    const pixels = see(video, width, height);
    return { pixels, samples: await hear(video.srcObject), streams: await measure() };
  };
})();
"""


def browser_program() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def browser_missing(pages_built: bool) -> str | None:
    """Why no browser can join here, None when one can."""
    if browser_program() is None:
        return "Chromium is not installed"
    if importlib.util.find_spec("playwright") is None:
        return "playwright, which drives Chromium, is not installed"
    if not pages_built:
        return "the pages are not built (make setup builds them)"
    return None


class JoinFailed(Exception):
    """The browser did not get into the meeting; the words say how far it came."""


@dataclass(frozen=True, slots=True)
class Person:
    colour: Rgb = COLOURS["green"]
    tone_hz: float = 1000.0
    width: int = 640
    height: int = 360
    fps: int = 20
    detail: int = 6


class BrowserPerson:
    """One browser with one page. `streams` are the page's RTP statistics at the last glimpse."""

    def __init__(self, folder: Path, person: Person) -> None:
        self._folder = folder
        self._person = person
        self._stack = contextlib.AsyncExitStack()
        self._page: Page
        self.streams: list[dict[str, Any]] = []
        self.version = ""

    async def __aenter__(self) -> Self:
        from playwright.async_api import async_playwright

        self._folder.mkdir(parents=True, exist_ok=True)
        camera, microphone = self._folder / "camera.y4m", self._folder / "microphone.wav"
        write_camera(camera, self._person)
        write_microphone(microphone, self._person.tone_hz)
        flags = [
            *FLAGS,
            f"--use-file-for-fake-video-capture={camera}",
            f"--use-file-for-fake-audio-capture={microphone}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium's own rule for root
        ]
        try:
            playwright = await self._stack.enter_async_context(async_playwright())
            browser = await playwright.chromium.launch(
                executable_path=browser_program(), headless=True, args=flags
            )
            self._stack.push_async_callback(browser.close)
            self.version = browser.version
            context = await browser.new_context(
                ignore_https_errors=True,  # the node signed its certificate itself
                viewport={"width": WINDOW[0], "height": WINDOW[1]},
                permissions=["camera", "microphone"],
            )
            await context.add_init_script(PAGE_SCRIPT)
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

    async def join(self, url: str, conference_id: str, name: str, password: str) -> str:
        """Sign in and enter the meeting as a person would; the participant's id. Raises JoinFailed."""
        from playwright.async_api import Error

        page, step = self._page, "the sign-in page"
        page.set_default_timeout(JOIN_SECONDS * 1000)
        try:
            await page.goto(f"{url}/sign-in")
            await page.fill("input[name=username]", name)
            await page.fill("input[name=password]", password)
            await page.click("[data-testid=signin-submit]")
            step = "the list of meetings"
            await page.wait_for_url("**/meetings")
            step = "the page before the meeting"
            await page.goto(f"{url}/meetings/{conference_id}/join")
            await page.click("[data-testid=join-enter]:not([disabled])")
            step = "the meeting"
            await page.wait_for_selector("[data-testid=room][data-state=connected]")
            participant = await page.get_attribute("[data-testid=room]", "data-participant-id")
        except Error as error:
            await page.screenshot(path=self._folder / "failed.png")
            reason = str(error).splitlines()[0]
            raise JoinFailed(f"{step} did not come: {reason} (see {self._folder / 'failed.png'})") from None
        if not participant:
            raise JoinFailed("the page does not say which participant it is")
        return participant

    async def glimpse(self) -> Glimpse:
        seen: dict[str, Any] | None = await self._page.evaluate(
            "([width, height]) => window.anshiDemo(width, height)", [WIDE, HIGH]
        )
        if seen is None:
            return Glimpse(0)
        self.streams = seen["streams"]
        pictures = [one for one in self.streams if one["type"] == "inbound-rtp" and one["kind"] == "video"]
        latest = pictures[-1] if pictures else {}
        size = (latest["frameWidth"], latest["frameHeight"]) if "frameWidth" in latest else None
        frames = sum(one.get("framesDecoded", 0) for one in pictures)
        pixels = sound = None
        if seen["pixels"] is not None:
            pixels = np.frombuffer(base64.b64decode(seen["pixels"]), np.uint8).reshape(HIGH, WIDE, 4)[
                :, :, :3
            ]
        if seen["samples"] is not None:
            floats = np.frombuffer(base64.b64decode(seen["samples"]), np.float32)
            sound = spectrum(np.rint(np.clip(floats, -1, 1) * 32767).astype(np.int16), RATE)
        return Glimpse(frames, size, pixels, sound)

    async def screenshot(self, path: Path) -> None:
        await self._page.screenshot(path=path)

    async def leave(self) -> None:
        """As a person would."""
        await self._page.click("[data-testid=room-leave]")


def write_camera(path: Path, person: Person) -> None:
    """YUV4MPEG2, which Chromium's fake camera plays again and again."""
    footage = Footage(person.colour, person.width, person.height, person.detail)
    with path.open("wb") as out:
        head = f"YUV4MPEG2 W{person.width} H{person.height} F{person.fps}:1 Ip A1:1 C420\n"
        out.write(head.encode())
        for number in range(FRAMES):
            picture = footage.picture(number)
            out.write(b"FRAME\n" + b"".join(plane.tobytes() for plane in picture.planes))


def write_microphone(path: Path, hertz: float) -> None:
    """A second of a tone of whole Hz: it loops without a click."""
    wave_form = np.sin(2 * np.pi * round(hertz) * np.arange(RATE) / RATE)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(np.rint(wave_form * AMPLITUDE * 32767).astype("<i2").tobytes())
