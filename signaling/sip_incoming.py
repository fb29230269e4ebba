"""A call that somebody makes to us, until it is answered; other requests from outside a dialog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from protocols.sip.body import SDP, sdp_of
from protocols.sip.dialog import Dialog, DialogId, target_is_secure
from protocols.sip.digest import Outcome, Verdict
from protocols.sip.headers import NameAddress
from protocols.sip.message import Request, Response
from protocols.sip.reliability import wants_reliable
from protocols.sip.session_timer import SessionAgreement, SessionAnswer
from protocols.sip.uri import SipUri, Uri
from protocols.sip.validation import Refusal
from signaling.sip_authentication import SipAuthentication
from signaling.sip_call import Call
from signaling.sip_core import SipCore, new_tag
from signaling.sip_events import CallCancelled, CallSnapshot
from signaling.sip_listener import Flow
from signaling.sip_provisionals import ReliableProvisionals, answer_prack
from signaling.sip_transactions import FlowTransaction

Fields = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request handler wants answered."""

    status: int
    reason: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    to_tag: str | None = None


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request outside dialogs, for a handler. ``certified`` is the client certificate's name."""

    request: Request
    flow: Flow
    verdict: Verdict
    certified: str | None
    authentication: SipAuthentication

    @property
    def network(self) -> str:
        return self.flow.network

    def challenge(self) -> Reply:
        """A 401; the peer comes again with credentials."""
        return Reply(401, headers=tuple(self.authentication.challenge(self.request, self.verdict)))


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """A 200 that is ready: `snapshot` is the call as it will be once `send` has sent it."""

    call: Call
    headers: tuple[tuple[str, str], ...]
    sdp: bytes
    agreement: SessionAgreement | None
    _send: Callable[[PreparedAnswer], Call]

    @property
    def snapshot(self) -> CallSnapshot:
        agreement = self.agreement
        left = None if agreement is None else agreement.expires_at(0.0)
        return replace(self.call.snapshot(), session=agreement, session_left=left)

    def send(self) -> Call:
        """The call is live from now on. Raises CallCancelled."""
        return self._send(self)


class IncomingCall:
    """An INVITE that waits for its answer; handed to the endpoint's call handler.

    ``verdict`` is what became of its digest credentials, ``certified`` the name in its client certificate:
    ``caller`` (the From header) is only a claim. After the caller gave up, every method raises CallCancelled.
    """

    def __init__(
        self,
        core: SipCore,
        transaction: FlowTransaction,
        request: Request,
        session: SessionAnswer,
        certified: str | None,
        authentication: SipAuthentication,
    ) -> None:
        self._core = core
        self._transaction = transaction
        self._session = session
        self._authentication = authentication
        self._tag = new_tag()
        self._done = False
        self._settled: Callable[[IncomingCall], object] | None = None
        self._reliable: ReliableProvisionals | None = None
        self._cancelled = asyncio.Event()
        self.request = request
        self.verdict = Verdict(Outcome.ABSENT)
        self.certified = certified
        self.offer: bytes | None = sdp_of(request)
        core.transactions.serve(transaction, self)
        core.dialogs[self.id] = self

    @property
    def id(self) -> DialogId:
        return (self.request.call_id, self._tag, self.request.from_.tag or "")

    @property
    def tag(self) -> str:
        """Our To tag."""
        return self._tag

    @property
    def call_id(self) -> str:
        return self.request.call_id

    @property
    def flow(self) -> Flow:
        return self._transaction.peer

    @property
    def network(self) -> str:
        """Name of the network whose listener took the call."""
        return self.flow.network

    @property
    def source(self) -> tuple[str, int]:
        """Address and port the INVITE came from."""
        return self.flow.host, self.flow.port

    @property
    def called(self) -> Uri:
        """The Request-URI."""
        return self.request.target

    @property
    def caller(self) -> NameAddress:
        """From: a claim."""
        return self.request.from_

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def is_answered(self) -> bool:
        """Whether a final response went out."""
        return self._done

    def on_settled(self, then: Callable[[IncomingCall], object]) -> None:
        """Call ``then`` once a final response went out."""
        self._settled = then

    def _settle(self) -> None:
        self._done = True
        if self._settled is not None:
            self._settled(self)

    async def wait_cancelled(self) -> None:
        """Return when the caller has given up."""
        await self._cancelled.wait()

    def ring(self, status: int = 180, sdp: bytes | None = None) -> None:
        """Send a provisional response (101 to 199), with early media if ``sdp``.

        Where the caller requires it (RFC 3262) it is repeated until acknowledged; a caller who never does is
        refused with 504. After one with ``sdp``, wait for ``acknowledged`` before accepting.
        """
        self._check()
        fields = [("Contact", self._contact())]
        if sdp:
            fields.append(("Content-Type", SDP))
        if not wants_reliable(self.request):
            self._core.respond(self._transaction, status, None, fields, sdp or b"", self._tag)
            return
        if self._reliable is None:
            timing = self._core.policy.timing
            self._reliable = ReliableProvisionals(timing, self._send, self._never_acknowledged)
        self._reliable.offer(self._core.reply(self.request, status, None, fields, sdp or b"", self._tag))

    async def acknowledged(self) -> None:
        """Wait until the caller has acknowledged what has to be."""
        if self._reliable is not None:
            await self._reliable.settled()
        self._check()

    def _send(self, response: Response) -> None:
        self._core.transactions.respond(self._transaction, response)

    def _never_acknowledged(self) -> None:
        if not self._done:
            self._cancelled.set()
            self._finish(504, "No PRACK came", ())

    def prepare(self, sdp: bytes, headers: Fields = ()) -> PreparedAnswer:
        """Our 200 with our answer, not sent yet: whoever keeps calls can keep this one before anybody hears
        of it."""
        self._check()
        request, core = self.request, self._core
        contact = self._contact()
        dialog = Dialog.of_server(request, self._tag, contact, first_cseq=1)
        adjacent = len(request.headers.items("Via")) == 1 or bool(dialog.state.route_set)
        call = Call(core, dialog, self.flow, adjacent=adjacent, peer=request)
        call.local_sdp, call.remote_sdp = sdp, self.offer
        fields = [("Contact", contact), *core.own.fields(), *self._session.headers, *headers]
        return PreparedAnswer(
            call, (*fields, ("Content-Type", SDP)), sdp, self._session.agreement, self._send_200
        )

    def accept(self, sdp: bytes, headers: Fields = ()) -> Call:
        """Answer 200 with our answer (or, to an offerless INVITE, our offer). The call is live at once;
        ``call.wait_established()`` waits for the ACK and gives the SDP in it."""
        return self.prepare(sdp, headers).send()

    def _send_200(self, answer: PreparedAnswer) -> Call:
        self._check()
        core, call = self._core, answer.call
        response = core.respond(self._transaction, 200, None, answer.headers, answer.sdp, self._tag)
        self._settle()
        if self._reliable is not None:
            self._reliable.close()
            call.provisionals = self._reliable
        core.dialogs[call.id] = call
        call.start_answered(self._transaction, response, answer.agreement)
        return call

    def reject(self, status: int, reason: str | None = None, headers: Fields = ()) -> None:
        """Refuse (300 to 699)."""
        self._check()
        self._finish(status, reason, headers)

    def challenge(self) -> None:
        """Refuse with 401; the caller comes again with credentials."""
        self.reject(401, None, self._authentication.challenge(self.request, self.verdict))

    def _check(self) -> None:
        if self.is_cancelled:
            raise CallCancelled
        if self._done:
            raise RuntimeError("the call has its final answer")

    def _contact(self) -> str:
        target = self.request.target
        user = target.user if isinstance(target, SipUri) else None
        return self._core.contact(self.flow, user, secure=target_is_secure(self.request))

    def _finish(self, status: int, reason: str | None, headers: Fields) -> None:
        self._settle()
        if self._reliable is not None:
            self._reliable.close()
        if self._core.dialogs.get(self.id) is self:
            del self._core.dialogs[self.id]
        self._core.respond(self._transaction, status, reason, headers, b"", self._tag)

    def on_cancel(self) -> None:
        if not self._done:
            self._cancelled.set()
            self._finish(487, None, ())

    def take(self, request: Request, transaction: FlowTransaction, flow: Flow) -> bool:
        """A request in the early dialog: the caller may hang up so; anything else has to wait."""
        if request.method == "BYE":
            self._core.respond(transaction, 200)
            self.on_cancel()
        elif request.method == "PRACK":
            answer_prack(self._core, self._reliable, request, transaction)
        else:
            self._core.refuse(transaction, Refusal(491, "Request Pending"))
        return True

    def take_ack(self, ack: Request) -> None:
        """An ACK before any 2xx means nothing."""
