"""Main's book gives the plan, again when another recorder has come, and knows when none answers."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import (
    RecorderReport,
    RecordingOrder,
    RecordingPlan,
    RecordingStatus,
    Refusal,
    RefusalKind,
)
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.recording_orders import GivenOrder, OrderRepository
from foundation.repositories.recordings import RecordingKind
from recordings.recording_book import RecordingBook
from tests.peers.waiting import until_true

GATE = RecordingOrder("camera", "gate", "nanning")


class Recorders:
    """One recorder after another behind one desk."""

    def __init__(self) -> None:
        self.plan = RecordingPlan()
        self.plans: list[RecordingPlan] = []
        self.reports = 0
        self.gone = False

    async def set_plan(self, plan: RecordingPlan) -> None:
        self._answer()
        self.plan = plan
        self.plans.append(plan)

    async def report(self) -> RecorderReport:
        self._answer()
        self.reports += 1
        statuses = (RecordingStatus(one.kind, one.subject, "recording") for one in self.plan.orders)
        return RecorderReport(tuple(statuses), preroll=self.plan.preroll)

    def _answer(self) -> None:
        if self.gone:
            raise Refusal(RefusalKind.WORKER_LOST, "recorder is not there")


@pytest.fixture
def recorders() -> Recorders:
    return Recorders()


@pytest.fixture
async def book(database: Database, recorders: Recorders) -> AsyncIterator[RecordingBook]:
    now = FakeClock().now()
    async with database.transaction() as tx:
        await CameraRepository(tx).add(Camera("gate", "nanning", "东门", "rtsp://10.1.2.3/1", now))
        await OrderRepository(tx).give(GivenOrder(RecordingKind.CAMERA, "gate", "nanning", "wang", now))
    book = RecordingBook(database, recorders, poll_seconds=0.02)
    running = asyncio.create_task(book.run())
    yield book
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def seen(what: Callable[[], bool]) -> None:
    await until_true(what, "the book", 5)


async def test_the_plan_is_given_once_and_again_to_another_recorder(
    book: RecordingBook, recorders: Recorders
) -> None:
    await seen(lambda: book.status(RecordingKind.CAMERA, "gate") is not None)
    reports = recorders.reports
    await seen(lambda: recorders.reports > reports + 3)
    assert recorders.plans == [RecordingPlan((GATE,))]
    recorders.plan = RecordingPlan()  # a new process, that knows nothing
    await seen(lambda: len(recorders.plans) == 2)
    assert recorders.plan == RecordingPlan((GATE,))


async def test_a_recorder_that_is_gone_is_known_and_comes_again(
    book: RecordingBook, recorders: Recorders
) -> None:
    await seen(lambda: book.report is not None)
    recorders.gone = True
    await seen(lambda: book.report is None)
    assert book.status(RecordingKind.CAMERA, "gate") is None
    recorders.gone, recorders.plan = False, RecordingPlan()
    await seen(lambda: book.report is not None)
    assert recorders.plan == RecordingPlan((GATE,))


async def test_rows_that_change_reach_the_recorder(
    book: RecordingBook, recorders: Recorders, database: Database
) -> None:
    await seen(lambda: recorders.plan.orders == (GATE,))
    async with database.transaction() as tx:
        await OrderRepository(tx).end(RecordingKind.CAMERA, "gate")
    await book.changed()
    await seen(lambda: recorders.plan == RecordingPlan())
