"""The session description inside a message, bare or as a part of a multipart body (RFC 5621)."""

from __future__ import annotations

import re

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import MediaType
from protocols.sip.message import Headers, Message, parse_headers

SDP = "application/sdp"
_PART_END = re.compile(rb"\r?\n\r?\n")
_DEEPEST = 4


def sdp_of(message: Message) -> bytes | None:
    """The SDP of a message, None when it carries none. Raises SipSyntaxError for a broken Content-Type."""
    if not message.body.strip():
        return None
    kind = message.content_type
    if kind is None:
        return message.body if message.body.lstrip().startswith(b"v=") else None
    if kind.name == SDP:
        return message.body
    return _sdp_part(kind, message.body, _DEEPEST) if kind.type == "multipart" else None


def _sdp_part(kind: MediaType, body: bytes, depth: int) -> bytes | None:
    """Parts may be multipart themselves (RFC 5621 3.1), to a bounded depth."""
    boundary = kind.parameters.get("boundary")
    if not boundary:
        raise SipSyntaxError("a multipart body without boundary")
    delimiter = b"--" + boundary.encode("utf-8", "surrogateescape")
    for part in body.split(delimiter)[1:]:
        if part.startswith(b"--"):
            break
        headers, content = _taken_apart(part)
        declared = headers.get("Content-Type")
        if declared is None:
            continue
        part_kind = MediaType.parse(declared)
        if part_kind.name == SDP:
            return content.removesuffix(b"\n").removesuffix(b"\r") if content.endswith(b"\n") else content
        if part_kind.type == "multipart" and depth > 1:
            found = _sdp_part(part_kind, content, depth - 1)
            if found is not None:
                return found
    return None


def _taken_apart(part: bytes) -> tuple[Headers, bytes]:
    end = _PART_END.search(part)
    if end is None:
        return Headers(), part
    return parse_headers(part[: end.start()]), part[end.end() :]
