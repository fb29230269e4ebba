"""Main's listener: who says nothing loses its place, and who has said what it wants keeps it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from config.settings import Http, Network, Node, Settings
from foundation.tasks import TaskScope
from orchestrator import edge_door, main_http
from orchestrator.edge_door import Door
from tests.peers.ports import PortBlock
from tests.peers.waiting import until_true

HERE = "127.0.0.1"


@dataclass(slots=True)
class Listener:
    door: Door
    port: int

    @property
    def url(self) -> str:
        return f"http://{HERE}:{self.port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(HERE, self.port)


@asynccontextmanager
async def listening(folder: Path, proxies: tuple[str, ...] = ()) -> AsyncIterator[Listener]:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            await response.send_str(message.data)
        return response

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.add_routes([web.get("/", hello), web.get("/ws", echo)])
    with PortBlock() as ports:
        port = ports.take()
        settings = Settings(
            node=Node(id="gx", name="广西"),
            networks=(Network(name="extranet", bind=HERE),),
            data=folder,
            http=Http(
                bind=HERE,
                port=port,
                tls=False,
                trusted_proxies=proxies,
                live_sockets=1,
                live_sockets_of_one=1,
            ),
        )
        async with TaskScope("test") as scope, AsyncExitStack() as stack:
            yield Listener(await main_http.listen(settings, app, stack, scope), port)


async def gone(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the other side ends the connection."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_who_says_nothing_goes_and_who_listens_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("HEAD_SECONDS", 1.0), ("KEEP_ALIVE_SECONDS", 1.0), ("SWEEP_SECONDS", 0.1)):
        monkeypatch.setattr(edge_door, name, seconds)
    async with (
        listening(tmp_path) as main,
        ClientSession() as session,
        session.ws_connect(f"{main.url}/ws") as sock,
    ):
        silent, _silent = await main.connect()
        asked, writer = await main.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await gone(silent) == b""
        assert (await gone(asked)).endswith(b"\r\n\r\nhello"), "kept alive no longer than it should"
        await until_true(lambda: main.door.held == 1, "only the socket to be left", 10)
        await sock.send_str("still here")
        assert await sock.receive_str() == "still here"


async def test_places_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_http, "BESIDE_SOCKETS", 2)
    async with listening(tmp_path) as main, ClientSession() as session:
        held = [await main.connect() for _ in range(3)]
        await until_true(lambda: main.door.held == 3, "the places to be taken", 10)
        async with session.get(main.url) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
            assert await answer.text() == "as many clients are connected as this service holds"
        held[0][1].close()
        await until_true(lambda: main.door.held == 2, "a place to be free", 10)
        async with session.get(main.url) as answer:
            assert await answer.text() == "hello"
        for _, writer in held:
            writer.close()


async def test_one_address_is_bounded_also_behind_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main_http, "BESIDE_SOCKETS_OF_ONE", 0)
    async with listening(tmp_path, (HERE,)) as main, ClientSession() as session:
        seven, eight = {"X-Forwarded-For": "192.0.2.7"}, {"X-Forwarded-For": "192.0.2.8"}
        async with session.ws_connect(f"{main.url}/ws", headers=seven) as sock:
            async with session.get(main.url, headers=seven) as answer:
                assert answer.status == 429
            async with session.get(main.url, headers=eight) as answer:
                assert await answer.text() == "hello"
            await sock.send_str("still here")
            assert await sock.receive_str() == "still here"
