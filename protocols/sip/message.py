"""Requests and responses of RFC 3261 7: raw texts in order, parsed tolerantly, printed exactly.

A message keeps header texts as the peer wrote them (UTF-8, other bytes as surrogate escapes, so GB18030
survives); the accessors parse one header at a time and raise SipSyntaxError. Content-Length is not kept
as a field: the body is the truth, and the printer states its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from protocols.sip.grammar import SipSyntaxError, excerpt, is_token, number
from protocols.sip.headers import CSeq, MediaType, NameAddress, Via, parse_addresses, split_list
from protocols.sip.uri import Uri, parse_uri

VERSION = "SIP/2.0"
MAX_MESSAGE = 256 * 1024

_COMPACT = {
    "a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition",
    "e": "Content-Encoding", "f": "From", "i": "Call-ID", "j": "Reject-Contact", "k": "Supported",
    "l": "Content-Length", "m": "Contact", "n": "Identity-Info", "o": "Event", "r": "Refer-To",
    "s": "Subject", "t": "To", "u": "Allow-Events", "v": "Via", "x": "Session-Expires", "y": "Identity",
}  # fmt: skip
_KNOWN = (
    "Accept", "Alert-Info", "Allow", "Authorization", "Call-Info", "Content-Disposition",
    "Content-Language", "CSeq", "Date", "Error-Info", "Expires", "In-Reply-To", "Max-Forwards",
    "Min-Expires", "Min-SE", "MIME-Version", "Organization", "P-Asserted-Identity", "Path", "Priority",
    "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Require", "RAck", "Reason", "Record-Route",
    "Replaces", "Reply-To", "Require", "Retry-After", "Route", "RSeq", "Server", "Subscription-State",
    "Timestamp", "Unsupported", "User-Agent", "Warning", "WWW-Authenticate",
)  # fmt: skip
_CANONICAL = {name.lower(): name for name in (*_COMPACT.values(), *_KNOWN)} | _COMPACT

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(r"\r?\n[ \t]+")
_LINE_END = re.compile(r"\r?\n")
_STATUS_LINE = re.compile(r"SIP/(\d+\.\d+)[ \t]+([0-9]{3})(?:[ \t]+(.*)|[ \t]*)", re.IGNORECASE | re.DOTALL)
_SINGLE = ("Call-ID", "CSeq", "From", "To", "Max-Forwards")


def canonical_name(name: str) -> str:
    """The standard's spelling of a header name, compact forms opened; unknown names stay as they are."""
    return _CANONICAL.get(name.lower(), name)


@dataclass(frozen=True, slots=True)
class Headers:
    """Header fields in order, names in their standard spelling."""

    fields: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """The first value of the header, or None."""
        wanted, length = name.lower(), len(name)
        for key, value in self.fields:  # asked for very often: lengths tell most names apart
            if len(key) == length and key.lower() == wanted:
                return value
        return None

    def all(self, name: str) -> list[str]:
        """The value of each line of that header."""
        wanted, length = name.lower(), len(name)
        return [value for key, value in self.fields if len(key) == length and key.lower() == wanted]

    def items(self, name: str) -> list[str]:
        """Every item of a comma-separated header, over all its lines."""
        return [item for value in self.all(name) for item in split_list(value)]

    def tokens(self, name: str) -> frozenset[str]:
        """The items without their parameters, in lower case: Supported, Require, Allow ..."""
        return frozenset(item.partition(";")[0].strip().lower() for item in self.items(name) if item)

    def having(self, *fields: tuple[str, str]) -> Headers:
        """These fields appended."""
        return Headers((*self.fields, *((canonical_name(name), value) for name, value in fields)))

    def led_by(self, name: str, value: str) -> Headers:
        """The field put before all others."""
        return Headers(((canonical_name(name), value), *self.fields))

    def replacing(self, name: str, value: str) -> Headers:
        """The first such field replaced in its place (others of the name stay), or appended."""
        wanted = name.lower()
        for index, (key, _) in enumerate(self.fields):
            if key.lower() == wanted:
                return Headers((*self.fields[:index], (key, value), *self.fields[index + 1 :]))
        return self.having((name, value))

    def without(self, *names: str) -> Headers:
        dropped = {name.lower() for name in names}
        return Headers(tuple(field for field in self.fields if field[0].lower() not in dropped))


class _Message:
    """What requests and responses share."""

    __slots__ = ()
    headers: Headers
    body: bytes

    def _required(self, name: str) -> str:
        value = self.headers.get(name)
        if not value:
            raise SipSyntaxError(f"{name} is missing")
        return value

    @property
    def via(self) -> Via:
        """The top Via."""
        return Via.parse(split_list(self._required("Via"))[0])

    @property
    def from_(self) -> NameAddress:
        return NameAddress.parse(self._required("From"))

    @property
    def to(self) -> NameAddress:
        return NameAddress.parse(self._required("To"))

    @property
    def call_id(self) -> str:
        return self._required("Call-ID")

    @property
    def cseq(self) -> CSeq:
        return CSeq.parse(self._required("CSeq"))

    @property
    def contact(self) -> NameAddress | None:
        """The first Contact; None when absent or a star."""
        items = [item for item in self.headers.items("Contact") if item]
        return NameAddress.parse(items[0]) if items and items[0] != "*" else None

    @property
    def record_routes(self) -> tuple[NameAddress, ...]:
        return parse_addresses(self.headers.items("Record-Route"))

    @property
    def content_type(self) -> MediaType | None:
        value = self.headers.get("Content-Type")
        return MediaType.parse(value) if value else None

    def _printed(self, start_line: str) -> bytes:
        lines = [start_line]
        lines.extend(f"{name}: {value}" for name, value in self.headers.fields if name != "Content-Length")
        if any("\n" in line or "\r" in line for line in lines):
            raise ValueError("a line break inside a start line or header value")
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


@dataclass(frozen=True, slots=True)
class Request(_Message):
    """A request; ``uri`` is the Request-URI as written."""

    method: str
    uri: str
    headers: Headers = Headers()
    body: bytes = b""
    version: str = VERSION

    @property
    def target(self) -> Uri:
        """The Request-URI taken apart."""
        return parse_uri(self.uri)

    @property
    def max_forwards(self) -> int | None:
        value = self.headers.get("Max-Forwards")
        return None if value is None else number(value, "Max-Forwards", 255)

    def seen_from(self, host: str, port: int) -> Request:
        """The request with received and rport noted in its top Via (RFC 3261 18.2.1)."""
        values = split_list(self._required("Via"))
        values[0] = str(Via.parse(values[0]).seen_from(host, port))
        return replace(self, headers=self.headers.replacing("Via", ", ".join(values)))

    def to_bytes(self) -> bytes:
        return self._printed(f"{self.method} {self.uri} {self.version}")


@dataclass(frozen=True, slots=True)
class Response(_Message):
    """A response."""

    status: int
    reason: str
    headers: Headers = Headers()
    body: bytes = b""

    def to_bytes(self) -> bytes:
        return self._printed(f"{VERSION} {self.status} {self.reason}")


Message = Request | Response


class MalformedMessage(SipSyntaxError):
    """The bytes are no message. ``request`` carries what could be read, if a 400 can be answered to it."""

    def __init__(self, what: str, request: Request | None = None) -> None:
        super().__init__(what)
        self.request = request


def split_head(data: bytes) -> tuple[bytes, bytes]:
    """The head (start line and headers) and what follows the blank line."""
    match = _HEAD_END.search(data)
    return (data, b"") if match is None else (data[: match.start()], data[match.end() :])


def parse_message(data: bytes) -> Message:
    """One message from a datagram, or one framed from a stream. Octets beyond Content-Length are dropped.

    Raises MalformedMessage and nothing else.
    """
    if len(data) > MAX_MESSAGE:
        raise MalformedMessage(f"a message of {len(data)} bytes is too large")
    head, body = split_head(data.lstrip(b"\r\n"))
    unfolded = _FOLD.sub(" ", head.decode("utf-8", "surrogateescape"))
    lines = [line.replace("\r", " ") for line in _LINE_END.split(unfolded)]
    start_line = lines[0].strip()
    headers, fault = _parse_headers(lines[1:])
    length, fault = _content_length(headers, len(body), fault)
    fields, body = headers.without("Content-Length"), body[:length]
    status = _STATUS_LINE.fullmatch(start_line)
    if status is not None:
        code = int(status.group(2))
        if fault or status.group(1) != "2.0" or not 100 <= code < 700:
            raise MalformedMessage(fault or f"not a response we know: {excerpt(start_line)}")
        return Response(code, (status.group(3) or "").strip(), fields, body)
    request, wrong_line = _parse_request_line(start_line, fields, body)
    if wrong_line or fault:
        raise MalformedMessage(wrong_line or fault, request)
    return request


def _parse_request_line(line: str, headers: Headers, body: bytes) -> tuple[Request, str]:
    parts = line.split()
    if len(parts) < 3 or not is_token(parts[0]) or not parts[-1].upper().startswith("SIP/"):
        raise MalformedMessage(f"neither a request line nor a status line: {excerpt(line)}")
    uri = " ".join(parts[1:-1])
    request = Request(parts[0], uri, headers, body, parts[-1].upper())
    return request, "the Request-URI contains a space" if len(parts) > 3 else ""


def parse_headers(block: bytes) -> Headers:
    """A block of header lines on its own, as in a part of a multipart body; what is no header is skipped."""
    unfolded = _FOLD.sub(" ", block.decode("utf-8", "surrogateescape"))
    return _parse_headers(line.replace("\r", " ") for line in _LINE_END.split(unfolded))[0]


def _parse_headers(lines: Iterable[str]) -> tuple[Headers, str]:
    fields: list[tuple[str, str]] = []
    fault = ""
    for line in lines:
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if not colon or not is_token(name):
            fault = fault or f"not a header line: {excerpt(line)}"
            continue
        fields.append((canonical_name(name), value.strip()))
    headers = Headers(tuple(fields))
    for name in _SINGLE:
        if len(headers.all(name)) > 1:
            fault = fault or f"{name} appears more than once"
    return headers, fault


def _content_length(headers: Headers, present: int, fault: str) -> tuple[int, str]:
    values = headers.all("Content-Length")
    if not values:
        return present, fault
    try:
        length = number(values[0], "Content-Length", MAX_MESSAGE)
    except SipSyntaxError as error:
        return present, fault or str(error)
    if len(values) > 1:
        return present, fault or "Content-Length appears more than once"
    if length > present:
        return present, fault or f"Content-Length says {length} bytes, {present} came"
    return length, fault
