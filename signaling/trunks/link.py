"""Keeps one trunk up: registered and refreshed, or asked with OPTIONS whether it is there."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import structlog

from foundation.clock import Clock
from protocols.sip.grammar import NO_PARAMETERS, SipSyntaxError
from protocols.sip.headers import NameAddress
from protocols.sip.message import Response
from protocols.sip.registering import Next, Registering, Standing
from protocols.sip.uri import SipUri
from signaling.sip_core import NoAnswer
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_listener import Flow, NoWay
from signaling.sip_requests import RequestSequence
from signaling.sip_routing import addresses_of
from signaling.trunks.trunk import Trunk, TrunkState

log = structlog.get_logger(__name__)

_SIZE = 700
"""Bytes of a REGISTER, roughly: far below what needs TCP."""
_STANDINGS = {
    Standing.REGISTERED: TrunkState.REGISTERED,
    Standing.REFUSED: TrunkState.REFUSED,
    Standing.UNREACHABLE: TrunkState.UNREACHABLE,
}
_ABSENT = frozenset({408, 502, 503, 504})
"""Answers to OPTIONS by which somebody says that the server is not there; any other is a sign of life."""


class TrunkLink:
    """`run` until cancelled, then `sign_off`."""

    def __init__(self, trunk: Trunk, endpoint: SipEndpoint, clock: Clock) -> None:
        self._trunk = trunk
        self._endpoint = endpoint
        self._clock = clock
        self._plan = Registering(trunk.settings.expires, trunk.settings.retry)
        self._sequence = RequestSequence()
        self._asked = trunk.settings.expires
        self._target: SipUri | None = None

    async def run(self) -> None:
        while True:
            try:
                wait = await (self._register() if self._trunk.settings.register else self._look())
            except Exception as error:
                log.error("trunk_fault", trunk=self._trunk.name, exc_info=error)
                self._stands(TrunkState.UNREACHABLE, "fault of ours")
                wait = self._trunk.settings.retry
            await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        """Wait, and keep NATs open meanwhile (RFC 5626 3.5.1); a lost connection ends the wait."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, self._trunk.settings.keep_alive))
            flow = self._trunk.flow
            if flow is None or self._trunk.state is not TrunkState.REGISTERED or loop.time() >= until:
                continue
            listener = self._endpoint.listeners[flow.network]
            if not listener.is_open(flow) or not listener.send(flow, b"\r\n\r\n"):
                log.warning("trunk_connection_lost", trunk=self._trunk.name)
                return

    # --- REGISTER ---------------------------------------------------------------------------------

    async def _register(self) -> float:
        try:
            flow = await self._flow(self._target or self._trunk.hop)
            contact = self._endpoint.requests.local_contact(flow, self._trunk.contact_user)
            response = await self._ask_to_register(flow, contact, self._asked)
        except (NoAnswer, NoWay) as error:
            self._target = None  # where a redirection had sent us: the next try begins at the start
            return self._follow(self._plan.failed(random.random()), str(error))
        after = self._plan.took(response, contact, random.random())
        self._target = after.target or (self._target if response.status < 300 else None)
        if after.granted is not None:
            self._trunk.expires_at = self._clock.now() + timedelta(seconds=after.granted)
        return self._follow(after, f"{response.status} {response.reason}")

    def _follow(self, after: Next, said: str) -> float:
        self._asked = after.asked
        state = _STANDINGS.get(after.standing)
        if state is not None:
            self._stands(state, None if state.is_up else said)
        return after.wait

    async def _ask_to_register(self, flow: Flow, contact: SipUri, seconds: int) -> Response:
        trunk, requests = self._trunk, self._endpoint.requests
        there = self._target or SipUri(trunk.settings.home)
        bound = NameAddress(contact, "", NO_PARAMETERS.with_value("expires", str(seconds)))
        request = requests.composed(
            "REGISTER",
            SipUri(there.host, None, there.port),
            trunk.account,
            (("Contact", str(bound)), ("Expires", str(seconds))),
            to=trunk.account,
            sequence=self._sequence,
        )
        return await requests.ask(request, flow, trunk.login, self._sequence)

    async def sign_off(self, timeout: float) -> None:
        """Take our contact away (RFC 3261 10.2.2), if it is there."""
        flow = self._trunk.flow
        if self._trunk.state is not TrunkState.REGISTERED or flow is None:
            return
        contact = self._endpoint.requests.local_contact(flow, self._trunk.contact_user)
        try:
            async with asyncio.timeout(timeout):
                await self._ask_to_register(flow, contact, 0)
        except (NoAnswer, TimeoutError, SipSyntaxError) as error:
            log.warning("trunk_not_signed_off", trunk=self._trunk.name, why=str(error) or "no answer in time")

    # --- OPTIONS ----------------------------------------------------------------------------------

    async def _look(self) -> float:
        """Whatever it answers, it is there."""
        trunk, requests = self._trunk, self._endpoint.requests
        try:
            flow = await self._flow(trunk.hop)
            target = SipUri(trunk.settings.home)
            request = requests.composed("OPTIONS", target, trunk.caller, (("Accept", "application/sdp"),))
            response = await requests.ask(request, flow, trunk.login)
        except (NoAnswer, NoWay) as error:
            self._stands(TrunkState.UNREACHABLE, str(error))
        else:
            there = response.status not in _ABSENT
            said = f"{response.status} {response.reason}"
            self._stands(TrunkState.REACHABLE if there else TrunkState.UNREACHABLE, None if there else said)
        return trunk.settings.keep_alive

    # --- both -------------------------------------------------------------------------------------

    async def _flow(self, hop: SipUri) -> Flow:
        """The way there; the server's addresses are learnt anew each time. Raises NoWay."""
        trunk = self._trunk
        listener = self._endpoint.listeners[trunk.network]
        trunk.addresses = await addresses_of(hop.host, listener.family)
        flow = await self._endpoint.requests.way_for(_SIZE, trunk.network, hop)
        trunk.addresses |= {flow.host}
        trunk.flow = flow
        return flow

    def _stands(self, state: TrunkState, error: str | None) -> None:
        before, why = self._trunk.state, self._trunk.error
        self._trunk.stands(state, self._clock.now(), error)
        if state is not before or error != why:
            said = log.info if state.is_up else log.warning
            said("trunk", trunk=self._trunk.name, state=state.value, why=error)
