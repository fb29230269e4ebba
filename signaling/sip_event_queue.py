"""A bounded queue of events with a certain last one, for one reader."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

EventT = TypeVar("EventT")


class EventQueue(Generic[EventT]):
    """``put`` drops (and counts) beyond the limit; ``finish`` always fits, and ends the iteration."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[EventT] = deque()
        self._news = asyncio.Event()
        self._finished = False
        self.dropped = 0

    def put(self, event: EventT) -> bool:
        """False when there was no room, or the end has come."""
        if self._finished or len(self._events) >= self._limit:
            self.dropped += 1
            return False
        self._events.append(event)
        self._news.set()
        return True

    def finish(self, event: EventT) -> None:
        """The last event."""
        if not self._finished:
            self._events.append(event)
            self._finished = True
            self._news.set()

    async def __aiter__(self) -> AsyncIterator[EventT]:
        while True:
            while self._events:
                yield self._events.popleft()
            if self._finished:
                return
            self._news.clear()
            await self._news.wait()
