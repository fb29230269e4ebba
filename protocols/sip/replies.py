"""Messages made from messages: responses (RFC 3261 8.2.6), ACK of a refusal (17.1.1.3), CANCEL (9.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import CSeq, NameAddress
from protocols.sip.message import Headers, Request, Response
from protocols.sip.reasons import reason_of

Fields = Iterable[tuple[str, str]]
_ONCE = frozenset({"From", "To", "Call-ID", "CSeq"})
_ECHOED = _ONCE | {"Via"}


def safe_reason(text: str) -> str:
    """A reason phrase in one line of printable ASCII."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)[:200]


def respond(
    request: Request,
    status: int,
    reason: str | None = None,
    headers: Fields = (),
    body: bytes = b"",
    to_tag: str | None = None,
) -> Response:
    """A response: Via, From, To, Call-ID, CSeq echoed as written, the To tag added where there is none.

    Those that make a dialog (101 to 299 of an INVITE or SUBSCRIBE) echo Record-Route too (RFC 3261 12.1.1).
    """
    makes_dialog = 100 < status < 300 and request.method in ("INVITE", "SUBSCRIBE")
    echoed = _ECHOED | ({"Record-Route"} if makes_dialog else {"Timestamp"} if status == 100 else set())
    fields: list[tuple[str, str]] = []
    seen: set[str] = set()
    for name, value in request.headers.fields:
        if name in _ONCE:
            if name in seen:
                continue  # a 400 to a request that has it twice must not have it twice itself
            seen.add(name)
        if name == "To" and to_tag and status > 100:
            fields.append((name, _tagged(value, to_tag)))
        elif name in echoed:
            fields.append((name, value))
    text = reason_of(status) if reason is None else safe_reason(reason)
    return Response(status, text, Headers(tuple(fields)).having(*headers), body)


def _tagged(value: str, tag: str) -> str:
    try:
        address = NameAddress.parse(value)
    except SipSyntaxError:
        return value  # a 400 to a broken To: echoed as it came
    if address.tag is not None:
        return value
    # Appended to the text rather than printed anew, so that the peer finds its own spelling. Only an
    # addr-spec with a semicolon in its user part would change its meaning.
    return f"{value};tag={tag}" if "<" in value or ";" not in value else str(address.with_tag(tag))


def acknowledge_failure(request: Request, response: Response) -> Request:
    """The ACK of a 3xx to 6xx: the INVITE's Request-URI, top Via and Route, the response's To (17.1.1.3)."""
    fields = [("Via", str(request.via))]
    fields += [("Route", value) for value in request.headers.all("Route")]
    fields.append(("From", request.headers.get("From") or ""))
    fields.append(("To", response.headers.get("To") or request.headers.get("To") or ""))
    fields.append(("Call-ID", request.call_id))
    fields.append(("CSeq", str(replace(request.cseq, method="ACK"))))
    fields.append(("Max-Forwards", "70"))
    return Request("ACK", request.uri, Headers(tuple(fields)))


def cancel_of(request: Request) -> Request:
    """The CANCEL of a pending INVITE (RFC 3261 9.1)."""
    fields = [("Via", str(request.via))]
    fields += [("Route", value) for value in request.headers.all("Route")]
    fields += [(name, request.headers.get(name) or "") for name in ("From", "To", "Call-ID")]
    fields.append(("CSeq", str(CSeq(request.cseq.number, "CANCEL"))))
    fields.append(("Max-Forwards", "70"))
    return Request("CANCEL", request.uri, Headers(tuple(fields)))
