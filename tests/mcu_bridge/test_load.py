"""Busy processors: a lower class first, then no newcomers, and back again calmly."""

from mcu_bridge.load import HOLD, WorkerLoad


def feed(load: WorkerLoad, seconds: float, share: float, start: tuple[float, float]) -> tuple[float, float]:
    """Half-second samples of a process that uses `share` of two cores; the last sample."""
    now, cpu = start
    for _ in range(round(seconds * 2)):
        now, cpu = now + 0.5, cpu + share
        load.sample(cpu, now)
    return now, cpu


def test_rungs_are_given_up_one_by_one_before_anybody_is_refused() -> None:
    load = WorkerLoad(cores=2, limit=0.8)
    at = feed(load, 6, 0.75, (0.0, 0.0))
    assert load.ceiling == 1
    assert not load.full
    feed(load, HOLD + 1, 0.75, at)
    assert load.ceiling == 2


def test_over_the_limit_nobody_new_comes_in_and_the_words_say_why() -> None:
    load = WorkerLoad(cores=2, limit=0.8)
    feed(load, 6, 0.9, (0.0, 0.0))
    assert load.full
    assert str(load) == "this worker keeps 90% of the processors busy, its limit is 80%"


def test_nobody_is_refused_before_a_class_is_lower() -> None:
    load = WorkerLoad(cores=2, limit=0.8)
    load.sample(0.0, 0.0)
    load.sample(1.9, 1.0)  # too short a time to lower anything
    assert load.share > 0.8
    assert not load.full
    assert load.why_lower == ""
    feed(load, 4, 0.95, (1.0, 1.9))
    assert load.full
    assert load.why_lower.startswith("1 of 3 rungs lower, this worker keeps 95% of the processors busy")


def test_a_short_peak_changes_nothing_and_calm_gives_the_rungs_back() -> None:
    load = WorkerLoad(cores=2, limit=0.8)
    at = feed(load, 5, 0.3, (0.0, 0.0))
    at = feed(load, 1, 1.0, at)
    assert load.ceiling == 0
    at = feed(load, 8, 0.75, at)
    assert load.ceiling == 1
    feed(load, HOLD + 6, 0.2, at)
    assert load.ceiling == 0
