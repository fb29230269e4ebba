"""Requests and responses (RFC 2326 6, 7); header fields in SIP's own list, whose grammar RTSP shares."""

from __future__ import annotations

import re
from dataclasses import dataclass

from protocols.sip.grammar import SipSyntaxError, excerpt, is_token, number
from protocols.sip.message import Headers, parse_headers

VERSION = "RTSP/1.0"
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    459: "Aggregate Operation Not Allowed",
    461: "Unsupported Transport",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Time-out",
    505: "RTSP Version Not Supported",
    551: "Option Not Supported",
}
"""RFC 2326 7.1.1, as far as we say them."""

_STATUS_LINE = re.compile(r"RTSP/(\d+\.\d+)[ \t]+(\d{3})(?:[ \t]+(.*))?", re.IGNORECASE)
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LARGEST_CSEQ = 2**63
_NO_HEADERS = Headers()


class MalformedRtsp(ValueError):
    """The peer's bytes are no RTSP message; `foreign` when they are of another protocol."""

    def __init__(self, what: str, foreign: bool = False) -> None:
        super().__init__(what)
        self.foreign = foreign


def _printed(start_line: str, headers: Headers, body: bytes) -> bytes:
    lines = [start_line, *(f"{name}: {value}" for name, value in headers.fields)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a line break inside a start line or header value")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def _cseq(headers: Headers) -> int | None:
    try:
        return number(headers.get("CSeq") or "", "CSeq", _LARGEST_CSEQ)
    except SipSyntaxError:
        return None


@dataclass(frozen=True, slots=True)
class Request:
    """RFC 2326 6; `uri` as written, "*" for none. Content-Length is printed from the body."""

    method: str
    uri: str
    headers: Headers = _NO_HEADERS
    body: bytes = b""
    version: str = VERSION

    @property
    def cseq(self) -> int | None:
        return _cseq(self.headers)

    def __bytes__(self) -> bytes:
        return _printed(f"{self.method} {self.uri} {self.version}", self.headers, self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """RFC 2326 7."""

    status: int
    reason: str
    headers: Headers = _NO_HEADERS
    body: bytes = b""

    @classmethod
    def of(cls, status: int, *fields: tuple[str, str], body: bytes = b"") -> Response:
        return cls(status, REASONS[status], Headers(fields), body)

    @property
    def cseq(self) -> int | None:
        return _cseq(self.headers)

    def __bytes__(self) -> bytes:
        return _printed(f"{VERSION} {self.status} {self.reason}", self.headers, self.body)


Message = Request | Response


def parse_message(data: bytes) -> Message:
    """One framed message; bare LF ends lines too. Raises MalformedRtsp."""
    data = data.lstrip(b"\r\n")
    end = _HEAD_END.search(data)
    head, body = (data[: end.start()], data[end.end() :]) if end else (data, b"")
    first, _, rest = head.partition(b"\n")
    line = first.decode("utf-8", "surrogateescape").strip()
    headers = parse_headers(rest).without("Content-Length")
    status = _STATUS_LINE.fullmatch(line)
    if status is not None:
        return Response(int(status[2]), (status[3] or "").strip(), headers, body)
    words = line.split()
    if len(words) < 3 or not is_token(words[0]):
        raise MalformedRtsp(f"neither a request line nor a status line: {excerpt(line)}")
    if words[-1].upper()[:5] != "RTSP/":
        raise MalformedRtsp(f"another protocol than RTSP: {excerpt(line)}", foreign=True)
    return Request(words[0].upper(), " ".join(words[1:-1]), headers, body, words[-1].upper())
