"""What the processes of a node hold, as gauges: anything that grows without meetings is a leak."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import asdict

from foundation.desks import ConferenceDesk, Refusal
from foundation.telemetry import Telemetry
from signaling.meetings import Meetings
from signaling.picture_flows import PictureFlowCounters

INTERVAL = 5.0


class VitalSigns:
    """Asks every worker every few seconds; what a lost worker would say is left as it was."""

    def __init__(
        self,
        telemetry: Telemetry,
        desks: Mapping[str, ConferenceDesk],
        meetings: Meetings,
        flows: PictureFlowCounters,
    ) -> None:
        self._desks = desks
        self._meetings = meetings
        self._flows = flows
        self._workers = telemetry.gauge(
            "anshi_worker", "What a media worker holds and how it does", "worker", "what"
        )
        self._main = telemetry.gauge("anshi_main", "What the main process holds", "what")

    async def run(self) -> None:
        while True:
            self._look_at_main()
            for name, desk in self._desks.items():
                await self._look_at(name, desk)
            await asyncio.sleep(INTERVAL)

    def _look_at_main(self) -> None:
        running = self._meetings.running
        self._main.labels("tasks").set(len(asyncio.all_tasks()))
        self._main.labels("threads").set(threading.active_count())
        self._main.labels("meetings").set(len(running))
        for what, value in asdict(self._meetings.floors.counters).items():
            self._main.labels(f"bfcp_{what}").set(value)
        for what, value in asdict(self._flows).items():
            self._main.labels(f"picture_flow_{what}").set(value)
        self._main.labels("participants").set(sum(len(meeting.members) for meeting in running))

    async def _look_at(self, name: str, desk: ConferenceDesk) -> None:
        try:
            vitals = await desk.vitals()
        except Refusal:
            return
        for what, value in asdict(vitals).items():
            self._workers.labels(name, what).set(value)
