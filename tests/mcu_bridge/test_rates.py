"""Budgets to bit rates, and network estimates that breathe."""

from hypothesis import given
from hypothesis import strategies as st

from mcu_bridge.rates import (
    FLOOR,
    NetworkLimit,
    PictureShares,
    picture_bps,
    picture_shares,
    picture_wire_bps,
    sound_wire_bps,
)
from media.rtp_sender import BitrateLimit, LimitSource
from media.sound_codecs import SoundCodec

SENDING = 1_000_000


def told(limit: NetworkLimit, estimates: list[int], start: float) -> list[int | None]:
    """One estimate a second while SENDING; what is kept to after each."""
    kept = []
    for number, bps in enumerate(estimates):
        limit.report(BitrateLimit(bps, LimitSource.REMB), SENDING, start + number)
        kept.append(limit.current(start + number))
    return kept


def test_sound_is_counted_with_all_headers() -> None:
    assert sound_wire_bps(SoundCodec.PCMA, 28) == (160 + 12 + 28) * 8 * 50
    assert sound_wire_bps(SoundCodec.OPUS, 28) == (80 + 12 + 28) * 8 * 50
    assert sound_wire_bps(None, 28) == 0


@given(st.integers(0, 10_000_000), st.integers(0, 200_000), st.integers(28, 80))
def test_picture_sound_and_control_fit_the_budget(budget: int, sound: int, overhead: int) -> None:
    rate = picture_bps(budget, sound, overhead)
    assert rate >= 0
    if rate:
        on_the_wire = rate * (1200 + 12 + overhead) / 1200
        assert on_the_wire + sound <= budget * 0.96 + 1
        assert on_the_wire <= picture_wire_bps(budget, sound) + 1


def test_an_estimate_above_what_is_sent_says_nothing() -> None:
    """A receiver estimates at most half as much again as what comes: while little is sent, it is low."""
    limit = NetworkLimit()
    for number in range(20):
        limit.report(BitrateLimit(90_000, LimitSource.REMB), 60_000, float(number))
    assert limit.current(20.0) is None


def test_an_estimate_that_stays_below_what_is_sent_counts_after_two_seconds() -> None:
    limit = NetworkLimit()
    assert told(limit, [500_000, 500_000, 500_000], 0.0) == [None, None, 500_000]


def test_a_stalled_receiver_whose_estimate_climbs_again_limits_nothing() -> None:
    """Chromium on a busy machine: one fall, then it climbs while as much is sent as before."""
    limit = NetworkLimit()
    climbing = [590_000, 609_000, 628_000, 648_000, 669_000, 690_000]
    assert set(told(limit, climbing, 0.0)) == {None}


def test_a_narrow_way_whose_estimate_keeps_falling_limits() -> None:
    """Chromium behind 600 kbit/s: each estimate below the last."""
    limit = NetworkLimit()
    assert told(limit, [805_000, 524_000, 446_000, 444_000], 0.0) == [None, None, 446_000, 444_000]


def test_a_moment_of_a_lower_estimate_counts_for_nothing() -> None:
    limit = NetworkLimit()
    assert set(told(limit, [400_000, 1_200_000, 400_000, 1_200_000], 0.0)) == {None}


def test_a_limit_grows_until_the_estimate_stands_below_the_rate_again() -> None:
    limit = NetworkLimit()
    told(limit, [500_000, 500_000, 500_000], 0.0)
    later = limit.current(12.0)
    assert later is not None
    assert 735_000 < later < 745_000  # four per cent a second for ten seconds
    told(limit, [600_000, 600_000, 600_000], 12.0)
    assert limit.current(14.0) == 600_000


def test_loss_limits_at_once_and_recovers() -> None:
    limit = NetworkLimit()
    limit.report(BitrateLimit(700_000, LimitSource.RR), SENDING, 0.0)
    assert limit.current(0.0) == 700_000
    recovered = limit.current(10.0)
    assert recovered is not None
    assert 1_030_000 < recovered < 1_040_000


def test_an_order_holds_as_given_until_another_comes() -> None:
    limit = NetworkLimit()
    limit.report(BitrateLimit(300_000, LimitSource.TMMBR), SENDING, 0.0)
    assert limit.current(1_000.0) == 300_000
    limit.report(BitrateLimit(900_000, LimitSource.TMMBR), SENDING, 1_000.0)
    assert limit.current(1_000.0) == 900_000


@given(st.lists(st.tuples(st.sampled_from(list(LimitSource)), st.integers(0, 5_000_000)), max_size=40))
def test_nothing_takes_a_picture_below_the_floor(reports: list[tuple[LimitSource, int]]) -> None:
    limit = NetworkLimit()
    for number, (source, bps) in enumerate(reports):
        limit.report(BitrateLimit(bps, source), SENDING, number * 0.7)
        kept = limit.current(number * 0.7)
        assert kept is None or kept >= FLOOR


@given(
    st.integers(0, 10_000_000),
    st.none() | st.integers(0, 5_000_000),
    st.none() | st.integers(0, 5_000_000),
    st.booleans(),
)
def test_main_picture_and_slides_fit_the_room_together(
    room: int, picture_most: int | None, slides_most: int | None, slides: bool
) -> None:
    shares = picture_shares(room, slides=slides, picture_most=picture_most, slides_most=slides_most)
    assert 0 <= shares.picture <= min(room, room if picture_most is None else picture_most)
    assert 0 <= shares.slides <= (room if slides_most is None else slides_most)
    assert shares.picture + shares.slides <= room
    assert slides or not shares.slides


def test_slides_have_the_larger_share_and_what_one_may_not_use_is_the_other_s() -> None:
    assert picture_shares(1_000_000, slides=True) == PictureShares(400_000, 600_000)
    assert picture_shares(1_000_000, slides=False) == PictureShares(1_000_000, 0)
    assert picture_shares(1_000_000, slides=True, slides_most=128_000) == PictureShares(872_000, 128_000)
    assert picture_shares(1_000_000, slides=True, picture_most=64_000) == PictureShares(64_000, 936_000)
    assert picture_shares(1_000_000, slides=True, picture_most=0) == PictureShares(0, 1_000_000)
    assert picture_shares(100_000, slides=True) == PictureShares(100_000, 0), "two would be none"
