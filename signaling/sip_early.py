"""Early dialogs of a call of ours (RFC 3261 12.1.2): what its callees say before any of them answers.

Each callee that rings has one of its own. A reliable provisional response gets its PRACK (RFC 3262 4);
requests of the callee are answered, so that nobody takes the call for lost.
"""

from __future__ import annotations

import random

from protocols.sip.body import sdp_of
from protocols.sip.dialog import Dialog
from protocols.sip.digest import Login
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.message import Request, Response
from protocols.sip.reliability import RAck
from protocols.sip.validation import Refusal, answer_refusal, body_refusal
from signaling.sip_core import NoAnswer, SipCore
from signaling.sip_dialog_client import DialogClient
from signaling.sip_listener import Flow
from signaling.sip_transactions import FlowTransaction
from signaling.sip_way import PeerWay

_MOST_EARLY = 8


class EarlyDialogs:
    """The early dialogs of one call of ours, whose INVITE has an offer or not. `close` when it is settled."""

    def __init__(self, core: SipCore, login: Login | None, *, adjacent: bool, latched: bool) -> None:
        self._core = core
        self._login = login
        self._adjacent = adjacent
        self._latched = latched
        self._dialogs: dict[str, _Early] = {}

    def note(self, invite: Request, response: Response, contact: str, flow: Flow) -> None:
        """A provisional response that nobody acknowledges: its callee may send requests, too."""
        tag = response.to.tag
        if tag is None or tag in self._dialogs or len(self._dialogs) >= _MOST_EARLY:
            return
        try:
            self._open(tag, Dialog.of_client(invite, response, contact), flow, bool(invite.body))
        except SipSyntaxError:
            return  # its callee cannot be reached, and the call may still be answered

    def take(self, invite: Request, response: Response, contact: str, flow: Flow) -> bool:
        """A reliable provisional response: the next one is acknowledged, any other is False.

        Raises SipSyntaxError.
        """
        rack, tag = RAck.of(response), response.to.tag or ""
        early = self._dialogs.get(tag)
        if early is None or early.last is None:
            if early is None and len(self._dialogs) >= _MOST_EARLY:
                return False
            dialog = Dialog.of_client(invite, response, contact)
            if early is not None:
                dialog.go_on_from(early.dialog)
            early = self._open(tag, dialog, flow, bool(invite.body))
        elif rack.rseq != early.last + 1:
            return False
        early.last = rack.rseq
        early.sdp = sdp_of(response) or early.sdp
        self._core.spawn("prack", early.acknowledge(rack))
        return True

    def _open(self, tag: str, dialog: Dialog, flow: Flow, offered: bool) -> _Early:
        adjacent = self._adjacent or bool(dialog.state.route_set)
        way = PeerWay(self._core.listeners, flow, adjacent, self._latched)
        client = DialogClient(self._core, dialog, way, self._login)
        early = self._dialogs[tag] = _Early(self._core, dialog, way, client, offered)
        self._core.dialogs[dialog.id] = early
        return early

    def dialog_of(self, tag: str | None) -> Dialog | None:
        """That callee's dialog so far."""
        early = self._dialogs.get(tag or "")
        return early.dialog if early is not None else None

    def sdp_of(self, tag: str | None) -> bytes | None:
        """The answer that came in a reliable provisional response of that callee."""
        early = self._dialogs.get(tag or "")
        return early.sdp if early is not None else None

    def close(self) -> None:
        """The INVITE has its final response: no early dialog takes requests any more."""
        for early in self._dialogs.values():
            if self._core.dialogs.get(early.dialog.id) is early:
                del self._core.dialogs[early.dialog.id]

    def begin_again(self) -> None:
        """The INVITE was refused and goes once more: whoever rings now has another dialog (12.3)."""
        self.close()
        self._dialogs.clear()


class _Early:
    """One callee's dialog. `offered`: our INVITE has an offer; `sdp` is the answer to it."""

    def __init__(
        self, core: SipCore, dialog: Dialog, way: PeerWay, client: DialogClient, offered: bool
    ) -> None:
        self.dialog = dialog
        self.last: int | None = None
        self.sdp: bytes | None = None
        self._core = core
        self._way = way
        self._client = client
        self._offered = offered

    async def acknowledge(self, rack: RAck) -> None:
        try:
            await self._client.ask("PRACK", (("RAck", str(rack)),), b"")
        except NoAnswer:
            return  # the callee repeats its response, and refuses the INVITE in the end

    def take(self, request: Request, transaction: FlowTransaction, flow: Flow) -> bool:
        """A request of the callee's."""
        refusal = self.dialog.take(request) or self._refusal_of(request)
        if refusal is not None:
            self._core.refuse(transaction, refusal)
            return True
        self._way.heard(flow)
        match request.method:
            case "UPDATE":
                # No Session-Expires: the timer is agreed by the answer to the INVITE (RFC 4028).
                self.dialog.refresh_target(request)
                contact = ("Contact", self.dialog.state.local_contact)
                self._core.respond(transaction, 200, None, (contact,))
            case "INFO" if request.headers.get("Info-Package"):
                self._core.respond(transaction, 469, None, (("Recv-Info", ""),))
            case "INFO":
                self._core.respond(transaction, 200)
            case "OPTIONS":
                self._core.respond(transaction, 200, None, self._core.own.answer_to_options())
            case _:
                return False
        return True

    def take_ack(self, ack: Request) -> None:
        """Of no answer of ours: none is given here."""

    def _refusal_of(self, request: Request) -> Refusal | None:
        match request.method:
            case "BYE" | "PRACK":
                # A callee must not hang up before it answers (RFC 3261 15), and we sent nothing reliable.
                return Refusal(481, "Call/Transaction Does Not Exist")
            case "INVITE":
                return Refusal(491, "Request Pending")  # 14.2
            case "UPDATE":
                return answer_refusal(request) or body_refusal(request, self._core.own) or self._busy(request)
        return None

    def _busy(self, update: Request) -> Refusal | None:
        """RFC 3311 5.2: no offer while ours is unanswered, and none that we cannot answer before the call."""
        if sdp_of(update) is None:
            return None
        if self._offered and self.sdp is None:
            return Refusal(491, "Request Pending")
        return Refusal(500, "The call is not up yet", (("Retry-After", str(random.randint(0, 10))),))
