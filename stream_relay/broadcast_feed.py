"""What a broadcast is fed with: its stream and the sound beside it, opened again whenever they end, and late
by what the operator has set.

    feed = Feed(source, "programme:c1", delay=0.0, pool=pool)
    async for session in feed.sessions(): ...            each with streams of this process that end in order

The delay holds coded packets, at most DELAY_BYTES a broadcast; what does not fit goes out early, which
`remark` says. With a delay the source is asked for key frames as they come in: a request would come too late.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from foundation.tasks import Backoff
from media.codec_worker import CodecPool
from media.packet import Packet
from media.sound_codecs import UnsupportedSound
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamSource, StreamUnavailable
from stream_relay.broadcast_sound import as_aac

DELAY_BYTES = 96 << 20
"""4 minutes of 3 Mbit/s."""
KEY_FRAME_SECONDS = 2.0
"""How often a delayed source is to send one: as often as segments begin."""
SOUND_AGAIN = 15.0
"""Seconds between two looks whether a stream without sound has some by now."""
SESSIONS_WAITING = 16
FIRST_TRY = 0.1
SOON = 0.5
"""Seconds between tries to open a stream that played a moment ago: its worker is replaced in about one ..."""
SOON_FOR = 30.0
SELDOM = 5.0
"""... and of one that rests."""


@dataclass(frozen=True, slots=True)
class Session:
    """One opened stream: pictures, and sound as AAC if there is any."""

    video: Stream
    sound: Stream | None


class DelayLine:
    """Packets on their way from a source to a local stream, `seconds` late. `early` counts what did not
    fit."""

    def __init__(self, seconds: float, limit: int = DELAY_BYTES) -> None:
        self.seconds = seconds
        self.early = 0
        self._limit = limit
        self._bytes = 0
        self._waiting: deque[tuple[float, Stream, Packet | None]] = deque()
        self._filled = asyncio.Event()

    def put(self, target: Stream, packet: Packet | None) -> None:
        """`packet` for `target`, its end for None; never waits."""
        if not self.seconds:
            _hand_over(target, packet)
            return
        self._waiting.append((time.monotonic() + self.seconds, target, packet))
        self._bytes += 0 if packet is None else len(packet)
        while self._bytes > self._limit:
            self.early += 1
            self._release()
        self._filled.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            while self._waiting:
                left = self._waiting[0][0] - time.monotonic()
                if left > 0:
                    await asyncio.sleep(left)
                    continue
                self._release()
            self._filled.clear()
            await self._filled.wait()

    def _release(self) -> None:
        _, target, packet = self._waiting.popleft()
        self._bytes -= 0 if packet is None else len(packet)
        _hand_over(target, packet)


def _hand_over(target: Stream, packet: Packet | None) -> None:
    if packet is None:
        target.close()
    else:
        target.publish(packet)


class Feed:
    """`detail` says why there is no session now, `remark` what is not as it should be in the one there is."""

    def __init__(self, source: StreamSource, stream_id: str, *, delay: float, pool: CodecPool) -> None:
        self.detail = ""
        self._source = source
        self._id = stream_id
        self._pool = pool
        self._line = DelayLine(delay)
        self._made: asyncio.Queue[Session] = asyncio.Queue(SESSIONS_WAITING)
        self._sound_remark = ""

    @property
    def remark(self) -> str:
        if self._line.early:
            held = DELAY_BYTES >> 20
            return f"the delay is shorter than set: more than {held} MB would have to wait"
        return self._sound_remark

    async def sessions(self) -> AsyncGenerator[Session, None]:
        """One after the other, for ever; the next may be there before the last has ended."""
        tasks = [
            asyncio.create_task(self._open_again(), name=f"feed of {self._id}"),
            asyncio.create_task(self._line.run(), name=f"delay of {self._id}"),
        ]
        try:
            while True:
                coming = asyncio.create_task(self._made.get())
                try:
                    await asyncio.wait((coming, *tasks), return_when=asyncio.FIRST_COMPLETED)
                    for task in tasks:
                        if task.done():
                            task.result()
                    yield coming.result()
                finally:
                    coming.cancel()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _open_again(self) -> None:
        soon, seldom = Backoff(first=FIRST_TRY, limit=SOON), Backoff(first=SOON, limit=SELDOM)
        played = -math.inf
        while True:
            try:
                async with self._source.open(self._id) as video, AsyncExitStack() as held:
                    self.detail = ""
                    sound = await self._open_sound(held)
                    if await self._carry(video, sound):
                        played = time.monotonic()
                        soon.reset()
                        seldom.reset()
            except StreamUnavailable as error:
                self.detail = str(error)
            recent = time.monotonic() - played < SOON_FOR
            await asyncio.sleep((soon if recent else seldom).next_delay())

    async def _open_sound(self, held: AsyncExitStack) -> Stream | None:
        self._sound_remark = ""
        try:
            sound = await held.enter_async_context(self._source.open(f"{self._id}/sound"))
            return await held.enter_async_context(as_aac(sound, self._pool))
        except NoSuchStream:
            return None
        except (StreamUnavailable, UnsupportedSound) as error:
            self._sound_remark = f"without sound: {error}"
            return None

    async def _carry(self, video: Stream, sound: Stream | None) -> bool:
        """Pass one session's packets on until its pictures end; whether there were any."""
        wanted = None if self._line.seconds else video.request_keyframe
        session = Session(
            Stream(video.id, video.format, on_keyframe_wanted=wanted),
            None if sound is None else Stream(sound.id, sound.format),
        )
        await self._made.put(session)
        before = video.published
        side = asyncio.create_task(
            self._carry_sound(sound, session.sound)
            if sound is not None and session.sound is not None
            else self._sound_comes(),
            name=f"sound of {self._id}",
        )
        pictures = asyncio.create_task(self._carry_pictures(video, session.video), name=f"feed {self._id}")
        try:
            # Sound that ended alone has come in another format, or goes for good: what comes next is opened.
            await asyncio.wait((pictures, side), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pictures, side):
                task.cancel()
            await asyncio.gather(pictures, side, return_exceptions=True)
            self._line.put(session.video, None)
            if session.sound is not None:
                self._line.put(session.sound, None)
        return video.published > before

    async def _carry_pictures(self, video: Stream, target: Stream) -> None:
        asked = time.monotonic()
        async with video.reader() as reader:
            async for packet in reader:
                now = time.monotonic()
                if packet.keyframe:
                    asked = now
                elif self._line.seconds and now - asked >= KEY_FRAME_SECONDS:
                    video.request_keyframe()
                self._line.put(target, packet)

    async def _carry_sound(self, sound: Stream, target: Stream) -> None:
        """Until it ends, but not so soon that sound which comes and goes would tear up the pictures."""
        began = time.monotonic()
        async with sound.reader() as reader:
            async for packet in reader:
                self._line.put(target, packet)
        await asyncio.sleep(SOUND_AGAIN - (time.monotonic() - began))

    async def _sound_comes(self) -> None:
        """Returns once the stream has sound: then it is opened anew, with it."""
        while True:
            await asyncio.sleep(SOUND_AGAIN)
            try:
                async with self._source.open(f"{self._id}/sound") as sound, as_aac(sound, self._pool):
                    return
            except (StreamUnavailable, UnsupportedSound):
                continue
