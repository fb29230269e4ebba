"""What a tile shows: pictures in the order of showing, and at once those that wait in the stream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mcu_bridge.tile_decoder import INBOX_FRAMES, TileDecoder
from mcu_bridge.video_composer import VideoComposer
from media.codec_worker import CodecPool
from media.packet import Format, Packet
from media.picture import Picture
from media.stream import Stream
from protocols.payloads.bit_reader import BitReader, rbsp
from protocols.payloads.h264 import NalType, join_byte_stream, split_byte_stream
from tests.media.coded_pictures import coded
from tests.peers.waiting import until_true


class Screen(VideoComposer):
    """Remembers what it is shown."""

    def __init__(self) -> None:
        super().__init__(64, 64)
        self.shown: list[Picture] = []

    def show(self, site: str, picture: Picture) -> None:
        self.shown.append(picture)


@pytest.fixture
async def pool() -> AsyncIterator[CodecPool]:
    pool = CodecPool(1)
    yield pool
    await pool.aclose()


def ramp(count: int, *, b_frames: int, gop: int) -> list[Packet]:
    """Pictures that become brighter by two each time."""
    return coded([(20 + 2 * number, 128, 128) for number in range(count)], b_frames=b_frames, gop=gop)


@pytest.mark.parametrize("said", [True, False])
async def test_b_frames_are_shown_in_their_order(pool: CodecPool, said: bool) -> None:
    """Also where the parameter sets keep quiet about them, and the decoder has to find out."""
    stream = Stream("camera:1", Format("H264", 90_000))
    screen = Screen()
    decoder = TileDecoder("a", stream, pool, asyncio.get_running_loop())
    decoder.use([screen], small=False)
    await asyncio.sleep(0)
    for packet in ramp(60, b_frames=2, gop=60):
        data = packet.data if said else without_vui(packet.data)
        stream.publish(replace(packet, data=data))
        await asyncio.sleep(0.002)
    await until_true(lambda: len(screen.shown) >= 54, "the pictures", 5.0, lambda: str(len(screen.shown)))
    times = [picture.time for picture in screen.shown]
    assert times == sorted(times)
    brightness = [float(picture.y.mean()) for picture in screen.shown]
    assert all(later > sooner - 1 for sooner, later in itertools.pairwise(brightness))
    await decoder.aclose()


async def test_a_long_group_of_pictures_that_waits_is_shown_at_once(pool: CodecPool) -> None:
    stream = Stream("camera:1", Format("H264", 90_000))
    packets = ramp(100, b_frames=0, gop=200)
    assert len(packets) > INBOX_FRAMES
    for packet in packets:
        stream.publish(packet)
    screen = Screen()
    decoder = TileDecoder("a", stream, pool, asyncio.get_running_loop())
    decoder.use([screen], small=False)
    await until_true(lambda: bool(screen.shown) and screen.shown[-1].time == 99 * 3600, "the last", 5.0)
    await decoder.aclose()


def without_vui(access_unit: bytes) -> bytes:
    """Its main profile SPS (ITU-T H.264 7.3.2.1.1) with vui_parameters_present_flag cleared."""
    return join_byte_stream(
        tuple(_cut(nal) if nal[0] & 0x1F == NalType.SPS else nal for nal in split_byte_stream(access_unit))
    )


def _cut(sps: bytes) -> bytes:
    data = rbsp(sps)
    reader = BitReader(data)
    reader.u(24)
    for _ in range(5):  # id, frame_num, pic_order_cnt_type 0 and its lsb, reference frames
        reader.ue()
    reader.u(1)
    reader.ue()
    reader.ue()
    reader.u(2)
    assert reader.u(1) == 0, "no cropping"
    bits = "".join(f"{byte:08b}" for byte in data)[: 8 * len(data) - reader._left] + "01"
    bits += "0" * (-len(bits) % 8)
    return sps[:1] + bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
