"""Slides over loopback: who sees whose second picture, where and at what cost, and what is left at last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from foundation.desks import (
    Budget,
    CodecDescription,
    ConferenceSpec,
    Dialled,
    Direction,
    EncoderReport,
    MediaDescription,
    SectionKind,
    Staging,
    View,
    ViewMode,
)
from foundation.events import PictureFlowWanted
from mcu_bridge.access import MediaAccess
from mcu_bridge.bridge import Bridge
from mcu_bridge.rates import SLIDES_SHARE
from media.codecs import VideoCodec, VideoDecoder
from tests.mcu_bridge.conftest import FULL, MEETING, Stage, settings
from tests.mcu_bridge.rtp_peer import BLUE, GREEN, H264, RED, VP8, YELLOW, RtpPeer, Tile, Yuv
from tests.mcu_bridge.second_picture import SecondPicture
from tests.peers.waiting import until, until_true

BESIDE = Tile(4, 2, 5, 5)
"""Where the speaker is while slides are in the main picture."""
ON_A = View(ViewMode.FULL_SCREEN, "a")
SHARED = Staging(slides="a")
CAMERA, PAGES = 1_150_000, 2_000_000
"""At 25 frames a second, of which rooms send every other: 400 and 750 kbit/s come out."""
SLIDES = SectionKind.SLIDES


class Hall:
    """A has a red camera and blue slides, B a green camera and takes slides, C a yellow one and no second
    picture. All see A."""

    def __init__(self, stage: Stage, rooms: AsyncExitStack) -> None:
        self.stage = stage
        self._rooms = rooms

    async def room(
        self,
        name: str,
        colour: Yuv,
        slides: SecondPicture | None = None,
        budget: Budget = FULL,
        *,
        hertz: float = 440.0,
        bitrate: int = 200_000,
        secure: bool = False,
        video: CodecDescription = H264,
    ) -> RtpPeer:
        peer = RtpPeer(
            colour,
            hertz,
            self.stage.peer_ports,
            slides=slides,
            video=video,
            bitrate=bitrate,
            secure=secure,
        )
        await self._rooms.enter_async_context(peer)
        await self.stage.join(name, peer, budget)
        return peer

    async def show(self, staging: Staging, view: View = ON_A) -> None:
        await self.stage.bridge.set_staging(MEETING, view, staging)


@pytest.fixture
async def hall(stage: Stage) -> AsyncIterator[Hall]:
    async with AsyncExitStack() as rooms:
        hall = Hall(stage, rooms)
        await hall.show(Staging())
        yield hall


def sharing(bitrate: int = 200_000) -> SecondPicture:
    return SecondPicture(H264, BLUE, bitrate=bitrate)


def looking() -> SecondPicture:
    return SecondPicture(H264)


async def test_slides_go_beside_the_camera_or_into_the_main_picture_and_to_who_comes_late(hall: Hall) -> None:
    stage, shared, seen = hall.stage, sharing(), looking()
    a = await hall.room("a", RED, shared)
    b = await hall.room("b", GREEN, seen)
    c = await hall.room("c", YELLOW)
    await b.sees(RED)
    await c.sees(RED)
    await shared_comes(stage)
    assert seen.pictures == 0, "without the floor nobody is shown"
    await hall.show(SHARED)
    await seen.sees(BLUE)
    await c.sees(BLUE)
    await c.sees(RED, BESIDE)
    assert b.shows(RED)
    assert await stage.feed("b", SLIDES) == "pass-through:slides:a"
    assert await stage.feed("b") == "pass-through:a"
    encoder = await only_encoder(stage)
    assert (encoder.key.split()[0], encoder.receivers) == ("slides:a+a", 1)
    assert "slides" in encoder.reason
    seen.frames.clear()
    await seen.more(15)
    assert seen.got <= shared.sent, "untouched"

    late, asked = looking(), shared.keyframe_requests
    await hall.room("d", GREEN, late)
    await late.sees(BLUE)
    assert shared.keyframe_requests > asked
    assert len(await stage.encoders()) == 1
    assert shared.pictures == 0, "nobody is sent its own slides"
    assert not a.shows(BLUE)

    await hall.show(Staging())
    await c.sees(RED)
    await c.sees(RED, BESIDE)
    await until(lambda: stage.feed("c"), "pass-through:a".__eq__, "the picture as before", 3.0)
    await until(stage.encoders, lambda keys: not keys, "no encoder", 3.0)
    assert await stage.feed("b", SLIDES) == ""
    before = seen.pictures
    await b.more_pictures(10)
    assert seen.pictures <= before + 1


async def only_encoder(stage: Stage) -> EncoderReport:
    await until(stage.encoders, lambda keys: len(keys) == 1, "one encoder", 4.0)
    return (await stage.bridge.report(MEETING)).encoders[0]


async def shared_comes(stage: Stage) -> None:
    async def comes() -> int:
        legs = (await stage.bridge.report(MEETING)).legs
        return next(leg.width for leg in legs if leg.kind is SLIDES and not leg.outgoing)

    await until(comes, (320).__eq__, "the slides of a", 4.0)


async def test_who_speaks_is_beside_the_slides_in_a_mosaic_meeting(hall: Hall) -> None:
    await hall.room("a", RED, sharing(), hertz=0.0)
    await hall.room("b", GREEN, hertz=900.0)
    c = await hall.room("c", YELLOW, hertz=0.0)
    await hall.show(SHARED, View())
    await c.sees(BLUE)
    await c.sees(GREEN, BESIDE)
    feeds = {name: await hall.stage.feed(name) for name in "abc"}
    assert feeds["b"] == feeds["c"], "one encoder for all who have no second picture"
    assert feeds["b"].startswith("slides:a+speaker H264")
    assert feeds["a"].startswith("mosaic"), "who shares sees the others"


async def test_the_layout_shows_slides_in_the_main_picture_of_who_has_a_second_one_too(hall: Hall) -> None:
    seen = looking()
    await hall.room("a", RED, sharing(), hertz=0.0)
    b = await hall.room("b", GREEN, seen, hertz=0.0)
    await hall.show(SHARED, View(layout="slides+speaker"))
    await b.sees(BLUE)
    await b.sees(RED, BESIDE)  # nobody spoke: who has the slides
    await seen.sees(BLUE)


async def test_who_takes_another_codec_has_one_encoder_and_drags_nobody(hall: Hall) -> None:
    seen, first, second = looking(), SecondPicture(VP8), SecondPicture(VP8)
    await hall.room("a", RED, sharing())
    await hall.room("b", GREEN, seen)
    await hall.room("c", YELLOW, first)
    await hall.room("d", YELLOW, second)
    await hall.show(SHARED)
    for slides in (seen, first, second):
        await slides.sees(BLUE)
    assert await hall.stage.feed("b", SLIDES) == "pass-through:slides:a"
    encoder = await only_encoder(hall.stage)
    assert encoder.key.startswith("slides:a VP8")
    assert (encoder.receivers, encoder.reason) == (2, "slides: source is H264, receiver takes VP8")


async def test_camera_and_slides_share_the_budget_both_ways_and_it_is_given_back(hall: Hall) -> None:
    stage, shared, seen = hall.stage, sharing(PAGES), looking()
    budget = Budget(620_000, 620_000)
    a = await hall.room("a", RED, shared, bitrate=CAMERA)
    b = await hall.room("b", GREEN, seen, budget)
    await until(lambda: stage.feed("b"), "pass-through:a".__eq__, "the whole camera", 15.0)
    await until_true(lambda: a.remb is not None, "what a may send", 4.0)
    whole = a.remb
    assert whole is not None
    await hall.show(SHARED)
    await seen.sees(BLUE)
    assert b.shows(RED)
    await until(lambda: stage.feed("b"), lambda feed: "H264" in feed, "the camera not to fit", 15.0)
    await until(lambda: stage.feed("b", SLIDES), lambda feed: "H264" in feed, "nor the slides", 15.0)
    await until_true(lambda: a.remb is not None and a.remb < whole, "less for a's camera", 4.0)
    await until_true(lambda: (shared.remb or 0) > (a.remb or whole), "more for its slides", 4.0)
    assert shared.remb is not None
    assert a.remb is not None
    assert abs(shared.remb + a.remb - whole) <= whole / 50
    assert abs(shared.remb - whole * SLIDES_SHARE) <= whole / 50
    await asyncio.sleep(2.5)  # two whole seconds of both
    peaks = {
        wire.participant_id: wire.peak_sent_second * 8 for wire in (await stage.bridge.report(MEETING)).wires
    }
    assert peaks["b"] <= budget.to_site_bps
    since = time.monotonic() - 2.0
    wire = 8 * sum(size for at, size in b.received_bytes if at >= since) / 2
    assert 0.3 * budget.to_site_bps < wire <= budget.to_site_bps
    await hall.show(Staging())
    await until(lambda: stage.feed("b"), "pass-through:a".__eq__, "the whole camera again", 15.0)
    await until_true(lambda: a.remb == whole, "all for a's camera", 4.0)


async def test_slides_that_stop_coming_are_dropped_and_taken_up_again(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu_bridge.picture_leg.STALE_AFTER", 0.8)
    shared = sharing()
    await hall.room("a", RED, shared)
    c = await hall.room("c", YELLOW)
    await hall.show(SHARED)
    await c.sees(BLUE)
    shared.sending = False
    await c.sees(RED)
    shared.sending = True
    await c.sees(BLUE)


async def test_the_floor_passes_on(hall: Hall) -> None:
    first, second = sharing(), SecondPicture(H264, YELLOW)
    await hall.room("a", RED, first)
    await hall.room("b", GREEN, second)
    c = await hall.room("c", GREEN)
    await hall.show(SHARED)
    await second.sees(BLUE)
    await hall.show(Staging(slides="b"))
    await first.sees(YELLOW)
    await c.sees(YELLOW)
    had = second.pictures
    await first.more(8)
    assert second.pictures <= had + 1
    await hall.stage.bridge.drop("b")
    await c.sees(RED)


async def test_a_camera_that_heeds_no_feedback_is_limited_by_signalling_while_slides_come(hall: Hall) -> None:
    deaf = replace(H264, feedback=("nack", "nack pli"))
    await hall.room("a", RED, sharing(), video=deaf)
    flows = [event for event in hall.stage.events if isinstance(event, PictureFlowWanted)]
    assert not flows
    for staging in (SHARED, Staging()):
        await hall.show(staging)
        count = len(flows)

        def told(count: int = count) -> bool:
            flows[:] = [event for event in hall.stage.events if isinstance(event, PictureFlowWanted)]
            return len(flows) > count

        await until_true(told, "a's camera to be limited", 4.0)
    less, whole = (event.bitrate_bps for event in flows)
    assert abs(less - whole * (1 - SLIDES_SHARE)) <= 1


async def test_comings_and_goings_leave_nothing(hall: Hall) -> None:
    seen = looking()
    await hall.room("b", GREEN, seen)
    picture = hall.stage.bridge._conferences[MEETING].picture
    async with RtpPeer(RED, 440.0, hall.stage.peer_ports, slides=sharing()) as a:
        for _ in range(5):
            await hall.stage.join("a", a)
            await hall.show(SHARED)
            seen.latest = None
            await seen.sees(BLUE)
            await hall.stage.bridge.drop("a")
            await hall.show(Staging())
    await until_true(lambda: not picture._closing and not picture._forwardings, "all to be closed", 5.0)
    assert picture._senders.keys() == {"b", "slides:b"}
    assert picture._viewers.keys() == {"b", "slides:b", f"programme:{MEETING}"}
    assert picture._decoders.keys() <= {"b"}
    assert all(content.slides is None for content in picture._screens)
    await hall.stage.bridge.drop("b")
    assert not picture._senders


async def test_the_programme_shows_slides_and_speaker(hall: Hall) -> None:
    await hall.room("a", RED, sharing(), hertz=0.0)
    await hall.show(SHARED)
    decoder = VideoDecoder(VideoCodec.H264)
    middles = {200: BLUE[0], 576: RED[0]}
    async with hall.stage.bridge.streams.open(f"programme:{MEETING}") as stream, stream.reader() as reader:
        async with asyncio.timeout(8.0):
            async for packet in reader:
                pictures = decoder.decode(packet)
                if pictures and all(abs(int(pictures[-1].y[180, x]) - y) < 10 for x, y in middles.items()):
                    break


async def test_a_call_of_ours_offers_slides_and_takes_them_from_who_does_not_repeat_their_name(
    hall: Hall,
) -> None:
    stage, seen = hall.stage, looking()
    await hall.room("a", RED, sharing())
    await hall.show(SHARED)
    async with RtpPeer(GREEN, 900.0, stage.peer_ports, slides=seen) as b:
        offer = await stage.bridge.offer(stage.spec("b"), Dialled.PLAIN)
        assert offer.sections[2].content == "slides"
        theirs = b.offer()
        nameless = replace(theirs.sections[2], kind=SectionKind.VIDEO, content=None)
        answer = MediaDescription((*theirs.sections[:2], nameless))
        b.answered(await stage.bridge.answered("b", answer))
        await b.sees(RED)
        await seen.sees(BLUE)


async def test_another_worker_takes_the_second_picture_up(hall: Hall, access: MediaAccess) -> None:
    stage, shared, seen, dialled_sees = hall.stage, sharing(), looking(), looking()
    a = await hall.room("a", RED, shared, secure=True)
    assert a.theirs is not None
    first = a.theirs
    b = await hall.room("b", GREEN, seen)
    assert b.theirs is not None
    async with RtpPeer(YELLOW, 1200.0, stage.peer_ports, slides=dialled_sees) as c:
        await stage.bridge.offer(stage.spec("c"), Dialled.PLAIN)
        theirs = c.offer()
        dialled = await stage.bridge.answered("c", theirs)
        c.answered(dialled)
        await hall.show(SHARED)
        await seen.sees(BLUE)
        await dialled_sees.sees(BLUE)
        await stage.bridge.close(MEETING)
        async with Bridge(settings(), access, lambda event: None) as other:
            await other.open(ConferenceSpec(MEETING, "1000", "A meeting", ON_A, SHARED))
            again = await other.admit(stage.spec("a"), a.offer(), resume=first)
            assert [(s.port, s.crypto) for s in again.sections] == [
                (s.port, s.crypto) for s in first.sections
            ]
            await other.admit(stage.spec("b"), b.offer(), resume=b.theirs)
            await other.resume_dialled(stage.spec("c"), dialled, theirs)
            a.answered(again)
            seen.latest = dialled_sees.latest = b.latest = None
            await seen.sees(BLUE)
            await dialled_sees.sees(BLUE)
            await b.sees(RED)


async def test_slides_come_and_go_by_later_offers(hall: Hall) -> None:
    stage, seen = hall.stage, looking()
    await hall.room("a", RED, sharing())
    b = await hall.room("b", GREEN, seen)
    await hall.show(SHARED)
    await seen.sees(BLUE)
    offer = b.offer()
    without = MediaDescription((*offer.sections[:2], replace(offer.sections[2], port=0)))
    answer = await stage.bridge.renegotiate("b", without)
    assert [bool(section.port) for section in answer.sections] == [True, True, False]
    await b.sees(BLUE)  # in its main picture now
    b.answered(await stage.bridge.renegotiate("b", b.offer()))
    seen.latest = None
    await seen.sees(BLUE)
    await b.sees(RED)
    only_sends = replace(offer.sections[2], direction=Direction.SENDONLY)
    answer = await stage.bridge.renegotiate("b", MediaDescription((*offer.sections[:2], only_sends)))
    assert answer.sections[2].direction is Direction.RECVONLY
    await b.sees(BLUE)
