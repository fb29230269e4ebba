"""One source, many readers: bounds, drops, the first picture, ends."""

from __future__ import annotations

import asyncio

import pytest

from media import stream as stream_module
from media.packet import Format, Kind, Packet
from media.stream import Stream

H264 = Format("H264", 90_000)
OPUS = Format("OPUS", 48_000, channels=2)


def picture(number: int, *, key: bool = False, size: int = 10, damaged: bool = False) -> Packet:
    return Packet(bytes(size), number * 3600, number / 25, key, damaged)


def sound(number: int) -> Packet:
    return Packet(b"sound", number * 960, number / 50)


async def read(stream_reader: stream_module.Reader) -> list[int]:
    """The numbers of the pictures that the reader gives until it ends."""
    return [packet.pts // 3600 async for packet in stream_reader]


async def queued(stream_reader: stream_module.Reader) -> list[int]:
    """The numbers of what waits now."""
    return [(await anext(stream_reader)).pts // 3600 for _ in range(stream_reader.queued)]


def test_a_format_knows_its_kind() -> None:
    assert H264.kind is Kind.VIDEO
    assert OPUS.kind is Kind.AUDIO


async def test_every_reader_gets_every_packet_and_the_end() -> None:
    stream = Stream("a", OPUS)
    readers = [stream.reader() for _ in range(3)]
    packets = [sound(number) for number in range(5)]
    for packet in packets:
        stream.publish(packet)
    stream.close()
    for reader in readers:
        assert [packet async for packet in reader] == packets
        assert reader.dropped == 0
    assert stream.published == 5


async def test_a_waiting_reader_is_woken_by_a_packet_and_by_the_end() -> None:
    stream = Stream("a", OPUS)
    reader = stream.reader()
    waiting = asyncio.create_task(anext(reader))
    await asyncio.sleep(0)
    stream.publish(sound(1))
    assert await waiting == sound(1)
    ending = asyncio.create_task(read(reader))
    await asyncio.sleep(0)
    stream.close()
    assert await ending == []


async def test_a_late_reader_starts_with_the_current_group_of_pictures() -> None:
    wanted: list[bool] = []
    stream = Stream("a", H264, on_keyframe_wanted=lambda: wanted.append(True))
    for number in range(8):
        stream.publish(picture(number, key=number in (0, 5)))
    reader = stream.reader()
    assert await queued(reader) == [5, 6, 7]
    stream.publish(picture(8))
    assert await queued(reader) == [8]
    assert wanted == []


async def test_without_a_whole_group_a_reader_asks_and_waits_for_a_key_frame() -> None:
    wanted: list[bool] = []
    stream = Stream("a", H264, on_keyframe_wanted=lambda: wanted.append(True))
    stream.publish(picture(0))
    reader = stream.reader()
    assert len(wanted) == 1
    stream.publish(picture(1))
    assert len(wanted) == 2
    stream.publish(picture(2, key=True))
    stream.publish(picture(3))
    assert await queued(reader) == [2, 3]
    assert len(wanted) == 2


async def test_a_reader_may_start_with_whatever_comes_next() -> None:
    stream = Stream("a", H264)
    stream.publish(picture(0, key=True))
    reader = stream.reader(from_keyframe=False)
    stream.publish(picture(1))
    assert await queued(reader) == [1]


async def test_a_damaged_frame_breaks_the_group_for_those_who_come_later() -> None:
    stream = Stream("a", H264)
    early = stream.reader()
    stream.publish(picture(0, key=True))
    stream.publish(picture(1, damaged=True))
    stream.publish(picture(2))
    late = stream.reader()
    stream.publish(picture(3, key=True))
    assert await queued(early) == [0, 1, 2, 3]
    assert await queued(late) == [3]


async def test_a_group_above_its_bound_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "GOP_BYTES", 25)
    stream = Stream("a", H264)
    for number in range(3):
        stream.publish(picture(number, key=number == 0, size=10))
    reader = stream.reader()
    assert reader.queued == 0
    stream.publish(picture(3, key=True))
    assert await queued(stream.reader()) == [3]


async def test_a_group_that_a_small_reader_cannot_hold_is_not_begun() -> None:
    stream = Stream("a", H264)
    for number in range(4):
        stream.publish(picture(number, key=number == 0))
    assert stream.reader(capacity=3).queued == 0
    assert stream.reader(capacity=4).queued == 4
    assert stream.reader(capacity_bytes=39).queued == 0


@pytest.mark.parametrize(("capacity", "capacity_bytes"), [(3, 1000), (100, 30)])
async def test_a_slow_reader_drops_to_the_next_key_frame_and_counts(
    capacity: int, capacity_bytes: int
) -> None:
    wanted: list[bool] = []
    stream = Stream("a", H264, on_keyframe_wanted=lambda: wanted.append(True))
    slow, quick = stream.reader(capacity, capacity_bytes), stream.reader()
    for number in range(4):
        stream.publish(picture(number, key=number == 0))
    assert slow.queued == 0
    assert slow.dropped == 4
    assert wanted[-1]
    stream.publish(picture(4))
    stream.publish(picture(5, key=True))
    stream.publish(picture(6))
    assert slow.dropped == 5
    assert await queued(slow) == [5, 6]
    assert await queued(quick) == [0, 1, 2, 3, 4, 5, 6]
    assert quick.dropped == 0


async def test_slow_sound_loses_what_waited_and_goes_on() -> None:
    stream = Stream("a", OPUS)
    reader = stream.reader(capacity=2)
    for number in range(3):
        stream.publish(sound(number))
    assert reader.dropped == 2
    assert await anext(reader) == sound(2)


async def test_leaving_stops_delivery_and_ends_the_iteration() -> None:
    stream = Stream("a", OPUS)
    async with stream.reader() as reader:
        stream.publish(sound(0))
        assert stream.readers == 1
    assert stream.readers == 0
    stream.publish(sound(1))
    assert await read(reader) == []
    reader.close()


async def test_a_closed_stream_takes_nothing_and_ends_its_readers() -> None:
    wanted: list[bool] = []
    stream = Stream("a", H264, on_keyframe_wanted=lambda: wanted.append(True))
    stream.publish(picture(0, key=True))
    reader = stream.reader()
    stream.close()
    stream.publish(picture(1))
    assert await read(reader) == [0]
    assert await read(stream.reader()) == []
    stream.request_keyframe()
    assert (stream.published, stream.readers, wanted) == (1, 0, [])


def test_a_follower_is_given_the_group_of_pictures_then_each_packet_and_the_end_once() -> None:
    stream = Stream("a", H264)
    for number in range(3):
        stream.publish(picture(number, key=number == 0))
    told: list[int | str] = []
    follower = stream.follow(lambda packet: told.append(packet.pts // 3600), lambda: told.append("end"))
    assert told == [0, 1, 2]
    stream.publish(picture(3))
    assert told == [0, 1, 2, 3]
    assert follower.queued == 0
    stream.close()
    stream.close()
    follower.close()
    assert told == [0, 1, 2, 3, "end"]


def test_a_follower_waits_for_a_key_frame_and_leaves_out_what_is_shown_before_it() -> None:
    asked: list[bool] = []
    stream = Stream("a", H264, on_keyframe_wanted=lambda: asked.append(True))
    stream.publish(picture(0))
    told: list[int] = []
    stream.follow(lambda packet: told.append(packet.pts // 3600), lambda: None)
    assert asked
    stream.publish(picture(1))
    stream.publish(picture(4, key=True))
    stream.publish(picture(3))
    stream.publish(picture(5))
    assert told == [4, 5]


def test_a_follower_that_closed_is_told_nothing_not_even_the_end() -> None:
    stream = Stream("a", OPUS)
    told: list[object] = []
    follower = stream.follow(told.append, lambda: told.append("end"))
    stream.publish(sound(1))
    follower.close()
    stream.publish(sound(2))
    stream.close()
    assert told == [sound(1)]
    assert stream.readers == 0


def test_who_follows_a_closed_stream_is_told_so() -> None:
    stream = Stream("a", OPUS)
    stream.close()
    told: list[object] = []
    stream.follow(told.append, lambda: told.append("end"))
    assert told == ["end"]
