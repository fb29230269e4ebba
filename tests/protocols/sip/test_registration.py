"""What a REGISTER asks, and what becomes of the bindings there are."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import NameAddress
from protocols.sip.message import Headers, Request
from protocols.sip.registration import (
    Changes,
    Registration,
    call_key,
    printed,
    same_place,
)
from protocols.sip.validation import Refusal


@dataclass(frozen=True)
class Known:
    contact: NameAddress
    call_key: str
    cseq: int


def register(*fields: tuple[str, str], cseq: int = 5, call_id: str = "c1") -> Request:
    return Request(
        "REGISTER",
        "sip:h",
        Headers().having(("Call-ID", call_id), ("CSeq", f"{cseq} REGISTER"), *fields),
    )


def known(uri: str, cseq: int = 1, call_id: str = "c1") -> Known:
    return Known(NameAddress.parse(uri), call_key(call_id), cseq)


def parsed(*fields: tuple[str, str], cseq: int = 5, call_id: str = "c1") -> Registration:
    return Registration.parse(register(*fields, cseq=cseq, call_id=call_id))


def test_contacts_with_their_own_interval_and_the_headers() -> None:
    wanted = parsed(
        ("Contact", "<sip:a@h1>;expires=60;q=0.5, <sip:a@h2;transport=tcp>;x=y"),
        ("Contact", "<sip:a@h3>;expires=soon;q=2"),
        ("Expires", "1800"),
    )
    assert [(str(one.contact), one.q, one.seconds) for one in wanted.contacts] == [
        ("<sip:a@h1>", 500, 60),
        ("<sip:a@h2;transport=tcp>;x=y", 1000, 1800),
        ("<sip:a@h3>", 1000, 3600),
    ]
    assert parsed(("Contact", "<sip:a@h>")).contacts[0].seconds == 3600
    assert parsed().changes_nothing


@pytest.mark.parametrize(
    "fields",
    [
        (("Contact", "*"),),
        (("Contact", "*"), ("Expires", "60")),
        (("Contact", "*"), ("Expires", "never")),
        (("Contact", "*, <sip:a@h>"), ("Expires", "0")),
        (("Contact", "*"), ("Contact", "<sip:a@h>"), ("Expires", "0")),
        (("Contact", "<tel:+861>"),),
    ],
)
def test_what_cannot_be_registered(fields: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(SipSyntaxError):
        parsed(*fields)


def test_too_brief_is_only_what_is_neither_a_removal_nor_an_hour() -> None:
    def brief(seconds: int, least: int) -> Refusal | None:
        return parsed(("Contact", f"<sip:a@h>;expires={seconds}")).brief(least)

    refusal = brief(59, 60)
    assert refusal is not None
    assert (refusal.status, refusal.headers) == (423, (("Min-Expires", "60"),))
    assert brief(60, 60) is None
    assert brief(0, 60) is None
    assert brief(3600, 7200) is None


def test_refresh_removal_and_the_star() -> None:
    first, second = known("<sip:a@h1>"), known("<sip:a@h2>", call_id="other")
    refreshed = parsed(("Contact", "<sip:a@H1>")).apply([first, second])
    assert isinstance(refreshed, Changes)
    assert refreshed.kept == (second,)
    assert [str(one.contact.uri) for one in refreshed.placed] == ["sip:a@H1"]
    removed = parsed(("Contact", "<sip:a@h1>;expires=0")).apply([first, second])
    assert removed == Changes((second,), ())
    assert parsed(("Contact", "*"), ("Expires", "0")).apply([first, second]) == Changes((), ())


@pytest.mark.parametrize("cseq", [1, 4, 5])
def test_an_older_request_of_the_same_call_changes_nothing(cseq: int) -> None:
    bound = known("<sip:a@h1>", cseq=5)
    for fields in ((("Contact", "<sip:a@h1>"),), (("Contact", "*"), ("Expires", "0"))):
        refused = parsed(*fields, cseq=cseq).apply([bound])
        assert isinstance(refused, Refusal)
        assert refused.status == 500
        assert isinstance(parsed(*fields, cseq=cseq, call_id="reborn").apply([bound]), Changes)


def test_a_terminal_that_comes_back_elsewhere_replaces_itself() -> None:
    instance = '+sip.instance="<urn:uuid:1>"'
    old = known(f"<sip:a@h1>;{instance}")
    changes = parsed(("Contact", f"<sip:a@h2>;{instance}"), call_id="reborn").apply([old])
    assert isinstance(changes, Changes)
    assert changes.kept == ()
    other_flow = parsed(("Contact", f"<sip:a@h2>;{instance};reg-id=2"), call_id="x").apply([old])
    assert isinstance(other_flow, Changes)
    assert other_flow.kept == (old,)


def test_contacts_are_printed_with_what_is_left() -> None:
    contact = NameAddress.parse('<sip:a@h;transport=tcp>;+sip.instance="<urn:uuid:1>"')
    assert printed(contact, 250, 59) == (
        '<sip:a@h;transport=tcp>;+sip.instance="<urn:uuid:1>";q=0.250;expires=59'
    )
    assert printed(NameAddress.parse("<sip:a@h>"), 1000, 7) == "<sip:a@h>;expires=7"


@given(st.lists(st.sampled_from(["<sip:a@h1>", "<sip:a@H1>", "<sip:a@h2>;q=0.1", "<sip:a@h2>;expires=0"])))
def test_no_two_bindings_for_one_place(contacts: list[str]) -> None:
    fields = [("Contact", contact) for contact in contacts]
    changes = parsed(*fields).apply([known("<sip:a@h1>"), known("<sip:a@h3>")])
    assert isinstance(changes, Changes)
    left = [*(one.contact for one in changes.kept), *(one.contact for one in changes.placed)]
    assert not [
        (one, other) for i, one in enumerate(left) for other in left[i + 1 :] if same_place(one, other)
    ]
