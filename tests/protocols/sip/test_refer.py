"""REFER taken apart, and the fragment that tells what became of it."""

from __future__ import annotations

import pytest

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.message import Headers, Request
from protocols.sip.refer import Referral, sipfrag


def parsed(*fields: tuple[str, str]) -> Referral:
    return Referral.parse(Request("REFER", "sip:h", Headers().having(("CSeq", "9 REFER"), *fields)))


@pytest.mark.parametrize(
    ("text", "target", "plain"),
    [
        ("<sip:8002@h>", "sip:8002@h", True),
        ("sip:8002@h", "sip:8002@h", True),
        ("<sip:8002*4711@h;method=INVITE;transport=tcp>", "sip:8002*4711@h;transport=tcp", True),
        ("<sip:8002@h;method=BYE>", "sip:8002@h", False),
        ("<sip:8002@h?Replaces=a%3Bto-tag%3Db>", "sip:8002@h", False),
        ("<tel:+861>", "tel:+861", False),
    ],
)
def test_targets(text: str, target: str, plain: bool) -> None:
    referral = parsed(("r", text))
    assert (str(referral.target), referral.is_plain_invite) == (target, plain)
    assert (referral.number, referral.notified) == (9, True)


def test_without_a_subscription() -> None:
    assert not parsed(("Refer-To", "<sip:a@h>"), ("Refer-Sub", "FALSE ;x=y")).notified
    assert parsed(("Refer-To", "<sip:a@h>"), ("Refer-Sub", "true")).notified


@pytest.mark.parametrize("fields", [(), (("Refer-To", "<sip:a@h>, <sip:b@h>"),), (("Refer-To", "nobody"),)])
def test_what_refers_to_nobody(fields: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(SipSyntaxError):
        parsed(*fields)


def test_fragments_are_one_line_of_ascii() -> None:
    assert sipfrag(100) == b"SIP/2.0 100 Trying\r\n"
    assert sipfrag(503, "省厅 is full\r\nX: y") == b"SIP/2.0 503 ?? is full??X: y\r\n"
