"""REFER: what a peer asks us to do (RFC 3515, RFC 4488), and how we tell it what became of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import unquote

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import NameAddress
from protocols.sip.message import VERSION, Request
from protocols.sip.reasons import reason_of
from protocols.sip.replies import safe_reason
from protocols.sip.uri import SipUri, Uri

SIPFRAG = "message/sipfrag;version=2.0"


@dataclass(frozen=True, slots=True)
class Referral:
    """A REFER taken apart. `number` is its CSeq, which tells two of one dialog apart (2.4.6)."""

    target: Uri
    display_name: str
    method: str
    headers: frozenset[str]
    notified: bool
    number: int

    @classmethod
    def parse(cls, request: Request) -> Referral:
        """Raises SipSyntaxError unless there is exactly one Refer-To, and it can be read (2.1)."""
        items = request.headers.items("Refer-To")
        if len(items) != 1:
            raise SipSyntaxError(f"REFER has {len(items)} Refer-To values")
        address = NameAddress.parse(items[0])
        uri, method, headers = address.uri, "INVITE", frozenset[str]()
        if isinstance(uri, SipUri):
            method = (uri.parameters.get("method") or method).upper()
            names = (pair.partition("=")[0] for pair in uri.headers.split("&") if pair)
            headers = frozenset(unquote(name).lower() for name in names)
            uri = replace(uri, headers="", parameters=uri.parameters.without("method"))
        wanted = (request.headers.get("Refer-Sub") or "true").partition(";")[0].strip().lower()
        return cls(uri, address.display_name, method, headers, wanted != "false", request.cseq.number)

    @property
    def is_plain_invite(self) -> bool:
        """To call a SIP address: no other method, and no dialog to replace (RFC 3891)."""
        return isinstance(self.target, SipUri) and self.method == "INVITE" and not self.headers


def sipfrag(status: int, reason: str | None = None) -> bytes:
    """The status line of a response as a message fragment (RFC 3420)."""
    text = reason_of(status) if reason is None else safe_reason(reason)
    return f"{VERSION} {status} {text}\r\n".encode("ascii")
