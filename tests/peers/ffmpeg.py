"""ffmpeg and ffprobe from Debian: the reference decoder, prober and pusher."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.peers.process import PeerProcess

QUIET = ("-hide_banner", "-nostdin", "-loglevel", "info")


@asynccontextmanager
async def ffmpeg(folder: Path, *arguments: str, name: str = "ffmpeg") -> AsyncIterator[PeerProcess]:
    """ffmpeg running with these arguments, for a push or a pull that a test ends."""
    process = await PeerProcess.start(name, ["ffmpeg", *QUIET, *arguments], folder)
    try:
        yield process
    finally:
        await process.aclose()


async def run_ffmpeg(folder: Path, *arguments: str, timeout: float = 60.0) -> str:
    """What ffmpeg said; AssertionError with it when it failed."""
    async with ffmpeg(folder, *arguments) as process:
        code = await process.wait(timeout)
        assert code == 0, f"ffmpeg ended with {code}:\n{process.words()}"
        return process.words()


async def probe(folder: Path, source: str, *arguments: str, timeout: float = 30.0) -> dict[str, Any]:
    """ffprobe's streams and format of a file or an address; AssertionError when it cannot read it."""
    out = folder / "probe.json"
    show = ("-show_streams", "-show_format", "-print_format", "json", "-o", str(out))
    process = await PeerProcess.start(
        "ffprobe", ["ffprobe", "-hide_banner", *arguments, *show, source], folder
    )
    try:
        code = await process.wait(timeout)
    finally:
        await process.aclose()
    assert code == 0, f"ffprobe ended with {code}:\n{process.words()}"
    found: dict[str, Any] = json.loads(out.read_text())
    return found


async def frame_hashes(folder: Path, source: str, *arguments: str, timeout: float = 60.0) -> list[str]:
    """The MD5 of each coded video packet in order, undecoded: equal lists prove pass-through."""
    out = folder / "frames.md5"
    await run_ffmpeg(
        folder,
        *("-y", *arguments, "-i", source, "-map", "0:v:0", "-c", "copy", "-f", "framemd5", str(out)),
        timeout=timeout,
    )
    lines = [line for line in out.read_text().splitlines() if line and not line.startswith("#")]
    return [line.rpartition(",")[2].strip() for line in lines]
