"""The node's RTSP servers, one a network, all with the same cameras and accounts.

gate = RtspGate(streams)
await gate.start("192.0.2.1", 8554, RtspLimits(ports=...))
gate.set_plan(plan)
await gate.aclose()
"""

from __future__ import annotations

import asyncio

from foundation.clock import SystemClock
from foundation.desks import CameraPlan
from foundation.throttle import AttemptThrottle
from media.stream_source import StreamSource
from stream_relay.camera_catalogue import CameraCatalogue
from stream_relay.rtsp_server import RtspLimits, RtspServer

FREE_ATTEMPTS = 5
"""Wrong passwords for one account from one address that cost nothing; then each doubles the wait."""


class RtspGate:
    """Until the first plan nobody may play anything. `streams` opens the cameras of the whole node."""

    def __init__(self, streams: StreamSource) -> None:
        self.servers: list[RtspServer] = []
        self._catalogue = CameraCatalogue(streams)
        self._realm = ""
        self._attempts = AttemptThrottle(SystemClock(), free=FREE_ATTEMPTS)

    async def start(self, host: str, port: int, limits: RtspLimits) -> RtspServer:
        """One more server. Raises OSError when the address cannot be bound."""
        server = RtspServer(
            self._catalogue,
            limits=limits,
            secret_of=self._catalogue.secret_of,
            realm=self._realm,
            attempts=self._attempts,
        )
        await server.start(host, port)
        self.servers.append(server)
        return server

    def set_plan(self, plan: CameraPlan) -> None:
        """Who may play what from now on; who plays what it may not any more is disconnected."""
        self._realm = plan.realm
        self._catalogue.set_plan(plan)
        for server in self.servers:
            server.set_realm(plan.realm)
            server.revoke(self._catalogue.may_play)

    async def aclose(self) -> None:
        await asyncio.gather(*(server.aclose() for server in self.servers))
