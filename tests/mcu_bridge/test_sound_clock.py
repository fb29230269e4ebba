import threading
import time

from mcu_bridge.sound_clock import PERIOD, STALLED, SoundClock


class Counter:
    """Counts ticks and says when there were enough."""

    def __init__(self, enough: int) -> None:
        self.times: list[float] = []
        self.enough = threading.Event()
        self._enough = enough

    def tick(self, now: float) -> None:
        self.times.append(now)
        if len(self.times) == self._enough:
            self.enough.set()


def test_ticks_come_at_their_rate_without_drift() -> None:
    """Ten times the usual rate; counted over many ticks, so that a busy machine does not matter."""
    clock = SoundClock(period=0.002)
    counter = Counter(250)
    clock.add(counter.tick)
    started = time.monotonic()
    clock.start()
    assert counter.enough.wait(20)
    clock.close()
    ticks, skipped = clock.counts.ticks, clock.counts.skipped
    elapsed = counter.times[249] - started
    assert elapsed >= 250 * 0.002 - 0.0001
    assert 250 <= ticks <= len(counter.times)
    if not skipped:
        assert elapsed < 250 * 0.002 + STALLED + 0.002
    assert len(clock.intervals()) == ticks - 1


def test_a_stall_is_skipped_and_counted() -> None:
    clock = SoundClock(period=0.002)
    counter = Counter(50)
    clock.add(counter.tick)
    stalled = threading.Event()

    def stall(now: float) -> None:
        if not stalled.is_set():
            stalled.set()
            time.sleep(STALLED + 0.1)

    clock.add(stall)
    clock.start()
    assert counter.enough.wait(10)
    clock.close()
    assert clock.counts.skipped >= 0.1 / 0.002


def test_one_listener_s_fault_is_not_another_s() -> None:
    clock = SoundClock(period=0.002)
    counter = Counter(20)

    def fail(now: float) -> None:
        raise ValueError("broken encoder")

    clock.add(fail)
    clock.add(counter.tick)
    clock.start()
    assert counter.enough.wait(10)
    clock.close()
    assert clock.counts.failed >= 20


def test_a_removed_listener_is_called_no_more_and_closing_ends_the_thread() -> None:
    clock = SoundClock(period=0.002)
    one, other = Counter(5), Counter(30)
    clock.add(one.tick)
    clock.add(other.tick)
    clock.start()
    assert one.enough.wait(10)
    clock.remove(one.tick)
    time.sleep(0.01)  # a call under way may end
    seen = len(one.times)
    assert other.enough.wait(10)
    clock.close()
    assert len(one.times) == seen
    assert not [thread for thread in threading.enumerate() if thread.name == "sound-clock"]
    clock.close()


def test_the_usual_period_is_20_ms() -> None:
    assert PERIOD == 0.020
    clock = SoundClock()
    clock.close()  # never started: nothing to wait for
