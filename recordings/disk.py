"""The threads that touch files, so that the event loop never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Disk:
    """A few threads. Whoever awaits `run` before the next call has its work done in order."""

    def __init__(self, threads: int = 2) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="disk")

    async def run(self, work: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
        """The result of the work, done in a thread; its errors come back too."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*arguments, **named))

    def later(self, work: Callable[[], None]) -> None:
        """Have it done without waiting."""
        self._threads.submit(work)

    async def aclose(self) -> None:
        """Wait for what is under way and end the threads."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
