"""The node of the demonstration: its configuration on free ports, its process, its HTTP interface.

with demo_folder(data): ...                                    one demonstration a folder
plan = configure(data, address)                                plan.settings, plan.notes
async with DemoNode(plan) as node: await node.api("operator", password).get("/conferences")
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import yaml

from config.loading import load
from config.settings import Settings
from orchestrator.control import StartFailure
from orchestrator.demo.process import Program, children
from orchestrator.demo.seed import HOME
from orchestrator.preflight import folder_problem

HTTP_PORT, SIP_PORT, WEBRTC_PORT, EDGE_PORT, RTSP_PORT = 8443, 5060, 49000, 8444, 8554
RTP_PORTS = (40000, 48999)
BLOCKS = (33_000, 39_900)
"""Where terminals have their media ports, so that nobody else's packets are taken for theirs."""
WORKERS = 1


class Ports(NamedTuple):
    """Where the node listens."""

    http: int
    sip: int
    webrtc: int
    edge: int
    rtsp: int


USUAL = Ports(HTTP_PORT, SIP_PORT, WEBRTC_PORT, EDGE_PORT, RTSP_PORT)
READY_LIMIT = 60.0
STOP_LIMIT = 6.0
_TRIES, _STEP = 40, 10


class Refused(Exception):
    """The service answered with a problem."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('title', '')}: {problem.get('detail', '')}")
        self.status = status


@contextlib.contextmanager
def demo_folder(folder: Path) -> Iterator[None]:
    """Hold the folder for one demonstration. Raises StartFailure, with a line for whoever runs a second."""
    problem = folder_problem(folder)
    if problem is not None:
        raise StartFailure(problem)
    with (folder / "demo.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise StartFailure(
                f"the demonstration runs already with {folder} (process {holder}); end that one with Ctrl-C, "
                "or give another folder with --data"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@dataclass(frozen=True, slots=True)
class Plan:
    """`config` is the file that `anshi run` reads; `notes` say which ports are not the usual ones."""

    settings: Settings
    config: Path
    notes: tuple[str, ...]

    @property
    def address(self) -> str:
        return self.settings.networks[0].bind

    @property
    def url(self) -> str:
        return f"https://{_host(self.address)}:{self.settings.http.port}"

    @property
    def sip_port(self) -> int:
        port = self.settings.networks[0].sip.udp
        assert port is not None, "the demonstration's own configuration has one"
        return port

    def sip_uri(self, user: str) -> str:
        port = "" if self.sip_port == 5060 else f":{self.sip_port}"
        return f"sip:{user}@{_host(self.address)}{port}"


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def configure(folder: Path, address: str, ports: Ports | None = None) -> Plan:
    """Write the configuration; the usual ports where they are free.

    Raises StartFailure when no port can be had, ConfigurationError for what is no address.
    """
    usual = ports or USUAL
    got = Ports(
        http=_free(address, usual.http, (("tcp", 0),)),
        sip=_free(address, usual.sip, (("udp", 0), ("tcp", 0), ("tcp", 1), ("udp", 10), ("tcp", 10))),
        webrtc=_free(address, usual.webrtc, tuple(("udp", offset) for offset in range(WORKERS))),
        edge=_free(address, usual.edge, (("tcp", 0),)),
        rtsp=_free(address, usual.rtsp, (("tcp", 0),)),
    )
    notes = [
        f"port {wanted} is taken: {what} is on {port}"
        for what, wanted, port in zip(("HTTPS", "SIP", "WebRTC", "live", "RTSP"), usual, got, strict=True)
        if wanted != port
    ]
    tree = {
        "node": {"id": "demo", "name": "南宁市应急管理局", "level": "city", "site_id": HOME},
        "http": {"bind": address, "port": got.http},
        "edge": {"bind": address, "port": got.edge},
        "media": {"workers": WORKERS},
        "recordings": {"quota_gigabytes": 2, "max_age_days": 2},
        "networks": [
            {
                "name": "extranet",
                "bind": address,
                "sip": {"udp": got.sip, "tcp": got.sip, "tls": got.sip + 1},
                "bfcp": {"udp": got.sip + 10, "tcp": got.sip + 10},
                "rtp_ports": list(RTP_PORTS),
                "webrtc_port": got.webrtc,
                "rtsp": got.rtsp,
            }
        ],
    }
    config = folder / "demo.yaml"
    config.write_text(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return Plan(load(config, data=folder), config, tuple(notes))


def _free(address: str, first: int, needs: Iterable[tuple[str, int]]) -> int:
    """The first of `first`, `first` + 10 ... where every needed port (transport, offset) can be had."""
    for port in range(first, min(first + _TRIES * _STEP, 65_000), _STEP):
        if all(_can_bind(address, port + offset, transport) for transport, offset in needs):
            return port
    raise StartFailure(f"no free port on {address} from {first} on")


def _can_bind(address: str, port: int, transport: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            if kind == socket.SOCK_STREAM:
                probe.listen(1)
        except OSError:
            return False
    return True


def free_block(address: str, size: int = 40) -> tuple[int, int]:
    """First and last of so many UDP ports in a row that nobody has now. Raises StartFailure."""
    for _ in range(_TRIES):
        first = random.randrange(*BLOCKS, 2)
        if all(_can_bind(address, port, "udp") for port in range(first, first + size)):
            return first, first + size - 1
    raise StartFailure(f"no {size} free UDP ports in a row on {address}")


def free_port(address: str) -> int:
    """A TCP port that nobody has now. Raises StartFailure."""
    for _ in range(_TRIES):
        port = random.randrange(*BLOCKS)
        if _can_bind(address, port, "tcp"):
            return port
    raise StartFailure(f"no free TCP port on {address}")


class Api:
    """The service's HTTP interface, as a tool with a bearer token sees it."""

    def __init__(self, session: aiohttp.ClientSession, token: str | None = None) -> None:
        self._session = session
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def get(self, path: str) -> Any:
        return await self._request("GET", path)

    async def post(self, path: str, body: object) -> Any:
        return await self._request("POST", path, body)

    async def put(self, path: str, body: object) -> Any:
        return await self._request("PUT", path, body)

    async def patch(self, path: str, body: object) -> Any:
        return await self._request("PATCH", path, body)

    async def delete(self, path: str) -> None:
        await self._request("DELETE", path)

    async def download(self, path: str) -> bytes:
        """A file of the service. Raises Refused, aiohttp.ClientError."""
        async with self._session.get(f"/api/v1{path}", headers=self._headers) as answer:
            data = await answer.read()
            if answer.status >= 400:
                raise Refused(answer.status, {"detail": data[:300].decode(errors="replace")})
            return data

    async def _request(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON. Raises Refused, aiohttp.ClientError."""
        url = f"/api/v1{path}"
        async with self._session.request(method, url, json=body, headers=self._headers) as answer:
            content = await answer.json(content_type=None) if await answer.read() else None
            if answer.status >= 400:
                raise Refused(answer.status, content if isinstance(content, dict) else {})
            return content


class DemoNode:
    """`anshi run` with the plan's configuration, from its start until the block is left."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.startup_seconds = 0.0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Returns when the node is ready. Raises StartFailure with the node's own last line."""
        began = time.monotonic()
        command = [sys.executable, "-P", "-m", "orchestrator.cli", "run"]
        command += ["--config", str(self.plan.config), "--data", str(self.plan.settings.data)]
        self._process = await Program.start("anshi", command, self.plan.settings.data)
        self._stack.push_async_callback(self._process.aclose, STOP_LIMIT)
        try:
            # Our own certificate is self-signed; the address is this machine's.
            self._session = await self._stack.enter_async_context(
                aiohttp.ClientSession(
                    self.plan.url,
                    connector=aiohttp.TCPConnector(ssl=False),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=15),
                )
            )
            async with asyncio.timeout(READY_LIMIT):
                await self._ready()
        except TimeoutError:
            await self._stack.aclose()
            raise StartFailure(f"the node was not ready in {READY_LIMIT:g} s; see {self.log}") from None
        except BaseException:
            await self._stack.aclose()
            raise
        self.startup_seconds = time.monotonic() - began
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _ready(self) -> None:
        while True:
            if await self._is_ready():
                return
            await asyncio.sleep(0.05)

    async def _is_ready(self) -> bool:
        if not self._process.running:
            raise StartFailure(f"{self._process.last_words().removeprefix('anshi: ')} (see {self.log})")
        try:
            health = await Api(self._session).get("/health")
        except (aiohttp.ClientError, Refused, OSError):
            return False
        return bool(health["status"] == "ok")

    @property
    def log(self) -> Path:
        return self._process.log

    async def ended(self) -> int:
        """Returns if the node ends by itself; its exit code."""
        return await self._process.ended()

    async def health(self) -> dict[str, Any]:
        health: dict[str, Any] = await Api(self._session).get("/health")
        return health

    async def api(self, name: str, password: str) -> Api:
        """Sign in. Raises Refused."""
        signed = await Api(self._session).post("/session", {"name": name, "password": password})
        return Api(self._session, signed["token"])

    def pids(self) -> dict[str, int]:
        """The node's processes by role: supervisor, main, media-0 ...; "spare" stands by."""
        named = {}
        for name, pid in children(self._process.pid).items():
            named[name.removeprefix("anshi-") if name.startswith("anshi-") else "spare"] = pid
        return {"supervisor": self._process.pid, **named}
