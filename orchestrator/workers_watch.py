"""Media workers as main sees them: connected, lost, connected again; and what they announce."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import structlog

from foundation.desk_socket import DeskClient
from foundation.desks import CameraDesk, ConferenceDesk
from foundation.event_bus import EventBus
from foundation.events import (
    BusReconnected,
    CameraStateChanged,
    DigitPressed,
    Event,
    FastUpdateWanted,
    MediaFailed,
    ParticipantHeard,
    ParticipantSilent,
    PictureFlowWanted,
    SpeakersChanged,
    WorkerLost,
    WorkerReady,
)
from foundation.tasks import TaskScope
from orchestrator.control import WorkerAddress
from orchestrator.media_process import CAMERAS, DESK
from signaling.meetings import Meetings

log = structlog.get_logger(__name__)


class Follower(Protocol):
    """Whoever has conferences on workers, and hears what becomes of them: meetings, views, the lobby."""

    async def worker_ready(self, worker: str, pid: int) -> None: ...

    async def worker_lost(self, worker: str) -> None: ...

    async def silent(self, participant_id: str) -> None: ...

    async def heard(self, participant_id: str) -> None: ...

    async def media_failed(self, participant_id: str, reason: str) -> None: ...

    async def ask_fast_update(self, participant_id: str) -> None: ...

    def pressed(self, participant_id: str, digit: str) -> None: ...


class WorkersWatch:
    """Feeds meeting control with what workers do; `desks` and `cameras` are made once and hold for ever.

    `others` follow the conferences whose ids begin with their keys; all others are meetings.
    """

    def __init__(self, addresses: Sequence[WorkerAddress]) -> None:
        self._clients = {address.name: DeskClient(address.socket) for address in addresses}
        self.desks: dict[str, ConferenceDesk] = {
            name: client.desk(ConferenceDesk, DESK) for name, client in self._clients.items()
        }
        self.cameras: dict[str, CameraDesk] = {
            name: client.desk(CameraDesk, CAMERAS) for name, client in self._clients.items()
        }
        self._on_ready: list[Callable[[str], Awaitable[None]]] = []

    def on_ready(self, reaction: Callable[[str], Awaitable[None]]) -> None:
        """Whenever a worker is there (again), `reaction` is awaited with its name."""
        self._on_ready.append(reaction)

    def run(
        self,
        scope: TaskScope,
        meetings: Meetings,
        bus: EventBus,
        others: Mapping[str, Follower] = MappingProxyType({}),
    ) -> None:
        """Start to watch, in `scope`."""
        for name, client in self._clients.items():
            scope.spawn(f"watch {name}", self._watch(name, client, (meetings, *others.values()), bus))
            scope.spawn(f"events {name}", self._listen(client, scope, meetings, bus, others))

    async def _watch(
        self, name: str, client: DeskClient, followers: Sequence[Follower], bus: EventBus
    ) -> None:
        while True:
            pid = await client.connect(wait=None)
            bus.publish(WorkerReady(name, pid))
            told = [reaction(name) for reaction in self._on_ready]
            told += [follower.worker_ready(name, pid) for follower in followers]
            await asyncio.gather(*(_reaction(work) for work in told))
            await client.closed.wait()
            bus.publish(WorkerLost(name, "its socket closed"))
            await asyncio.gather(*(_reaction(follower.worker_lost(name)) for follower in followers))

    async def _listen(
        self,
        client: DeskClient,
        scope: TaskScope,
        meetings: Meetings,
        bus: EventBus,
        others: Mapping[str, Follower],
    ) -> None:
        async for event in client.events:
            take_event(event, scope, meetings, bus, others)

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()


async def _reaction(work: Awaitable[None]) -> None:
    """What follows from a worker's word: a fault in it is logged, and ends neither main nor other calls."""
    try:
        await work
    except Exception as error:
        log.error("reaction_failed", exc_info=error)


def take_event(
    event: Event,
    scope: TaskScope,
    meetings: Meetings,
    bus: EventBus,
    others: Mapping[str, Follower] = MappingProxyType({}),
) -> None:
    """What a worker announced; whatever takes time becomes a task of its own."""
    conference_id: str = getattr(event, "conference_id", "")
    other = next((follower for key, follower in others.items() if conference_id.startswith(key)), None)
    follower: Follower = meetings if other is None else other
    match event:
        case ParticipantSilent(participant_id=participant_id):
            scope.spawn("silent", _reaction(follower.silent(participant_id)))
        case ParticipantHeard(participant_id=participant_id):
            scope.spawn("heard", _reaction(follower.heard(participant_id)))
        case MediaFailed(participant_id=participant_id, reason=reason):
            scope.spawn("media failed", _reaction(follower.media_failed(participant_id, reason)))
        case FastUpdateWanted(participant_id=participant_id):
            scope.spawn("fast update", _reaction(follower.ask_fast_update(participant_id)))
        case DigitPressed(participant_id=participant_id, digit=digit):
            follower.pressed(participant_id, digit)
        case SpeakersChanged() | PictureFlowWanted() if other is not None:
            pass  # who speaks is a meeting's news
        case SpeakersChanged() | PictureFlowWanted() | CameraStateChanged():
            bus.publish(event)
        case BusReconnected():
            log.warning("worker_events_missed")
        case _:
            pass
