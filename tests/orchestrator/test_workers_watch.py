"""What a worker announces goes to whoever has the conference: a view of a camera, or a meeting."""

from __future__ import annotations

from typing import cast

import pytest

from foundation.event_bus import InProcessBus
from foundation.events import (
    CameraStateChanged,
    Event,
    FastUpdateWanted,
    MediaFailed,
    ParticipantHeard,
    ParticipantSilent,
    SpeakersChanged,
)
from foundation.tasks import TaskScope
from orchestrator.workers_watch import take_event
from signaling.meetings import Meetings
from signaling.viewings import VIEW
from tests.peers.waiting import until_true

MEETING, CAMERA = "8b1c", "view:camera:gate"


class Heard:
    """A follower that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    async def worker_ready(self, worker: str, pid: int) -> None:
        self.told.append(("ready", worker))

    async def worker_lost(self, worker: str) -> None:
        self.told.append(("lost", worker))

    async def silent(self, participant_id: str) -> None:
        self.told.append(("silent", participant_id))

    async def heard(self, participant_id: str) -> None:
        self.told.append(("heard", participant_id))

    async def media_failed(self, participant_id: str, reason: str) -> None:
        self.told.append(("failed", participant_id, reason))
        raise RuntimeError("a fault in a reaction ends nothing")

    async def ask_fast_update(self, participant_id: str) -> None:
        self.told.append(("fast update", participant_id))


async def follow(*events: Event) -> tuple[Heard, Heard, list[Event]]:
    """What meetings, what viewings were told, and what went to the bus."""
    meetings, viewings, bus = Heard(), Heard(), InProcessBus()
    async with bus.subscribe(Event) as published, TaskScope("test") as scope:
        for event in events:
            take_event(event, scope, cast(Meetings, meetings), bus, {VIEW: viewings})
        await until_true(lambda: not len(scope), "every reaction to be over", 5.0)
        bus.close()
        return meetings, viewings, [event async for event in published]


@pytest.mark.parametrize("conference_id", [MEETING, CAMERA])
async def test_events_reach_whose_conference_it_is(conference_id: str) -> None:
    meetings, viewings, published = await follow(
        ParticipantSilent(conference_id, "a", 10.0),
        ParticipantHeard(conference_id, "a"),
        MediaFailed(conference_id, "a", "DTLS"),
        FastUpdateWanted(conference_id, "a"),
    )
    mine, other = (viewings, meetings) if conference_id == CAMERA else (meetings, viewings)
    assert mine.told == [("silent", "a"), ("heard", "a"), ("failed", "a", "DTLS"), ("fast update", "a")]
    assert other.told == []
    assert published == []


async def test_who_speaks_in_a_view_is_nobody_s_news() -> None:
    news = (SpeakersChanged(MEETING, ("a",)), CameraStateChanged("gate", "nanning", "playing"))
    _meetings, _viewings, published = await follow(
        news[0], SpeakersChanged(CAMERA, ("camera:gate",)), news[1]
    )
    assert published == list(news)
