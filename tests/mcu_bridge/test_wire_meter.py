"""Windows of one second, whatever the sampling is like."""

from collections.abc import Sequence
from typing import cast

from mcu_bridge.wire_meter import WireMeter
from media.transport import MediaTransport, WireCounters


class Wire:
    def __init__(self) -> None:
        self.counters = WireCounters()


def wires(*made: Wire) -> Sequence[MediaTransport]:
    return cast(Sequence[MediaTransport], made)


def test_a_steady_flow_is_measured_as_it_is() -> None:
    meter, wire = WireMeter(), Wire()
    for tenth in range(50):
        wire.counters.bytes_sent += 1000
        wire.counters.bytes_received += 500
        meter.sample(wires(wire), tenth / 10)
    assert meter.last_second == (10_000, 5_000)
    assert (meter.peak_sent, meter.peak_received) == (10_000, 5_000)
    assert meter.totals(wires(wire)) == (50_000, 25_000)


def test_a_stall_is_not_counted_as_one_second() -> None:
    meter, wire = WireMeter(), Wire()
    now = 0.0
    for step in range(60):
        pause = 0.1 if step % 20 else 1.7
        now += pause
        wire.counters.bytes_sent += round(10_000 * pause)  # the flow itself keeps to its rate
        meter.sample(wires(wire), now)
    assert meter.peak_sent <= 10_001


def test_a_replaced_transport_still_counts() -> None:
    meter, old, new = WireMeter(), Wire(), Wire()
    old.counters.bytes_sent = 700
    meter.sample(wires(old), 0.0)
    meter.retire(wires(old)[0])
    new.counters.bytes_sent = 50
    meter.sample(wires(new), 0.1)
    assert meter.totals(wires(new)) == (750, 0)
    assert meter.last_second == (50, 0)
