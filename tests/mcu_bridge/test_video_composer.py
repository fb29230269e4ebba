import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcu_bridge import video_composer
from mcu_bridge.captions import CaptionPainter
from mcu_bridge.layouts import (
    FULL,
    GRID_2X2,
    GRID_3X3,
    GRID_4X4,
    LAYOUTS,
    PIP,
    SIDE_BY_SIDE,
    Rect,
    layout_named,
)
from mcu_bridge.video_composer import BORDER, CARD, Fit, VideoComposer, scale
from media.picture import BLACK, Colour, Picture, Plane

FONT = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")


def colour(n: int) -> Colour:
    return (50 + 9 * n, 40 + 11 * n, 220 - 10 * n)


def colour_at(picture: Picture, x: int, y: int) -> Colour:
    return int(picture.y[y, x]), int(picture.u[y // 2, x // 2]), int(picture.v[y // 2, x // 2])


def middle(picture: Picture, rect: Rect) -> Colour:
    return colour_at(picture, rect.x + rect.width // 2, rect.y + rect.height // 2)


def compose(composer: VideoComposer, time: int = 0) -> Picture:
    picture = composer.compose(time)
    assert picture is not None
    return picture


SIZES = [
    (1280, 720),
    (1920, 1080),
    (640, 360),
    (352, 288),
    (176, 144),
    (175, 143),
    (720, 1280),
    (2, 2),
    (333, 99),
]


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_each_source_s_colour_is_found_in_its_tile(name: str) -> None:
    layout = layout_named(name)
    composer = VideoComposer(1280, 720)
    sites = [f"site-{n}" for n in range(len(layout.cells))]
    composer.arrange(layout, sites)
    for n, site in enumerate(sites):
        composer.show(site, Picture.blank(*SIZES[n % len(SIZES)], colour(n)))
    picture = compose(composer, 90_000)
    assert (picture.width, picture.height, picture.time) == (1280, 720, 90_000)
    for n, rect in enumerate(layout.rects(1280, 720)):
        assert middle(picture, rect) == colour(n)


def test_a_picture_keeps_its_shape_between_black_bars() -> None:
    composer = VideoComposer(1280, 720)
    composer.arrange(FULL, ["a"])
    composer.show("a", Picture.blank(640, 480, colour(3)))
    picture = compose(composer)
    inside = np.flatnonzero(picture.y[360] == colour(3)[0])
    assert (inside[0], inside[-1]) == (160, 1119)
    assert colour_at(picture, 158, 360) == BLACK
    assert colour_at(picture, 1120, 360) == BLACK
    composer.show("a", Picture.blank(1280, 360, colour(4)))
    picture = compose(composer)
    inside = np.flatnonzero(picture.y[:, 640] == colour(4)[0])
    assert (inside[0], inside[-1]) == (180, 539)
    assert colour_at(picture, 158, 100) == BLACK


def test_cif_is_shown_as_four_to_three() -> None:
    composer = VideoComposer(1280, 720)
    composer.arrange(FULL, ["a"])
    cif = Picture.blank(352, 288, colour(5))
    composer.show("a", Picture(cif.y, cif.u, cif.v, sample_aspect=12 / 11))
    row = compose(composer).y[360]
    assert int((row == colour(5)[0]).sum()) == 960


def test_filling_cuts_the_edges_and_leaves_no_bars() -> None:
    composer = VideoComposer(1280, 720)
    composer.arrange(FULL, ["a"], Fit.FILL)
    source = Picture.blank(400, 400, colour(1))
    source.y[:80] = 200  # beyond the cut
    source.y[200:] = 120
    composer.show("a", source)
    picture = compose(composer)
    assert set(np.unique(picture.y[:355])) == {colour(1)[0]}
    assert set(np.unique(picture.y[365:])) == {120}


def test_halves_fall_where_they_belong() -> None:
    """Upper left white, the rest black: orientation and position survive scaling up and down."""
    for width, height in ((1280, 720), (320, 180), (161, 91), (1920, 1080)):
        source = Picture.blank(width, height)
        source.y[: height // 2, : width // 2] = 235
        composer = VideoComposer(640, 360)
        composer.arrange(FULL, ["a"])
        composer.show("a", source)
        picture = compose(composer)
        assert (picture.y[:170, :310] > 200).all()
        assert (picture.y[190:, :] < 40).all()
        assert (picture.y[:, 330:] < 40).all()


def test_only_tiles_that_changed_are_drawn() -> None:
    composer = VideoComposer(1280, 720)
    composer.arrange(GRID_3X3, list("abcdefghi"))
    for n, site in enumerate("abcdefghi"):
        composer.show(site, Picture.blank(640, 360, colour(n)))
    compose(composer)
    assert composer.counts.drawn == 9
    compose(composer)
    assert (composer.counts.drawn, composer.counts.unchanged) == (9, 1)
    composer.show("c", Picture.blank(640, 360, colour(12)))
    picture = compose(composer)
    assert composer.counts.drawn == 10
    for n, rect in enumerate(GRID_3X3.rects(1280, 720)):
        assert middle(picture, rect) == colour(12 if n == 2 else n)


def test_a_picture_in_work_downstream_is_never_written_again() -> None:
    composer = VideoComposer(640, 360)
    composer.arrange(FULL, ["a"])
    held = []
    for n in range(video_composer.MOST_CANVASES):
        composer.show("a", Picture.blank(640, 360, colour(n)))
        held.append(compose(composer))
    assert [colour_at(picture, 320, 180) for picture in held] == [colour(n) for n in range(len(held))]
    composer.show("a", Picture.blank(640, 360, colour(9)))
    assert composer.compose(0) is None
    assert composer.counts.starved == 1
    del held[2]
    gc.collect()
    assert colour_at(compose(composer), 320, 180) == colour(9)
    assert [colour_at(picture, 320, 180) for picture in held[:3]] == [colour(0), colour(1), colour(3)]


def test_an_unchanged_scene_costs_no_canvas() -> None:
    composer = VideoComposer(640, 360)
    composer.arrange(FULL, ["a"])
    composer.show("a", Picture.blank(640, 360, colour(1)))
    held = [compose(composer, time) for time in range(20)]
    assert [picture.time for picture in held] == list(range(20))
    assert composer.counts.starved == 0
    assert len({id(picture.buffer) for picture in held}) == 1


def test_tiles_without_a_picture() -> None:
    composer = VideoComposer(1280, 720)
    composer.arrange(GRID_2X2, ["a", "b", None])
    composer.show("a", Picture.blank(640, 360, colour(1)))
    rects = GRID_2X2.rects(1280, 720)
    assert [middle(compose(composer), rect) for rect in rects] == [colour(1), CARD, BLACK, BLACK]
    composer.clear("a")
    assert middle(compose(composer), rects[0]) == CARD
    composer.arrange(GRID_2X2, [None, "a"])
    assert [middle(compose(composer), rect) for rect in rects] == [BLACK, CARD, BLACK, BLACK]


def test_pictures_survive_a_new_arrangement() -> None:
    composer = VideoComposer(1280, 720)
    composer.arrange(FULL, ["a"])
    for n, site in enumerate("ab"):
        composer.show(site, Picture.blank(640, 360, colour(n)))
    compose(composer)
    composer.arrange(SIDE_BY_SIDE, ["b", "a"])
    picture = compose(composer)
    assert [middle(picture, rect) for rect in SIDE_BY_SIDE.rects(1280, 720)] == [colour(1), colour(0)]
    assert colour_at(picture, 640, 20) == BLACK  # nothing of the full screen is left
    with pytest.raises(ValueError, match=r"3 sites for the 2 cells of layout 1\+1"):
        composer.arrange(SIDE_BY_SIDE, ["a", "b", "c"])


def test_the_small_picture_stays_on_top() -> None:
    composer = VideoComposer(1280, 720)
    composer.arrange(PIP, ["a", "b"])
    composer.show("b", Picture.blank(640, 360, colour(2)))
    small = PIP.rects(1280, 720)[1]
    for n in range(4, 8):
        composer.show("a", Picture.blank(640, 360, colour(n)))  # only the large one changes
        picture = compose(composer)
        assert middle(picture, small) == colour(2)
        assert colour_at(picture, 100, 100) == colour(n)


def test_the_speaker_has_a_border_and_loses_it() -> None:
    composer = VideoComposer(1280, 720)
    composer.arrange(GRID_2X2, list("abcd"))
    for site in "abcd":
        composer.show(site, Picture.blank(640, 360, colour(1)))
    composer.highlight("b")
    picture = compose(composer)
    rect = GRID_2X2.rects(1280, 720)[1]
    corners = [
        (rect.x, rect.y),
        (rect.x + rect.width - 1, rect.y),
        (rect.x, rect.y + rect.height - 1),
        (rect.x + rect.width - 1, rect.y + rect.height - 1),
    ]
    assert {colour_at(picture, x, y) for x, y in corners} == {BORDER}
    assert middle(picture, rect) == colour(1)
    assert colour_at(picture, rect.x - 1, rect.y) == colour(1)
    composer.highlight(None)
    picture = compose(composer)
    assert {colour_at(picture, x, y) for x, y in corners} == {colour(1)}


@pytest.mark.skipif(not FONT.exists(), reason="needs Debian's fonts-noto-cjk")
def test_names_are_written_bottom_left_and_on_cards_in_the_middle() -> None:
    composer = VideoComposer(1280, 720, CaptionPainter(FONT))
    composer.arrange(GRID_2X2, list("abcd"))
    for site, name in zip("abcd", ("国家局", "广西壮族自治区", "南宁市", "Room 4"), strict=True):
        composer.name(site, name)
        if site != "d":
            composer.show(site, Picture.blank(640, 360, colour(1)))
    picture = compose(composer)
    first, second, _, card = GRID_2X2.rects(1280, 720)

    def written(rect: Rect) -> tuple[Plane, Plane]:
        """Rows and columns of the tile that hold letters."""
        tile = picture.y[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width] > 200
        return np.flatnonzero(tile.any(axis=1)), np.flatnonzero(tile.any(axis=0))

    rows, columns = written(first)
    assert rows.min() > 300
    assert columns.max() < 120
    assert written(second)[1].max() > columns.max()  # a longer name
    rows, columns = written(card)
    assert abs((rows.min() + rows.max()) / 2 - 180) < 12
    assert abs((columns.min() + columns.max()) / 2 - 320) < 12
    composer.name("a", "")
    picture = compose(composer)
    assert (picture.y[first.y : first.y + 360, first.x : first.x + 640] == colour(1)[0]).all()


@pytest.mark.skipif(not FONT.exists(), reason="needs Debian's fonts-noto-cjk")
def test_a_canvas_too_small_for_letters_goes_without() -> None:
    composer = VideoComposer(64, 48, CaptionPainter(FONT))
    composer.arrange(GRID_4X4, [str(n) for n in range(16)])
    for n in range(16):
        composer.name(str(n), "名字" * n)
        composer.show(str(n), Picture.blank(64, 48, colour(n)))
    picture = compose(composer)
    for n, rect in enumerate(GRID_4X4.rects(64, 48)):
        assert middle(picture, rect) == colour(n)


def test_the_scene_may_change_in_other_threads_while_composing() -> None:
    composer = VideoComposer(320, 180)
    stop = threading.Event()
    layouts = [FULL, GRID_2X2, PIP, GRID_3X3]

    def disturb() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            layout = layouts[n % 4]
            composer.arrange(layout, [str(k) for k in range(len(layout.cells))])
            composer.show(str(n % 9), Picture.blank(64, 36, colour(n % 16)))
            composer.forget(str((n + 4) % 9))

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for time in range(300):
            assert compose(composer, time).time == time
    finally:
        stop.set()
        thread.join()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.integers(1, 60))
def test_any_plane_is_scaled_in_place_without_new_values(w: int, h: int, width: int, height: int) -> None:
    rng = np.random.default_rng(w * h)
    source = rng.integers(16, 236, (h, w), np.uint8)
    canvas = np.zeros((height + 4, width + 4), np.uint8)
    scale(source, canvas[2:-2, 2:-2])
    inner = canvas[2:-2, 2:-2]
    assert source.min() <= inner.min()
    assert inner.max() <= source.max()
    assert not canvas[:2].any()
    assert not canvas[:, -2:].any()
