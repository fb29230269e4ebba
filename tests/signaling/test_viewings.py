"""Cameras on pages: views open with the first viewer, close after the last, and let nobody stay too long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from foundation.clock import FakeClock
from foundation.database import DatabaseBusy
from foundation.desks import (
    ConferenceDesk,
    Direction,
    DtlsDescription,
    IceDescription,
    MediaDescription,
    MediaSection,
    Refusal,
    RefusalKind,
    View,
    ViewMode,
)
from foundation.event_bus import InProcessBus
from foundation.events import CameraChanged
from signaling.camera_calls import CameraOff, KnownCamera
from signaling.media_workers import MediaWorkers
from signaling.viewings import CHECK_SECONDS, LINGER_SECONDS, VIEWER_BUDGET, ViewingLimits, Viewings
from tests.peers.waiting import until_true
from tests.signaling.house import OURS, description
from tests.signaling.recording_desk import RecordingDesk

GATE = KnownCamera("gate", "nanning", "东门")  # crc32("gate") is even: it lives in the first worker
HOME = "media-0"
CONFERENCE = "view:camera:gate"
SECURE = replace(
    description(9).sections[0],
    direction=Direction.RECVONLY,
    ice=IceDescription("abcd", "0123456789012345678901"),
    dtls=DtlsDescription("sha-256", "AA:BB", "actpass"),
)
OFFER = MediaDescription((SECURE,))


@dataclass
class Page:
    """What decides whether its viewer may stay."""

    may_see: bool = True
    failure: Exception | None = None
    asked: int = 0

    async def permitted(self, camera: KnownCamera) -> bool:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return self.may_see


@dataclass
class Wall:
    """Viewings with what lies about them."""

    clock: FakeClock = field(default_factory=FakeClock)
    cameras: dict[str, KnownCamera] = field(default_factory=lambda: {"gate": GATE})
    limits: ViewingLimits = field(default_factory=ViewingLimits)

    def __post_init__(self) -> None:
        self.desks = {name: RecordingDesk(name, OURS) for name in ("media-0", "media-1")}
        self.workers = MediaWorkers(cast(Mapping[str, ConferenceDesk], self.desks))
        for number, name in enumerate(self.desks):
            self.workers.became_ready(name, 100 + number)
        self.viewings = Viewings(
            workers=self.workers,
            cameras=self.camera,
            clock=self.clock,
            network="extranet",
            limits=self.limits,
        )

    @property
    def desk(self) -> RecordingDesk:
        return self.desks[HOME]

    async def camera(self, camera_id: str) -> KnownCamera | None:
        return self.cameras.get(camera_id)

    async def watch(self, page: Page | None = None, *, owner: str = "liu", camera: KnownCamera = GATE) -> str:
        viewer_id, answer = await self.viewings.watch(
            camera, owner=owner, offer=OFFER, permitted=(page or Page()).permitted
        )
        assert answer == OURS
        return viewer_id

    async def pass_time(self, seconds: float) -> None:
        """Turns as they come, one a second."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            await self.viewings.attend()


@pytest.fixture
def wall() -> Wall:
    return Wall()


async def test_the_first_viewer_opens_the_view_where_the_camera_lives(wall: Wall) -> None:
    first = await wall.watch()
    second = await wall.watch(owner="ma")
    assert not wall.desks["media-1"].calls
    assert [name for name, _ in wall.desk.calls] == ["open", "admit_stream", "admit", "admit"]
    view = wall.desk.conferences[CONFERENCE]
    assert view.view == View(ViewMode.FULL_SCREEN, "camera:gate")
    assert wall.desk.streams == {"camera:gate": "camera:gate"}
    spec = wall.desk.participants[first]
    assert (spec.conference_id, spec.network, spec.budget) == (CONFERENCE, "extranet", VIEWER_BUDGET)
    assert len(wall.viewings) == 2
    await wall.viewings.leave(first, "left")
    await wall.viewings.leave(first, "again")
    assert wall.desk.named("drop") == [first]
    assert set(wall.desk.participants) == {"camera:gate", second}


async def test_the_view_closes_some_seconds_after_the_last_viewer(wall: Wall) -> None:
    viewer = await wall.watch()
    await wall.pass_time(2 * LINGER_SECONDS)
    assert CONFERENCE in wall.desk.conferences
    await wall.viewings.leave(viewer, "left")
    await wall.pass_time(LINGER_SECONDS)
    assert CONFERENCE in wall.desk.conferences
    viewer = await wall.watch()  # in time: it is warm
    assert len(wall.desk.named("open")) == 1
    await wall.viewings.leave(viewer, "left")
    await wall.pass_time(LINGER_SECONDS + 1)
    assert not wall.desk.conferences
    assert not wall.desk.participants
    await wall.watch()
    assert len(wall.desk.named("open")) == 2


async def test_viewers_that_come_at_once_open_one_view(wall: Wall) -> None:
    await asyncio.gather(*(wall.watch() for _ in range(5)))
    assert len(wall.desk.named("open")) == len(wall.desk.named("admit_stream")) == 1
    assert len(wall.desk.named("admit")) == 5


async def test_limits_of_a_camera_a_user_and_the_node() -> None:
    yard = KnownCamera("yard", "nanning", "院子")
    wall = Wall(limits=ViewingLimits(of_a_camera=2, of_a_user=2, altogether=3))
    first = await wall.watch(owner="liu")
    await wall.watch(owner="ma")
    with pytest.raises(Refusal, match="camera gate has 2 viewers") as refused:
        await wall.watch(owner="wei")
    assert (refused.value.kind, refused.value.retry_after) == (RefusalKind.NO_CAPACITY, 10)
    await wall.watch(owner="liu", camera=yard)
    with pytest.raises(Refusal, match="user liu has 2 viewers"):
        await wall.watch(owner="liu", camera=yard)
    with pytest.raises(Refusal, match="this node has 3 viewers"):
        await wall.watch(owner="wei", camera=yard)
    await wall.viewings.leave(first, "left")
    await wall.watch(owner="wei")


@pytest.mark.parametrize("method", ["open", "admit_stream", "admit"])
async def test_a_desk_that_fails_leaves_nothing_behind(wall: Wall, method: str) -> None:
    wall.desk.failures[method] = Refusal(RefusalKind.NO_CAPACITY, "busy", 15)
    with pytest.raises(Refusal, match="busy"):
        await wall.watch()
    assert len(wall.viewings) == 0
    wall.desk.failures.clear()
    viewer = await wall.watch()
    assert set(wall.desk.participants) == {"camera:gate", viewer}
    await wall.viewings.leave(viewer, "left")
    await wall.pass_time(LINGER_SECONDS + 1)
    assert not wall.desk.conferences


async def test_a_camera_that_is_off_and_a_node_without_a_browser_network(wall: Wall) -> None:
    with pytest.raises(CameraOff):
        await wall.watch(camera=replace(GATE, enabled=False))
    nowhere = Viewings(workers=wall.workers, cameras=wall.camera, clock=wall.clock, network=None)
    with pytest.raises(Refusal, match="no network"):
        await nowhere.watch(GATE, owner="liu", offer=OFFER, permitted=Page().permitted)


async def test_only_a_browser_that_receives_is_let_in(wall: Wall) -> None:
    async def watch(*sections: MediaSection) -> None:
        offer = MediaDescription(sections)
        await wall.viewings.watch(GATE, owner="liu", offer=offer, permitted=Page().permitted)

    offers: dict[str, tuple[MediaSection, ...]] = {
        "without ICE or DTLS": (replace(SECURE, ice=None),),
        "has media without": (SECURE, replace(SECURE, dtls=None)),
        "receive nothing": (replace(SECURE, direction=Direction.SENDONLY),),
        "to receive": (),
    }
    for words, sections in offers.items():
        with pytest.raises(Refusal, match=words) as refused:
            await watch(*sections)
        assert refused.value.kind is RefusalKind.BAD_DESCRIPTION
    seen: list[MediaDescription] = []
    admit = wall.desk.admit

    async def look(participant: object, offer: MediaDescription) -> MediaDescription:
        seen.append(offer)
        return await admit(participant, offer)  # type: ignore[arg-type]  # handed on as it came

    wall.desk.admit = look  # type: ignore[method-assign,assignment]  # what reaches the worker is the point
    await watch(replace(SECURE, direction=Direction.SENDRECV))
    assert [section.direction for section in seen[0].sections] == [Direction.RECVONLY]


async def test_a_viewer_whose_session_or_right_is_over_goes_within_the_interval(wall: Wall) -> None:
    staying, going = Page(), Page()
    stays, goes = await wall.watch(staying), await wall.watch(going)
    going.may_see = False
    await wall.pass_time(CHECK_SECONDS + 1)
    assert wall.viewings.viewer(goes) is None
    assert wall.viewings.viewer(stays) is not None
    assert wall.desk.named("drop") == [goes]
    assert staying.asked == 1
    staying.may_see = False
    wall.viewings.check_now()
    await wall.viewings.attend()
    assert wall.viewings.viewer(stays) is None


async def test_a_busy_database_sends_nobody_away(wall: Wall) -> None:
    page = Page(failure=DatabaseBusy("locked"))
    viewer = await wall.watch(page)
    wall.viewings.check_now()
    await wall.viewings.attend()
    assert page.asked == 1
    assert wall.viewings.viewer(viewer) is not None


@pytest.mark.parametrize("gone", [True, False])
async def test_viewers_of_a_camera_that_is_removed_or_off_go_at_once(wall: Wall, gone: bool) -> None:
    viewer = await wall.watch()
    bus = InProcessBus()
    running = asyncio.create_task(wall.viewings.run(bus))
    if gone:
        del wall.cameras["gate"]
    else:
        wall.cameras["gate"] = replace(GATE, enabled=False)

    def told_and_out() -> bool:
        bus.publish(CameraChanged("gate", "nanning"))
        return wall.viewings.viewer(viewer) is None

    await until_true(told_and_out, "the viewer to be out", 5.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    bus.close()


async def test_a_page_that_vanishes_goes_and_a_camera_that_does_not(wall: Wall) -> None:
    first, second = await wall.watch(), await wall.watch()
    await wall.viewings.silent("camera:gate")
    await wall.viewings.media_failed("camera:gate", "no picture")
    await wall.viewings.silent(first)
    await wall.viewings.media_failed(second, "DTLS failed")
    assert wall.desk.named("drop") == [first, second]
    assert set(wall.desk.participants) == {"camera:gate"}


async def test_a_lost_worker_s_viewers_are_gone_and_come_again(wall: Wall) -> None:
    elsewhere = await wall.watch(camera=KnownCamera("yd", "nanning", "院子"))
    assert elsewhere in wall.desks["media-1"].participants
    viewer = await wall.watch()
    wall.workers.became_lost(HOME)
    await wall.viewings.worker_lost(HOME)
    assert wall.viewings.viewer(viewer) is None
    assert wall.viewings.viewer(elsewhere) is not None
    with pytest.raises(Refusal, match="media-0 is not ready") as refused:
        await wall.watch()
    assert refused.value.kind is RefusalKind.WORKER_LOST
    wall.workers.became_ready(HOME, 200)
    await wall.viewings.worker_ready(HOME, 200)
    viewer = await wall.watch()
    assert len(wall.desk.named("open")) == 2
    assert viewer in wall.desk.participants


@pytest.mark.parametrize("method", ["admit_stream", "admit"])
async def test_a_worker_lost_while_a_viewer_comes_leaves_no_open_view(wall: Wall, method: str) -> None:
    async def lose() -> None:
        wall.workers.became_lost(HOME)
        await wall.viewings.worker_lost(HOME)
        wall.workers.became_ready(HOME, 200)  # another one, at once

    wall.desk.meanwhile[method] = lose
    with pytest.raises(Refusal) as refused:
        await wall.watch()
    assert refused.value.kind is RefusalKind.WORKER_LOST
    assert len(wall.viewings) == 0
    if method == "admit_stream":
        assert not wall.desk.conferences


async def test_a_view_that_its_worker_forgot_is_opened_again(wall: Wall) -> None:
    await wall.watch()
    await wall.desk.close(CONFERENCE)
    with pytest.raises(Refusal, match="ask again"):
        await wall.watch()
    viewer = await wall.watch()
    assert viewer in wall.desk.participants


async def test_with_media_inside_main_every_camera_lives_there() -> None:
    desk = RecordingDesk("main", OURS)
    workers = MediaWorkers(cast(Mapping[str, ConferenceDesk], {"main": desk}))
    workers.became_ready("main", 1)
    wall = Wall()
    viewings = Viewings(workers=workers, cameras=wall.camera, clock=wall.clock, network="extranet")
    await viewings.watch(GATE, owner="liu", offer=OFFER, permitted=Page().permitted)
    assert CONFERENCE in desk.conferences
