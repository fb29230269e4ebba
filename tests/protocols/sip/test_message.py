import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.sip.body import sdp_of
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.message import Headers, MalformedMessage, Request, Response, canonical_name, parse_message
from protocols.sip.replies import acknowledge_failure, cancel_of, respond
from protocols.sip.validation import Capabilities, body_refusal, fault_of, refusal_of
from tests.protocols.sip.samples import OFFER, parsed_request, request

_TOKEN = st.text("abcXYZ019-_.!%*+`'~", min_size=1, max_size=12)
# Header texts as bytes of any encoding give them: no line breaks, no surrounding white space.
_VALUE = (
    st.binary(max_size=30)
    .map(lambda data: data.translate(None, b"\r\n").decode("utf-8", "surrogateescape").strip())
    .filter(lambda text: text == text.strip())
)
_NAME = _TOKEN.map(canonical_name).filter(lambda name: name != "Content-Length")
_SINGLE = {"call-id", "cseq", "from", "to", "max-forwards"}


def _once(fields: list[tuple[str, str]]) -> Headers:
    seen: set[str] = set()
    kept = []
    for name, value in fields:
        if name.lower() in _SINGLE and name.lower() in seen:
            continue
        seen.add(name.lower())
        kept.append((name, value))
    return Headers(tuple(kept))


_HEADERS = st.lists(st.tuples(_NAME, _VALUE), max_size=8).map(_once)
_BODY = st.binary(max_size=200)
REQUESTS = st.builds(
    Request, method=_TOKEN, uri=st.text("abc:@.;=%09", min_size=1), headers=_HEADERS, body=_BODY
)
RESPONSES = st.builds(Response, status=st.integers(100, 699), reason=_VALUE, headers=_HEADERS, body=_BODY)


@given(REQUESTS | RESPONSES)
def test_a_printed_message_parses_to_itself(message: Request | Response) -> None:
    assert parse_message(message.to_bytes()) == message


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        message = parse_message(data)
    except MalformedMessage:
        return
    if isinstance(message, Request) and fault_of(message) is None:
        refusal_of(message, Capabilities(("INVITE",)))


@given(st.binary(max_size=40), st.integers(0, 400), st.integers(0, 40))
def test_damaged_messages_are_messages_or_malformed(noise: bytes, at: int, gone: int) -> None:
    whole = request().to_bytes()
    data = whole[:at] + noise + whole[at + gone :]
    try:
        message = parse_message(data)
    except MalformedMessage:
        return
    if isinstance(message, Request) and fault_of(message) is None:
        respond(message.seen_from("192.0.2.9", 5060), 200, to_tag="x").to_bytes()
        with contextlib.suppress(SipSyntaxError):
            sdp_of(message)


def test_a_short_tortuous_invite() -> None:
    message = parsed_request(
        b"INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n"
        b"TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n"
        b'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n'
        b"MaX-fOrWaRdS: 0068\r\n"
        b"Call-ID: wsinv.ndaksdj@192.0.2.1\r\n"
        b"Content-Length   : 6\r\n"
        b"cseq: 0009\r\n  INVITE\r\n"
        b"Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\n"
        b"s :\r\n"
        b"NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n"
        b"UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n"
        b"Content-Type: application/sdp\r\n"
        b"Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n"
        b"v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n"
        b"  branch  =   z9hG4bK9ikj8  ,\r\n SIP  /    2.0   / UDP  192.168.255.111   ;\r\n"
        b" branch=\r\n z9hG4bK30239\r\n"
        b'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n'
        b"  secondparam ; q = 0.33\r\n"
        b"\r\nv=0\r\n\r\n"
    )
    assert fault_of(message) is None
    assert message.to.tag == "1918181833n"
    assert (message.from_.display_name, message.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert message.max_forwards == 68
    assert (message.cseq.number, message.cseq.method) == (9, "INVITE")
    assert len(message.headers.items("Via")) == 3
    assert message.via.host == "192.0.2.2"
    assert message.headers.get("Subject") == ""
    assert message.headers.get("newfangledheader") == "newfangled value continued newfangled value"
    assert message.contact is not None
    assert message.contact.display_name == 'Quoted string ""'
    assert message.contact.parameters.get("q") == "0.33"
    assert message.body == b"v=0\r\n\r"


def test_bare_line_feeds_compact_names_and_gb18030() -> None:
    name = "广西安全监管局".encode("gb18030")
    message = parsed_request(
        b"\r\n\r\nMESSAGE sip:34020000002000000001@3402000000 SIP/2.0\n"
        b"v: SIP/2.0/TCP 10.1.1.1:5060;branch=z9hG4bK77\n"
        b'f: "' + name + b'" <sip:34020000001320000001@3402000000>;tag=9\n'
        b"t: <sip:34020000002000000001@3402000000>\ni: 77@10.1.1.1\nCSeq: 20 MESSAGE\nm: *\n"
        b"c: Application/MANSCDP+xml\nl: 6\n\n" + name[:6] + b"trailing"
    )
    assert fault_of(message) is None
    assert message.from_.display_name.encode("utf-8", "surrogateescape").decode("gb18030") == "广西安全监管局"
    assert message.body == name[:6]
    assert message.content_type is not None
    assert message.content_type.name == "application/manscdp+xml"
    assert name in message.to_bytes()


def test_a_message_of_60_kilobytes() -> None:
    big = Request("INVITE", "sip:8001@h", request().headers, b"a=x\r\n" * 12_000)
    started = time.perf_counter()
    assert parse_message(big.to_bytes()) == big
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("filler", [b" ", b"\t", b'"', b"<", b";", b",", b"\\", b"\r", b"\n ", b"a:"])
def test_no_filler_makes_parsing_slow(filler: bytes) -> None:
    start = request().to_bytes().partition(b"Contact")[0]
    data = start + b"Contact: " + filler * (60_000 // len(filler)) + b"\r\n\r\n"
    started = time.perf_counter()
    try:
        message = parse_message(data)
        if isinstance(message, Request):
            fault_of(message)
    except MalformedMessage:
        pass
    assert time.perf_counter() - started < 1.0


def test_the_printer_states_the_length_of_the_body_and_refuses_line_breaks() -> None:
    message = Request("INFO", "sip:a@h", Headers((("Call-ID", "1"), ("Content-Length", "999"))), b"abc")
    assert message.to_bytes() == b"INFO sip:a@h SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 3\r\n\r\nabc"
    smuggled = Headers((("Subject", "x\r\nContact: <sip:evil@h>"),))
    with pytest.raises(ValueError, match="line break"):
        Response(200, "OK", smuggled).to_bytes()


_GOOD = request().to_bytes().decode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            _GOOD.replace("Content-Length: 0", "Content-Length: 9999"),
            "Content-Length says 9999 bytes, 0 came",
        ),
        (_GOOD.replace("Content-Length: 0", "Content-Length: -999"), "Content-Length is not a number"),
        (_GOOD.replace("Content-Length: 0", "Content-Length: 0\r\nl: 1"), "more than once"),
        (_GOOD.replace("CSeq:", "CSeq: 7 INVITE\r\nCSeq:"), "CSeq appears more than once"),
        (_GOOD.replace("sip:8001@192.0.2.1 SIP", "sip:8001@192.0.2.1; lr SIP", 1), "contains a space"),
        (_GOOD.replace("Max-Forwards: 70", "no colon here"), "not a header line"),
    ],
)
def test_malformed_requests_say_what_is_wrong_and_can_be_answered(data: str, words: str) -> None:
    with pytest.raises(MalformedMessage, match=words) as caught:
        parse_message(data.encode())
    assert caught.value.request is not None
    answer = respond(caught.value.request, 400, f"Bad Request: {caught.value}").to_bytes()
    assert b"Call-ID: call-1@192.0.2.5\r\n" in answer


NOT_SIP = [
    b"",
    b"\r\n\r\n",
    b"hello",
    b"SIP/2.0 4294967301 x\r\n\r\n",
    b"SIP/2.0 99 x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"SIP/3.0 200 OK\r\n\r\n",
]


@pytest.mark.parametrize("data", NOT_SIP)
def test_what_is_no_sip_is_malformed_and_unanswerable(data: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_message(data)
    assert caught.value.request is None


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"Via": ""}, 400, "Via is missing"),
        ({"Via": "SIP/2.0/UDP 192.0.2.15;;,;,,"}, 400, "not a Via"),
        ({"From": ""}, 400, "From is missing"),
        ({"Call_ID": ""}, 400, "Call-ID is missing"),
        ({"To": '"Mr. J. User <sip:j.user@example.com>'}, 400, "quoted string does not end"),
        ({"CSeq": "36893488147419103232 INVITE"}, 400, "CSeq is above"),
        ({"CSeq": "1 OPTIONS"}, 400, "CSeq says OPTIONS, the request line INVITE"),
        ({"Max_Forwards": "many"}, 400, "Max-Forwards is not a number"),
        ({"Contact": "<sip:a@b"}, 400, "angle bracket does not close"),
    ],
)
def test_broken_requests_are_refused_with_reason(change: dict[str, str], status: int, words: str) -> None:
    fault = fault_of(request(**change))
    assert fault is not None
    assert fault.status == status
    assert words in fault.reason


def test_versions_and_angle_brackets_in_the_request_line() -> None:
    good = request().to_bytes()
    version = fault_of(parsed_request(good.replace(b" SIP/2.0\r\n", b" SIP/7.0\r\n", 1)))
    assert version is not None
    assert version.status == 505
    brackets = fault_of(parsed_request(good.replace(b"sip:8001@192.0.2.1 ", b"<sip:8001@192.0.2.1> ", 1)))
    assert brackets is not None
    assert brackets.status == 400


OWN = Capabilities(("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS"), ("timer",))


def test_refusals_in_the_order_of_the_standard() -> None:
    def status(message: Request) -> tuple[int, tuple[tuple[str, str], ...]] | None:
        refusal = refusal_of(message, OWN)
        return None if refusal is None else (refusal.status, refusal.headers)

    assert status(request()) is None
    assert status(request(Max_Forwards="")) is None
    assert status(request(Max_Forwards="0")) is None
    assert status(request("PUBLISH")) == (405, (("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS"),))
    unknown = request(Require="timer, nothingSupportsThis, norDoesThis")
    assert status(unknown) == (420, (("Unsupported", "nothingSupportsThis, norDoesThis"),))
    scheme = Request("OPTIONS", "nobodyKnowsThisScheme:opaque", request("OPTIONS").headers)
    assert status(scheme) == (416, ())


def test_bodies_we_cannot_read() -> None:
    def refused(kind: str, body: bytes = OFFER, **more: str) -> int | None:
        headers = request(Content_Type=kind, **more).headers
        refusal = body_refusal(Request("INVITE", "sip:a@h", headers, body), OWN)
        return refusal.status if refusal else None

    assert refused("application/sdp") is None
    assert refused("Application/SDP;charset=utf-8") is None
    assert refused("application/unknown") == 415
    assert refused("application/unknown", b"") is None
    assert refused("application/isup", Content_Disposition="signal; handling = optional") is None
    assert refused("application/sdp", Content_Encoding="gzip") == 415


def test_sdp_bare_typed_and_inside_multipart() -> None:
    headers = request().headers
    assert sdp_of(Request("INVITE", "sip:a@h", headers, OFFER)) == OFFER
    assert sdp_of(Request("INVITE", "sip:a@h", headers, b"")) is None
    assert sdp_of(Request("INVITE", "sip:a@h", headers.having(("Content-Type", "text/plain")), OFFER)) is None
    mixed = headers.having(("Content-Type", 'multipart/mixed;boundary="b 1"'))
    body = (
        b"preamble\r\n--b 1\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b 1\r\nc: application/sdp\r\n\r\n"
        + OFFER
    )
    assert sdp_of(Request("INVITE", "sip:a@h", mixed, body + b"\r\n--b 1--\r\n")) == OFFER
    inner = body + b"\r\n--b 1--\r\n"
    nested = b'--o\r\nContent-Type: multipart/alternative;boundary="b 1"\r\n\r\n' + inner + b"\r\n--o--\r\n"
    outer = headers.having(("Content-Type", "multipart/mixed;boundary=o"))
    assert sdp_of(Request("INVITE", "sip:a@h", outer, nested)) == OFFER
    with pytest.raises(SipSyntaxError):
        sdp_of(Request("INVITE", "sip:a@h", headers.having(("Content-Type", "multipart/mixed")), OFFER))


def test_a_bottomless_multipart_ends() -> None:
    kind = b"Content-Type: multipart/mixed;boundary=b"
    body = (b"--b\r\n" + kind + b"\r\n\r\n") * 2000 + OFFER
    headers = request().headers.having(("Content-Type", "multipart/mixed;boundary=b"))
    assert sdp_of(Request("INVITE", "sip:a@h", headers, body)) is None


def test_responses_echo_what_the_peer_wrote() -> None:
    invite = request(To="sip:8001@192.0.2.1", Record_Route="<sip:p1;lr>, <sip:p2;lr>", Timestamp="54")
    trying = respond(invite, 100, to_tag="t")
    assert trying.headers.get("To") == "sip:8001@192.0.2.1"
    assert trying.headers.get("Timestamp") == "54"
    ok = respond(invite, 200, to_tag="t")
    assert ok.headers.get("To") == "sip:8001@192.0.2.1;tag=t"
    assert ok.headers.get("Record-Route") == "<sip:p1;lr>, <sip:p2;lr>"
    assert ok.headers.all("Via") == invite.headers.all("Via")
    assert respond(invite, 486, to_tag="t").headers.get("Record-Route") is None
    strange = respond(request(To="sip:user;par=x@example.com"), 200, to_tag="t")
    assert strange.to.tag == "t"
    assert str(strange.to.uri) == "sip:user;par=x@example.com"
    assert respond(request(To='"broken <sip:x@y>'), 400, "a\r\nb", to_tag="t").reason == "a??b"


def test_ack_of_a_refusal_and_cancel() -> None:
    invite = request(Route="<sip:proxy;lr>")
    ack = acknowledge_failure(invite, respond(invite, 486, to_tag="there"))
    assert (ack.method, ack.uri, str(ack.cseq)) == ("ACK", invite.uri, "1 ACK")
    assert (ack.via, ack.to.tag, ack.headers.get("Route")) == (invite.via, "there", "<sip:proxy;lr>")
    cancel = cancel_of(invite)
    assert (cancel.via, cancel.to.tag, str(cancel.cseq)) == (invite.via, None, "1 CANCEL")
