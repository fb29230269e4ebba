"""A real Redis server on loopback, to be killed and started again in the middle of a test."""

import contextlib
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess


class RedisServer:
    """`async with RedisServer(folder) as redis:` then `redis.url`, `redis.kill()`, `redis.start()`.

    Its port stays the same over its lives; it keeps nothing on disk.
    """

    def __init__(self, folder: Path, *, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self._stack = contextlib.AsyncExitStack()
        self._process: PeerProcess | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://{self.address}:{self.port}/0"

    async def __aenter__(self) -> Self:
        self.port = self._stack.enter_context(PortBlock()).take()
        try:
            await self.start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            await self._process.aclose()
        await self._stack.aclose()

    async def start(self) -> None:
        """Start it (again) on its port; returns once it takes connections."""
        options = {
            "bind": self.address,
            "port": str(self.port),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "dir": str(self.folder),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            "redis-server",
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]
        self._process = await PeerProcess.start("redis", command, self.folder)
        await self._process.listening(self.address, self.port)

    async def kill(self) -> None:
        """End it without a word, as a power cut does."""
        assert self._process is not None
        await self._process.aclose(number=signal.SIGKILL)

    def freeze(self) -> None:
        """Stop answering while connections stay open, as a hung machine does."""
        assert self._process is not None
        self._process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send(signal.SIGCONT)
