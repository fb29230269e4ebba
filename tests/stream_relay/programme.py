"""A programme in real time: coloured pictures with their number burnt in, and a tone; as a StreamSource.

programme = Programme("programme:c1", RED); task = create_task(programme.run())
programme.shown_at[number] -> monotonic seconds at which the picture of that number went out
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from media.packet import Format, Packet
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamUnavailable
from tests.media.coded_pictures import sound

RATE = 25
BITS = 10
LOOP = 250
"""Pictures before the numbers begin again: 10 s."""
SIZE = (480, 272)
WHITE, BLACK = 235, 16


@cache
def numbered(colour: tuple[int, int, int], size: tuple[int, int] = SIZE) -> list[tuple[bytes, bool]]:
    """LOOP pictures of a colour (Y, Cb, Cr), a key frame a second; the number in BITS blocks at the top."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = *size, "yuv420p", RATE
    encoder.thread_count = 1
    encoder.options = {
        "preset": "ultrafast",
        "x264-params": f"keyint={RATE}:min-keyint={RATE}:scenecut=0:bframes=0:threads=1:"
        "repeat-headers=1:annexb=1",
    }
    width, height = size
    made = []
    for number in range(LOOP):
        planes = np.empty((height * 3 // 2, width), np.uint8)
        planes[:height] = colour[0]
        for bit in range(BITS):
            block = slice(bit * width // BITS, (bit + 1) * width // BITS)
            planes[: height // 6, block] = WHITE if number >> (BITS - 1 - bit) & 1 else BLACK
        planes[height : height * 5 // 4], planes[height * 5 // 4 :] = colour[1], colour[2]
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts = number
        made += encoder.encode(frame)
    made += encoder.encode(None)
    return [(bytes(one), one.is_keyframe) for one in made]


class Programme:
    """`run` publishes until cancelled; `open` gives what runs now. `silent` has no sound."""

    def __init__(
        self,
        stream_id: str,
        colour: tuple[int, int, int],
        *,
        silent: bool = False,
        sound_format: Format | None = None,
    ) -> None:
        self.id = stream_id
        self.colour = colour
        self.holders = 0
        self.opened = 0
        self.shown_at: dict[int, float] = {}
        self.video: Stream | None = None
        self.sound: Stream | None = None
        self._silent = silent
        self._sound_format = sound_format or Format("OPUS", 48_000, 2)

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        if stream_id not in (self.id, f"{self.id}/sound"):
            raise NoSuchStream(f"there is no stream {stream_id!r}")
        found = self.sound if stream_id.endswith("/sound") else self.video
        if self.video is None:
            raise StreamUnavailable("the programme rests")
        if found is None:
            raise NoSuchStream("it is silent")
        self.holders += 1
        self.opened += 1
        try:
            yield found
        finally:
            self.holders -= 1

    async def run(self) -> None:
        self.video = Stream(self.id, Format("H264", 90_000))
        self.sound = None if self._silent else Stream(f"{self.id}/sound", self._sound_format)
        pictures = await asyncio.to_thread(numbered, self.colour)
        heard = await asyncio.to_thread(_tone, self._sound_format.codec)
        per_second = 50 if self._sound_format.codec != "MPEG4-GENERIC" else 48_000 / 1024
        began, number, said = time.monotonic(), 0, 0
        try:
            while True:
                now = time.monotonic()
                while said < (now - began) * per_second and self.sound is not None:
                    ticks = round(said * self._sound_format.clock_rate / per_second)
                    self.sound.publish(Packet(heard[said % len(heard)], ticks, began + said / per_second))
                    said += 1
                data, key = pictures[number % LOOP]
                self.shown_at[number % LOOP] = now
                self.video.publish(Packet(data, number * 3600, now, key))
                number += 1
                await asyncio.sleep(max(began + number / RATE - time.monotonic(), 0))
        finally:
            video, sounding = self.video, self.sound
            self.video = self.sound = None
            video.close()
            if sounding is not None:
                sounding.close()

    async def wants(self, holders: int) -> None:
        while self.holders != holders:  # noqa: ASYNC110 - a hold is a plain number here
            await asyncio.sleep(0.01)


@cache
def _tone(codec: str) -> list[bytes]:
    if codec == "PCMA":
        wave = 8000 * np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000)
        encoder = av.AudioCodecContext.create("pcm_alaw", "w")
        encoder.sample_rate, encoder.layout, encoder.format = 8000, "mono", av.AudioFormat("s16")
        encoder.open()
        made = []
        for at in range(0, 8000, 160):
            frame = av.AudioFrame.from_ndarray(wave[None, at : at + 160].astype(np.int16), "s16", "mono")
            frame.sample_rate = 8000
            made += [bytes(one) for one in encoder.encode(frame)]
        return made
    packets, _ = sound("libopus", 2.0)
    return [packet.data for packet in packets[2:100]]


@asynccontextmanager
async def playing(programme: Programme) -> AsyncIterator[Programme]:
    """The programme runs while the context is open, and has begun."""
    running = asyncio.create_task(programme.run())
    try:
        while not programme.shown_at:  # noqa: ASYNC110 - the first picture is its sign
            await asyncio.sleep(0.01)
        yield programme
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
