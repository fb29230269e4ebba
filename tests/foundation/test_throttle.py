"""The delay after wrong attempts: how it grows, ends and stays small in memory."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from foundation.clock import FakeClock
from foundation.throttle import AttemptThrottle


def test_success_forgets() -> None:
    throttle = AttemptThrottle(FakeClock(), free=1)
    assert [throttle.attempt("a") for _ in range(3)] == [0, 0, 1]
    throttle.succeeded("a")
    assert [throttle.attempt("a") for _ in range(3)] == [0, 0, 1]


def test_rest_forgets() -> None:
    clock = FakeClock()
    throttle = AttemptThrottle(clock, free=0, forget=100)
    for _ in range(10):
        throttle.attempt("a")
        clock.advance(60)
    assert throttle.attempt("a") == 0
    assert throttle.attempt("a") == 60
    clock.advance(100)
    assert throttle.attempt("a") == 0
    assert throttle.attempt("a") == 1


def test_undone_attempts_never_slow() -> None:
    throttle = AttemptThrottle(FakeClock(), free=1)
    for _ in range(50):
        assert throttle.attempt("a") == 0
        throttle.undo("a")
    assert len(throttle) == 0


def test_memory_is_bounded_and_what_was_forgotten_is_counted() -> None:
    throttle = AttemptThrottle(FakeClock(), free=0, capacity=100)
    for number in range(1000):
        throttle.attempt(f"key{number}")
    assert len(throttle) == 100
    assert throttle.evicted == 900
    assert throttle.wait("key999") == 1
    assert throttle.wait("key0") == 0


@given(st.lists(st.floats(0, 100), max_size=60))
def test_attempts_let_through_are_never_closer_than_the_delay(pauses: list[float]) -> None:
    clock = FakeClock()
    throttle = AttemptThrottle(clock, free=2, first=1, limit=60, forget=1e9)
    let_through: list[float] = []
    for pause in pauses:
        clock.advance(pause)
        promised = throttle.wait("a")
        refused = throttle.attempt("a")
        assert refused == promised
        if not refused:
            let_through.append(clock.monotonic())
    for number, (earlier, later) in enumerate(pairwise(let_through), start=1):
        assert later - earlier >= (min(60, 2 ** (number - 3)) if number > 2 else 0) - 1e-6
