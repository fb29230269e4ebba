"""One hold for all of this process who want the same stream: a camera crosses the link once.

shared = SharedStreams(source)
async with shared.open("camera:ID") as stream: ...        a StreamSource itself
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from media.stream import Stream
from media.stream_source import StreamSource


class SharedStreams:
    """Opens with the first holder, lets go with the last; a stream that ended is opened anew."""

    def __init__(self, source: StreamSource) -> None:
        self._source = source
        self._holds: dict[str, _Hold] = {}

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        """As StreamSource says."""
        hold = self._holds.get(stream_id)
        if hold is None or hold.over:
            hold = self._holds[stream_id] = _Hold(self._source, stream_id)
        hold.holders += 1
        try:
            yield await asyncio.shield(hold.opened)
        finally:
            hold.holders -= 1
            if not hold.holders:
                if self._holds.get(stream_id) is hold:
                    del self._holds[stream_id]
                await hold.aclose()


class _Hold:
    """An open stream; one task enters and leaves its context."""

    def __init__(self, source: StreamSource, stream_id: str) -> None:
        self.holders = 0
        self.opened: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        self._released = asyncio.Event()
        self._task = asyncio.create_task(self._keep(source, stream_id), name=f"hold.{stream_id}")

    @property
    def over(self) -> bool:
        """Whoever comes now needs another."""
        if not self.opened.done():
            return False
        return self.opened.cancelled() or self.opened.exception() is not None or self.opened.result().closed

    async def aclose(self) -> None:
        self._released.set()
        if not self.opened.done():
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self, source: StreamSource, stream_id: str) -> None:
        try:
            async with source.open(stream_id) as stream:
                self.opened.set_result(stream)
                await self._released.wait()
        except Exception as error:
            if self.opened.done():
                raise
            self.opened.set_exception(error)
            self.opened.exception()  # whoever waited may be gone
        finally:
            if not self.opened.done():
                self.opened.cancel()
