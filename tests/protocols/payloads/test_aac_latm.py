"""AAC in LATM: its configuration as terminals write it, elements whole, in fragments and spoilt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.payloads.aac import AudioSpecificConfig, MalformedAac
from protocols.payloads.aac_latm import LatmDepacketizer, LatmPacketizer, StreamMuxConfig

CONFIG = StreamMuxConfig(AudioSpecificConfig(2, 48_000, 1))


def test_configurations_from_the_wire() -> None:
    # RFC 6416 7.4.1.4: MPEG-4 AAC LC at 24 kHz; as FFmpeg and others write 48 kHz stereo and 44.1 kHz stereo
    assert StreamMuxConfig.of({"cpresent": "0", "config": "400026203fc0"}).audio.sample_rate == 24_000
    assert StreamMuxConfig.of({"cpresent": "0", "config": "400023203fc0"}) == StreamMuxConfig(
        AudioSpecificConfig(2, 48_000, 2)
    )
    assert StreamMuxConfig.of({"cpresent": "0", "config": "40002420 3fc0"}).audio.sample_rate == 44_100


def test_a_configuration_with_its_length_before_it() -> None:
    """audioMuxVersion 1, and an extension behind the AudioSpecificConfig that nobody needs here."""
    audio = int.from_bytes(bytes(AudioSpecificConfig(2, 32_000, 2)), "big")
    fields = ((1, 1), (0, 1), (0, 2), (255, 8), (1, 1), (1, 6), (0, 4), (0, 3), (0, 2), (27, 8))
    bits = count = 0
    for value, width in (*fields, (audio, 16), (0x2B7, 11), (0, 3), (255, 8), (0, 2)):
        bits, count = bits << width | value, count + width
    data = (bits << -count % 8).to_bytes(-(-count // 8), "big")
    assert StreamMuxConfig.parse(data) == StreamMuxConfig(AudioSpecificConfig(2, 32_000, 2), 2)


@pytest.mark.parametrize(
    "parameters",
    [
        {"config": "400023203fc0"},  # cpresent is 1 where it is not said
        {"cpresent": "0"},
        {"cpresent": "0", "config": "40002"},
        {"cpresent": "0", "config": "4000"},
        {"cpresent": "0", "config": "zz"},
        {"cpresent": "0", "config": "c00023203fc0"},
        {"cpresent": "0", "config": "400123203fc0"},  # two layers
        {"cpresent": "0", "config": "4000b9203fc0"},  # AAC-LD's object type is 23
        {"cpresent": "1", "config": "400023203fc0"},
    ],
)
def test_what_is_not_ours_is_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(MalformedAac):
        StreamMuxConfig.of(parameters)


@given(
    st.sampled_from((8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 20_000)),
    st.sampled_from((1, 2)),
    st.sampled_from((960, 1024)),
    st.integers(1, 64),
)
def test_a_configuration_comes_back(rate: int, channels: int, samples: int, frames: int) -> None:
    config = StreamMuxConfig(AudioSpecificConfig(2, rate, channels, samples), frames)
    assert StreamMuxConfig.parse(bytes(config)) == config
    assert AudioSpecificConfig.parse(bytes(config.audio)) == config.audio


@given(st.binary(max_size=40))
def test_a_strange_configuration_is_refused_or_taken(data: bytes) -> None:
    try:
        config = StreamMuxConfig.parse(data)
    except MalformedAac:
        return
    assert config.audio.object_type == 2
    assert 1 <= config.frames <= 64


@given(st.binary(min_size=1, max_size=8191), st.integers(40, 1400))
def test_an_access_unit_comes_back_whole(unit: bytes, size: int) -> None:
    payloads = LatmPacketizer(size).packetize(unit)
    assert all(len(payload) <= size for payload in payloads)
    receiver = LatmDepacketizer(CONFIG, 48_000)
    frames = [
        frame
        for number, payload in enumerate(payloads, 1)
        for frame in receiver.push(payload, 500, number == len(payloads))
    ]
    assert [(frame.data, frame.timestamp) for frame in frames] == [(unit, 500)]
    assert receiver.malformed == 0


def test_frames_of_an_element_are_dated_by_the_clock_of_the_stream() -> None:
    config = StreamMuxConfig(AudioSpecificConfig(2, 16_000, 1), 2)
    element = b"\x03abc" + b"\xff\x01" + bytes(256)
    frames = LatmDepacketizer(config, 90_000).push(element + b"other data", 7_000, True)
    assert [(frame.data, frame.timestamp) for frame in frames] == [(b"abc", 7_000), (bytes(256), 12_760)]


def test_a_lost_fragment_takes_its_element_only() -> None:
    first, second, third = LatmPacketizer(100).packetize(bytes(250))
    receiver = LatmDepacketizer(CONFIG, 48_000)
    assert receiver.push(first, 0, False) == []
    assert receiver.push(third, 0, True, after_loss=True) == []
    (frame,) = receiver.push(LatmPacketizer().packetize(b"next")[0], 1_024, True)
    assert frame.data == b"next"
    assert len(second) == 100
    assert receiver.malformed == 1


def test_an_element_without_its_end_is_forgotten_with_the_next() -> None:
    first, *_rest = LatmPacketizer(100).packetize(bytes(250))
    receiver = LatmDepacketizer(CONFIG, 48_000)
    receiver.push(first, 0, False)
    (frame,) = receiver.push(LatmPacketizer().packetize(b"next")[0], 1_024, False)
    assert (frame.data, frame.timestamp, receiver.malformed) == (b"next", 1_024, 1)
    receiver.push(first, 2_048, False)
    assert receiver.flush() == []
    assert receiver.malformed == 2


@given(
    st.lists(st.tuples(st.binary(max_size=40), st.booleans(), st.booleans()), max_size=6), st.integers(1, 5)
)
def test_rubbish_never_raises(payloads: list[tuple[bytes, bool, bool]], frames: int) -> None:
    receiver = LatmDepacketizer(StreamMuxConfig(CONFIG.audio, frames), 48_000)
    out = []
    for number, (payload, marker, lost) in enumerate(payloads):
        out += receiver.push(payload, number // 2 * 1024, marker, lost)
    assert sum(len(frame.data) for frame in out) <= sum(len(payload) for payload, _, _ in payloads)


def test_an_access_unit_of_impossible_size_is_refused() -> None:
    for size in (0, 8192):
        with pytest.raises(ValueError, match="access unit"):
            LatmPacketizer().packetize(bytes(size))
