"""How a call was, as its worker measured it last: kept in the participant's log when it leaves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from foundation.desk_client import DeskFailed
from foundation.desks import ConferenceDesk, ConferenceReport, LegReport, Refusal, SectionKind

log = structlog.get_logger(__name__)

QUALITY = "quality"
"""The event of a participant's log that holds a CallQuality."""
FRESH_SECONDS = 1.0
"""When everybody leaves at once, one report does for all."""
REPORT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class CallQuality:
    """What came from a site and what went to it, over the whole call; lost shares are 0..1 of all packets.

    `picture` and `sound` are codecs as they came in; round trip and jitter are of the last moments.
    """

    sound: str = ""
    picture: str = ""
    sound_lost: float | None = None
    picture_lost: float | None = None
    sent_lost: float | None = None
    jitter_ms: float | None = None
    round_trip_ms: float | None = None
    frames: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


class LastReports:
    """The last report of each meeting that somebody leaves; nothing is kept for longer than it is fresh."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Task[ConferenceReport | None]] = {}

    async def of(self, desk: ConferenceDesk, conference_id: str, participant_id: str) -> CallQuality | None:
        """None when the worker does not tell, or knows nothing of the participant."""
        task = self._asked.get(conference_id)
        if task is None:
            loop = asyncio.get_running_loop()
            task = loop.create_task(_report(desk, conference_id), name=f"last report {conference_id}")
            self._asked[conference_id] = task
            loop.call_later(FRESH_SECONDS, self._asked.pop, conference_id, None)
        report = await asyncio.shield(task)
        return None if report is None else quality_in(report, participant_id)


async def _report(desk: ConferenceDesk, conference_id: str) -> ConferenceReport | None:
    try:
        async with asyncio.timeout(REPORT_SECONDS):
            return await desk.report(conference_id)
    except (Refusal, DeskFailed, TimeoutError) as error:
        log.info("no_last_report", meeting=conference_id, why=str(error) or "timed out")
        return None


def quality_in(report: ConferenceReport, participant_id: str) -> CallQuality | None:
    """One participant's part of a report; None when it has none."""
    legs = [leg for leg in report.legs if leg.participant_id == participant_id]
    if not legs:
        return None
    sound = next((g for g in legs if g.kind is SectionKind.AUDIO and not g.outgoing), None)
    picture = next((g for g in legs if g.kind is SectionKind.VIDEO and not g.outgoing), None)
    outgoing = [leg for leg in legs if leg.outgoing]
    jitters = [leg.jitter_ms for leg in (sound, picture) if leg is not None and leg.packets]
    trips = [leg.round_trip_ms for leg in legs if leg.round_trip_ms is not None]
    wire = next((wire for wire in report.wires if wire.participant_id == participant_id), None)
    return CallQuality(
        sound="" if sound is None or not sound.packets else sound.codec,
        picture="" if picture is None or not picture.packets else picture.codec,
        sound_lost=_lost(sound),
        picture_lost=_lost(picture),
        sent_lost=max((share for leg in outgoing if (share := _lost(leg)) is not None), default=None),
        jitter_ms=max(jitters, default=None),
        round_trip_ms=max(trips, default=None),
        frames=0 if picture is None else picture.frames,
        received_bytes=0 if wire is None else wire.received_bytes,
        sent_bytes=0 if wire is None else wire.sent_bytes,
    )


def _lost(leg: LegReport | None) -> float | None:
    """The share of a leg's packets that did not arrive; None before the first."""
    if leg is None or not leg.packets:
        return None
    lost = max(leg.lost, 0)
    total = leg.packets if leg.outgoing else leg.packets + lost
    return round(min(lost / total, 1.0), 5)
