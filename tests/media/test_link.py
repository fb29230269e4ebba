"""A stream in another process: the same packets, the first picture at once, bounds, ends."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from foundation.private_socket import FrameReader, frame
from media import link as link_module
from media.link import LinkClient, LinkServer, ProcessUnreachable, decode_packet, encode_packet
from media.packet import Format, Packet
from media.stream import Reader, Stream
from media.stream_source import NoSuchStream, StreamUnavailable
from tests.peers.waiting import until_true

H264 = Format("H264", 90_000, parameters={"profile-level-id": "42e01f"})
ID = "camera:34020000001320000001"


def picture(number: int, *, key: bool = False, size: int = 10) -> Packet:
    return Packet(number.to_bytes(4, "big") + bytes(size), number * 3600, number / 25, key)


class Shelf:
    """A source of streams that are always there; `held` counts who is inside."""

    def __init__(self, *streams: Stream) -> None:
        self.streams = {stream.id: stream for stream in streams}
        self.held = 0

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        stream = self.streams.get(stream_id)
        if stream is None:
            raise NoSuchStream(f"there is no stream {stream_id!r} on the shelf")
        if stream.closed:
            raise StreamUnavailable(f"{stream_id} has ended")
        self.held += 1
        try:
            yield stream
        finally:
            self.held -= 1


@asynccontextmanager
async def linked(
    path: Path, stream: Stream, capacity: int = 512
) -> AsyncIterator[tuple[LinkServer, LinkClient]]:
    async with LinkServer(path, Shelf(stream), capacity=capacity) as server:
        yield server, LinkClient(path)


async def take(reader: Reader, count: int) -> list[Packet]:
    async with asyncio.timeout(10):
        return [await anext(reader) for _ in range(count)]


PACKETS = st.builds(
    Packet,
    st.binary(max_size=300),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(0, 1e9),
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(0, 1e10),
)


@given(st.lists(st.tuples(PACKETS, st.integers(0, 2**64 - 1)), max_size=5), st.integers(1, 50))
def test_packets_survive_any_splitting(sent: list[tuple[Packet, int]], step: int) -> None:
    stream = b"".join(encode_packet(packet, dropped) for packet, dropped in sent)
    frames = FrameReader(1 << 20)
    payloads = [
        payload
        for start in range(0, len(stream), step)
        for payload in frames.feed(stream[start : start + step])
    ]
    assert [decode_packet(payload) for payload in payloads] == sent


def test_a_short_packet_is_an_error() -> None:
    with pytest.raises(struct.error):
        decode_packet(b"P123")


async def test_a_stream_arrives_whole_with_its_format(tmp_path: Path) -> None:
    stream = Stream(ID, H264)
    sent = [picture(number, key=number % 10 == 0, size=20_000) for number in range(60)]
    sent[7] = Packet(b"x", 7 * 3600, 0.25, False, damaged=True, ntp=3.9e9)
    async with linked(tmp_path / "l", stream) as (server, link), link.open(ID) as local:
        assert (local.id, local.format) == (stream.id, stream.format)
        async with local.reader() as reader:
            for packet in sent:
                stream.publish(packet)
            assert await take(reader, len(sent)) == sent
            assert (local.dropped, server.clients) == (0, 1)


async def test_a_late_comer_has_the_current_picture_at_once(tmp_path: Path) -> None:
    wanted: list[bool] = []
    stream = Stream(ID, H264, on_keyframe_wanted=lambda: wanted.append(True))
    for number in range(5):
        stream.publish(picture(number, key=number == 0))
    async with linked(tmp_path / "l", stream) as (_, link), link.open(ID) as local:
        async with local.reader() as reader:  # nothing is published any more
            assert await take(reader, 5) == [picture(number, key=number == 0) for number in range(5)]
        async with local.reader() as another:
            assert another.queued == 5


async def test_key_frame_requests_travel_back_but_not_one_a_packet(tmp_path: Path) -> None:
    asked = asyncio.Event()
    count = 0

    def on_keyframe_wanted() -> None:
        nonlocal count
        count += 1
        asked.set()

    stream = Stream(ID, H264, on_keyframe_wanted=on_keyframe_wanted)
    stream.publish(picture(0, key=True))
    async with linked(tmp_path / "l", stream) as (_, link), link.open(ID) as local:
        async with local.reader() as reader:
            await take(reader, 1)
            assert count == 0
            for _ in range(100):
                local.request_keyframe()
            await asyncio.wait_for(asked.wait(), 5)
            stream.publish(picture(1, key=True))
            await take(reader, 1)
        assert count == 1


async def test_the_end_of_the_source_is_the_end_here_after_what_was_sent(tmp_path: Path) -> None:
    stream = Stream(ID, H264)
    async with linked(tmp_path / "l", stream) as (server, link), link.open(ID) as local:
        async with local.reader() as reader:
            stream.publish(picture(0, key=True))
            stream.publish(picture(1))
            stream.close()
            async with asyncio.timeout(5):
                assert [packet async for packet in reader] == [picture(0, key=True), picture(1)]
        assert local.closed
    assert server.clients == 0


async def test_leaving_here_frees_the_reader_there(tmp_path: Path) -> None:
    stream = Stream(ID, H264)
    async with linked(tmp_path / "l", stream) as (server, link):
        async with link.open(ID) as local:
            assert stream.readers == 1
        assert local.closed
        await until_true(lambda: server.clients == 0, "the server to let the client go", 5)
        assert stream.readers == 0


async def test_a_slow_process_loses_packets_at_the_server_and_is_told_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    receive = link_module._Incoming.next
    names: list[str] = []

    async def slow(self: link_module._Incoming) -> bytes | None:
        task = asyncio.current_task()
        if task is not None and task.get_name() == f"link.{ID}":
            names.append(task.get_name())
            await gate.wait()
        return await receive(self)

    monkeypatch.setattr(link_module._Incoming, "next", slow)
    stream = Stream(ID, H264)
    async with linked(tmp_path / "l", stream, capacity=10) as (_, link), link.open(ID) as local:
        async with local.reader(capacity=10_000) as reader:
            total = 200
            for number in range(total):
                stream.publish(picture(number, key=number % 20 == 0, size=50_000))
                await asyncio.sleep(0)
            assert names
            gate.set()
            stream.close()
            async with asyncio.timeout(10):
                seen = [packet async for packet in reader]
        assert local.dropped > 100
        assert len(seen) + local.dropped == total
        numbers = [packet.pts // 3600 for packet in seen]
        jumps = [after for before, after in itertools.pairwise(numbers) if after != before + 1]
        assert all(number % 20 == 0 for number in jumps)


async def test_one_slow_process_does_not_hold_up_another(tmp_path: Path) -> None:
    stream = Stream(ID, H264)
    async with linked(tmp_path / "l", stream, capacity=10) as (_, link):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "l", limit=1)  # never read
        writer.write(frame(b"O", ID.encode()))
        async with link.open(ID) as local, local.reader() as quick:
            for number in range(100):
                stream.publish(picture(number, key=True, size=50_000))
                assert (await take(quick, 1))[0].pts == number * 3600
            assert local.dropped == 0
        writer.transport.abort()
        assert reader


async def test_what_is_not_there_is_refused_with_words(tmp_path: Path) -> None:
    stream = Stream(ID, H264)
    path = tmp_path / "media-0.link"
    with pytest.raises(ProcessUnreachable, match="media-0 cannot be reached: No such file or directory"):
        async with LinkClient(path).open(ID):
            pass
    async with linked(path, stream) as (_, link):
        with pytest.raises(NoSuchStream, match="there is no stream 'camera:相机' on the shelf"):
            async with link.open("camera:相机"):
                pass
        stream.close()
        with pytest.raises(StreamUnavailable, match="has ended") as refused:
            async with link.open(ID):
                pass
        assert type(refused.value) is StreamUnavailable


async def test_an_open_link_is_the_hold(tmp_path: Path) -> None:
    stream = Stream(ID, H264)
    shelf = Shelf(stream)
    async with LinkServer(tmp_path / "l", shelf) as server:
        link = LinkClient(tmp_path / "l")
        async with link.open(ID), link.open(ID):
            assert shelf.held == 2
        await until_true(lambda: shelf.held == 0, "both holds to be given back", 5)
        async with link.open(ID) as local:
            stream.close()
            await until_true(lambda: shelf.held == 0 and local.closed, "the end of the stream", 5)
        assert server.clients == 0


async def test_who_is_cancelled_twice_gives_its_hold_back_all_the_same(tmp_path: Path) -> None:
    shelf = Shelf(Stream(ID, H264))
    inside = asyncio.Event()

    async def hold(link: LinkClient) -> None:
        async with link.open(ID):
            inside.set()
            await asyncio.Event().wait()

    async with LinkServer(tmp_path / "l", shelf):
        holding = asyncio.create_task(hold(LinkClient(tmp_path / "l")))
        await asyncio.wait_for(inside.wait(), 5)
        holding.cancel()
        await asyncio.sleep(0)
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await until_true(lambda: shelf.held == 0, "the hold to be given back", 5)


class Waiting:
    """A source on demand that does not come; `entered` and `left` say who waits for it."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self.fault: Exception | None = None
        self.decided = asyncio.Event()

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        self.entered.set()
        try:
            await self.decided.wait()
            if self.fault is not None:
                raise self.fault
            yield Stream(stream_id, H264)
        finally:
            self.left.set()


async def test_a_client_that_leaves_while_the_source_connects_cancels_the_hold(tmp_path: Path) -> None:
    source = Waiting()
    async with LinkServer(tmp_path / "l", source) as server:

        async def opening() -> None:
            async with LinkClient(tmp_path / "l").open(ID):
                pytest.fail("it never came")

        task = asyncio.create_task(opening())
        await asyncio.wait_for(source.entered.wait(), 5)
        task.cancel()
        await asyncio.wait_for(source.left.wait(), 5)
        await until_true(lambda: server.clients == 0, "the server to let the client go", 5)


async def test_a_source_may_take_its_time_and_then_fail_in_its_own_words(tmp_path: Path) -> None:
    source = Waiting()
    source.fault = StreamUnavailable("wrong password: the camera refuses user 'admin'")
    async with LinkServer(tmp_path / "l", source):
        asyncio.get_running_loop().call_later(0.2, source.decided.set)
        with pytest.raises(StreamUnavailable, match="wrong password: the camera refuses user 'admin'"):
            async with LinkClient(tmp_path / "l").open(ID):
                pass


async def test_a_defect_of_the_source_ends_that_client_only(tmp_path: Path) -> None:
    source = Waiting()
    source.fault = RuntimeError("a defect")
    source.decided.set()
    async with LinkServer(tmp_path / "l", source) as server:
        with pytest.raises(ProcessUnreachable, match="went away before it answered"):
            async with LinkClient(tmp_path / "l").open(ID):
                pass
        source.fault = None
        async with LinkClient(tmp_path / "l").open(ID) as local:
            assert local.format == H264
            assert server.clients == 1


async def test_other_parameter_sets_of_the_same_picture_are_told(tmp_path: Path) -> None:
    stream = Stream(ID, H264)
    other = Format("H264", 90_000, parameters={"profile-level-id": "42e01f", "sprop-parameter-sets": "Z0I="})
    async with linked(tmp_path / "l", stream) as (_, link), link.open(ID) as local, local.reader() as reader:
        stream.publish(picture(0, key=True))
        await take(reader, 1)
        stream.format = other
        stream.publish(picture(1, key=True))
        await take(reader, 1)
        assert local.format == other


async def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "media-0.link"
    hung = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        hung.set()
        writer.close()

    server = await asyncio.start_unix_server(silent, str(path))
    with pytest.raises(ProcessUnreachable, match=r"media-0 did not open stream .* within 0\.05 s"):
        async with LinkClient(path, timeout=0.05).open(ID):
            pass
    await asyncio.wait_for(hung.wait(), 5)  # the connection was given up too
    server.close()


@pytest.mark.parametrize("nonsense", [b"\xff\xff\xff\xff", frame(b"Zrubbish"), frame(b"")])
async def test_nonsense_ends_that_client_only(tmp_path: Path, nonsense: bytes) -> None:
    stream = Stream(ID, H264)
    async with linked(tmp_path / "l", stream) as (_, link), link.open(ID) as local:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "l")
        writer.write(nonsense)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer == b""
        writer.close()
        async with local.reader() as local_reader:
            stream.publish(picture(0, key=True))
            assert await take(local_reader, 1) == [picture(0, key=True)]


async def test_another_users_process_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(tmp_path / "l", Stream(ID, H264)) as (_, link):
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        with pytest.raises(ProcessUnreachable, match="is not ours"):
            async with link.open(ID):
                pass


SERVER = """
import asyncio, sys
from pathlib import Path
from media.link import LinkServer
from media.stream import Stream
from tests.media.test_link import H264, ID, Shelf, picture

async def main():
    stream = Stream(ID, H264)
    async with LinkServer(Path(sys.argv[1]), Shelf(stream)):
        number = 0
        while True:
            stream.publish(picture(number, key=number % 10 == 0, size=30_000))
            number += 1
            await asyncio.sleep(0.005)

asyncio.run(main())
"""


async def test_a_killed_process_ends_the_stream_at_once(tmp_path: Path) -> None:
    path = tmp_path / "media-0.link"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, str(path))
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    async with LinkClient(path).open(ID) as local, local.reader() as reader:
                        await take(reader, 30)
                        process.send_signal(signal.SIGKILL)
                        killed = time.monotonic()
                        async for packet in reader:
                            assert packet.arrival >= 0
                        assert local.closed
                        assert time.monotonic() - killed < 1.0
                        break
                except ProcessUnreachable:
                    await asyncio.sleep(0.05)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_it_works_on_uvloop_too(tmp_path: Path) -> None:
    async def main() -> None:
        stream = Stream(ID, H264)
        stream.publish(picture(0, key=True, size=500_000))
        async with (
            linked(tmp_path / "l", stream) as (_, link),
            link.open(ID) as local,
            local.reader() as reader,
            asyncio.timeout(5),
        ):
            stream.close()
            assert [packet async for packet in reader] == [picture(0, key=True, size=500_000)]

    uvloop.run(main())
