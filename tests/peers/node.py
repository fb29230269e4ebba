"""Our own node as anybody runs it: `anshi run` in a folder of its own, with a seeded tree, and its API.

    async with Node(folder) as node:
        meeting = await node.meeting("会商")
        await room.dial(meeting.uri)
        await meeting.joined("room")

Leaving the block ends the node by SIGTERM and asserts that it went in time and with exit code 0. Callers
are sites by the loopback address they come from (ADDRESSES); TCP callers all come from 127.0.0.1.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

from foundation.authorisation import Role
from foundation.clock import SystemClock
from foundation.database import Database
from foundation.identity import new_user
from foundation.migration import migrate
from foundation.passwords import Passwords
from foundation.repositories.sites import Link, Site, SiteAddress, SiteRepository, sip_account
from foundation.repositories.users import UserRepository
from foundation.secrets import SecretBox
from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess, tail
from tests.peers.waiting import until

PASSWORD = "Kx7-mountain-river"
REALM = "gx"
START_SECONDS = 120.0
STOP_SECONDS = 5.0
NETWORK = "extranet"
RATE = 1_400_000

SITES = (
    Site("nation", "国家应急管理部", "nation"),
    Site("gx", "广西应急管理厅", "province", "nation", conference_budget_bps=RATE),
    Site("nanning", "南宁市", "city", "gx", conference_budget_bps=RATE),
    Site("wuming", "武鸣县", "county", "nanning", conference_budget_bps=RATE),
    Site("mine", "大明山矿业", "enterprise", "wuming", conference_budget_bps=RATE),
)
LINKS = (
    Link("nation-gx", "nation", "gx", 200_000_000),
    Link("gx-nanning", "gx", "nanning", 50_000_000),
    Link("nanning-wuming", "nanning", "wuming", 20_000_000),
    Link("wuming-mine", "wuming", "mine", 10_000_000),
)
ADDRESSES = {
    "gx": "127.0.0.1",
    "nanning": "127.0.0.2",
    "wuming": "127.0.0.3",
    "mine": "127.0.0.4",
    "nation": "127.0.0.5",
}
NOBODY = "127.0.0.9"
"""An address that is no site's."""
SIP_ACCOUNT = ("mine-terminal", "wuming")
"""User name and site of the account that signs in by digest; its password is PASSWORD."""


class Refused(Exception):
    """An answer of the API that is no success: `status`, and the problem document."""

    def __init__(self, status: int, problem: dict[str, Any], headers: Mapping[str, str]) -> None:
        super().__init__(f"{status} {problem.get('title')}: {problem.get('detail')}")
        self.status = status
        self.problem = problem
        self.headers = headers


class Api:
    """The HTTP interface as one user sees it, by a bearer token."""

    def __init__(self, session: aiohttp.ClientSession, token: str | None = None) -> None:
        self._session = session
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def get(self, path: str) -> Any:
        return await self.request("GET", path)

    async def post(self, path: str, body: object = None) -> Any:
        return await self.request("POST", path, body)

    async def patch(self, path: str, body: object) -> Any:
        return await self.request("PATCH", path, body)

    async def delete(self, path: str) -> Any:
        return await self.request("DELETE", path)

    async def request(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON, None without a body. Raises Refused."""
        url = f"/api/v1{path}"
        async with self._session.request(method, url, json=body, headers=self.headers) as answer:
            content = await answer.json(content_type=None) if await answer.read() else None
            if answer.status >= 400:
                raise Refused(answer.status, content or {}, answer.headers)
            return content

    async def download(self, path: str) -> tuple[bytes, Mapping[str, str]]:
        """The answer's body as it is, and its headers. Raises Refused."""
        async with self._session.get(f"/api/v1{path}", headers=self.headers) as answer:
            content = await answer.read()
            if answer.status >= 400:
                raise Refused(answer.status, await answer.json(content_type=None), answer.headers)
            return content, answer.headers

    @contextlib.asynccontextmanager
    async def live(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The live events of /ws."""
        async with self._session.ws_connect("/ws", headers=self.headers) as socket:
            yield socket


@dataclass(frozen=True, slots=True)
class MeetingHandle:
    """A meeting of a node, as its operator sees it."""

    node: "Node"
    api: Api
    id: str
    number: str

    @property
    def path(self) -> str:
        return f"/conferences/{self.id}"

    @property
    def uri(self) -> str:
        """What a terminal dials; the account of a baresip names the transport already."""
        return self.node.sip_uri(self.number)

    async def participants(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self.api.get(f"{self.path}/participants")
        return rows

    async def participant(self, who: str) -> dict[str, Any] | None:
        """The latest row of whoever's address or name holds this word."""
        rows = [row for row in await self.participants() if who in row["address"] or who in row["name"]]
        present = [row for row in rows if row["state"] != "left"] or rows
        return present[-1] if present else None

    async def in_state(self, who: str, *states: str, timeout: float = 10.0) -> dict[str, Any]:
        """Wait until a participant is in one of the states; its row."""
        row = await until(
            lambda: self.participant(who),
            lambda row: row is not None and row["state"] in states,
            f"{who} to be {' or '.join(states)}",
            timeout,
            interval=0.05,
        )
        assert row is not None
        return row

    async def joined(self, who: str, timeout: float = 10.0) -> str:
        """Wait until a participant is connected; its id."""
        row = await self.in_state(who, "connected", timeout=timeout)
        return str(row["id"])

    async def left(self, who: str, timeout: float = 10.0) -> dict[str, Any]:
        """Wait until a participant is out and its row closed; the row."""
        row = await until(
            lambda: self.participant(who),
            lambda row: row is not None and row["state"] == "left" and row["left_at"] is not None,
            f"{who} to have left",
            timeout,
            interval=0.05,
        )
        assert row is not None
        return row

    async def report(self) -> dict[str, Any]:
        report: dict[str, Any] = await self.api.get(f"{self.path}/report")
        return report

    async def leg(self, participant_id: str, kind: str, *, outgoing: bool) -> dict[str, Any] | None:
        """One leg of the report."""
        legs: list[dict[str, Any]] = (await self.report())["legs"]
        wanted = (participant_id, kind, outgoing)
        return next((g for g in legs if (g["participant_id"], g["kind"], g["outgoing"]) == wanted), None)

    async def command(self, command: str, participant_id: str | None = None) -> None:
        body = {"command": command}
        if participant_id is not None:
            body["participant_id"] = participant_id
        await self.api.post(f"{self.path}/commands", body)

    async def set_budget(self, participant_id: str, to_site: int, from_site: int) -> dict[str, Any]:
        """Ask for a budget; the row with what was granted."""
        budget = {"to_site_bps": to_site, "from_site_bps": from_site}
        row: dict[str, Any] = await self.api.patch(
            f"{self.path}/participants/{participant_id}", {"budget": budget}
        )
        return row


class Node:
    """See the module's head. `settings` are merged into the configuration, section by section."""

    def __init__(self, folder: Path, *, workers: int = 1, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.workers = workers
        self._changes = settings or {}
        self._stack = contextlib.AsyncExitStack()
        self._clients: dict[str, Api] = {}
        self._session: aiohttp.ClientSession | None = None
        self._process: PeerProcess | None = None
        self.http_port = self.sip_port = self.edge_port = self.rtsp_port = self.bfcp_port = 0

    # --- its life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = self._stack.enter_context(PortBlock())
        self._configure(ports)
        try:
            await seed(self.database_url, self.key_file)
            await self.start()
        except BaseException:
            await self._stop_quietly()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.stop()
        finally:
            await self._stop_quietly()

    async def start(self) -> None:
        """Run it, and return once it takes calls."""
        self._process = await PeerProcess.start("anshi", command(self.config, self.data), self.folder)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                self.url, connector=aiohttp.TCPConnector(ssl=False), timeout=aiohttp.ClientTimeout(total=20)
            )
        await until(self.health, self._is_ready, "the node to be ready", START_SECONDS, interval=0.1)

    async def stop(self) -> None:
        """End it by SIGTERM: within STOP_SECONDS, with exit code 0."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send(signal.SIGTERM)
        code = await self._process.wait(STOP_SECONDS + 5)
        took = time.monotonic() - began
        assert code == 0, f"the node ended with exit code {code}:\n{self.words()}"
        assert took <= STOP_SECONDS, f"the node took {took:.1f} s to end:\n{self.words()}"

    async def _stop_quietly(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._process is not None:
            await self._process.aclose(grace=STOP_SECONDS)
        await self._stack.aclose()

    def _is_ready(self, health: dict[str, Any] | None) -> bool:
        if self._process is not None and not self._process.running:
            raise AssertionError(f"the node ended at its start:\n{self.words()}")
        return health is not None and health["status"] == "ok"

    def words(self) -> str:
        """The end of its log."""
        return tail(self.log)

    @property
    def log(self) -> Path:
        return self.folder / "anshi.log"

    # --- its configuration ------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "node.yaml"

    @property
    def database_url(self) -> str:
        return f"sqlite+aiosqlite:///{self.data / 'anshi.db'}"

    @property
    def key_file(self) -> Path:
        return self.data / "secrets.key"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.http_port}"

    def sip_uri(self, user: str) -> str:
        return f"sip:{user}@127.0.0.1:{self.sip_port}"

    def change(self, section: str, **values: object) -> None:
        """Other settings, from the next start on."""
        settings = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        settings[section] |= values
        self.config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")

    def _configure(self, ports: PortBlock) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.http_port, self.sip_port = ports.take(), ports.take()
        self.edge_port, self.rtsp_port, self.bfcp_port = ports.take(), ports.take(), ports.take()
        webrtc = ports.take(max(self.workers, 1))
        rtp = ports.take(60, even=True)
        network = {
            "name": NETWORK,
            "bind": "127.0.0.1",
            "sip": {"udp": self.sip_port, "tcp": self.sip_port, "tls": None},
            "bfcp": {"udp": self.bfcp_port, "tcp": self.bfcp_port},
            "rtp_ports": [rtp, rtp + 59],
            "webrtc_port": webrtc,
            "rtsp": self.rtsp_port,
        }
        settings: dict[str, Any] = {
            "node": {"id": REALM, "name": "广西应急管理厅", "level": "province", "site_id": "gx"},
            "http": {"bind": "127.0.0.1", "port": self.http_port},
            "networks": [network],
            "media": {"workers": self.workers},
            "edge": {"bind": "127.0.0.1", "port": self.edge_port, "enabled": False},
            "recordings": {"enabled": False},
            "analytics": {"enabled": False},
            "logging": {"format": "text"},
        }
        for section, values in self._changes.items():
            if isinstance(values, list):
                settings[section] = values
            else:
                settings[section] = {**settings.get(section, {}), **values}
        self.config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")

    # --- its interface ----------------------------------------------------------------------------

    @property
    def visitor(self) -> Api:
        """Nobody who signed in."""
        assert self._session is not None
        return Api(self._session)

    async def user(self, name: str = "operator") -> Api:
        """The API as this user, signed in at the first call."""
        if name not in self._clients:
            assert self._session is not None
            signed = await self.visitor.post("/session", {"name": name, "password": PASSWORD})
            self._session.cookie_jar.clear()  # a bearer token is to be enough
            self._clients[name] = Api(self._session, signed["token"])
        return self._clients[name]

    async def health(self) -> dict[str, Any] | None:
        """What health says, whatever its status; None while nobody answers."""
        try:
            health: dict[str, Any] = await self.visitor.get("/health")
        except Refused as refused:
            return refused.problem
        except (TimeoutError, aiohttp.ClientError, OSError):
            return None
        return health

    async def metrics(self) -> str:
        """The Prometheus page, which a caller from this machine may read."""
        assert self._session is not None
        async with self._session.get("/metrics") as answer:
            return await answer.text()

    async def worker_pids(self) -> dict[str, int]:
        """Process ids of the media workers that answer."""
        health = await self.health()
        assert health is not None
        return {w["name"]: w["pid"] for w in health["workers"] if w["state"] == "ready"}

    def pid(self, name: str) -> int | None:
        """The process of this node that is called so ("main", "recorder" ...); None while there is none."""
        assert self._process is not None
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                called = (folder / "comm").read_text().strip()
                if parent == self._process.pid and called == f"anshi-{name}":
                    return int(folder.name)
        return None

    async def kill(self, name: str) -> int:
        """kill -9 of one of its processes; the id of the one that took its place, once it is there."""
        victim = self.pid(name)
        assert victim is not None, f"no process is called anshi-{name}"
        os.kill(victim, signal.SIGKILL)

        async def another() -> int | None:
            return self.pid(name)

        found = await until(another, lambda pid: pid not in (None, victim), f"another {name}", 30.0, 0.05)
        assert found is not None
        return found

    async def meeting(
        self, title: str = "防汛会商", *, pin: str | None = None, number: str | None = None
    ) -> MeetingHandle:
        """Open a meeting at the node's own site."""
        api = await self.user()
        wanted = {"title": title, "host_site_id": "gx", "pin": pin, "number": number}
        opened = await api.post("/conferences", {k: v for k, v in wanted.items() if v is not None})
        return MeetingHandle(self, api, opened["id"], opened["number"])


def command(config: Path, data: Path) -> list[str]:
    """The command line of a node."""
    anshi = Path(sys.executable).parent / "anshi"
    return [str(anshi), "run", "--config", str(config), "--data", str(data)]


async def seed(database_url: str, key_file: Path) -> None:
    """Sites, links, addresses, one SIP account, and one user for each role, named after it."""
    await migrate(database_url, key_file=key_file)
    clock, passwords = SystemClock(), Passwords()
    database = Database(database_url, secrets=SecretBox.load(key_file))
    try:
        users = [
            await new_user(
                passwords,
                clock,
                name=role.value,
                password=PASSWORD,
                roles=frozenset({role}),
                site_id="gx" if role is Role.VIEWER else "nation",
                display_name={Role.VIEWER: "刘工"}.get(role, ""),
            )
            for role in Role
        ]
        async with database.transaction() as tx:
            sites = SiteRepository(tx)
            for site in SITES:
                await sites.save(site)
            for link in LINKS:
                await sites.save_link(link)
            for site_id, address in ADDRESSES.items():
                await sites.save_address(SiteAddress(NETWORK, address, site_id))
            await sites.save_sip_account(sip_account(SIP_ACCOUNT[0], REALM, PASSWORD, SIP_ACCOUNT[1]))
            for user in users:
                await UserRepository(tx).add(user)
    finally:
        await database.aclose()
        passwords.close()
