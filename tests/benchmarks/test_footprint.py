"""What watches processes and counts packets in benchmarks: it must see a leak, a hole and nothing else."""

import os
import socket
from dataclasses import replace

import pytest

from benchmarks._crowd import Counted
from benchmarks.footprint import Footprint, footprint, grown, slope_mb_a_minute


def test_a_process_that_opens_a_port_holds_one_descriptor_and_one_port_more() -> None:
    before = footprint(os.getpid())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        after = footprint(os.getpid())
    assert before.rss_mb > 10
    more = grown(before, replace(after, threads=before.threads))
    assert more == {"descriptors": 1, "udp_ports": 1}
    assert grown(after, replace(before, threads=after.threads)) == {}


def test_growth_is_fitted_over_what_came_after_the_settling() -> None:
    steep = [Footprint(5.0 * n, 300.0 - n, 1, 1, 1) for n in range(12)]
    calm = [Footprint(60.0 + 5 * n, 200.0 + n / 24, 1, 1, 1) for n in range(120)]
    assert slope_mb_a_minute([*steep, *calm], 60.0) == pytest.approx(0.5)
    assert slope_mb_a_minute(steep, 60.0) == 0.0


@pytest.mark.parametrize("first", [10, 65_500])
def test_lost_packets_are_the_holes_in_the_numbers_whatever_their_order(first: int) -> None:
    counted = Counted()
    for place in (0, 1, 2, 5, 4, 6, 60, 61):
        counted.take((first + place) & 0xFFFF, place == 6)
    assert counted.lost == 62 - 8
    assert (counted.packets, counted.frames) == (8, 1)
    assert Counted().lost == 0
