"""Offers as terminals of many makes send them (fuzz/corpus/sdp), answered on real ports as RFC 3264 wants."""

from collections.abc import AsyncIterator

import pytest

from foundation.desks import FloorDescription, Refusal, RefusalKind, SectionKind
from fuzz.sdp import CORPUS, Answerer, fault_of
from media.srtp import PROFILES, MasterKey
from protocols.sdp import Crypto, Media, SessionDescription
from signaling.media_description import read_sdp

NAMES = sorted(path.stem for path in CORPUS.glob("*.sdp"))


def offer(name: str) -> bytes:
    return (CORPUS / f"{name}.sdp").read_bytes()


@pytest.fixture
async def answerer() -> AsyncIterator[Answerer]:
    made = Answerer()
    yield made
    made.close()


async def answered(answerer: Answerer, name: str) -> tuple[Media, ...]:
    answer = await answerer.answer(offer(name))
    assert fault_of(offer(name), answer) is None
    return SessionDescription.parse(answer).media


ANSWERS = {
    "group_room": ["audio 9 101 sendrecv", "video 111 sendrecv", "-", "-", "video 109 sendrecv"],
    "endpoint_labels": ["audio 9 101 sendrecv", "video 126 sendrecv", "-", "video 97 sendrecv", "-"],
    "connection_each": ["audio 8 sendrecv", "video 106 sendrecv"],
    "lines_by_lf": ["audio 0 sendrecv", "video 34 sendrecv"],
    "camera_lines": ["audio 8 101 sendrecv", "video 96 sendrecv"],
    "h263_alone": ["audio 0 sendrecv", "video 34 sendrecv"],
    "hold_old": ["audio 8 recvonly", "video 96 recvonly"],
    "hold_sendonly": ["audio 8 recvonly", "video 96 inactive"],
    "duplicates": ["-", "audio 8 sendrecv", "video 96 sendrecv", "-"],
    "keys_of_all_kinds": ["audio 8 sendrecv", "-"],
    "dtls": ["audio 8 101 sendrecv", "video 96 sendrecv"],
    "dtls_with_ice_apart": ["audio 8 sendrecv", "video 96 sendrecv"],
    "feedback_profile": ["audio 96 sendrecv", "video 97 sendrecv"],
    "sound_alone": ["audio 8 101 sendrecv"],
    "aac": ["audio 102 101 sendrecv"],
    "floor_by_stream": ["audio 8 99 sendrecv", "video 106 sendrecv", "-", "video 106 sendrecv"],
    "two_pictures_unnamed": ["video 96 sendrecv", "audio 8 sendrecv", "-", "-", "-"],
    "low_level_raised": ["audio 9 sendrecv", "video 109 sendrecv", "-"],
    "levels_in_both_modes": ["audio 8 101 sendrecv", "video 98 sendrecv"],
    "old_wideband": ["audio 9 101 sendrecv", "video 97 sendrecv"],
    "slides_of_low_level": ["audio 9 97 sendrecv", "video 107 sendrecv", "-", "-", "video 107 sendrecv"],
}
"""What each medium's answer has: its payload types and direction, "-" for port 0."""


def told(media: Media) -> str:
    if not media.port:
        return "-"
    direction = next(d for d in ("sendrecv", "sendonly", "recvonly", "inactive") if media.has(d))
    return " ".join((media.media, *media.formats, direction))


def test_every_offer_of_the_corpus_has_its_answer_here() -> None:
    assert sorted(ANSWERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
async def test_each_medium_is_answered_in_its_place(answerer: Answerer, name: str) -> None:
    assert [told(media) for media in await answered(answerer, name)] == ANSWERS[name]


@pytest.mark.parametrize("name", NAMES)
async def test_the_end_of_lines_changes_nothing(answerer: Answerer, name: str) -> None:
    lines = offer(name).splitlines()
    for end in (b"\n", b"\r\n", b"\r"):
        answer = await answerer.answer(end.join(lines))
        assert [told(media) for media in SessionDescription.parse(answer).media] == ANSWERS[name]


async def test_the_first_usable_crypto_line_is_taken_and_answered_under_its_tag(answerer: Answerer) -> None:
    audio, _ = await answered(answerer, "keys_of_all_kinds")
    (line,) = map(Crypto.parse, audio.values("crypto"))
    assert (line.tag, line.suite, line.parameters) == (170, "AEAD_AES_256_GCM", ())
    assert audio.protocol == "RTP/SAVP"
    MasterKey.parse_inline(PROFILES[line.suite], line.keys[0].key)


async def test_of_duplicates_srtp_serves_with_the_peers_key_identifier(answerer: Answerer) -> None:
    plain, secure, *_ = await answered(answerer, "duplicates")
    assert (plain.port, plain.protocol, secure.protocol) == (0, "RTP/AVP", "RTP/SAVP")
    (line,) = map(Crypto.parse, secure.values("crypto"))
    assert line.keys[0].mki == (1, 1)


async def test_dtls_without_ice_is_answered_on_plain_ports(answerer: Answerer) -> None:
    audio, video = await answered(answerer, "dtls")
    assert [(m.protocol, m.value("setup"), m.has("rtcp-mux")) for m in (audio, video)] == [
        ("UDP/TLS/RTP/SAVP", "passive", False),
        ("UDP/TLS/RTP/SAVPF", "passive", True),
    ]
    assert audio.port != video.port
    first, second = await answered(answerer, "dtls_with_ice_apart")
    assert (first.value("setup"), second.value("setup")) == ("active", "passive")
    assert first.value("ice-ufrag") is None


async def test_h263_without_a_map_keeps_its_sizes_whatever_parts_them(answerer: Answerer) -> None:
    for name in ("h263_alone", "lines_by_lf"):
        *_, video = await answered(answerer, name)
        assert video.values("rtpmap") == ["34 H263/90000"]
        assert video.values("fmtp") == ["34 CIF=1;QCIF=1"]
    slashed = offer("lines_by_lf").replace(b"CIF=1 QCIF=1", b"SQCIF=2/QCIF=2")
    (*_, video) = SessionDescription.parse(await answerer.answer(slashed)).media
    assert video.values("fmtp") == ["34 QCIF=1;SQCIF=1"]


async def test_g722_by_its_sampling_rate_is_answered_by_its_clock(answerer: Answerer) -> None:
    """RFC 3551 4.5.2: 8000, by an error of RFC 1890; old terminals write 16000."""
    assert b"rtpmap:9 G722/16000" in offer("old_wideband")
    audio, _ = await answered(answerer, "old_wideband")
    assert audio.values("rtpmap") == ["9 G722/8000", "101 telephone-event/8000"]


LEVELS = {
    ("low_level_raised", 1): "42800d;packetization-mode=0;max-mbps=108000;max-fs=3600",
    ("levels_in_both_modes", 1): "428016;packetization-mode=1;max-mbps=108000;max-fs=3600",
    ("slides_of_low_level", 1): "428028;packetization-mode=0",
    ("slides_of_low_level", 4): "42800d;packetization-mode=0;max-mbps=108000;max-fs=3600",
    ("old_wideband", 1): "428016;packetization-mode=1;max-mbps=108000;max-fs=3600",
    ("group_room", 1): "42801f;packetization-mode=1",
}
"""What a peer may send us (RFC 6184 8.1): no less than 1280x720 at 30, however low the level it offers."""


@pytest.mark.parametrize(("name", "index"), list(LEVELS))
async def test_an_offered_level_below_ours_is_answered_with_what_we_take_beyond_it(
    answerer: Answerer, name: str, index: int
) -> None:
    video = (await answered(answerer, name))[index]
    assert video.values("fmtp") == [f"{video.formats[0]} profile-level-id={LEVELS[name, index]}"]


FEEDBACK = {
    "low_level_raised": ["109 ccm fir", "109 ccm tmmbr"],
    "levels_in_both_modes": ["98 nack pli", "98 ccm fir", "98 ccm tmmbr"],
    "group_room": ["111 ccm fir", "111 ccm tmmbr"],
}


@pytest.mark.parametrize("name", list(FEEDBACK))
async def test_feedback_is_agreed_however_it_is_written(answerer: Answerer, name: str) -> None:
    """ "ccm fir tmmbr" in one line, "ccm tmmbr smaxpr=120"."""
    assert (await answered(answerer, name))[1].values("rtcp-fb") == FEEDBACK[name]


def test_limits_are_read_where_they_stand() -> None:
    group, labels, each = map(read_sdp, map(offer, ("group_room", "endpoint_labels", "connection_each")))
    assert (group.bandwidth_bps, group.sections[1].bandwidth_bps) == (1_920_000, 1_920_000)
    assert labels.sections[0].bandwidth_bps == 64_000
    assert each.bandwidth_bps == 2_048_000
    assert [s.bandwidth_bps for s in each.sections] == [64_000, 1_920_000]
    assert [s.address for s in each.sections] == ["192.0.2.12", "192.0.2.13"]
    assert read_sdp(offer("feedback_profile")).bandwidth_bps == 900_000


def test_what_names_media_is_read() -> None:
    labels = read_sdp(offer("endpoint_labels")).sections
    assert [(s.kind, s.content, s.label) for s in labels] == [
        (SectionKind.AUDIO, None, None),
        (SectionKind.VIDEO, "main", "11"),
        (SectionKind.FLOOR, None, None),
        (SectionKind.SLIDES, "slides", "12"),
        (SectionKind.OTHER, None, None),
    ]


def test_what_a_floor_says_is_read_whatever_its_words() -> None:
    assert [read_sdp(offer(name)).sections[index].floor for name, index in FLOORS] == list(FLOORS.values())
    by_label = read_sdp(offer("floor_by_stream")).sections[3]
    assert (by_label.kind, by_label.content, by_label.label) == (SectionKind.SLIDES, None, "2")


FLOORS = {
    ("group_room", 3): FloorDescription(("c-s",), setup="actpass", connection="new"),
    ("endpoint_labels", 2): FloorDescription(("c-s",), 1, 7, ((2, ("12",)),), "actpass", "new"),
    ("floor_by_stream", 2): FloorDescription(
        ("c-only", "s-only"), 4_294_967_295, 65_535, ((1, ("2",)),), "active", "new", 1
    ),
}


def test_rtcp_is_sent_where_it_is_asked_for() -> None:
    audio, video = read_sdp(offer("feedback_profile")).sections
    assert (audio.rtcp_port, audio.rtcp_mux, audio.ptime) == (53_020, False, 40)
    assert (video.rtcp_port, video.rtcp_mux) == (53_022, True)


async def test_nothing_in_common_and_no_usable_key_are_refused_with_words(answerer: Answerer) -> None:
    strange = offer("sound_alone").replace(b" 18 8 0 96 101", b" 18 96")
    with pytest.raises(Refusal, match=r"no codec in common.*G729") as refused:
        await answerer.answer(strange)
    assert refused.value.kind is RefusalKind.NO_COMMON_CODEC
    lines = offer("keys_of_all_kinds").splitlines(keepends=True)
    unusable = b"".join(line for line in lines if not line.startswith((b"a=crypto:170", b"a=crypto:171")))
    with pytest.raises(Refusal, match="without a key we can use"):
        await answerer.answer(unusable)
    with pytest.raises(Refusal):
        await answerer.answer(b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n")


@pytest.mark.parametrize("odd", ["m=audio \u00b2 RTP/AVP 0", "a=rtpmap:\u00b2 X/8000", "a=fmtp:\u0663 a=1"])
def test_strange_digits_are_the_peers_error(odd: str) -> None:
    data = f"v=0\no=- 1 1 IN IP4 192.0.2.1\nc=IN IP4 192.0.2.1\nm=audio 5004 RTP/AVP 0\n{odd}\n"
    with pytest.raises(Refusal) as refused:
        read_sdp(data.encode())
    assert refused.value.kind is RefusalKind.BAD_DESCRIPTION
