"""SIPp (sip-tester): a scripted SIP peer, for load and for messages that no good terminal sends."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess
from tests.peers.waiting import until_true

TRANSPORTS = {"udp": "u1", "tcp": "t1", "tls": "l1"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a scenario ended: SIPp's exit code (0: all went as written), its messages, errors and screen."""

    code: int
    messages: str
    errors: str
    screen: str

    @property
    def ok(self) -> bool:
        return self.code == 0


class Sipp:
    """One run of a scenario (XML). With a `target` (host, port) it calls; without one it waits for calls.

    `async with Sipp(folder, xml, ("127.0.0.1", 5060), service="9000") as run: end = await run.outcome()`.
    `arguments` are SIPp's own (`-m 20 -r 5` for load; the default is one call).
    """

    def __init__(
        self,
        folder: Path,
        scenario: str,
        target: tuple[str, int] | None = None,
        *arguments: str,
        service: str = "service",
        transport: str = "udp",
        address: str = "127.0.0.1",
        timeout: float = 30.0,
    ) -> None:
        self.folder = folder
        self.scenario = scenario
        self.target = target
        self.arguments = arguments or ("-m", "1")
        self.service = service
        self.transport = transport
        self.address = address
        self.timeout = timeout
        self.port = 0
        self.media_port = 0
        self._stack = contextlib.AsyncExitStack()

    @property
    def uri(self) -> str:
        return f"sip:{self.service}@{self.address}:{self.port}"

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = self._stack.enter_context(PortBlock())
        self.port, self.media_port = ports.take(), ports.take(8, even=True)
        (self.folder / "scenario.xml").write_text(self.scenario, encoding="latin-1")  # any bytes
        command = [
            *("sipp", *([f"{self.target[0]}:{self.target[1]}"] if self.target else [])),
            *("-sf", "scenario.xml", "-s", self.service, "-t", TRANSPORTS[self.transport]),
            *("-i", self.address, "-p", str(self.port), "-mi", self.address, "-mp", str(self.media_port)),
            *("-nostdin", "-timeout", f"{self.timeout:.0f}s", "-timeout_error"),
            *("-trace_msg", "-message_file", "messages.log", "-trace_err", "-error_file", "errors.log"),
            *self.arguments,
        ]
        self._process = await PeerProcess.start("sipp", command, self.folder)
        self._stack.push_async_callback(self._process.aclose)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def listening(self) -> None:
        """Wait until it takes TCP connections at its port, without making one."""
        ending = f":{self.port:04X}"
        await until_true(
            lambda: any(
                words[1].endswith(ending) and words[3] == "0A"
                for words in map(str.split, Path("/proc/net/tcp").read_text().splitlines())
            ),
            "SIPp to listen",
            10.0,
        )

    async def outcome(self) -> Outcome:
        """Wait for its end; AssertionError when it outlives its own timeout."""
        code = await self._process.wait(self.timeout + 5)
        return Outcome(code, self._read("messages.log"), self._read("errors.log"), self._process.words())

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""
