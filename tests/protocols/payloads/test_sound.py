"""Opus, G.711 and telephone events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.payloads import Frame
from protocols.payloads.g711 import G711Depacketizer, G711Framer, G711Packetizer, Law
from protocols.payloads.opus import (
    MalformedOpus,
    OpusDepacketizer,
    OpusPacketizer,
    is_stereo,
    packet_duration,
)
from protocols.payloads.telephone_event import MalformedEvent, TelephoneEvent, TelephoneEventReceiver


@pytest.mark.parametrize(
    ("toc", "duration"),
    [
        (0x00, 480),  # SILK 10 ms
        (0x18, 2880),  # SILK 60 ms
        (0x68, 960),  # hybrid 20 ms
        (0x80, 120),  # CELT 2.5 ms
        (0xFC, 960),  # CELT 20 ms, stereo
        (0xFD, 1920),  # two frames
        (0xF3, None),
    ],
)
def test_opus_durations_of_rfc_6716(toc: int, duration: int | None) -> None:
    if duration is None:
        assert packet_duration(bytes([toc, 0x05])) == 5 * 480
        with pytest.raises(MalformedOpus):
            packet_duration(bytes([toc]))
        with pytest.raises(MalformedOpus):
            packet_duration(bytes([toc, 0x3F]))
    else:
        assert packet_duration(bytes([toc, 1])) == duration


def test_opus_payloads_are_packets() -> None:
    assert OpusPacketizer().packetize(b"\xfc\x01\x02") == [b"\xfc\x01\x02"]
    assert is_stereo(b"\xfc")
    depacketizer = OpusDepacketizer()
    assert depacketizer.push(b"\xfc\x01", 960, False) == [Frame(b"\xfc\x01", 960, keyframe=True)]
    assert depacketizer.push(b"\x03", 1920, False) == []
    assert depacketizer.malformed == 1
    with pytest.raises(MalformedOpus):
        OpusPacketizer().packetize(b"")


@given(st.lists(st.binary(max_size=700), max_size=8), st.sampled_from([10, 20, 30]))
def test_g711_framer_cuts_without_losing_a_sample(runs: list[bytes], ptime: int) -> None:
    framer, out, timestamp = G711Framer(ptime), list[Frame](), 1000
    for run in runs:
        out += framer.push(run, timestamp)
        timestamp += len(run)
    everything = b"".join(runs)
    size = 8 * ptime
    assert [frame.data for frame in out] == [
        everything[at : at + size] for at in range(0, len(everything) - size + 1, size)
    ]
    assert [frame.timestamp for frame in out] == [1000 + size * n for n in range(len(out))]


def test_g711_framer_does_not_join_over_a_gap() -> None:
    framer = G711Framer(20)
    assert framer.push(b"a" * 100, 0) == []
    assert framer.push(b"b" * 160, 500) == [Frame(b"b" * 160, 500, keyframe=True)]


def test_g711_payloads() -> None:
    assert (Law.A.encoding_name, Law.A.payload_type, Law.A.silence(2)) == ("PCMA", 8, b"\xd5\xd5")
    assert (Law.MU.encoding_name, Law.MU.payload_type, Law.MU.silence(1)) == ("PCMU", 0, b"\xff")
    assert G711Packetizer().packetize(b"x" * 160) == [b"x" * 160]
    depacketizer = G711Depacketizer()
    assert depacketizer.push(b"x" * 160, 5, False) == [Frame(b"x" * 160, 5, keyframe=True)]
    assert depacketizer.push(b"x" * 2000, 5, False) == []
    assert depacketizer.malformed == 1
    with pytest.raises(ValueError, match="frame of 0 bytes"):
        G711Packetizer().packetize(b"")


@given(st.integers(0, 255), st.booleans(), st.integers(0, 63), st.integers(0, 0xFFFF))
def test_telephone_events_parse_back(event: int, end: bool, volume: int, duration: int) -> None:
    value = TelephoneEvent(event, end, volume, duration)
    assert TelephoneEvent.parse(bytes(value)) == value


def test_telephone_event_bytes() -> None:
    event = TelephoneEvent.parse(bytes.fromhex("0b8a0320"))
    assert event == TelephoneEvent(11, end=True, volume=10, duration=800)
    assert event.digit == "#"
    assert TelephoneEvent(16, False, 0, 0).digit is None
    with pytest.raises(MalformedEvent):
        TelephoneEvent.parse(b"\x0b\x8a\x03")


def press(event: int, timestamp: int, packets: range) -> list[tuple[bytes, int, bool]]:
    """A key pressed 100 ms: a packet every 20 ms, the end three times (RFC 4733 2.5.1.4)."""
    rows = [(TelephoneEvent(event, False, 10, 160 * (n + 1)), timestamp, n == 0) for n in range(5)]
    rows += [(TelephoneEvent(event, True, 10, 800), timestamp, False)] * 3
    return [(bytes(rows[n][0]), rows[n][1], rows[n][2]) for n in packets]


@given(st.lists(st.tuples(st.integers(0, 15), st.sets(st.integers(0, 7), min_size=1)), max_size=12))
def test_each_press_is_given_once_whatever_of_it_comes(presses: list[tuple[int, set[int]]]) -> None:
    receiver, digits = TelephoneEventReceiver(), list[int]()
    for number, (event, kept) in enumerate(presses):
        rows = press(event, number * 4000, range(8))
        for index in sorted(kept):
            given_event = receiver.push(*rows[index])
            digits += [given_event.event] if given_event else []
    assert digits == [event for event, _ in presses]


def test_a_segmented_or_advancing_event_is_one_event() -> None:
    receiver = TelephoneEventReceiver()
    assert receiver.push(bytes(TelephoneEvent(5, False, 10, 0xFFFF)), 0, True)
    assert receiver.push(bytes(TelephoneEvent(5, False, 10, 160)), 0xFFFF, False) is None
    for n in range(1, 6):
        assert receiver.push(bytes(TelephoneEvent(5, False, 10, 160 * n)), 0xFFFF + 160 * n, False) is None
    assert receiver.push(bytes(TelephoneEvent(5, False, 10, 160)), 0x10000 + 2000, True)
    assert receiver.push(bytes(TelephoneEvent(7, False, 10, 160)), 0x10000 + 3000, True)
    assert receiver.push(bytes(TelephoneEvent(5, True, 10, 160)), 0x10000 + 2000, False) is None
    assert receiver.push(b"x", 0, False) is None
    assert receiver.malformed == 1
