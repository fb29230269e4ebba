"""Password and PIN hashing with argon2id (RFC 9106), in threads of its own.

    passwords = Passwords()
    stored = await passwords.hash("secret")
    check = await passwords.verify(stored, "secret")     # check.correct, check.rehashed
    await passwords.verify(None, "secret")               # nobody's password: as slow, never correct

A hash takes 64 MiB and about 0.1 s of one core, so at most `threads` run and `waiting` wait; beyond that
`HasherBusy` says to try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

__all__ = ["HasherBusy", "PasswordCheck", "Passwords"]

_T = TypeVar("_T")
_LONGEST = 1024


class HasherBusy(Exception):
    """Too many passwords are being checked at this moment."""


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """`rehashed` is a new hash to store when the old one was made with weaker parameters."""

    correct: bool
    rehashed: str | None = None


class Passwords:
    """Hashes and checks; `refused` counts checks turned away by HasherBusy."""

    def __init__(self, hasher: PasswordHasher | None = None, *, threads: int = 2, waiting: int = 32) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._limit = threads + waiting
        self._running = 0
        self._nobody: str | None = None
        self.refused = 0

    async def hash(self, password: str) -> str:
        """The encoded hash to store. Raises HasherBusy."""
        return await self._in_thread(lambda: self._hasher.hash(_bytes(password)))

    async def verify(self, stored: str | None, password: str) -> PasswordCheck:
        """Check against a stored hash; None stands for a user who does not exist. Raises HasherBusy."""
        return await self._in_thread(lambda: self._verify(stored, password))

    def close(self) -> None:
        """Let the threads end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str | None, password: str) -> PasswordCheck:
        if stored is None:
            if self._nobody is None:
                self._nobody = self._hasher.hash(b"nobody")
            self._matches(self._nobody, password)
            return PasswordCheck(False)
        if not self._matches(stored, password):
            return PasswordCheck(False)
        weak = self._hasher.check_needs_rehash(stored)
        return PasswordCheck(True, self._hasher.hash(_bytes(password)) if weak else None)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        if self._running >= self._limit:
            self.refused += 1
            raise HasherBusy("too many passwords are being checked; try again in a second")
        self._running += 1
        done = asyncio.get_running_loop().run_in_executor(self._executor, work)
        done.add_done_callback(self._finished)
        return await asyncio.shield(done)  # a caller who gives up does not free the thread

    def _finished(self, _done: object) -> None:
        self._running -= 1


def _bytes(password: str) -> bytes:
    """Bytes to hash; what is longer than any password is cut, so that nobody hashes a novel."""
    return password.encode("utf-8", "surrogatepass")[:_LONGEST]
