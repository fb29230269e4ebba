"""What every process does beside its role."""

import asyncio
import contextlib
import ctypes
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator import worker_process
from tests.peers.waiting import until_true

BLOCK, COUNT = 100_000, 600


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * 4096


@pytest_asyncio.fixture
async def giving_back(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(worker_process, "TRIM_INTERVAL", 0.05)
    task = asyncio.create_task(worker_process.give_back_freed_memory())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.usefixtures("giving_back")
async def test_freed_memory_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(BLOCK) for _ in range(COUNT)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    full = resident()
    for block in blocks[:-1]:  # the last one keeps the heap's end where it is
        libc.free(block)
    await until_true(lambda: full - resident() > BLOCK * COUNT * 0.8, "the memory to be given back", 10)
    libc.free(blocks[-1])
