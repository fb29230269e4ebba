"""The relay of a bad network: what it loses is what it was told to, and a call goes through it both ways."""

import asyncio
import random
from itertools import pairwise

import pytest

from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from orchestrator.demo.terminal.studio import Studio
from tests.peers.rough_road import Counts, Lane, RoughRoad, Weather
from tests.peers.waiting import until_true


async def carried(weather: Weather, count: int) -> tuple[list[int], Counts]:
    """What came of so many numbered packets, in the order it came."""
    came: list[int] = []
    counts = Counts()
    lane = Lane(weather, random.Random(7), counts)
    for number in range(count):
        lane.carry(number.to_bytes(4, "big"), lambda data: came.append(int.from_bytes(data, "big")))
        await asyncio.sleep(0)
    await asyncio.sleep(weather.delay + weather.jitter + weather.late + 0.05)
    lane.close()
    return came, counts


async def test_losses_are_as_many_as_told_and_come_in_bursts() -> None:
    came, counts = await carried(Weather(loss=0.03, burst=3.0), 20_000)
    assert counts.lost == 20_000 - len(came)
    assert 0.02 < counts.lost / 20_000 < 0.04
    missing = sorted(set(range(20_000)) - set(came))
    bursts = 1 + sum(later - earlier > 1 for earlier, later in pairwise(missing))
    assert 2.0 < counts.lost / bursts < 4.0
    assert came == sorted(came)


async def test_the_same_seed_has_the_same_weather() -> None:
    assert (await carried(Weather(loss=0.1), 500))[0] == (await carried(Weather(loss=0.1), 500))[0]


async def test_jitter_keeps_the_order_and_only_the_reordered_come_late() -> None:
    came, _ = await carried(Weather(delay=0.005, jitter=0.02), 500)
    assert came == list(range(500))
    came, counts = await carried(Weather(reordered=0.05, doubled=0.05), 500)
    assert counts.reordered > 5
    assert counts.doubled > 5
    assert len(came) == 500 + counts.doubled
    assert came != sorted(came)
    assert set(came) == set(range(500))


@pytest.mark.parametrize("loss", [0.0, 0.03])
async def test_a_call_between_two_terminals_is_seen_and_heard_through_it(loss: float) -> None:
    one = TerminalSettings("one", bind="127.0.0.1", colour="red", tone_hz=440)
    other = TerminalSettings("other", bind="127.0.0.1", colour="blue", tone_hz=880)
    async with Studio() as studio, RoomTerminal(one, studio) as caller, RoomTerminal(other, studio) as called:
        port = int(called.uri.partition(";")[0].rpartition(":")[2])
        async with RoughRoad(port, Weather(loss, jitter=0.02), address="127.0.0.2", seed=3) as road:
            await caller.dial(road.uri("other"))
            await called.answered()
            await asyncio.gather(caller.sees("blue"), called.sees("red"))
            await asyncio.gather(caller.hears(880), called.hears(440))
            await caller.hold()
            await caller.resume()
            await asyncio.gather(caller.hears(880), called.hears(440))
            assert called.media is not None
            remote = called.media.theirs
            assert remote is not None
            assert {section.address for section in remote.sections} == {"127.0.0.2"}
            await until_true(lambda: road.counts.carried > 500, "five hundred packets to pass", 30)
            assert (road.counts.lost > 0) is (loss > 0)
            await called.hang_up()
            await caller.over()
