"""What breaks around a node: Redis, the database's lock, a start that cannot succeed."""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from orchestrator.control import EXIT_CONFIGURATION
from tests.journeys.scene import NANNING, TWO_TILES, WUMING, sees_all
from tests.peers.baresip import Baresip
from tests.peers.node import MeetingHandle, Node, Refused, command
from tests.peers.picture import BLUE, RED
from tests.peers.ports import PortBlock, occupied
from tests.peers.process import PeerProcess
from tests.peers.redis import RedisServer
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

needs_peers = requires("baresip", "redis")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A node on that Redis."""
    settings = {"redis": {"url": redis.url}}
    async with Node(tmp_path_factory.mktemp("node"), settings=settings) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rooms(
    node: Node, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Baresip, Baresip]]:
    """Two rooms in a meeting that outlives every trouble."""
    folder = tmp_path_factory.mktemp("rooms")
    async with Baresip(folder / "a", NANNING) as one, Baresip(folder / "b", WUMING) as other:
        meeting = await node.meeting("防汛值班")
        for room in (one, other):
            await room.dial(meeting.uri)
            await room.established()
        yield one, other


async def go_on(rooms: tuple[Baresip, Baresip]) -> None:
    """Both see both, in new pictures, and hear each other."""
    one, other = rooms
    await asyncio.gather(
        sees_all(one, TWO_TILES, RED, BLUE),
        sees_all(other, TWO_TILES, RED, BLUE),
        one.hears(880),
        other.hears(440),
    )


async def next_event(
    socket: aiohttp.ClientWebSocketResponse, kind: str, timeout: float = 5.0
) -> dict[str, str]:
    async with asyncio.timeout(timeout):
        while True:
            event: dict[str, str] = json.loads(await socket.receive_str())
            if event["type"] == kind:
                return event


async def health_of(node: Node, part: str, state: str, timeout: float = 10.0) -> dict[str, str]:
    health = await until(
        node.health, lambda health: health is not None and health[part] == state, f"{part} {state}", timeout
    )
    assert health is not None
    return health


@needs_peers
async def test_redis_gone_and_back(node: Node, redis: RedisServer, rooms: tuple[Baresip, Baresip]) -> None:
    await go_on(rooms)
    operator = await node.user()
    async with operator.live() as live:
        opened = await node.meeting("之前")
        assert (await next_event(live, "ConferenceOpened"))["conference_id"] == opened.id
        await redis.kill()
        assert (await health_of(node, "bus", "away"))["status"] == "degraded"
        without = await node.meeting("之间")
        assert (await without.api.get(without.path))["state"] == "running"
        await go_on(rooms)
        await redis.start()
        assert (await health_of(node, "bus", "ok"))["status"] == "ok"
        after = await node.meeting("之后")
        while (await next_event(live, "ConferenceOpened"))["conference_id"] != after.id:
            pass
    for meeting in (opened, without, after):
        await meeting.command("end")


@needs_peers
async def test_a_locked_database_is_said_and_the_meeting_goes_on(
    node: Node, rooms: tuple[Baresip, Baresip]
) -> None:
    operator = await node.user()
    with contextlib.closing(sqlite3.connect(node.data / "anshi.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refusal = asyncio.create_task(operator.post("/conferences", {"title": "一个", "host_site_id": "gx"}))
        await go_on(rooms)
        with pytest.raises(Refused) as refused:
            await refusal
        other.execute("ROLLBACK")
    assert refused.value.status == 503
    assert (
        refused.value.problem["detail"] == "the database is locked by another writer; try again in a moment"
    )
    assert int(refused.value.headers["Retry-After"]) > 0
    meeting: MeetingHandle = await node.meeting("又一个")
    await meeting.command("end")
    await go_on(rooms)


async def start_fails(folder: Path, configuration: str) -> str:
    """The one line with which a start ends."""
    folder.mkdir(exist_ok=True)
    config = folder / "node.yaml"
    config.write_text(configuration, encoding="utf-8")
    process = await PeerProcess.start("anshi", command(config, folder / "data"), folder)
    try:
        assert await process.wait(10.0) == EXIT_CONFIGURATION
    finally:
        await process.aclose()
    (line,) = process.words().splitlines()
    return line


async def test_a_start_that_cannot_succeed_ends_with_one_line(tmp_path: Path) -> None:
    with PortBlock() as ports, occupied(port := ports.take()):
        free, rtp = ports.take(), ports.take(20, even=True)
        configuration = f"""
node: {{id: cenxi, name: 岑溪, level: county, site_id: cenxi}}
http: {{bind: 127.0.0.1, port: {port}}}
networks:
  - name: lan
    bind: 127.0.0.1
    sip: {{udp: null, tcp: null, tls: null}}
    rtp_ports: [{rtp}, {rtp + 19}]
    webrtc_port: null
"""
        taken = await start_fails(tmp_path / "taken", configuration)
        unknown = await start_fails(tmp_path / "unknown", configuration + "medai: {workers: 1}\n")
        logo = tmp_path / "logo.png"
        logo.write_text("no picture")
        startable = configuration.replace(f"port: {port}", f"port: {free}")
        undrawable = await start_fails(tmp_path / "undrawable", startable + f"logo: {{file: {logo}}}\n")
    assert taken == f"anshi: http.port: 127.0.0.1:{port}/tcp is in use by another program"
    assert unknown.startswith("anshi: ")
    assert "medai" in unknown
    assert undrawable.startswith(f"anshi: logo.file: the logo {logo} cannot be used: ")
