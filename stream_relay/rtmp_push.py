"""A broadcast pushed to a third party's platform over RTMP: H.264 as it is, AAC beside it.

    push = RtmpPush("rtmp://live.example/app/key")
    await push.run(video, sound)              until cancelled or the pictures end; connects again by itself

No thread and no library's queue: a server that takes nothing costs a bounded queue (media.stream.Reader: what
does not fit is dropped to the next key frame and counted), and ends with the connection, at once. The address
holds the platform's secret: it is never logged, and `detail` never repeats it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from foundation.tasks import Backoff
from media.packet import Packet
from media.stream import Stream
from protocols.rtmp.amf import MalformedRtmp
from protocols.rtmp.session import Media, Refused, RtmpEvent, RtmpSession, RtmpUrl, Started, parse_rtmp_url
from stream_relay.flv_bodies import FlvBodies

CONNECT_SECONDS = 10.0
STUCK_SECONDS = 10.0
"""A server that takes nothing for so long is left and connected again."""
PROVEN_SECONDS = 10.0
"""A connection that held so long: the next failure begins with short pauses again."""
UNSENT_BYTES = 256 << 10
READ_BYTES = 64 << 10

_log = structlog.get_logger("rtmp_push")


class PushFailed(Exception):
    """The server erred or cannot be reached; the text says how, without the stream's key."""


class RtmpConnection:
    """A client's connection; `started` is set once the server agreed. Raises PushFailed."""

    def __init__(
        self, session: RtmpSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.session = session
        self._reader = reader
        self._writer = writer

    async def events(self) -> AsyncIterator[RtmpEvent]:
        """What the server says, until it is gone; answers it by itself."""
        self._write()
        try:
            while data := await self._reader.read(READ_BYTES):
                found = self.session.feed(data)
                self._write()
                for event in found:
                    yield event
        except MalformedRtmp as error:
            raise PushFailed(str(error)) from None
        except OSError as error:
            raise PushFailed(f"the connection broke: {error.strerror or error}") from None

    async def flush(self) -> None:
        """Write what the session has to say and wait until the server keeps up."""
        self._write()
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            raise PushFailed(f"the server took nothing for {STUCK_SECONDS:g} s") from None
        except OSError as error:
            raise PushFailed(f"the connection broke: {error.strerror or error}") from None

    def _write(self) -> None:
        if out := self.session.take():
            self._writer.write(out)


@asynccontextmanager
async def rtmp_connection(url: RtmpUrl, *, publishing: bool) -> AsyncIterator[RtmpConnection]:
    """A connection as a client; aborted when the context is left. Raises PushFailed."""
    context = ssl.create_default_context() if url.tls else None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(url.host, url.port, ssl=context, limit=READ_BYTES)
    except TimeoutError:
        raise PushFailed(f"{url.host}:{url.port} did not answer within {CONNECT_SECONDS:g} s") from None
    except UnicodeError:
        raise PushFailed("the platform's host is no name that can be looked up") from None
    except OSError as error:
        why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.strerror
        raise PushFailed(f"{url.host}:{url.port} cannot be reached: {why or error}") from None
    writer.transport.set_write_buffer_limits(high=UNSENT_BYTES)
    try:
        yield RtmpConnection(RtmpSession(url, publishing=publishing), reader, writer)
    finally:
        writer.transport.abort()


class RtmpPush:
    """`state`: "connecting", "pushing" or "waiting" (to try again), "" when not running. `detail` is the last
    failure in words; `dropped` frames did not fit; `connections` counts those that the server agreed to.

    Raises ValueError for an address that is none.
    """

    def __init__(self, url: str) -> None:
        self.state = ""
        self.detail = ""
        self.dropped = 0
        self.frames = 0
        self.connections = 0
        self._url = parse_rtmp_url(url)

    async def run(self, video: Stream, sound: Stream | None) -> None:
        """Push until the pictures end."""
        backoff = Backoff(first=0.5, limit=30.0)
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                try:
                    await self._push_once(video, sound)
                except PushFailed as error:
                    self.detail = str(error)
                    _log.warning("push failed", server=self._url.host, why=self.detail)
                if video.closed:
                    return
                if loop.time() - began > PROVEN_SECONDS:
                    backoff.reset()
                self.state = "waiting"
                await asyncio.sleep(backoff.next_delay())
        finally:
            self.state = ""

    async def _push_once(self, video: Stream, sound: Stream | None) -> None:
        self.state = "connecting"
        async with rtmp_connection(self._url, publishing=True) as connection:
            agreed = asyncio.Event()
            listening = asyncio.create_task(self._listen(connection, agreed), name="push.listen")
            sending = asyncio.create_task(self._send(connection, agreed, video, sound), name="push.send")
            try:
                await asyncio.wait((listening, sending), return_when=asyncio.FIRST_COMPLETED)
                for task in (listening, sending):
                    if task.done():
                        task.result()
            finally:
                listening.cancel()
                sending.cancel()
                await asyncio.gather(listening, sending, return_exceptions=True)

    async def _listen(self, connection: RtmpConnection, agreed: asyncio.Event) -> None:
        async for event in connection.events():
            match event:
                case Started():
                    agreed.set()
                case Refused(words):
                    raise PushFailed(words)
                case Media():
                    pass  # nobody asked for it
        raise PushFailed("the server closed the connection")

    async def _send(
        self, connection: RtmpConnection, agreed: asyncio.Event, video: Stream, sound: Stream | None
    ) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await agreed.wait()
        except TimeoutError:
            raise PushFailed(f"the server did not agree within {CONNECT_SECONDS:g} s") from None
        self.state, self.detail = "pushing", ""
        self.connections += 1
        bodies = FlvBodies(None if sound is None else sound.format)
        listening = None if sound is None else asyncio.create_task(_take_sound(sound, bodies))
        before = self.dropped
        try:
            async with video.reader() as reader:
                async for packet in reader:
                    self.dropped = before + reader.dropped
                    await self._send_picture(connection, bodies, packet)
            connection.session.leave()
            await connection.flush()
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def _send_picture(self, connection: RtmpConnection, bodies: FlvBodies, packet: Packet) -> None:
        self.frames += 1
        for kind, timestamp, body in bodies.picture(packet):
            connection.session.send_media(kind, timestamp, body)
        await connection.flush()


async def _take_sound(sound: Stream, bodies: FlvBodies) -> None:
    """Sound goes out with the next picture."""
    async with sound.reader() as reader:
        async for packet in reader:
            bodies.sound(packet)
