"""Background tasks that have a name, an owner and an end.

    async with TaskScope("edge") as scope:
        scope.spawn("accept", accept_forever())                  # its failure ends the scope
        scope.supervise("uplink", lambda: uplink.run())          # its failure is logged, then it is run again
        ...
    # here every task has been cancelled and has finished

A scope is an `asyncio.TaskGroup` that cancels its tasks on the way out instead of waiting for them. It is
entered and left by the same task.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import structlog

__all__ = ["Backoff", "TaskScope"]

_log = structlog.get_logger("tasks")
_T = TypeVar("_T")


@dataclass(slots=True)
class Backoff:
    """Exponential delay with full jitter (each delay is between half and all of the step, in seconds)."""

    first: float = 0.1
    limit: float = 10.0
    factor: float = 2.0
    failures: int = 0

    def next_delay(self) -> float:
        """Seconds to wait before the next try; each call counts as one more failure."""
        step = min(self.limit, self.first * self.factor ** min(self.failures, 60))
        self.failures += 1
        return step * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The last try went well."""
        self.failures = 0


class TaskScope:
    """Owns background tasks; leaving the scope cancels them and waits until they have ended.

    `restarts` counts how often supervised tasks failed. An error in a spawned (not supervised) task ends the
    whole scope with an ExceptionGroup, as in any TaskGroup.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.restarts = 0
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> TaskScope:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()
        await self._group.__aexit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, name: str, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run `work` as task "<scope>.<name>"; its failure ends the scope."""
        task = self._group.create_task(work, name=f"{self.name}.{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def supervise(
        self, name: str, start: Callable[[], Awaitable[None]], *, backoff: Backoff | None = None
    ) -> asyncio.Task[None]:
        """Run `start()` until it returns; after an exception, wait a growing delay and run it again."""
        return self.spawn(name, self._supervised(name, start, backoff or Backoff()))

    def cancel(self) -> None:
        """Ask every task to end, without waiting."""
        for task in self._tasks:
            task.cancel()

    async def _supervised(self, name: str, start: Callable[[], Awaitable[None]], backoff: Backoff) -> None:
        while True:
            began = time.monotonic()
            try:
                return await start()
            except Exception as error:
                if time.monotonic() - began > backoff.limit:
                    backoff.reset()
                self.restarts += 1
                delay = backoff.next_delay()
                _log.error(
                    "task failed", task=f"{self.name}.{name}", again_in=round(delay, 2), exc_info=error
                )
            await asyncio.sleep(delay)
