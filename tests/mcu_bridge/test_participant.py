"""One participant's descriptions: what is answered, what keeps running, what is freed."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from foundation.desks import (
    Budget,
    CodecDescription,
    Direction,
    DtlsDescription,
    MediaDescription,
    MediaSection,
    ParticipantSpec,
    Refusal,
    RefusalKind,
    SectionKind,
)
from mcu_bridge.access import MediaAccess
from mcu_bridge.inlets import GONE_OVER_AFTER
from mcu_bridge.participant import LegListeners, Participant
from mcu_bridge.rates import INCOMING_SHARE, SLIDES_SHARE, picture_bps, picture_wire_bps, sound_wire_bps
from media.pacer import PacingClock
from media.sound_codecs import SoundCodec
from media.transport import TransportEvent
from protocols.payloads.telephone_event import TelephoneEvent
from protocols.rtp.packet import RtpPacket
from tests.mcu_bridge.rtp_peer import H263, H264, OPUS, PCMA, VP8
from tests.peers.waiting import until_true

BUDGET = Budget(1_200_000, 900_000)


def offer(
    *,
    audio: CodecDescription = PCMA,
    video: CodecDescription | None = H264,
    direction: Direction = Direction.SENDRECV,
    bandwidth: int | None = None,
) -> MediaDescription:
    sections = [MediaSection(SectionKind.AUDIO, "192.0.2.1", 5004, codecs=(audio,), direction=direction)]
    if video is not None:
        sections.append(
            MediaSection(SectionKind.VIDEO, "192.0.2.1", 5006, codecs=(video,), direction=direction)
        )
    return MediaDescription(tuple(sections), bandwidth)


@dataclass
class Stage:
    participant: Participant
    heard: list[tuple[str, bytes, int]] = field(default_factory=list)
    events: list[TransportEvent] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


@pytest.fixture
async def stage(access: MediaAccess) -> AsyncIterator[Stage]:
    clock = PacingClock()
    stage: Stage
    listeners = LegListeners(
        lambda *what: stage.heard.append(what),
        lambda: None,
        lambda participant_id, event: stage.events.append(event),
        lambda participant_id: stage.changed.append(participant_id),
    )
    spec = ParticipantSpec("a", "meeting", "A", "lan", BUDGET)
    stage = Stage(Participant(spec, access, clock, listeners, asyncio.get_running_loop()))
    yield stage
    await stage.participant.aclose()
    await stage.participant.aclose()
    assert stage.participant.transports == []
    clock.close()


async def test_sections_are_answered_in_order_and_the_rest_refused(stage: Stage) -> None:
    slides = MediaSection(SectionKind.VIDEO, "192.0.2.1", 5008, codecs=(H264,), content="slides", mid="3")
    other = MediaSection(SectionKind.OTHER, "192.0.2.1", 5010, "TCP/BFCP", media="application *")
    first = offer()
    answer = stage.participant.admit(replace(first, sections=(slides, other, *first.sections)), None)
    assert [section.kind for section in answer.sections] == [
        SectionKind.VIDEO,
        SectionKind.OTHER,
        SectionKind.AUDIO,
        SectionKind.VIDEO,
    ]
    assert [bool(section.port) for section in answer.sections] == [False, False, True, True]
    assert (answer.sections[0].mid, answer.sections[1].media) == ("3", "application *")
    assert answer.bandwidth_bps == BUDGET.from_site_bps
    sound = sound_wire_bps(SoundCodec.PCMA, 28)
    room = picture_wire_bps(BUDGET.from_site_bps, sound)
    assert answer.sections[3].bandwidth_bps == int(room * INCOMING_SHARE)


async def test_a_low_level_is_answered_with_the_bit_rate_that_the_budget_leaves(stage: Stage) -> None:
    low = replace(H264, parameters={"profile-level-id": "42800c", "packetization-mode": "1"})  # 384 kbit/s
    picture = stage.participant.admit(offer(video=low), None).sections[1]
    assert picture.bandwidth_bps is not None
    assert picture.codecs[0].parameters["max-br"] == str(picture.bandwidth_bps // 1000)
    assert stage.participant.renegotiate(offer()).sections[1].codecs[0].parameters.get("max-br") is None


async def test_a_refresh_keeps_legs_sockets_and_ssrcs(stage: Stage) -> None:
    participant = stage.participant
    first = participant.admit(offer(), None)
    before = (participant.sound, participant.picture, participant.transports)
    assert participant.renegotiate(offer()) == first
    assert (participant.sound, participant.picture, participant.transports) == before


async def test_another_codec_is_another_leg_on_the_same_port(stage: Stage) -> None:
    participant = stage.participant
    first = participant.admit(offer(), None)
    sound, picture = participant.sound, participant.picture
    answer = participant.renegotiate(offer(audio=OPUS, video=VP8))
    assert [s.port for s in answer.sections] == [s.port for s in first.sections]
    assert participant.sound is not sound
    assert participant.picture is not picture
    assert picture is not None
    assert picture.stream is not None
    assert picture.stream.closed
    assert participant.sound is not None
    assert sound is not None
    assert participant.sound.terms.ssrc != sound.terms.ssrc


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (Direction.SENDRECV, Direction.SENDRECV),
        (Direction.SENDONLY, Direction.RECVONLY),
        (Direction.RECVONLY, Direction.SENDONLY),
        (Direction.INACTIVE, Direction.INACTIVE),
    ],
)
async def test_directions(stage: Stage, theirs: Direction, ours: Direction) -> None:
    participant = stage.participant
    participant.admit(offer(), None)
    answer = participant.renegotiate(offer(direction=theirs))
    assert {section.direction for section in answer.sections} == {ours}
    assert participant.expects_media is (theirs is not Direction.INACTIVE)
    assert participant.picture is not None
    assert (participant.picture.limits is not None) is ours.sends
    assert (participant.picture.stream is not None) is ours.receives


async def test_off_hold_the_peer_has_its_time_anew(stage: Stage) -> None:
    participant = stage.participant
    participant.admit(offer(), None)
    participant.renegotiate(offer(direction=Direction.INACTIVE))
    participant._expected_since -= 3600
    now = asyncio.get_running_loop().time()
    assert participant.last_heard_ago(now) > 3000
    participant.renegotiate(offer())
    assert participant.last_heard_ago(now) < 1


async def test_a_medium_that_is_given_up_frees_its_ports_and_comes_back(stage: Stage) -> None:
    participant = stage.participant
    participant.admit(offer(), None)
    answer = participant.renegotiate(offer(video=None))
    assert len(answer.sections) == 1
    assert participant.picture is None
    assert len(participant.transports) == 1
    assert participant.wire_report(0.0).sent_bytes == 0
    again = participant.renegotiate(offer())
    assert again.sections[1].port
    assert participant.picture is not None


async def test_what_cannot_be_agreed_changes_nothing(stage: Stage) -> None:
    participant = stage.participant
    participant.admit(offer(), None)
    legs = participant.legs
    for wrong in (
        offer(audio=replace(PCMA, name="SIREN"), video=None),
        MediaDescription(tuple(replace(s, port=0) for s in offer().sections)),
        MediaDescription(tuple(replace(s, protocol="RTP/SAVP") for s in offer().sections)),
        MediaDescription(()),
    ):
        with pytest.raises(Refusal) as refused:
            participant.renegotiate(wrong)
        assert refused.value.kind is RefusalKind.NO_COMMON_CODEC
        assert refused.value.detail.startswith("no codec in common; the peer offers ")
    assert participant.legs == legs


async def test_budgets_and_the_peers_own_limits_bound_the_picture(stage: Stage) -> None:
    participant = stage.participant
    participant.admit(offer(), None)
    sound = sound_wire_bps(SoundCodec.PCMA, 28)

    def allowed() -> int:
        assert participant.picture is not None
        assert participant.picture.limits is not None
        return participant.picture.limits.bitrate_bps

    assert allowed() == picture_bps(BUDGET.to_site_bps, sound, 28)
    participant.set_budget(Budget(600_000, 600_000))
    assert allowed() == picture_bps(600_000, sound, 28)
    participant.renegotiate(offer(bandwidth=400_000))
    assert allowed() == picture_bps(400_000, sound, 28)
    limited = offer()
    audio, video = limited.sections
    participant.renegotiate(MediaDescription((audio, replace(video, bandwidth_bps=256_000))))
    assert allowed() == picture_bps(256_000, 0, 28)
    participant.renegotiate(offer())
    assert allowed() == picture_bps(600_000, sound, 28)


async def test_our_offer_and_its_answers(stage: Stage) -> None:
    participant = stage.participant
    with pytest.raises(Refusal) as early:
        participant.answered(offer())
    assert early.value.kind is RefusalKind.BAD_DESCRIPTION
    ours = participant.offer()
    assert [[c.name for c in s.codecs] for s in ours.sections] == [
        ["OPUS", "G722", "PCMA", "PCMU", "TELEPHONE-EVENT"],
        ["H264", "H264", "VP8", "H263-1998", "H263", "H261"],
        ["H264", "H264", "H263"],
    ]
    assert [(s.content, s.label) for s in ours.sections[1:]] == [("main", None), ("slides", "12")]
    assert not participant.expects_media
    audio, video = offer().sections
    agreed = participant.answered(MediaDescription((audio, replace(video, port=0))))
    assert [bool(section.port) for section in agreed.sections] == [True, False, False]
    assert participant.picture is None
    assert len(participant.transports) == 1
    assert participant.sound is not None
    assert participant.sound.codec.name == "PCMA"


def rtp(payload_type: int, number: int, payload: bytes, ssrc: int = 7) -> bytes:
    return bytes(RtpPacket(payload_type, number, 160 * number, ssrc, payload))


async def test_either_number_of_a_codec_is_taken_and_the_answers_is_sent(stage: Stage) -> None:
    """RFC 3264 5.1: a peer sends with the numbers of our offer, whatever its answer calls the codecs."""
    loop, participant = asyncio.get_running_loop(), stage.participant
    ports = [section.port for section in participant.offer().sections]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        keys = CodecDescription("TELEPHONE-EVENT", 97, 8_000)
        opus = replace(OPUS, payload_type=111)
        answer = MediaSection(SectionKind.AUDIO, *peer.getsockname(), codecs=(opus, keys))
        participant.answered(MediaDescription((answer,)))
        key = bytes(TelephoneEvent(5, True, 10, 800))
        for packet in (
            rtp(96, 1, b"\xf8ours"),
            rtp(111, 2, b"\xf8theirs"),
            rtp(8, 3, b"not agreed"),
            rtp(101, 3, key),
            rtp(97, 4, key),
            rtp(96, 5, b"\xf8ours"),
        ):
            await loop.sock_sendto(peer, packet, ("127.0.0.1", ports[0]))
        await until_true(lambda: len(stage.heard) == 3, "both numbers", 10)
        assert [payload for _, payload, _ in stage.heard] == [b"\xf8ours", b"\xf8theirs", b"\xf8ours"]
        assert participant.sound is not None
        participant.poll(loop.time(), time.time())
        assert participant.sound.take_digits() == "55"
        participant.sound.send_sound(b"\xf8mixed", 0, loop.time())
        while True:
            sent = await asyncio.wait_for(loop.sock_recv(peer, 2000), 5)
            if RtpPacket.parse(sent).payload == b"\xf8mixed":
                break
        assert RtpPacket.parse(sent).payload_type == 111


async def test_a_picture_under_our_number_or_the_answers_is_one_stream(stage: Stage) -> None:
    participant = stage.participant
    participant.offer()
    audio, video = offer(video=replace(H264, payload_type=109)).sections
    participant.answered(MediaDescription((audio, video)))
    picture = participant.picture
    assert picture is not None
    assert picture.payload_types == {97, 98, 109}
    idr = b"\x65" + bytes(20)
    for number, payload_type in enumerate((97, 109, 98), 1):
        picture.take_rtp(rtp(payload_type, number, idr), float(number))
    assert picture.reports(5.0)[0].packets == 3
    assert picture.last_frame is not None


async def test_a_peer_may_send_another_codec_of_its_answer_than_the_first(stage: Stage) -> None:
    """RFC 3264 7: any that was agreed. What it is sent goes on in the first, as one stream."""
    loop, participant = asyncio.get_running_loop(), stage.participant
    ports = [section.port for section in participant.offer().sections]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        pcmu = CodecDescription("PCMU", 0, 8_000)
        audio = MediaSection(SectionKind.AUDIO, *peer.getsockname(), codecs=(PCMA, pcmu))
        video = MediaSection(SectionKind.VIDEO, *peer.getsockname(), codecs=(H263, VP8, H264))
        participant.answered(MediaDescription((audio, video)))
        sound, picture = participant.sound, participant.picture
        assert sound is not None
        assert picture is not None
        assert picture.codec.name == "H263"
        late = GONE_OVER_AFTER - 1
        sent = [rtp(0, n, b"late") for n in range(late)] + [rtp(8, 4 + n, b"first") for n in range(2)]
        for packet in [*sent, *(rtp(0, 10 + n, b"second") for n in range(5))]:
            peer.sendto(packet, ("127.0.0.1", ports[0]))
        await until_true(lambda: len(stage.heard) == 5, "the second codec", 10)
        assert [payload for _, payload, _ in stage.heard] == [b"first"] * 2 + [b"second"] * 3
        changed = participant.sound
        assert changed is not None
        assert (changed.heard_as, changed.sound_codec) == (SoundCodec.PCMU, SoundCodec.PCMA)
        assert changed.sender is sound.sender
        assert [report.codec for report in changed.reports(loop.time())] == ["PCMU", "PCMA"]

        for number in range(GONE_OVER_AFTER + 2):
            peer.sendto(rtp(97, number, b"\x65" + bytes(20)), ("127.0.0.1", ports[1]))
        await until_true(lambda: participant.picture is not picture, "another leg", 10)
        assert stage.changed == ["a", "a"]
        assert picture.stream is not None
        assert picture.stream.closed
        now = participant.picture
        assert now is not None
        assert now.stream is not None
        assert (now.stream.format.codec, now.limits is not None and now.limits.codec) == ("H264", "H263")
        assert (now.sender is picture.sender, now.heeds_rtcp) == (True, True)


async def test_keys_of_a_dead_browser_transport_are_not_taken_up(stage: Stage) -> None:
    section = replace(offer().sections[0], dtls=DtlsDescription("sha-256", "AA", "passive"))
    with pytest.raises(Refusal) as refused:
        stage.participant.admit(offer(), MediaDescription((section,)))
    assert refused.value.kind is RefusalKind.NOT_RESUMABLE


def with_slides(
    first: MediaDescription, codec: CodecDescription = H264, bandwidth: int | None = None
) -> MediaDescription:
    slides = MediaSection(
        SectionKind.SLIDES,
        "192.0.2.1",
        5008,
        codecs=(codec,),
        content="slides",
        label="12",
        mid="3",
        bandwidth_bps=bandwidth,
    )
    return replace(first, sections=(*first.sections, slides))


async def test_a_second_picture_has_ports_of_its_own_and_mirrors_its_names(stage: Stage) -> None:
    participant = stage.participant
    answer = participant.admit(with_slides(offer()), None)
    slides = answer.sections[2]
    assert (slides.kind, slides.content, slides.label, slides.mid) == (
        SectionKind.SLIDES,
        "slides",
        "12",
        "3",
    )
    assert len({section.port for section in answer.sections}) == 3
    assert participant.slides is not None
    assert participant.picture is not None
    assert participant.slides.terms.ssrc != participant.picture.terms.ssrc
    before = participant.legs
    assert participant.renegotiate(with_slides(offer())) == answer
    assert participant.legs == before
    refused = participant.renegotiate(with_slides(offer(), replace(H264, name="H265")))
    assert [bool(section.port) for section in refused.sections] == [True, True, False]
    assert (refused.sections[2].content, refused.sections[2].label) == ("slides", "12"), "still what it was"
    assert participant.slides is None
    assert len(participant.transports) == 2
    floor = MediaSection(SectionKind.FLOOR, "192.0.2.1", 5070, "TCP/BFCP", media="application *")
    first = with_slides(offer())
    floored = participant.renegotiate(replace(first, sections=(*first.sections, floor)))
    assert [bool(section.port) for section in floored.sections] == [True, True, True, False]


async def test_slides_and_main_picture_hold_to_budget_and_limits_together(stage: Stage) -> None:
    participant = stage.participant
    participant.admit(with_slides(offer(bandwidth=1_000_000), bandwidth=300_000), None)
    room = picture_bps(1_000_000, sound_wire_bps(SoundCodec.PCMA, 28), 28)
    most = picture_bps(300_000, 0, 28)

    def allowed() -> tuple[int, ...]:
        limits = [leg.limits for leg in (participant.picture, participant.slides) if leg is not None]
        return tuple(limit.bitrate_bps for limit in limits if limit is not None)

    assert allowed() == (room, 0)
    participant.give_slides(to_site=True, from_site=False)
    assert allowed() == (room - most, most)
    participant.renegotiate(with_slides(offer()))
    whole = picture_bps(BUDGET.to_site_bps, sound_wire_bps(SoundCodec.PCMA, 28), 28)
    assert allowed() == (whole - int(whole * SLIDES_SHARE), int(whole * SLIDES_SHARE))
    participant.give_slides(to_site=False, from_site=False)
    assert allowed() == (whole, 0)


async def test_what_we_take_of_slides_is_said_and_less_of_the_camera_while_they_come(stage: Stage) -> None:
    participant = stage.participant
    room = picture_wire_bps(BUDGET.from_site_bps, sound_wire_bps(SoundCodec.PCMA, 28)) * INCOMING_SHARE
    answer = participant.admit(with_slides(offer()), None)
    assert answer.bandwidth_bps == BUDGET.from_site_bps
    assert [s.bandwidth_bps for s in answer.sections[1:]] == [int(room), int(int(room) * SLIDES_SHARE)]
    participant.give_slides(to_site=False, from_site=True)
    picture, slides = participant.renegotiate(with_slides(offer())).sections[1:]
    assert picture.bandwidth_bps is not None
    assert slides.bandwidth_bps is not None
    assert slides.bandwidth_bps > picture.bandwidth_bps
    assert picture.bandwidth_bps + slides.bandwidth_bps <= room
