"""Logs for people and machines, figures without globals, clocks, tasks that end."""

import asyncio
import io
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from foundation.clock import FakeClock
from foundation.tasks import Backoff, TaskScope
from foundation.telemetry import Telemetry, configure_logging, log_context


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored_logging() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_lines_are_json_with_ids_away_from_a_terminal() -> None:
    out = io.StringIO()
    configure_logging("info", stream=out)
    with log_context(conference="8001", call="c1"):
        structlog.get_logger("signaling").info("joined", name="南宁")
        logging.getLogger("aiohttp.server").warning("odd %s", "request")
    structlog.get_logger("signaling").debug("not shown")
    structlog.get_logger("signaling").info("after")
    first, second, third = (json.loads(line) for line in out.getvalue().splitlines())
    assert (first["event"], first["name"], first["conference"], first["call"]) == (
        "joined",
        "南宁",
        "8001",
        "c1",
    )
    assert (first["level"], first["logger"]) == ("info", "signaling")
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["conference"], second["logger"]) == (
        "odd request",
        "8001",
        "aiohttp.server",
    )
    assert "conference" not in third


def test_a_terminal_gets_readable_lines_and_a_traceback() -> None:
    out = Terminal()
    configure_logging(stream=out)
    try:
        raise OSError("port 5060 is in use")
    except OSError as error:
        structlog.get_logger("sip").error("cannot listen", exc_info=error)
    assert "cannot listen" in out.getvalue()
    assert "port 5060 is in use" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_unknown_level_is_an_error() -> None:
    with pytest.raises(ValueError, match="'loud' is none of"):
        configure_logging("loud")


def test_each_telemetry_counts_for_itself() -> None:
    first, second = Telemetry(), Telemetry()
    first.counter("anshi_calls", "Calls", "network").labels("extranet").inc()
    first.counter("anshi_calls", "Calls", "network").labels("extranet").inc()
    assert b'anshi_calls_total{network="extranet"} 2.0' in first.exposition()
    assert b"anshi_calls" not in second.exposition()
    with pytest.raises(ValueError, match="exists as Counter"):
        first.gauge("anshi_calls", "Calls", "network")
    with pytest.raises(ValueError, match="exists as Counter"):
        first.counter("anshi_calls", "Calls")


def test_drops_are_counted_and_shown() -> None:
    telemetry = Telemetry()
    drops = telemetry.drops("viewer")
    drops.add()
    drops.add(4)
    telemetry.drops("recorder").add()
    assert drops.count == 5
    assert b'anshi_dropped_total{queue="viewer"} 5.0' in telemetry.exposition()
    assert b'anshi_dropped_total{queue="recorder"} 1.0' in telemetry.exposition()


def test_fake_clock_moves_both_readings() -> None:
    clock = FakeClock()
    before = clock.monotonic(), clock.now()
    clock.advance(1.5)
    assert clock.monotonic() - before[0] == pytest.approx(1.5)
    assert (clock.now() - before[1]).total_seconds() == 1.5
    with pytest.raises(ValueError, match="never moved back"):
        clock.advance(-1)


@given(st.integers(1, 200), st.floats(0.01, 1), st.floats(1, 100))
def test_backoff_grows_to_its_limit_and_no_further(failures: int, first: float, limit: float) -> None:
    backoff = Backoff(first=first, limit=limit)
    for number in range(failures):
        step = min(limit, first * 2.0 ** min(number, 60))
        assert step / 2 <= backoff.next_delay() <= step
    backoff.reset()
    assert backoff.next_delay() <= first


async def test_leaving_a_scope_ends_its_tasks_and_waits_for_them() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async with TaskScope("media-0") as scope:
        task = scope.spawn("a", work("a"))
        scope.spawn("b", work("b"))
        assert task.get_name() == "media-0.a"
        await asyncio.sleep(0)
        assert len(scope) == 2
    assert sorted(ended) == ["a", "b"]
    assert len(scope) == 0


async def test_failure_of_a_spawned_task_ends_the_scope() -> None:
    async def fail() -> None:
        raise KeyError("lost")

    async def scope_with_failure() -> None:
        async with TaskScope("s") as scope:
            scope.spawn("fail", fail())
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await scope_with_failure()
    assert caught.group_contains(KeyError, match="lost")


async def test_supervised_task_is_run_again_until_it_returns() -> None:
    runs: list[int] = []

    async def flaky() -> None:
        runs.append(len(runs))
        if len(runs) < 4:
            raise ConnectionError("again")

    async with TaskScope("s") as scope:
        task = scope.supervise("flaky", flaky, backoff=Backoff(first=0.001, limit=0.002))
        async with asyncio.timeout(5):
            await task
    assert runs == [0, 1, 2, 3]
    assert scope.restarts == 3
