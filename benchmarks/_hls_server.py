"""The edge in a process of its own, its broadcast of parts of 200 kB: `_hls_server PORT FOLDER tls|plain`.

Says the path of a part once it is there, and serves until its standard input closes.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import uvloop
from av.video.codeccontext import VideoCodecContext

from config.settings import Edge, Http, Network, Node, Settings
from foundation.desks import BroadcastPlan, BroadcastSpec
from media.packet import Format, Packet
from media.stream import Stream
from media.stream_source import NoSuchStream
from orchestrator.edge_process import edge_part

PART_BYTES, RATE, FRAMES = 200_000, 25, 12
"""Twelve frames make a part of 0.48 s."""


class Footage:
    """A StreamSource of one stream: true parameter sets, slices of the wished size."""

    def __init__(self) -> None:
        self.stream = Stream("programme:bench", Format("H264", 90_000))

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        if stream_id != self.stream.id:
            raise NoSuchStream("there is no sound")
        yield self.stream

    async def run(self) -> None:
        key, size = key_frame(), PART_BYTES // FRAMES
        began, number = time.monotonic(), 0
        while True:
            first = number % RATE == 0
            data = (key if first else b"\x00\x00\x00\x01\x41").ljust(size, b"\xa5")
            self.stream.publish(Packet(data, number * 3600, time.monotonic(), first))
            number += 1
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))


def key_frame() -> bytes:
    """A true one, with its parameter sets."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 1280, 720, "yuv420p"
    encoder.time_base = Fraction(1, RATE)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency"}
    picture = av.VideoFrame.from_ndarray(np.full((1080, 1280), 128, np.uint8), "yuv420p")  # grey, thus small
    (packet,) = encoder.encode(picture)
    return bytes(packet)


async def _serve(port: int, folder: Path, tls: bool) -> None:
    settings = Settings(
        node=Node(id="bench", name="bench"),
        networks=(Network(name="bench", bind="127.0.0.1"),),
        data=folder,
        http=Http(bind="127.0.0.1", tls=tls, trusted_proxies=() if tls else ("127.0.0.1",)),
        edge=Edge(bind="127.0.0.1", port=port),
    )
    footage = Footage()
    feeding = asyncio.create_task(footage.run())
    async with edge_part(settings, footage) as broadcasts:
        await broadcasts.set_plan(BroadcastPlan((BroadcastSpec("bench", "bench", footage.stream.id),)))
        channel = broadcasts.channel("bench")
        assert channel is not None, "it is in the plan"
        playlist = channel.live.playlist
        await channel.live.wait_for(playlist.first, 1)
        print(f"/live/bench/part-{playlist.first}.0.m4s", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "tls"))
