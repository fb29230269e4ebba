"""Session timers of RFC 4028: who refreshes, how often, and when a session counts as dead."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.sip.grammar import number
from protocols.sip.headers import Refresher, SessionExpires
from protocols.sip.message import Message, Request, Response
from protocols.sip.validation import Refusal

LEAST_INTERVAL = 90
"""Seconds below which nobody may go (RFC 4028 5)."""


@dataclass(frozen=True, slots=True)
class SessionAgreement:
    """The interval agreed, in seconds, and whether the refreshes are ours to send."""

    seconds: int
    ours: bool

    def refresh_at(self, since: float) -> float | None:
        """When to refresh: half the interval after the last time (RFC 4028 10); None: the peer does."""
        return since + self.seconds / 2 if self.ours else None

    def expires_at(self, since: float) -> float:
        """When to give the session up with a BYE: the refresher at the end, the other a little before it."""
        return since + (self.seconds if self.ours else self.seconds - min(32.0, self.seconds / 3))


@dataclass(frozen=True, slots=True)
class SessionAnswer:
    """What a UAS puts into its 2xx: the agreement (None: no timer) and the header fields that state it."""

    agreement: SessionAgreement | None
    headers: tuple[tuple[str, str], ...] = ()


def supports_timer(message: Message) -> bool:
    return "timer" in message.headers.tokens("Supported") | message.headers.tokens("Require")


def answer_session(request: Request, wanted: int, least: int) -> SessionAnswer | Refusal:
    """The UAS's side of an INVITE or UPDATE (RFC 4028 9). Raises SipSyntaxError.

    ``wanted`` is the interval we like, ``least`` the shortest we take; both in seconds.
    """
    supported = supports_timer(request)
    asked_text = request.headers.get("Session-Expires")
    asked = SessionExpires.parse(asked_text) if asked_text else None
    if asked is not None and asked.seconds < least:
        if supported:
            return Refusal(422, "Session Interval Too Small", (("Min-SE", str(least)),))
        asked = SessionExpires(least, asked.refresher)
    if asked is None and not supported:
        return SessionAnswer(None)
    floor = max(least, number(request.headers.get("Min-SE") or "0", "Min-SE"))
    seconds = max(min(asked.seconds, wanted) if asked is not None else wanted, floor)
    refresher: Refresher = "uas"
    if supported:
        refresher = (asked.refresher if asked is not None else None) or "uac"
    fields = [("Session-Expires", str(SessionExpires(seconds, refresher)))]
    if refresher == "uac":
        fields.append(("Require", "timer"))
    return SessionAnswer(SessionAgreement(seconds, ours=refresher == "uas"), tuple(fields))


def request_session(
    wanted: int, least: int, current: SessionAgreement | None = None
) -> tuple[tuple[str, str], ...]:
    """The header fields of an INVITE or UPDATE of ours (RFC 4028 7.1); an agreement keeps its refresher."""
    refresher: Refresher | None = None
    if current is not None:
        wanted = current.seconds
        refresher = "uac" if current.ours else "uas"
    fields = [("Session-Expires", str(SessionExpires(max(wanted, least), refresher)))]
    if least > LEAST_INTERVAL:
        fields.append(("Min-SE", str(least)))
    return tuple(fields)


def session_of_answer(response: Response) -> SessionAgreement | None:
    """The UAC's side of a 2xx (RFC 4028 7.2). Raises SipSyntaxError."""
    text = response.headers.get("Session-Expires")
    if not text:
        return None
    stated = SessionExpires.parse(text)
    # An answer that names nobody leaves the work to us, who asked for it.
    return SessionAgreement(max(stated.seconds, LEAST_INTERVAL), ours=stated.refresher != "uas")


def larger_interval(refusal: Response, wanted: int) -> int | None:
    """What a 422 asks for; None when it asks for nothing more than we offered. Raises SipSyntaxError."""
    least = number(refusal.headers.get("Min-SE") or "0", "Min-SE")
    return least if least > wanted else None
