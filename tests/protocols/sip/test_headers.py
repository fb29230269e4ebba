from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.sip.authorization import Challenge, DigestCredentials
from protocols.sip.grammar import Parameters, SipSyntaxError, split_outside
from protocols.sip.headers import (
    CSeq,
    MediaType,
    NameAddress,
    SessionExpires,
    Via,
    parse_contacts,
    split_list,
)
from protocols.sip.uri import SipUri, parse_uri
from tests.protocols.sip.samples import complaint
from tests.protocols.sip.test_uri import URIS

_TOKEN = st.text("abcXYZ019-_.!%*+`'~", min_size=1)
_DISPLAY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(str.strip)
_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
_PARAMETERS = st.lists(st.tuples(_TOKEN, st.none() | _TOKEN), max_size=4).map(
    lambda items: Parameters(tuple(items))
)


@given(st.builds(NameAddress, uri=URIS, display_name=_DISPLAY, parameters=_PARAMETERS))
def test_a_printed_address_parses_to_itself(address: NameAddress) -> None:
    assert NameAddress.parse(str(address)) == address


@given(
    st.builds(
        Via,
        transport=st.sampled_from(["UDP", "TCP", "TLS", "WS"]),
        host=st.sampled_from(["192.0.2.4", "2001:db8::1", "room.gx.example", "3402000000"]),
        port=st.none() | st.integers(0, 65535),
        parameters=_PARAMETERS,
    )
)
def test_a_printed_via_parses_to_itself(via: Via) -> None:
    assert Via.parse(str(via)) == via


@given(st.integers(0, 2**31 - 1), _TOKEN)
def test_a_printed_cseq_parses_to_itself(number: int, method: str) -> None:
    assert CSeq.parse(str(CSeq(number, method))) == CSeq(number, method)


@given(st.builds(SessionExpires, st.integers(0, 2**32 - 1), st.sampled_from([None, "uac", "uas"])))
def test_a_printed_session_interval_parses_to_itself(value: SessionExpires) -> None:
    assert SessionExpires.parse(str(value)) == value


@given(
    st.builds(
        Challenge,
        realm=_TEXT,
        nonce=_TEXT,
        algorithm=st.none() | st.sampled_from(["MD5", "SHA-256", "MD5-sess"]),
        qop=st.sampled_from([(), ("auth",), ("auth", "auth-int")]),
        opaque=st.none() | _TEXT,
        stale=st.booleans(),
    )
)
def test_a_printed_challenge_parses_to_itself(value: Challenge) -> None:
    assert Challenge.parse(str(value)) == value


@given(
    st.builds(
        DigestCredentials,
        username=_TEXT,
        realm=_TEXT,
        nonce=_TEXT,
        uri=_TEXT,
        response=st.text("0123456789abcdef", max_size=64),
        algorithm=st.none() | st.just("SHA-256"),
        cnonce=st.none() | _TEXT,
        opaque=st.none() | _TEXT,
        qop=st.sampled_from([None, "auth", "auth-int"]),
        nc=st.none() | st.just("00000001"),
    )
)
def test_printed_credentials_parse_to_themselves(value: DigestCredentials) -> None:
    assert DigestCredentials.parse(str(value)) == value


@pytest.mark.parametrize(
    "parse",
    [
        NameAddress.parse,
        Via.parse,
        CSeq.parse,
        SessionExpires.parse,
        MediaType.parse,
        Challenge.parse,
        DigestCredentials.parse,
        lambda text: parse_contacts(split_list(text)),
        parse_uri,
    ],
)
@given(text=st.text() | st.text('<>";:,@=\\ \tsip/2.0UDPDigestrealmnonce*09'))
def test_any_text_parses_or_is_a_syntax_error(parse: Callable[[str], object], text: str) -> None:
    said = complaint(parse, text)
    assert said.isascii()
    assert "\n" not in said


def test_addresses_as_terminals_write_them() -> None:
    room = NameAddress.parse('"J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\t;\ttag = 98asjd8')
    assert room.display_name == 'J Rosenberg \\"'
    assert room.tag == "98asjd8"
    assert NameAddress.parse("caller<sip:caller@example.com>;tag=323").display_name == "caller"
    bare = NameAddress.parse("sip:8001@3402000000;tag=7")
    assert bare.uri == SipUri("3402000000", "8001")
    assert bare.tag == "7"
    semicolons = NameAddress.parse("sip:user;par=x@example.com;tag=2")
    assert (str(semicolons.uri), semicolons.tag) == ("sip:user;par=x@example.com", "2")
    quoted = NameAddress.parse('"<sip:trap@x>, \\" here" <sip:8001@h;transport=tcp>;expires=60')
    assert (quoted.display_name, quoted.parameters.get("expires")) == ('<sip:trap@x>, " here', "60")


@pytest.mark.parametrize(
    "text",
    [
        '"Mr. J. User <sip:j.user@example.com>',
        "<sip:a@b",
        "sip:user@example.com?Route=%3Csip:example.com%3E",
        "<>",
    ],
)
def test_broken_addresses_are_refused(text: str) -> None:
    with pytest.raises(SipSyntaxError):
        NameAddress.parse(text)


def test_a_via_with_space_everywhere() -> None:
    via = Via.parse("SIP  / 2.0\t/ TCP     spindle.example.com : 5070  ;\tbranch  =   z9hG4bK9ikj8  ;rport")
    assert (via.transport, via.host, via.port, via.branch) == (
        "TCP",
        "spindle.example.com",
        5070,
        "z9hG4bK9ikj8",
    )


def test_a_via_notes_where_it_was_seen() -> None:
    asked = Via.parse("SIP/2.0/UDP 10.0.0.4:5060;branch=z9hG4bKx;rport").seen_from("203.0.113.9", 41000)
    assert asked.reply_address() == ("203.0.113.9", 41000)
    plain = Via.parse("SIP/2.0/UDP 10.0.0.4;branch=z9hG4bKx;received=6.6.6.6").seen_from("10.0.0.4", 41000)
    assert "received" not in plain.parameters
    assert plain.reply_address() == ("10.0.0.4", 5060)
    moved = Via.parse("SIP/2.0/UDP 10.0.0.4:5070;branch=z9hG4bKx").seen_from("203.0.113.9", 41000)
    assert moved.reply_address() == ("203.0.113.9", 5070)
    stray = Via.parse("SIP/2.0/UDP 10.0.0.4:5070;maddr=198.51.100.1;branch=z9hG4bKx").seen_from("10.0.0.4", 1)
    assert stray.reply_address() == ("10.0.0.4", 5070)


def test_contacts() -> None:
    assert parse_contacts(["*"]) == "*"
    with pytest.raises(SipSyntaxError):
        parse_contacts(["*", "<sip:a@b>"])
    items = split_list('"a, b" <sip:a@h,x>;q=1, <sip:c@d>')
    assert items == ['"a, b" <sip:a@h,x>;q=1', "<sip:c@d>"]


@given(st.lists(st.text('abc <>"\\', max_size=6), min_size=1))
def test_splitting_loses_nothing_or_complains(parts: list[str]) -> None:
    try:
        items = split_outside(",".join(parts), ",")
    except SipSyntaxError:
        return
    assert "".join(items).replace(",", "").replace(" ", "") == "".join(parts).replace(" ", "")
