"""The processes beside the media workers as main sees them: connected, lost, connected again.

    watch = ServicesWatch(neighbours.services, bus)
    recording = watch.desk("recorder", RecordingDesk, "recording")      None when this node has no recorder
    watch.on_ready("recorder", book.push)                               called at each connection
    watch.run(scope)

What a process announces goes to the bus.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from foundation.desk_socket import DeskClient
from foundation.event_bus import EventBus
from foundation.tasks import TaskScope
from orchestrator.control import WorkerAddress

log = structlog.get_logger(__name__)
_Desk = TypeVar("_Desk")


class ServicesWatch:
    """See the module's head."""

    def __init__(self, addresses: Sequence[WorkerAddress], bus: EventBus) -> None:
        self._clients = {address.name: DeskClient(address.socket) for address in addresses}
        self._on_ready: dict[str, Callable[[], Awaitable[None]]] = {}
        self._bus = bus

    @property
    def pids(self) -> dict[str, int | None]:
        """The process of each service; None while it is away."""
        return {name: client.pid for name, client in self._clients.items()}

    def desk(self, service: str, protocol: Callable[..., _Desk], name: str) -> _Desk | None:
        """The desk `name` of a service, None when the node runs no such service."""
        client = self._clients.get(service)
        return None if client is None else client.desk(protocol, name)

    def on_ready(self, service: str, reaction: Callable[[], Awaitable[None]]) -> None:
        """Whenever the service is there (again), `reaction` is awaited."""
        self._on_ready[service] = reaction

    def run(self, scope: TaskScope) -> None:
        for name, client in self._clients.items():
            scope.spawn(f"watch {name}", self._watch(name, client))
            scope.spawn(f"events {name}", self._listen(client))

    async def _watch(self, name: str, client: DeskClient) -> None:
        while True:
            await client.connect(wait=None)
            try:
                if (reaction := self._on_ready.get(name)) is not None:
                    await reaction()
            except Exception as error:  # it may have died again; the next connection is another try
                log.error("service_not_told", service=name, exc_info=error)
            await client.closed.wait()
            log.warning("service_lost", service=name)

    async def _listen(self, client: DeskClient) -> None:
        async for event in client.events:
            self._bus.publish(event)

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()
