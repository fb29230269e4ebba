from pathlib import Path

import numpy as np
import pytest

from mcu_bridge import captions
from mcu_bridge.captions import CaptionPainter, UnusableFont
from media.picture import Picture

FONT = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
BLUE = (60, 200, 100)

pytestmark = pytest.mark.skipif(not FONT.exists(), reason="needs Debian's fonts-noto-cjk")


@pytest.fixture
def painter() -> CaptionPainter:
    return CaptionPainter(FONT)


def test_a_chinese_name_is_written_in_white_on_a_dark_plate(painter: CaptionPainter) -> None:
    picture = Picture.blank(320, 180, BLUE)
    label = painter.label("南宁市", 24, 300)
    label.draw(picture.planes, 10, 100)
    written = picture.y[100 : 100 + label.height, 10 : 10 + label.width]
    assert written.max() > 225
    assert written.min() < BLUE[0] / 2 + 10
    assert 0.05 < (written > 180).mean() < 0.5
    assert label.width > 3 * 22
    chroma = picture.u[50 : 50 + label.height // 2, 5 : 5 + label.width // 2]
    assert chroma.max() < 200  # the plate takes colour away
    untouched = picture.y.copy()
    untouched[100 : 100 + label.height, 10 : 10 + label.width] = BLUE[0]
    assert (untouched == BLUE[0]).all()


def test_each_sign_has_a_shape_of_its_own(painter: CaptionPainter) -> None:
    shapes = [painter.card(sign, 32, 100).add.tobytes() for sign in "国省市县矿厂"]
    assert len(set(shapes)) == len(shapes)


def test_long_names_end_in_an_ellipsis_within_their_room(painter: CaptionPainter) -> None:
    name = "广西壮族自治区应急管理厅指挥中心会议室"
    for room in (60, 100, 200):
        label = painter.label(name, 20, room)
        assert label.width <= room
    assert painter.label(name, 20, 60).add.tobytes() != painter.label(name[:1], 20, 60).add.tobytes()
    assert painter.label(name, 20, 2000).width > 19 * 19


def test_sizes_are_even_and_odd_texts_do_no_harm(painter: CaptionPainter) -> None:
    for text in ("", " ", "\n\t\0", "a\u202eb", "😀", "x" * 10_000, "A"):
        for room in (3, 21, 301):
            overlay = painter.label(text, 15, room)
            assert overlay.width % 2 == overlay.height % 2 == 0
            assert overlay.keep_chroma.shape == (overlay.height // 2, overlay.width // 2)


def test_a_card_has_no_plate(painter: CaptionPainter) -> None:
    picture = Picture.blank(320, 180, BLUE)
    painter.card("county", 24, 300).draw(picture.planes, 0, 0)
    assert picture.y.min() >= BLUE[0] - 1
    assert picture.y.max() > 225


def test_a_card_of_two_lines_shows_both_whole(painter: CaptionPainter) -> None:
    one, other = "请输入会议号，按 # 结束", "Meeting number, then #"
    single, both = painter.card(one, 24, 600), painter.card(f"{one}\n{other}", 24, 600)
    assert abs(both.width - single.width) < 24, "the longer of the two decides"
    assert both.height >= 2 * (single.height - 2)
    lower = both.add[both.height // 2 :]
    assert (lower > 200).any()
    left, right = np.flatnonzero((lower > 128).any(axis=0))[[0, -1]]
    assert abs(left - (both.width - 1 - right)) <= 4, "centred"
    narrow = painter.card(f"{one}\n{other}", 24, 250)
    assert narrow.width <= 250
    assert narrow.height < both.height, "smaller, not cut"


def test_what_was_painted_is_kept_and_the_cache_is_bounded(painter: CaptionPainter) -> None:
    first = painter.label("一", 20, 100)
    assert painter.label("一", 20, 100) is first
    assert painter.label("一", 22, 100) is not first
    for n in range(captions.CACHED + 5):
        painter.label(str(n), 12, 100)
    assert painter.label("一", 20, 100) is not first
    assert len(painter._cache) == captions.CACHED


def test_the_simplified_chinese_face_of_a_collection_is_used(painter: CaptionPainter) -> None:
    name, _ = painter._font(16).getname()
    assert name == "Noto Sans CJK SC"


def test_a_font_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableFont, match=r"missing\.ttf"):
        CaptionPainter(tmp_path / "missing.ttf")
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font at all" * 100)
    with pytest.raises(UnusableFont, match=r"broken\.ttf"):
        CaptionPainter(broken)


def test_blending_is_exact_at_its_ends() -> None:
    overlay = captions._overlay(np.eye(4, dtype=np.float32), np.zeros((4, 4), np.float32))
    picture = Picture.blank(4, 4, BLUE)
    overlay.draw(picture.planes, 0, 0)
    assert (np.diag(picture.y) == captions.TEXT_LUMA).all()
    assert (picture.y[~np.eye(4, dtype=bool)] == BLUE[0]).all()
