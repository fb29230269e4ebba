"""Events reach who asked for them: in the process, and over a real Redis that dies and comes back."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import redis.asyncio as redis_client
from hypothesis import given
from hypothesis import strategies as st

from foundation.event_bus import EventCodec, EventFormatError, InProcessBus, RedisBus, Subscription
from foundation.events import (
    EVENT_TYPES,
    BusReconnected,
    ConferenceEnded,
    ConferenceOpened,
    Event,
    SpeakersChanged,
)
from foundation.tasks import Backoff
from foundation.telemetry import Telemetry
from tests.peers.redis import RedisServer
from tests.peers.requirement import requires
from tests.peers.waiting import until_true

CODEC = EventCodec(EVENT_TYPES)


async def take(events: Subscription[Event], count: int = 1) -> list[Event]:
    async with asyncio.timeout(10):
        return [await anext(events) for _ in range(count)]


async def test_subscribers_get_the_classes_they_asked_for() -> None:
    bus = InProcessBus()
    opened, everything = bus.subscribe(ConferenceOpened), bus.subscribe(Event)
    bus.publish(ConferenceOpened("1"))
    bus.publish(ConferenceEnded("1", "empty"))
    bus.publish(ConferenceOpened("2"))
    assert await take(opened, 2) == [ConferenceOpened("1"), ConferenceOpened("2")]
    assert await take(everything, 3) == [
        ConferenceOpened("1"),
        ConferenceEnded("1", "empty"),
        ConferenceOpened("2"),
    ]


async def test_slow_subscriber_loses_the_oldest_is_told_and_holds_nobody_up() -> None:
    telemetry = Telemetry()
    bus = InProcessBus(telemetry)
    slow = bus.subscribe(ConferenceOpened, BusReconnected, queue_length=3)
    narrow = bus.subscribe(ConferenceOpened, queue_length=3)
    quick = bus.subscribe(ConferenceOpened)
    for number in range(10):
        bus.publish(ConferenceOpened(str(number)))
    last = [ConferenceOpened(str(number)) for number in (7, 8, 9)]
    assert await take(slow, 4) == [BusReconnected(), *last]
    assert await take(narrow, 3) == last
    assert len(await take(quick, 10)) == 10
    assert (slow.dropped, narrow.dropped, quick.dropped) == (7, 7, 0)
    assert b'anshi_dropped_total{queue="event_bus"} 14.0' in telemetry.exposition()


async def test_leaving_ends_the_subscription_and_closing_ends_them_all() -> None:
    bus = InProcessBus()
    async with bus.subscribe(ConferenceOpened) as left:
        bus.publish(ConferenceOpened("1"))
    bus.publish(ConferenceOpened("2"))
    assert [event async for event in left] == [ConferenceOpened("1")]
    waiting = bus.subscribe(ConferenceOpened)

    async def collect() -> list[ConferenceOpened]:
        return [event async for event in waiting]

    collecting = asyncio.create_task(collect())
    await asyncio.sleep(0)
    bus.publish(ConferenceOpened("3"))
    bus.close()
    assert await collecting == [ConferenceOpened("3")]


def test_a_subscription_to_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        InProcessBus().subscribe()


@given(st.text(), st.lists(st.text()))
def test_events_survive_the_wire(node: str, ids: list[str]) -> None:
    event = SpeakersChanged(node, tuple(ids))
    assert CODEC.decode(CODEC.encode(node, event)) == (node, event)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_event_class_is_encodable(kind: type[Event]) -> None:
    values = {"str": "x", "int": 1, "float": 1.0, "bool": True, "tuple[str, ...]": ("x",)}
    event = kind(**{field.name: values[str(field.type)] for field in dataclasses.fields(kind)})
    assert CODEC.decode(CODEC.encode("n", event)) == ("n", event)


@given(st.binary())
def test_any_bytes_are_an_event_or_refused(data: bytes) -> None:
    try:
        node, event = CODEC.decode(data)
    except EventFormatError:
        return
    assert isinstance(event, Event)
    assert isinstance(node, str)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (("n", "Earthquake", {}), "'Earthquake' is unknown here"),
        (("n", "ConferenceOpened", {}), "conference_id"),
        (("n", "ConferenceOpened", {"conference_id": 5}), "str"),
        (("n", "ConferenceOpened"), "not an event"),
        ({"n": 1}, "not an event"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(message: object, words: str) -> None:
    with pytest.raises(EventFormatError, match=words):
        CODEC.decode(msgspec.msgpack.encode(message))


def test_unregistered_and_ambiguous_classes_are_our_own_mistake() -> None:
    with pytest.raises(TypeError, match="ConferenceEnded is not registered"):
        EventCodec([ConferenceOpened]).encode("n", ConferenceEnded("1", "x"))
    other = type("ConferenceOpened", (Event,), {})
    with pytest.raises(ValueError, match="two event classes are called ConferenceOpened"):
        EventCodec([ConferenceOpened, other])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path / "redis") as server:
        yield server


@asynccontextmanager
async def buses(url: str, count: int = 2, queue_length: int = 1000) -> AsyncIterator[list[RedisBus]]:
    """Several machines' buses, each of which hears Redis."""
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(
                RedisBus(
                    url,
                    CODEC,
                    Telemetry(),
                    queue_length=queue_length,
                    backoff=Backoff(first=0.02, limit=0.1),
                )
            )
            for _ in range(count)
        ]
        async with asyncio.timeout(10):
            for bus in made:
                await bus.wait_connected()
        yield made


@requires("redis")
async def test_machines_hear_one_another_and_nobody_hears_themselves_twice(server: RedisServer) -> None:
    async with buses(server.url) as (here, there):
        at_home, far = here.subscribe(ConferenceOpened), there.subscribe(ConferenceOpened)
        for number in range(50):
            here.publish(ConferenceOpened(str(number)))
        there.publish(ConferenceOpened("back"))
        expected: list[Event] = [ConferenceOpened(str(number)) for number in range(50)]
        assert sorted(map(str, await take(far, 51))) == sorted(
            map(str, [*expected, ConferenceOpened("back")])
        )
        assert await take(at_home, 51) == [*expected, ConferenceOpened("back")]
        here.publish(ConferenceOpened("last"))
        assert await take(at_home) == [ConferenceOpened("last")]


@requires("redis")
async def test_redis_killed_and_back(server: RedisServer) -> None:
    """Local delivery goes on, what was said meanwhile arrives, both sides are told to rescan."""
    async with buses(server.url) as (here, there):
        at_home = here.subscribe(ConferenceOpened)
        far = there.subscribe(ConferenceOpened, BusReconnected)
        await server.kill()
        await until_true(lambda: not here.connected and not there.connected, "both to notice", 5)
        here.publish(ConferenceOpened("while away"))
        assert await take(at_home) == [ConferenceOpened("while away")]
        await server.start()
        async with asyncio.timeout(10):
            await there.wait_connected()
            await here.wait_connected()
        assert (await take(far))[0] == BusReconnected()
        here.publish(ConferenceOpened("after"))
        seen: list[Event] = []
        while ConferenceOpened("after") not in seen:
            seen += await take(far)
        assert here.dropped == 0


@requires("redis")
async def test_event_cut_off_on_its_way_is_sent_again(server: RedisServer) -> None:
    """Redis hangs with the event in its socket, dies, and comes back; the hearer is back first."""
    here = RedisBus(server.url, CODEC, Telemetry(), backoff=Backoff(first=1.5, limit=1.5))
    there = RedisBus(server.url, CODEC, Telemetry(), backoff=Backoff(first=0.02, limit=0.05))
    async with here, there, asyncio.timeout(20):
        await here.wait_connected()
        await there.wait_connected()
        far = there.subscribe(ConferenceOpened)
        server.freeze()
        here.publish(ConferenceOpened("on its way"))
        await until_true(lambda: here.waiting == 0, "the event to leave", 5)
        await server.kill()
        await until_true(lambda: not here.connected and not there.connected, "both to notice", 5)
        assert here.waiting == 1
        await server.start()
        await there.wait_connected()
        assert await take(far) == [ConferenceOpened("on its way")]


@requires("redis")
async def test_service_starts_without_redis_and_finds_it_later(tmp_path: Path) -> None:
    async with RedisServer(tmp_path / "redis") as server:
        await server.kill()
        bus = RedisBus(server.url, CODEC, Telemetry(), backoff=Backoff(first=0.02, limit=0.1))
        async with bus:
            events = bus.subscribe(Event)
            bus.publish(ConferenceOpened("alone"))
            assert await take(events) == [ConferenceOpened("alone")]
            assert not bus.connected
            await server.start()
            assert await take(events) == [BusReconnected()]
            assert bus.connected


@requires("redis")
async def test_events_that_wait_for_redis_are_bounded_and_the_rest_counted(server: RedisServer) -> None:
    async with buses(server.url, queue_length=10) as (here, there):
        await server.kill()
        await until_true(lambda: not here.connected and not there.connected, "both to notice", 5)
        for number in range(25):
            here.publish(ConferenceOpened(str(number)))
        assert here.dropped == 15
        far = there.subscribe(ConferenceOpened)
        await server.start()
        async with asyncio.timeout(10):
            await there.wait_connected()
            await here.wait_connected()
        here.publish(ConferenceOpened("after"))
        while await take(far) != [ConferenceOpened("after")]:
            pass


@requires("redis")
async def test_frozen_redis_is_noticed_by_its_silence(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundation.event_bus._SILENCE", 0.2)
    async with buses(server.url, 1) as (bus,):
        events = bus.subscribe(BusReconnected)
        server.freeze()
        try:
            await until_true(lambda: not bus.connected, "the silence to be noticed", 5)
        finally:
            server.thaw()
        assert await take(events) == [BusReconnected()]


@requires("redis")
async def test_strangers_on_the_channel_are_counted_and_ignored(server: RedisServer) -> None:
    telemetry = Telemetry()
    async with RedisBus(server.url, CODEC, telemetry) as bus:
        events = bus.subscribe(ConferenceOpened)
        await bus.wait_connected()
        async with redis_client.Redis.from_url(server.url) as stranger:
            for data in (b"hello", b"", CODEC.encode("other node", ConferenceOpened("9"))):
                await stranger.publish("anshi:events", data)
        assert await take(events) == [ConferenceOpened("9")]
    assert b"anshi_bus_refused_total 2.0" in telemetry.exposition()
