"""One trunk: who we are there, which numbers it takes, which calls come from it, how it stands."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from config.trunks import SipTrunk
from protocols.sip.digest import Login
from protocols.sip.grammar import NO_PARAMETERS
from protocols.sip.headers import NameAddress
from protocols.sip.telephone import longest_prefix, same_number
from protocols.sip.uri import SipUri
from signaling.sip_incoming import IncomingCall
from signaling.sip_listener import Flow


class TrunkState(StrEnum):
    STARTING = "starting"
    REGISTERED = "registered"
    REACHABLE = "reachable"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"

    @property
    def is_up(self) -> bool:
        return self in (TrunkState.REGISTERED, TrunkState.REACHABLE)


@dataclass(frozen=True, slots=True)
class TrunkReport:
    """How a trunk stands, without its password. `error` is what went wrong last, gone once it is up."""

    name: str
    network: str
    server: str
    username: str
    registers: bool
    state: TrunkState
    since: datetime
    expires_at: datetime | None
    error: str | None
    calls_now: int
    calls_out: int
    calls_in: int


class Trunk:
    """`state`, `error`, `flow` and `addresses` are its `TrunkLink`'s to set."""

    def __init__(self, settings: SipTrunk, network: str, node: str, now: datetime) -> None:
        self.settings = settings
        self.network = network
        self.contact_user = _contact_user(settings, node)
        self.flow: Flow | None = None
        self.addresses: frozenset[str] = frozenset()
        self.state = TrunkState.STARTING
        self.since = now
        self.expires_at: datetime | None = None
        self.error: str | None = None
        self.calls_now = self.calls_out = self.calls_in = 0
        self._sources = tuple(ipaddress.ip_network(one) for one in settings.sources)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def login(self) -> Login | None:
        """For the server's challenges."""
        password = self.settings.password
        if password is None:
            return None
        return Login(self.settings.username, str(password), self.settings.realm)

    @property
    def hop(self) -> SipUri:
        """Where requests over this trunk go."""
        named = NO_PARAMETERS.with_value("transport", self.settings.transport)
        return SipUri(self.settings.host_name, None, self.settings.port, parameters=named)

    @property
    def account(self) -> NameAddress:
        """The address that is registered."""
        return NameAddress(SipUri(self.settings.home, self.settings.username or None))

    @property
    def is_full(self) -> bool:
        return self.calls_now >= self.settings.calls

    # --- calls out --------------------------------------------------------------------------------

    def serves(self, number: str) -> int | None:
        """The length of the prefix that brings the number here; None for none."""
        return longest_prefix(number, self.settings.prefixes)

    def target(self, number: str) -> SipUri:
        """The number as the provider is asked for it."""
        dialled = self.settings.prepend + number[self.settings.strip :]
        return SipUri(
            self.settings.home,
            dialled.replace("#", "%23"),
            parameters=NO_PARAMETERS.with_value("user", "phone"),
        )

    @property
    def caller(self) -> NameAddress:
        """Our From."""
        return NameAddress(
            SipUri(self.settings.home, self.settings.shown), display_name=self.settings.display_name or ""
        )

    @property
    def identity_fields(self) -> tuple[tuple[str, str], ...]:
        """RFC 3325: who calls, for a server that trusts us (asserted) or decides by itself (preferred)."""
        shown = str(NameAddress(SipUri(self.settings.home, self.settings.shown)))
        match self.settings.identity_header:
            case "p-asserted-identity":
                return (("P-Asserted-Identity", shown),)
            case "p-preferred-identity":
                return (("P-Preferred-Identity", shown),)
            case _:
                return ()

    # --- calls in ---------------------------------------------------------------------------------

    def sent(self, call: IncomingCall) -> bool:
        """Whether a call comes from the server: by its connection, its certificate, or its address.

        Where we register and nobody named its `sources`, it also has to be for what we registered or for a
        number of ours: others may share the server's address. A From header says nothing here.
        """
        if call.network != self.network:
            return False
        host = ipaddress.ip_address(call.source[0].partition("%")[0])
        if any(host in source for source in self._sources):
            return True
        if not self._is_its_server(call) and str(host) not in self.addresses:
            return False
        user = _user(call)
        ours = user in (self.contact_user, self.settings.username) or self.meeting_of(user) is not None
        return ours or not self.settings.register

    def _is_its_server(self, call: IncomingCall) -> bool:
        if self.flow is not None and self.flow.is_reliable and call.flow == self.flow:
            return True
        return call.certified is not None and call.certified in (self.settings.host_name, self.settings.home)

    def meeting_of(self, called: str) -> str | None:
        """The number of the meeting that callers of this number want."""
        return next((one.meeting for one in self.settings.numbers if same_number(one.called, called)), None)

    # --- how it stands ----------------------------------------------------------------------------

    def is_at(self, uri: SipUri) -> bool:
        """Whether an address is one of its own."""
        return uri.host.lower() in {
            self.settings.host_name.lower(),
            self.settings.home.lower(),
            *self.addresses,
        }

    def stands(self, state: TrunkState, now: datetime, error: str | None = None) -> None:
        if state is not self.state:
            self.since = now
        self.state, self.error = state, error
        if not state.is_up:
            self.expires_at = None

    def report(self) -> TrunkReport:
        return TrunkReport(
            name=self.name,
            network=self.network,
            server=str(self.hop).removeprefix("sip:"),
            username=self.settings.username,
            registers=self.settings.register,
            state=self.state,
            since=self.since,
            expires_at=self.expires_at,
            error=self.error,
            calls_now=self.calls_now,
            calls_out=self.calls_out,
            calls_in=self.calls_in,
        )


def _contact_user(settings: SipTrunk, node: str) -> str:
    """Nobody but the provider knows it, and it is the same after a restart: no second binding is left."""
    if settings.password is None:
        return secrets.token_hex(8)
    text = f"{node}\n{settings.name}\n{settings.username}@{settings.home}"
    key = hashlib.sha256(settings.password.encode()).digest()
    return hashlib.blake2s(text.encode(), key=key, digest_size=8).hexdigest()


def _user(call: IncomingCall) -> str:
    return call.called.user_text if isinstance(call.called, SipUri) else ""
