"""Pacing: one participant's packets leave within its bit rate, in small bursts, sound before picture.

    pacer: Pacer[PacedFlow] = Pacer(3_000_000)        # IP-level bit/s, the site's budget in one direction
    pacer.passes(frame, now) -> bool                  # PacedFrame; True: send it now, it is counted
    pacer.push(frame) -> bool                         # otherwise; False: dropped, see needs_key_frame(flow)
    pacer.spend(wire_bytes, now)                      # what left without us (RTCP) counts too
    pacer.poll(now) -> [Burst(flow, packets), ...]    # what may leave now
    pacer.due -> float | None                         # when to poll again
    pacer.set_rate(bps, now)                          # at once
    clock = PacingClock()                             # one a worker, inside its event loop: drives all pacers
    clock.send(pacer, frame) -> bool; clock.set_rate(pacer, bps); clock.forget(pacer); clock.close()

`Pacer` does no I/O and reads no clock; `now` is monotonic seconds. Over any WINDOW the lengths of the IP
packets stay within the rate. Below that, pictures leave in bursts of a few packets at SURGE times the rate,
so that a key frame does not meet a policer at once; of camera and slides neither waits for the other's key
frame to be through. Sound waits for no burst, and pictures leave it the room
it has been seen to need (up to half the rate). Queues are bounded by QUEUE_SECONDS of the rate: sound and
repairs then lose their oldest, a picture's flow loses what waits before its latest key frame or, without one,
all until the next.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, NamedTuple, Protocol, TypeVar

from media.frame_packets import sizes_of

WINDOW = 1.02
"""Seconds over which the rate holds: one, and what late wake-ups may shift at its edges."""
SURGE = 1.5
BURST_SECONDS = 0.04
"""A burst is at most this much of the rate (though always a packet): a picture of average size at 25 a second
leaves in one call, a key frame in bursts of that size."""
QUEUE_SECONDS = 1.0
MIN_RATE = 32_000
"""bit/s; below, a full packet beside sound would not fit a second."""
MAX_PACKET = MIN_RATE // 8 // 2
"""IP bytes of a packet that fits at any rate."""

_CATCH_UP = 0.005
_TICK = 0.002


class Precedence(IntEnum):
    """What leaves first. REPAIR is retransmissions: they overtake the pictures they mend."""

    SOUND = 0
    REPAIR = 1
    PICTURE = 2


class PacedFlow(Hashable, Protocol):
    """One stream of packets; a MediaTransport, or a stream's sender above one."""

    def send_rtp(self, packets: Sequence[bytes]) -> None: ...


Flow = TypeVar("Flow", bound=Hashable)


class PacedFrame(NamedTuple, Generic[Flow]):
    """The RTP packets of one frame; `overhead` is what each grows by until it is an IP packet. A tuple, since
    one is made for every frame and receiver."""

    flow: Flow
    packets: Sequence[bytes]
    overhead: int
    precedence: Precedence = Precedence.PICTURE
    keyframe: bool = False
    """Whether decoding may start here."""


class Burst(NamedTuple, Generic[Flow]):
    """Packets of one flow that leave together."""

    flow: Flow
    packets: Sequence[bytes]


@dataclass(slots=True)
class PacerCounters:
    """Frames that never left, and their IP bytes."""

    overflowed_frames: int = 0
    overflowed_bytes: int = 0
    awaiting_keyframe: int = 0
    """Frames refused because their flow had lost what they build on."""


class _Waiting(Generic[Flow]):
    """A queued frame: the index of its next packet and the IP bytes left."""

    __slots__ = ("frame", "left", "next")

    def __init__(self, frame: PacedFrame[Flow]) -> None:
        self.frame = frame
        self.left = sum(sizes_of(frame.packets)) + len(frame.packets) * frame.overhead
        self.next = 0


class _Window:
    """What left in the last WINDOW seconds, as (time, bytes, was it sound)."""

    __slots__ = ("_entries", "sound", "spent")

    def __init__(self) -> None:
        self._entries: deque[tuple[float, float, bool]] = deque()
        self.spent = 0.0
        self.sound = 0.0

    def record(self, now: float, length: int, sound: bool) -> None:
        self._entries.append((now, length, sound))
        self.spent += length
        if sound:
            self.sound += length

    def expire(self, now: float) -> None:
        entries, horizon = self._entries, now - WINDOW
        while entries and entries[0][0] <= horizon:
            _, length, sound = entries.popleft()
            self.spent -= length
            if sound:
                self.sound -= length
        if not entries:
            self.spent = self.sound = 0.0  # no residue of rounding

    def scale(self, factor: float) -> None:
        self._entries = deque((at, length * factor, sound) for at, length, sound in self._entries)
        self.spent *= factor
        self.sound *= factor

    def time_of_room(self, missing: float) -> float:
        """When `missing` more bytes will have left the window; 0 when none are missing."""
        if missing <= 0:
            return 0.0
        for at, length, _ in self._entries:
            missing -= length
            if missing <= 0:
                return at + WINDOW
        return self._entries[-1][0] + WINDOW if self._entries else 0.0


class Pacer(Generic[Flow]):
    """See the module's head. `segments` bounds a burst in packets; `sound_reserve` (bit/s of IP packets) is
    kept free of pictures from the beginning, before sound has shown what it needs."""

    __slots__ = (
        "_broken",
        "_limit",
        "_next_burst",
        "_pictures",
        "_repair",
        "_segments",
        "_served",
        "_share",
        "_sound",
        "_sound_peak",
        "_window",
        "counters",
        "rate",
    )

    def __init__(self, rate: int, *, segments: int = 16, sound_reserve: int = 0) -> None:
        self.counters = PacerCounters()
        self._segments = segments
        self._window = _Window()
        self._sound: deque[_Waiting[Flow]] = deque()
        self._repair: deque[_Waiting[Flow]] = deque()
        self._pictures: deque[_Waiting[Flow]] = deque()
        self._sound_peak = sound_reserve / 8 * WINDOW
        self._next_burst = 0.0
        self._broken: set[Flow] = set()
        self._served: Flow | None = None
        self._apply(rate)

    def _apply(self, rate: int) -> None:
        if rate < MIN_RATE:
            raise ValueError(f"a pacer's rate must be at least {MIN_RATE} bit/s, {rate} was asked for")
        self.rate = rate
        self._limit = rate / 8
        self._share = self._limit * BURST_SECONDS

    def set_rate(self, rate: int, now: float) -> None:
        """Holds from now on. The past second is scaled down with the rate, so that a lower one slows the
        flow and does not stop it: no window exceeds the former rate, none that begins now the new one."""
        self._window.expire(now)
        if rate < self.rate:
            factor = rate / self.rate
            self._window.scale(factor)
        self._apply(rate)

    @property
    def queued_bytes(self) -> int:
        """IP bytes that wait."""
        return sum(waiting.left for waiting in itertools.chain(self._sound, self._repair, self._pictures))

    def needs_key_frame(self, flow: Flow) -> bool:
        """Whether this flow's pictures are refused until a key frame comes."""
        return flow in self._broken

    def forget(self, flow: Flow) -> None:
        """The flow has ended: what waits of it goes uncounted."""
        self._broken.discard(flow)
        if self._served == flow:
            self._served = None
        for queue in (self._sound, self._repair, self._pictures):
            kept = [waiting for waiting in queue if waiting.frame.flow != flow]
            queue.clear()
            queue.extend(kept)

    def spend(self, length: int, now: float) -> None:
        """IP bytes that left without waiting here; they count as sound does."""
        self._record(now, length, True)

    def passes(self, frame: PacedFrame[Flow], now: float) -> bool:
        """Whether the frame may leave whole and at once, as most do; then it counts as sent and is the
        caller's to send. Otherwise nothing has happened: push it."""
        if self._pictures or self._repair or self._sound:
            return False
        flow, packets, overhead, precedence, _ = frame
        if self._broken and flow in self._broken:
            return False
        self._window.expire(now)
        length = sum(sizes_of(packets)) + len(packets) * overhead
        if precedence is Precedence.SOUND:
            if length > self._limit - self._window.spent:
                return False
            self._record(now, length, True)
            return True
        if (
            now < self._next_burst
            or length > 1.5 * self._share
            or 2 * len(packets) > 3 * self._segments
            or length > self._picture_room()
        ):
            return False
        self._burst(now, length)
        return True

    def push(self, frame: PacedFrame[Flow]) -> bool:
        """Queue a frame; False when it was dropped. Raises ValueError for packets beyond MAX_PACKET."""
        if not frame.packets:
            return True
        if max(sizes_of(frame.packets)) + frame.overhead > MAX_PACKET:
            raise ValueError(f"a paced packet has at most {MAX_PACKET} bytes on the IP level")
        if frame.precedence is Precedence.PICTURE:
            return self._push_picture(frame)
        queue = self._sound if frame.precedence is Precedence.SOUND else self._repair
        queue.append(_Waiting(frame))
        while len(queue) > 1 and self._too_much(queue):
            self._drop(queue.popleft())
        return True

    def _push_picture(self, frame: PacedFrame[Flow]) -> bool:
        if frame.flow in self._broken:
            if not frame.keyframe:
                self.counters.awaiting_keyframe += 1
                return False
            self._broken.discard(frame.flow)
        waiting = _Waiting(frame)
        self._pictures.append(waiting)
        if len(self._pictures) == 1 or not self._too_much(self._pictures):
            return True
        return self._relieve(waiting)

    def _too_much(self, queue: deque[_Waiting[Flow]]) -> bool:
        """Beyond the bound, a frame that has begun to leave not counted."""
        return sum(w.left for w in queue if not w.next) > self._limit * QUEUE_SECONDS

    def _relieve(self, newest: _Waiting[Flow]) -> bool:
        """Drop frames of the newest one's flow; whether the newest still stands."""
        flow = newest.frame.flow
        mine = [w for w in self._pictures if w.frame.flow == flow and not w.next]
        keyframes = [at for at, w in enumerate(mine) if w.frame.keyframe]
        stale = mine[: keyframes[-1]] if keyframes else mine
        for waiting in stale:
            self._pictures.remove(waiting)
            self._drop(waiting)
        if not keyframes:
            self._broken.add(flow)
            return False
        if newest.frame.keyframe or not self._too_much(self._pictures):
            return True
        self._drop(self._pictures.pop())
        self._broken.add(flow)
        return False

    def _drop(self, waiting: _Waiting[Flow]) -> None:
        self.counters.overflowed_frames += 1
        self.counters.overflowed_bytes += waiting.left

    def _record(self, now: float, length: int, sound: bool) -> None:
        self._window.record(now, length, sound)
        if sound:
            self._sound_peak = max(self._sound_peak, self._window.sound)

    def _picture_room(self) -> float:
        """Bytes pictures may take now: what sound has needed in its busiest second stays free."""
        window, limit = self._window, self._limit
        room = limit - window.spent
        if self._sound_peak > window.sound:
            room -= max(0.0, min(self._sound_peak, limit / 2) - window.sound)
        return room

    def poll(self, now: float) -> list[Burst[Flow]]:
        """What may leave at `now`, and is counted as leaving."""
        self._window.expire(now)
        bursts: list[Burst[Flow]] = []
        while self._sound:
            waiting = self._sound[0]
            if waiting.left > self._limit - self._window.spent:
                break
            self._sound.popleft()
            self._record(now, waiting.left, True)
            bursts.append(Burst(waiting.frame.flow, waiting.frame.packets))
        if now >= self._next_burst and (self._repair or self._pictures):
            self._poll_pictures(now, bursts)
        return bursts

    def _poll_pictures(self, now: float, bursts: list[Burst[Flow]]) -> None:
        """One burst, of one or several frames."""
        room = self._picture_room()
        share = self._share
        segments, total = self._segments, 0
        while segments > 0 and (self._repair or self._pictures):
            waiting = self._next_picture()
            packets, length = _take(waiting, segments, room - total, share - total, total == 0)
            if not packets:
                break
            if waiting.next == len(waiting.frame.packets):
                (self._repair or self._pictures).remove(waiting)
            self._served = waiting.frame.flow
            bursts.append(Burst(waiting.frame.flow, packets))
            segments -= len(packets)
            total += length
        if total:
            self._burst(now, total)

    def _next_picture(self) -> _Waiting[Flow]:
        """Repairs first, then flow by flow in turns, each flow's frames in their order."""
        if self._repair:
            return self._repair[0]
        return next((w for w in self._pictures if w.frame.flow != self._served), self._pictures[0])

    def _burst(self, now: float, length: int) -> None:
        self._window.record(now, length, False)
        begin = max(self._next_burst, now - _CATCH_UP)
        self._next_burst = begin + length / (self._limit * SURGE)

    @property
    def due(self) -> float | None:
        """When something may leave next; None while nothing waits."""
        if not (self._pictures or self._sound or self._repair):
            return None
        times = []
        if self._sound:
            missing = self._sound[0].left - (self._limit - self._window.spent)
            times.append(self._window.time_of_room(missing))
        if self._repair or self._pictures:
            missing = _next_length(self._next_picture()) - self._picture_room()
            times.append(max(self._next_burst, self._window.time_of_room(missing)))
        return min(times)


def _next_length(waiting: _Waiting[Flow]) -> int:
    return sizes_of(waiting.frame.packets)[waiting.next] + waiting.frame.overhead


def _take(
    waiting: _Waiting[Flow], segments: int, room: float, share: float, at_least_one: bool
) -> tuple[Sequence[bytes], int]:
    """The next packets of a frame: at most `segments`, within `room`, within `share` but for the first.
    A rest that exceeds a burst by no more than half of it is not torn: a second call costs more."""
    frame, first = waiting.frame, waiting.next
    count = len(frame.packets)
    if 2 * (count - first) <= 3 * segments and waiting.left <= room and waiting.left <= 1.5 * share:
        waiting.next = count
        length, waiting.left = waiting.left, 0
        return frame.packets[first:] if first else frame.packets, length
    sizes, end, total = sizes_of(frame.packets), first, 0
    stop = min(count, first + segments)
    while end < stop:
        length = total + sizes[end] + frame.overhead
        if length > room or (length > share and not (at_least_one and end == first)):
            break
        total = length
        end += 1
    waiting.next = end
    waiting.left -= total
    return frame.packets[first:end], total


class PacingClock:
    """Polls all pacers of a worker by one timer: what is due within a tick leaves at its end, together."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: list[tuple[float, int, Pacer[PacedFlow]]] = []
        self._scheduled: dict[Pacer[PacedFlow], float] = {}
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def send(self, pacer: Pacer[PacedFlow], frame: PacedFrame[PacedFlow]) -> bool:
        """Send a frame, at once or paced; False when it was dropped."""
        now = time.monotonic()
        if pacer.passes(frame, now):
            frame.flow.send_rtp(frame.packets)
            return True
        accepted = pacer.push(frame)
        if frame.precedence is Precedence.SOUND or pacer not in self._scheduled:
            self._pump(pacer, now)
        return accepted

    def set_rate(self, pacer: Pacer[PacedFlow], rate: int) -> None:
        """IP-level bit/s from now on."""
        now = time.monotonic()
        pacer.set_rate(rate, now)
        self._pump(pacer, now)

    def forget(self, pacer: Pacer[PacedFlow]) -> None:
        """The pacer is not polled any more."""
        self._scheduled.pop(pacer, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due.clear()
        self._scheduled.clear()

    def _pump(self, pacer: Pacer[PacedFlow], now: float) -> None:
        for burst in pacer.poll(now):
            burst.flow.send_rtp(burst.packets)
        due = pacer.due
        if due is None:
            return
        due = math.ceil(max(due, now + _TICK / 2) / _TICK) * _TICK
        known = self._scheduled.get(pacer)
        if known is None or due < known:
            self._scheduled[pacer] = due
            heapq.heappush(self._due, (due, next(self._order), pacer))
            self._arm()

    def _arm(self) -> None:
        """The timer stands at the earliest due time."""
        earliest = self._due[0][0]
        if self._timer is not None:
            if self._timer_at <= earliest:
                return
            self._timer.cancel()
        self._timer_at = earliest
        self._timer = self._loop.call_later(max(0.0, earliest - time.monotonic()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            due, _, pacer = heapq.heappop(self._due)
            if self._scheduled.get(pacer) == due:  # neither forgotten nor moved forward
                del self._scheduled[pacer]
                self._pump(pacer, now)
        if self._due:
            self._arm()
