"""The 20 ms clock of all mixers of a process, in a thread of its own.

    clock = SoundClock(); clock.start()
    clock.add(on_tick); clock.remove(on_tick)      on_tick(due) runs in the clock's thread: mix, encode
    clock.counts: ticks, late, skipped, failed, busy_seconds
    clock.intervals() -> seconds between the last ticks, newest last
    clock.close()

Deadlines are counted from the start, so that ticks neither drift nor bunch, and listeners are told the
deadline, which is free of the machine's jitter; a tick more than 5 ms behind
counts as late, and after a stall of more than 100 ms the missed ticks are skipped and counted. Beside threads
that hold the interpreter, a tick waits up to `sys.getswitchinterval()` for it: a process that mixes sound
beside pictures sets that to 1 ms at its start, and leaves its picture threads at the usual niceness: a niced
one that loses its core while it holds the interpreter holds up the tick too.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

PERIOD = 0.020
LATE = 0.005
STALLED = 0.100
KEPT = 4096
"""Intervals kept for `intervals()`: 82 s."""


@dataclass(slots=True)
class ClockCounts:
    ticks: int = 0
    late: int = 0
    skipped: int = 0
    failed: int = 0
    busy_seconds: float = 0.0


class SoundClock:
    def __init__(self, period: float = PERIOD) -> None:
        self.counts = ClockCounts()
        self._period = period
        self._listeners: tuple[Callable[[float], None], ...] = ()
        self._intervals: deque[float] = deque(maxlen=KEPT)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sound-clock", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout: float = 1.0) -> None:
        """Stops after the tick in work; waits for it, which is a matter of milliseconds."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def add(self, on_tick: Callable[[float], None]) -> None:
        with self._lock:
            self._listeners = (*self._listeners, on_tick)

    def remove(self, on_tick: Callable[[float], None]) -> None:
        """After this returns, no new call is made; one may still be under way."""
        with self._lock:
            self._listeners = tuple(one for one in self._listeners if one != on_tick)

    def intervals(self) -> tuple[float, ...]:
        return tuple(self._intervals)

    def _run(self) -> None:
        _hurry()
        due = time.monotonic() + self._period
        last = 0.0
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            if last:
                self._intervals.append(now - last)
            last = now
            self._tick(now, due)
            due = self._next(due)

    def _tick(self, now: float, due: float) -> None:
        self.counts.ticks += 1
        if now - due > LATE:
            self.counts.late += 1
        started = time.thread_time()
        for on_tick in self._listeners:
            try:
                on_tick(due)
            except Exception as error:
                self.counts.failed += 1
                if self.counts.failed.bit_count() == 1:
                    log.error(
                        "sound_tick_failed", failed=self.counts.failed, error=repr(error), exc_info=True
                    )
        self.counts.busy_seconds += time.thread_time() - started

    def _next(self, due: float) -> float:
        due += self._period
        behind = time.monotonic() - due
        if behind > STALLED:
            missed = int(behind / self._period)
            self.counts.skipped += missed
            due += missed * self._period
        return due


def _hurry() -> None:
    """Real-time scheduling for this thread, else a low niceness, else neither: both need CAP_SYS_NICE."""
    thread = threading.get_native_id()
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(thread, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        return
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, thread, -10)
