"""What test terminals of one process share: codec threads, the pacing clock, a ticker, reels and tapes.

    async with Studio() as studio, RoomTerminal(settings, studio) as one, RoomTerminal(other, studio) as two:
        ...

Entered inside the event loop that its terminals live in. Terminals join and leave; leaving the studio ends
the ticker and the threads.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

import structlog

from media.codec_worker import CodecPool, OldestInbox
from media.pacer import PacingClock
from media.sound_codecs import SoundCodec
from orchestrator.demo.terminal.reels import Reel, Shot, film, record_tone

PERIOD = 0.02
_KEPT = 64
_WAITING = 512

_log = structlog.get_logger("demo")
_T = TypeVar("_T")


class Ticked(Protocol):
    """Who is called every 20 ms; `now` is monotonic, `wall_clock` Unix time."""

    def tick(self, now: float, wall_clock: float) -> None: ...


class _Job:
    """Work for a codec thread and who waits for it."""

    def __init__(self, work: Callable[[], object], done: asyncio.Future[object]) -> None:
        self._work = work
        self._done = done

    def run(self) -> list[tuple[asyncio.Future[object], object]]:
        try:
            return [(self._done, self._work())]
        except Exception as error:
            return [(self._done, error)]


class Studio:
    """See the module's head. `threads` decode and code live pictures; one more makes reels and tapes."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._members: list[Ticked] = []
        self._shelf: OrderedDict[object, asyncio.Future[object]] = OrderedDict()
        self.failed_ticks = 0

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self.pool = CodecPool(self._threads, "terminals", nice=5)
        self.pacing = PacingClock()
        self._workshop = CodecPool(1, "reels", nice=10)
        self._jobs = self._workshop.lane(
            _Job.run, inbox=OldestInbox[_Job](_WAITING), deliver=_resolve, loop=self.loop, name="reels"
        )
        self._ticker = asyncio.create_task(self._tick(), name="demo.ticker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.cancel()
        await asyncio.gather(self._ticker, return_exceptions=True)
        self.pacing.close()
        for future in self._shelf.values():
            future.cancel()
        await self._workshop.aclose()
        await self.pool.aclose()

    def join(self, member: Ticked) -> None:
        if member not in self._members:
            self._members.append(member)

    def leave(self, member: Ticked) -> None:
        if member in self._members:
            self._members.remove(member)

    async def reel(self, shot: Shot) -> Reel:
        """The reel of a shot, coded at the first call for it."""
        return await self._made(shot, lambda: film(shot))

    async def tape(self, codec: SoundCodec, frequency: float | None) -> tuple[bytes, ...]:
        """Payloads of a tone, or of silence."""
        return await self._made((codec, frequency), lambda: record_tone(codec, frequency))

    async def run(self, work: Callable[[], _T]) -> _T:
        """Run `work` in the workshop's thread."""
        done: asyncio.Future[object] = self.loop.create_future()
        self._jobs.put(_Job(work, done))
        return await done  # type: ignore[return-value]  # what the work returned, or its exception raised

    async def _made(self, key: object, work: Callable[[], _T]) -> _T:
        if key not in self._shelf:
            self._shelf[key] = asyncio.ensure_future(self.run(work))
            if len(self._shelf) > _KEPT:
                self._shelf.popitem(last=False)
        self._shelf.move_to_end(key)
        made: asyncio.Future[_T] = self._shelf[key]  # type: ignore[assignment]  # of this key's work
        return await asyncio.shield(made)

    async def _tick(self) -> None:
        due = time.monotonic() + PERIOD
        while True:
            await asyncio.sleep(due - time.monotonic())
            now, wall_clock = time.monotonic(), time.time()
            for member in tuple(self._members):
                try:
                    member.tick(now, wall_clock)
                except Exception as error:
                    self.failed_ticks += 1
                    if self.failed_ticks.bit_count() == 1:
                        _log.error("a terminal's tick failed", failed=self.failed_ticks, exc_info=error)
            due = max(due + PERIOD, now)


def _resolve(finished: Sequence[tuple[asyncio.Future[object], object]]) -> None:
    for future, result in finished:
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
