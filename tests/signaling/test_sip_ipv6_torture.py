"""The messages of RFC 5118 (SIP with IPv6), written anew from what its text says of each."""

from __future__ import annotations

import pytest

from foundation.desks import MediaDescription
from protocols.sip.body import sdp_of
from protocols.sip.message import Request
from protocols.sip.uri import SipUri
from protocols.sip.validation import fault_of
from signaling.media_description import read_sdp
from tests.protocols.sip.samples import parsed_request
from tests.protocols.sip.torture import plain


def parsed(method: str, uri: str, *lines: str, body: bytes = b"", **changes: str) -> Request:
    data = plain(method, uri, *lines, body=body, length=True, **changes)
    return parsed_request(data.replace(b"<via>", b"[2001:db8::9:1]"))


@pytest.mark.parametrize(
    ("uri", "host", "port"),
    [
        ("sip:[2001:db8::10]", "2001:db8::10", None),  # 4.1
        ("sip:[2001:db8::10:5070]", "2001:db8::10:5070", None),  # 4.3: no port, though it looks like one
        ("sip:[2001:db8::10]:5070", "2001:db8::10", 5070),  # 4.4
        ("sip:user@[2001:db8::192.0.2.1]", "2001:db8::192.0.2.1", None),  # 4.10, as it is meant
        ("sip:user@[2001:db8:::192.0.2.1]", "2001:db8:::192.0.2.1", None),  # 4.10, as the old grammar had it
    ],
)
def test_references_in_the_request_line(uri: str, host: str, port: int | None) -> None:
    request = parsed("OPTIONS", uri, Contact="<sip:[2001:db8::9:1]>")
    assert fault_of(request) is None
    assert isinstance(request.target, SipUri)
    assert (request.target.host, request.target.port) == (host, port)
    assert str(request.target) == uri


def test_an_address_without_brackets_is_refused() -> None:  # 4.2
    fault = fault_of(parsed("REGISTER", "sip:2001:db8::10"))
    assert fault is not None
    assert fault.status == 400


@pytest.mark.parametrize("received", ["[2001:db8::9:255]", "2001:db8::9:255"])
def test_received_with_and_without_brackets(received: str) -> None:  # 4.5
    via = f"SIP/2.0/UDP [2001:db8::9:1];received={received};branch=z9hG4bKas3-111"
    request = parsed("REGISTER", "sip:[2001:db8::10]", Via=via)
    assert fault_of(request) is None
    assert request.via.reply_address() == ("2001:db8::9:255", 5060)
    seen = request.seen_from("2001:db8::9:7", 5062).via
    assert seen.parameters.get("received") == "2001:db8::9:7"
    assert seen.reply_address() == ("2001:db8::9:7", 5060)


def test_addresses_of_both_kinds_in_via_and_contact() -> None:  # 4.7
    request = parsed(
        "INVITE", "sip:user@[2001:db8::1]",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja", "Via: SIP/2.0/TCP [2001:db8::9:255];branch=x",
        "Record-Route: <sip:[2001:db8::10]:5070;lr>, <sip:proxy.example.com;lr>",
    )  # fmt: skip
    assert fault_of(request) is None
    assert [str(route.uri) for route in request.record_routes] == [
        "sip:[2001:db8::10]:5070;lr",
        "sip:proxy.example.com;lr",
    ]
    assert len(request.headers.items("Via")) == 3


def described(*lines: str) -> MediaDescription:
    body = "".join(f"{line}\r\n" for line in lines).encode()
    request = parsed("INVITE", "sip:user@[2001:db8::10]", body=body)
    assert fault_of(request) is None
    return read_sdp(sdp_of(request) or b"")


HEAD = (
    "v=0",
    "o=assistant 971731711378798081 0 IN IP6 2001:db8::20",
    "s=Live video feed for today's meeting",
)


def test_a_session_description_in_ipv6() -> None:  # 4.6
    media = described(
        *HEAD, "c=IN IP6 2001:db8::20", "t=3338481189 3370017201", "m=audio 6000 RTP/AVP 2",
        "a=rtpmap:2 G726-32/8000", "m=video 6024 RTP/AVP 107", "a=rtpmap:107 H263-1998/90000",
    )  # fmt: skip
    assert [(section.address, section.port) for section in media.sections] == [
        ("2001:db8::20", 6000),
        ("2001:db8::20", 6024),
    ]


def test_a_session_description_in_both() -> None:  # 4.8
    media = described(
        *HEAD, "t=0 0", "m=audio 22334 RTP/AVP 0", "c=IN IP4 192.0.2.1", "m=video 6024 RTP/AVP 107",
        "c=IN IP6 2001:db8::1", "a=rtpmap:107 H263-1998/90000",
    )  # fmt: skip
    assert [section.address for section in media.sections] == ["192.0.2.1", "2001:db8::1"]


def test_an_ipv4_address_in_ipv6() -> None:  # 4.9
    media = described(*HEAD, "c=IN IP6 ::ffff:192.0.2.10", "t=0 0", "m=audio 6000 RTP/AVP 0")
    assert media.sections[0].address == "::ffff:192.0.2.10"
    request = parsed("INVITE", "sip:user@example.com", Contact="<sip:user@[::ffff:192.0.2.10]:19823>")
    assert request.contact is not None
    uri = request.contact.sip_uri
    assert uri is not None
    assert (uri.host, uri.port) == ("::ffff:192.0.2.10", 19823)
