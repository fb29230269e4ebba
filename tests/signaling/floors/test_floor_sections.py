"""BFCP and slides in descriptions: what terminals and pages offer, what we answer and offer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foundation.desks import Dialled, MediaDescription, SectionKind
from protocols.bfcp.attributes import RequestState
from protocols.bfcp.message import Primitive
from protocols.sdp import SessionDescription
from signaling.control.orders import Command
from signaling.media_description import read_sdp, write_sdp
from signaling.meeting import Caller
from tests.signaling.floors.bfcp_peer import state_of
from tests.signaling.floors.floor_stage import (
    BROWSER,
    ENDPOINT_STYLE,
    FLOOR,
    GROUP_STYLE,
    STREAM_STYLE,
    MirrorDesk,
    Stage,
    floor_lines,
)
from tests.signaling.recording_desk import RecordingLine


async def test_a_group_terminal_is_told_where_its_floor_is(stage: Stage) -> None:
    member, answer = await stage.join("group")
    seat, address = member.floor, stage.listener.address
    assert seat is not None
    assert floor_lines(answer) == [
        f"m=application {address.udp} UDP/BFCP *",
        "a=floorctrl:s-only",
        f"a=confid:{seat.conference}",
        f"a=userid:{seat.user}",
        "a=floorid:1 mstrm:3",
        "a=bfcpver:2",
    ]
    audio, main, _bfcp, slides = SessionDescription.parse(answer.encode()).media
    assert (main.media, main.value("content"), audio.value("content")) == ("video", "main", None)
    assert (slides.media, slides.value("content"), slides.value("label")) == ("video", "slides", "3")
    worker_knows = member.media.ours.sections[2] if member.media else None
    assert worker_knows is not None
    assert worker_knows.port == 0


async def test_an_endpoint_that_names_its_slides_by_label_keeps_its_label_and_gets_our_ids(
    stage: Stage,
) -> None:
    member, answer = await stage.join("endpoint", ENDPOINT_STYLE)
    assert member.has_slides
    assert "a=floorid:1 mstrm:12" in floor_lines(answer)
    assert "a=confid:1" not in floor_lines(answer)
    *_, slides = SessionDescription.parse(answer.encode()).media
    assert (slides.value("label"), slides.value("content")) == ("12", "slides")


async def test_a_stream_is_one_that_the_peer_opens(stage: Stage) -> None:
    member, answer = await stage.join("stream", STREAM_STYLE)
    assert member.has_slides  # two unnamed pictures beside BFCP: the second is the slides
    lines = floor_lines(answer)
    assert lines[:4] == [
        f"m=application {stage.listener.address.tcp} TCP/BFCP *",
        "a=setup:passive",
        "a=connection:new",
        "a=floorctrl:s-only",
    ]
    assert lines[-2:] == ["a=floorid:1 mstrm:12", "a=bfcpver:1"]


@pytest.mark.parametrize(
    ("sdp", "before", "after", "protocol"),
    [
        (GROUP_STYLE, "floorctrl:c-s", "floorctrl:s-only", "UDP/BFCP"),
        (GROUP_STYLE, "UDP/BFCP", "TCP/TLS/BFCP", "TCP/TLS/BFCP"),
        (GROUP_STYLE, "UDP/BFCP", "UDP/TLS/BFCP", "UDP/TLS/BFCP"),
        (GROUP_STYLE, "application 3238 UDP/BFCP", "application 0 UDP/BFCP", "UDP/BFCP"),
        (STREAM_STYLE, "setup:active", "setup:passive", "TCP/BFCP"),  # it waits for us to connect
    ],
)
async def test_what_we_cannot_serve_is_refused_with_port_0(
    stage: Stage, sdp: str, before: str, after: str, protocol: str
) -> None:
    member, answer = await stage.join("odd", sdp.replace(before, after))
    assert floor_lines(answer)[0] == f"m=application 0 {protocol} *"
    assert member.floor is None
    assert len(SessionDescription.parse(answer.encode()).media) == 4


async def test_bfcp_may_come_before_the_slides(stage: Stage) -> None:
    early = GROUP_STYLE.partition("m=video 49158")[0]
    member, answer = await stage.join("early", early)
    assert floor_lines(answer)[-2:] == ["a=floorid:1", "a=bfcpver:2"]
    peer = await stage.peer(member)
    denied = await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    assert state_of(denied)[1] == RequestState.DENIED
    assert b"no stream for slides" in denied.print()
    later = await stage.house.meetings.renegotiate(member.participant_id, read_sdp(GROUP_STYLE.encode()))
    assert "a=floorid:1 mstrm:3" in floor_lines(write_sdp(later).decode())
    assert state_of(await peer.ask(Primitive.FLOOR_REQUEST, FLOOR))[1] == RequestState.GRANTED


async def test_slides_that_the_worker_refuses_have_no_floor(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored = MirrorDesk._mirrored

    def without(desk: MirrorDesk, offer: MediaDescription) -> MediaDescription:
        ours = mirrored(desk, offer)
        kept = (replace(s, port=0) if s.kind is SectionKind.SLIDES else s for s in ours.sections)
        return replace(ours, sections=tuple(kept))

    monkeypatch.setattr(MirrorDesk, "_mirrored", without)
    member, answer = await stage.join("thin")
    assert floor_lines(answer)[0] == "m=application 0 UDP/BFCP *"
    assert member.floor is None


@pytest.mark.parametrize(("offered", "answered"), [("", 2), ("1", 1), ("2", 2), ("2 1", 2), ("3", 2)])
async def test_datagrams_have_the_version_that_the_offer_names(
    stage: Stage, offered: str, answered: int
) -> None:
    line = f"a=bfcpver:{offered}\n" if offered else ""
    member, answer = await stage.join(
        "room", GROUP_STYLE.replace("a=floorctrl:c-s\n", f"a=floorctrl:c-s\n{line}")
    )
    assert floor_lines(answer)[-1] == f"a=bfcpver:{answered}"
    assert member.floor is not None
    assert member.floor.version == answered
    ours = stage.house.meetings.offered_again(member.participant_id)
    assert ours is not None
    assert floor_lines(write_sdp(ours).decode())[-1] == "a=bfcpver:2"


async def test_a_role_may_be_missing_and_a_later_offer_keeps_the_seat(stage: Stage) -> None:
    sdp = GROUP_STYLE.replace("a=floorctrl:c-s\n", "")
    member, answer = await stage.join("plain", sdp)
    again = await stage.house.meetings.renegotiate(member.participant_id, read_sdp(sdp.encode()))
    assert floor_lines(write_sdp(again).decode()) == floor_lines(answer)


async def test_a_later_offer_does_not_forget_where_its_bfcp_was_heard(stage: Stage) -> None:
    member, peer = await stage.terminal("behind a NAT")
    await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    await stage.house.meetings.renegotiate(member.participant_id, read_sdp(GROUP_STYLE.encode()))
    await stage.house.give(Command.TAKE_BACK_SLIDES)
    assert state_of(await peer.announced()) == (1, RequestState.REVOKED)


async def test_a_browsers_second_picture_is_its_slides_and_has_no_floor(stage: Stage) -> None:
    member, answer = await stage.join("page", BROWSER)
    assert [s.kind for s in read_sdp(BROWSER.encode()).sections] == [
        SectionKind.AUDIO,
        SectionKind.VIDEO,
        SectionKind.SLIDES,
    ]
    assert member.has_slides
    assert "BFCP" not in answer
    assert "a=content" not in answer
    assert [m.media for m in SessionDescription.parse(answer.encode()).media] == ["audio", "video", "video"]


async def test_our_offer_has_a_floor_and_the_worker_never_hears_of_it(stage: Stage) -> None:
    meetings = stage.house.meetings
    caller = Caller("called", "guangxi", "lan", "sip:called@127.0.0.1")
    member, offer = await meetings.dial(stage.house.meeting.conference_id, caller, Dialled.PLAIN)
    printed = write_sdp(offer).decode()
    assert [m.media for m in SessionDescription.parse(printed.encode()).media] == [
        "audio",
        "video",
        "video",
        "application",
    ]
    assert "a=floorid:1 mstrm:3" in floor_lines(printed)
    answer = printed.replace("s-only", "c-only").replace(
        f"application {stage.listener.address.udp}", "application 3238"
    )
    line = RecordingLine()
    line.peer_host = "127.0.0.1"
    await meetings.answered(member.participant_id, read_sdp(answer.encode()), line)
    desk = stage.desk
    assert isinstance(desk, MirrorDesk)
    assert desk.answered_with is not None
    assert len(desk.answered_with.sections) == 3
    peer = await stage.peer(member)
    granted = await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    assert state_of(granted)[1] == RequestState.GRANTED
    again = meetings.offered_again(member.participant_id)
    assert again is not None
    assert floor_lines(write_sdp(again).decode()) == floor_lines(printed)
