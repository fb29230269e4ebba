import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu_bridge.layouts import (
    FULL,
    GRID_2X2,
    GRID_3X3,
    GRID_4X4,
    LAYOUTS,
    ONE_PLUS_5,
    ONE_PLUS_7,
    PIP,
    SIDE_BY_SIDE,
    SPEAKER_STRIP,
    Layout,
    Rect,
    TileOrder,
    layout_for,
    layout_named,
    pages,
)


@given(
    st.sampled_from(sorted(LAYOUTS)),
    st.integers(32, 1000).map(lambda half: half * 2),
    st.integers(32, 600).map(lambda half: half * 2),
)
def test_cells_are_even_within_the_canvas_and_do_not_overlap(name: str, width: int, height: int) -> None:
    layout = layout_named(name)
    covered = np.zeros((height, width), np.uint8)
    for rect in layout.rects(width, height):
        assert not any(value % 2 for value in (rect.x, rect.y, rect.width, rect.height))
        assert rect.width > 0
        assert rect.height > 0
        assert rect.x + rect.width <= width
        assert rect.y + rect.height <= height
        covered[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width] += 1
    assert (covered.max() > 1) == layout.overlapping
    if name in ("full", "2x2", "3x3", "4x4", "1+5", "1+7"):
        assert covered.min() == 1  # nothing is left black


def test_the_layouts_of_a_720p_canvas() -> None:
    assert FULL.rects(1280, 720) == (Rect(0, 0, 1280, 720),)
    assert SIDE_BY_SIDE.rects(1280, 720) == (Rect(0, 180, 640, 360), Rect(640, 180, 640, 360))
    assert GRID_3X3.rects(1280, 720)[4] == Rect(426, 240, 428, 240)
    assert ONE_PLUS_5.rects(1280, 720)[:2] == (Rect(0, 0, 854, 480), Rect(854, 0, 426, 240))
    assert SPEAKER_STRIP.rects(1280, 720)[:2] == (Rect(128, 0, 1024, 576), Rect(0, 576, 256, 144))
    assert PIP.rects(1280, 720)[1] == Rect(928, 522, 320, 180)
    assert [len(layout.cells) for layout in (GRID_2X2, GRID_4X4, ONE_PLUS_5, ONE_PLUS_7)] == [4, 16, 6, 8]


def test_odd_canvases_and_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="1279x720 is not even"):
        FULL.rects(1279, 720)
    with pytest.raises(ValueError, match=r"'5x5'.*full, 1\+1, 2x2"):
        layout_named("5x5")
    with pytest.raises(ValueError, match="at least one site"):
        pages(["a"], 0)


@pytest.mark.parametrize(
    ("count", "equal", "led"),
    [
        (0, FULL, FULL),
        (1, FULL, FULL),
        (2, SIDE_BY_SIDE, PIP),
        (3, GRID_2X2, ONE_PLUS_5),
        (5, GRID_3X3, ONE_PLUS_5),
        (9, GRID_3X3, ONE_PLUS_7),
        (10, GRID_4X4, ONE_PLUS_7),
        (125, GRID_4X4, ONE_PLUS_7),
    ],
)
def test_the_layout_for_a_number_of_sites(count: int, equal: Layout, led: Layout) -> None:
    assert layout_for(count) is equal
    assert layout_for(count, speaker=True) is led


def test_pages() -> None:
    assert pages("abcdefg", 3) == (("a", "b", "c"), ("d", "e", "f"), ("g",))
    assert pages([], 4) == ((),)


def test_sites_keep_their_tiles_when_others_come_and_go() -> None:
    order = TileOrder(GRID_2X2)
    assert order.assign(["a", "b"], [], 0) == ("a", "b", None, None)
    assert order.assign(["c", "a", "b"], [], 1) == ("a", "b", "c", None)
    assert order.assign(["c", "b"], [], 2) == (None, "b", "c", None)
    assert order.assign(["c", "b", "d"], [], 3) == ("d", "b", "c", None)


def test_an_unseen_speaker_takes_the_tile_of_whoever_was_silent_longest() -> None:
    order = TileOrder(GRID_2X2)
    sites = list("abcdef")
    assert order.assign(sites, [], 0) == ("a", "b", "c", "d")
    assert order.assign(sites, ["d"], 1) == ("a", "b", "c", "d")
    assert order.assign(sites, ["c", "d"], 2) == ("a", "b", "c", "d")
    assert order.assign(sites, ["e", "c", "d"], 3) == ("a", "e", "c", "d")
    assert order.assign(sites, ["f", "e", "c", "d"], 4) == ("f", "e", "c", "d")
    assert order.assign(sites, ["b", "f", "e", "c"], 5) == ("f", "e", "c", "b")


def test_more_speakers_than_tiles_do_not_push_each_other_out() -> None:
    order = TileOrder(SIDE_BY_SIDE)
    sites = list("abcd")
    shown = order.assign(sites, ["a", "b", "c"], 0)
    assert shown == ("a", "b")
    assert order.assign(sites, ["a", "b", "c"], 1) == shown


def test_the_speaker_leads_and_no_sooner_than_the_hold_allows() -> None:
    order = TileOrder(ONE_PLUS_5, hold=2.0)
    sites = list("abcdefgh")
    assert order.assign(sites, [], 0) == ("a", "b", "c", "d", "e", "f")
    assert order.assign(sites, ["c"], 1.0) == ("c", "b", "a", "d", "e", "f")
    assert order.assign(sites, ["d", "c"], 2.0) == ("c", "b", "a", "d", "e", "f")
    assert order.assign(sites, ["d", "c"], 3.1) == ("d", "b", "a", "c", "e", "f")
    assert order.assign(sites[:3] + sites[4:], ["a", "c"], 3.2)[0] == "a"  # the leader left: no waiting


def test_fixed_sites_stay_whatever_is_said() -> None:
    order = TileOrder(ONE_PLUS_5)
    sites = list("abcdefgh")
    fixed = {0: "h", 2: "g", 9: "a", 3: "gone"}
    shown = order.assign(sites, ["a"], 0, fixed)
    assert (shown[0], shown[2]) == ("h", "g")
    assert sorted(site or "" for site in shown) == ["a", "b", "c", "d", "g", "h"]
    shown = order.assign(sites, ["f", "e", "a", "b"], 10, fixed)
    assert (shown[0], shown[2]) == ("h", "g")
    assert {"e", "f", "a", "b"} <= set(shown)


def test_another_layout_keeps_who_was_shown() -> None:
    order = TileOrder(GRID_3X3)
    sites = list("abcdefghi")
    order.assign(sites, [], 0)
    order.use(GRID_2X2)
    assert order.assign(sites, [], 1) == ("a", "b", "c", "d")
    order.use(GRID_3X3)
    assert order.assign(sites, [], 2) == tuple("abcdefghi")


SITES = st.lists(st.sampled_from("abcdefghij"), unique=True)


@given(
    st.sampled_from(sorted(LAYOUTS)),
    st.lists(st.tuples(SITES, st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=4)), max_size=8),
)
def test_nobody_is_shown_twice_and_no_tile_stays_empty_while_somebody_waits(
    name: str, steps: list[tuple[list[str], list[str]]]
) -> None:
    order = TileOrder(layout_named(name))
    for now, (sites, speakers) in enumerate(steps):
        shown = [site for site in order.assign(sites, speakers, float(now)) if site is not None]
        assert len(set(shown)) == len(shown)
        assert set(shown) <= set(sites)
        assert len(shown) == min(len(sites), len(order.layout.cells))
