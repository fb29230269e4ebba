"""All trunks of a node: which one a number goes out over, and which one a call came from.

trunks = Trunks(settings.trunks, default_network="extranet", node="county", clock=clock)
trunks.connect(endpoint)
await trunks.run()                                   # until cancelled
trunks.way_out("+867715861234") -> Trunk             # raises NoTrunk with why
trunks.recognised(call) -> TrunkCall | None
await trunks.aclose(1.0)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from config.trunks import SipTrunk
from foundation.clock import Clock
from protocols.sip.digest import Login
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import NameAddress
from protocols.sip.uri import OtherUri, SipUri
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_incoming import IncomingCall
from signaling.trunks.link import TrunkLink
from signaling.trunks.trunk import Trunk, TrunkReport


class NoTrunk(Exception):
    """A number cannot be called; the message says why."""


@dataclass(frozen=True, slots=True)
class TrunkCall:
    """A call that a trunk brought: who calls (as its server says), which number, for which meeting."""

    trunk: Trunk
    number: str
    name: str
    called: str
    meeting: str | None


class Trunks:
    """See the module's head."""

    def __init__(
        self, settings: Sequence[SipTrunk], *, default_network: str, node: str, clock: Clock
    ) -> None:
        self._clock = clock
        now = clock.now()
        self._trunks = tuple(Trunk(one, one.network or default_network, node, now) for one in settings)
        self._links: tuple[TrunkLink, ...] = ()

    def __len__(self) -> int:
        return len(self._trunks)

    def connect(self, endpoint: SipEndpoint) -> None:
        self._links = tuple(TrunkLink(trunk, endpoint, self._clock) for trunk in self._trunks)

    async def run(self) -> None:
        """Keep every trunk up until cancelled."""
        async with asyncio.TaskGroup() as group:
            for trunk, link in zip(self._trunks, self._links, strict=True):
                group.create_task(link.run(), name=f"trunk {trunk.name}")

    async def aclose(self, timeout: float) -> None:
        """Sign off where we are registered; `run` has ended before."""
        await asyncio.gather(*(link.sign_off(timeout) for link in self._links))

    def reports(self) -> tuple[TrunkReport, ...]:
        return tuple(trunk.report() for trunk in self._trunks)

    def login(self, name: str) -> Login | None:
        """For the challenges of that trunk's server; None for one that is no more."""
        return next((trunk.login for trunk in self._trunks if trunk.name == name), None)

    # --- calls out --------------------------------------------------------------------------------

    def way_out(self, number: str) -> Trunk:
        """The trunk with the longest fitting prefix that is up and has room. Raises NoTrunk."""
        fitting = [(length, trunk) for trunk in self._trunks if (length := trunk.serves(number)) is not None]
        if not fitting:
            raise NoTrunk(f"no trunk of this node takes the number {number}")
        ranked = [trunk for _, trunk in sorted(fitting, key=lambda one: -one[0])]
        usable = next((trunk for trunk in ranked if trunk.state.is_up and not trunk.is_full), None)
        if usable is None:
            raise NoTrunk("; ".join(why_not(trunk) for trunk in ranked))
        return usable

    def at(self, uri: SipUri) -> Trunk | None:
        """The trunk that an address lies at."""
        return next((trunk for trunk in self._trunks if trunk.is_at(uri)), None)

    @contextmanager
    def counted(self, trunk: Trunk, *, outgoing: bool) -> Iterator[None]:
        """A call over it, while it lasts."""
        trunk.calls_now += 1
        if outgoing:
            trunk.calls_out += 1
        else:
            trunk.calls_in += 1
        try:
            yield
        finally:
            trunk.calls_now -= 1

    # --- calls in ---------------------------------------------------------------------------------

    def recognised(self, call: IncomingCall) -> TrunkCall | None:
        """Whether a call comes from a trunk's server; of several at one address the one it is meant for."""
        fitting = [trunk for trunk in self._trunks if trunk.sent(call)]
        if not fitting:
            return None
        user = call.called.user_text if isinstance(call.called, SipUri) else ""
        trunk = next((one for one in fitting if user == one.contact_user), fitting[0])
        called = _called(call, trunk, user)
        identity = _identity(call)
        number = _number(identity)
        name = identity.display_name or number or "anonymous"
        return TrunkCall(trunk, number, name, called, trunk.meeting_of(called))


def why_not(trunk: Trunk) -> str:
    """Why it takes no call now."""
    if trunk.state.is_up:
        return f"trunk {trunk.name} carries {trunk.calls_now} calls already"
    return f"trunk {trunk.name} is {trunk.state.value}" + (f": {trunk.error}" if trunk.error else "")


def _called(call: IncomingCall, trunk: Trunk, user: str) -> str:
    """The number that was dialled: a registered contact hides it, then To or P-Called-Party-ID has it."""
    if user not in (trunk.contact_user, trunk.settings.username):
        return user
    told = call.request.headers.get("P-Called-Party-ID")
    if told:
        try:
            return _number(NameAddress.parse(told))
        except SipSyntaxError:
            pass
    return _number(call.request.to)


def _identity(call: IncomingCall) -> NameAddress:
    """P-Asserted-Identity (RFC 3325 9.1), which a recognised server may assert, else From."""
    for text in call.request.headers.items("P-Asserted-Identity"):
        try:
            return NameAddress.parse(text)
        except SipSyntaxError:
            continue
    return call.caller


def _number(address: NameAddress) -> str:
    uri = address.uri
    if isinstance(uri, OtherUri):
        return uri.rest.partition(";")[0]
    return uri.user_text
