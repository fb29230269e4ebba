"""Who is shown to nobody sends a trickle; who is shown soon, or all of a sudden, its whole picture."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from foundation.desks import Staging
from foundation.events import PictureFlowWanted
from mcu_bridge import sender_flow
from mcu_bridge.sender_flow import TRICKLE
from tests.mcu_bridge.conftest import MEETING, Stage, full_screen
from tests.mcu_bridge.rtp_peer import BLUE, GREEN, H264, RED, YELLOW, RtpPeer, Yuv
from tests.peers.waiting import until, until_true

BY_ORDER = replace(H264, feedback=("nack", "nack pli", "ccm fir", "ccm tmmbr"))
BY_SIGNALLING = replace(H264, feedback=("nack", "nack pli"))
OWN = 300_000
"""bit/s of the peers' pictures."""
BUSY = 8.0
Rooms = dict[str, RtpPeer]


@pytest.fixture
async def rooms(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rooms]:
    """Red and green heed REMB, blue TMMBR, yellow neither. Red is shown, and sees green."""
    monkeypatch.setattr(sender_flow, "PATIENCE", 1.0)
    ports = stage.peer_ports

    def peer(colour: Yuv, hertz: float, video: object = H264) -> RtpPeer:
        assert isinstance(video, type(H264))
        return RtpPeer(colour, hertz, ports, video=video, bitrate=OWN, obedient=True)

    async with (
        peer(RED, 440.0) as red,
        peer(GREEN, 0.0) as green,
        peer(BLUE, 0.0, BY_ORDER) as blue,
        peer(YELLOW, 0.0, BY_SIGNALLING) as yellow,
    ):
        rooms = {"red": red, "green": green, "blue": blue, "yellow": yellow}
        for name, room in rooms.items():
            await stage.join(name, room)
        await stage.bridge.set_staging(
            MEETING, full_screen("red"), Staging(views={"red": full_screen("green")})
        )
        await green.sees(RED)
        await red.sees(GREEN)
        await until(lambda: held(stage), lambda names: names == {"blue", "yellow"}, "two to be held", BUSY)
        await until_true(lambda: blue.tmmbr == TRICKLE, "blue to be told", BUSY)
        yield rooms


async def held(stage: Stage) -> set[str]:
    """Who the report says is held to a trickle."""
    report = await stage.bridge.report(MEETING)
    return {leg.participant_id for leg in report.legs if leg.held}


async def incoming(stage: Stage, name: str) -> int:
    """The picture's rate, as the report has it."""
    report = await stage.bridge.report(MEETING)
    return next(
        leg.bitrate_bps
        for leg in report.legs
        if leg.participant_id == name and leg.kind == "video" and not leg.outgoing
    )


async def watched(peer: RtpPeer, colour: Yuv, *others: Yuv) -> float:
    """Seconds until it sees a colour; meanwhile it sees nothing but that and the others."""
    began = time.monotonic()
    while not peer.shows(colour):
        assert any(peer.shows(other) for other in others), peer.colour()
        assert time.monotonic() - began < BUSY
        await peer.more_pictures(1)
    return time.monotonic() - began


async def test_unseen_sites_are_asked_for_a_trickle_in_the_way_that_they_heed(
    stage: Stage, rooms: Rooms
) -> None:
    assert PictureFlowWanted(MEETING, "yellow", TRICKLE, held=True) in stage.events
    await until(
        lambda: incoming(stage, "blue"), lambda rate: 0 < rate <= TRICKLE, "a trickle from blue", BUSY
    )
    await until(lambda: incoming(stage, "red"), lambda rate: rate > TRICKLE, "red in full", BUSY)
    for shown in ("red", "green"):
        assert all(granted > OWN for granted in rooms[shown].granted), rooms[shown].granted
    await stage.bridge.set_staging(MEETING, full_screen("blue"), Staging(views={"blue": full_screen("red")}))
    await until_true(lambda: rooms["green"].remb == TRICKLE, "green to be asked for less", BUSY)
    assert rooms["red"].remb is not None
    assert rooms["red"].remb > OWN


async def test_who_is_shown_by_surprise_is_seen_at_once_and_flows(stage: Stage, rooms: Rooms) -> None:
    red, green, blue = rooms["red"], rooms["green"], rooms["blue"]
    full = blue.granted[0]
    await stage.bridge.set_staging(MEETING, full_screen("blue"), Staging(views={"blue": full_screen("red")}))
    await watched(green, BLUE, RED)
    await until_true(lambda: blue.tmmbr == full, "blue to be asked for all again", BUSY)
    await watched(green, BLUE, BLUE)
    await until(lambda: incoming(stage, "blue"), lambda rate: rate > TRICKLE, "blue's own picture", BUSY)
    green.frames.clear()
    await green.more_pictures(10)
    assert green.shows(BLUE)
    assert set(green.frames) & blue.sent_frames
    assert red.pictures
    assert blue.granted == [full, TRICKLE, full]


async def test_who_is_shown_soon_flows_before(stage: Stage, rooms: Rooms) -> None:
    red, green, blue, yellow = rooms.values()
    full, asked = blue.granted[0], blue.keyframe_requests
    seen = Staging(views={"red": full_screen("green")}, next_shown=("blue", "yellow"))
    await stage.bridge.set_staging(MEETING, full_screen("red"), seen)
    await until_true(lambda: blue.tmmbr == full, "blue to flow", BUSY, lambda: f"{blue.granted}")
    await until_true(lambda: blue.keyframe_requests > asked, "a key frame to be asked for", BUSY)
    assert await held(stage) == set()
    flows = [event for event in stage.events if isinstance(event, PictureFlowWanted)]
    assert [(event.participant_id, event.held) for event in flows] == [("yellow", True), ("yellow", False)]
    assert flows[-1].bitrate_bps > OWN
    assert green.shows(RED)
    assert red.shows(GREEN)
    await stage.bridge.set_staging(MEETING, full_screen("blue"), Staging())
    await watched(green, BLUE, RED)
    await watched(yellow, BLUE, RED)


async def test_who_alternates_stays_and_a_budget_remains_the_ceiling(stage: Stage, rooms: Rooms) -> None:
    green, blue = rooms["green"], rooms["blue"]
    for _turn in range(2):
        for name, colour, other in (("blue", BLUE, RED), ("red", RED, BLUE)):
            own = Staging(views={name: full_screen("green")})
            await stage.bridge.set_staging(MEETING, full_screen(name), own)
            await watched(green, colour, other)
    assert blue.granted.count(TRICKLE) == 1, blue.granted
    small = replace(stage.spec("blue").budget, from_site_bps=150_000)
    await stage.bridge.set_budget("blue", small)
    await until_true(lambda: blue.granted[-1] < 150_000, "the budget to be told", BUSY)
    await until(lambda: held(stage), lambda names: "blue" in names, "blue to be held again", BUSY)
    await until_true(lambda: blue.tmmbr == min(TRICKLE, blue.granted[-1]), "a trickle again", BUSY)
    assert max(blue.granted[blue.granted.index(TRICKLE) + 2 :]) < 150_000
