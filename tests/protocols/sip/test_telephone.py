"""Telephone numbers as people and tel URIs write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.telephone import dialled_number, is_dialled, longest_prefix, same_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("tel:+86-771-586-1234", "+867715861234"),
        ("TEL:(0771)586.1234;phone-context=+86", "07715861234"),
        ("+86 771 5861234", "+867715861234"),
        ("13800138000", "13800138000"),
        ("*67#", "*67#"),
    ],
)
def test_what_is_dialled(text: str, number: str) -> None:
    assert dialled_number(text) == number
    assert is_dialled(text)


@pytest.mark.parametrize(
    "text", ["", "tel:", "sip:1@x", "camera:1", "+", "*#", "12 34 56x", "1" * 33, "86+771"]
)
def test_what_is_no_number(text: str) -> None:
    assert not is_dialled(text)
    with pytest.raises(SipSyntaxError):
        dialled_number(text)


@given(st.text())
def test_any_text_is_a_number_or_none(text: str) -> None:
    if is_dialled(text):
        assert dialled_number(dialled_number(text)) == dialled_number(text)


def test_the_longest_prefix_decides() -> None:
    assert longest_prefix("+8677112345", ("+", "+86", "+86771")) == 6
    assert longest_prefix("114", ("",)) == 0
    assert longest_prefix("114", ("0", "+")) is None
    assert longest_prefix("114", ()) is None


def test_a_plus_makes_no_other_number() -> None:
    assert same_number("+86 771-1234", "867711234")
    assert not same_number("+86771", "0771")
