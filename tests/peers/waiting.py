"""Waiting for something outside our loop to become true, and saying what was seen last when it does not."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

Seen = TypeVar("Seen")


async def until(
    look: Callable[[], Awaitable[Seen]],
    wanted: Callable[[Seen], bool],
    what: str,
    timeout: float,
    interval: float = 0.2,
) -> Seen:
    """What `look` returned once it satisfied `wanted`; AssertionError with the last look at the end."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while True:
        seen = await look()
        if wanted(seen):
            return seen
        if loop.time() >= end:
            raise AssertionError(f"waited {timeout} s for {what}; last seen: {seen}")
        await asyncio.sleep(interval)


async def until_true(
    look: Callable[[], bool | Awaitable[bool]],
    what: str,
    timeout: float,
    explain: Callable[[], str] = lambda: "",
) -> None:
    """Return once `look` says True; AssertionError with `explain()` after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while True:
        answer = look()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        if loop.time() >= end:
            raise AssertionError(f"waited {timeout} s for {what}\n{explain()}")
        await asyncio.sleep(0.03)
