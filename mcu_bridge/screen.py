"""One composed content and the encoders of its classes, all on codec threads.

    screen = Screen(content, width, height, ...)
    screen.arrange(layout, sites); screen.show(site, picture)
    encoder = screen.encoder(encoder_class)         an `EncoderOutlet`, made at the first call
    screen.tick(at)                                 25 times a second: compose, then encode each class
    await screen.aclose()

A tick that finds the composer still at work replaces the one waiting: late frames are dropped, never
queued. Composing hands its canvas to each class's lane in the thread, without a hop to the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from mcu_bridge.captions import CaptionPainter
from mcu_bridge.cif_formats import SAMPLE_ASPECT
from mcu_bridge.layouts import Layout
from mcu_bridge.logo import Logo
from mcu_bridge.outlet import Outlet
from mcu_bridge.picture_plan import Content, EncoderClass
from mcu_bridge.video_composer import VideoComposer, scaled
from media.codec_worker import CodecPool, LatestInbox
from media.codecs import CLOCK, FIXED_SIZES, VideoCodec, VideoEncoder, VideoTarget
from media.packet import Format, Packet
from media.picture import Picture
from media.stream import Stream

# RTP payloads of single NAL unit packets may not exceed this with all headers on a 1500-byte path.
FRAME_RATE = 25
_LAG = 0.03
"""Seconds from a picture's arrival to its canvas until they are measured: decoding, half a tick."""
_LIVE = 0.5
"""An older picture is a still: its age says nothing of the way."""
_KEY_FRAME = 16_000
"""Bits that a key frame of any class may take: of less, libx264's own words leave nothing for the picture."""
_CIF_BUFFER = 4.0
"""Frame times that a key frame of H.261 or H.263 may take: their coarsest quantizer needs so much."""


class EncoderOutlet:
    """One running encoder and the receivers of its stream."""

    def __init__(
        self, key: EncoderClass, pool: CodecPool, loop: asyncio.AbstractEventLoop, profile_level_id: str
    ) -> None:
        self.key = key
        self.stream = Stream(str(key), Format(key.codec, CLOCK), on_keyframe_wanted=self._want_keyframe)
        self.outlet = Outlet(self.stream)
        codec = VideoCodec(key.codec)
        frame = key.bitrate_bps / key.frame_rate
        self._encoder = VideoEncoder(
            VideoTarget(
                codec=codec,
                width=key.width,
                height=key.height,
                fps=key.frame_rate,
                bitrate=key.bitrate_bps,
                profile_level_id=profile_level_id,
                max_slice_bytes=key.max_nal or 0,
                vbv_frames=_CIF_BUFFER if codec in FIXED_SIZES else max(1.0, _KEY_FRAME / frame),
            )
        )
        self._interval = CLOCK // key.frame_rate
        self._next = 0
        self._lane = pool.lane(
            self._encode, inbox=LatestInbox[Picture](), deliver=self._publish, loop=loop, name=str(key)
        )
        self._task = loop.create_task(self.outlet.run(), name=f"outlet {key}")

    def put(self, picture: Picture) -> None:
        """A composed picture, from the composer's thread; frames beyond the class's rate are passed over."""
        if picture.time < self._next:
            return
        ahead = (self._next or picture.time) + self._interval
        # A quarter of a frame of slack: ticks of 25 a second make 15 and 10 without beating.
        self._next = max(ahead, picture.time - self._interval // 4)
        self._lane.put(picture)

    def _encode(self, picture: Picture) -> list[Packet]:
        key = self.key
        if (picture.width, picture.height) != (key.width, key.height):
            cif = self._encoder.target.codec in FIXED_SIZES
            picture = scaled(picture, key.width, key.height, SAMPLE_ASPECT if cif else 1.0)
        return self._encoder.encode(picture)

    def _publish(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            self.stream.publish(packet)

    def _want_keyframe(self) -> None:
        self._encoder.request_key_frame()

    async def aclose(self) -> None:
        await self._lane.aclose()
        self.stream.close()
        await self._task


class Screen:
    """What is composed for one content; see the module's head."""

    def __init__(
        self,
        content: Content,
        width: int,
        height: int,
        *,
        pool: CodecPool,
        loop: asyncio.AbstractEventLoop,
        captions: CaptionPainter | None,
        logo: Logo | None = None,
    ) -> None:
        self.content = content
        self.began: int | None = None
        """When it was to be composed first, 1/90000 s."""
        self.shown = False
        self.composer = VideoComposer(width, height, captions, logo)
        self._pool = pool
        self._loop = loop
        self._encoders: dict[EncoderClass, EncoderOutlet] = {}
        self._running: tuple[EncoderOutlet, ...] = ()
        self._lag = _LAG
        self._newest = 0.0
        self._lane = pool.lane(
            self._compose, inbox=LatestInbox[int](), deliver=self._distribute, name=f"compose {content}"
        )

    @property
    def encoders(self) -> tuple[EncoderOutlet, ...]:
        return self._running

    def encoder(self, key: EncoderClass, profile_level_id: str) -> EncoderOutlet:
        """The encoder of a class, started at the first call."""
        if key not in self._encoders:
            self._encoders[key] = EncoderOutlet(key, self._pool, self._loop, profile_level_id)
            self._running = tuple(self._encoders.values())
        return self._encoders[key]

    async def stop(self, key: EncoderClass) -> None:
        encoder = self._encoders.pop(key, None)
        self._running = tuple(self._encoders.values())
        if encoder is not None:
            await encoder.aclose()

    def arrange(self, layout: Layout, sites: Sequence[str | None]) -> None:
        self.composer.arrange(layout, sites)

    def tick(self, at: int) -> None:
        """`at` in 1/90000 s."""
        if self._running:
            self._lane.put(at)

    def _compose(self, at: int) -> list[Picture]:
        now = time.monotonic()
        newest = self.composer.newest()
        if newest > self._newest and now - newest < _LIVE:
            self._lag += (now - newest - self._lag) / 16  # pictures and ticks beat; lips follow slowly
        self._newest = newest
        picture = self.composer.compose(at, now - self._lag)
        return [] if picture is None else [picture]

    def _distribute(self, pictures: Sequence[Picture]) -> None:
        for encoder in self._running:
            for picture in pictures:
                encoder.put(picture)

    async def aclose(self) -> None:
        await self._lane.aclose()
        for encoder in tuple(self._encoders.values()):
            await encoder.aclose()
        self._encoders.clear()
        self._running = ()
