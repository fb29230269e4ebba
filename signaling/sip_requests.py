"""Requests of ours outside dialogs (OPTIONS, REGISTER ...): composed, sent, their challenges answered."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from protocols.sip.digest import Login
from protocols.sip.headers import NameAddress
from protocols.sip.message import Headers, Request, Response
from protocols.sip.uri import SipUri, Uri, parse_uri
from signaling.sip_core import Credentials, SipCore, new_tag
from signaling.sip_listener import Flow, ListenerTable
from signaling.sip_routing import way_to

Fields = Iterable[tuple[str, str]]
_VIA_SIZE = 200
"""What Via and Contact will add to a composed request, roughly."""


@dataclass(slots=True)
class RequestSequence:
    """Requests that belong together without a dialog: one Call-ID, growing CSeq (RFC 3261 10.2)."""

    call_id: str = field(default_factory=lambda: secrets.token_hex(16))
    number: int = 0

    def next(self) -> int:
        self.number += 1
        return self.number


class SipRequests:
    """The client side of an endpoint beyond its calls."""

    def __init__(self, core: SipCore, listeners: ListenerTable) -> None:
        self._core = core
        self._listeners = listeners

    def composed(
        self,
        method: str,
        target: Uri | str,
        from_: NameAddress | str,
        headers: Fields,
        outbound: Uri | str | None = None,
        *,
        to: NameAddress | None = None,
        sequence: RequestSequence | None = None,
    ) -> Request:
        """A request without Via, Contact and body; `to` where it is not the target. Raises SipSyntaxError."""
        uri = parse_uri(str(target))
        if isinstance(uri, SipUri):
            uri = replace(uri, headers="")
        caller = NameAddress.parse(from_) if isinstance(from_, str) else from_
        sequence = sequence or RequestSequence()
        fields = [("Route", f"<{outbound};lr>")] if outbound is not None else []
        fields += [
            ("From", str(caller.with_tag(new_tag()))),
            ("To", str(to or NameAddress(uri))),
            ("Call-ID", sequence.call_id),
            ("CSeq", f"{sequence.next()} {method}"),
            ("Max-Forwards", "70"),
            ("User-Agent", self._core.policy.product),
        ]
        return Request(method, str(uri), Headers(tuple(fields)).having(*headers))

    async def way(self, request: Request, network: str, hop: Uri | str) -> Flow:
        """The flow to the next hop. Raises NoWay, SipSyntaxError."""
        return await self.way_for(len(request.to_bytes()), network, hop)

    async def way_for(self, size: int, network: str, hop: Uri | str) -> Flow:
        """The same before the request is there."""
        return await way_to(parse_uri(str(hop)), size + _VIA_SIZE, network, self._listeners)

    def local_contact(self, flow: Flow, user: str) -> SipUri:
        """Where we are heard on that flow's network, as a registrar is told it."""
        host, port = self._listeners.of(flow.network).advertised(flow.transport)
        uri = SipUri(host, user, port)
        if flow.is_reliable:
            uri = replace(uri, parameters=uri.parameters.with_value("transport", flow.transport.lower()))
        return uri

    async def ask(
        self, request: Request, flow: Flow, login: Login | None, sequence: RequestSequence | None = None
    ) -> Response:
        """Its final response; challenges are answered with `login`. Raises NoAnswer."""
        credentials = Credentials(login)
        while True:
            response = await self._core.ask(request, flow)
            answer = credentials.answer(response, request) if response.status in (401, 407) else None
            if answer is None:
                return response
            number = request.cseq.number + 1 if sequence is None else sequence.next()
            again = request.headers.replacing("CSeq", f"{number} {request.method}").replacing(*answer)
            request = replace(request, headers=again)
