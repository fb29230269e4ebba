"""Which meeting is on which worker."""

from typing import cast

import pytest

from foundation.desks import ConferenceDesk, Refusal, RefusalKind
from signaling.media_workers import MediaWorkers

DESKS = {name: cast(ConferenceDesk, object()) for name in ("media-0", "media-1", "media-2")}


def test_nobody_ready_is_said_with_a_time_to_come_back() -> None:
    workers = MediaWorkers(DESKS)
    with pytest.raises(Refusal, match="no media worker is ready") as refused:
        workers.place("a")
    assert refused.value.kind is RefusalKind.WORKER_LOST
    assert refused.value.retry_after == 2
    assert workers.worker_of("a") is None


def test_meetings_are_spread_and_stay_where_they_are() -> None:
    workers = MediaWorkers(DESKS)
    for number, name in enumerate(("media-1", "media-0")):
        workers.became_ready(name, 100 + number)
    placed = {meeting: workers.place(meeting) for meeting in ("a", "b", "c", "d")}
    assert [workers.worker_of(meeting) for meeting in placed] == ["media-0", "media-1"] * 2
    assert all(workers.place(meeting) is desk for meeting, desk in placed.items())
    workers.forget("a")
    workers.forget("c")
    workers.became_ready("media-2", 103)
    assert workers.place("e") is DESKS["media-0"]
    assert workers.place("f") is DESKS["media-2"]
    assert workers.ready == {"media-0": 101, "media-1": 100, "media-2": 103}


def test_the_meetings_of_a_lost_worker_have_no_place_until_they_are_placed_again() -> None:
    workers = MediaWorkers(DESKS)
    workers.became_ready("media-0", 1)
    for meeting in ("a", "b"):
        workers.place(meeting)
    workers.became_ready("media-1", 2)
    workers.place("c")
    assert sorted(workers.became_lost("media-0")) == ["a", "b"]
    assert workers.worker_of("a") is None
    assert workers.place("a") is DESKS["media-1"]
    assert workers.became_lost("media-0") == []
    workers.became_ready("media-0", 3)
    assert workers.place("b") is DESKS["media-0"]
