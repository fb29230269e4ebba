"""All of BFCP at one node: a listener a network, and the clock of the floors.

`start` binds the ports and takes up the seats of an earlier process; `run` (supervised) repeats what was not
acknowledged; `aclose` closes the sockets and ends the orders under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from foundation.tasks import TaskScope
from signaling.bfcp_listener import BfcpListener, BfcpSettings
from signaling.floors import Floors

TICK_SECONDS = 0.1


class BfcpService:
    """Made before the first call can come: descriptions name its ports."""

    def __init__(self, networks: Sequence[BfcpSettings], floors: Floors) -> None:
        self.listeners = {
            settings.network: BfcpListener(settings, floors)
            for settings in networks
            if settings.udp_port is not None or settings.tcp_port is not None
        }
        self._floors = floors

    async def start(self, scope: TaskScope) -> None:
        """Raises OSError that names a port in use."""
        try:
            for listener in self.listeners.values():
                await listener.start(scope)
        except BaseException:
            await self.aclose()
            raise
        scope.supervise("floors", self.run)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._floors.tick(time.monotonic())

    async def aclose(self) -> None:
        for listener in self.listeners.values():
            await listener.aclose()
        await self._floors.aclose()
