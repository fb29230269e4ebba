"""A meeting's pictures with sites of the test's own: nobody is stuck, and nothing stays of who has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence

import pytest

from foundation.desks import View
from mcu_bridge.meeting_picture import MeetingPicture
from mcu_bridge.outlet import Outlet
from mcu_bridge.picture_plan import Canvas, Content, PictureLimits, PictureSource
from media.codec_worker import CodecPool
from media.packet import Format, Packet
from media.stream import Stream
from protocols.payloads import Packetizer
from protocols.payloads.h264 import H264Packetizer
from tests.mcu_bridge.conftest import full_screen
from tests.mcu_bridge.rtp_peer import RED, footage
from tests.peers.waiting import until_true

LIMITS = PictureLimits("H264", 700_000)
SOURCE = PictureSource("H264", 300_000, 320, 180)
LOOP = footage(RED, "H264", 200_000, (320, 180))


class Site:
    def __init__(self, name: str, *, sends: bool = True) -> None:
        self.participant_id = name
        self.stream: Stream | None = Stream(name, Format("H264", 90_000)) if sends else None
        self.source: PictureSource | None = SOURCE if sends else None
        self.limits: PictureLimits | None = LIMITS
        self.outlet: Outlet | None = None
        self.still = None
        self.packetization: Hashable = "one"
        self.shown: list[str] = []

    def make_packetizer(self) -> Packetizer:
        return H264Packetizer(1, 1200)

    def send_picture(self, payloads: Sequence[bytes], packet: Packet, *, first: bool) -> None:
        assert self.outlet is not None
        self.shown.append(self.outlet.stream.id)

    def send(self, number: int = 0) -> None:
        assert self.stream is not None
        data, keyframe = LOOP[number]
        self.stream.publish(Packet(data, number * 3600, 0.0, keyframe))


class Stage:
    def __init__(self, pool: CodecPool) -> None:
        self.pool = pool
        self.picture = MeetingPicture(pool, None, Canvas(640, 360), asyncio.get_running_loop())
        self.now = 0.0
        self._time = 0

    def add(self, *sites: Site) -> None:
        for site in sites:
            self.picture.add(site.participant_id, site.participant_id)
            self.picture.connect(site)

    async def plan(self) -> None:
        self.now += 0.5
        self.picture.replan(self.now)
        self.picture.tidy()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def until_shown(self, site: Site, what: str) -> None:
        """Turn until the site is sent `what`."""
        site.shown.clear()

        def seen() -> bool:
            self._time += 3600
            self.picture.tick(self._time)
            return what in site.shown

        await until_true(seen, f"{site.participant_id} to be sent {what}", 5.0, lambda: str(site.shown))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    pool = CodecPool(1)
    stage = Stage(pool)
    yield stage
    await stage.picture.aclose()
    assert pool.lanes == 0
    await pool.aclose()


async def test_one_encoder_for_all_who_see_the_mosaic(stage: Stage) -> None:
    sites = [Site(name) for name in "abcd"]
    stage.add(*sites)
    await stage.plan()
    (encoder,) = stage.picture.encoders
    assert (encoder.receivers, encoder.reason) == (4, "mosaic")
    assert stage.pool.lanes == 6
    for site in sites:
        await stage.until_shown(site, encoder.key)


async def test_the_last_receiver_takes_encoder_and_decoders_with_it(stage: Stage) -> None:
    a, b = Site("a"), Site("b")
    stage.add(a, b)
    await stage.plan()
    a.limits = b.limits = None
    for _ in range(3):  # feeds, then encoders, then screens, then decoders
        await stage.plan()
    await until_true(lambda: stage.pool.lanes == 0, "no lanes", 3.0)
    assert stage.picture.encoders == ()
    assert stage.picture.feed_of("a") == ("", 0, 0)


async def test_who_was_fed_by_a_leg_that_is_made_anew_is_moved_to_the_new_one(stage: Stage) -> None:
    """The new leg's key frame may come before the next plan: then the feed has the same name as before."""
    a, b = Site("a"), Site("b")
    stage.add(a, b)
    stage.picture.set_view(full_screen("a"))
    await stage.plan()
    a.send(0)
    await asyncio.sleep(0.01)
    assert b.shown == ["a"]
    again = Site("a")
    stage.picture.disconnect("a")
    stage.picture.connect(again)
    await stage.plan()
    b.shown.clear()
    again.send(0)
    await asyncio.sleep(0.01)
    assert b.shown == ["a"]
    assert stage.picture.feed_of("b") == ("pass-through:a", 320, 180)


async def test_a_shown_site_that_leaves_leaves_a_mosaic(stage: Stage) -> None:
    a, b = Site("a"), Site("b")
    stage.add(a, b)
    stage.picture.set_view(full_screen("a"))
    await stage.plan()
    a.send(0)
    await asyncio.sleep(0.01)
    stage.picture.remove("a")
    assert b.outlet is None
    await stage.plan()
    (encoder,) = stage.picture.encoders
    await stage.until_shown(b, encoder.key)


async def test_a_picture_under_way_does_not_come_back_after_its_site_has_gone(stage: Stage) -> None:
    a, b = Site("a"), Site("b")
    stage.add(a, b)
    await stage.plan()
    composer = stage.picture._screens[Content()].composer
    for _ in range(40):
        for number in range(len(LOOP)):
            a.send(number)
    await until_true(lambda: "a" in composer._pictures, "the picture", 3.0)
    last = composer._pictures["a"]
    stage.picture.remove("a")
    composer.show("a", last)  # as the decoder's thread does that was in the middle of it
    await until_true(lambda: not stage.picture._closing, "the decoder to be closed", 3.0)
    assert "a" not in composer._pictures
    assert "a" not in composer._names


async def test_a_new_screen_knows_who_speaks(stage: Stage) -> None:
    a, b = Site("a"), Site("b")
    stage.add(a, b)
    stage.picture.set_speakers(("b", "a"))
    await stage.plan()
    assert stage.picture._screens[Content()].composer._highlighted == "b"


async def test_the_loop_filter_is_left_out_of_small_tiles_only(stage: Stage) -> None:
    sites = [Site(name) for name in "abcd"]
    stage.add(*sites)
    await stage.plan()
    decoders = stage.picture._decoders
    assert all(decoder._decoder.skip_loop_filter for decoder in decoders.values())
    stage.picture.set_view(full_screen("a"))
    sites[1].limits = PictureLimits("VP8", 700_000)  # must be encoded for; a itself sees its counterpart
    sites[0].source = None  # and c, d see the mosaic until a sends again
    await stage.plan()
    sites[0].source = SOURCE
    await stage.plan()
    assert not decoders["a"]._decoder.skip_loop_filter


async def test_comings_and_goings_leave_nothing(stage: Stage) -> None:
    stay = Site("stay")
    stage.add(stay)
    await stage.plan()
    for number in range(20):
        guest = Site(f"guest-{number}")
        stage.add(guest)
        if number % 2:
            stage.picture.set_view(full_screen(guest.participant_id))
        await stage.plan()
        guest.send(0)
        await asyncio.sleep(0)
        stage.picture.remove(guest.participant_id)
        stage.picture.set_view(View())
        await stage.plan()
    await stage.plan()
    await until_true(lambda: stage.pool.lanes == 3, "the lanes of one", 5.0)
    await until_true(lambda: not stage.picture._closing, "all to be closed", 5.0)
    picture = stage.picture
    assert set(picture._seating.names) == set(picture._senders) == set(picture._decoders) == {"stay"}
    assert not picture._forwardings
    (screen,) = picture._screens.values()
    assert set(screen.composer._names) | set(screen.composer._pictures) == {"stay"}
