"""A call that we make: provisional responses, the answer or refusal, forks, challenges, CANCEL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace

from protocols.sip.body import sdp_of
from protocols.sip.dialog import Dialog
from protocols.sip.digest import Login
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.message import Headers, Request, Response
from protocols.sip.reliability import is_reliable
from protocols.sip.replies import cancel_of
from protocols.sip.session_timer import larger_interval, request_session
from protocols.sip.transaction import Trouble
from signaling.sip_call import Call, session_of
from signaling.sip_core import Credentials, FinalResponse, SipCore
from signaling.sip_early import EarlyDialogs
from signaling.sip_event_queue import EventQueue
from signaling.sip_listener import Flow
from signaling.sip_progress import Answered, Progress, Provisional, Refused
from signaling.sip_routing import Reach
from signaling.sip_transactions import FlowTransaction

_MAX_PROVISIONAL = 32
Fields = Iterable[tuple[str, str]]


class OutgoingCall:
    """An INVITE of ours. Made by ``SipEndpoint.invite``.

    async for progress in outgoing:      # Provisional ..., then Answered or Refused as the last
        ...
    """

    def __init__(
        self, core: SipCore, request: Request, login: Login | None, reach: Reach | None = None
    ) -> None:
        self._core = core
        self._request = request
        self._reach = reach
        self._flow: Flow | None = None
        self._contact = ""
        self._login = login
        self._credentials = Credentials(login)
        self._interval = core.policy.session_interval
        self._attempt: _Attempt | None = None
        self._progress: EventQueue[Progress] = EventQueue(_MAX_PROVISIONAL)
        self._result: asyncio.Future[Answered | Refused] = asyncio.get_running_loop().create_future()
        latched = reach is not None and reach.latched
        self._early = EarlyDialogs(core, login, adjacent=reach is not None, latched=latched)
        self._provisional = False
        self._cancelling = False
        self._cancel_sent = False
        self._call: Call | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def call_id(self) -> str:
        return self._request.call_id

    @property
    def is_settled(self) -> bool:
        return self._result.done()

    def __aiter__(self) -> AsyncIterator[Progress]:
        return aiter(self._progress)

    async def result(self) -> Answered | Refused:
        """The outcome, without the provisional responses on the way."""
        return await asyncio.shield(self._result)

    def cancel(self) -> None:
        """Give up. The CANCEL goes out once the callee has answered anything (RFC 3261 9.1); the outcome is
        Refused, also when an answer crossed it (it is acknowledged and hung up)."""
        if self.is_settled or self._cancelling:
            return
        self._cancelling = True
        self._restart_timer(self._core.policy.timing.timeout, self._give_up, 487, "cancelled")
        if self._provisional:
            self._send_cancel()

    # -- inside

    def on_settled(self, then: Callable[[OutgoingCall], object]) -> None:
        """Call ``then`` once the outcome is there."""
        self._result.add_done_callback(lambda _: then(self))

    def fail(self, status: int, reason: str) -> None:
        """There is no way to the callee."""
        self._settle(Refused(status, reason, local=True))

    def start(self, flow: Flow) -> None:
        """Send the first INVITE on that flow."""
        caller = self._request.from_.sip_uri
        self._flow = flow
        user = caller.user if caller is not None else None
        self._contact = self._core.contact(flow, user, secure=self._request.target.scheme == "sips")
        self._request = replace(
            self._request, headers=self._request.headers.having(("Contact", self._contact))
        )
        self._restart_timer(self._core.policy.ring_timeout, self._ring_out)
        self._send(self._request)

    def _send(self, request: Request) -> None:
        self._request = request
        self._provisional = False
        attempt = self._attempt = _Attempt(self)
        assert self._flow is not None
        attempt.transaction = self._core.transactions.start(request, self._flow, attempt)

    def _again(self, *changes: tuple[str, str]) -> None:
        """The INVITE once more with other headers: the next CSeq, the same Call-ID and From tag."""
        headers = self._request.headers
        number = self._request.cseq.number + 1
        for name, value in (("CSeq", f"{number} INVITE"), *changes):
            headers = headers.replacing(name, value)
        self._early.begin_again()
        self._send(Request("INVITE", self._request.uri, headers, self._request.body))

    def _restart_timer(self, seconds: float, then: object, *arguments: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        assert callable(then)
        self._timer = asyncio.get_running_loop().call_later(seconds, then, *arguments)

    def _ring_out(self) -> None:
        self.cancel()
        self._give_up(408, "no answer")

    def _give_up(self, status: int, reason: str) -> None:
        self._settle(Refused(status, reason, local=True))

    def _send_cancel(self) -> None:
        if self._cancel_sent or self._flow is None or self._attempt is None:
            return
        if self._attempt.transaction is None:
            return
        self._cancel_sent = True
        cancel = cancel_of(self._attempt.transaction.request)
        self._core.transactions.start_cancel(cancel, self._flow, FinalResponse())

    def _settle(self, result: Answered | Refused) -> None:
        if self._result.done():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._early.close()
        self._result.set_result(result)
        self._progress.finish(result)

    def take_provisional(self, response: Response) -> None:
        self._provisional = True
        if self._cancelling:
            self._send_cancel()
        if response.status == 100 or self.is_settled:
            return
        assert self._flow is not None
        known = (self._request, response, self._contact, self._flow)
        try:
            if not (self._request.body and is_reliable(response)):
                self._early.note(*known)
            elif not self._early.take(*known):
                return
        except SipSyntaxError:
            return  # what cannot be acknowledged has not been heard
        self._progress.put(Provisional(response.status, response.reason, _sdp_or_none(response)))

    def take_success(self, response: Response) -> None:
        """The first 2xx makes the call; repeated ones are acknowledged again, forked ones hung up."""
        number = response.cseq.number
        if self._call is not None and response.to.tag == self._call.id[2]:
            self._call.repeat_ack(number)
            return
        call = self._made_of(response)
        if call is None:
            self._settle(Refused(502, "the answer is malformed", local=True))
            return
        if self._call is not None or self.is_settled or self._cancelling:
            call.send_ack(number)
            call.hang_up("answered elsewhere" if self._call is not None else "cancelled")
            self._call = self._call or call
            self._settle(Refused(487, "cancelled", local=True))
            return
        self._call = call
        call.remote_sdp = _sdp_or_none(response) or self._early.sdp_of(response.to.tag)
        if self._request.body:
            call.local_sdp = self._request.body
            call.send_ack(number)
        self._core.dialogs[call.id] = call
        self._settle(Answered(call, call.remote_sdp))

    def _made_of(self, response: Response) -> Call | None:
        assert self._flow is not None
        try:
            dialog = Dialog.of_client(self._request, response, self._contact)
            early = self._early.dialog_of(response.to.tag)
            if early is not None:
                dialog.go_on_from(early)
            call = Call(
                self._core,
                dialog,
                self._flow,
                adjacent=bool(dialog.state.route_set) or self._reach is not None,
                latched=self._reach is not None and self._reach.latched,
                login=self._login,
                peer=response,
            )
            call.agree(session_of(response))
        except SipSyntaxError:
            return None
        return call

    def take_refusal(self, response: Response) -> None:
        if self.is_settled:
            return
        if response.status in (401, 407) and not self._cancelling:
            answer = self._credentials.answer(response, self._request)
            if answer is not None:
                self._again(answer)
                return
        if response.status == 422 and not self._cancelling and self._interval is not None:
            wanted = _larger_or_none(response, self._interval)
            if wanted is not None:
                self._interval = wanted
                self._again(*request_session(wanted, wanted), ("Min-SE", str(wanted)))
                return
        self._settle(Refused(response.status, response.reason, response.headers))

    def take_failure(self, trouble: Trouble) -> None:
        if trouble is Trouble.TIMEOUT:
            self._settle(Refused(408, "no answer", local=True))
        else:
            self._settle(Refused(503, "the peer cannot be reached", Headers(), local=True))


class _Attempt:
    """One INVITE transaction of a call; a challenge leads to another, and the old one no longer counts."""

    def __init__(self, outgoing: OutgoingCall) -> None:
        self._outgoing = outgoing
        self.transaction: FlowTransaction | None = None

    def on_response(self, response: Response) -> None:
        if response.status < 200:
            self._outgoing.take_provisional(response)
        elif response.status < 300:
            self._outgoing.take_success(response)
        elif self._outgoing._attempt is self:
            self._outgoing.take_refusal(response)

    def on_failure(self, trouble: Trouble) -> None:
        if self._outgoing._attempt is self:
            self._outgoing.take_failure(trouble)


def _sdp_or_none(response: Response) -> bytes | None:
    try:
        return sdp_of(response)
    except SipSyntaxError:
        return None


def _larger_or_none(response: Response, wanted: int) -> int | None:
    try:
        return larger_interval(response, wanted)
    except SipSyntaxError:
        return None
