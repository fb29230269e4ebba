"""What a REGISTER asks of a registrar, and what becomes of the bindings there are (RFC 3261 10.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from protocols.sip.grammar import SipSyntaxError, number
from protocols.sip.headers import NameAddress, parse_contacts
from protocols.sip.message import Request
from protocols.sip.uri import SipUri
from protocols.sip.validation import Refusal

HOUR = 3600
"""Seconds below which a registrar may call an interval too brief, and what a malformed one stands for."""
HIGHEST = 1000


class Bound(Protocol):
    """A binding as the registrar keeps it; `call_key` is `call_key()` of the Call-ID that brought it."""

    @property
    def contact(self) -> NameAddress: ...

    @property
    def call_key(self) -> str: ...

    @property
    def cseq(self) -> int: ...


BoundT = TypeVar("BoundT", bound=Bound)


def call_key(call_id: str) -> str:
    """A Call-ID of any length and bytes as 64 hex digits, to compare later ones with."""
    return hashlib.sha256(call_id.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class WantedContact:
    """One Contact of a REGISTER: without its q (in thousandths) and expires (in seconds)."""

    contact: NameAddress
    q: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Changes(Generic[BoundT]):
    """Which bindings stay as they are, and which contacts get a new or fresh one."""

    kept: tuple[BoundT, ...]
    placed: tuple[WantedContact, ...]


@dataclass(frozen=True, slots=True)
class Registration:
    """A REGISTER. No contacts and no star: it only asks what there is (10.2.3)."""

    call_key: str
    cseq: int
    star: bool
    contacts: tuple[WantedContact, ...]

    @classmethod
    def parse(cls, request: Request, default: int = HOUR) -> Registration:
        """`default` seconds where nobody names an interval. Raises SipSyntaxError."""
        listed = parse_contacts(request.headers.items("Contact"))
        header = request.headers.get("Expires")
        seconds = default if header is None else _seconds(header)
        contacts: tuple[WantedContact, ...] = ()
        if listed != "*":
            contacts = tuple(_wanted(one, seconds) for one in listed)
        elif header is None or seconds != 0:
            raise SipSyntaxError("Contact is a star, but Expires is not 0")
        return cls(call_key(request.call_id), request.cseq.number, listed == "*", contacts)

    @property
    def changes_nothing(self) -> bool:
        return not self.star and not self.contacts

    def brief(self, least: int) -> Refusal | None:
        """423 for an interval that is too short (10.3 step 7); a removal is none."""
        if any(0 < wanted.seconds < min(least, HOUR) for wanted in self.contacts):
            return Refusal(423, "Interval Too Brief", (("Min-Expires", str(least)),))
        return None

    def apply(self, known: Sequence[BoundT]) -> Changes[BoundT] | Refusal:
        """What is left of `known`; 500 when a later request of the same Call-ID has been here already."""
        replaced = known if self.star else [one for one in known if self._names(one)]
        for one in replaced:
            if one.call_key == self.call_key and self.cseq <= one.cseq:
                return Refusal(500, f"CSeq {self.cseq} is not above {one.cseq}")
        kept = tuple(one for one in known if one not in replaced)
        last = [
            wanted
            for index, wanted in enumerate(self.contacts)
            if not any(same_place(wanted.contact, later.contact) for later in self.contacts[index + 1 :])
        ]
        return Changes(kept, tuple(wanted for wanted in last if wanted.seconds > 0))

    def _names(self, known: Bound) -> bool:
        return any(same_place(wanted.contact, known.contact) for wanted in self.contacts)


def same_place(one: NameAddress, other: NameAddress) -> bool:
    """The same URI (19.1.4), or another address of the same terminal (RFC 5626 6: instance and reg-id)."""
    instance = one.parameters.get("+sip.instance")
    if instance and instance == other.parameters.get("+sip.instance"):
        return one.parameters.get("reg-id") == other.parameters.get("reg-id")
    return isinstance(one.uri, SipUri) and one.uri.same_as(other.uri)


def _wanted(address: NameAddress, default: int) -> WantedContact:
    if not isinstance(address.uri, SipUri):
        raise SipSyntaxError(f"a Contact of the scheme {address.uri.scheme} cannot be reached from here")
    expires = address.parameters.get("expires")
    bare = address.parameters.without("q").without("expires")
    return WantedContact(
        replace(address, parameters=bare),
        _quality(address.parameters.get("q")),
        default if expires is None else _seconds(expires),
    )


def _seconds(text: str) -> int:
    """A malformed interval is an hour (20.10, 20.19)."""
    try:
        return number(text, "expires")
    except SipSyntaxError:
        return HOUR


def _quality(text: str | None) -> int:
    """qvalue in thousandths; none, and one that is no such thing, count in full."""
    whole, _, fraction = (text or "1").partition(".")
    if whole not in ("0", "1") or not (fraction + "0").isdigit() or len(fraction) > 3:
        return HIGHEST
    return min(int(whole) * HIGHEST + int(fraction.ljust(3, "0")), HIGHEST)


def printed(contact: NameAddress, q: int, seconds: int) -> str:
    """A Contact of the 200: as it was registered, with what is left of it."""
    parameters = contact.parameters
    if q != HIGHEST:
        parameters = parameters.with_value("q", f"0.{q:03}")
    return str(replace(contact, parameters=parameters.with_value("expires", str(seconds))))
