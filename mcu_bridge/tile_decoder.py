"""Decodes a site's picture while somebody needs its pixels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mcu_bridge.video_composer import VideoComposer
from media.codec_worker import CodecPool, KeyFrameInbox
from media.codecs import CLOCK, VideoCodec, VideoDecoder
from media.packet import Packet
from media.picture import Picture
from media.stream import Stream

INBOX_FRAMES = 50
REORDERED = CLOCK // 2
"""A longer step back is another time line."""


class TileDecoder:
    """One decoder for all screens that show the site; started with the first, closed with the last."""

    def __init__(self, site: str, stream: Stream, pool: CodecPool, loop: asyncio.AbstractEventLoop) -> None:
        self.site = site
        self._stream = stream
        self._decoder = VideoDecoder(VideoCodec(stream.format.codec))
        self._screens: tuple[VideoComposer, ...] = ()
        self._latest: Picture | None = None
        self._inbox = KeyFrameInbox[Packet](INBOX_FRAMES, lambda packet: packet.keyframe)
        self._lane = pool.lane(
            self._decoder.decode, inbox=self._inbox, deliver=self._show, name=f"decode {site}"
        )
        self._task = loop.create_task(self._run(), name=f"decode {site}")

    def use(self, screens: Sequence[VideoComposer], *, small: bool) -> None:
        """Show on these screens from now on; `small` tiles are decoded without the loop filter."""
        added = [screen for screen in screens if screen not in self._screens]
        self._screens = tuple(screens)
        self._decoder.skip_loop_filter = small
        latest = self._latest
        if latest is not None:
            for screen in added:
                screen.show(self.site, latest)

    async def _run(self) -> None:
        async with self._stream.reader() as reader:
            # A group of pictures may wait here already, and a camera makes no key frame before its time.
            self._inbox.limit = INBOX_FRAMES + reader.queued
            async for packet in reader:
                self._lane.put(packet)
                if self._inbox.skipping or self._decoder.needs_keyframe:
                    self._stream.request_keyframe()

    def _show(self, pictures: Sequence[Picture]) -> None:
        """In the decoder's thread: the newest picture is the one that counts.

        Until a decoder has learnt how far frames are reordered, it gives one that is older than the last.
        """
        newest, latest = pictures[-1], self._latest
        if latest is not None and 0 < latest.time - newest.time < REORDERED:
            return
        self._latest = newest
        for screen in self._screens:
            screen.show(self.site, newest)

    def stop(self) -> None:
        """Show nothing more. One picture may be under way in a thread until `aclose` returns."""
        self._screens = ()
        self._task.cancel()
        self._lane.close()

    async def aclose(self) -> None:
        self.stop()
        await asyncio.gather(self._task, return_exceptions=True)
        del self._task  # a cancelled task keeps its frame, and the frame this decoder
        await self._lane.aclose()
