"""Time stamps of a camera that restarts, jumps, or only sends late or out of order."""

from __future__ import annotations

import itertools

import pytest

from media.packet import Packet
from stream_relay.rejoiner import Rejoiner

RATE = 90_000


def packet(seconds: float, arrival: float) -> Packet:
    return Packet(b"", round(seconds * RATE), arrival)


def carried(*times: tuple[float, float], rejoiner: Rejoiner | None = None) -> list[float]:
    """Media times, in seconds, of packets with these time stamps and arrivals."""
    rejoiner = rejoiner or Rejoiner(RATE)
    return [rejoiner.carry(packet(*one)).pts / RATE for one in times]


@pytest.mark.parametrize("jump", [-1.68, -40_000.0, 11.0, 40_000.0])
def test_a_jump_in_mid_stream_is_what_passed_here(jump: float) -> None:
    times = [(0.0, 7.0), (0.04, 7.04), (0.08 + jump, 7.09), (0.12 + jump, 7.13)]
    assert carried(*times) == pytest.approx([0.0, 0.04, 0.09, 0.13])


def test_pictures_out_of_order_and_a_network_that_held_up_are_no_jumps() -> None:
    reordered = [(0.0, 1.0), (0.12, 1.04), (0.04, 1.08), (0.08, 1.12)]
    assert carried(*reordered) == pytest.approx([0.0, 0.12, 0.04, 0.08])
    held_up = [(0.0, 1.0), (0.04, 5.0), (0.08, 5.0), (4.0, 5.0), (4.04, 5.04)]
    assert carried(*held_up) == pytest.approx([0.0, 0.04, 0.08, 4.0, 4.04])


def test_a_pause_is_as_long_as_it_was() -> None:
    assert carried((0.0, 1.0), (60.0, 61.0)) == pytest.approx([0.0, 60.0])


def test_another_pull_goes_on_where_the_last_one_ended() -> None:
    rejoiner = Rejoiner(RATE)
    assert carried((500.0, 1.0), (500.04, 1.04), rejoiner=rejoiner) == pytest.approx([500.0, 500.04])
    rejoiner.break_off()
    assert carried((3.0, 2.54), (3.04, 2.58), rejoiner=rejoiner) == pytest.approx([501.54, 501.58])
    rejoiner.break_off()
    assert carried((3.1, 2.58), rejoiner=rejoiner)[0] > 501.58  # never twice the same


def test_no_step_back_beyond_reordering_comes_out() -> None:
    rejoiner, at = Rejoiner(RATE), 0.0
    out = []
    for number in range(400):
        at += -3.0 if number % 50 == 49 else 0.04
        out.append(carried((at, number * 0.04), rejoiner=rejoiner)[0])
    assert all(later > earlier for earlier, later in itertools.pairwise(out))
    assert out[-1] == pytest.approx(399 * 0.04, abs=0.05)
