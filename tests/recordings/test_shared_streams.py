"""Many holders in this process are one hold outside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from media.stream import Stream
from media.stream_source import NoSuchStream, StreamUnavailable
from recordings.shared_streams import SharedStreams
from tests.recordings.stage import H264, Stage


async def test_two_holders_share_one_hold_and_the_last_lets_go() -> None:
    stage = Stage()
    stream = stage.put("camera:gate")
    shared = SharedStreams(stage)
    async with shared.open("camera:gate") as first:
        async with shared.open("camera:gate") as second:
            assert first is second is stream
            assert stage.held["camera:gate"] == 1
        assert stage.held["camera:gate"] == 1
    assert (stage.held["camera:gate"], stage.opened["camera:gate"]) == (0, 1)
    async with shared.open("camera:gate"):
        assert stage.held["camera:gate"] == 1


async def test_a_stream_that_ended_is_opened_anew_beside_its_last_holder() -> None:
    stage = Stage()
    old = stage.put("camera:gate")
    shared = SharedStreams(stage)
    async with shared.open("camera:gate") as first:
        new = stage.put("camera:gate")
        assert old.closed
        async with shared.open("camera:gate") as second, shared.open("camera:gate") as third:
            assert (first, second, third) == (old, new, new)
    assert stage.held["camera:gate"] == 0


async def test_what_the_source_says_reaches_everyone_who_waits() -> None:
    stage = Stage()
    shared = SharedStreams(stage)
    with pytest.raises(NoSuchStream, match="camera:gate"):
        async with shared.open("camera:gate"):
            pass
    stage.down["camera:gate"] = "the camera refuses the password"

    async def hold() -> None:
        async with shared.open("camera:gate"):
            pass

    said = await asyncio.gather(hold(), hold(), return_exceptions=True)
    assert [(type(one), str(one)) for one in said] == [
        (StreamUnavailable, "the camera refuses the password")
    ] * 2
    del stage.down["camera:gate"]
    stage.put("camera:gate")
    await hold()


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    waiting: list[str] = []

    class Slow(Stage):
        @asynccontextmanager
        async def open(self, stream_id: str) -> AsyncIterator[Stream]:
            waiting.append(stream_id)
            try:
                await asyncio.Event().wait()
                yield Stream(stream_id, H264)
            finally:
                waiting.remove(stream_id)

    shared = SharedStreams(Slow())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), shared.open("camera:gate"):
            pass
    assert waiting == []
