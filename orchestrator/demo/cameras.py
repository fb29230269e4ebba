"""Two cameras for the demonstration, in a process of their own, over RTSP.

    python -m orchestrator.demo.cameras ADDRESS PORT [CLIP [FIRST LAST]]       until SIGTERM

rtsp://ADDRESS:PORT/street plays CLIP (from second FIRST to LAST), which shows people, again and again.
/clock is a camera of one colour with the time burnt in (`stamp`), and a tone as G.711, so that delay, picture
and sound can be measured wherever they arrive. Says "ready" on its output.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np

from media.codecs import CLOCK, VideoCodec, VideoEncoder, VideoTarget
from media.packet import Format, Packet
from media.picture import Picture
from media.sound_codecs import RATE, SoundCodec, sound_encoder
from media.stream import Stream
from media.stream_source import NoSuchStream
from orchestrator.demo import stamp
from orchestrator.demo.clip import Clip
from stream_relay.rtsp_server import RtspServer

STREET, GATE_CLOCK = "street", "clock"
TONE_HZ = 700.0
WIDTH, HEIGHT, FPS = 640, 360, 15
BITRATE = 900_000
LONGEST_CLIP = 20.0
"""Seconds of the clip that are kept coded in memory."""
G711_RATE, G711_SAMPLES = 8000, 160


class Footage:
    """A clip, coded once as a camera would: no B-frames, a key frame a second."""

    def __init__(self, clip: Clip) -> None:
        self.packets: list[Packet] = []
        first, last = clip.first or 0.0, clip.last or float("inf")
        with av.open(str(clip.path)) as container:
            stream = container.streams.video[0]
            self.fps = max(1, min(30, round(float(stream.average_rate or 25))))
            size = (stream.width // 2 * 2, stream.height // 2 * 2)
            target = VideoTarget(VideoCodec.H264, *size, self.fps, BITRATE, "4de01f", vbv_frames=self.fps)
            encoder = VideoEncoder(target)
            wanted = (one for one in container.decode(stream) if first <= (one.time or 0.0) < last)
            for number, frame in enumerate(wanted):
                if number >= LONGEST_CLIP * self.fps:
                    break
                if number % self.fps == 0:
                    encoder.request_key_frame()
                image = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)[: size[1], : size[0]]
                self.packets += encoder.encode(_picture(image, round(number * CLOCK / self.fps)))
        self.parameters = {"profile-level-id": "4de01f", "packetization-mode": "1"}

    async def play(self, stream: Stream) -> None:
        """Again and again, in its own time."""
        began, step = time.monotonic(), CLOCK // self.fps
        number = 0
        while True:
            await asyncio.sleep(began + number / self.fps - time.monotonic())
            packet = self.packets[number % len(self.packets)]
            stream.publish(replace(packet, pts=number * step, arrival=time.monotonic()))
            number += 1


async def film_clock(stream: Stream) -> None:
    """The time, as soon as it is painted."""
    encoder = VideoEncoder(
        VideoTarget(VideoCodec.H264, WIDTH, HEIGHT, FPS, BITRATE, "42e01f", vbv_frames=FPS)
    )
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    began, number = time.monotonic(), 0
    while True:
        await asyncio.sleep(began + number / FPS - time.monotonic())
        if number % FPS == 0:
            encoder.request_key_frame()
        stamp.paint(image, round(time.time() * 1000))
        pts = round(number * CLOCK / FPS)
        for packet in await asyncio.to_thread(encoder.encode, _picture(image[:, :, ::-1], pts)):
            stream.publish(packet)
        number += 1


async def sound_tone(stream: Stream) -> None:
    encoder = sound_encoder(SoundCodec.PCMA)
    time_line = np.arange(RATE // 50) / RATE
    began, number = time.monotonic(), 0
    while True:
        await asyncio.sleep(began + number / 50 - time.monotonic())
        wave = np.sin(2 * np.pi * TONE_HZ * (time_line + number / 50)) * 8000
        payload = encoder.encode(np.rint(wave).astype(np.int16))
        stream.publish(Packet(payload, number * G711_SAMPLES, time.monotonic()))
        number += 1


def _picture(bgr: stamp.Rgb8, pts: int) -> Picture:
    coded = cv2.cvtColor(np.ascontiguousarray(bgr), cv2.COLOR_BGR2YUV_I420)
    return Picture.over(np.asarray(coded, np.uint8), pts)


class Shelf:
    """What is played under which path."""

    def __init__(self, streams: dict[str, Sequence[Stream]]) -> None:
        self._streams = streams

    @asynccontextmanager
    async def open(self, path: str, user: str | None) -> AsyncIterator[Sequence[Stream]]:
        streams = self._streams.get(path.strip("/"))
        if streams is None:
            raise NoSuchStream(path)
        yield streams


async def serve(address: str, port: int, clip: Clip | None) -> None:
    """The cameras until SIGTERM. Raises OSError when the port is taken or the clip cannot be read."""
    shelf: dict[str, Sequence[Stream]] = {}
    works: list[Coroutine[None, None, None]] = []
    if clip is not None:
        footage = await asyncio.to_thread(Footage, clip)
        street = Stream(STREET, Format("H264", CLOCK, parameters=footage.parameters))
        shelf[STREET] = (street,)
        works.append(footage.play(street))
    clock = Stream(GATE_CLOCK, Format("H264", CLOCK, parameters={"packetization-mode": "1"}))
    tone = Stream(f"{GATE_CLOCK}/sound", Format("PCMA", G711_RATE))
    shelf[GATE_CLOCK] = (clock, tone)
    works += [film_clock(clock), sound_tone(tone)]
    server = RtspServer(Shelf(shelf))
    await server.start(address, port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    playing = [asyncio.create_task(work) for work in works]
    stopping = asyncio.create_task(stop.wait())
    print("ready", flush=True)
    try:
        done, _ = await asyncio.wait((*playing, stopping), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*playing, stopping):
            task.cancel()
        await server.aclose()


def main(arguments: Sequence[str]) -> None:
    address, port, *rest = arguments
    clip = Clip(Path(rest[0]), *map(float, rest[1:])) if rest else None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(address, int(port), clip))


if __name__ == "__main__":
    main(sys.argv[1:])
