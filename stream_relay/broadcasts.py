"""The broadcasts of the edge: a plan made so (`foundation.desks.BroadcastDesk`).

    async with Broadcasts(streams) as broadcasts:
        await broadcasts.set_plan(plan)
        broadcasts.channel("name") -> Channel | None        what the routes of viewers read

Each broadcast is a task that opens its stream again whenever it ends; its playlist goes on behind a
discontinuity, so that viewers stay. One that the plan drops ends for its viewers at once: they are told for
ENDED_SECONDS, and its media is forgotten.

Memory of a broadcast, all bounded: the playlist (hls.playlist.KEPT_BYTES, 64 MiB), the delay
(broadcast_feed.DELAY_BYTES, 96 MiB), a group of pictures and two readers' queues (media.stream, 20 MiB).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from types import TracebackType

import structlog

from foundation.clock import Clock, SystemClock
from foundation.desks import BroadcastPlan, BroadcastSpec, BroadcastStatus
from foundation.tasks import Backoff, TaskScope
from media.codec_worker import CodecPool
from media.fragments import UnsupportedFormat
from media.stream_source import StreamSource
from stream_relay.broadcast_feed import Feed, Session
from stream_relay.hls.channel import Channel, ChannelState
from stream_relay.rtmp_push import RtmpPush

ENDED_SECONDS = 120.0
ENDED_KEPT = 256
CODEC_THREADS = 1
"""Sound only: one thread encodes that of some eighty broadcasts."""
UNSUPPORTED_AGAIN = 10.0

_log = structlog.get_logger("broadcasts")


class Broadcast:
    """One broadcast: `run` until cancelled."""

    def __init__(self, spec: BroadcastSpec, source: StreamSource, pool: CodecPool, clock: Clock) -> None:
        self.spec = spec
        self.channel = Channel(spec.title, clock, delay=spec.delay)
        self._source = source
        self._pool = pool
        self._feed: Feed | None = None
        self._session: Session | None = None
        self._unsupported = ""
        self._push: RtmpPush | None = None
        self._push_fault = ""
        self._pushing: asyncio.Task[None] | None = None

    def change(self, spec: BroadcastSpec) -> bool:
        """Take another title or push address up; True when the rest asks for `run` anew."""
        before, self.spec = self.spec, spec
        self.channel.title, self.channel.delay = spec.title, spec.delay
        if spec.push_url != before.push_url and self._session is not None:
            self._end_push()
            self._begin_push(self._session)
        return (spec.stream_id, spec.delay) != (before.stream_id, before.delay)

    async def run(self) -> None:
        feed = self._feed = Feed(self._source, self.spec.stream_id, delay=self.spec.delay, pool=self._pool)
        async with contextlib.aclosing(feed.sessions()) as sessions:
            async for session in sessions:
                await self._play(session)

    async def _play(self, session: Session) -> None:
        self._unsupported = ""
        self._session = session
        self.channel.playing = True
        self._begin_push(session)
        try:
            await self.channel.live.run(session.video, session.sound)
        except UnsupportedFormat as error:
            self._unsupported = str(error)
            self.channel.playing = False
            await asyncio.sleep(UNSUPPORTED_AGAIN)
        finally:
            self.channel.playing = False
            self._session = None
            pushing = self._pushing
            self._end_push()
            if pushing is not None:
                await asyncio.gather(pushing, return_exceptions=True)

    def status(self) -> BroadcastStatus:
        channel, push = self.channel, self._push
        state, detail = str(channel.state), "" if self._feed is None else self._feed.detail
        if self._unsupported:
            state, detail = "failed", self._unsupported
        elif channel.state is ChannelState.LIVE and self._feed is not None:
            detail = self._feed.remark
        push_state = "" if push is None else push.state
        push_detail = self._push_fault if push is None else push.detail
        if self.spec.push_url and not push_state:
            push_state, push_detail = "waiting", push_detail or "the broadcast itself waits for its stream"
        return BroadcastStatus(
            name=self.spec.name,
            state=state,
            detail=detail,
            viewers=channel.viewers.count,
            sent_bytes=channel.sent_bytes,
            latency=round(channel.live.latency, 3) if channel.state is ChannelState.LIVE else 0.0,
            push_state=push_state,
            push_detail=push_detail,
        )

    def _begin_push(self, session: Session) -> None:
        self._push_fault = ""
        if not self.spec.push_url:
            return
        try:
            push = self._push = RtmpPush(self.spec.push_url)
        except ValueError as error:
            self._push_fault = str(error)
            return
        work = push.run(session.video, session.sound)
        self._pushing = asyncio.create_task(work, name=f"push of {self.spec.name}")
        self._pushing.add_done_callback(_note_failure)

    def _end_push(self) -> None:
        if self._pushing is not None:
            self._pushing.cancel()
        self._pushing = self._push = None


def _note_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("push broke", task=task.get_name(), exc_info=error)


class Broadcasts:
    """The edge's `BroadcastDesk`; `planned` once main has said what there is to broadcast."""

    def __init__(self, source: StreamSource, clock: Clock | None = None) -> None:
        self.planned = False
        self._source = source
        self._clock = clock or SystemClock()
        self._running: dict[str, tuple[Broadcast, asyncio.Task[None]]] = {}
        self._ended: OrderedDict[str, tuple[Channel, float]] = OrderedDict()

    async def __aenter__(self) -> Broadcasts:
        self._scope = TaskScope("broadcasts")
        await self._scope.__aenter__()
        self._pool = CodecPool(CODEC_THREADS, "broadcast-sound")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._scope.__aexit__(kind, error, trace)
        await self._pool.aclose()

    def channel(self, name: str) -> Channel | None:
        """What viewers of that name see: running, or ended a while ago."""
        if name in self._running:
            return self._running[name][0].channel
        self._forget_ended()
        return self._ended[name][0] if name in self._ended else None

    # --- the desk ---------------------------------------------------------------------------------

    async def set_plan(self, plan: BroadcastPlan) -> None:
        wanted = {spec.name: spec for spec in plan.broadcasts}
        for name in self._running.keys() - wanted.keys():
            self._stop(name)
        for name, spec in wanted.items():
            if name not in self._running:
                self._start(Broadcast(spec, self._source, self._pool, self._clock))
                continue
            broadcast, task = self._running[name]
            if broadcast.change(spec):
                task.cancel()
                try:
                    await asyncio.gather(task, return_exceptions=True)
                finally:  # main may go away in the middle of its call
                    self._start(broadcast)
        self.planned = True

    async def report(self) -> tuple[BroadcastStatus, ...]:
        return tuple(broadcast.status() for broadcast, _ in self._running.values())

    def _start(self, broadcast: Broadcast) -> None:
        name = broadcast.spec.name
        self._ended.pop(name, None)
        backoff = Backoff(first=0.5, limit=10.0)
        task = self._scope.supervise(name, broadcast.run, backoff=backoff)
        self._running[name] = broadcast, task

    def _stop(self, name: str) -> None:
        broadcast, task = self._running.pop(name)
        broadcast.channel.stop()
        task.cancel()
        self._ended[name] = broadcast.channel, self._clock.monotonic()
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)

    def _forget_ended(self) -> None:
        limit = self._clock.monotonic() - ENDED_SECONDS
        while self._ended and next(iter(self._ended.values()))[1] < limit:
            self._ended.popitem(last=False)
