"""A server program as Debian packs it, on ports of its own, with a configuration that is written for it."""

import contextlib
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess


class ConfiguredServer(ABC):
    """Subclasses say what it is called, what is written into its file, and how it is started.

    Inside the context it takes TCP connections at `address` and `port`.
    """

    name: ClassVar[str]
    file: ClassVar[str]

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.port = 0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = self._stack.enter_context(PortBlock())
        self.port = ports.take()
        (self.folder / self.file).write_text(self._configuration(ports))
        self._process = await PeerProcess.start(self.name, self._command(), self.folder)
        self._stack.push_async_callback(self._process.aclose)
        try:
            await self._process.listening(self.address, self.port)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @abstractmethod
    def _configuration(self, ports: PortBlock) -> str:
        """The text of its file; more ports than `port` are taken here."""

    @abstractmethod
    def _command(self) -> list[str]:
        """As started in `folder`."""

    async def said(self, pattern: str, timeout: float = 10.0) -> str:
        """The first line of its log that holds this pattern; AssertionError when it never comes."""
        return (await self._process.said(pattern, timeout)).group()

    def words(self) -> str:
        return self._process.words()
