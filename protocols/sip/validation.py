"""What a user agent refuses before looking at the meaning of a request (RFC 3261 8.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.sip.grammar import SipSyntaxError, excerpt
from protocols.sip.headers import Via, parse_contacts
from protocols.sip.message import VERSION, Request, Response
from protocols.sip.uri import OtherUri, parse_uri


@dataclass(frozen=True, slots=True)
class Refusal:
    """The response a request earns: status, reason phrase, extra header fields."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this user agent takes: methods (upper case), option tags, media types and event packages
    (lower case)."""

    methods: tuple[str, ...]
    extensions: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ("application/sdp",)
    events: tuple[str, ...] = ()
    schemes: frozenset[str] = field(default=frozenset({"sip", "sips", "tel"}))

    def fields(self) -> tuple[tuple[str, str], ...]:
        """Allow, Accept, Supported and Allow-Events header fields."""
        fields = [("Allow", ", ".join(self.methods)), ("Accept", ", ".join(self.media_types))]
        if self.extensions:
            fields.append(("Supported", ", ".join(self.extensions)))
        if self.events:
            fields.append(("Allow-Events", ", ".join(self.events)))
        return tuple(fields)

    def answer_to_options(self) -> tuple[tuple[str, str], ...]:
        """The header fields of a 200 to OPTIONS (RFC 3261 11.2)."""
        return (*self.fields(), ("Accept-Encoding", "identity"), ("Accept-Language", "en"))


def fault_of(request: Request) -> Refusal | None:
    """505 or 400 when the request cannot be worked with: version, mandatory headers, their syntax."""
    if request.version != VERSION:
        return Refusal(505, f"SIP Version Not Supported: {excerpt(request.version)}")
    readers: tuple[Callable[[], object], ...] = (
        lambda: [Via.parse(value) for value in request.headers.items("Via")] or request.via,
        lambda: [address.uri for address in (request.from_, request.to)],
        lambda: request.call_id,
        lambda: request.cseq,
        lambda: request.max_forwards,
        lambda: request.record_routes,
        lambda: parse_contacts(request.headers.items("Contact")),
        lambda: request.content_type,
        lambda: parse_uri(request.uri),
    )
    try:
        for read in readers:
            read()
        if request.cseq.method != request.method:
            return Refusal(400, f"CSeq says {request.cseq.method}, the request line {request.method}")
    except SipSyntaxError as error:
        return Refusal(400, f"Bad Request: {error}")
    return None


def check_response(response: Response) -> None:
    """Raises SipSyntaxError for a response to be dropped: more than one Via (8.1.3.3), or unreadable."""
    if len(response.headers.items("Via")) > 1:
        raise SipSyntaxError("more than one Via in a response")
    readers: tuple[Callable[[], object], ...] = (
        lambda: response.via,
        lambda: response.from_,
        lambda: response.to,
        lambda: response.call_id,
        lambda: response.cseq,
        lambda: response.contact,
        lambda: response.record_routes,
    )
    for read in readers:
        read()


def refusal_of(request: Request, own: Capabilities) -> Refusal | None:
    """405, 416, 420 in the order of RFC 3261 8.2; None when the request may go on. Not for ACK.

    A Max-Forwards of 0 concerns proxies: an endpoint goes on as if it were more (RFC 4475 3.3.11).
    """
    if request.method not in own.methods:
        return Refusal(405, f"Method Not Allowed: {request.method}", (("Allow", ", ".join(own.methods)),))
    target = request.target
    if isinstance(target, OtherUri) and target.scheme not in own.schemes:
        return Refusal(416, f"Unsupported URI Scheme: {target.scheme}")
    if request.method != "CANCEL":
        known = {name.lower() for name in own.extensions}
        unknown = [item for item in request.headers.items("Require") if item and item.lower() not in known]
        if unknown:
            return Refusal(420, "Bad Extension", (("Unsupported", ", ".join(unknown)),))
    return None


def answer_refusal(request: Request) -> Refusal | None:
    """406 for an INVITE or UPDATE that takes no session description for an answer (RFC 4475 3.3.15)."""
    if not request.headers.all("Accept"):
        return None
    if request.headers.tokens("Accept") & {"application/sdp", "application/*", "*/*"}:
        return None
    return Refusal(406, "The answer would be application/sdp, which Accept does not name")


def body_refusal(request: Request, own: Capabilities) -> Refusal | None:
    """415 for a body of a type or encoding we cannot read (RFC 3261 8.2.3), unless it is marked optional."""
    if not request.body:
        return None
    encoding = request.headers.tokens("Content-Encoding") - {"identity"}
    if encoding:
        return Refusal(415, "Unsupported Content-Encoding", (("Accept-Encoding", "identity"),))
    kind = request.content_type
    known = kind is None or kind.name in own.media_types or kind.type == "multipart"
    optional = (
        "handling=optional" in (request.headers.get("Content-Disposition") or "").replace(" ", "").lower()
    )
    if known or optional:
        return None
    return Refusal(415, f"Unsupported Media Type: {kind}", (("Accept", ", ".join(own.media_types)),))
