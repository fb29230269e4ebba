"""Files that are cut off, changed or not ours: read as far as they are whole, or refused by name."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.isobmff.box import MalformedBox
from recordings.footage import NoPicture, RecordedFile, read_footage, write_clip
from recordings.playlist import read_index
from recordings.preroll import Footage
from tests.recordings.test_chromium import write


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "file.mp4"
    write(path, close=True)
    return path.read_bytes()


@given(cut=st.floats(0, 1), at=st.floats(0, 0.05), change=st.binary(min_size=0, max_size=12))
def test_any_change_is_survived(whole: bytes, cut: float, at: float, change: bytes) -> None:
    data = bytearray(whole[: int(cut * len(whole))])
    place = int(at * len(whole))
    data[place : place + len(change)] = change
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.mp4"
        path.write_bytes(bytes(data))
        footage = read_footage([RecordedFile(path, 100.0)], 100.0, 200.0)
        assert all(100.0 <= one.arrival <= 200.0 for one in footage.pictures)
        try:
            index = read_index(path)
        except MalformedBox:
            return
        assert all(one.size > 0 for one in index.segments)


def test_footage_that_no_file_can_begin_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoPicture):
        write_clip(Footage(), tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []
