"""The banner's strip: what it covers, how it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mcu_bridge.banner import STRIP, TEXT_LUMA, WIDTH_SECONDS, Banner
from mcu_bridge.captions import CaptionPainter
from mcu_bridge.layouts import FULL
from mcu_bridge.video_composer import VideoComposer
from media.codecs import CLOCK
from media.picture import Picture

FONT = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
pytestmark = pytest.mark.skipif(not FONT.exists(), reason="needs Debian's fonts-noto-cjk")
LONG = "各会场请注意：" * 40


@pytest.fixture(scope="module")
def painter() -> CaptionPainter:
    return CaptionPainter(FONT)


def letters(picture: Picture, banner: Banner) -> np.ndarray:
    """Columns of the strip that have letters."""
    return np.asarray(picture.y[: banner.height].max(axis=0) > 160)


def test_a_short_text_stands_in_the_middle_of_an_opaque_strip(painter: CaptionPainter) -> None:
    banner = Banner("会议纪律", 640, 360, painter)
    picture = Picture.blank(640, 360, (200, 60, 60))
    assert not banner.running
    assert banner.offset(5 * CLOCK) == 0
    banner.draw(picture.planes, 0)
    (where,) = np.nonzero(letters(picture, banner))
    assert abs((where[0] + where[-1]) / 2 - 320) < 6
    assert int(picture.y[: banner.height].max()) >= TEXT_LUMA - 5
    assert int(picture.y[2, 2]) == STRIP[0]
    assert (int(picture.u[1, 1]), int(picture.v[1, 1])) == STRIP[1:]
    assert (picture.y[banner.height :] == 200).all()


def test_a_long_text_runs_from_the_right_and_comes_again(painter: CaptionPainter) -> None:
    banner = Banner(LONG, 640, 360, painter)
    assert banner.running
    picture = Picture.blank(640, 360)
    banner.draw(picture.planes, banner.offset(0))
    assert not letters(picture, banner).any(), "it comes in from the right"
    half = banner.offset(WIDTH_SECONDS * CLOCK // 2)
    banner.draw(picture.planes, half)
    columns = letters(picture, banner)
    assert columns[340:].any()
    assert not columns[:300].any()
    offsets = [banner.offset(n * 3600) for n in range(20_000)]
    assert all(offset % 2 == 0 for offset in offsets)
    steps = np.diff(offsets)
    assert (steps < 0).any(), "it begins again"
    for offset in (offsets[-1], max(offsets)):  # where the end and the beginning meet
        banner.draw(picture.planes, offset)


def test_a_composer_draws_the_banner_over_its_tiles_and_takes_it_off(painter: CaptionPainter) -> None:
    composer = VideoComposer(640, 360, painter)
    composer.arrange(FULL, ("site",))
    composer.show("site", Picture.blank(320, 180, (81, 90, 240)))
    composer.set_banner("会议纪律")
    with_banner = composer.compose(0)
    assert with_banner is not None
    assert int(with_banner.y[2, 2]) == STRIP[0]
    composer.show("site", Picture.blank(320, 180, (145, 54, 34)))
    again = composer.compose(3600)
    assert again is not None
    assert (int(again.y[2, 2]), int(again.y[200, 300])) == (STRIP[0], 145)
    composer.set_banner("")
    without = composer.compose(7200)
    assert without is not None
    assert int(without.y[2, 2]) == 145
