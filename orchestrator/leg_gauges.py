"""Each leg of each running meeting as figures for Prometheus: what its worker measured last."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from foundation.desk_client import DeskFailed
from foundation.desks import LegReport, Refusal
from foundation.telemetry import Telemetry
from signaling.meetings import Meetings

INTERVAL = 5.0
REPORT_SECONDS = 2.0
LABELS = ("conference", "participant", "kind", "way")


class LegGauges:
    """`way` is "in" for what a site sends and "out" for what it is sent. Who has left is exposed no more."""

    def __init__(self, telemetry: Telemetry, meetings: Meetings) -> None:
        self._meetings = meetings
        self._gauges = {
            name: telemetry.gauge(f"anshi_leg_{name}", text, *LABELS) for name, text in _FIGURES.items()
        }

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Ask all workers and expose what they said."""
        self.show(await self._asked())

    async def _asked(self) -> Mapping[str, Sequence[LegReport]]:
        """Legs by meeting; a worker that does not tell leaves its meetings out."""
        legs: dict[str, Sequence[LegReport]] = {}
        for meeting in self._meetings.running:
            try:
                async with asyncio.timeout(REPORT_SECONDS):
                    legs[meeting.conference_id] = (await self._meetings.report(meeting.conference_id)).legs
            except (Refusal, DeskFailed, TimeoutError):
                continue
        return legs

    def show(self, legs: Mapping[str, Sequence[LegReport]]) -> None:
        for gauge in self._gauges.values():
            gauge.clear()
        for conference_id, reported in legs.items():
            for leg in reported:
                labels = conference_id, leg.participant_id, leg.kind.value, "out" if leg.outgoing else "in"
                for name, value in _values(leg).items():
                    if value is not None:
                        self._gauges[name].labels(*labels).set(value)


_FIGURES = {
    "bits_per_second": "Over the last second",
    "packets": "Packets since the leg began",
    "lost": "Packets lost on their way, as the receiver counts",
    "jitter_seconds": "Interarrival jitter (RFC 3550)",
    "round_trip_seconds": "Round trip by RTCP, once it is known",
    "frames": "Frames since the leg began",
    "freezes": "How often the picture stood still",
    "frozen_seconds": "For how long the picture stood still in all",
}


def _values(leg: LegReport) -> Mapping[str, float | None]:
    """By name; None where there is no figure."""
    return {
        "bits_per_second": leg.bitrate_bps,
        "packets": leg.packets,
        "lost": leg.lost,
        "jitter_seconds": leg.jitter_ms / 1000,
        "round_trip_seconds": None if leg.round_trip_ms is None else leg.round_trip_ms / 1000,
        "frames": leg.frames,
        "freezes": leg.freezes,
        "frozen_seconds": leg.frozen_seconds,
    }
