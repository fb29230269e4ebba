import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.sip.grammar import Parameters, SipSyntaxError
from protocols.sip.uri import OtherUri, SipUri, parse_uri
from tests.protocols.sip.samples import complaint

_USER = st.text("abcXYZ019-_.!~*'()&=+$,;?/%41", min_size=1)
_HOST = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z0-9]{1,8}){0,3}", fullmatch=True)
_V6 = st.ip_addresses(v=6).map(str)
_PARAMETER = st.tuples(
    st.text("abcXYZ019-_", min_size=1), st.none() | st.text("abcXYZ019-_.%:[]/", min_size=0)
)
URIS = st.builds(
    SipUri,
    host=_HOST | _V6,
    user=st.none() | _USER,
    port=st.none() | st.integers(0, 65535),
    scheme=st.sampled_from(["sip", "sips"]),
    parameters=st.lists(_PARAMETER, max_size=4).map(lambda items: Parameters(tuple(items))),
    headers=st.text("abc=&%20", max_size=10),
)


@given(URIS)
def test_a_printed_uri_parses_to_itself(uri: SipUri) -> None:
    assert parse_uri(str(uri)) == uri


@given(st.text())
def test_any_text_parses_or_is_a_syntax_error(text: str) -> None:
    assert complaint(parse_uri, text).isascii()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sip:34020000002000000001@3402000000", SipUri("3402000000", "34020000002000000001")),
        ("sip:3402000000", SipUri("3402000000")),
        ("SIP:8001@[2001:db8::5]:5062", SipUri("2001:db8::5", "8001", 5062)),
        (
            "sips:alice:secret@example.com;transport=tcp;lr?subject=x",
            SipUri(
                "example.com",
                "alice",
                scheme="sips",
                password="secret",
                parameters=Parameters((("transport", "tcp"), ("lr", None))),
                headers="subject=x",
            ),
        ),
        # RFC 4475 3.1.1.13: a user part that looks like it has parameters
        ("sip:user;par=u%40example.net@example.com", SipUri("example.com", "user;par=u%40example.net")),
        ("tel:+867715551234", OtherUri("tel", "+867715551234")),
        ("soap.beep://192.0.2.103:3002", OtherUri("soap.beep", "//192.0.2.103:3002")),
    ],
)
def test_uris_of_the_field(text: str, expected: SipUri | OtherUri) -> None:
    assert parse_uri(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8001",
        "sip:",
        "sip:@host",
        "sip:a@host:99999",
        "sip:a@host:50x",
        "sip:a b@host",
        "<sip:a@b>",
        "sip:[::1",
    ],
)
def test_what_is_no_uri_is_refused(text: str) -> None:
    with pytest.raises(SipSyntaxError):
        parse_uri(text)


def test_equivalence_follows_rfc_3261_19_1_4() -> None:
    def uri(text: str) -> SipUri:
        return SipUri.parse(text)

    assert uri("sip:%61lice@atlanta.com;transport=TCP").same_as(uri("sip:alice@AtlanTa.CoM;Transport=tcp"))
    assert uri("sip:carol@chicago.com").same_as(uri("sip:carol@chicago.com;newparam=5"))
    assert not uri("sip:ALICE@AtlanTa.CoM").same_as(uri("sip:alice@atlanta.com"))
    assert not uri("sip:bob@biloxi.com").same_as(uri("sip:bob@biloxi.com:5060"))
    assert not uri("sip:bob@biloxi.com").same_as(uri("sip:bob@biloxi.com;transport=udp"))
    assert not uri("sip:carol@chicago.com;security=on").same_as(uri("sip:carol@chicago.com;security=off"))


def test_ports_and_decoded_users() -> None:
    assert SipUri.parse("sips:a@h").effective_port == 5061
    assert SipUri.parse("sip:a@h;transport=tls").effective_port == 5061
    assert SipUri.parse("sip:a@h").effective_port == 5060
    assert SipUri.parse("sip:%E5%AE%89@h").user_text == "安"
