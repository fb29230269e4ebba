"""The test terminal: two of them, and one with a real baresip, see each other's colour and hear each other's tone."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from foundation.desks import Direction
from orchestrator.demo_footage import CENTRE, COLOURS, WHOLE, Footage, Region, mean_colour, read_number, shows
from orchestrator.demo_reels import record_tone
from orchestrator.demo_senses import NotPerceived, Spectrum, Watching
from orchestrator.demo_settings import TerminalSettings
from orchestrator.demo_studio import Studio
from orchestrator.demo_terminal import DialRefused, RoomTerminal
from signaling.sip_events import EndCause
from tests.peers.baresip import Baresip, Room
from tests.peers.picture import BLUE
from tests.peers.requirement import requires


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    async with Studio() as one:
        yield one
        assert one.failed_ticks == 0


def caller(**more: object) -> TerminalSettings:
    return TerminalSettings("caller", colour="red", tone_hz=440, loop_seconds=2, **more)  # type: ignore[arg-type]  # a test's own words


def callee(**more: object) -> TerminalSettings:
    return TerminalSettings("callee", colour="blue", tone_hz=1000, loop_seconds=2, **more)  # type: ignore[arg-type]  # a test's own words


async def each_perceives_the_other(one: RoomTerminal, other: RoomTerminal) -> None:
    await asyncio.gather(one.sees("blue"), other.sees("red"), one.hears(1000), other.hears(440))


@pytest.mark.parametrize(
    ("transport", "video", "audio"),
    [
        ("UDP", "H264/1", "PCMA"),
        ("TCP", "H264/0", "OPUS"),
        ("UDP", "VP8", "PCMU"),
        ("TCP", "H264/1", "PCMA"),
        ("UDP", "H264/0", "OPUS"),
    ],
)
async def test_two_terminals_see_and_hear_each_other(
    studio: Studio, transport: str, video: str, audio: str
) -> None:
    words = {"transport": transport, "video": (video,), "audio": (audio,)}
    async with (
        RoomTerminal(caller(**words), studio) as one,
        RoomTerminal(callee(**words), studio) as other,
    ):
        await one.dial(other.uri)
        await other.answered()
        await each_perceives_the_other(one, other)
        for terminal in (one, other):
            report = terminal.report()
            assert (report.video_codec, report.audio_codec) == (video, audio)
            assert report.size == (640, 360)
            assert report.first_frame_after is not None
            assert report.first_frame_after < 5
            assert report.source_changes == 0
        tones = await one.tones()
        assert [round(tone.hertz) for tone in tones] == [1000]
        assert -16 < tones[0].level < -8
        await one.hang_up()
        assert (await other.over()).cause is EndCause.REMOTE_BYE
        assert (await one.over()).cause is EndCause.LOCAL_BYE
