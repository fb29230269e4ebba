from __future__ import annotations

from typing import cast

from foundation.desks import ConferenceReport, LegReport, Refusal, RefusalKind, SectionKind
from foundation.telemetry import Telemetry
from orchestrator.leg_gauges import LegGauges
from signaling.meetings import Meetings

PICTURE = LegReport(
    "p1", SectionKind.VIDEO, False, "H264", 900_000, 100, 7, 12.5, 40.0, 90, freezes=2, frozen_seconds=3.4
)
SOUND = LegReport("p1", SectionKind.AUDIO, True, "PCMA", 64_000, 50, 0, 1.0, None, 0)


def test_each_leg_is_figures_and_who_left_is_exposed_no_more() -> None:
    telemetry = Telemetry()
    gauges = LegGauges(telemetry, cast(Meetings, None))
    gauges.show({"8001": [PICTURE, SOUND]})
    text = telemetry.exposition().decode()
    picture = '{conference="8001",kind="video",participant="p1",way="in"}'
    for figure in (
        "bits_per_second 900000.0",
        "packets 100.0",
        "lost 7.0",
        "jitter_seconds 0.0125",
        "round_trip_seconds 0.04",
        "frames 90.0",
        "freezes 2.0",
        "frozen_seconds 3.4",
    ):
        name, value = figure.split()
        assert f"anshi_leg_{name}{picture} {value}" in text
    sound = '{conference="8001",kind="audio",participant="p1",way="out"}'
    assert f"anshi_leg_bits_per_second{sound} 64000.0" in text
    assert f"anshi_leg_round_trip_seconds{sound}" not in text, "nobody measured it"
    gauges.show({"8001": [SOUND]})
    assert picture not in telemetry.exposition().decode()


class TwoMeetings:
    """One of them is held by a worker that is not there."""

    class Meeting:
        def __init__(self, conference_id: str) -> None:
            self.conference_id = conference_id

    running = (Meeting("8001"), Meeting("8002"))

    async def report(self, conference_id: str) -> ConferenceReport:
        if conference_id == "8002":
            raise Refusal(RefusalKind.UNKNOWN_CONFERENCE, "the worker is gone")
        return ConferenceReport(conference_id, 1, legs=(PICTURE,))


async def test_a_worker_that_does_not_tell_hides_no_other() -> None:
    telemetry = Telemetry()
    gauges = LegGauges(telemetry, cast(Meetings, TwoMeetings()))
    await gauges.look()
    text = telemetry.exposition()
    assert b'anshi_leg_freezes{conference="8001",kind="video",participant="p1",way="in"} 2.0' in text
    assert b"8002" not in text
