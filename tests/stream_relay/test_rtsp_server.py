"""Our RTSP server against ffmpeg, against our own client, and against clients that misbehave."""

import asyncio
import errno
import itertools
import math
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from foundation.address_bounds import AddressBounds
from media.packet import Packet
from protocols.payloads.h264 import split_byte_stream
from protocols.sip.digest import Password
from stream_relay.camera_source import CameraFault, CameraSettings, CameraSource, Cause
from stream_relay.rtsp_connection import RtspConnection
from stream_relay.rtsp_server import RtspLimits, RtspServer
from tests.peers.ffmpeg import run_ffmpeg
from tests.peers.picture import RED, load, shows
from tests.peers.requirement import requires
from tests.peers.waiting import until_true
from tests.stream_relay.cameras import Camera, Shelf, collect, coloured_pictures, decoded, playing

HOST = "127.0.0.1"


@asynccontextmanager
async def serving(shelf: Shelf, limits: RtspLimits | None = None, **login: str) -> AsyncIterator[RtspServer]:
    secret_of = (lambda name: Password(login[name]) if name in login else None) if login else None
    server = RtspServer(shelf, limits=limits or RtspLimits(), secret_of=secret_of)
    await server.start(HOST, 0)
    try:
        yield server
    finally:
        await server.aclose()
        assert server.connections == 0


def url(server: RtspServer, path: str = "red", login: str = "") -> str:
    return f"rtsp://{login}{HOST}:{server.port}/{path}"


@requires("ffmpeg")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_ffmpeg_sees_the_colour(tmp_path: Path, transport: str) -> None:
    camera = Camera(coloured_pictures(RED, b_frames=2))
    shelf = Shelf(red=[camera.stream])
    async with playing(camera), serving(shelf, admin="secret") as server:
        out = tmp_path / "seen.png"
        await run_ffmpeg(
            tmp_path,
            *("-rtsp_transport", transport, "-i", url(server, login="admin:secret@")),
            *("-frames:v", "8", "-update", "1", str(out)),
            timeout=20,
        )
        assert shows(load(out), RED)
        await until_true(
            lambda: server.connections == 0 and shelf.opened == 0, "the player to be forgotten", 10
        )


@pytest.mark.parametrize("udp", [False, True])
async def test_a_new_player_gets_the_group_of_pictures_at_once(udp: bool) -> None:
    camera = Camera(coloured_pictures(RED, seconds=1, b_frames=2))
    async with serving(Shelf(red=[camera.stream])) as server:
        async with playing(camera, speed=50):
            await until_true(lambda: camera.stream.published > 20, "pictures", 10)
        published = camera.stream.published % 25 or 25
        # Nothing is published any more: what a player sees now was kept for it.
        source = CameraSource("one", CameraSettings(url(server), udp=udp))
        async with source.hold():
            packets = await collect(await source.video(5), published - 1)
        await source.aclose()
    sent = camera.coded[: published - 1]
    assert [split_byte_stream(packet.data) for packet in packets] == [
        split_byte_stream(one) for one, _, _ in sent
    ]
    steps = [packet.pts - packets[0].pts for packet in packets]
    assert steps == [pts - camera.coded[0][1] for _, pts, _ in sent]
    assert min(b - a for a, b in itertools.pairwise(steps)) < 0, "no B-frames in this test"
    assert shows(decoded(packets)[0], RED)


async def test_a_group_of_pictures_over_udp_is_paced_to_what_a_player_s_socket_holds() -> None:
    camera = Camera(coloured_pictures(RED, seconds=1))
    filler = b"\x00\x00\x00\x01\x0c" + b"\xff" * 20_000
    for data, pts, keyframe in camera.coded:
        camera.stream.publish(Packet(data + filler, pts, time.monotonic(), keyframe))
    async with serving(Shelf(red=[camera.stream])) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as player:
            player.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            player.bind((HOST, 0))
            player.setblocking(False)
            port = player.getsockname()[1]
            reader, writer = await asyncio.open_connection(HOST, server.port)
            transport = f"Transport: RTP/AVP;unicast;client_port={port}-{port + 1}"
            for number, request in enumerate(("SETUP", "PLAY")):
                target = url(server) + ("/trackID=0" if request == "SETUP" else "")
                writer.write(f"{request} {target} RTSP/1.0\r\nCSeq: {number}\r\n{transport}\r\n\r\n".encode())
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            loop = asyncio.get_running_loop()
            numbers, ends = [], 0
            async with asyncio.timeout(10):
                while ends < 25:
                    data = await loop.sock_recv(player, 2000)
                    numbers.append(int.from_bytes(data[2:4], "big"))
                    ends += data[1] >> 7
            writer.close()
    assert len(numbers) > 350
    assert all((b - a) & 0xFFFF == 1 for a, b in itertools.pairwise(numbers)), "packets were lost"


async def test_who_is_refused_hears_why() -> None:
    camera = Camera(coloured_pictures(RED, seconds=1))
    async with playing(camera), serving(Shelf(red=[camera.stream]), admin="secret") as server:
        for login, path, cause in (
            ("admin:wrong@", "red", Cause.WRONG_PASSWORD),
            ("nobody:secret@", "red", Cause.WRONG_PASSWORD),
            ("", "red", Cause.WRONG_PASSWORD),
            ("admin:secret@", "blue", Cause.NOT_FOUND),
        ):
            source = CameraSource("one", CameraSettings(url(server, path, login)))
            async with source.hold():
                with pytest.raises(CameraFault) as raised:
                    await source.video(5)
            assert raised.value.cause is cause
            await source.aclose()


async def test_one_address_has_a_bound_of_its_own() -> None:
    camera = Camera(coloured_pictures(RED))
    server = RtspServer(Shelf(red=[camera.stream]), crowd=AddressBounds(2, local=()))
    await server.start(HOST, 0)
    ask = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    opened = []
    try:
        for source, answered in ((HOST, True), (HOST, True), (HOST, False), ("127.0.0.2", True)):
            reader, writer = await asyncio.open_connection(HOST, server.port, local_addr=(source, 0))
            opened.append(writer)
            writer.write(ask)
            try:
                line = await asyncio.wait_for(reader.readline(), 5)
            except ConnectionError:
                line = b""
            assert line == (b"RTSP/1.0 200 OK\r\n" if answered else b""), source
        assert server.refused == 1
        opened[0].close()
        await until_true(lambda: server.connections == 2, "one to have gone", 5)
        reader, writer = await asyncio.open_connection(HOST, server.port)
        opened.append(writer)
        writer.write(ask)
        assert await asyncio.wait_for(reader.readline(), 5) == b"RTSP/1.0 200 OK\r\n"
    finally:
        for writer in opened:
            writer.close()
        await server.aclose()


async def test_requests_out_of_place_are_answered_and_rubbish_ends_the_connection() -> None:
    camera = Camera(coloured_pictures(RED, seconds=1))
    async with serving(Shelf(red=[camera.stream])) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        base = url(server)
        for request, answer in (
            (f"PLAY {base} RTSP/1.0\nCSeq: 1\n\n", b"455"),
            (f"RECORD {base} RTSP/1.0\r\nCSeq: 2\r\n\r\n", b"501"),
            (f"SETUP {base}/trackID=7 RTSP/1.0\r\nCSeq: 3\r\nTransport: RTP/AVP;unicast\r\n\r\n", b"404"),
            (f"SETUP {base}/trackID=0 RTSP/1.0\r\nCSeq: 4\r\nTransport: RAW/RAW\r\n\r\n", b"461"),
            (f"DESCRIBE {base} RTSP/2.0\r\nCSeq: 5\r\n\r\n", b"505"),
            (f"PLAY {base} RTSP/1.0\r\nCSeq: 6\r\nSession: other\r\n\r\n", b"454"),
            (f"PLAY {base} RTSP/1.0\r\nCSeq: 7\r\nRequire: x-y\r\n\r\n", b"551"),
            ("GET / HTTP/1.1\r\n\r\n", b"400"),
        ):
            writer.write(request.encode())
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == answer
        writer.write(bytes(range(256)))
        assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"400"
        assert await reader.read() == b""
        writer.close()


async def test_a_reader_that_stalls_is_dropped_and_ended_and_nobody_else_notices() -> None:
    camera = Camera(coloured_pictures(RED, seconds=1))
    # Each picture padded with filler data (nal_unit_type 12), so that the sockets' buffers soon are full.
    filler = b"\x00\x00\x00\x01\x0c" + b"\xff" * 60_000
    camera.coded = [(data + filler, pts, keyframe) for data, pts, keyframe in camera.coded]
    limits = RtspLimits(queue_bytes=1 << 20, queue_seconds=0.5, stalled_after=1.0)
    async with serving(Shelf(red=[camera.stream]), limits) as server, playing(camera, speed=8):
        reader, writer = await asyncio.open_connection(HOST, server.port, limit=1024)
        base = url(server)
        transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
        writer.write(f"SETUP {base}/trackID=0 RTSP/1.0\r\nCSeq: 1\r\n{transport}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"PLAY {base} RTSP/1.0\r\nCSeq: 2\r\n\r\n".encode())
        source = CameraSource("one", CameraSettings(base))
        async with source.hold():
            packets = await collect(await source.video(5), 500, timeout=20)
            await until_true(lambda: server.disconnected == 1, "the stalled reader to be ended", 10)
        assert server.dropped > 0
        steps = {b.pts - a.pts for a, b in itertools.pairwise(packets)}
        assert steps == {3600}, "the other reader lost pictures"
        assert source.counts.connections == 1
        await source.aclose()
        writer.close()


@pytest.mark.parametrize(
    "last", [b"\x00\x01 no message of RTSP\r\n\r\n", b"TEARDOWN * RTSP/1.0\r\nCSeq: 9\r\n\r\n"]
)
async def test_who_leaves_and_takes_nothing_is_counted_until_it_is_ended(last: bytes) -> None:
    """Answers that nobody reads fill the socket; then the connection is to end in peace, which it cannot."""
    camera = Camera(coloured_pictures(RED, seconds=1))
    async with serving(Shelf(red=[camera.stream]), RtspLimits(stalled_after=0.5)) as server:
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, (HOST, server.port))
            question = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"
            await until_true(lambda: server.connections == 1, "the connection", 5)
            (connection,) = server._connections
            assert isinstance(connection, RtspConnection)
            transport = connection._transport
            assert transport is not None
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            while not transport.get_write_buffer_size():
                connection.heard = math.inf
                await loop.sock_sendall(client, question)
                await until_true(
                    lambda: connection.heard < math.inf and not connection._requests, "the answer", 5
                )
            await loop.sock_sendall(client, last)
            await until_true(transport.is_closing, "the end to be near", 5)
            assert server.connections == 1, "it still counts"
            await until_true(lambda: server.connections == 0, "it to be ended", 5)


async def test_without_a_descriptor_to_spare_nobody_loses_the_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera = Camera(coloured_pictures(RED, seconds=1))
    async with serving(Shelf(red=[camera.stream])) as server, playing(camera):
        first = CameraSource("one", CameraSettings(url(server)))
        async with first.hold():
            before = await first.video(5)
            await collect(before, 10)

            def exhausted(*_: object) -> socket.socket:
                raise OSError(errno.EMFILE, "Too many open files")

            monkeypatch.setattr(socket, "fromfd", exhausted)
            late = CameraSource("two", CameraSettings(url(server)))
            async with late.hold():
                assert shows(decoded(await collect(await late.video(5), 30))[-1], RED)
                assert shows(decoded(await collect(before, 30))[-1], RED)
            await late.aclose()
        assert first.counts.connections == 1
        await first.aclose()
