"""Tells whoever listens what has just become so.

    codec = EventCodec((*EVENT_TYPES, JobEnqueued))
    bus = InProcessBus()                                    # one machine
    async with RedisBus(url, codec, telemetry) as bus: ...  # several machines: main processes joined by Redis
    bus.publish(ConferenceOpened(id))                       # never waits, never fails
    async with bus.subscribe(ConferenceOpened, BusReconnected) as events:
        async for event in events: ...                      # ends when the bus closes

A lost event costs latency only: rows are written first, and whoever acts on events rescans rows. A subscriber
too slow for its queue, or a bus that was cut off from Redis, gets `BusReconnected` as the sign to rescan. To
subscribe to a class is to subscribe to its subclasses (`Event` is everything).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar
from uuid import uuid4

import msgspec
import redis.asyncio as redis_client
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from foundation.events import BusReconnected, Event
from foundation.tasks import Backoff, TaskScope
from foundation.telemetry import DropCounter, Telemetry

__all__ = ["EventBus", "EventCodec", "EventFormatError", "InProcessBus", "RedisBus", "Subscription"]

_log = structlog.get_logger("event_bus")
_E = TypeVar("_E", bound=Event)
_E_co = TypeVar("_E_co", bound=Event, covariant=True)

QUEUE_LENGTH = 1000
_SILENCE = 5.0
"""Seconds without a word from Redis after which it is asked whether it is there."""


class EventBus(Protocol):
    """What publishers and subscribers see."""

    def publish(self, event: Event) -> None:
        """Hand `event` to every subscriber of its class; to be called on the event loop."""
        ...

    def subscribe(self, *types: type[_E], queue_length: int = QUEUE_LENGTH) -> Subscription[_E]:
        """Events of these classes, from this call on."""
        ...


class Subscription(Generic[_E_co]):
    """An async iterator over one subscriber's bounded queue; `dropped` counts what did not fit."""

    def __init__(self, bus: _Subscribers, types: tuple[type[_E_co], ...], queue_length: int) -> None:
        self._bus = bus
        self._types = types
        self._queue: deque[_E_co] = deque()
        self._queue_length = queue_length
        self._arrived = asyncio.Event()
        self._overflowed = False
        self._closed = False
        self.dropped = 0

    async def __aenter__(self) -> Subscription[_E_co]:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[_E_co]:
        return self

    async def __anext__(self) -> _E_co:
        while True:
            if self._overflowed:
                self._overflowed = False
                rescan = BusReconnected()
                if isinstance(rescan, self._types):
                    return rescan
            if self._queue:
                return self._queue.popleft()
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()

    def wants(self, event: Event) -> bool:
        return isinstance(event, self._types)

    def deliver(self, event: Any) -> int:
        """Queue an event; the oldest goes when the queue is full. Returns how many were dropped."""
        dropped = 0
        if len(self._queue) >= self._queue_length:
            self._queue.popleft()
            self.dropped += 1
            self._overflowed = True
            dropped = 1
        self._queue.append(event)
        self._arrived.set()
        return dropped

    def close(self) -> None:
        """No more events; the iterator ends after those already queued."""
        self._closed = True
        self._bus.remove(self)
        self._arrived.set()


class _Subscribers:
    """Who listens in this process."""

    def __init__(self, drops: DropCounter | None) -> None:
        self._subscriptions: list[Subscription[Any]] = []
        self._drops = drops

    def add(self, types: tuple[type[_E], ...], queue_length: int) -> Subscription[_E]:
        if not types:
            raise ValueError("a subscription names at least one event class")
        subscription = Subscription(self, types, queue_length)
        self._subscriptions.append(subscription)
        return subscription

    def remove(self, subscription: Subscription[Any]) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def deliver(self, event: Event) -> None:
        for subscription in self._subscriptions:
            if subscription.wants(event):
                dropped = subscription.deliver(event)
                if dropped and self._drops is not None:
                    self._drops.add(dropped)

    def close(self) -> None:
        for subscription in tuple(self._subscriptions):
            subscription.close()

    def __len__(self) -> int:
        return len(self._subscriptions)


class InProcessBus:
    """Delivers within this process only."""

    def __init__(self, telemetry: Telemetry | None = None) -> None:
        self._subscribers = _Subscribers(telemetry.drops("event_bus") if telemetry else None)

    async def __aenter__(self) -> InProcessBus:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def publish(self, event: Event) -> None:
        self._subscribers.deliver(event)

    def subscribe(self, *types: type[_E], queue_length: int = QUEUE_LENGTH) -> Subscription[_E]:
        return self._subscribers.add(types, queue_length)

    def close(self) -> None:
        """End every subscription."""
        self._subscribers.close()


class EventFormatError(ValueError):
    """A message on the bus is none of ours: not our envelope, an unknown class, or wrong fields."""


class EventCodec:
    """Events as bytes: MessagePack of [node, class name, fields]; classes are registered by name."""

    def __init__(self, types: Iterable[type[Event]]) -> None:
        self._types: dict[str, type[Event]] = {}
        for kind in types:
            if self._types.setdefault(kind.__name__, kind) is not kind:
                raise ValueError(f"two event classes are called {kind.__name__}")

    def encode(self, node: str, event: Event) -> bytes:
        """Raises TypeError for a class that was not registered."""
        name = type(event).__name__
        if self._types.get(name) is not type(event):
            raise TypeError(f"event class {name} is not registered with the bus")
        return msgspec.msgpack.encode((node, name, event))

    def decode(self, data: bytes) -> tuple[str, Event]:
        """The sending node and its event. Raises EventFormatError."""
        try:
            node, name, fields = msgspec.msgpack.decode(data, type=tuple[str, str, msgspec.Raw])
            kind = self._types.get(name)
            if kind is None:
                raise EventFormatError(f"event class {name!r} is unknown here; is that node newer?")
            return node, msgspec.msgpack.decode(fields, type=kind)
        except msgspec.MsgspecError as error:
            raise EventFormatError(f"not an event: {error}") from None


class RedisBus:
    """Delivers here at once and, through Redis publish/subscribe, to the other machines.

    While Redis is away local delivery goes on and up to `queue_length` events wait for it. Whenever Redis is
    heard (again), subscribers get `BusReconnected`. `connected` says how it stands.
    """

    def __init__(
        self,
        url: str,
        codec: EventCodec,
        telemetry: Telemetry,
        *,
        channel: str = "anshi:events",
        queue_length: int = QUEUE_LENGTH,
        backoff: Backoff | None = None,
    ) -> None:
        self._url = url
        self._codec = codec
        self._channel = channel
        self._node = uuid4().hex
        self._subscribers = _Subscribers(telemetry.drops("event_bus"))
        self._outgoing: deque[bytes] = deque()
        self._queue_length = queue_length
        self._outgoing_ready = asyncio.Event()
        self._unsent = telemetry.drops("event_bus.redis")
        self._refused = telemetry.counter(
            "anshi_bus_refused", "Messages on the bus that are no events of ours"
        )
        self._up = telemetry.gauge("anshi_bus_connected", "1 while the bus hears Redis")
        self._backoff = backoff or Backoff(first=0.1, limit=5.0)
        self._scope = TaskScope("event_bus")
        self._connected = asyncio.Event()
        self._was_cut_off = False

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def dropped(self) -> int:
        """Events that were not sent to other machines."""
        return self._unsent.count

    @property
    def waiting(self) -> int:
        """Events that wait to be sent to other machines."""
        return len(self._outgoing)

    async def wait_connected(self) -> None:
        """Return once Redis is heard."""
        await self._connected.wait()

    async def __aenter__(self) -> RedisBus:
        await self._scope.__aenter__()
        self._scope.spawn("redis", self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._scope.__aexit__(kind, error, trace)
        finally:
            self._subscribers.close()

    def publish(self, event: Event) -> None:
        data = self._codec.encode(self._node, event)
        self._subscribers.deliver(event)
        if len(self._outgoing) >= self._queue_length:
            self._outgoing.popleft()
            self._unsent.add()
        self._outgoing.append(data)
        self._outgoing_ready.set()

    def subscribe(self, *types: type[_E], queue_length: int = QUEUE_LENGTH) -> Subscription[_E]:
        return self._subscribers.add(types, queue_length)

    async def _run(self) -> None:
        while True:
            try:
                await self._converse()
            except (RedisError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            except ExceptionGroup as group:
                expected, other = group.split((RedisError, OSError, TimeoutError))
                if other is not None:
                    raise other from None
                reason = str(expected.exceptions[0]) if expected else ""
            self._connected.clear()
            self._up.set(0)
            if not self._was_cut_off:
                _log.warning("Redis is away; events stay on this machine", reason=reason)
            self._was_cut_off = True
            await asyncio.sleep(self._backoff.next_delay())

    async def _converse(self) -> None:
        """Send and hear until the connection breaks; ends only by an exception."""
        client = redis_client.Redis.from_url(
            self._url,
            retry=Retry(
                NoBackoff(), 0
            ),  # the client would mend a cut silently, and we would not know to rescan
            socket_connect_timeout=_SILENCE,
            socket_timeout=2 * _SILENCE,
            socket_keepalive=True,
        )
        async with client, client.pubsub() as listener, asyncio.TaskGroup() as group:
            await listener.subscribe(self._channel)
            await self._hear(listener)
            self._heard_again()
            group.create_task(self._send_all(client), name="event_bus.send")
            while True:
                await self._hear(listener)

    async def _hear(self, listener: redis_client.client.PubSub) -> None:
        """Take one message or confirmation; when Redis is silent, ask whether it lives."""
        message = await listener.get_message(timeout=_SILENCE)
        if message is None:
            await listener.ping()
            message = await listener.get_message(timeout=_SILENCE)
            if message is None:
                raise TimeoutError("Redis does not answer a PING")
        if message["type"] != "message":
            return
        try:
            node, event = self._codec.decode(message["data"])
        except EventFormatError as error:
            self._refused.inc()
            _log.warning("a message on the bus was ignored", reason=str(error))
            return
        if node != self._node:
            self._subscribers.deliver(event)

    def _heard_again(self) -> None:
        self._backoff.reset()
        self._up.set(1)
        self._connected.set()
        if self._was_cut_off:
            _log.info("Redis is back", waiting=self.waiting, dropped=self._unsent.count)
            self._was_cut_off = False
        # The first time too: whoever scanned the rows before now has heard nobody else since.
        self._subscribers.deliver(BusReconnected())

    async def _send_all(self, client: redis_client.Redis) -> None:
        while True:
            while self._outgoing:
                data = self._outgoing.popleft()
                try:
                    await client.publish(self._channel, data)
                except BaseException:
                    self._outgoing.appendleft(data)
                    raise
            self._outgoing_ready.clear()
            await self._outgoing_ready.wait()
