"""When a site's picture is held back, and when no longer."""

from __future__ import annotations

from mcu_bridge.sender_flow import MOST_PATIENCE, PATIENCE, Demand


def held(demand: Demand, since: float, until: float, *, needed: bool) -> list[float]:
    """From when on it was held back, looked at twice a second."""
    times = [since + n / 2 for n in range(round((until - since) * 2))]
    return [now for now in times if demand.look(needed=needed, now=now)][:1]


def test_who_is_not_needed_for_a_while_is_held_back_and_who_is_needed_is_not_at_once() -> None:
    demand = Demand(100.0)
    assert held(demand, 100.0, 110.0, needed=False) == []
    assert demand.look(needed=False, now=100.0 + PATIENCE)
    assert not demand.look(needed=True, now=200.0)
    assert held(demand, 200.0, 300.0, needed=True) == []
    assert held(demand, 300.0, 320.0, needed=False) == [309.5]


def test_a_short_pause_changes_nothing() -> None:
    demand = Demand(0.0)
    for turn in range(20):
        at = 12.0 * turn
        assert held(demand, at, at + 8.0, needed=False) == []
        assert held(demand, at + 8.0, at + 12.0, needed=True) == []


def test_who_alternates_is_held_back_later_and_later_and_after_a_calm_time_as_before() -> None:
    demand, now, waits = Demand(0.0), 0.0, []
    for _ in range(5):
        demand.look(needed=True, now=now)
        (since,) = held(demand, now, now + 100.0, needed=False)
        waits.append(since - now)
        now = since + 5.0
        assert demand.look(needed=False, now=now)
    assert waits == [10.0, 20.0, 40.0, MOST_PATIENCE, MOST_PATIENCE]
    now += 100.0
    assert not demand.look(needed=True, now=now)
    assert held(demand, now, now + 20.0, needed=False) == [now + PATIENCE]
