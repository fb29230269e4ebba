"""A 3xx to a call of ours (RFC 3261 8.1.3.4, 21.3): whom it names, and who of them is called in its place.

    redirects = SipRedirects(callers, trunks, {"extranet": ("10.45.0.0/16", "proxy.example.cn")})
    outcome = await redirects.follow(Redirected(endpoint, member, target, ...), refused)

A redirection is the word of whoever was called, on a call that somebody else is charged with. It leads to the
same host, to addresses of the same site, and to what the settings of the network name; over a trunk only to
that trunk's own server, where its settings say so. Never to a telephone (`tel:`), to another trunk, to this
node, to a name that the settings do not have, nor from TLS to anything less. Each is in the audit, called
or not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import NameAddress, parse_contacts
from protocols.sip.uri import SipUri, Uri
from signaling.callers import CallerDirectory
from signaling.meeting import Member
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_progress import Answered, Refused
from signaling.sip_routing import Reach, is_address
from signaling.trunks.trunk import Trunk
from signaling.trunks.trunks import Trunks

log = structlog.get_logger(__name__)

MOST_FOLLOWED = 3
"""Calls that one call may lead to."""
MOST_NAMED = 8
"""Targets looked at in all: who names more is not heard further."""
GIVEN_UP = 487
"""Our own word for a call that was cancelled, or rang too long."""
_FOLLOWED = frozenset({300, 301, 302})
"""305 would have a proxy of the peer's choice see our call, 380 describes something else."""
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Redirected:
    """A call that was redirected: whose it is, whom it was for; `ask` calls another in its place."""

    endpoint: SipEndpoint
    member: Member
    target: SipUri
    reach: Reach | None
    network: str
    trunk: Trunk | None
    ask: Callable[[SipUri, NameAddress], Awaitable[Answered | Refused]]


@dataclass(slots=True)
class _Walk:
    """Who is still to be looked at, who has been, and whom the peer may not have."""

    waiting: list[Uri]
    seen: list[Uri]
    unheeded: list[str] = field(default_factory=list)

    def next(self) -> Uri | None:
        """Each target once."""
        while self.waiting and len(self.seen) <= MOST_NAMED:
            target = self.waiting.pop(0)
            if not any(
                target == one or (isinstance(one, SipUri) and one.same_as(target)) for one in self.seen
            ):
                self.seen.append(target)
                return target
        return None


class SipRedirects:
    """`allowed` are prefixes and host names by network."""

    def __init__(
        self, callers: CallerDirectory, trunks: Trunks, allowed: Mapping[str, Sequence[str]]
    ) -> None:
        self._callers = callers
        self._trunks = trunks
        self._allowed = allowed

    async def follow(self, call: Redirected, refused: Refused) -> Answered | Refused:
        """The best target first, and those that it names before its neighbours. Raises DatabaseError: what
        cannot be written in the audit is not called."""
        walk = _Walk(_to_follow(refused), [call.target])
        followed = 0
        while followed < MOST_FOLLOWED and (target := walk.next()) is not None:
            why = await self._why_not(target, call)
            await self._note(call.member, target, refused, why)
            if why is not None or not isinstance(target, SipUri):
                walk.unheeded.append(f"{shown(target)} ({why})")
                continue
            followed += 1
            outcome = await call.ask(target, NameAddress(call.target.bare()))
            if isinstance(outcome, Answered):
                return outcome
            refused = outcome
            if refused.status >= 600 or (refused.local and refused.status == GIVEN_UP):
                return refused
            walk.waiting[:0] = _to_follow(refused)
        return _told(refused, walk.unheeded)

    async def _note(self, member: Member, target: Uri, by: Refused, why: str | None) -> None:
        log.info("redirected", address=member.caller.address, to=shown(target), status=by.status, refused=why)
        more = {"participant": member.participant_id, "answer": str(by.status)}
        outcome = "done" if why is None else "refused"
        if why is not None:
            more["why"] = why
        subject = f"conference:{member.conference_id}"
        await self._callers.note(member.caller, "call-redirected", subject, shown(target), outcome, **more)

    async def _why_not(self, target: Uri, call: Redirected) -> str | None:
        """Why that target is not called, None if it is. Raises DatabaseError."""
        if not isinstance(target, SipUri):
            return "no SIP address"
        if target.parameters.get("maddr") is not None:
            return "it hides where it leads (maddr)"
        if is_by_tls(call.target, call.reach) and not is_by_tls(target, None):
            return "the call was by TLS, this is not"
        if call.endpoint.is_ours(target):
            return "it leads back to this node"
        there = self._trunks.at(target)
        if call.trunk is not None:
            own = there is call.trunk and call.trunk.settings.redirects
            return None if own else f"trunk {call.trunk.name} may not redirect there"
        if there is not None:
            return f"it leads to trunk {there.name}"
        return None if await self._may(target.host, call) else "no host of the same site or of the settings"

    async def _may(self, host: str, call: Redirected) -> bool:
        known = {call.target.host.lower()} | ({call.reach.host} if call.reach is not None else set())
        if host.lower() in known or self._is_named(host, call.network):
            return True
        site = call.member.caller.site_id
        return (
            site is not None and is_address(host) and await self._callers.site_at(call.network, host) == site
        )

    def _is_named(self, host: str, network: str) -> bool:
        for one in self._allowed.get(network, ()):
            if one.lower() == host.lower():
                return True
            if is_address(host) and is_prefix(one):
                address, prefix = ipaddress.ip_address(host), ipaddress.ip_network(one)
                if address.version == prefix.version and address in prefix:
                    return True
        return False


def _to_follow(refused: Refused) -> list[Uri]:
    return list(named(refused)) if refused.status in _FOLLOWED else []


def named(refused: Refused) -> tuple[Uri, ...]:
    """The Contacts of a 3xx, the highest q first; their header fields (RFC 3261 19.1.5) are not heeded."""
    if refused.local or not 300 <= refused.status < 400:
        return ()
    try:
        contacts = parse_contacts(refused.headers.items("Contact"))
    except SipSyntaxError:
        return ()
    if isinstance(contacts, str):
        return ()
    ranked = sorted(contacts, key=_quality, reverse=True)
    uris = (one.uri for one in ranked[:MOST_NAMED])
    return tuple(replace(uri, headers="") if isinstance(uri, SipUri) else uri for uri in uris)


def _told(refused: Refused, unheeded: Sequence[str]) -> Refused:
    """The refusal with what the peer asked for and was not given, for the operator."""
    asked = list(unheeded) or [shown(uri) for uri in named(refused)]
    if not asked:
        return refused
    return replace(refused, reason=f"{refused.reason}; it asks for {', '.join(asked)}")


def shown(uri: Uri) -> str:
    """Without its password, no longer than what fits beside others."""
    text = str(replace(uri, password=None) if isinstance(uri, SipUri) else uri)
    return "".join(sign for sign in text if sign.isprintable())[:_LONGEST]


def is_by_tls(target: SipUri, reach: Reach | None) -> bool:
    """Whether a call's signalling is read by nobody between us and the next hop."""
    if reach is not None:
        return reach.transport == "TLS"
    return target.scheme == "sips" or target.transport == "TLS"


def is_prefix(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _quality(contact: NameAddress) -> float:
    """RFC 3261 20.10: 0 to 1; one that cannot be read is the last."""
    try:
        quality = float(contact.parameters.get("q") or "1")
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
