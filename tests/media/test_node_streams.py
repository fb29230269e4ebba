"""A stream is found wherever it lives, and held by who wants it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from media.link import LinkClient, LinkServer, ProcessUnreachable
from media.node_streams import NodeStreams
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamUnavailable
from tests.media.test_link import H264, Shelf


def camera(id: str) -> Stream:
    return Stream(f"camera:{id}", H264)


async def test_every_process_is_asked_in_turn_and_the_last_one_first(tmp_path: Path) -> None:
    asked: list[str] = []

    class Noting(LinkClient):
        def open(self, stream_id: str):  # type: ignore[no-untyped-def]  # only notes the call
            asked.append(self.path.stem)
            return super().open(stream_id)

    here, first, second = Shelf(camera("1")), Shelf(camera("2")), Shelf(camera("3"))
    links = [Noting(tmp_path / "media-0.link"), Noting(tmp_path / "media-1.link")]
    streams = NodeStreams(links, [here])
    async with LinkServer(links[0].path, first), LinkServer(links[1].path, second):
        for _ in range(2):
            async with streams.open("camera:1") as stream:
                assert stream is here.streams["camera:1"]
                assert here.held == 1
            assert here.held == 0
            assert asked == []
        async with streams.open("camera:3") as stream:
            assert (stream.id, second.held) == ("camera:3", 1)
        assert asked == ["media-0", "media-1"]
        async with streams.open("camera:3"):
            assert asked == ["media-0", "media-1", "media-1"]
        with pytest.raises(NoSuchStream, match="no stream 'camera:4' on this node"):
            async with streams.open("camera:4"):
                pass


async def test_a_stream_that_moved_is_found_again(tmp_path: Path) -> None:
    first, second = Shelf(camera("1")), Shelf(camera("2"))
    streams = NodeStreams([], [first, second])
    async with streams.open("camera:2") as stream:
        assert stream is second.streams["camera:2"]
    first.streams["camera:2"] = moved = second.streams.pop("camera:2")
    async with streams.open("camera:2") as stream:
        assert stream is moved


async def test_who_has_the_stream_but_cannot_give_it_has_the_last_word() -> None:
    ended = camera("1")
    ended.close()
    streams = NodeStreams([], [Shelf(), Shelf(ended), Shelf(camera("1"))])
    with pytest.raises(StreamUnavailable, match="camera:1 has ended") as refused:
        async with streams.open("camera:1"):
            pass
    assert not isinstance(refused.value, NoSuchStream)


async def test_a_dead_process_does_not_hide_the_streams_of_the_others(tmp_path: Path) -> None:
    dead, alive = LinkClient(tmp_path / "media-0.link"), LinkClient(tmp_path / "media-1.link")
    streams = NodeStreams([dead, alive])
    async with LinkServer(alive.path, Shelf(camera("1"))):
        async with streams.open("camera:1") as stream:
            assert stream.id == "camera:1"
        with pytest.raises(ProcessUnreachable, match="media-0 cannot be reached"):
            async with streams.open("camera:2"):  # nobody knows: it may be the dead one's
                pass


async def test_an_error_of_the_holder_is_its_own() -> None:
    shelf = Shelf(camera("1"))
    with pytest.raises(NoSuchStream, match="the holder's"):
        async with NodeStreams([], [shelf, Shelf()]).open("camera:1"):
            raise NoSuchStream("the holder's")
    assert shelf.held == 0


async def test_a_stopped_process_delays_one_opening_and_no_other(tmp_path: Path) -> None:
    stopped = LinkClient(tmp_path / "media-0.link", timeout=0.3)
    alive = LinkClient(tmp_path / "media-1.link")
    clock = asyncio.get_running_loop().time
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stopped.path))
        listener.listen()  # the kernel lets in, nobody speaks
        async with LinkServer(alive.path, Shelf(camera("1"), camera("2"))):
            streams = NodeStreams([stopped, alive])
            async with streams.open("camera:1"):
                began = clock()
                async with streams.open("camera:2") as stream:
                    assert stream.id == "camera:2"
                with pytest.raises(NoSuchStream, match="camera:1/sound"):
                    async with streams.open("camera:1/sound"):
                        pass
                assert clock() - began < 0.3
