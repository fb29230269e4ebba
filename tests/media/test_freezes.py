import pytest

from media.freezes import FreezeMeter, Freezes


def play(meter: FreezeMeter, start: float, count: int, interval: float) -> float:
    """So many pictures from `start` on; when the last came."""
    for number in range(count):
        meter.picture(start + number * interval)
    return start + (count - 1) * interval


def test_a_steady_picture_never_stands_still() -> None:
    for fps in (0.5, 5, 15, 25, 60):
        meter = FreezeMeter()
        last = play(meter, 10.0, 100, 1 / fps)
        assert meter.freezes(last + 0.9 / fps) == Freezes()


def test_a_freeze_lasts_from_picture_to_picture_and_counts_while_it_goes_on() -> None:
    meter = FreezeMeter()
    last = play(meter, 0.0, 50, 0.04)
    assert meter.freezes(last + 0.149) == Freezes()
    running = meter.freezes(last + 2.0)
    assert (running.count, running.seconds) == (1, pytest.approx(2.0))
    assert meter.freezes(last + 2.0, running=False) == Freezes()
    meter.picture(last + 2.5)
    play(meter, last + 2.54, 50, 0.04)
    ended = meter.freezes(last + 2.54 + 49 * 0.04)
    assert (ended.count, ended.seconds) == (1, pytest.approx(2.5))


@pytest.mark.parametrize(("interval", "limit"), [(0.02, 0.15), (0.04, 0.15), (0.1, 0.3), (0.2, 0.6)])
def test_three_times_the_usual_interval_and_150_ms_at_the_least(interval: float, limit: float) -> None:
    for gap, frozen in ((limit - 0.01, 0), (limit + 0.01, 1)):
        meter = FreezeMeter()
        last = play(meter, 0.0, 60, interval)
        meter.picture(last + gap)
        assert meter.freezes(last + gap).count == frozen


def test_another_frame_rate_is_learnt_within_a_few_pictures() -> None:
    meter = FreezeMeter()
    last = play(meter, 0.0, 100, 0.04)
    last = play(meter, last + 0.25, 200, 0.25)
    learning = meter.freezes(last).count
    assert 1 <= learning <= 8
    play(meter, last + 0.25, 200, 0.25)
    assert meter.freezes(last + 200 * 0.25).count == learning


def test_what_ends_on_purpose_is_no_freeze_and_what_stood_before_it_is_one() -> None:
    meter = FreezeMeter()
    last = play(meter, 0.0, 50, 0.04)
    meter.end(last + 0.05)
    assert meter.freezes(last + 100) == Freezes()
    last = play(meter, last + 100, 50, 0.04)
    assert meter.freezes(last) == Freezes()
    meter.end(last + 5.0)
    stopped = meter.freezes(last + 60)
    assert (stopped.count, stopped.seconds) == (1, pytest.approx(5.0))


def test_another_picture_begins_anew() -> None:
    meter = FreezeMeter()
    last = play(meter, 0.0, 50, 0.04)
    meter.restart()
    play(meter, last + 3.0, 50, 0.5)
    assert meter.freezes(last + 3.0 + 49 * 0.5) == Freezes()


def test_too_little_is_known_of_the_first_pictures() -> None:
    meter = FreezeMeter()
    play(meter, 0.0, 4, 0.04)
    assert meter.freezes(10.0) == Freezes()
