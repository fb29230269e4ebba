"""Many cameras share few inference threads: each gets its turn, the newest picture wins."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np

from analytics.detection import Bgr, Box, Detection
from analytics.detector import Detector
from analytics.inference import InferencePool, Look, Looked, LookInbox, Place
from analytics.model_package import ModelPackage
from analytics.picture_decoder import Glimpse


class HeldDetector(Detector):
    """Looks only when it is let; notes in which order it saw which pictures (by their brightness)."""

    def __init__(self, package: ModelPackage) -> None:
        self.package = package
        self.order: list[int] = []
        self.looking = threading.Event()
        self.go_on = threading.Semaphore(0)
        self.seen = threading.Semaphore(0)

    def detect(self, picture: Bgr) -> tuple[Detection, ...]:
        self.looking.set()
        assert self.go_on.acquire(timeout=10)
        level = int(picture[0, 0, 0])
        self.order.append(level)
        self.seen.release()
        return (Detection("person", level / 255, Box(0, 0, 1, 1)),)


def look(level: int, pts: float = 0.0, *, moved: bool = True, wanted: bool = True) -> Look:
    picture = np.full((4, 4, 3), level, np.uint8)
    return Look(Glimpse(pts, 0.0, picture, picture[:, :, 0]), moved, wanted)


class Round:
    """A pool of one held detector, and what came out of it for each camera."""

    def __init__(self, package: ModelPackage) -> None:
        self.detector = HeldDetector(package)
        self.pool = InferencePool([self.detector])
        self.results: dict[str, list[Looked]] = {}

    def place(self, name: str) -> Place:
        self.results[name] = []

        def deliver(batch: Sequence[Looked]) -> None:
            self.results[name] += batch

        return self.pool.place(deliver, asyncio.get_running_loop(), name)

    async def until_looking(self) -> None:
        assert await asyncio.to_thread(self.detector.looking.wait, 10)


async def settled(place: Place) -> None:
    assert await asyncio.to_thread(place.drain, 10)
    await asyncio.sleep(0)  # what was posted to the loop by then


async def test_a_camera_that_never_stops_takes_one_turn_between_the_turns_of_others(
    nanodet: ModelPackage,
) -> None:
    """A fast camera (levels 100 up) offers a picture at every moment; twenty slow ones (0 to 19) one each."""
    act = Round(nanodet)
    fast = act.place("fast")
    slow = [act.place(f"slow {n}") for n in range(20)]
    fast.put(look(100))
    await act.until_looking()
    for n, place in enumerate(slow):
        place.put(look(n))
    for turn in range(1, 42):
        fast.put(look(100 + turn))
        act.detector.go_on.release()
        await asyncio.to_thread(act.detector.seen.acquire, timeout=10)
    order = act.detector.order
    assert [level for level in order[:22] if level < 100] == list(range(20)), order
    for place, results in zip(slow, list(act.results.values())[1:], strict=True):
        await settled(place)
        assert len(results) == 1
        assert place.counts.dropped == 0
    act.detector.go_on.release(50)
    await act.pool.aclose()


async def test_the_newest_picture_of_a_camera_waits_and_what_it_replaced_is_counted(
    nanodet: ModelPackage,
) -> None:
    act = Round(nanodet)
    place = act.place("camera")
    place.put(look(1))
    await act.until_looking()
    for level in range(2, 7):
        place.put(look(level, float(level)))
    act.detector.go_on.release(2)
    await settled(place)
    assert act.detector.order == [1, 6]
    assert place.counts.dropped == 4
    assert [looked.look.glimpse.pts for looked in act.results["camera"]] == [0.0, 6.0]
    assert [looked.detections[0].score for looked in act.results["camera"] if looked.detections] == [
        1 / 255,
        6 / 255,
    ]
    await act.pool.aclose()


async def test_pictures_in_which_nothing_moved_go_past_the_detector_in_their_order(
    nanodet: ModelPackage,
) -> None:
    act = Round(nanodet)
    place = act.place("camera")
    place.put(look(1, 1.0))
    await act.until_looking()
    place.put(look(2, 2.0, moved=False, wanted=False))
    act.detector.go_on.release()
    await settled(place)
    assert [(one.look.glimpse.pts, one.detections is None) for one in act.results["camera"]] == [
        (1.0, False),
        (2.0, True),
    ]
    assert act.pool.looks == 1
    assert 0 < act.pool.load() <= 1
    await act.pool.aclose()


def test_movement_in_a_picture_that_was_thinned_out_is_not_forgotten() -> None:
    inbox = LookInbox()
    inbox.put(look(1, moved=True, wanted=True))
    assert inbox.put(look(2, moved=False, wanted=False)) == 1
    waiting = inbox.pop()
    assert (waiting.moved, waiting.wanted, int(waiting.glimpse.picture[0, 0, 0])) == (True, True, 2)


async def test_a_model_is_opened_once_for_each_thread(nanodet: ModelPackage) -> None:
    pool = await InferencePool.open(nanodet, threads=2)
    results: list[Looked] = []
    done = asyncio.Event()

    def deliver(batch: Sequence[Looked]) -> None:
        results.extend(batch)
        if len(results) == 4:
            done.set()

    places = [pool.place(deliver, asyncio.get_running_loop()) for _ in range(4)]
    for place in places:
        place.put(look(128))
    async with asyncio.timeout(10):
        await done.wait()
    assert [looked.detections for looked in results] == [()] * 4
    await pool.aclose()
