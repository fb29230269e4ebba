"""The only place where threads touch codecs.

    pool = CodecPool(threads=2, name="video", nice=5)
    lane = pool.lane(decoder.decode_unit, inbox=KeyFrameInbox(16, is_key), deliver=on_pictures, loop=loop)
    lane.put(item) -> bool                    any thread, never blocks; False if something was dropped
    lane.counts: LaneCounts                   taken, done, results, dropped, failed, undelivered, cpu_seconds
    await lane.aclose(); await pool.aclose()

A `Lane` is the ordered, serial queue of one codec context: its work runs on any thread of the pool, never on
two at once. Results go to `deliver`: with a `loop` in batches on the event loop (one `call_soon_threadsafe` a
batch), without one in the worker thread, one list for each item, so that a chained step (hand a picture to a
composer, put it in an encoder's lane) costs no hop. Inboxes are bounded and say what happens when full:
`KeyFrameInbox` (encoded video: skip to the next key frame), `LatestInbox` (raw pictures: the newest wins),
`OldestInbox` (sound: the oldest goes).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")
R = TypeVar("R")

RESULTS_HELD = 256
"""Results that may wait for the event loop on one lane before the oldest are dropped."""


@dataclass(slots=True)
class LaneCounts:
    """What became of a lane's items since it was opened."""

    taken: int = 0
    done: int = 0
    results: int = 0
    dropped: int = 0
    failed: int = 0
    undelivered: int = 0
    cpu_seconds: float = 0.0


class Inbox(Protocol[T]):
    """A bounded queue with a rule for when it is full. The lane holds its lock around each call."""

    def put(self, item: T) -> int:
        """Takes the item or not; the number of items dropped by that, itself included."""
        ...

    def pop(self) -> T: ...

    def clear(self) -> int: ...

    def __len__(self) -> int: ...


class OldestInbox(Generic[T]):
    """When full, the oldest item goes: sound, where a gap is better than delay."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"an inbox must hold at least one item, not {limit}")
        self.limit = limit
        self._items: deque[T] = deque()

    def put(self, item: T) -> int:
        self._items.append(item)
        if len(self._items) <= self.limit:
            return 0
        self._items.popleft()
        return 1

    def pop(self) -> T:
        return self._items.popleft()

    def clear(self) -> int:
        count = len(self._items)
        self._items.clear()
        return count

    def __len__(self) -> int:
        return len(self._items)


class LatestInbox(OldestInbox[T]):
    """The newest item wins over the one still waiting: raw pictures."""

    def __init__(self) -> None:
        super().__init__(1)


class KeyFrameInbox(OldestInbox[T]):
    """When full, everything before the newest waiting key frame goes; without one all goes, until the next.

    `skipping` is true while it waits for a key frame: time to ask the source for one.
    """

    def __init__(self, limit: int, is_key: Callable[[T], bool]) -> None:
        super().__init__(limit)
        self._is_key = is_key
        self.skipping = False

    def put(self, item: T) -> int:
        if self._is_key(item):
            self.skipping = False
        elif self.skipping:
            return 1
        dropped = self._skip() if len(self._items) >= self.limit else 0
        if self.skipping and not self._is_key(item):
            return dropped + 1
        self.skipping = False
        self._items.append(item)
        return dropped

    def _skip(self) -> int:
        """Drops up to the newest key frame behind the head, or everything."""
        waiting = list(self._items)
        newest = next((n for n in range(len(waiting) - 1, 0, -1) if self._is_key(waiting[n])), None)
        if newest is None:
            self.skipping = True
            return self.clear()
        for _ in range(newest):
            self._items.popleft()
        return newest


class Lane(Generic[T, R]):
    """Ordered serial work of one codec context. Made by `CodecPool.lane`."""

    def __init__(
        self,
        pool: CodecPool,
        work: Callable[[T], Iterable[R]],
        inbox: Inbox[T],
        deliver: Callable[[Sequence[R]], None],
        loop: asyncio.AbstractEventLoop | None,
        name: str,
    ) -> None:
        self.name = name
        self.counts = LaneCounts()
        self._pool = pool
        self._work = work
        self._inbox = inbox
        self._deliver = deliver
        self._loop = loop
        self._lock = threading.Lock()
        self._scheduled = False
        self._closed = False
        self._idle = threading.Event()
        self._idle.set()
        self._results: deque[R] = deque()
        self._waking = False
        self._closing: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    @property
    def waiting(self) -> int:
        return len(self._inbox)

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, item: T) -> bool:
        """Queues an item; never blocks. False when the lane is closed or something was dropped for room."""
        with self._lock:
            if self._closed:
                return False
            dropped = self._inbox.put(item)
            self.counts.taken += 1
            self.counts.dropped += dropped
            schedule = not self._scheduled and len(self._inbox) > 0
            if schedule:
                self._scheduled = True
                self._idle.clear()
        if schedule:
            self._pool._ready(self)
        return dropped == 0

    def close(self) -> None:
        """Takes no more items, drops what waits; the one in work ends by itself. Any thread; never blocks."""
        with self._lock:
            self._closed = True
            self.counts.dropped += self._inbox.clear()
            self._results.clear()
            if not self._scheduled:
                self._let_go()
        self._pool._forget(self)

    def _let_go(self) -> None:
        """Codec contexts hold megabytes that no collector sees: the last reference goes here and now."""
        self._work = _no_work
        self._deliver = _no_delivery

    async def aclose(self) -> None:
        """Closes and waits until no thread is in this lane."""
        self.close()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if not self._scheduled:
                return
            self._closing.append((loop, ended))
        await ended

    def drain(self, timeout: float) -> bool:
        """Waits until nothing is queued or in work; for tests and benchmarks, never on the event loop."""
        return self._idle.wait(timeout)

    def _step(self) -> None:
        """One item, on a pool thread; then back in the queue of ready lanes: no lane starves another."""
        with self._lock:
            items = [self._inbox.pop()] if len(self._inbox) else []
        for item in items:
            self._run(item)
        with self._lock:
            again = len(self._inbox) > 0
            if not again:
                self._scheduled = False
                self._idle.set()
                closing, self._closing = self._closing, []
                if self._closed:
                    self._let_go()
        if again:
            self._pool._ready(self)
            return
        for loop, ended in closing:
            _call(loop, _resolve, ended)

    def _run(self, item: T) -> None:
        started = time.thread_time()
        try:
            results = list(self._work(item))
        except Exception as error:
            self.counts.failed += 1
            if (
                self.counts.failed.bit_count() == 1
            ):  # the 1st, 2nd, 4th, 8th ... : a broken source cannot flood the log
                log.warning("codec_work_failed", lane=self.name, failed=self.counts.failed, error=repr(error))
            return
        finally:
            self.counts.cpu_seconds += time.thread_time() - started
        self.counts.done += 1
        if not results or self._closed:
            return
        self.counts.results += len(results)
        if self._loop is None:
            self._hand_over(results)
        else:
            self._post(results, self._loop)

    def _hand_over(self, results: Sequence[R]) -> None:
        try:
            self._deliver(results)
        except Exception as error:
            self.counts.undelivered += len(results)
            log.error("codec_delivery_failed", lane=self.name, error=repr(error), exc_info=True)

    def _post(self, results: Sequence[R], loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._results.extend(results)
            while len(self._results) > RESULTS_HELD:
                self._results.popleft()
                self.counts.undelivered += 1
            wake, self._waking = not self._waking, True
        if wake and not _call(loop, self._flush):
            self.counts.undelivered += len(results)

    def _flush(self) -> None:
        """On the event loop: everything that came since the last time, as one batch."""
        with self._lock:
            self._waking = False
            batch = tuple(self._results)
            self._results.clear()
        if batch and not self._closed:
            self._hand_over(batch)


class CodecPool:
    """Named worker threads that run lanes in turn.

    `nice` is added to the threads' scheduling niceness where the system has one for each thread (Linux), so
    that sound and the event loop win over pictures.
    """

    def __init__(self, threads: int, name: str = "codec", nice: int = 0) -> None:
        if threads < 1:
            raise ValueError(f"a codec pool needs at least one thread, not {threads}")
        self.name = name
        self._nice = nice
        self._queue: deque[Lane[object, object]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._lanes: set[Lane[object, object]] = set()
        self._ended: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._alive = threads
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{n}", daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def lane(
        self,
        work: Callable[[T], Iterable[R]],
        *,
        inbox: Inbox[T],
        deliver: Callable[[Sequence[R]], None],
        loop: asyncio.AbstractEventLoop | None = None,
        name: str = "",
    ) -> Lane[T, R]:
        """A new lane. `work` gets one item and gives its results; both it and `deliver` must not wait."""
        lane = Lane(self, work, inbox, deliver, loop, name or f"{self.name}-lane")
        with self._wake:
            if self._closed:
                raise RuntimeError(f"the codec pool {self.name} is closed")
            self._lanes.add(lane)  # type: ignore[arg-type]  # the pool only steps and closes lanes, whatever they carry
        return lane

    @property
    def lanes(self) -> int:
        return len(self._lanes)

    def close(self, timeout: float = 5.0) -> None:
        """Closes all lanes and joins the threads; not for the event loop (see `aclose`)."""
        self._shut()
        for thread in self._threads:
            thread.join(timeout)

    async def aclose(self) -> None:
        """Closes all lanes and waits for the threads to end, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        with self._wake:
            alive = self._alive > 0
            if alive:
                self._ended.append((loop, ended))
        self._shut()
        if alive:
            await ended
        for thread in self._threads:
            thread.join(1.0)  # past their last instruction already

    def _shut(self) -> None:
        with self._wake:
            self._closed = True
            lanes = list(self._lanes)
            self._wake.notify_all()
        for lane in lanes:
            lane.close()

    def _forget(self, lane: Lane[T, R]) -> None:
        with self._wake:
            self._lanes.discard(lane)

    def _ready(self, lane: Lane[T, R]) -> None:
        with self._wake:
            if self._alive:
                self._queue.append(lane)  # type: ignore[arg-type]  # see lane()
                self._wake.notify()
                return
        lane._step()  # the pool ended meanwhile: the lane is closed and empty, this only settles it

    def _serve(self) -> None:
        if self._nice:
            _renice(self._nice)
        while (lane := self._next()) is not None:
            lane._step()
        with self._wake:
            self._alive -= 1
            ended = self._ended if self._alive == 0 else []
        for loop, future in ended:
            _call(loop, _resolve, future)

    def _next(self) -> Lane[object, object] | None:
        """The lane to serve; None once the pool is closed and the ready lanes have been let go of."""
        with self._wake:
            while not self._queue:
                if self._closed:
                    return None
                self._wake.wait()
            return self._queue.popleft()


def _no_work(_item: object) -> Iterable[Any]:
    return ()


def _no_delivery(_results: Sequence[Any]) -> None:
    return None


def _renice(by: int) -> None:
    """Adds to the calling thread's niceness: on Linux a native thread id names one thread."""
    try:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + by)
    except (AttributeError, OSError) as error:
        log.info("niceness_not_set", by=by, error=repr(error))


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> bool:
    """`call_soon_threadsafe`, or False where the loop is closed already."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        return False
    return True


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
