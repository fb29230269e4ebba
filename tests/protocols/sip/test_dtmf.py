"""Keys in INFO bodies, as terminals write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.sip.dtmf import BARE, KEYS, LONGEST, RELAY, USUAL, KeyPressed, parse_key


@pytest.mark.parametrize(
    ("content_type", "body", "key"),
    [
        (RELAY, b"Signal=5\r\nDuration=160", KeyPressed("5", 160)),
        (RELAY, b"Signal= #\r\nDuration= 100\r\n", KeyPressed("#", 100)),
        (RELAY, b"signal=11\nduration=x", KeyPressed("#", USUAL)),
        (RELAY, b"Signal=10", KeyPressed("*", USUAL)),
        (RELAY, b"Duration=99999999\nSignal=d\n", KeyPressed("D", LONGEST)),
        (RELAY, b"Duration=9999999999\nSignal=1\n", KeyPressed("1", USUAL)),
        (BARE, b"7", KeyPressed("7", USUAL)),
        (BARE, b"*\r\n", KeyPressed("*", USUAL)),
        (BARE, b"Signal=3\r\nDuration=250\r\n", KeyPressed("3", 250)),
        (RELAY, b"7", None),
        (RELAY, b"Signal=!\r\nDuration=1", None),
        (RELAY, b"Signal=55", None),
        (BARE, b"", None),
        (BARE, b"\xff", None),
        ("application/sdp", b"Signal=5", None),
    ],
)
def test_keys(content_type: str, body: bytes, key: KeyPressed | None) -> None:
    assert parse_key(content_type, body) == key


@given(st.sampled_from([RELAY, BARE]), st.binary())
def test_any_bytes(content_type: str, body: bytes) -> None:
    found = parse_key(content_type, body)
    assert found is None or (found.key in KEYS and 0 <= found.duration <= LONGEST)
