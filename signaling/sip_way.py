"""The way to one peer: the flow it was heard on, or where its dialog points, NATs taken into account."""

from __future__ import annotations

import asyncio

from protocols.sip.message import Message, Request
from protocols.sip.transaction import Trouble
from protocols.sip.uri import SipUri, Uri
from signaling.sip_core import NoAnswer
from signaling.sip_listener import Flow, ListenerTable, NoWay
from signaling.sip_routing import UnknownName, is_hidden, way_to

_HEADERS_SIZE = 800
"""What the headers of a request of ours come to, roughly: TCP is chosen by it."""
_UNKNOWN_FOR = 60.0
"""Seconds until a name that could not be resolved is tried again: each try may take five."""


class PeerWay:
    """``adjacent``: the flow leads to the next hop of our requests, no proxy has stepped out of between.

    ``latched``: a NAT is known to be in the way, whatever the peer's messages show.
    """

    def __init__(self, listeners: ListenerTable, flow: Flow, adjacent: bool, latched: bool = False) -> None:
        self.flow = flow
        self.adjacent = adjacent
        self.behind_nat = latched
        self._latched = latched
        self._listeners = listeners
        self._unknown: tuple[Uri, float] | None = None

    def heard(self, flow: Flow) -> None:
        """The peer sent a request in the dialog; a new connection or NAT binding shows here."""
        if flow.is_reliable == self.flow.is_reliable and flow.network == self.flow.network:
            self.flow = flow

    def learn(self, message: Message, direct: bool) -> None:
        """Whether a NAT hides the peer's Contact; ``direct``: no route set."""
        contact = message.contact
        uri = contact.sip_uri if contact is not None else None
        if uri is None:
            return
        translated = False
        if isinstance(message, Request):
            via = message.via
            translated = via.parameters.get("received") not in (None, via.host)
        elsewhere = uri.host != self.flow.host
        hidden = is_hidden(uri.host, self.flow.host)
        seen = hidden or (translated and elsewhere) or self._latched
        self.behind_nat = self.adjacent and direct and seen

    def at_once(self, hop: Uri) -> Flow | None:
        """The flow where it is plainly right, without opening or resolving anything."""
        if not self._listeners.is_open(self.flow):
            return None
        if self.behind_nat or _points_at(hop, self.flow) or self._is_unknown(hop):
            return self.flow
        return self.flow if self.flow.is_reliable and self.adjacent else None

    async def to(self, hop: Uri, body_size: int) -> Flow:
        """Where a request with such a body goes. Raises NoAnswer."""
        large = self.flow.transport == "UDP" and body_size + _HEADERS_SIZE > 1300
        known = self.behind_nat or self._is_unknown(hop)
        flow = None if large and not known else self.at_once(hop)
        if flow is not None:
            return flow
        try:
            return await way_to(hop, body_size + _HEADERS_SIZE, self.flow.network, self._listeners)
        except NoWay as error:
            # A stream that is up is better than nothing: its peer may be a proxy that knows the rest. So is
            # where an adjacent peer was heard, when its name cannot be resolved: there may be no DNS.
            unknown = isinstance(error, UnknownName) and self.adjacent and not _is_secured(hop)
            if unknown:
                self._unknown = (hop, asyncio.get_running_loop().time() + _UNKNOWN_FOR)
            if (unknown or self.flow.is_reliable) and self._listeners.is_open(self.flow):
                return self.flow
            raise NoAnswer(Trouble.TRANSPORT) from None

    def _is_unknown(self, hop: Uri) -> bool:
        """Whether that name could not be resolved a moment ago."""
        if self._unknown is None or self._unknown[0] != hop:
            return False
        return asyncio.get_running_loop().time() < self._unknown[1]


def _points_at(hop: Uri, flow: Flow) -> bool:
    if not isinstance(hop, SipUri) or (hop.host, hop.effective_port) != (flow.host, flow.port):
        return False
    return (hop.transport or "UDP") == flow.transport


def _is_secured(hop: Uri) -> bool:
    """Whether nothing but TLS is allowed to go there."""
    return isinstance(hop, SipUri) and (hop.scheme == "sips" or hop.transport == "TLS")
