"""Requests for key frames: soon where the last one was answered, rare in the long run, rarer into silence."""

from __future__ import annotations

from itertools import pairwise

from media.keyframe_requests import KeyframeRequests


def asked(requests: KeyframeRequests, since: float, until: float) -> list[float]:
    """When a request went out, looked at each 20 ms."""
    ticks = [round(since + 0.02 * n, 2) for n in range(round((until - since) / 0.02))]
    return [at for at in ticks if requests.due(at)]


def test_the_next_request_after_an_answered_one_comes_soon() -> None:
    requests = KeyframeRequests()
    requests.want(10.0)
    assert requests.due(10.0)
    requests.came()
    requests.want(10.1)
    assert asked(requests, 10.1, 11.0) == [10.3]


def test_the_next_request_after_one_without_an_answer_keeps_its_distance() -> None:
    requests = KeyframeRequests()
    requests.want(10.0)
    assert requests.due(10.0)
    requests.want(10.1)
    assert asked(requests, 10.1, 20.0) == [11.0, 13.0, 17.0]


def test_many_switches_cost_one_key_frame_a_second_in_the_long_run() -> None:
    requests, times = KeyframeRequests(), []
    for n in range(1500):  # 30 s, somebody wants one at every tick, and each is answered at once
        now = 100.0 + 0.02 * n
        requests.want(now)
        if requests.due(now):
            times.append(round(now - 100.0, 2))
            requests.came()
    assert times[:3] == [0.0, 0.3, 0.6]
    assert 30 <= len(times) <= 34, times
    assert all(later - sooner >= 0.29 for sooner, later in pairwise(times))


def test_a_calm_time_allows_quick_switches_again() -> None:
    requests = KeyframeRequests()
    for n in range(8):
        requests.want(float(n))
        assert requests.due(float(n))
        requests.came()
    for wanted, expected in ((20.0, 20.0), (20.04, 20.3), (20.34, 20.6)):
        requests.want(wanted)
        assert asked(requests, wanted, wanted + 1.0)[:1] == [expected]
        requests.came()


def test_a_spacing_of_its_own_is_never_exceeded() -> None:
    requests = KeyframeRequests(spacing=0.1)
    requests.want(0.0)
    assert requests.due(0.0)
    requests.came()
    requests.want(0.02)
    assert asked(requests, 0.02, 0.3)[0] == 0.1
