"""What a caller keys in at the general number."""

from __future__ import annotations

from signaling.dial_plan import LONGEST, PATIENCE, TRIES, Chosen, DialPlan


def keyed(plan: DialPlan, keys: str) -> list[Chosen]:
    return [chosen for key in keys if (chosen := plan.press(key, 1.0)) is not None]


def test_number_and_pin() -> None:
    assert keyed(DialPlan(needs_pin=True, now=0), "8001#4711#") == [Chosen("8001", "4711")]
    assert keyed(DialPlan(needs_pin=False, now=0), "8001#") == [Chosen("8001", None)]


def test_a_star_takes_back_the_entry_and_nothing_else() -> None:
    assert keyed(DialPlan(needs_pin=True, now=0), "80*8001##9*A4711#") == [Chosen("8001", "4711")]


def test_an_endless_entry_is_wrong_not_cut_to_fit() -> None:
    (chosen,) = keyed(DialPlan(needs_pin=False, now=0), "1" * 500 + "#")
    assert len(chosen.number) == LONGEST + 1


def test_tries_and_patience() -> None:
    plan = DialPlan(needs_pin=True, now=10.0)
    assert plan.deadline == 10.0 + PATIENCE
    plan.press("1", 20.0)
    assert plan.deadline == 20.0 + PATIENCE
    outcomes = []
    for _ in range(TRIES):
        plan.press("7", 20.0)
        outcomes.append(plan.failed(30.0))
    assert outcomes == [True] * (TRIES - 1) + [False]
    assert keyed(plan, "8001#1#") == [Chosen("8001", "1")], "a failed try leaves nothing of its entry"
