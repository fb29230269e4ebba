"""Who is forwarded to, who shares an encoder, who drags nobody."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from foundation.desks import Staging, View, ViewMode
from mcu_bridge.cif_formats import FixedSize
from mcu_bridge.picture_plan import (
    LADDER,
    Canvas,
    Content,
    EncoderClass,
    PassThrough,
    PictureLimits,
    PictureSource,
    contents,
    plan,
)

SPEAKER = PictureSource("H264", 1_500_000, 1280, 720, 25.0, profile=66, largest_nal=9_000)
ROOM = PictureLimits("H264", 2_700_000)
FULL = View(ViewMode.FULL_SCREEN, "speaker")


def test_a_full_screen_site_is_forwarded_and_sees_its_counterpart() -> None:
    sources = {"speaker": SPEAKER, "a": SPEAKER}
    receivers = {"speaker": ROOM, "a": ROOM, "b": ROOM}
    feeds = plan(FULL, sources, receivers, counterpart="a")
    assert feeds["a"].what == feeds["b"].what == PassThrough("speaker")
    assert feeds["speaker"].what == PassThrough("a")
    assert contents(feeds.values()) == set()


def test_a_full_screen_site_without_a_counterpart_sees_the_mosaic() -> None:
    shown = plan(FULL, {"speaker": SPEAKER}, {"speaker": ROOM})["speaker"].what
    assert isinstance(shown, EncoderClass)
    assert shown.content == Content()


def test_receivers_that_cannot_take_it_go_to_a_class_and_say_why() -> None:
    receivers = {
        "slow": replace(ROOM, bitrate_bps=700_000),
        "vp8": replace(ROOM, codec="VP8"),
        "cif": replace(ROOM, max_frame_size=396, max_macroblock_rate=11_880),
        "single-nal": replace(ROOM, max_nal=1_200),
        "good": ROOM,
    }
    feeds = plan(FULL, {"speaker": SPEAKER}, receivers)
    assert feeds["good"].what == PassThrough("speaker")
    assert {name: feed.reason for name, feed in feeds.items() if name != "good"} == {
        "slow": "source's 1500 kbit/s do not fit 700",
        "vp8": "source is H264, receiver takes VP8",
        "cif": "source's 1280x720 is above the receiver's level",
        "single-nal": "receiver takes single NAL units only",
    }
    assert contents(feeds.values()) == {Content("speaker")}
    cif = feeds["cif"].what
    assert isinstance(cif, EncoderClass)
    assert (cif.width, cif.height) == (320, 180)


def test_receivers_of_short_and_of_whole_slices_share_an_encoder() -> None:
    receivers = {"browser": ROOM, "old": replace(ROOM, max_nal=1_200), "older": replace(ROOM, max_nal=900)}
    feeds = plan(View(), {}, receivers)
    assert len({feed.what for feed in feeds.values()}) == 1
    shared = feeds["browser"].what
    assert isinstance(shared, EncoderClass)
    assert shared.max_nal == 900


def test_no_encoder_is_larger_or_faster_than_the_canvas() -> None:
    feeds = plan(View(), {}, {"room": ROOM}, ladder=Canvas(640, 360, 15).ladder)
    what = feeds["room"].what
    assert isinstance(what, EncoderClass)
    assert (what.width, what.height, what.frame_rate) == (640, 360, 15)


def test_a_high_profile_source_is_not_forwarded_to_a_baseline_decoder() -> None:
    high = replace(SPEAKER, profile=100)
    feeds = plan(FULL, {"speaker": high}, {"a": ROOM, "b": replace(ROOM, profiles=frozenset({66, 77, 100}))})
    assert isinstance(feeds["a"].what, EncoderClass)
    assert feeds["b"].what == PassThrough("speaker")


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=3),
        st.builds(
            PictureLimits,
            codec=st.sampled_from(["H264", "VP8"]),
            bitrate_bps=st.integers(0, 4_000_000),
            max_frame_size=st.sampled_from([99, 396, 1620, 3600, 8160]),
            max_macroblock_rate=st.sampled_from([1485, 11_880, 40_500, 108_000, 245_760]),
            max_nal=st.sampled_from([None, 1200]),
        ),
        max_size=30,
    ),
    st.booleans(),
)
def test_nobody_gets_more_than_it_can_take_and_encoders_are_shared(
    receivers: dict[str, PictureLimits], full_screen: bool
) -> None:
    feeds = plan(FULL if full_screen else View(), {"speaker": SPEAKER}, receivers)
    for name, feed in feeds.items():
        limits = receivers[name]
        if isinstance(feed.what, EncoderClass):
            assert feed.what.codec == limits.codec
            assert feed.what.bitrate_bps <= limits.bitrate_bps
            macroblocks = -(-feed.what.width // 16) * -(-feed.what.height // 16)
            assert macroblocks <= limits.max_frame_size
            assert macroblocks * feed.what.frame_rate <= limits.max_macroblock_rate
        else:
            assert limits.bitrate_bps >= SPEAKER.bitrate_bps
    left_out = set(receivers) - set(feeds)
    assert all(
        receivers[name].bitrate_bps < LADDER[-1].bitrate_bps
        or receivers[name].max_macroblock_rate < LADDER[-1].frame_size * LADDER[-1].frame_rate
        for name in left_out
    )
    # two codecs, with and without a NAL limit, over two contents
    assert len({feed.what for feed in feeds.values()}) <= 8 * len(LADDER) + 1


def test_the_programme_has_one_rung_whatever_is_shown_and_however_busy_the_worker() -> None:
    step = LADDER[0]
    limits = PictureLimits("H264", step.bitrate_bps, always=step)
    sources = {"speaker": SPEAKER}
    for view, content in ((View(), Content()), (FULL, Content("speaker"))):
        for ladder in (LADDER, LADDER[3:]):
            what = plan(view, sources, {"programme": limits}, ladder=ladder)["programme"].what
            assert isinstance(what, EncoderClass)
            assert what.content == content
            assert (what.width, what.height, what.bitrate_bps) == (step.width, step.height, step.bitrate_bps)


def test_a_full_screen_that_is_expected_shows_its_card_and_any_other_gives_way() -> None:
    receivers = {"a": ROOM, "programme": PictureLimits("H264", 1, always=LADDER[0])}
    for expected, content in (({"speaker"}, Content("speaker")), (set[str](), Content())):
        feeds = plan(FULL, {}, receivers, expected=expected)
        assert contents(feeds.values()) == {content}


def test_the_programme_shares_its_encoder_with_who_has_the_same_class() -> None:
    receivers = {"a": ROOM, "programme": PictureLimits("H264", 1, always=LADDER[0])}
    feeds = plan(View(), {}, receivers)
    assert feeds["a"].what == feeds["programme"].what


H263_ROOM = PictureLimits("H263", 2_700_000, sizes=(FixedSize(352, 288, 29.97), FixedSize(176, 144, 29.97)))


def test_a_receiver_of_h263_has_a_class_of_its_own_and_drags_nobody() -> None:
    receivers = {
        "good": ROOM,
        "h263": H263_ROOM,
        "h263-1998": H263_ROOM,
        "slow": replace(H263_ROOM, bitrate_bps=150_000),
        "half": replace(H263_ROOM, sizes=(FixedSize(352, 288, 14.985),)),
        "h261": replace(H263_ROOM, codec="H261"),
        "narrow": replace(H263_ROOM, bitrate_bps=20_000),
    }
    feeds = plan(FULL, {"speaker": SPEAKER}, receivers)
    assert feeds["good"].what == PassThrough("speaker")
    assert "narrow" not in feeds
    shown = {name: str(feed.what) for name, feed in feeds.items() if name != "good"}
    assert shown == {
        "h263": "full-screen:speaker H263 352x288@25 768k",
        "h263-1998": "full-screen:speaker H263 352x288@25 768k",
        "slow": "full-screen:speaker H263 176x144@15 128k",
        "half": "full-screen:speaker H263 352x288@14 768k",
        "h261": "full-screen:speaker H261 352x288@25 768k",
    }


def test_h263_is_forwarded_in_sizes_that_the_receiver_has() -> None:
    source = PictureSource("H263", 300_000, 352, 288)
    small = replace(H263_ROOM, sizes=(FixedSize(176, 144, 29.97),))
    feeds = plan(
        FULL, {"speaker": source}, {"cif": H263_ROOM, "qcif": small, "h261": replace(ROOM, codec="H261")}
    )
    assert feeds["cif"].what == PassThrough("speaker")
    assert feeds["qcif"].reason == "receiver takes no pictures of 352x288"
    assert feeds["h261"].reason == "source is H263, receiver takes H261"


SLIDES_OF_A = "slides:a"
SHARED = Staging(slides="a")
SHARING = {"a": SPEAKER, "b": SPEAKER, SLIDES_OF_A: SPEAKER}


def test_slides_go_to_second_pictures_and_else_into_the_main_one() -> None:
    receivers = {
        "a": ROOM,
        SLIDES_OF_A: ROOM,
        "b": ROOM,
        "slides:b": ROOM,
        "c": ROOM,
        "slides:c": replace(ROOM, codec="VP8"),
        "none": ROOM,
        "full": ROOM,
        "slides:full": replace(ROOM, bitrate_bps=0),
        "programme": PictureLimits("H264", 1, always=LADDER[0]),
    }
    feeds = plan(FULL, {**SHARING, "speaker": SPEAKER}, receivers, staging=SHARED)
    assert SLIDES_OF_A not in feeds
    assert feeds["slides:b"].what == PassThrough(SLIDES_OF_A)
    assert feeds["a"].what == feeds["b"].what == feeds["c"].what == PassThrough("speaker")
    shown = {name: (str(feed.what).rsplit(" ", 3)[0], feed.reason) for name, feed in feeds.items()}
    assert shown["slides:c"] == (SLIDES_OF_A, "slides: source is H264, receiver takes VP8")
    for name in ("none", "full"):
        assert shown[name] == ("slides:a+speaker", "slides in the main picture")
    assert shown["programme"] == ("slides:a+speaker", "programme, slides")
    assert "slides:full" not in feeds


def test_slides_that_are_not_there_or_of_who_waits_outside_change_nothing() -> None:
    receivers = {"b": ROOM, "slides:b": ROOM, "c": ROOM}
    for sources, staging in (
        ({"a": SPEAKER}, SHARED),
        (SHARING, Staging()),
        (SHARING, Staging(slides="b")),
        (SHARING, Staging(slides="a", prompts={"a": "wait"})),
    ):
        feeds = plan(View(), sources, receivers, staging=staging)
        assert feeds.keys() == {"b", "c"}
        assert contents(feeds.values()) == {Content()}


def test_who_waits_outside_is_shown_no_slides() -> None:
    receivers = {"b": ROOM, "slides:b": ROOM}
    feeds = plan(View(), SHARING, receivers, staging=Staging(slides="a", prompts={"b": "wait"}))
    assert contents(feeds.values()) == {Content(prompt="wait")}
    assert feeds.keys() == {"b"}


def test_the_layout_puts_slides_into_the_main_picture_too() -> None:
    receivers = {"b": ROOM, "slides:b": ROOM, "c": ROOM, "slides:c": ROOM}
    chosen = Staging(slides="a", views={"b": View(layout="slides+speaker")})
    feeds = plan(View(), SHARING, receivers, staging=chosen)
    assert {str(content) for content in contents([feeds["b"]])} == {"slides:a+speaker"}
    assert contents([feeds["c"]]) == {Content()}
    assert feeds["slides:b"].what == feeds["slides:c"].what == PassThrough(SLIDES_OF_A)


def test_nobodys_slides_are_a_full_screen_or_a_tile() -> None:
    feeds = plan(View(), SHARING, {"c": ROOM})
    assert contents(feeds.values()) == {Content()}
