"""Dialogs of RFC 3261 12: what two user agents remember of each other, and the requests made from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import CSeq, NameAddress
from protocols.sip.message import Headers, Message, Request, Response
from protocols.sip.uri import SipUri, Uri, parse_uri
from protocols.sip.validation import Refusal

DialogId = tuple[str, str, str]
Role = Literal["uac", "uas"]


@dataclass(frozen=True, slots=True)
class DialogState:
    """A dialog at rest: plain texts and numbers, so that it can be stored and live on in another process.

    ``local_uri`` and ``remote_uri`` are From and To values without tags; ``route_set`` is in the order of our
    requests; ``local_cseq`` is the last number we sent, ``remote_cseq`` the last we took (None: none yet).
    """

    call_id: str
    local_tag: str
    remote_tag: str
    local_uri: str
    remote_uri: str
    remote_target: str
    local_contact: str
    route_set: tuple[str, ...]
    local_cseq: int
    remote_cseq: int | None
    role: Role

    @property
    def id(self) -> DialogId:
        """Call-ID, local tag, remote tag."""
        return (self.call_id, self.local_tag, self.remote_tag)


def _untagged(address: NameAddress) -> str:
    return str(replace(address, parameters=address.parameters.without("tag")))


class Dialog:
    """A confirmed or early dialog. Raises SipSyntaxError where the peer's headers cannot make one."""

    def __init__(self, state: DialogState) -> None:
        self._state = state

    @classmethod
    def of_server(cls, invite: Request, local_tag: str, local_contact: str, first_cseq: int) -> Dialog:
        """The callee's side (12.1.1), from the INVITE it answers."""
        contact = invite.contact
        if contact is None:
            raise SipSyntaxError("Contact is missing")
        remote, local = invite.from_, invite.to
        return cls(
            DialogState(
                call_id=invite.call_id,
                local_tag=local_tag,
                remote_tag=remote.tag or "",
                local_uri=_untagged(local),
                remote_uri=_untagged(remote),
                remote_target=str(contact.uri),
                local_contact=local_contact,
                route_set=tuple(str(route) for route in invite.record_routes),
                local_cseq=first_cseq,
                remote_cseq=invite.cseq.number,
                role="uas",
            )
        )

    @classmethod
    def of_client(cls, invite: Request, answer: Response, local_contact: str) -> Dialog:
        """The caller's side (12.1.2), from its INVITE and a 101 to 299."""
        contact = answer.contact
        remote, local = answer.to, invite.from_
        # A callee that forgets its Contact is still reachable where the INVITE went.
        target = str(contact.uri) if contact is not None else invite.uri
        return cls(
            DialogState(
                call_id=invite.call_id,
                local_tag=local.tag or "",
                remote_tag=remote.tag or "",
                local_uri=_untagged(local),
                remote_uri=_untagged(remote),
                remote_target=target,
                local_contact=local_contact,
                route_set=tuple(str(route) for route in reversed(answer.record_routes)),
                local_cseq=invite.cseq.number,
                remote_cseq=None,
                role="uac",
            )
        )

    @property
    def state(self) -> DialogState:
        return self._state

    def go_on_from(self, early: Dialog) -> None:
        """Requests were sent in the early dialog already, both ways: their CSeq numbers are used."""
        number = max(early.state.local_cseq, self._state.local_cseq)
        self._state = replace(self._state, local_cseq=number, remote_cseq=early.state.remote_cseq)

    @property
    def id(self) -> DialogId:
        return self._state.id

    def request(self, method: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Request:
        """The next request in the dialog (12.2.1.1), its Via still to be put on top."""
        self._state = replace(self._state, local_cseq=self._state.local_cseq + 1)
        return self._compose(CSeq(self._state.local_cseq, method), headers, body)

    def acknowledge(
        self, cseq_number: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> Request:
        """The ACK of a 2xx to the INVITE of that number (13.2.2.4), its Via still to be put on top."""
        return self._compose(CSeq(cseq_number, "ACK"), headers, body)

    def _compose(self, cseq: CSeq, headers: Iterable[tuple[str, str]], body: bytes) -> Request:
        state = self._state
        uri, routes = self._route()
        fields = [("Route", route) for route in routes]
        fields += [
            ("From", _tagged(state.local_uri, state.local_tag)),
            ("To", _tagged(state.remote_uri, state.remote_tag)),
            ("Call-ID", state.call_id),
            ("CSeq", str(cseq)),
            ("Max-Forwards", "70"),
        ]
        if cseq.method in ("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"):
            fields.append(("Contact", state.local_contact))
        return Request(cseq.method, uri, Headers(tuple(fields)).having(*headers), body)

    def _route(self) -> tuple[str, tuple[str, ...]]:
        state = self._state
        if not state.route_set or _is_loose(NameAddress.parse(state.route_set[0]).uri):
            return state.remote_target, state.route_set
        # A strict router (RFC 2543) wants itself as the Request-URI and the target as the last route.
        first = NameAddress.parse(state.route_set[0]).uri
        bare = replace(first, headers="") if isinstance(first, SipUri) else first
        return str(bare), (*state.route_set[1:], f"<{state.remote_target}>")

    def next_hop(self) -> Uri:
        """The URI our requests are sent to: the first route, else the remote target."""
        routes = self._state.route_set
        return NameAddress.parse(routes[0]).uri if routes else parse_uri(self._state.remote_target)

    def take(self, request: Request) -> Refusal | None:
        """Note a request of the peer's (12.2.2): its CSeq must rise.

        ACK and CANCEL carry the number of their INVITE and are not for here. A target refresh takes effect
        with our 2xx only (RFC 6141 4.7): call ``refresh_target`` then.
        """
        number, last = request.cseq.number, self._state.remote_cseq
        if last is not None and number <= last:
            return Refusal(500, f"CSeq {number} is not above {last}")
        self._state = replace(self._state, remote_cseq=number)
        return None

    def refresh_target(self, message: Message) -> None:
        """The Contact of an accepted INVITE, UPDATE or SUBSCRIBE, or of a 2xx, is the new remote target."""
        method = message.method if isinstance(message, Request) else message.cseq.method
        if method not in ("INVITE", "UPDATE", "SUBSCRIBE"):
            return
        contact = message.contact
        if contact is not None:
            self._state = replace(self._state, remote_target=str(contact.uri))


def target_is_secure(request: Request) -> bool:
    """Whether the callee's Contact has to be a SIPS URI (12.1.1)."""
    routes = request.record_routes
    beside = routes[0] if routes else request.contact
    return request.target.scheme == "sips" or (beside is not None and beside.uri.scheme == "sips")


def _is_loose(uri: Uri) -> bool:
    return not isinstance(uri, SipUri) or "lr" in uri.parameters


def _tagged(address: str, tag: str) -> str:
    return f"{address};tag={tag}" if tag else address
