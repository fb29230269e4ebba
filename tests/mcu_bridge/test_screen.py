"""A composed content and its encoders: one composition, one encode a class, each at its own rate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from mcu_bridge.layouts import FULL
from mcu_bridge.picture_plan import Content, EncoderClass
from mcu_bridge.screen import EncoderOutlet, Screen
from media.codec_worker import CodecPool
from media.codecs import CLOCK, VideoCodec, VideoDecoder
from media.packet import Packet
from media.picture import Picture
from media.stream import Reader
from tests.mcu_bridge.rtp_peer import RED
from tests.peers.waiting import until_true

MOSAIC = Content()
LARGE = EncoderClass(MOSAIC, "H264", 640, 360, 25, 600_000)
SLOW = EncoderClass(MOSAIC, "H264", 320, 180, 10, 100_000)
OTHER = EncoderClass(MOSAIC, "VP8", 320, 180, 25, 200_000)
PROFILE = "42e01f"
TICK = CLOCK // 25


@pytest.fixture
async def pool() -> AsyncIterator[CodecPool]:
    pool = CodecPool(1)
    yield pool
    await pool.aclose()


@pytest.fixture
async def screen(pool: CodecPool) -> AsyncIterator[Screen]:
    screen = Screen(MOSAIC, 640, 360, pool=pool, loop=asyncio.get_running_loop(), captions=None)
    screen.arrange(FULL, ("a",))
    screen.composer.show("a", Picture.blank(640, 360, RED))
    yield screen
    await screen.aclose()
    assert pool.lanes == 0


async def turned(screen: Screen, ticks: int) -> None:
    """So many ticks, none of them late."""
    for tick in range(ticks):
        before = screen.composer.counts.composed
        screen.tick(tick * TICK)
        # mypy cannot infer a lambda with a default, which binds the loop's value
        await until_true(lambda before=before: screen.composer.counts.composed > before, "a picture", 2.0)  # type: ignore[misc]
        for encoder in screen.encoders:
            assert encoder._lane.drain(2.0)
        await asyncio.sleep(0)


async def packets(reader: Reader, encoder: EncoderOutlet) -> list[Packet]:
    encoder.stream.close()
    return [packet async for packet in reader]


async def test_each_class_has_its_size_rate_and_codec(screen: Screen) -> None:
    made = {key: screen.encoder(key, PROFILE) for key in (LARGE, SLOW, OTHER)}
    assert screen.encoder(LARGE, PROFILE) is made[LARGE]
    readers = {key: encoder.stream.reader() for key, encoder in made.items()}
    await turned(screen, 25)
    assert screen.composer.counts.composed == 25
    for key, encoder in made.items():
        coded = await packets(readers[key], encoder)
        assert len(coded) == key.frame_rate
        assert coded[0].keyframe
        decoder = VideoDecoder(VideoCodec(key.codec))
        pictures = [picture for packet in coded for picture in decoder.decode(packet)]
        assert (pictures[-1].width, pictures[-1].height) == (key.width, key.height)
        means = [int(plane.mean()) for plane in pictures[-1].planes]
        assert all(abs(mean - part) <= 6 for mean, part in zip(means, RED, strict=True)), means
        times = [packet.pts for packet in coded]
        assert times == sorted(set(times))


async def test_a_stopped_class_leaves_the_others_running(screen: Screen, pool: CodecPool) -> None:
    stopped, kept = screen.encoder(SLOW, PROFILE), screen.encoder(LARGE, PROFILE)
    assert pool.lanes == 3
    await screen.stop(SLOW)
    await screen.stop(SLOW)
    assert pool.lanes == 2
    assert stopped.stream.closed
    reader = kept.stream.reader()
    await turned(screen, 3)
    assert len(await packets(reader, kept)) == 3
    assert screen.encoder(SLOW, PROFILE) is not stopped


async def test_without_a_class_nothing_is_composed(screen: Screen) -> None:
    for tick in range(5):
        screen.tick(tick * TICK)
    await asyncio.sleep(0.05)
    assert screen.composer.counts.composed == 0


async def test_requests_for_a_key_frame_are_coalesced(screen: Screen) -> None:
    encoder = screen.encoder(LARGE, PROFILE)
    reader = encoder.stream.reader()
    for tick in range(25):
        for _ in range(20):  # every receiver of the class asks
            encoder.stream.request_keyframe()
        before = screen.composer.counts.composed
        screen.tick(tick * TICK)
        # mypy cannot infer a lambda with a default, which binds the loop's value
        await until_true(lambda before=before: screen.composer.counts.composed > before, "a picture", 2.0)  # type: ignore[misc]
        assert encoder._lane.drain(2.0)
        await asyncio.sleep(0)
    coded = await packets(reader, encoder)
    assert sum(packet.keyframe for packet in coded) <= 3


@pytest.mark.parametrize("codec", ["H263", "H261"])
async def test_cif_has_the_canvas_in_its_shape_between_bars(screen: Screen, codec: str) -> None:
    """16:9 on a picture of 4:3, whose samples are 12:11: 216 of its 288 lines."""
    key = EncoderClass(MOSAIC, codec, 352, 288, 25, 768_000)
    encoder = screen.encoder(key, PROFILE)
    reader = encoder.stream.reader()
    await turned(screen, 3)
    decoder = VideoDecoder(VideoCodec(codec))
    picture = [picture for packet in await packets(reader, encoder) for picture in decoder.decode(packet)][-1]
    assert (picture.width, picture.height) == (352, 288)
    assert picture.aspect == pytest.approx(4 / 3, abs=0.01)
    bright = picture.y.mean(axis=1) > (RED[0] + 16) / 2
    assert [int(row) for row in np.flatnonzero(np.diff(bright.astype(int)))] == pytest.approx(
        [35, 251], abs=2
    )
