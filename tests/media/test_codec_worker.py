import asyncio
import threading
from collections.abc import Iterator

import pytest

from media.codec_worker import CodecPool, KeyFrameInbox, LatestInbox, OldestInbox


@pytest.fixture
def pool() -> Iterator[CodecPool]:
    pool = CodecPool(2, name="test-codec")
    yield pool
    pool.close()


class Gate:
    """Work that stands still until it is let go, to fill an inbox behind it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.seen: list[int] = []

    def work(self, item: int) -> list[int]:
        self.seen.append(item)
        self.entered.set()
        assert self.open.wait(5)
        return [item]


async def test_results_come_in_order_on_the_event_loop_and_work_off_it(pool: CodecPool) -> None:
    loop_thread = threading.get_ident()
    results: list[int] = []
    threads: set[int] = set()
    done = asyncio.Event()

    def work(item: int) -> list[int]:
        threads.add(threading.get_ident())
        return [item * 10, item * 10 + 1]

    def deliver(batch: object) -> None:
        assert threading.get_ident() == loop_thread
        results.extend(batch)  # type: ignore[call-overload]  # a sequence of int
        if len(results) == 200:
            done.set()

    lane = pool.lane(
        work, inbox=OldestInbox[int](100), deliver=deliver, loop=asyncio.get_running_loop(), name="ordered"
    )
    assert all(lane.put(n) for n in range(100))
    await asyncio.wait_for(done.wait(), 5)
    assert results == [value for n in range(100) for value in (n * 10, n * 10 + 1)]
    assert loop_thread not in threads
    assert (lane.counts.taken, lane.counts.done, lane.counts.results) == (100, 100, 200)


def test_a_lane_never_runs_on_two_threads_and_lanes_share_the_pool(pool: CodecPool) -> None:
    inside = 0
    most = 0
    together = threading.Barrier(2)

    def alone(item: int) -> list[int]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        total = sum(range(2000))
        inside -= 1
        return [total]

    def meet(item: int) -> list[bool]:
        together.wait(5)  # passes only when two lanes are in work at once
        return [True]

    single = pool.lane(alone, inbox=OldestInbox[int](500), deliver=lambda _: None)
    for n in range(500):
        single.put(n)
    assert single.drain(10)
    assert most == 1
    assert single.counts.done == 500
    met: list[bool] = []
    pair = [pool.lane(meet, inbox=OldestInbox[int](1), deliver=met.extend) for _ in range(2)]
    for lane in pair:
        lane.put(0)
    assert all(lane.drain(5) for lane in pair)
    assert met == [True, True]


def test_latest_picture_wins(pool: CodecPool) -> None:
    gate = Gate()
    lane = pool.lane(gate.work, inbox=LatestInbox[int](), deliver=lambda _: None)
    lane.put(0)
    assert gate.entered.wait(5)
    assert lane.put(1)
    assert not lane.put(2)
    assert not lane.put(3)
    gate.open.set()
    assert lane.drain(5)
    assert gate.seen == [0, 3]
    assert (lane.counts.taken, lane.counts.dropped, lane.counts.done) == (4, 2, 2)


def test_a_full_decoder_skips_to_the_newest_waiting_key_frame() -> None:
    inbox = KeyFrameInbox[tuple[int, bool]](4, lambda item: item[1])
    for n in range(4):
        assert inbox.put((n, n in (0, 2))) == 0
    assert inbox.put((4, False)) == 2
    assert [inbox.pop()[0] for _ in range(len(inbox))] == [2, 3, 4]


def test_a_full_decoder_without_a_key_frame_waits_for_the_next() -> None:
    inbox = KeyFrameInbox[tuple[int, bool]](3, lambda item: item[1])
    for n in range(3):
        inbox.put((n, False))
    assert inbox.put((3, False)) == 4  # the three that waited, and itself
    assert inbox.skipping
    assert inbox.put((4, False)) == 1
    assert inbox.put((5, True)) == 0
    assert not inbox.skipping
    assert inbox.put((6, False)) == 0
    assert [inbox.pop()[0] for _ in range(len(inbox))] == [5, 6]


def test_a_key_frame_is_taken_by_a_full_decoder_in_place_of_what_waited() -> None:
    inbox = KeyFrameInbox[tuple[int, bool]](2, lambda item: item[1])
    inbox.put((0, False))
    inbox.put((1, False))
    assert inbox.put((2, True)) == 2
    assert inbox.pop() == (2, True)
    assert len(inbox) == 0


def test_inboxes_refuse_to_hold_nothing() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        OldestInbox[int](0)


def test_work_that_raises_is_counted_and_the_lane_goes_on(pool: CodecPool) -> None:
    def work(item: int) -> list[int]:
        if item % 2:
            raise ValueError("bad frame")
        return [item]

    results: list[int] = []
    lane = pool.lane(work, inbox=OldestInbox[int](10), deliver=results.extend)
    for n in range(6):
        lane.put(n)
    assert lane.drain(5)
    assert results == [0, 2, 4]
    assert (lane.counts.failed, lane.counts.done) == (3, 3)


def test_lanes_chain_in_the_threads(pool: CodecPool) -> None:
    results: list[int] = []
    second = pool.lane(lambda item: [item + 1], inbox=OldestInbox[int](50), deliver=results.extend)

    def hand_on(batch: object) -> None:
        for item in batch:  # type: ignore[attr-defined]  # a sequence of int
            second.put(item)

    first = pool.lane(lambda item: [item * 2], inbox=OldestInbox[int](50), deliver=hand_on)
    for n in range(50):
        first.put(n)
    assert first.drain(5)
    assert second.drain(5)
    assert results == [n * 2 + 1 for n in range(50)]


async def test_closing_a_lane_waits_for_the_work_in_hand_and_drops_the_rest(pool: CodecPool) -> None:
    gate = Gate()
    delivered: list[int] = []
    lane = pool.lane(
        gate.work, inbox=OldestInbox[int](8), deliver=delivered.extend, loop=asyncio.get_running_loop()
    )
    for n in range(5):
        lane.put(n)
    await asyncio.to_thread(gate.entered.wait, 5)
    closing = asyncio.create_task(lane.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.open.set()
    await asyncio.wait_for(closing, 5)
    assert gate.seen == [0]
    assert lane.counts.dropped == 4
    assert not lane.put(9)
    await asyncio.sleep(0)
    assert delivered == []
    assert pool.lanes == 0


async def test_closing_the_pool_leaves_no_thread() -> None:
    pool = CodecPool(3, name="short-lived", nice=1)
    lanes = [pool.lane(lambda n: [n], inbox=OldestInbox[int](100), deliver=lambda _: None) for _ in range(10)]
    for n in range(1000):
        lanes[n % 10].put(n)
    await asyncio.wait_for(pool.aclose(), 5)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("short-lived")]
    for lane in lanes:
        assert lane.closed
        await asyncio.wait_for(lane.aclose(), 1)
        assert lane.counts.done + lane.counts.dropped == lane.counts.taken
    with pytest.raises(RuntimeError, match="short-lived is closed"):
        pool.lane(lambda n: [n], inbox=OldestInbox[int](1), deliver=lambda _: None)


async def test_a_stalled_loop_costs_the_oldest_results_not_memory(pool: CodecPool) -> None:
    delivered: list[int] = []
    lane = pool.lane(
        lambda n: [n], inbox=OldestInbox[int](400), deliver=delivered.extend, loop=asyncio.get_running_loop()
    )
    for n in range(400):
        lane.put(n)
    assert lane.drain(5)  # this test's loop is the stalled one
    await asyncio.sleep(0)
    assert delivered == list(range(144, 400))
    assert lane.counts.undelivered == 144
