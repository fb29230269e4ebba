"""Tracks on scripted looks."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from analytics.detection import Box, Detection
from analytics.tracker import MOST_TRACKS, Tracker
from tests.analytics.looks import person


def ids(tracker: Tracker, at: float, *detections: Detection) -> list[int]:
    return [track.id for track in tracker.update(at, detections)]


def test_a_walker_keeps_the_id_at_one_look_a_second() -> None:
    tracker = Tracker()
    for second in range(8):  # no overlap between two looks: the box is 0.1 wide
        assert ids(tracker, second, person(0.1 + 0.11 * second, 0.8)) == [1]
    (track,) = tracker.known
    assert (track.looks, track.first_seen, track.last_seen) == (8, 0, 7)


def test_two_who_cross_keep_their_ids() -> None:
    tracker = Tracker()
    seen = [ids(tracker, t / 2, person(0.2 + t * 0.04, 0.8), person(0.8 - t * 0.04, 0.8)) for t in range(16)]
    assert seen == [[1, 2]] * 16


def test_a_loss_of_some_looks_is_survived_and_a_long_one_is_not() -> None:
    tracker = Tracker(patience=6)
    assert ids(tracker, 0, person(0.5, 0.8)) == [1]
    assert ids(tracker, 1) == ids(tracker, 3) == []
    assert ids(tracker, 4, person(0.52, 0.8)) == [1]
    assert ids(tracker, 10.5, person(0.52, 0.8)) == [2]
    assert [track.id for track in tracker.known] == [2]


def test_hidden_behind_a_post_while_walking_on() -> None:
    tracker = Tracker()
    for second in range(4):
        ids(tracker, second, person(0.1 + 0.1 * second, 0.8))
    ids(tracker, 4)
    assert ids(tracker, 5, person(0.6, 0.8)) == [1]


def test_whoever_stands_still_while_nobody_looks_stays() -> None:
    tracker = Tracker(patience=3)
    ids(tracker, 0, person(0.5, 0.8))
    for second in range(1, 60):
        tracker.hold(second)
    assert ids(tracker, 61, person(0.5, 0.8)) == [1]
    ids(tracker, 62)
    tracker.hold(66)
    assert ids(tracker, 67, person(0.5, 0.8)) == [2]


def test_another_label_or_size_is_somebody_else() -> None:
    tracker = Tracker()
    assert ids(tracker, 0, person(0.5, 0.8)) == [1]
    assert ids(tracker, 1, person(0.5, 0.8, label="dog")) == [2]
    assert ids(tracker, 1.5, person(0.62, 0.8, height=0.1)) == [3]


def test_a_second_box_on_the_same_person_takes_nobodys_id() -> None:
    tracker = Tracker()
    ids(tracker, 0, person(0.5, 0.8))
    assert ids(tracker, 1, person(0.53, 0.8), person(0.5, 0.8)) == [2, 1]


boxes = st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 0.1), st.floats(0, 0.1)).map(
    lambda sides: Box(sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3])
)
looks = st.lists(
    st.lists(st.builds(Detection, st.sampled_from(["person", "dog"]), st.floats(0, 1), boxes), max_size=6),
    max_size=8,
)


@given(looks)
def test_each_detection_has_one_track_of_its_label(looks: Sequence[Sequence[Detection]]) -> None:
    tracker, labels = Tracker(), dict[int, str]()
    for at, detections in enumerate(looks):
        tracks = tracker.update(at, detections)
        assert [track.box for track in tracks] == [detection.box for detection in detections]
        assert len({track.id for track in tracks}) == len(tracks)
        for track, detection in zip(tracks, detections, strict=True):
            assert labels.setdefault(track.id, track.label) == detection.label
            assert track.first_seen <= track.last_seen == at


@given(looks)
def test_the_same_looks_give_the_same_tracks(looks: Sequence[Sequence[Detection]]) -> None:
    first, second = Tracker(), Tracker()
    for at, detections in enumerate(looks):
        assert first.update(at, detections) == second.update(at, detections)


def test_a_model_gone_astray_is_bounded() -> None:
    detections = [person(n / 1000, 0.9, height=0.001, score=n / 1000) for n in range(1000)]
    tracker = Tracker()
    assert len(tracker.update(0, detections)) == MOST_TRACKS
    assert min(track.score for track in tracker.known) > 0.7
