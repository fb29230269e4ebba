"""How SIP trunks stand, as figures for Prometheus."""

from __future__ import annotations

import asyncio

from foundation.telemetry import Telemetry
from signaling.trunks.trunks import Trunks

INTERVAL = 5.0


class TrunkGauges:
    """1 for a trunk that is up; its calls now, and since the start by direction."""

    def __init__(self, telemetry: Telemetry, trunks: Trunks) -> None:
        self._trunks = trunks
        self._up = telemetry.gauge("anshi_sip_trunk_up", "Whether a SIP trunk is up", "trunk", "state")
        self._calls = telemetry.gauge("anshi_sip_trunk_calls", "Calls over a SIP trunk", "trunk", "what")

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(INTERVAL)

    def look(self) -> None:
        self._up.clear()
        for one in self._trunks.reports():
            self._up.labels(one.name, one.state.value).set(one.state.is_up)
            self._calls.labels(one.name, "now").set(one.calls_now)
            self._calls.labels(one.name, "out").set(one.calls_out)
            self._calls.labels(one.name, "in").set(one.calls_in)
