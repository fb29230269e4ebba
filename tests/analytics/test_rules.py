"""Rules on scripted looks: what they flag, when, how often, and what they must not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.rule_kinds import RULE_KINDS, ParameterFault, settled
from analytics.rules import Flag, Over, make_judge
from foundation.desks import RuleSpec
from tests.analytics.looks import Scene, person, sample

RIGHT_HALF = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))


def scene(kind: str, zone: tuple[tuple[float, float], ...] = RIGHT_HALF, **parameters: Any) -> Scene:
    needs = RULE_KINDS[kind].needs_zone
    return Scene(make_judge(RuleSpec("r1", "gate", kind, "禁区", zone if needs else (), parameters)))


# --- person in zone -----------------------------------------------------------------------------------


def test_whoever_walks_in_is_flagged_at_the_third_look_and_over_when_gone() -> None:
    watched = scene("person-in-zone", inside=3, of=5, outside=3)
    for second in range(8):
        watched.see(second, person(0.25 + 0.1 * second, 0.8))  # inside from 0.55 at 3
    assert watched.said == [(5, "Flag")]
    for second in range(8, 20):
        watched.see(second)
    assert watched.said == [(5, "Flag"), (10, "Over")]


@pytest.mark.parametrize("score", [0.5, 0.99])
def test_one_errant_look_is_nothing(score: float) -> None:
    watched = scene("person-in-zone", inside=2, of=5)
    for minute in range(5):
        watched.see(60 * minute, person(0.7, 0.8, score=score))
        for second in range(1, 10):
            watched.see(60 * minute + second)
    assert watched.said == []


def test_errant_looks_here_and_there_do_not_add_up() -> None:
    watched = scene("person-in-zone", inside=3, of=5)
    places = [(0.55, 0.3), (0.95, 0.95), (0.6, 0.9), (0.9, 0.35), (0.55, 0.6)]
    for second in range(50):
        x, y = places[second % 5]
        watched.see(second, *([person(x, y, height=0.1)] if second % 2 else []))
    assert watched.said == []


def test_an_errant_box_on_a_closed_gate_is_not_multiplied_by_standing_still() -> None:
    watched = scene("person-in-zone", inside=2, of=5)
    watched.see(0, person(0.7, 0.8))
    for second in range(1, 5):
        watched.gate_shut(second)
    watched.see(5)
    assert watched.said == []


def test_a_walk_past_the_zone_is_nothing_though_the_box_reaches_into_it() -> None:
    watched = scene("person-in-zone", zone=((0.0, 0.0), (1.0, 0.0), (1.0, 0.7), (0.0, 0.7)))
    for second in range(20):
        watched.see(second, person(0.05 * second, 0.8, height=0.5))  # head inside, feet below
    assert watched.said == []


def test_unsure_ones_and_other_things_do_not_count() -> None:
    watched = scene("person-in-zone", score=0.6)
    for second in range(20):
        watched.see(second, person(0.7, 0.8, score=0.55), person(0.8, 0.5, label="dog"))
    assert watched.said == []


def test_lost_looks_within_the_window_do_no_harm() -> None:
    watched = scene("person-in-zone", inside=3, of=5)
    for second, seen in enumerate([1, 0, 1, 0, 1]):
        watched.see(second, *([person(0.7, 0.8)] if seen else []))
    assert watched.said == [(4, "Flag")]


def test_two_who_cross_in_the_zone_are_one_violation() -> None:
    watched = scene("person-in-zone", outside=3)
    for t in range(20):
        watched.see(t / 2, person(0.52 + t * 0.02, 0.8), person(0.95 - t * 0.02, 0.8))
    for t in range(20, 30):
        watched.see(t / 2, person(0.95 - t * 0.02, 0.8))  # one leaves, the other walks out
    for t in range(30, 40):
        watched.see(t / 2)
    assert [what for _, what in watched.said] == ["Flag", "Over"]


def test_a_cool_down_keeps_a_busy_border_quiet_but_lets_nobody_stay() -> None:
    watched = scene("person-in-zone", inside=2, of=3, outside=2, cool_down=20)
    for second in range(5):
        watched.see(second, person(0.7, 0.8))
    for second in range(5, 8):
        watched.see(second)
    assert watched.said == [(1, "Flag"), (6, "Over")]
    for second in range(8, 30):
        watched.see(second, person(0.7, 0.8))
    assert watched.said[2:] == [(26, "Flag")]


def test_the_best_look_so_far_is_the_evidence_with_all_who_stood_there() -> None:
    watched = scene("person-in-zone", inside=3, of=5)
    scores = [0.6, 0.95, 0.7]
    for second, score in enumerate(scores):
        watched.see(
            second, person(0.7, 0.8, score=score), person(0.2, 0.8), person(0.9, 0.5, height=0.2, score=0.55)
        )
    ((at, verdict),) = watched.verdicts
    assert isinstance(verdict, Flag)
    assert (at, verdict.score) == (2, 0.95)
    assert verdict.sample is not None
    assert verdict.sample.arrival == 1
    assert [shown.score for shown in verdict.shown] == [0.95, 0.55]


def test_after_a_restart_it_goes_on_until_they_have_left() -> None:
    watched = scene("person-in-zone", outside=3)
    watched.judge.resume(0)
    for second in range(1, 6):
        watched.see(second, person(0.7, 0.8))
    assert watched.said == []
    for second in range(6, 12):
        watched.see(second)
    assert watched.said == [(8, "Over")]


def test_after_a_restart_with_nobody_there_it_is_over() -> None:
    watched = scene("loitering", tolerance=5)
    watched.judge.resume(0)
    for second in range(1, 12):
        watched.see(second)
    assert watched.said == [(6, "Over")]


def test_a_lost_stream_ends_it_after_a_while() -> None:
    watched = scene("person-in-zone")
    for second in range(4):
        watched.see(second, person(0.7, 0.8))
    watched.lose(5, since=3)
    assert watched.said == [(2, "Flag")]
    watched.lose(14, since=3)
    assert watched.said == [(2, "Flag"), (14, "Over")]
    watched.lose(60, since=3)
    assert len(watched.said) == 2


def test_outside_the_schedule_it_ends_and_starts_anew() -> None:
    watched = scene("person-in-zone", inside=2, of=2)
    for second in range(3):
        watched.see(second, person(0.7, 0.8))
    assert isinstance(watched.judge.rest(), Over)
    assert watched.judge.rest() is None
    watched.see(10, person(0.7, 0.8))
    assert len(watched.said) == 1
    watched.see(11, person(0.7, 0.8))
    assert watched.said[1:] == [(11, "Flag")]


# --- loitering ----------------------------------------------------------------------------------------


def test_who_stays_is_flagged_after_the_seconds_and_who_passes_is_not() -> None:
    watched = scene("loitering", seconds=20)
    for second in range(40):
        x = 0.05 * second if second < 20 else 0.0
        watched.see(second, person(0.8, 0.9 + 0.01 * (second % 3)), person(x, 0.4))
    assert watched.said == [(20, "Flag")]


def test_short_losses_do_not_start_the_clock_again_and_long_ones_do() -> None:
    watched = scene("loitering", seconds=20, tolerance=4)
    for second in range(60):
        hidden = second % 10 in (5, 6, 7)
        watched.see(second, *([] if hidden else [person(0.8, 0.9)]))
    assert watched.said == [(20, "Flag")]
    watched = scene("loitering", seconds=20, tolerance=4)
    for second in range(60):
        watched.see(second, *([] if second % 15 in (5, 6, 7, 8, 9) else [person(0.8, 0.9)]))
    assert watched.said == []


def test_standing_still_before_a_shut_gate_is_loitering_at_the_next_look() -> None:
    watched = scene("loitering", seconds=30)
    for second in range(60):
        if second % 5 == 0:
            watched.see(second, person(0.8, 0.9))
        else:
            watched.gate_shut(second)
    assert watched.said == [(30, "Flag")]


def test_pacing_in_and_out_is_no_stay() -> None:
    watched = scene("loitering", seconds=20, tolerance=3)
    for second in range(80):
        phase = second % 16
        watched.see(second, person(0.3 + 0.05 * min(phase, 16 - phase), 0.8))
    assert watched.said == []


# --- stream lost --------------------------------------------------------------------------------------


def test_a_camera_that_is_dead_for_days_is_one_violation() -> None:
    watched = scene("stream-lost", seconds=30, recovery=60)
    watched.see(0)
    for at in range(1, 3 * 86_400, 15):
        watched.lose(at, since=0)
    assert watched.said == [(31, "Flag")]
    ((_, verdict),) = watched.verdicts
    assert isinstance(verdict, Flag)
    assert verdict.sample is not None
    assert verdict.sample.arrival == 0
    assert "last one before the loss: the camera does not answer" in verdict.lacking


def test_a_camera_that_never_came_is_flagged_without_a_picture() -> None:
    watched = scene("stream-lost", seconds=30)
    watched.lose(100, since=95)
    assert watched.said == []
    flag = watched.lose(125, since=95)
    assert isinstance(flag, Flag)
    assert flag.sample is None
    assert flag.lacking == "no picture came: the camera does not answer"


def test_a_camera_that_comes_and_goes_stays_one_violation_until_it_stays() -> None:
    watched = scene("stream-lost", seconds=10, recovery=60)
    at = 0
    for _ in range(20):
        for _ in range(15):
            at += 1
            watched.lose(at, since=at - at % 45)
        for _ in range(30):
            at += 1
            watched.see(at)
    assert [what for _, what in watched.said] == ["Flag"]
    for _ in range(61):
        at += 1
        watched.see(at)
    assert [what for _, what in watched.said] == ["Flag", "Over"]


def test_hiccups_are_not_a_loss() -> None:
    watched = scene("stream-lost", seconds=10)
    for at in range(0, 300, 10):
        watched.see(at)
        watched.lose(at + 5, since=at)
    assert watched.said == []


# --- parameters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RULE_KINDS)
def test_defaults_are_within_their_bounds(kind: str) -> None:
    values = settled(kind, {})
    for parameter in RULE_KINDS[kind].parameters:
        parameter.check(values[parameter.name])
    assert not make_judge(
        RuleSpec("r", "gate", kind, kind, RIGHT_HALF if kind == "loitering" else ())
    ).flagged


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("loitering", {"seconds": 0}, "seconds: 0 is not within 3 to 86400"),
        ("loitering", {"seconds": float("nan")}, "seconds: nan"),
        ("loitering", {"second": 5}, "second: loitering has no such parameter"),
        ("loitering", {"seconds": "5"}, "seconds: '5' is no number"),
        ("loitering", {"seconds": True}, "no number"),
        ("person-in-zone", {"inside": 2.5}, "inside: 2.5 is no whole number"),
        ("person-in-zone", {"inside": 1}, "inside: 1 is not within 2"),
        ("person-in-zone", {"inside": 4, "of": 3}, "inside: 4 looks cannot be among 3"),
    ],
)
def test_parameters_that_cannot_be(kind: str, given: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterFault, match=words):
        settled(kind, given)


@given(
    st.sampled_from(sorted(RULE_KINDS)),
    st.lists(
        st.tuples(st.sampled_from("slbr"), st.floats(0.1, 30), st.floats(0.4, 0.9), st.floats(0.2, 1)),
        max_size=40,
    ),
)
def test_a_flag_and_its_end_take_turns_whatever_comes(
    kind: str, steps: list[tuple[str, float, float, float]]
) -> None:
    watched, at, last = scene(kind), 0.0, 0.0
    said: list[str] = []
    for what, passed, x, y in steps:
        at += passed
        before = watched.judge.flagged
        match what:
            case "s":
                last = at
                verdict = watched.see(at, person(x, y))
            case "l":
                verdict = watched.lose(at, since=last)
            case "b":
                last = at
                verdict = watched.show(at, sample(at).picture)
            case _:
                verdict = watched.judge.rest()
        if verdict is not None:
            said.append(type(verdict).__name__)
        assert watched.judge.flagged is (before if verdict is None else isinstance(verdict, Flag))
    assert said == ["Flag", "Over"] * (len(said) // 2) + ["Flag"] * (len(said) % 2)
