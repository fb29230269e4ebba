"""AAC over RTP: aggregates, fragments, losses, rubbish."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.payloads.aac import (
    AacDepacketizer,
    AacPacketizer,
    AacParameters,
    AudioSpecificConfig,
    MalformedAac,
)

PARAMETERS = AacParameters.of({"mode": "AAC-hbr", "config": "1190", "sizelength": "13"})


def test_a_configuration() -> None:
    assert PARAMETERS.config == AudioSpecificConfig(2, 48000, 2, 1024)
    assert AudioSpecificConfig.parse(bytes.fromhex("1408")).sample_rate == 16000
    for parameters in ({"config": ""}, {"config": "zz"}, {"mode": "AAC-lbr", "config": "1190"}):
        with pytest.raises(MalformedAac):
            AacParameters.of(parameters)


@given(st.binary(min_size=1, max_size=8191), st.integers(40, 1400))
def test_an_access_unit_comes_back_whole(unit: bytes, size: int) -> None:
    payloads = AacPacketizer(size).packetize(unit)
    assert all(len(payload) <= size for payload in payloads)
    receiver = AacDepacketizer(PARAMETERS)
    frames = [
        frame
        for number, payload in enumerate(payloads, 1)
        for frame in receiver.push(payload, 500, number == len(payloads))
    ]
    assert [(frame.data, frame.timestamp) for frame in frames] == [(unit, 500)]
    assert receiver.malformed == 0


def test_units_behind_the_first_are_dated_by_their_length() -> None:
    payload = b"\x00\x20" + (3 << 3).to_bytes(2, "big") + (2 << 3).to_bytes(2, "big") + b"abcde"
    frames = AacDepacketizer(PARAMETERS).push(payload, 7000, True)
    assert [(frame.data, frame.timestamp) for frame in frames] == [(b"abc", 7000), (b"de", 8024)]


def test_a_unit_with_a_lost_fragment_is_dropped_and_the_next_taken() -> None:
    first, second, third = AacPacketizer(104).packetize(bytes(250))
    receiver = AacDepacketizer(PARAMETERS)
    assert receiver.push(first, 0, False) == []
    assert receiver.push(third, 0, True, after_loss=True) == []
    (frame,) = receiver.push(AacPacketizer().packetize(b"next")[0], 1024, True)
    assert frame.data == b"next"
    assert second[:4] == first[:4]
    assert receiver.malformed == 2


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_rubbish_never_raises(payloads: list[bytes]) -> None:
    receiver = AacDepacketizer(PARAMETERS)
    for number, payload in enumerate(payloads):
        for frame in receiver.push(payload, number, True):
            assert frame.data
    receiver.flush()


def test_what_does_not_fit_is_refused() -> None:
    for unit in (b"", bytes(8192)):
        with pytest.raises(ValueError, match="access unit"):
            AacPacketizer().packetize(unit)
