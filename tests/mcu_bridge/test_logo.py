"""The logo: where it lies, how it blends, and what is drawn anew under it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcu_bridge.captions import CaptionPainter
from mcu_bridge.layouts import FULL, GRID_2X2, PIP, Rect
from mcu_bridge.logo import Corner, Logo, UnusableLogo
from mcu_bridge.video_composer import VideoComposer
from media.picture import Colour, Picture

GREY: Colour = (120, 128, 128)
BLUE: Colour = (41, 240, 110)
RED_YUV = (81, 90, 240)
FONT = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")


@pytest.fixture
def emblem(tmp_path: Path) -> Path:
    """Red, opaque on its left half and half transparent on its right."""
    pixels = np.zeros((100, 200, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[:, :100, 3], pixels[:, 100:, 3] = 255, 128
    Image.fromarray(pixels).save(tmp_path / "emblem.png")
    return tmp_path / "emblem.png"


def colour(picture: Picture, x: int, y: int) -> Colour:
    return int(picture.y[y, x]), int(picture.u[y // 2, x // 2]), int(picture.v[y // 2, x // 2])


def near(one: Colour, other: Colour, by: int = 3) -> bool:
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


def halves(picture: Picture, rect: Rect) -> tuple[Colour, Colour]:
    """What the middle of the logo's left and right half looks like."""
    y = rect.y + rect.height // 2
    return colour(picture, rect.x + rect.width // 4, y), colour(picture, rect.x + rect.width * 3 // 4, y)


def mixed(under: Colour) -> Colour:
    red, grey, blue = (round((a + b) / 2) for a, b in zip(under, RED_YUV, strict=True))
    return red, grey, blue


@pytest.mark.parametrize("corner", Corner)
@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (352, 288)])
def test_it_fits_into_its_corner(emblem: Path, corner: Corner, size: tuple[int, int]) -> None:
    rect = Logo.load(emblem, corner).stamp(*size).rect()
    width, height = size
    assert rect.height <= height / 10 + 1
    assert rect.width <= width / 4 + 1
    assert abs(rect.width - 2 * rect.height) <= 2
    assert not (rect.x | rect.y | rect.width | rect.height) % 2
    assert (rect.x < width / 2) is (corner in (Corner.TOP_LEFT, Corner.BOTTOM_LEFT))
    assert (rect.y < height / 2) is (corner in (Corner.TOP_LEFT, Corner.TOP_RIGHT))
    assert rect.x >= 0
    assert rect.x + rect.width <= width
    assert rect.y + rect.height <= height


def test_it_blends_with_what_is_under_it(emblem: Path) -> None:
    logo = Logo.load(emblem)
    composer = VideoComposer(640, 360, logo=logo)
    composer.arrange(FULL, ["a"])
    composer.show("a", Picture.blank(640, 360, GREY))
    picture = composer.compose(0)
    assert picture is not None
    rect = logo.stamp(640, 360).rect()
    opaque, translucent = halves(picture, rect)
    assert near(opaque, RED_YUV)
    assert near(translucent, mixed(GREY))
    assert colour(picture, rect.x - 4, rect.y) == GREY


@pytest.mark.parametrize("layout", [GRID_2X2, PIP])
def test_it_is_blended_once_however_often_its_tiles_change(emblem: Path, layout: object) -> None:
    """It lies over one tile and is near others: whichever change, it looks the same over the same."""
    logo = Logo.load(emblem)
    rect = logo.stamp(640, 360).rect()
    chosen = GRID_2X2 if layout is GRID_2X2 else PIP
    composer = VideoComposer(640, 360, logo=logo)
    composer.arrange(chosen, ["a", "b"])
    for n in range(9):
        under = BLUE if n % 2 else GREY
        for site in ("a", "b") if n % 3 else ("b",):
            composer.show(site, Picture.blank(640, 360, under))
        if n == 0:
            composer.show("a", Picture.blank(640, 360, GREY))
        picture = composer.compose(n)
        assert picture is not None
        beside = colour(picture, rect.x + rect.width * 3 // 4, rect.y + rect.height + 6)
        opaque, translucent = halves(picture, rect)
        assert near(opaque, RED_YUV), n
        assert near(translucent, mixed(beside), 6), n
        del picture


def test_black_between_tiles_stays_under_it(emblem: Path) -> None:
    """One tile of four has a site; where the logo lies is none, and the tile's changes do not touch it."""
    logo = Logo.load(emblem)
    composer = VideoComposer(640, 360, logo=logo)
    composer.arrange(GRID_2X2, ["a"])
    drawn = []
    for n in range(4):
        composer.show("a", Picture.blank(640, 360, BLUE if n % 2 else GREY))
        picture = composer.compose(n)
        assert picture is not None
        drawn.append(halves(picture, logo.stamp(640, 360).rect()))
        del picture
    assert len(set(drawn)) == 1
    assert near(drawn[0][1], mixed((16, 128, 128)))


@pytest.mark.skipif(not FONT.exists(), reason="needs Debian's fonts-noto-cjk")
def test_a_banner_moves_it_down_and_leaves_nothing_behind(emblem: Path) -> None:
    logo = Logo.load(emblem)
    stamp = logo.stamp(640, 360)
    composer = VideoComposer(640, 360, CaptionPainter(FONT), logo)
    composer.arrange(FULL, ["a"])
    composer.show("a", Picture.blank(640, 360, GREY))
    composer.set_banner("会议纪律")
    picture = composer.compose(0)
    assert picture is not None
    assert composer._banner is not None
    below = composer._banner.height
    assert near(halves(picture, stamp.rect(below))[0], RED_YUV)
    composer.set_banner("")
    again = composer.compose(1)
    assert again is not None
    assert near(halves(again, stamp.rect())[0], RED_YUV)
    rect = stamp.rect(below)
    assert colour(again, rect.x + 2, rect.y + rect.height - 2) == GREY


def test_a_file_that_is_no_logo_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableLogo, match=r"missing\.png"):
        Logo.load(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UnusableLogo, match=r"text\.png cannot be used"):
        Logo.load(tmp_path / "text.png")
    Image.new("1", (5000, 4)).save(tmp_path / "wide.png")
    with pytest.raises(UnusableLogo, match="5000x4"):
        Logo.load(tmp_path / "wide.png")
    (tmp_path / "huge.png").write_bytes(bytes(4 * 1024 * 1024 + 1))
    with pytest.raises(UnusableLogo, match="4194305 bytes"):
        Logo.load(tmp_path / "huge.png")
    whole = tmp_path / "whole.png"
    Image.effect_noise((200, 100), 60).save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(UnusableLogo, match=r"half\.png cannot be used"):
        Logo.load(tmp_path / "half.png")
