"""Fuzzes all that reads SIP from a peer: `python -m fuzz.sip_message [seconds] [seed]`.

Mutations of fuzz/corpus/sip go through the path an endpoint takes (framing, parsing, validation, replies,
dialog, digest, session timer, SDP extraction). Faults: any exception but SipSyntaxError, a reply that cannot
be printed or parsed again, an input that takes longer than a second. Culprits are kept in build/fuzz/sip.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable

from fuzz.campaign import main
from fuzz.text import campaign
from protocols.sip.authorization import Challenge, DigestCredentials
from protocols.sip.body import sdp_of
from protocols.sip.dialog import Dialog
from protocols.sip.dtmf import BARE, RELAY, parse_key
from protocols.sip.framing import Framed, StreamFramer
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import NameAddress
from protocols.sip.message import MalformedMessage, Request, Response, parse_message
from protocols.sip.refer import Referral, sipfrag
from protocols.sip.registration import Registration, printed
from protocols.sip.reliability import RAck, is_reliable
from protocols.sip.replies import acknowledge_failure, cancel_of, respond
from protocols.sip.session_timer import answer_session, session_of_answer
from protocols.sip.subscription import EventType, interval
from protocols.sip.transaction_layer import server_key
from protocols.sip.validation import Capabilities, body_refusal, check_response, fault_of, refusal_of

METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "UPDATE", "PRACK", "REGISTER", "SUBSCRIBE")
OWN = Capabilities((*METHODS, "NOTIFY", "REFER", "MESSAGE"), ("timer", "100rel", "norefersub"))
SPLICES = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\r\n ", b'"', b"\\", b"<", b">", b";", b",", b"=", b":", b"@",
    b"*", b"[", b"]", b"%", b"\0", b"\xff", b"\xb9\xe3", b"-1", b"99999999999999999999", b"SIP/2.0",
    b"Content-Length: ", b"l: 5\r\n", b"Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\n", b"Contact: *\r\n",
    b";tag=", b";lr", b"sip:", b"?", b"&", b"\r\n\r\n",
]  # fmt: skip


def try_request(request: Request) -> None:
    """All that an endpoint does with a request."""
    if fault_of(request) is not None:
        parse_message(respond(request, 400, "Bad Request", to_tag="t").to_bytes())
        return
    request = request.seen_from("192.0.2.1", 5060)
    server_key(request)
    refusal_of(request, OWN)
    body_refusal(request, OWN)
    answer = respond(request, 200, None, [("Contact", "<sip:a@h>")], b"v=0\r\n", to_tag="t")
    again = parse_message(answer.to_bytes())
    assert again == answer, "a printed reply parses to itself"
    again = parse_message(request.to_bytes())
    assert again == request, "a printed request parses to itself"
    answer_session(request, 1800, 90)
    for text in request.headers.all("Authorization"):
        str(DigestCredentials.parse(text))
    try_method(request)
    dialog = Dialog.of_server(request, "t", "<sip:me@h>", 1)
    dialog.request("BYE").to_bytes()
    dialog.next_hop()
    acknowledge_failure(request, answer).to_bytes()
    cancel_of(request).to_bytes()
    sdp_of(request)


def try_method(request: Request) -> None:
    """What is read of one method only, each whatever the others are."""
    readers: tuple[Callable[[], object], ...] = (
        lambda: try_registration(Registration.parse(request)),
        lambda: sipfrag(200, Referral.parse(request).display_name),
        lambda: EventType.of(request),
        lambda: interval(request, 60, 3600),
        lambda: RAck.parse(request.headers.get("RAck") or ""),
    )
    for read in readers:
        with contextlib.suppress(SipSyntaxError):
            read()
    for kind in (RELAY, BARE):
        parse_key(kind, request.body)


def try_registration(wanted: Registration) -> None:
    wanted.brief(60)
    for one in wanted.contacts:
        NameAddress.parse(printed(one.contact, one.q, one.seconds))
    wanted.apply(())


def try_response(response: Response) -> None:
    """All that an endpoint does with a response."""
    check_response(response)
    assert parse_message(response.to_bytes()) == response, "a printed response parses to itself"
    session_of_answer(response)
    if is_reliable(response):
        str(RAck.of(response))
    sdp_of(response)
    for text in response.headers.all("WWW-Authenticate"):
        str(Challenge.parse(text))


def try_bytes(data: bytes, chance: random.Random) -> None:
    """Raises whatever is not the peer's fault."""
    framer = StreamFramer()
    cut = chance.randint(0, len(data))
    framed = [event for piece in (data[:cut], data[cut:]) for event in framer.feed(piece)]
    for piece in [data, *(event.data for event in framed if isinstance(event, Framed))]:
        try:
            message = parse_message(piece)
        except MalformedMessage as error:
            if error.request is not None:
                respond(error.request, 400, str(error), to_tag="t").to_bytes()
            continue
        try:
            if isinstance(message, Request):
                try_request(message)
            else:
                try_response(message)
        except MalformedMessage:
            raise AssertionError("what we printed cannot be read") from None
        except SipSyntaxError:
            continue


def foreign(chance: random.Random, data: bytearray, at: int, corpus: list[bytes]) -> None:
    """A piece of another message."""
    other = chance.choice(corpus)
    start = chance.randint(0, len(other))
    data[at:at] = other[start : start + chance.randint(1, 200)]


def repeated(chance: random.Random, data: bytearray, at: int, _corpus: list[bytes]) -> None:
    data[at:at] = bytes(data[at : at + chance.randint(1, 40)]) * chance.choice((1, 2, 200))


if __name__ == "__main__":
    sip = campaign("sip", try_bytes, SPLICES, (foreign, repeated))
    sys.exit(main([sip], sys.argv[1:], seconds=300.0))
