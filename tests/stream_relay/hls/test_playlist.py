"""The playlist as RFC 8216bis words it, and what it keeps."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_relay.hls.playlist import (
    KEPT_SEGMENTS,
    LISTED_SEGMENTS,
    TARGET_DURATION,
    LivePlaylist,
    Part,
    RenditionReport,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def playing(segments: int, parts: int = 4, size: int = 10, **options: int) -> LivePlaylist:
    """Whole segments of 2 s, each of four parts, a key frame at the start of each."""
    playlist = LivePlaylist(**options)
    playlist.begin(b"init")
    for number in range(segments):
        for index in range(4):
            at = NOON + timedelta(seconds=2 * number + index / 2)
            playlist.add(Part(bytes([number % 256]) * size, 0.5, index == 0), at)
        playlist.end_segment()
    for index in range(parts % 4):
        playlist.add(Part(b"n" * size, 0.5, index == 0), NOON + timedelta(seconds=2 * segments + index / 2))
    return playlist


def test_a_playlist_line_by_line() -> None:
    playlist = playing(1, parts=1)
    assert playlist.render(reports=[RenditionReport("../low/media.m3u8", 1, 0)]).splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:9",
        "#EXT-X-TARGETDURATION:4",
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=24.0,PART-HOLD-BACK=1.500,HOLD-BACK=12.0",
        "#EXT-X-PART-INF:PART-TARGET=0.500",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-DISCONTINUITY-SEQUENCE:0",
        '#EXT-X-MAP:URI="init-0.mp4"',
        "#EXT-X-PROGRAM-DATE-TIME:2026-05-01T12:00:00.000Z",
        '#EXT-X-PART:DURATION=0.50000,URI="part-0.0.m4s",INDEPENDENT=YES',
        '#EXT-X-PART:DURATION=0.50000,URI="part-0.1.m4s"',
        '#EXT-X-PART:DURATION=0.50000,URI="part-0.2.m4s"',
        '#EXT-X-PART:DURATION=0.50000,URI="part-0.3.m4s"',
        "#EXTINF:2.00000,",
        "seg-0.m4s",
        "#EXT-X-PROGRAM-DATE-TIME:2026-05-01T12:00:02.000Z",
        '#EXT-X-PART:DURATION=0.50000,URI="part-1.0.m4s",INDEPENDENT=YES',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="part-1.1.m4s"',
        '#EXT-X-RENDITION-REPORT:URI="../low/media.m3u8",LAST-MSN=1,LAST-PART=0',
    ]


def test_parts_are_listed_near_the_end_only() -> None:
    text = playing(20).render()
    with_parts = {int(found) for found in re.findall(r"part-(\d+)\.0\.m4s\",INDEP", text)}
    assert with_parts == set(range(14, 20))
    assert text.endswith('URI="part-20.0.m4s"\n')


def test_what_left_the_playlist_stays_a_while_and_then_goes() -> None:
    playlist = playing(50)
    assert f"#EXT-X-MEDIA-SEQUENCE:{50 - LISTED_SEGMENTS - 1}" in playlist.render()
    assert playlist.segment(50 - KEPT_SEGMENTS) == bytes([50 - KEPT_SEGMENTS]) * 40
    assert playlist.segment(50 - KEPT_SEGMENTS - 1) is None
    assert playlist.part(49, 3) == bytes([49]) * 10
    assert playlist.part(49, 4) is None
    assert playlist.size == KEPT_SEGMENTS * 40
    assert playlist.evicted == 0


def test_memory_is_bounded_in_bytes_and_what_went_is_counted() -> None:
    playlist = playing(20, size=1000, kept_bytes=30_000)
    assert playlist.size <= 30_000
    assert playlist.evicted == 13
    assert "#EXT-X-MEDIA-SEQUENCE:13\n" in playlist.render()


def test_a_delta_update_says_how_much_it_skips_and_the_rest_is_the_same() -> None:
    playlist = playing(30, parts=2)
    whole, delta = playlist.render(), playlist.render(skip=True)
    (skipped,) = re.findall(r"#EXT-X-SKIP:SKIPPED-SEGMENTS=(\d+)", delta)
    assert int(skipped) == 18
    assert len(re.findall("#EXTINF", whole)) == int(skipped) + len(re.findall("#EXTINF", delta))
    assert whole.endswith(delta[delta.index("#EXT-X-PROGRAM-DATE-TIME") :])
    assert len(delta) < 0.7 * len(whole)
    assert "EXT-X-SKIP" not in playing(5).render(skip=True)


def test_another_init_is_a_discontinuity_that_is_counted_when_it_has_gone() -> None:
    playlist = playing(3)
    playlist.begin(b"other")
    playlist.add(Part(b"x", 0.5, True), NOON)
    text = playlist.render()
    assert '#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="init-1.mp4"\n' in text
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:0\n" in text
    assert (playlist.init(0), playlist.init(1), playlist.init(2)) == (b"init", b"other", None)
    for _ in range(60):
        playlist.end_segment()
        playlist.add(Part(b"x", 2.0, True), NOON)
    text = playlist.render()
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:1\n" in text
    assert "#EXT-X-DISCONTINUITY\n" not in text
    assert playlist.init(0) is None
    assert text.count('#EXT-X-MAP:URI="init-1.mp4"') == 1


def test_the_end_is_said() -> None:
    playlist = playing(2, parts=2)
    playlist.end()
    text = playlist.render()
    assert text.endswith("#EXTINF:1.00000,\nseg-2.m4s\n#EXT-X-ENDLIST\n")
    assert playlist.has(99, 0)
    with pytest.raises(ValueError, match="outside"):
        playlist.add(Part(b"x", 0.5, True), NOON)


def test_what_is_there_and_what_is_too_far() -> None:
    playlist = playing(3, parts=2)  # segments 0-2, parts 3.0 and 3.1
    assert playlist.next_part == (3, 2)
    assert [playlist.has(2, None), playlist.has(3, None)] == [True, False]
    assert [playlist.has(3, 1), playlist.has(3, 2), playlist.has(2, 99)] == [True, False, True]
    assert [playlist.too_far(4, None), playlist.too_far(5, None)] == [False, True]
    assert playlist.too_far(3, 99)


def test_parts_that_will_never_be_are_told_from_those_that_come() -> None:
    playlist = playing(2, parts=2)  # segments 0 and 1, parts 2.0 and 2.1
    assert not playlist.beyond_parts(1, 2), "part 2.0 is there"
    assert not playlist.beyond_parts(2, 2), "it may come"
    playlist.add(Part(b"x", 1.7, False), NOON)  # a pause: segment 3, without parts
    assert playlist.has(2, 2)
    assert playlist.beyond_parts(2, 2)
    assert not any(playlist.beyond_parts(*asked) for asked in ((2, 1), (2, None), (3, 0), (4, 0)))
    playlist.add(Part(b"x", 0.5, True), NOON)
    assert not playlist.beyond_parts(2, 2)


@given(st.lists(st.tuples(st.floats(0.02, 0.5), st.booleans()), min_size=1, max_size=120))
def test_no_segment_is_longer_than_the_target(parts: list[tuple[float, bool]]) -> None:
    playlist = LivePlaylist()
    playlist.begin(b"i")
    for duration, key in parts:
        if key and playlist.key_wanted:
            playlist.end_segment()
        playlist.add(Part(b"x", duration, key), NOON)
    text = playlist.render()
    assert all(float(found) <= TARGET_DURATION + 0.001 for found in re.findall(r"#EXTINF:([\d.]+)", text))
    numbers = [int(found) for found in re.findall(r"seg-(\d+)\.m4s", text)]
    assert numbers == list(range(len(numbers)))


def test_a_later_run_is_numbered_above_an_earlier_one() -> None:
    playlist = LivePlaylist(first=1_700_000_000)
    assert not playlist.begun
    assert playlist.has(57, 3)  # of an earlier run: answered at once, with where we are
    assert not playlist.has(1_700_000_000, 0)
    playlist.begin(b"i")
    playlist.add(Part(b"x", 0.5, True), NOON)
    text = playlist.render()
    assert playlist.begun
    assert "#EXT-X-MEDIA-SEQUENCE:1700000000\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n" in text
    assert '#EXT-X-MAP:URI="init-1700000000.mp4"\n' in text
    assert 'URI="part-1700000000.0.m4s",INDEPENDENT=YES' in text
    assert playlist.init(1_700_000_000) == b"i"


def test_what_is_forgotten_leaves_the_text() -> None:
    playlist = playing(3, parts=2)
    playlist.end()
    text = playlist.render()
    playlist.forget()
    assert playlist.render() == text
    assert (playlist.size, playlist.segment(0), playlist.init(0)) == (0, None, None)
