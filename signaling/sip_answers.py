"""2xx responses to INVITE that wait for their ACK: repeated by the transaction user (RFC 3261 13.3.1.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from protocols.sip.message import Response
from protocols.sip.transaction import Timing


@dataclass(slots=True)
class _Waiting:
    response: Response
    send: Callable[[Response], object]
    acknowledged: asyncio.Future[bytes | None]
    interval: float
    deadline: float
    timer: asyncio.TimerHandle | None = None


class UnacknowledgedAnswers:
    """The 2xx of one dialog by CSeq number. ``on_silence`` is called when 64*T1 pass without an ACK."""

    def __init__(self, timing: Timing, on_silence: Callable[[], None]) -> None:
        self._timing = timing
        self._on_silence = on_silence
        self._waiting: dict[int, _Waiting] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def keep(
        self, number: int, response: Response, send: Callable[[Response], object]
    ) -> asyncio.Future[bytes | None]:
        """Repeat a response that was just sent until its ACK comes; the future holds the ACK's SDP text."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes | None] = loop.create_future()
        deadline = loop.time() + self._timing.timeout
        waiting = _Waiting(response, send, future, self._timing.t1, deadline)
        self._waiting[number] = waiting
        self._schedule(number, waiting)
        return future

    def acknowledge(self, number: int, sdp: bytes | None) -> bool:
        """The ACK came; False when none was awaited."""
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return False
        self._settle(waiting)
        if not waiting.acknowledged.done():
            waiting.acknowledged.set_result(sdp)
        return True

    async def settled(self, timeout: float) -> None:
        """Wait until every ACK has come, at most ``timeout`` seconds."""
        if self._waiting:
            await asyncio.wait([waiting.acknowledged for waiting in self._waiting.values()], timeout=timeout)

    def close(self) -> None:
        """Stop repeating; whoever waits is cancelled."""
        for waiting in self._waiting.values():
            self._settle(waiting)
            waiting.acknowledged.cancel()
        self._waiting.clear()

    @staticmethod
    def _settle(waiting: _Waiting) -> None:
        if waiting.timer is not None:
            waiting.timer.cancel()

    def _schedule(self, number: int, waiting: _Waiting) -> None:
        loop = asyncio.get_running_loop()
        when = min(loop.time() + waiting.interval, waiting.deadline)
        waiting.timer = loop.call_at(when, self._repeat, number)

    def _repeat(self, number: int) -> None:
        waiting = self._waiting.get(number)
        if waiting is None:
            return
        if asyncio.get_running_loop().time() >= waiting.deadline:
            del self._waiting[number]
            waiting.acknowledged.cancel()
            self._on_silence()
            return
        waiting.send(waiting.response)
        waiting.interval = min(2 * waiting.interval, self._timing.t2)
        self._schedule(number, waiting)
