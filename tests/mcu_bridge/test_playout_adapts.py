"""How deep a source's sound lies, over what networks and clocks do to it. Time is counted, not measured."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mcu_bridge.playout import LEAST, MOST, OVERFULL, PlayoutQueue
from media.resampling import Samples
from media.sound_codecs import FRAME, RATE

TICK = 0.020
FREQUENCY = 437.3
SLOPE = 2 * np.pi * FREQUENCY / RATE * 8000
SEEDS = st.integers(0, 10_000)
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""A minute of sound is as long to look at as any other: what fails is told as it is."""
Road = Callable[[int, float], float]
"""When the packet of this number, sent at this time, arrives, were it not for those before it."""


@dataclass
class Heard:
    """Of each tick: the sound, the wished depth and the held one, in seconds."""

    queue: PlayoutQueue
    frames: list[Samples | None]
    targets: list[float]
    depths: list[float]

    @property
    def sound(self) -> Samples:
        return np.concatenate([frame for frame in self.frames if frame is not None])

    @property
    def concealed(self) -> float:
        """Seconds that were made up or missing, once sound had begun."""
        began = next(n for n, frame in enumerate(self.frames) if frame is not None)
        missing = sum(frame is None for frame in self.frames[began:])
        return TICK * (self.queue.counts.concealed + missing)

    def held(self, since: float) -> float:
        """The mean depth at the moment of playing, from then on."""
        depths = self.depths[int(since / TICK) :]
        return sum(depths) / len(depths) + TICK


def tone(number: int) -> Samples:
    positions = np.arange(FRAME) + number * FRAME
    return np.asarray(np.rint(np.sin(positions * 2 * np.pi * FREQUENCY / RATE) * 8000), np.int16)


def arrivals(road: Road, phase: float, ppm: float) -> Iterator[float]:
    """In order, as a queue in the network keeps it; a clock that runs `ppm` slow sends later and later."""
    latest, number = 0.0, 0
    while True:
        latest = max(latest, road(number, phase + number * TICK * (1 + ppm * 1e-6)))
        yield latest
        number += 1


def listen(
    road: Road,
    seconds: float,
    *,
    phase: float = 0.5 * TICK,
    ppm: float = 0.0,
    loses: Callable[[int], bool] = lambda _number: False,
    queue: PlayoutQueue | None = None,
) -> Heard:
    heard = Heard(queue or PlayoutQueue(), [], [], [])
    coming = arrivals(road, phase, ppm)
    number, due = 0, next(coming)
    for tick in range(int(seconds / TICK)):
        while due <= tick * TICK:
            if loses(number):
                heard.queue.push_lost(FRAME)
            else:
                heard.queue.push(tone(number))
            number, due = number + 1, next(coming)
        heard.frames.append(heard.queue.pop(quiet=False))
        heard.targets.append(heard.queue.target)
        heard.depths.append(heard.queue.depth)
    return heard


def steady(_number: int, sent: float) -> float:
    return sent


def wandering(seed: int, most: float) -> Road:
    """A queue in the network that fills and empties, `most` seconds long."""
    dice, state = random.Random(seed), 0.5

    def road(_number: int, sent: float) -> float:
        nonlocal state
        state = min(max(state + dice.uniform(-0.2, 0.2), 0.0), 1.0)
        return sent + most * state

    return road


def bursts(every: int, late: float) -> Road:
    """One packet of so many, and those behind it, come late at once."""
    return lambda number, sent: sent + late if number % every == every - 1 else sent


def steepest(samples: Samples) -> float:
    return float(np.abs(np.diff(samples.astype(np.int32))).max())


@settings(max_examples=10, deadline=None, phases=UNSHRUNK)
@given(phase=st.floats(0, TICK))
def test_a_steady_source_lies_two_packets_deep_and_nothing_is_made_up(phase: float) -> None:
    heard = listen(steady, 10.0, phase=phase)
    assert heard.concealed == 0.0
    assert heard.held(2.0) <= 0.0451
    assert heard.targets[-1] == LEAST / RATE


@settings(max_examples=10, deadline=None, phases=UNSHRUNK)
@given(seed=SEEDS, most=st.floats(0.0, 0.030), phase=st.floats(0, TICK))
def test_a_road_that_wanders_costs_its_jitter_and_hardly_a_frame(
    seed: int, most: float, phase: float
) -> None:
    heard = listen(wandering(seed, most), 60.0, phase=phase)
    assert heard.concealed <= 0.2
    assert heard.held(5.0) <= LEAST / RATE + most + 0.010
    assert max(heard.targets) <= 0.080
    assert heard.queue.counts.overrun == 0


@pytest.mark.parametrize("phase", [0.001, 0.019])
@pytest.mark.parametrize("ppm", [-100.0, 100.0])
def test_two_clocks_apart_are_followed_for_four_minutes(ppm: float, phase: float) -> None:
    """200 s are a packet's length, by which one clock slips past the other."""
    heard = listen(steady, 240.0, phase=phase, ppm=ppm)
    assert heard.concealed == 0.0
    assert heard.queue.counts.overrun == 0
    assert heard.held(5.0) <= 0.050
    assert max(heard.depths) <= 0.050
    assert heard.targets[-1] == LEAST / RATE
    assert steepest(heard.sound) < SLOPE * 1.25


def test_late_packets_at_the_start_are_forgotten_within_seconds() -> None:
    """A process that starts hands over a second of sound in heaps; then all is steady."""
    heard = listen(lambda number, sent: sent if number >= 50 else (number // 5 + 1) * 5 * TICK + 0.060, 20.0)
    assert max(heard.targets) >= 0.060, "it was late"
    assert heard.held(6.0) <= 0.046
    assert heard.targets[int(5.0 / TICK)] == LEAST / RATE


@pytest.mark.parametrize("at", [0.0, 0.003, 0.010, 0.017])
def test_one_late_packet_costs_its_lateness_and_its_depth_a_few_seconds(at: float) -> None:
    heard = listen(lambda number, sent: sent + 0.060 * (number == 500), 30.0, phase=at)
    assert 0.0 < heard.concealed <= 0.060
    after = heard.targets[int(10.1 / TICK) :]
    assert max(after) == 0.060
    assert heard.targets[int(14.0 / TICK)] == LEAST / RATE
    assert heard.held(16.0) <= 0.046
    assert steepest(heard.sound) < SLOPE * 2, "neither the gap nor what was cut out later clicks"


@pytest.mark.parametrize("every", [40, 110, 330, 600])
@pytest.mark.parametrize("late", [0.045, 0.062, 0.090])
def test_bursts_that_come_again_are_learnt(every: int, late: float) -> None:
    """Each teaches patience: the second minute has to cost next to nothing, and the depth is bounded."""
    heard = listen(bursts(every, late), 60.0)
    learnt = heard.queue.counts.concealed
    assert heard.concealed <= 0.6
    assert max(heard.targets) <= MOST / RATE
    assert heard.held(30.0) <= LEAST / RATE + late + 0.025
    again = listen(bursts(every, late), 60.0, queue=heard.queue)
    assert (again.queue.counts.concealed - learnt) * TICK <= 0.3
    assert max(again.depths) * RATE <= OVERFULL


@settings(max_examples=8, deadline=None, phases=UNSHRUNK)
@given(seed=SEEDS)
def test_jitter_of_30_ms_and_lost_bursts_of_three_percent_are_stood(seed: int) -> None:
    dice, bad = random.Random(seed), False

    def loses(_number: int) -> bool:
        nonlocal bad
        bad = dice.random() < (1 - 1 / 1.5 if bad else 0.03 / 1.5 / 0.97)
        return bad

    heard = listen(wandering(seed + 1, 0.030), 60.0, loses=loses)
    counts = heard.queue.counts
    assert counts.lost > 40 * FRAME, "that many are missing by themselves,"
    assert heard.concealed <= 0.2, "and next to none for being late"
    assert heard.held(5.0) <= 0.080


def test_a_source_that_pauses_between_words_is_not_taken_for_late() -> None:
    """Discontinuous transmission (RFC 3551 4.1): nothing comes for half a second, again and again."""
    talking = listen(lambda number, sent: sent + number // 50 * 0.5, 60.0)
    assert talking.queue.counts.underruns >= 30
    assert talking.targets[-1] == LEAST / RATE
    assert max(talking.depths) <= 0.045


@settings(max_examples=12, deadline=None, phases=UNSHRUNK)
@given(waits=st.lists(st.floats(0, 0.4), min_size=1, max_size=200), phase=st.floats(0, TICK))
def test_whatever_comes_when_the_depth_stays_bounded_and_comes_back(waits: list[float], phase: float) -> None:
    """Ten seconds after the last trouble it is as if there had been none, but for what was learnt."""
    trouble = len(waits)
    seconds = trouble * TICK + 0.4 + 32.0
    heard = listen(
        lambda number, sent: sent + (waits[number] if number < trouble else 0.0), seconds, phase=phase
    )
    assert max(heard.targets) <= MOST / RATE
    assert max(heard.depths) * RATE <= OVERFULL
    assert heard.targets[-1] == LEAST / RATE
    assert heard.depths[-1] + TICK <= 0.0451
