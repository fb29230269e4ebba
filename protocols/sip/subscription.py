"""Event, Subscription-State and the interval of a SUBSCRIBE (RFC 6665)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.sip.grammar import Parameters, SipSyntaxError, excerpt, is_token, number
from protocols.sip.message import Request
from protocols.sip.validation import Refusal

HOUR = 3600


@dataclass(frozen=True, slots=True)
class EventType:
    """Event of RFC 6665 8.2.1: package and id; both must agree for two to be of one subscription (4.5.1)."""

    package: str
    id: str | None = None

    @classmethod
    def of(cls, request: Request) -> EventType:
        """Raises SipSyntaxError when it is missing or cannot be read."""
        text = request.headers.get("Event")
        if not text:
            raise SipSyntaxError("Event is missing")
        package, semicolon, rest = text.partition(";")
        if not is_token(package.strip()):
            raise SipSyntaxError(f"not an Event: {excerpt(text)}")
        return cls(package.strip().lower(), Parameters.parse(semicolon + rest).get("id"))

    def __str__(self) -> str:
        return self.package if self.id is None else f"{self.package};id={self.id}"


def interval(request: Request, least: int, most: int) -> int | Refusal:
    """Seconds granted to a SUBSCRIBE: 0 asks for the state once; 423 below `least` (4.2.1.1)."""
    text = request.headers.get("Expires")
    wanted = most if text is None else number(text, "Expires")
    if 0 < wanted < min(least, HOUR):
        return Refusal(423, "Interval Too Brief", (("Min-Expires", str(least)),))
    return min(wanted, most)


def state_of(seconds: float, ended: str | None) -> str:
    """Subscription-State: active with what is left, or terminated with the reason (4.1.3)."""
    return f"active;expires={max(0, round(seconds))}" if ended is None else f"terminated;reason={ended}"
