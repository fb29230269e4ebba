"""Which codec comes out, for the offers that terminals really make."""

from dataclasses import replace

from foundation.desks import CodecDescription, Direction, MediaDescription, MediaSection, SectionKind
from mcu_bridge.negotiation import (
    OFFERED_AUDIO,
    OFFERED_VIDEO,
    agree,
    chosen_sections,
    in_one_transport,
    packetization_mode,
    profile_level_id,
    settle,
    with_bit_rate,
)
from signaling.media_description import read_sdp, write_sdp


def h264(payload_type: int, profile: str, mode: int | None, **more: str) -> CodecDescription:
    parameters = {"profile-level-id": profile, **more}
    if mode is not None:
        parameters["packetization-mode"] = str(mode)
    return CodecDescription("H264", payload_type, 90_000, 1, parameters, ("nack", "nack pli", "transport-cc"))


def rtx(payload_type: int, apt: int) -> CodecDescription:
    return CodecDescription("RTX", payload_type, 90_000, 1, {"apt": str(apt)})


def video(*codecs: CodecDescription) -> MediaSection:
    return MediaSection(SectionKind.VIDEO, "192.0.2.1", 30_000, codecs=codecs)


VP8 = CodecDescription("VP8", 96, 90_000, 1, {}, ("nack", "nack pli"))


def test_chromium_gets_constrained_baseline_in_mode_1_with_its_retransmissions() -> None:
    section = video(
        VP8,
        rtx(97, 96),
        h264(102, "42001f", 1),
        h264(104, "42001f", 0),
        h264(106, "42e01f", 1, **{"level-asymmetry-allowed": "1"}),
        rtx(107, 106),
        h264(108, "42e01f", 0),
        h264(112, "64001f", 1),
    )
    agreed = agree(section)
    assert agreed is not None
    assert (agreed.main.payload_type, agreed.rtx) == (106, 107)
    assert agreed.answer[0].parameters == {
        "profile-level-id": "42e01f",
        "packetization-mode": "1",
        "level-asymmetry-allowed": "1",
    }
    assert agreed.answer[0].feedback == ("nack", "nack pli")


def test_without_level_asymmetry_the_answer_keeps_the_offered_level_and_says_what_we_take_beyond_it() -> None:
    agreed = agree(video(h264(96, "428014", None)))
    assert agreed is not None
    assert agreed.answer[0].parameters == {
        "profile-level-id": "428014",
        "packetization-mode": "0",
        "max-mbps": "108000",
        "max-fs": "3600",
    }
    assert packetization_mode(agreed.main) == 0
    for high_enough in ("42801f", "428020", "640028"):
        agreed = agree(video(h264(96, high_enough, None)))
        assert agreed is not None
        assert agreed.answer[0].parameters == {"profile-level-id": high_enough, "packetization-mode": "0"}


def test_a_budget_beyond_a_levels_bit_rate_is_named() -> None:
    low = h264(96, "42800d", None)  # 768 kbit/s
    assert with_bit_rate(low, 768_999) == low
    assert with_bit_rate(low, 1_600_500).parameters == {"profile-level-id": "42800d", "max-br": "1600"}
    assert with_bit_rate(h264(96, "42e01f", 1), 14_000_000) == h264(96, "42e01f", 1)
    assert with_bit_rate(VP8, 50_000_000) == VP8


def test_vp8_is_the_fallback_and_a_high_profile_is_taken_in() -> None:
    only_vp8 = agree(video(VP8))
    assert only_vp8 is not None
    assert only_vp8.main.name == "VP8"
    high = agree(video(h264(96, "640028", 1)))
    assert high is not None
    assert high.answer[0].parameters["profile-level-id"] == "640028"


def test_feedback_of_several_words_and_with_parameters_is_understood() -> None:
    def answered(*feedback: str) -> tuple[str, ...]:
        agreed = agree(video(replace(VP8, feedback=feedback)))
        assert agreed is not None
        return agreed.answer[0].feedback

    assert answered("ccm fir tmmbr") == ("ccm fir", "ccm tmmbr")
    assert answered("nack pli", "ccm tmmbr smaxpr=120", "ccm fir") == ("nack pli", "ccm tmmbr", "ccm fir")
    assert answered("ccm tstr", "ccm fir", "ccm fir tmmbr", "nack rpsi", "", "ccm") == (
        "ccm fir",
        "ccm tmmbr",
    )


def test_sound_follows_the_offers_order_and_takes_the_event_clock_that_fits() -> None:
    codecs = (
        CodecDescription("G723", 4, 8_000),
        CodecDescription("PCMA", 8, 8_000),
        CodecDescription("OPUS", 111, 48_000, 2),
        CodecDescription("TELEPHONE-EVENT", 110, 48_000),
        CodecDescription("TELEPHONE-EVENT", 101, 8_000),
    )
    agreed = agree(MediaSection(SectionKind.AUDIO, "192.0.2.1", 30_000, codecs=codecs))
    assert agreed is not None
    assert (agreed.main.name, agreed.events) == ("PCMA", 101)


def test_nothing_in_common_is_none() -> None:
    g729 = CodecDescription("G729", 18, 8_000)
    assert agree(MediaSection(SectionKind.AUDIO, "192.0.2.1", 30_000, codecs=(g729,))) is None
    assert agree(video(CodecDescription("H265", 96, 90_000))) is None


def test_the_main_picture_is_chosen_and_slides_are_left() -> None:
    slides = replace(video(h264(96, "42e01f", 1)), content="slides")
    main = video(h264(96, "42e01f", 1))
    refused = replace(main, port=0)
    assert chosen_sections(MediaDescription((slides, refused, main))) == {SectionKind.VIDEO: 2}


def test_an_answer_to_our_offer_settles_on_what_it_names() -> None:
    offered = video(*OFFERED_VIDEO)
    answered = video(OFFERED_VIDEO[1])
    settled = settle(offered, answered)
    assert settled is not None
    assert (settled.main.payload_type, packetization_mode(settled.main)) == (98, 0)
    assert settle(offered, replace(answered, port=0)) is None
    sound = MediaSection(SectionKind.AUDIO, "192.0.2.1", 30_000, codecs=OFFERED_AUDIO)
    assert settle(sound, replace(sound, codecs=(CodecDescription("G729", 18, 8_000),))) is None


def test_the_answers_first_format_is_what_we_send() -> None:
    offered = video(*OFFERED_VIDEO)
    high, single, vp8, _, h263, _ = OFFERED_VIDEO
    strange = CodecDescription("H265", 103, 90_000)
    for named, first in (
        ((h263, high), h263),
        ((vp8, high), vp8),
        ((single, high), single),
        ((strange, h263), h263),
    ):
        settled = settle(offered, video(*named))
        assert settled is not None
        assert settled.main == first
        assert set(settled.incoming) >= {codec.payload_type for codec in named if codec is not strange}


def test_what_an_answer_leaves_out_of_h264_is_what_we_offered() -> None:
    """A missing profile-level-id would be level 1, of 64 kbit/s."""

    def sent(payload_type: int, **parameters: str) -> tuple[str, int, str | None]:
        codec = CodecDescription("H264", payload_type, 90_000, 1, parameters)
        settled = settle(video(*OFFERED_VIDEO), video(codec))
        assert settled is not None
        main = settled.main
        return profile_level_id(main), packetization_mode(main), main.parameters.get("max-fs")

    assert sent(97) == ("42e01f", 1, None)
    assert sent(98) == ("42e01f", 0, None)
    assert sent(109) == ("42e01f", 0, None)
    assert sent(97, **{"profile-level-id": "42800d", "max-fs": "3600"}) == ("42800d", 1, "3600")
    assert sent(109, **{"packetization-mode": "1"}) == ("42e01f", 1, None)
    stated = {"profile-level-id": "428016", "packetization-mode": "0"}
    assert sent(97, **stated) == ("428016", 0, None)


def test_the_peer_may_send_with_our_numbers_or_its_own() -> None:
    settled = settle(video(*OFFERED_VIDEO), video(h264(109, "42e01f", 1)))
    assert settled is not None
    assert settled.main.payload_type == 109
    assert {number: codec.name for number, codec in settled.incoming.items()} == dict.fromkeys(
        (97, 98, 109), "H264"
    )


def test_a_number_that_both_use_means_what_our_offer_says() -> None:
    offered = video(*OFFERED_VIDEO)
    vp8_moved = replace(VP8, payload_type=100)
    settled = settle(offered, video(h264(99, "42e01f", 1), vp8_moved))
    assert settled is not None
    assert (settled.main.name, settled.main.payload_type) == ("H264", 99)
    assert {number: codec.name for number, codec in settled.incoming.items()} == {
        97: "H264", 98: "H264", 99: "VP8", 100: "VP8"
    }  # fmt: skip
    alone = settle(offered, video(h264(99, "42e01f", 1)))
    assert alone is not None
    assert alone.incoming[99].name == "H264", "VP8 was not taken up: nothing else comes as 99"


def test_keys_come_under_either_number() -> None:
    sound = MediaSection(SectionKind.AUDIO, "192.0.2.1", 30_000, codecs=OFFERED_AUDIO)
    events = CodecDescription("TELEPHONE-EVENT", 96, 8_000)
    settled = settle(sound, replace(sound, codecs=(CodecDescription("PCMU", 0, 8_000), events)))
    assert settled is not None
    assert (settled.main.name, settled.events) == ("PCMU", 96)
    names = {number: codec.name for number, codec in settled.incoming.items()}
    assert names == {0: "PCMU", 96: "TELEPHONE-EVENT", 101: "TELEPHONE-EVENT"}


def test_who_only_receives_is_given_the_profile_that_cameras_send() -> None:
    """As Chromium offers it to a WHEP server."""
    asymmetric = {"level-asymmetry-allowed": "1"}
    section = replace(
        video(
            VP8,
            rtx(97, 96),
            h264(102, "42001f", 1, **asymmetric),
            rtx(103, 102),
            h264(104, "42001f", 0, **asymmetric),
            h264(106, "42e01f", 1, **asymmetric),
            h264(108, "42e01f", 0, **asymmetric),
            h264(127, "4d001f", 1, **asymmetric),
            h264(39, "4d001f", 0, **asymmetric),
            h264(112, "64001f", 1, **asymmetric),
            rtx(113, 112),
            CodecDescription("AV1", 45, 90_000),
        ),
        direction=Direction.RECVONLY,
    )
    agreed = agree(section)
    assert agreed is not None
    assert (agreed.main.payload_type, agreed.rtx) == (112, 113)
    assert agreed.answer[0].parameters["profile-level-id"] == "64001f"
    predictive = h264(41, "f4001f", 1, **asymmetric)
    software = agree(replace(section, codecs=(*section.codecs[:-3], predictive)))
    assert software is not None
    assert software.main.payload_type == 41
    both_ways = agree(replace(section, codecs=(predictive,), direction=Direction.SENDRECV))
    assert both_ways is None, "nobody else takes what it would send"
    without_high = replace(section, codecs=section.codecs[:-3])
    main = agree(without_high)
    assert main is not None
    assert main.main.payload_type == 127
    baseline = agree(replace(section, codecs=section.codecs[:-5]))
    assert baseline is not None
    assert baseline.main.payload_type == 106


def test_pictures_prefer_what_most_can_be_forwarded() -> None:
    names = ("H261", "H263", "H263-1998", "H263-2000", "VP8", "H264")
    codecs = [CodecDescription(name, number, 90_000) for number, name in enumerate(names, 96)]
    taken = []
    while codecs:
        agreed = agree(video(*codecs))
        assert agreed is not None
        taken.append(agreed.main.name)
        codecs = [codec for codec in codecs if codec.name != agreed.main.name]
    assert taken == ["H264", "VP8", "H263-2000", "H263-1998", "H263", "H261"]


def test_g722_goes_by_the_clock_of_rfc_3551() -> None:
    codecs = (CodecDescription("G722", 9, 8_000), CodecDescription("PCMA", 8, 8_000))
    agreed = agree(MediaSection(SectionKind.AUDIO, "192.0.2.1", 30_000, codecs=codecs))
    assert agreed is not None
    assert agreed.answer == (codecs[0],)


def test_our_offer_fits_an_unfragmented_datagram() -> None:
    sections = (
        MediaSection(SectionKind.AUDIO, "192.0.2.100", 40_000, codecs=OFFERED_AUDIO),
        replace(video(*OFFERED_VIDEO), bandwidth_bps=2_000_000),
    )
    sdp = write_sdp(MediaDescription(sections, 3_000_000))
    # Some 500 bytes of headers come on top: above 1300 in all, UDP gives way to TCP (RFC 3261 18.1.1).
    assert len(sdp) < 1_400
    assert [codec.name for codec in read_sdp(sdp).sections[1].codecs][-3:] == ["H263-1998", "H263", "H261"]


def test_a_profile_that_is_no_number_is_the_missing_one() -> None:
    for broken in ("428p1e", "42e0", "²²²²²²"):
        agreed = agree(video(h264(96, broken, None)))
        assert agreed is not None
        assert agreed.answer[0].parameters["profile-level-id"] == "42000a"
    assert packetization_mode(h264(96, "42e01f", None, **{"packetization-mode": "²"})) == 0


def test_browsers_share_one_transport_and_terminals_have_one_a_medium() -> None:
    sections = tuple(replace(video(VP8), mid=mid) for mid in ("0", "1"))
    assert in_one_transport(MediaDescription(sections, bundle=("0", "1")), (0, 1))
    assert not in_one_transport(MediaDescription(sections, bundle=("0",)), (0, 1))
    assert not in_one_transport(MediaDescription(sections), (0, 1))
    assert in_one_transport(MediaDescription(sections), (1,))
