"""Messages the SIP tests share."""

from collections.abc import Callable

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.message import Headers, Request, parse_message

OFFER = b"v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"


def request(method: str = "INVITE", *, branch: str = "z9hG4bKa1", **changes: str) -> Request:
    """A plain request; ``changes`` replace header values (underscores for hyphens), "" drops one."""
    fields = {
        "Via": f"SIP/2.0/UDP 192.0.2.5:5070;branch={branch};rport",
        "From": "Room <sip:room@gx.example>;tag=from1",
        "To": "<sip:8001@192.0.2.1>",
        "Call-ID": "call-1@192.0.2.5",
        "CSeq": f"1 {method}",
        "Max-Forwards": "70",
        "Contact": "<sip:room@192.0.2.5:5070>",
    }
    for name, value in changes.items():
        fields[name.replace("_", "-")] = value
    kept = tuple((name, value) for name, value in fields.items() if value)
    return Request(method, "sip:8001@192.0.2.1", Headers(()).having(*kept))


def parsed_request(data: bytes) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


def complaint(parse: Callable[[str], object], text: str) -> str:
    """What a parser says against a text; "" when it takes it. Any other exception goes through."""
    try:
        parse(text)
    except SipSyntaxError as error:
        return str(error)
    return ""
