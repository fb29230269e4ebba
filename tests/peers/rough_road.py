"""A bad network between a SIP terminal and a node: a relay of UDP that loses, delays, doubles and reorders.

    async with RoughRoad(node.sip_port, Weather(loss=0.03), address="127.0.0.2", seed=1) as road:
        await room.dial(road.uri(meeting.number))
        road.counts.carried, road.counts.lost

The terminal takes the near end for the node and the node takes the far end, at `address`, for the terminal:
SIP passes with the addresses in it changed, and its session descriptions lead media through the relay too.
One call at a time. Both ways have a weather of their own, drawn from the seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

Address: TypeAlias = tuple[str, int]
Taker: TypeAlias = Callable[[bytes, Address], None]
NODE = "127.0.0.1"
_BUFFER, _BATCH = 1 << 20, 64
FIRST, LAST = 33_000, 39_000
"""Where media ports are taken from."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to packets. Times in seconds, all else shares of 1.

    Losses come in bursts of `burst` packets in the mean (Gilbert's model with a bad state that loses all).
    `jitter` is added to `delay` as a wandering queue that keeps the order; `reordered` packets arrive `late`.
    """

    loss: float = 0.0
    burst: float = 1.5
    delay: float = 0.0
    jitter: float = 0.0
    doubled: float = 0.0
    reordered: float = 0.0
    late: float = 0.015


@dataclass(slots=True)
class Counts:
    carried: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0


@dataclass(slots=True)
class Counted:
    """Both ways of a road."""

    up: Counts = field(default_factory=Counts)
    down: Counts = field(default_factory=Counts)

    @property
    def carried(self) -> int:
        return self.up.carried + self.down.carried

    @property
    def lost(self) -> int:
        return self.up.lost + self.down.lost


class Lane:
    """One way of one socket pair: `carry` hands each packet on when and if it arrives."""

    def __init__(self, weather: Weather, dice: random.Random, counts: Counts) -> None:
        self._weather = weather
        self._dice = dice
        self._counts = counts
        self._bad = False
        self._queue: deque[tuple[float, bytes, Callable[[bytes], None]]] = deque()
        self._wandering = 0.5
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def carry(self, data: bytes, deliver: Callable[[bytes], None]) -> None:
        self._counts.carried += 1
        if self._loses():
            self._counts.lost += 1
            return
        weather, dice = self._weather, self._dice
        if dice.random() < weather.reordered:
            self._counts.reordered += 1
            self._loop.call_later(weather.delay + weather.jitter + weather.late, deliver, data)
            return
        self._put(data, deliver)
        if dice.random() < weather.doubled:
            self._counts.doubled += 1
            self._put(data, deliver)

    def _loses(self) -> bool:
        weather = self._weather
        if not weather.loss:
            return False
        ends = 1 / weather.burst
        begins = ends * weather.loss / (1 - weather.loss)
        self._bad = self._dice.random() < (1 - ends if self._bad else begins)
        return self._bad

    def _put(self, data: bytes, deliver: Callable[[bytes], None]) -> None:
        weather = self._weather
        self._wandering = min(max(self._wandering + self._dice.uniform(-0.2, 0.2), 0.0), 1.0)
        due = self._loop.time() + weather.delay + weather.jitter * self._wandering
        if self._queue:
            due = max(due, self._queue[-1][0])
        self._queue.append((due, data, deliver))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._release)

    def _release(self) -> None:
        self._timer = None
        while self._queue:
            due, data, deliver = self._queue[0]
            if due > self._loop.time():
                self._timer = self._loop.call_at(due, self._release)
                return
            self._queue.popleft()
            deliver(data)

    def close(self) -> None:
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()


class Port:
    """One bound socket; what comes goes to `took`."""

    def __init__(self, host: str, port: int, took: Callable[[bytes, Address], None]) -> None:
        """Raises OSError when the port is taken."""
        self._took = took
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._sock.bind((host, port))
        except BaseException:
            self._sock.close()
            raise
        self.address: Address = self._sock.getsockname()[:2]
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._read)

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                data, source = self._sock.recvfrom(65_536)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error left by an earlier datagram
            self._took(data, source[:2])
            if self._sock.fileno() < 0:
                return

    def send(self, data: bytes, to: Address) -> None:
        if self._sock.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._sock.sendto(data, to)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()


class Way:
    """RTP and RTCP of one medium: a pair of ports at each end of the road."""

    def __init__(self, near: tuple[Port, Port], far: tuple[Port, Port]) -> None:
        self.near, self.far = near, far
        self.terminal: Address | None = None
        self.node: Address | None = None

    def close(self) -> None:
        for port in (*self.near, *self.far):
            port.close()


class RoughRoad:
    """See the module's head. `weather` holds for media and, without delay, for SIP."""

    def __init__(
        self, node_port: int, weather: Weather, *, address: str = NODE, node: str = NODE, seed: int = 0
    ) -> None:
        self.counts = Counted()
        self._weather = weather
        self._address = address
        self._node: Address = (node, node_port)
        self._terminal: Address | None = None
        self._dice = random.Random(seed)
        self._ways: dict[int, Way] = {}
        self._call = ""
        self._lanes: list[Lane] = []

    async def __aenter__(self) -> Self:
        self._up, self._down = self._lane(self.counts.up), self._lane(self.counts.down)
        self._near = Port(NODE, 0, self._from_terminal)
        self._far = Port(self._address, 0, self._from_node)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget_call()
        for lane in self._lanes:
            lane.close()
        self._near.close()
        self._far.close()

    def uri(self, number: str) -> str:
        """What the terminal dials to reach the node's `number`."""
        return f"sip:{number}@{_named(self._near.address)}"

    def _lane(self, counts: Counts) -> Lane:
        lane = Lane(self._weather, random.Random(self._dice.getrandbits(32)), counts)
        self._lanes.append(lane)
        return lane

    def _forget_call(self) -> None:
        for way in self._ways.values():
            way.close()
        self._ways.clear()

    # --- SIP ----------------------------------------------------------------------------------------

    def _from_terminal(self, data: bytes, source: Address) -> None:
        self._terminal = source
        message = _Message(data)
        message.rename({self._near.address: self._node, source: self._far.address})
        self._open_ways(message)
        for index, section in message.media():
            way = self._ways.get(index)
            if way is not None:
                way.terminal = section
                message.lead(index, way.far[0].address)
        self._up.carry(message.data, lambda data: self._far.send(data, self._node))

    def _from_node(self, data: bytes, _source: Address) -> None:
        terminal = self._terminal
        if terminal is None:
            return
        message = _Message(data)
        message.rename({self._node: self._near.address, self._far.address: terminal})
        self._open_ways(message)
        for index, section in message.media():
            way = self._ways.get(index)
            if way is not None:
                way.node = section
                message.lead(index, way.near[0].address)
        self._down.carry(message.data, lambda data: self._near.send(data, terminal))

    def _open_ways(self, message: _Message) -> None:
        """Ports for each medium of a description; another call has others."""
        if message.call and message.call != self._call and message.media():
            self._forget_call()
            self._call = message.call
        for index, _section in message.media():
            if index not in self._ways:
                self._ways[index] = self._open_way(index)

    def _open_way(self, index: int) -> Way:
        near = _pair(NODE, self._taker(index, 0, upward=True), self._taker(index, 1, upward=True))
        far = _pair(self._address, self._taker(index, 0, upward=False), self._taker(index, 1, upward=False))
        return Way(near, far)

    def _taker(self, index: int, which: int, *, upward: bool) -> Taker:
        """What is done with the packets of a port; `which`: RTP 0, RTCP 1."""
        lane = self._lane(self.counts.up if upward else self.counts.down)

        def took(data: bytes, _source: Address) -> None:
            way = self._ways.get(index)
            target = None if way is None else (way.node if upward else way.terminal)
            if way is not None and target is not None:
                out = (way.far if upward else way.near)[which]
                lane.carry(data, lambda data: out.send(data, (target[0], target[1] + which)))

        return took


class _Message:
    """A SIP message whose addresses may be changed."""

    def __init__(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        self._head, self._body = head.decode(errors="surrogateescape"), body.decode(errors="surrogateescape")
        found = re.search(r"^(?:Call-ID|i)\s*:\s*(\S+)", self._head, re.MULTILINE | re.IGNORECASE)
        self.call = found[1] if found else ""
        self._described = self._body.startswith("v=0")

    def rename(self, names: dict[Address, Address]) -> None:
        """Other addresses wherever a header has these."""
        known = {_named(old): _named(new) for old, new in names.items()}
        pattern = "|".join(re.escape(name) + r"(?!\d)" for name in known)
        self._head = re.sub(pattern, lambda found: known[found[0]], self._head)

    def media(self) -> list[tuple[int, Address]]:
        """Each m-line that is not refused: its place, and where its media go."""
        if not self._described:
            return []
        sections = re.split(r"^(?=m=)", self._body, flags=re.MULTILINE)
        session = _connection(sections[0])
        found = []
        for index, section in enumerate(sections[1:]):
            line = re.match(r"m=\S+ (\d+) (\S+)", section)
            host = _connection(section) or session
            if line and int(line[1]) and host and "UDP" not in line[2] and "TCP" not in line[2]:
                found.append((index, (host, int(line[1]))))
        return found

    def lead(self, index: int, to: Address) -> None:
        """Lead the media of an m-line there."""
        sections = re.split(r"^(?=m=)", self._body, flags=re.MULTILINE)
        section = re.sub(r"^(m=\S+ )\d+", rf"\g<1>{to[1]}", sections[index + 1])
        section = re.sub(r"^a=rtcp:\d+.*\r?\n", "", section, flags=re.MULTILINE)
        if _connection(section):
            section = re.sub(r"^(c=IN IP4 )\S+", rf"\g<1>{to[0]}", section, flags=re.MULTILINE)
        else:
            section = section.replace("\r\n", f"\r\nc=IN IP4 {to[0]}\r\n", 1)
        sections[index + 1] = section
        self._body = "".join(sections)

    @property
    def data(self) -> bytes:
        body = self._body.encode(errors="surrogateescape")
        length = rf"\g<1>{len(body)}"
        head = re.sub(
            r"^((?:Content-Length|l)\s*:\s*)\d+", length, self._head, flags=re.MULTILINE | re.IGNORECASE
        )
        return head.encode(errors="surrogateescape") + b"\r\n\r\n" + body


def _connection(part: str) -> str | None:
    found = re.search(r"^c=IN IP4 ([\d.]+)", part, re.MULTILINE)
    return found[1] if found else None


def _named(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def _pair(host: str, rtp: Taker, rtcp: Taker) -> tuple[Port, Port]:
    """An even port and the next one. Raises OSError when none are left."""
    for _ in range(1000):
        first = random.randrange(FIRST, LAST, 2)
        try:
            one = Port(host, first, rtp)
        except OSError:
            continue
        try:
            return one, Port(host, first + 1, rtcp)
        except OSError:
            one.close()
    raise OSError(f"{host} has no free pair of ports for a relay")
