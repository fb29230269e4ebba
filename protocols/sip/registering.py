"""Our own registration at somebody else's registrar (RFC 3261 10.2): what to do after each answer.

plan = Registering(asked=600, first_wait=30.0)
plan.took(response, contact, draw) -> Next        # draw: a random number from 0 to 1
plan.failed(draw) -> Next                         # no answer at all

Waits between failures double, up to half an hour, each between half and the whole of it (RFC 5626 4.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from protocols.sip.grammar import SipSyntaxError, number
from protocols.sip.headers import parse_contacts
from protocols.sip.message import Response
from protocols.sip.uri import SipUri

LONGEST_WAIT = 1800.0
MOST_REDIRECTIONS = 5
LONGEST_INTERVAL = 86_400
_REFUSALS = frozenset({401, 403, 404, 407, 410, 480, 604})
"""Answers that will not change by asking again soon: who we say we are is not known there."""


class Standing(StrEnum):
    """How the last attempt ended."""

    REGISTERED = "registered"
    AGAIN = "again"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Next:
    """What follows: `wait` seconds, then a REGISTER for `asked` seconds, at `target` if that is given.

    `granted` is how long the registration holds that the answer brought.
    """

    standing: Standing
    wait: float
    asked: int
    granted: int | None = None
    target: SipUri | None = None


class Registering:
    """The state of one registration; times are seconds."""

    def __init__(self, asked: int, first_wait: float) -> None:
        self._asked = asked
        self._first_wait = first_wait
        self._failures = 0
        self._raised = False
        self._redirections = 0

    def took(self, response: Response, contact: SipUri, draw: float) -> Next:
        """A final answer came; its challenges have been answered already."""
        if response.status < 300:
            self._failures = self._redirections = 0
            self._raised = False
            granted = granted_seconds(response, contact, self._asked)
            if granted is None:
                return self._later(Standing.REFUSED, draw)
            return Next(Standing.REGISTERED, refresh_after(granted, draw), self._asked, granted)
        if response.status < 400 and self._redirections < MOST_REDIRECTIONS:
            target = _redirected(response)
            if target is not None:
                self._redirections += 1
                return Next(Standing.AGAIN, 0.0, self._asked, target=target)
        if response.status == 423 and not self._raised:
            least = _seconds(response, "Min-Expires")
            if least is not None and self._asked < least <= LONGEST_INTERVAL:
                self._asked, self._raised = least, True
                return Next(Standing.AGAIN, 0.0, self._asked)
        self._redirections = 0
        standing = Standing.REFUSED if response.status in _REFUSALS else Standing.UNREACHABLE
        return self._later(standing, draw, _seconds(response, "Retry-After") or 0)

    def failed(self, draw: float) -> Next:
        """Nobody answered."""
        return self._later(Standing.UNREACHABLE, draw)

    def _later(self, standing: Standing, draw: float, least: float = 0.0) -> Next:
        longest = min(self._first_wait * 2**self._failures, LONGEST_WAIT)
        self._failures = min(self._failures + 1, 16)
        wait = longest * (0.5 + draw / 2)
        return Next(standing, max(wait, min(least, LONGEST_WAIT)), self._asked)


def granted_seconds(response: Response, contact: SipUri, asked: int) -> int | None:
    """How long the 200 lets our Contact stand (10.2.4); None when it lists others but not ours.

    A registrar that lists nothing is taken to grant what its Expires header says, or what was asked.
    """
    header = _seconds(response, "Expires")
    default = asked if header is None else header
    try:
        listed = parse_contacts(response.headers.items("Contact"))
    except SipSyntaxError:
        return default
    if listed == "*" or not listed:
        return default
    for one in listed:
        if isinstance(one.uri, SipUri) and _ours(one.uri, contact):
            try:
                return number(one.parameters.get("expires") or str(default), "expires") or None
            except SipSyntaxError:
                return default
    return None


def refresh_after(granted: int, draw: float) -> float:
    """Seconds until the refresh: at 75 to 90 % of the interval, so that two losses are made up for."""
    return granted * (0.75 + 0.15 * draw)


def _ours(listed: SipUri, contact: SipUri) -> bool:
    """The same place; some registrars print their own parameters, or another address behind a NAT."""
    return listed.user_text == contact.user_text and bool(contact.user)


def _redirected(response: Response) -> SipUri | None:
    try:
        listed = parse_contacts(response.headers.items("Contact"))
    except SipSyntaxError:
        return None
    if listed == "*":
        return None
    return next((one.uri for one in listed if isinstance(one.uri, SipUri)), None)


def _seconds(response: Response, name: str) -> int | None:
    """The number at the head of a field; what follows it (a comment, parameters) is passed over."""
    words = (response.headers.get(name) or "").replace(";", " ").replace("(", " ").split()
    try:
        return number(words[0], name) if words else None
    except SipSyntaxError:
        return None
