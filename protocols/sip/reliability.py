"""Reliable provisional responses of RFC 3262: what acknowledges what."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.sip.grammar import SipSyntaxError, excerpt, is_token, number
from protocols.sip.message import Request, Response

OPTION = "100rel"
HIGHEST_FIRST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class RAck:
    """RFC 3262 7.2: the RSeq of the response, and the CSeq of what it responds to."""

    rseq: int
    cseq: int
    method: str

    @classmethod
    def parse(cls, text: str) -> RAck:
        parts = text.split()
        if len(parts) != 3 or not is_token(parts[2]):
            raise SipSyntaxError(f"not a RAck: {excerpt(text)}")
        return cls(number(parts[0], "RAck"), number(parts[1], "RAck", 2**31 - 1), parts[2])

    @classmethod
    def of(cls, response: Response) -> RAck:
        """What acknowledges that response. Raises SipSyntaxError."""
        cseq = response.cseq
        return cls(number(response.headers.get("RSeq") or "", "RSeq"), cseq.number, cseq.method)

    def __str__(self) -> str:
        return f"{self.rseq} {self.cseq} {self.method}"


def wants_reliable(request: Request) -> bool:
    """Whether provisional responses to that INVITE must be reliable (3): only if it requires them so."""
    return OPTION in request.headers.tokens("Require")


def is_reliable(response: Response) -> bool:
    """Whether a provisional response asks for a PRACK."""
    return 100 < response.status < 200 and OPTION in response.headers.tokens("Require")
