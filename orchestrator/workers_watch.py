"""Media workers as main sees them: connected, lost, connected again; and what they announce."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import structlog

from foundation.desk_socket import DeskClient
from foundation.desks import ConferenceDesk
from foundation.event_bus import EventBus
from foundation.events import (
    BusReconnected,
    Event,
    FastUpdateWanted,
    MediaFailed,
    ParticipantHeard,
    ParticipantSilent,
    SpeakersChanged,
    WorkerLost,
    WorkerReady,
)
from foundation.tasks import TaskScope
from orchestrator.control import WorkerAddress
from orchestrator.media_process import DESK
from signaling.meetings import Meetings

log = structlog.get_logger(__name__)


class WorkersWatch:
    """Feeds meeting control with what workers do; `desks` are handed to it once and hold for ever."""

    def __init__(self, addresses: Sequence[WorkerAddress]) -> None:
        self._clients = {address.name: DeskClient(address.socket) for address in addresses}
        self.desks: dict[str, ConferenceDesk] = {
            name: client.desk(ConferenceDesk, DESK) for name, client in self._clients.items()
        }

    def run(self, scope: TaskScope, meetings: Meetings, bus: EventBus) -> None:
        """Start to watch, in `scope`."""
        for name, client in self._clients.items():
            scope.spawn(f"watch {name}", self._watch(name, client, meetings, bus))
            scope.spawn(f"events {name}", self._listen(client, scope, meetings, bus))

    async def _watch(self, name: str, client: DeskClient, meetings: Meetings, bus: EventBus) -> None:
        while True:
            pid = await client.connect(wait=None)
            bus.publish(WorkerReady(name, pid))
            await _reaction(meetings.worker_ready(name, pid))
            await client.closed.wait()
            bus.publish(WorkerLost(name, "its socket closed"))
            await _reaction(meetings.worker_lost(name))

    async def _listen(self, client: DeskClient, scope: TaskScope, meetings: Meetings, bus: EventBus) -> None:
        async for event in client.events:
            take_event(event, scope, meetings, bus)

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()


async def _reaction(work: Awaitable[None]) -> None:
    """What follows from a worker's word: a fault in it is logged, and ends neither main nor other calls."""
    try:
        await work
    except Exception as error:
        log.error("reaction_failed", exc_info=error)


def take_event(event: Event, scope: TaskScope, meetings: Meetings, bus: EventBus) -> None:
    """What a worker announced; whatever takes time becomes a task of its own."""
    match event:
        case ParticipantSilent(participant_id=participant_id):
            scope.spawn("silent", _reaction(meetings.silent(participant_id)))
        case ParticipantHeard(participant_id=participant_id):
            scope.spawn("heard", _reaction(meetings.heard(participant_id)))
        case MediaFailed(participant_id=participant_id, reason=reason):
            scope.spawn("media failed", _reaction(meetings.media_failed(participant_id, reason)))
        case FastUpdateWanted(participant_id=participant_id):
            scope.spawn("fast update", _reaction(meetings.ask_fast_update(participant_id)))
        case SpeakersChanged():
            bus.publish(event)
        case BusReconnected():
            log.warning("worker_events_missed")
        case _:
            pass
