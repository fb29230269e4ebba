"""A camera whose scene a test directs: people, nobody, black, frozen, away; see street_program."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.peers.process import PeerProcess

PROGRAM = "tests.peers.street_program"
ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


class Street:
    """Served at `url` while it stands."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"rtsp://127.0.0.1:{port}/street"
        self._folder = folder
        self._port = port
        self._file = folder / "scene"
        self._process: PeerProcess | None = None

    def show(self, scene: str) -> None:
        """From the next picture on; "people", "empty", "black" or "frozen"."""
        new = self._file.with_suffix(".new")
        new.write_text(scene)
        new.rename(self._file)

    async def put_up(self) -> None:
        command = [sys.executable, "-P", "-m", PROGRAM, "127.0.0.1", str(self._port), str(self._file)]
        self._process = await PeerProcess.start("street", command, self._folder, {"PYTHONPATH": str(ROOT)})
        await self._process.listening("127.0.0.1", self._port, START_SECONDS)

    async def take_down(self) -> None:
        if self._process is not None:
            await self._process.aclose()
            self._process = None


@asynccontextmanager
async def street(folder: Path, port: int) -> AsyncIterator[Street]:
    """It begins empty."""
    folder.mkdir(parents=True, exist_ok=True)
    camera = Street(folder, port)
    camera.show("empty")
    try:
        await camera.put_up()
        yield camera
    finally:
        await camera.take_down()
