"""The edge's door: places before TLS, places of one address, places that are wasted."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from aiohttp import web

from config.settings import Edge, Http, Network, Node, Settings
from foundation.address_bounds import AddressBounds
from foundation.tasks import TaskScope
from orchestrator import edge_door
from orchestrator.certificate import server_context
from orchestrator.edge_door import Door
from orchestrator.peer_address import TrustedProxies
from tests.peers.waiting import until_true

HERE, THERE = "127.0.0.1", "127.0.0.2"
LARGE = 1 << 20


class Doorway:
    """A door with a small application behind it, on a port of its own."""

    def __init__(self, door: Door, port: int) -> None:
        self.door = door
        self.port = port
        self.released = asyncio.Event()

    async def connect(self, source: str = HERE, buffer: int = 0) -> socket.socket:
        """A connection on which nothing was said."""
        connection = socket.socket()
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.setblocking(False)
        connection.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(connection, (HERE, self.port))
        return connection

    async def ask(self, path: str = "/", source: str = HERE, tls: bool = True, headers: str = "") -> str:
        """The answer's first line; empty when the connection was closed without one."""
        connection = await self.connect(source)
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        try:
            reader, writer = await asyncio.open_connection(
                sock=connection, ssl=trusting if tls else None, server_hostname=HERE if tls else None
            )
            writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n".encode())
            line = (await reader.readline()).decode().strip()
            writer.transport.abort()
        except ConnectionError:
            return ""
        return line


@asynccontextmanager
async def doorway(
    folder: Path, viewers: int = 10, of_one: int = 10, tls: bool = True, proxies: tuple[str, ...] = ()
) -> AsyncIterator[Doorway]:
    trusted = TrustedProxies(proxies)
    door = Door(viewers, AddressBounds(of_one, trusted.networks, local=()), trusted)
    app = web.Application(middlewares=[door.asked])
    listener = socket.create_server((HERE, 0))
    listener.setblocking(False)
    way = Doorway(door, listener.getsockname()[1])

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE))

    async def wait(_request: web.Request) -> web.Response:
        await way.released.wait()
        return web.Response(text="at last")

    app.add_routes([web.get("/", hello), web.get("/wait", wait), web.get("/large", large)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    settings = Settings(
        node=Node(id="gx", name="广西"),
        networks=(Network(name="extranet", bind=HERE),),
        data=folder,
        http=Http(bind=HERE),
        edge=Edge(bind=HERE),
    )
    async with TaskScope("test") as scope:
        door.open(runner.server, listener, server_context(settings) if tls else None)
        scope.supervise("door", door.run)
        try:
            yield way
        finally:
            await door.aclose()
            await runner.cleanup()


async def ends(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    loop, got = asyncio.get_running_loop(), b""
    try:
        while data := await loop.sock_recv(connection, 4096):
            got += data
    except ConnectionError:
        pass
    connection.close()
    return got


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_half_a_handshake_holds_a_place_and_loses_it(
    tmp_path: Path, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_door, "HANDSHAKE_SECONDS", 1.0)
    monkeypatch.setattr(edge_door, "SWEEP_SECONDS", 0.3)

    async def flood() -> None:
        async with doorway(tmp_path, viewers=3) as way:
            silent = [await way.connect() for _ in range(3)]
            await until_true(lambda: way.door.held == 3, "three half-open handshakes to be counted", 5)
            more = [await way.connect() for _ in range(5)]
            assert await way.ask() == "HTTP/1.1 503 Service Unavailable"
            assert (way.door.held, way.door.refused) == (3, 6)
            assert [await asyncio.wait_for(ends(one), 10) for one in (*silent, *more)] == [b""] * 8
            await until_true(lambda: way.door.held == 0, "the places to be free", 5)
            assert await way.ask() == "HTTP/1.1 200 OK"
            rubbish = await way.connect()
            rubbish.send(b"GET / HTTP/1.1\r\n\r\n")
            gone = await way.connect()
            gone.close()
            await asyncio.wait_for(ends(rubbish), 10)
            await until_true(lambda: way.door.held == 0, "failed handshakes to be forgotten", 5)

    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else factory) as runner:
        runner.run(flood())


async def test_one_address_cannot_take_every_place(tmp_path: Path) -> None:
    async with doorway(tmp_path, viewers=10, of_one=2) as way:
        held = [await way.connect(HERE) for _ in range(2)]
        await until_true(lambda: way.door.held == 2, "two connections to be counted", 5)
        assert await way.ask(source=HERE) == "HTTP/1.1 429 Too Many Requests"
        assert await way.ask(source=THERE) == "HTTP/1.1 200 OK"
        held[0].close()
        await until_true(lambda: way.door.held == 1, "one to have gone", 5)
        assert await way.ask(source=HERE) == "HTTP/1.1 200 OK"
        held[1].close()


async def test_behind_a_proxy_the_forwarded_address_is_what_counts(tmp_path: Path) -> None:
    async with doorway(tmp_path, of_one=1, tls=False, proxies=(HERE,)) as way:
        seven, eight = "X-Forwarded-For: 192.0.2.7\r\n", "X-Forwarded-For: 192.0.2.8\r\n"
        waiting = asyncio.create_task(way.ask("/wait", tls=False, headers=seven))
        await until_true(lambda: way.door._crowd.addresses == 1, "the first to wait", 5)
        assert await way.ask(tls=False, headers=seven) == "HTTP/1.1 429 Too Many Requests"
        assert await way.ask(tls=False, headers=eight) == "HTTP/1.1 200 OK"
        assert await way.ask(source=THERE, tls=False, headers=eight) == "HTTP/1.1 200 OK"
        way.released.set()
        assert await waiting == "HTTP/1.1 200 OK"
        assert await way.ask(tls=False, headers=seven) == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("tls", [False, True])
async def test_who_reads_slowly_stays_and_who_does_not_read_goes(
    tmp_path: Path, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("UNREAD_SECONDS", 1.0), ("SWEEP_SECONDS", 0.1), ("LEAST_READ", 4 << 10)):
        monkeypatch.setattr(edge_door, name, value)
    async with doorway(tmp_path, tls=tls) as way:
        connection = await way.connect(buffer=16 << 10)

        def read() -> socket.socket:
            """Three seconds of an answer that is always unread in part; then no more."""
            connection.setblocking(True)
            viewer: socket.socket = connection
            if tls:
                trusting = ssl.create_default_context()
                trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
                viewer = trusting.wrap_socket(connection, server_hostname=HERE)
            viewer.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
            for _ in range(60):
                assert viewer.recv(8 << 10)
                time.sleep(0.05)
            return viewer

        viewer = await asyncio.to_thread(read)
        assert (way.door.held, way.door.expelled) == (1, 0)
        await until_true(lambda: way.door.expelled == 1, "who stopped reading to be ended", 10)
        await until_true(lambda: way.door.held == 0, "its place to be free", 5)
        viewer.close()
