"""A street on call: people who walk (Debian's vtest.avi) or nobody, with the time burnt into a margin.

    python -m tests.peers.street_program ADDRESS PORT SCENE_FILE          until it is killed

rtsp://ADDRESS:PORT/street shows what SCENE_FILE says at the moment: "people" (frames 40 to 80 forth and back,
so that nobody jumps), "empty" (the same yard, the median of the clip), "black" (nothing, not even the margin)
or "frozen" (the last coded picture again and again). The margin below holds a clock (demo.stamp).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from media.codecs import CLOCK, VideoCodec, VideoEncoder, VideoTarget
from media.packet import Format, Packet
from media.picture import Picture
from media.stream import Stream
from media.stream_source import NoSuchStream
from orchestrator.demo import stamp
from stream_relay.rtsp_server import RtspServer

CLIP = "/usr/share/doc/opencv-doc/examples/data/vtest.avi"
WIDTH, HEIGHT, MARGIN, FPS = 768, 576, 96, 10
FIRST, LAST = 40, 80
EMPTY_STEP = 30
BITRATE = 2_500_000


def read_clip() -> tuple[stamp.Rgb8, list[stamp.Rgb8]]:
    """The yard without people, and people in it; blue, green, red."""
    capture = cv2.VideoCapture(CLIP)
    some, people = [], []
    number = 0
    while capture.grab():
        if number % EMPTY_STEP == 0 or FIRST <= number < LAST:
            frame = np.asarray(capture.retrieve()[1], np.uint8)
            if number % EMPTY_STEP == 0:
                some.append(frame)
            if FIRST <= number < LAST:
                people.append(frame)
        number += 1
    return np.median(np.stack(some), axis=0).astype(np.uint8), people


def there_and_back(length: int) -> Iterator[int]:
    while True:
        yield from range(length)
        yield from range(length - 2, 0, -1)


class Scene:
    """What the file asks for, coded."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._empty, self._people = read_clip()
        self._walk = there_and_back(len(self._people))
        self._picture = np.zeros((HEIGHT + MARGIN, WIDTH, 3), np.uint8)
        self._encoder = VideoEncoder(
            VideoTarget(VideoCodec.H264, WIDTH, HEIGHT + MARGIN, FPS, BITRATE, "42e01f", vbv_frames=FPS)
        )
        self._scene = ""
        self._last_whole: Packet | None = None

    def shoot(self, number: int) -> Sequence[Packet]:
        """The picture of this number, a key frame each second."""
        scene, pts = self._file.read_text().strip(), round(number * CLOCK / FPS)
        if scene == "frozen" and self._last_whole is not None:
            return [replace(self._last_whole, pts=pts, arrival=time.monotonic())]
        if number % FPS == 0 or scene != self._scene:
            self._encoder.request_key_frame()
        self._scene = scene
        self._draw(scene)
        coded = cv2.cvtColor(self._picture, cv2.COLOR_BGR2YUV_I420)
        packets = self._encoder.encode(Picture.over(np.asarray(coded, np.uint8), pts))
        self._last_whole = next((one for one in packets if one.keyframe), self._last_whole)
        return packets

    def _draw(self, scene: str) -> None:
        if scene == "black":
            self._picture[:] = 0
            return
        self._picture[:HEIGHT] = self._people[next(self._walk)] if scene == "people" else self._empty
        stamp.paint(self._picture[HEIGHT:, :, ::-1], round(time.time() * 1000))


async def film(scene: Scene, stream: Stream) -> None:
    began, number = time.monotonic(), 0
    while True:
        await asyncio.sleep(began + number / FPS - time.monotonic())
        for packet in await asyncio.to_thread(scene.shoot, number):
            stream.publish(packet)
        number += 1


class Shelf:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @asynccontextmanager
    async def open(self, path: str, user: str | None) -> AsyncIterator[Sequence[Stream]]:
        if path.strip("/") != "street":
            raise NoSuchStream(path)
        yield (self._stream,)


async def main(address: str, port: str, file: str) -> None:
    scene = await asyncio.to_thread(Scene, Path(file))
    stream = Stream("street", Format("H264", CLOCK, parameters={"packetization-mode": "1"}))
    server = RtspServer(Shelf(stream))
    await server.start(address, int(port))
    await film(scene, stream)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
