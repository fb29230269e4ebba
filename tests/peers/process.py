"""One running peer: started in its own session, its words kept in a file, ended by its handle."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.peers.waiting import until_true

TAIL_LINES = 60


class PeerProcess:
    """A child process whose output goes to `folder/NAME.log`. Build it with `start`."""

    def __init__(self, name: str, log: Path, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> "PeerProcess":
        """Start `command` in `folder` (made if need be); it ends with this process whatever happens to us."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"{name}.log"
        wrapped = ["stdbuf", "-oL", *command] if shutil.which("stdbuf") else list(command)
        if shutil.which("setpriv"):
            wrapped = ["setpriv", "--pdeathsig", "KILL", *wrapped]
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                *wrapped,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(name, log, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def words(self) -> str:
        """All it has printed so far."""
        return self.log.read_text(errors="replace")

    async def said(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """The first match of `pattern` in its words; AssertionError with their end when it never comes."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = re.search(pattern, self.words())
            if match:
                found.append(match)
            elif not self.running:
                raise AssertionError(f"{self.name} ended without saying {pattern!r}:\n{tail(self.log)}")
            return match is not None

        await until_true(look, f"{self.name} to say {pattern!r}", timeout, lambda: tail(self.log))
        return found[0]

    async def listening(self, address: str, port: int, timeout: float = 10.0) -> None:
        """Return once it takes TCP connections there; AssertionError when it ended or does not."""

        async def connect() -> bool:
            if not self.running:
                raise AssertionError(f"{self.name} ended at its start:\n{tail(self.log)}")
            try:
                _, writer = await asyncio.open_connection(address, port)
            except OSError:
                return False
            writer.close()
            return True

        await until_true(connect, f"{self.name} on {address}:{port}", timeout, lambda: tail(self.log))

    async def wait(self, timeout: float) -> int:
        """Its exit code; AssertionError when it is still running after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} still runs after {timeout} s:\n{tail(self.log)}") from None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it alone; nothing when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def aclose(self, grace: float = 3.0, number: signal.Signals = signal.SIGTERM) -> None:
        """End it: politely, and after `grace` seconds it and whatever it started, by force."""
        if self.running:
            self.send(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
