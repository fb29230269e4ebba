"""Cameras in a meeting: seen and heard by receivers, forwarded where they can be, back when they fail."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from foundation.desks import (
    Budget,
    Direction,
    LegReport,
    MediaDescription,
    Refusal,
    RefusalKind,
    SectionKind,
)
from foundation.events import ParticipantSilent
from mcu_bridge import conference as conference_module
from mcu_bridge.access import MediaAccess
from mcu_bridge.bridge import Bridge
from mcu_bridge.video_composer import CARD
from media.packet import Format
from media.stream_source import StreamUnavailable
from protocols.payloads.h264 import split_byte_stream
from tests.mcu_bridge.cameras import Camera, Footage, pictures, sound
from tests.mcu_bridge.conftest import MEETING, Stage, full_screen, settings
from tests.mcu_bridge.rtp_peer import BLUE, GREEN, H264, RED, VP8, YELLOW, RtpPeer, Tile
from tests.peers.waiting import until, until_true

HIGH = replace(H264, parameters={"profile-level-id": "640028", "packetization-mode": "1"})
WIDE = Budget(4_000_000, 4_000_000)


async def legs_of(stage: Stage, name: str) -> dict[SectionKind, LegReport]:
    report = await stage.bridge.report(MEETING)
    return {leg.kind: leg for leg in report.legs if leg.participant_id == name}


async def test_cameras_are_seen_in_the_mosaic_and_heard_in_the_mix(stage: Stage) -> None:
    await stage.bring("red", Camera(pictures(RED), sound(440.0, "MPEG4-GENERIC", rate=44_100, channels=2)))
    await stage.bring("green", Camera(pictures(GREEN, size=(322, 182)), sound(900.0, "PCMA")))
    await stage.bring(
        "blue", Camera(pictures(BLUE, profile="high"), sound(1700.0, "MPEG4-GENERIC", rate=16_000))
    )
    async with RtpPeer(YELLOW, 600.0, stage.peer_ports) as peer:
        await stage.join("yellow", peer)
        for colour, tile in ((YELLOW, 0), (RED, 1), (GREEN, 2), (BLUE, 3)):
            await until_true(
                lambda colour=colour: any(peer.shows(colour, Tile(n % 2, n // 2, 2, 2)) for n in range(4)),  # type: ignore[misc]  # a lambda's default has no type
                f"tile {tile}",
                8.0,
            )
        for hertz in (440.0, 900.0, 1700.0):
            await peer.hears(hertz)
        legs = await legs_of(stage, "green")
        assert (legs[SectionKind.VIDEO].codec, legs[SectionKind.VIDEO].width) == ("H264", 322)
        assert (legs[SectionKind.AUDIO].codec, legs[SectionKind.AUDIO].outgoing) == ("PCMA", False)
        assert legs[SectionKind.VIDEO].bitrate_bps > 10_000
        await stage.bridge.set_muted("green", True)
        await peer.hears(900.0, present=False)
        await stage.bridge.set_muted("green", False)
        await peer.hears(900.0)
        await stage.bridge.drop("green")
        await peer.hears(900.0, present=False)
        await until_true(
            lambda: stage.cameras["camera:green"].holders == 0, "the camera to be let go of", 3.0
        )


@pytest.mark.parametrize("profile", ["baseline", "high"])
async def test_a_full_screen_camera_reaches_a_viewer_byte_for_byte(stage: Stage, profile: str) -> None:
    camera = Camera(pictures(RED, profile=profile), sound(440.0, "PCMA"))
    await stage.bring("red", camera)
    await stage.bridge.set_view(MEETING, full_screen("red"))
    codec = HIGH if profile == "high" else H264
    async with (
        RtpPeer(GREEN, 900.0, stage.peer_ports, video=codec, viewing=True) as viewer,
        RtpPeer(BLUE, 900.0, stage.peer_ports, video=VP8, viewing=True) as old,
    ):
        answer = await stage.join("viewer", viewer)
        assert all(section.direction is Direction.SENDONLY for section in answer.sections)
        await until(lambda: stage.feed("viewer"), "pass-through:red".__eq__, "pass-through", 8.0)
        await viewer.sees(RED)
        await viewer.hears(440.0)
        await until(stage.encoders, lambda keys: not keys, "no encoder", 5.0)
        await until_true(lambda: stage.bridge._pool.lanes == 0, "nothing to be decoded", 3.0)
        viewer.frames.clear()
        await viewer.more_pictures(30)
        sent = {b"".join(split_byte_stream(data)) for data in camera.sent}
        assert {b"".join(split_byte_stream(data)) for data in viewer.frames} <= sent
        await stage.join("old", old)
        await old.sees(RED)
        assert "full-screen:red VP8" in await stage.feed("old")
        assert await stage.feed("viewer") == "pass-through:red"


async def test_a_newcomer_sees_a_still_while_it_waits_for_the_next_key_frame(stage: Stage) -> None:
    camera = Camera(pictures(RED, gop=50))
    await stage.bring("red", camera)
    await stage.bridge.set_view(MEETING, full_screen("red"))
    async with (
        RtpPeer(GREEN, 900.0, stage.peer_ports, viewing=True) as first,
        RtpPeer(BLUE, 900.0, stage.peer_ports, viewing=True) as second,
    ):
        await stage.join("first", first)
        await first.more_pictures(20)
        await until_true(lambda: first.keyframes >= 2, "the next group of pictures", 5.0)
        await asyncio.sleep(0.1)
        await stage.join("second", second)
        await second.sees(RED, timeout=0.8)
        assert (second.pictures, second.keyframes) == (1, 1)
        await second.more_pictures(20)
        assert second.keyframes == 2
        assert second.latest is not None


async def test_b_frames_are_encoded_anew_and_never_passed_on(stage: Stage) -> None:
    camera = Camera(pictures(RED, profile="high", b_frames=2))
    await stage.bring("red", camera)
    await stage.bridge.set_view(MEETING, full_screen("red"))
    async with RtpPeer(GREEN, 900.0, stage.peer_ports, video=HIGH, viewing=True) as viewer:
        await stage.join("viewer", viewer, WIDE)
        await viewer.sees(RED)
        for _ in range(5):
            await viewer.more_pictures(8)
            assert "full-screen:red H264" in await stage.feed("viewer")
        (encoder,) = (await stage.bridge.report(MEETING)).encoders
        assert "B-frames" in encoder.reason
        sent = {b"".join(split_byte_stream(data)) for data in camera.sent}
        assert not {b"".join(split_byte_stream(data)) for data in viewer.frames} & sent


async def test_a_camera_that_ends_leaves_its_tile_and_comes_back_as_another(stage: Stage) -> None:
    camera = Camera(pictures(RED), sound(440.0, "PCMA"))
    await stage.bring("red", camera)
    async with RtpPeer(GREEN, 900.0, stage.peer_ports, viewing=True) as viewer:
        await stage.join("viewer", viewer)
        await viewer.sees(RED)
        camera.fault = StreamUnavailable("the camera refuses")
        camera.end()
        await until_true(lambda: not viewer.shows(RED), "the tile to be cleared", 3.0)

        async def why() -> str:
            return (await legs_of(stage, "red"))[SectionKind.VIDEO].source

        await until(why, lambda source: "the camera refuses" in source, "the reason", 3.0)
        camera.shown, camera.heard = pictures(BLUE, size=(640, 362), gop=5), sound(1300.0, "PCMU")
        camera.fault = None
        await viewer.sees(BLUE)
        await viewer.hears(1300.0)
        assert (await why()) == "camera:red"
        legs = await legs_of(stage, "red")
        assert (legs[SectionKind.VIDEO].width, legs[SectionKind.VIDEO].height) == (640, 362)
        assert legs[SectionKind.AUDIO].codec == "PCMU"


async def test_viewers_of_a_camera_that_is_away_see_its_card_and_not_each_other(stage: Stage) -> None:
    camera = Camera(pictures(RED))
    camera.fault = StreamUnavailable("the camera refuses")
    await stage.bring("red", camera)
    await stage.bridge.set_view(MEETING, full_screen("red"))
    async with (
        RtpPeer(GREEN, 900.0, stage.peer_ports, viewing=True) as one,
        RtpPeer(BLUE, 900.0, stage.peer_ports, viewing=True) as other,
    ):
        await stage.join("one", one)
        await stage.join("other", other)
        await one.sees(CARD)
        assert "full-screen:red" in await stage.feed("one")
        camera.fault = None
        await one.sees(RED)
        await other.sees(RED)
        await until(lambda: stage.feed("other"), "pass-through:red".__eq__, "pass-through", 4.0)


async def test_sound_that_comes_later_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcu_bridge.stream_participant.SOUND_WAITS", (0.1, 0.3))
    camera = Camera(pictures(RED))
    await stage.bring("red", camera)
    async with RtpPeer(GREEN, 900.0, stage.peer_ports, viewing=True) as viewer:
        await stage.join("viewer", viewer)
        await viewer.sees(RED)
        camera.heard = sound(440.0, "OPUS")
        await viewer.hears(440.0)


async def test_what_cannot_be_shown_or_heard_says_so_and_harms_nobody(stage: Stage) -> None:
    strange = Footage(Format("H265", 90_000), ((b"\x00\x00\x00\x01\x26\x01", 0, True),), 3600)
    mute = Footage(Format("MPEG4-GENERIC", 48_000, 1, {"config": "zz"}), ((b"\x00", 0, True),), 1024)
    await stage.bring("strange", Camera(strange, mute))
    await stage.bring("red", Camera(pictures(RED)))
    async with RtpPeer(GREEN, 900.0, stage.peer_ports, viewing=True) as viewer:
        await stage.join("viewer", viewer)
        await until_true(lambda: any(viewer.shows(RED, Tile(n, 0, 2, 1)) for n in range(2)), "red", 6.0)
        assert "H265" in (await legs_of(stage, "strange"))[SectionKind.VIDEO].source
        assert stage.bridge.failed_turns == 0


async def test_what_a_stream_does_not_do_is_refused(stage: Stage, access: MediaAccess) -> None:
    await stage.bring("red", Camera(pictures(RED)))
    for asked in (
        stage.bridge.answered("red", MediaDescription(())),
        stage.bridge.renegotiate("red", MediaDescription(())),
    ):
        with pytest.raises(Refusal, match="camera:red: a stream negotiates nothing"):
            await asked
    await stage.bridge.set_budget("red", Budget(1, 1))
    await stage.bridge.refresh_picture("red")
    with pytest.raises(Refusal, match="shown to itself"):
        await stage.bridge.admit_stream(stage.spec("loop"), f"programme:{MEETING}")
    async with Bridge(settings(), access, lambda event: None) as bare:
        await bare.open(stage.bridge._conferences[MEETING].spec)
        with pytest.raises(Refusal) as refused:
            await bare.admit_stream(stage.spec("red"), "camera:red")
        assert refused.value.kind is RefusalKind.NO_CAPACITY


async def test_asked_again_it_goes_on_and_for_another_stream_it_changes(stage: Stage) -> None:
    first, second = Camera(pictures(RED)), Camera(pictures(BLUE))
    await stage.bring("eye", first)
    stage.cameras["camera:other"] = second
    async with RtpPeer(GREEN, 900.0, stage.peer_ports, viewing=True) as viewer:
        await stage.join("viewer", viewer)
        await viewer.sees(RED)
        await stage.bridge.admit_stream(stage.spec("eye"), "camera:eye")
        await viewer.more_pictures(10)
        assert (first.opened, viewer.shows(RED)) == (1, True)
        await stage.bridge.admit_stream(stage.spec("eye"), "camera:other")
        await viewer.sees(BLUE)
        await until_true(lambda: first.holders == 0, "the first to be let go of", 3.0)


async def test_a_viewer_that_sends_rtcp_only_is_there_and_a_vanished_one_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conference_module, "SILENT_AFTER", 3.0)
    await stage.bring("red", Camera(pictures(RED)))
    await stage.bridge.set_view(MEETING, full_screen("red"))

    def silences() -> list[str]:
        return [event.participant_id for event in stage.events if isinstance(event, ParticipantSilent)]

    async with RtpPeer(GREEN, 900.0, stage.peer_ports, viewing=True) as viewer:
        await stage.join("viewer", viewer)
        await viewer.sees(RED)
        await asyncio.sleep(4.0)
        assert silences() == []
        viewer.sending = False
        await until_true(lambda: silences() == ["viewer"], "the vanished viewer to be told", 6.0)


async def test_a_closed_meeting_lets_go_of_its_cameras(stage: Stage) -> None:
    camera = Camera(pictures(RED), sound(440.0, "PCMA"))
    await stage.bring("red", camera)
    await until_true(lambda: camera.holders == 2, "pictures and sound", 3.0)
    await stage.bridge.close(MEETING)
    assert camera.holders == 0
    assert not stage.bridge._places
    with pytest.raises(Refusal):
        await stage.bridge.set_muted("red", True)


async def test_a_busy_worker_refuses_new_cameras_and_takes_those_of_a_lost_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.cameras["camera:eye"] = Camera(pictures(RED))
    monkeypatch.setattr(type(stage.bridge._load), "full", True)
    with pytest.raises(Refusal) as refused:
        await stage.bridge.admit_stream(stage.spec("eye"), "camera:eye")
    assert refused.value.kind is RefusalKind.NO_CAPACITY
    await stage.bridge.admit_stream(stage.spec("eye"), "camera:eye", known=True)
    assert "eye" in stage.bridge._conferences[MEETING].streamed


async def test_comings_and_goings_of_cameras_and_holders_leave_nothing(stage: Stage) -> None:
    camera = stage.cameras["camera:eye"] = Camera(pictures(RED), sound(440.0, "PCMA"))
    conference = stage.bridge._conferences[MEETING]
    await asyncio.sleep(0.1)
    tasks = len(asyncio.all_tasks())
    for number in range(12):
        name = f"eye-{number}"
        await stage.bridge.admit_stream(stage.spec(name), "camera:eye")
        async with stage.bridge.streams.open(f"programme:{MEETING}") as shown, shown.reader() as reader:
            if number % 2:
                await stage.bridge.set_view(MEETING, full_screen(name))
            if number % 3 == 0:
                await anext(reader)
        await stage.bridge.drop(name)
    await until_true(lambda: stage.bridge._pool.lanes == 0, "no lanes", 5.0)
    await until_true(lambda: camera.holders == 0 and not conference._closing, "nobody to hold it", 3.0)
    picture, mixer = conference.picture, conference.sound.mixer
    held = (
        picture._seating.names,
        picture._senders,
        picture._decoders,
        picture._forwardings,
        picture._screens,
    )
    heard = (mixer._sources, mixer._listeners, conference.sound._sources)
    there = (picture._expected, conference.streamed, stage.bridge._places)
    assert [len(each) for each in (*held, *heard, *there)] == [0] * 11
    playing = 2  # the camera's own tasks, here in the test
    assert len(asyncio.all_tasks()) <= tasks + playing
