"""Test terminals, two of them or one with a real baresip: each sees and hears the other, and says so."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foundation.desks import Direction
from media.sound_codecs import SoundCodec, sound_decoder
from orchestrator.demo.terminal.footage import (
    CENTRE,
    COLOURS,
    WHOLE,
    Footage,
    Region,
    mean_colour,
    read_number,
    shows,
)
from orchestrator.demo.terminal.media import TerminalMedia
from orchestrator.demo.terminal.reels import record_tone
from orchestrator.demo.terminal.room_terminal import DialRefused, RoomTerminal
from orchestrator.demo.terminal.senses import Ear, NotPerceived, Screen, Spectrum, Watching
from orchestrator.demo.terminal.settings import TerminalSettings
from orchestrator.demo.terminal.studio import Studio
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
        ("UDP", "H261", "G722"),
        ("UDP", "H263", "G722"),
        ("TCP", "H263-1998", "PCMA"),
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
            assert report.size == ((352, 288) if video.startswith("H26") and "/" not in video else (640, 360))
            assert report.first_frame_after is not None
            assert report.first_frame_after < 5
            assert report.source_changes == 0
        tones = await one.tones()
        assert [round(tone.hertz) for tone in tones] == [1000]
        assert -16 < tones[0].level < -8
        await one.hang_up()
        assert (await other.over()).cause is EndCause.REMOTE_BYE
        assert (await one.over()).cause is EndCause.LOCAL_BYE


async def connected(one: RoomTerminal, other: RoomTerminal) -> None:
    await one.dial(other.uri)
    await other.answered()
    await each_perceives_the_other(one, other)


async def test_hold_stops_what_it_says_and_resume_brings_it_back(studio: Studio) -> None:
    async with RoomTerminal(caller(), studio) as one, RoomTerminal(callee(), studio) as other:
        await connected(one, other)
        await one.hold(Direction.INACTIVE)
        await one.hears(1000, present=False)
        await other.hears(440, present=False)
        held = (one.report().frames_sent, other.report().frames_sent)
        await asyncio.sleep(0.2)  # five frames' time in which none may leave
        assert (one.report().frames_sent, other.report().frames_sent) == held
        await one.resume()
        await one.sees_frames(10)
        await other.sees_frames(10)
        await asyncio.gather(one.hears(1000), other.hears(440))
        await other.hold()
        await one.hears(1000)
        await other.hears(440, present=False)
        assert one.in_call
        assert other.in_call


async def test_who_vanishes_says_nothing_more_and_the_other_goes_on(studio: Studio) -> None:
    async with RoomTerminal(caller(), studio) as one, RoomTerminal(callee(), studio) as other:
        await connected(one, other)
        one.vanish()
        await other.hears(440, present=False)
        received = other.report().received_bytes
        frames = other.screen.frames_received
        await other.hears(440, present=False)
        await asyncio.sleep(0.5)  # RTCP would come within this
        assert other.in_call
        assert other.report().received_bytes == received
        assert other.screen.frames_received == frames
        assert other.screen.longest_freeze() >= 0.5
        assert other.report().frames_sent > 0


async def test_a_vanished_terminal_sends_no_bye_at_its_end_either(studio: Studio) -> None:
    async with RoomTerminal(callee(), studio) as other:
        async with RoomTerminal(caller(), studio) as one:
            await connected(one, other)
            one.vanish()
        with pytest.raises(NotPerceived):
            await other.over(timeout=0.5)


async def test_a_key_frame_comes_when_asked_for_and_restarts_the_loop(studio: Studio) -> None:
    settings = callee()
    async with (
        RoomTerminal(caller(), studio) as one,
        RoomTerminal(replace(settings, loop_seconds=30), studio) as other,
    ):
        await connected(one, other)
        keys, at = one.screen.key_frames, time.monotonic()
        one.request_keyframe()
        await one.screen.bell.until(lambda: one.screen.key_frames > keys, 5, lambda: "a key frame")
        assert time.monotonic() - at < 1.5
        assert one.report().frames_damaged == 0


async def test_without_feedback_a_key_frame_is_asked_by_info(studio: Studio) -> None:
    async with (
        RoomTerminal(caller(feedback=False), studio) as one,
        RoomTerminal(replace(callee(), loop_seconds=30), studio) as other,
    ):
        await connected(one, other)
        keys = one.screen.key_frames
        one.request_keyframe()
        await one.screen.bell.until(lambda: one.screen.key_frames > keys, 5, lambda: "a key frame")
        assert one.media is not None
        assert one.media.picture is not None
        assert one.media.picture.receiver.stats(time.monotonic()).plis_sent == 0


@pytest.mark.parametrize("looped", [True, False])
async def test_every_coded_picture_arrives_as_it_was_sent_and_its_number_is_read(
    studio: Studio, looped: bool
) -> None:
    words = {"hashing": True, "numbered": True, "looped": looped, "detail": 20}
    async with RoomTerminal(caller(**words), studio) as one, RoomTerminal(callee(**words), studio) as other:
        await connected(one, other)
        await one.sees_frames(20)
        number = one.number_in(WHOLE)
        assert number is not None
        sent_at = other.sent_at(number)
        assert sent_at is not None
        assert 0 <= time.monotonic() - sent_at < 1.0
        assert other.media is not None
        sent, got = list(other.media.player.hashes), list(one.screen.hashes)
        start = sent.index(got[0])
        assert len(got) >= 20
        assert sent[start : start + len(got)] == got[: len(sent) - start]


async def test_the_wire_keeps_to_what_the_peer_takes(studio: Studio) -> None:
    noisy = replace(callee(), detail=60, bitrate=2_000_000, width=1280, height=720)
    async with (
        RoomTerminal(caller(receive_bps=400_000), studio) as one,
        RoomTerminal(noisy, studio) as other,
    ):
        await one.dial(other.uri)
        await one.sees("blue", tolerance=40)
        await one.sees_frames(40, timeout=15)
        seconds = one.wire()
        assert max(second.received for second in seconds) * 8 <= 400_000
        assert one.report().peak_received_bps > 150_000
        assert other.report().peak_sent_bps <= 400_000


async def test_a_small_decoder_is_sent_a_small_picture(studio: Studio) -> None:
    """Level 1.1 is what many old terminals have."""
    async with RoomTerminal(caller(), studio) as one, RoomTerminal(callee(), studio) as other:
        media = TerminalMedia(one.settings, studio, Screen("old"), Ear(studio), lambda: None)
        offer = media.offer()
        codec = replace(
            offer.sections[1].codecs[0], parameters={"profile-level-id": "42e00b", "packetization-mode": "1"}
        )
        offer = replace(offer, sections=(offer.sections[0], replace(offer.sections[1], codecs=(codec,))))
        assert other.media is None
        answering = TerminalMedia(other.settings, studio, Screen("new"), Ear(studio), lambda: None)
        answering.answer(offer)
        shot = answering.player.shot
        assert shot is not None
        assert (shot.target.width, shot.target.height, shot.target.fps) == (176, 144, 25)
        assert shot.target.bitrate <= 192_000
        await media.aclose()
        await answering.aclose()


async def test_a_busy_terminal_and_one_without_a_common_codec_refuse(studio: Studio) -> None:
    async with (
        RoomTerminal(caller(), studio) as one,
        RoomTerminal(callee(), studio) as other,
        RoomTerminal(replace(caller(), name="third"), studio) as third,
        RoomTerminal(replace(callee(), name="vp8", video=("VP8",), audio=("OPUS",)), studio) as strange,
    ):
        await one.dial(other.uri)
        with pytest.raises(DialRefused, match="486"):
            await third.dial(other.uri)
        with pytest.raises(DialRefused, match="488"):
            await third.dial(strange.uri)
        assert not third.in_call
        await one.sees("blue")


async def test_after_a_call_comes_another_with_nothing_left_of_the_first(studio: Studio) -> None:
    async with (
        RoomTerminal(caller(), studio) as one,
        RoomTerminal(callee(), studio) as other,
        RoomTerminal(replace(callee(), name="green", colour="green", tone_hz=700), studio) as third,
    ):
        await connected(one, other)
        await one.hang_up()
        await one.dial(third.uri)
        await one.sees("green")
        await one.hears(700)
        assert [round(tone.hertz) for tone in await one.tones()] == [700]
        await third.show("yellow")
        await third.play(None)
        await one.sees("yellow")
        await one.hears(700, present=False)


async def test_a_crowd_costs_little_when_it_watches_key_frames(studio: Studio) -> None:
    settings = replace(caller(), watching=Watching.KEY_FRAMES)
    async with AsyncExitStack() as stack:
        pairs = []
        for number in range(6):
            one = await stack.enter_async_context(RoomTerminal(replace(settings, name=f"c{number}"), studio))
            other = await stack.enter_async_context(
                RoomTerminal(replace(callee(), name=f"d{number}"), studio)
            )
            pairs.append((one, other))
        await asyncio.gather(*(one.dial(other.uri) for one, other in pairs))
        await asyncio.gather(*(each_perceives_the_other(one, other) for one, other in pairs))
        assert all(one.report().frames_received > one.report().frames_decoded for one, _ in pairs)


@requires("baresip")
@pytest.mark.parametrize("dials", ["terminal", "baresip"])
async def test_a_baresip_and_a_terminal_see_and_hear_each_other(
    studio: Studio, tmp_path: Path, dials: str
) -> None:
    async with (
        Baresip(tmp_path, Room("real", BLUE, 1000)) as real,
        RoomTerminal(caller(), studio) as terminal,
    ):
        if dials == "terminal":
            await terminal.dial(real.uri)
        else:
            await real.dial(terminal.uri.partition(";")[0])
            await terminal.answered()
        await real.established()
        await asyncio.gather(
            terminal.sees("blue"), terminal.hears(1000), real.sees(COLOURS["red"]), real.hears(440)
        )
        if dials == "terminal":
            await terminal.hang_up()
            await real.closed()
        else:
            await real.hang_up()
            assert (await terminal.over()).cause is EndCause.REMOTE_BYE


@pytest.mark.parametrize("name", COLOURS)
def test_footage_is_recognised_by_its_own_colour_only(name: str) -> None:
    picture = Footage(COLOURS[name], 352, 288, detail=10).picture(7)
    assert shows(picture, COLOURS[name], CENTRE, tolerance=8)
    assert not any(shows(picture, other) for key, other in COLOURS.items() if key != name)


@pytest.mark.parametrize("number", [0, 1, 4660, 65_535])
def test_a_number_is_read_back_also_from_a_tile(number: int) -> None:
    picture = Footage(COLOURS["green"], 640, 360, numbered=True).picture(number)
    assert read_number(picture) == number
    wall = Footage(COLOURS["red"], 1280, 720).picture(0)
    wall.y[0:360, 640:1280] = picture.y
    assert read_number(wall, Region(0.5, 0, 0.5, 0.5)) == number
    assert read_number(wall) is None
    assert mean_colour(wall, Region(0.1, 0.1, 0.2, 0.2)) == pytest.approx(COLOURS["red"], abs=4)


def test_a_looped_tape_has_no_seam() -> None:
    tape = record_tone(SoundCodec.PCMA, 441)
    assert len(tape) == 50
    decoder = sound_decoder(SoundCodec.PCMA)
    samples = np.concatenate([decoder.decode(payload) for payload in (*tape, *tape)])
    spectrum = Spectrum.of(samples[len(samples) // 4 : 3 * len(samples) // 4])
    assert [round(tone.hertz) for tone in spectrum.tones] == [441]
    far = spectrum.levels[np.abs(spectrum.frequencies - 441) > 100]
    assert far.max() < -50


def test_settings_that_make_no_sense_are_refused() -> None:
    for words, reason in (
        ({"video": ("H265",)}, "H265"),
        ({"colour": "mauve"}, "mauve"),
        ({"username": "room"}, "password"),
    ):
        with pytest.raises(ValueError, match=reason):
            caller(**words) if "colour" not in words else TerminalSettings("x", **words)  # type: ignore[arg-type]  # wrong on purpose
