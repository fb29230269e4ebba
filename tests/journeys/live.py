"""What a user hears on /ws, awaited.

async with listening(api) as live:
    event = await live.hears("ViolationFlagged", camera_id="gate")
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from tests.peers.node import Api

PATIENCE = 60.0


class Live:
    """`heard` is every event so far, the newest last; `hears` looks at each of them once."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self._looked_at = 0
        self._news = asyncio.Event()

    async def listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Until the socket is closed; somebody has to read, or its pings stay unanswered."""
        async for message in socket:
            self.heard.append(json.loads(message.data))
            self._news.set()

    async def hears(self, event_type: str, /, timeout: float = PATIENCE, **fields: object) -> dict[str, Any]:
        """The next event of that type with these fields. AssertionError with what came instead."""
        known = self._looked_at
        try:
            async with asyncio.timeout(timeout):
                while True:
                    while self._looked_at < len(self.heard):
                        event = self.heard[self._looked_at]
                        self._looked_at += 1
                        if event["type"] == event_type and fields.items() <= event.items():
                            return event
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            came = self.heard[known:]
            raise AssertionError(f"no {event_type} with {fields} within {timeout} s, but: {came}") from None


@asynccontextmanager
async def listening(api: Api) -> AsyncIterator[Live]:
    live = Live()
    async with api.live() as socket:
        task = asyncio.create_task(live.listen(socket))
        try:
            yield live
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
