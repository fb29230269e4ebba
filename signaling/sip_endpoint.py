"""The SIP user agent of one node: it knows calls, not conferences.

    endpoint = SipEndpoint(
        [ListenerSettings("extranet", "10.0.0.5", 5060, 5060, advertised_host="203.0.113.7")],
        realm="anshi",
        on_call=router.take,             # async (IncomingCall) -> None, a task of its own for each call
        authenticator=users,             # Authenticator: async lookup(username, realm) -> Secret | None
        handlers={"REGISTER": registrar.take},   # async (IncomingRequest) -> Reply; other methods: 405
        policy=SipPolicy(),
    )
    await endpoint.start()               # OSError names a port in use
    await endpoint.aclose(timeout=4.0)   # BYE to every call
    endpoint.port("extranet", "UDP") -> int
    endpoint.calls() -> list[Call]

Calls to us, in ``on_call(call: IncomingCall)``:
    call.request, .offer (SDP bytes | None), .called (Uri), .caller (a claim), .call_id
    call.network, .source (host, port), .flow (transport too)
    call.verdict (Verdict: outcome ABSENT | VERIFIED | STALE | WRONG, username), .certified (str | None)
    call.ring(status=180, sdp=None); call.accept(sdp, headers=()) -> Call; call.challenge()
    call.reject(status, reason=None, headers=()); await call.wait_cancelled(); all raise CallCancelled

Calls from us:
    outgoing = await endpoint.invite(target, from_, network, sdp | None, login=Login(...) | None, headers=())
    async for progress in outgoing: ...  # Provisional(status, reason, sdp), then Answered(call, sdp) or
                                         # Refused(status, reason, headers, local)
    await outgoing.result(); outgoing.cancel()
    answered.call.acknowledge(sdp)       # only after an offerless invite, whose answer was an offer

A live ``Call``:
    async for event in call.events(): ...    # Reinvited(method, offer).answer(sdp) / .refuse(status, reason),
                                             # InfoReceived(content_type, body), Refreshed(by_peer),
                                             # Ended(cause, text) as the last
    await call.wait_established() -> bytes | None      # SDP in the ACK of our answer
    await call.reinvite(sdp) / call.update(sdp) -> bytes | None     # ReinviteRefused, CallOver
    await call.info(content_type, body) -> int; await call.probe(timeout) -> bool; await call.bye(reason)
    call.local_sdp, .remote_sdp, .peer_allows, .ended, .id, .call_id, .remote_uri, .flow
    call.snapshot() -> CallSnapshot; endpoint.restore(snapshot) -> Call

Other requests: ``await endpoint.request(method, target, from_, network, headers, body, login) -> Response``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from foundation.database import DatabaseError
from foundation.tasks import TaskScope
from protocols.sip.body import SDP
from protocols.sip.digest import Login
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import NameAddress
from protocols.sip.message import MalformedMessage, Request, Response, parse_message
from protocols.sip.reliability import OPTION
from protocols.sip.session_timer import answer_session, request_session
from protocols.sip.subscription import EventType
from protocols.sip.transaction_layer import Overloaded
from protocols.sip.uri import SipUri, Uri
from protocols.sip.validation import (
    Capabilities,
    Refusal,
    answer_refusal,
    body_refusal,
    check_response,
    fault_of,
    refusal_of,
)
from signaling.sip_authentication import Authenticator, SipAuthentication
from signaling.sip_call import Call
from signaling.sip_core import SipCore, SipPolicy
from signaling.sip_events import CallCancelled, CallSnapshot
from signaling.sip_incoming import IncomingCall, IncomingRequest, Reply
from signaling.sip_listener import (
    Arrival,
    Flow,
    Inbox,
    ListenerLimits,
    ListenerSettings,
    ListenerTable,
    NoWay,
    SipListener,
    StreamBroken,
    Transport,
)
from signaling.sip_outgoing import OutgoingCall
from signaling.sip_requests import SipRequests
from signaling.sip_routing import Reach, way_back
from signaling.sip_subscriptions import Subscription
from signaling.sip_transactions import FlowTransaction, SipCounters

CallHandler = Callable[[IncomingCall], Awaitable[None]]
RequestHandler = Callable[[IncomingRequest], Awaitable[Reply]]

Fields = Iterable[tuple[str, str]]

_log = structlog.get_logger("sip")
_INBOX = 4096
_TURN = 32
_OWN_METHODS = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "INFO", "PRACK")


class SipEndpoint:
    """See the module. One per process; all its tasks live in one task group between start and aclose."""

    def __init__(
        self,
        listeners: Sequence[ListenerSettings],
        *,
        realm: str,
        on_call: CallHandler,
        authenticator: Authenticator | None = None,
        handlers: Mapping[str, RequestHandler] | None = None,
        extensions: Sequence[str] = (),
        events: Sequence[str] = (),
        policy: SipPolicy | None = None,
        limits: ListenerLimits | None = None,
    ) -> None:
        self.policy = policy or SipPolicy()
        self._realm = realm
        self._on_call = on_call
        self._handlers = dict(handlers or {})
        self._inbox: Inbox = asyncio.Queue(_INBOX)
        self._listeners = ListenerTable(
            {one.network: SipListener(one, self._inbox, limits) for one in listeners}
        )
        own = Capabilities(
            (*_OWN_METHODS, *self._handlers), ("timer", OPTION, *extensions), events=tuple(events)
        )
        self._core = SipCore(self._listeners, self.policy, own, self._spawn)
        self._core.transactions.on_ack = self._take_ack
        self.requests = SipRequests(self._core, self._listeners)
        self._authentication = SipAuthentication(realm, authenticator, self.policy.challenges)
        self._scope: TaskScope | None = None
        self._running: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._closing = False
        self._ringing: set[IncomingCall] = set()
        self._outgoing: set[OutgoingCall] = set()

    # -- lifetime

    async def start(self) -> None:
        """Open the listeners. Raises OSError that names the address in use; then nothing is left open."""
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run(started), name="sip")
        await started

    async def _run(self, started: asyncio.Future[None]) -> None:
        listeners = list(self._listeners.by_network.values())
        async with TaskScope("sip") as scope:
            self._scope = scope
            try:
                for listener in listeners:
                    await listener.start(scope)
                scope.spawn("inbox", self._read())
                started.set_result(None)
                await self._stop.wait()
            except OSError as error:
                started.set_exception(error)
            finally:
                for listener in listeners:
                    await listener.aclose()
                self._core.transactions.close()

    async def aclose(self, timeout: float = 4.0) -> None:
        """Refuse ringing calls, cancel ours, send BYE to the rest and wait up to ``timeout`` for answers."""
        if self._running is None or self._closing:
            return
        self._closing = True
        for incoming in list(self._ringing):
            incoming.reject(503, "Shutting down")
        for outgoing in list(self._outgoing):
            outgoing.cancel()
        byes = [asyncio.create_task(call.bye("shutting down")) for call in self.calls()]
        if byes:
            _, late = await asyncio.wait(byes, timeout=timeout)
            for task in late:
                task.cancel()
        self._stop.set()
        await asyncio.wait([self._running])

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        if self._scope is None or self._stop.is_set():
            work.close()  # after the end there is nothing left to do it with
            return None
        return self._scope.spawn(name, _guarded(name, work))

    # -- what others ask

    @property
    def counters(self) -> SipCounters:
        return self._core.transactions.counters

    @property
    def listeners(self) -> Mapping[str, SipListener]:
        """By network, with their counters."""
        return self._listeners.by_network

    def advertised_host(self, network: str) -> str:
        """What stands behind the @ of our URIs on that network."""
        settings = self._listeners.of(network).settings
        return settings.advertised_host or settings.host

    def subscription(self, incoming: IncomingRequest, event: EventType, seconds: int) -> Subscription:
        """Open the dialog of a SUBSCRIBE; its handler answers with the tag of it. Raises SipSyntaxError."""
        return Subscription(self._core, incoming.request, incoming.flow, event, seconds)

    def is_ours(self, uri: SipUri) -> bool:
        """Whether a URI leads to this endpoint: its realm as the host, or an address and port it has."""
        if uri.host.lower() == self._realm.lower():
            return True
        for listener in self._listeners.by_network.values():
            known = [listener.advertised(transport) for transport in listener.transports]
            known += [(listener.settings.host, listener.bound_port(one)) for one in listener.transports]
            if any(uri.host == host and uri.port in (None, port) for host, port in known):
                return True
        return False

    def port(self, network: str, transport: Transport) -> int:
        """The local port really bound."""
        return self._listeners.of(network).bound_port(transport)

    def calls(self) -> list[Call]:
        """The live calls."""
        return [user for user in self._core.dialogs.values() if isinstance(user, Call)]

    def restore(self, snapshot: CallSnapshot, login: Login | None = None) -> Call:
        """Go on with a call of an earlier process; its owner reads ``events()`` as before."""
        call = Call.restored(self._core, snapshot, login)
        self._core.dialogs[call.id] = call
        return call

    async def invite(
        self,
        target: Uri | str,
        from_: NameAddress | str,
        network: str,
        sdp: bytes | None = None,
        *,
        login: Login | None = None,
        headers: Fields = (),
        outbound: Uri | str | None = None,
        hop: Uri | None = None,
        reach: Reach | None = None,
        to: NameAddress | None = None,
    ) -> OutgoingCall:
        """Call ``target``. Without ``sdp`` the callee makes the offer. ``outbound`` names a proxy on the way,
        ``hop`` one that no Route is to name, ``reach`` where a registered callee was heard, ``to`` whom the
        call was for where that is another.

        A peer that cannot be reached is a Refused outcome, not an exception. Raises SipSyntaxError for a
        ``target`` or ``from_`` that is no URI.
        """
        policy = self.policy
        # An offer in a reliable provisional response would want its answer in the PRACK: not asked for.
        supported = f"timer, {OPTION}" if sdp else "timer"
        extra = [("Allow", ", ".join(self._core.own.methods)), ("Supported", supported)]
        if policy.session_interval is not None:
            extra += request_session(policy.session_interval, policy.least_session_interval)
        request = self.requests.composed("INVITE", target, from_, (*extra, *headers), outbound, to=to)
        if sdp:
            request = replace(request, headers=request.headers.having(("Content-Type", SDP)), body=sdp)
        outgoing = OutgoingCall(self._core, request, login, reach)
        try:
            if reach is not None:
                size = len(request.to_bytes()) + 200
                flow = await way_back(reach, request.target, size, network, self._listeners)
            else:
                flow = await self.requests.way(request, network, hop or outbound or target)
        except NoWay as error:
            outgoing.fail(503, str(error))
            return outgoing
        self._outgoing.add(outgoing)
        outgoing.on_settled(self._outgoing.discard)
        outgoing.start(flow)
        return outgoing

    async def request(
        self,
        method: str,
        target: Uri | str,
        from_: NameAddress | str,
        network: str,
        *,
        headers: Fields = (),
        body: bytes = b"",
        login: Login | None = None,
        outbound: Uri | str | None = None,
    ) -> Response:
        """A request outside dialogs (OPTIONS, MESSAGE, REGISTER ...) and its final response.

        Challenges are answered with ``login``. Raises NoAnswer, NoWay, SipSyntaxError.
        """
        composed = self.requests.composed(method, target, from_, headers, outbound)
        request = replace(composed, body=body)
        flow = await self.requests.way(request, network, outbound or target)
        return await self.requests.ask(request, flow, login)

    # -- what arrives

    async def _read(self) -> None:
        for taken in itertools.count(1):
            arrival = await self._inbox.get()
            try:
                self._take(arrival)
            except Exception as error:
                _log.error("a SIP message was lost to a fault of ours", peer=arrival.flow, exc_info=error)
            if taken % _TURN == 0:
                await asyncio.sleep(0)

    def _take(self, arrival: Arrival | StreamBroken) -> None:
        flow = arrival.flow
        try:
            if isinstance(arrival, StreamBroken):
                status, reason = arrival.lost.status, arrival.lost.reason
                message = parse_message(arrival.lost.head + b"\r\n\r\n")
                if isinstance(message, Request):
                    self._turn_away(message, flow, Refusal(status, reason))
                return
            message = parse_message(arrival.data)
        except MalformedMessage as error:
            self.counters.malformed += 1
            if error.request is not None:
                self._turn_away(error.request, flow, Refusal(400, f"Bad Request: {error}"))
            return
        if isinstance(message, Response):
            self._take_response(message, flow)
        else:
            self._take_request(message, flow, arrival.certified)

    def _take_response(self, response: Response, flow: Flow) -> None:
        try:
            check_response(response)
            self._core.transactions.receive_response(response, flow)
        except SipSyntaxError:
            self.counters.malformed += 1

    def _turn_away(self, request: Request, flow: Flow, refusal: Refusal) -> None:
        """Answer without a transaction: what cannot be matched or has no room. An ACK is never answered."""
        if request.method == "ACK":
            return
        try:
            request = request.seen_from(flow.host, flow.port)
            response = self._core.reply(request, refusal.status, refusal.reason, refusal.headers)
            self._core.transactions.send_response(response, flow)
        except SipSyntaxError:
            # Its Via is what is wrong: the answer goes to where the request came from.
            response = self._core.reply(request, refusal.status, refusal.reason, refusal.headers)
            self._listeners.send(flow, response.to_bytes())

    def _take_request(self, request: Request, flow: Flow, certified: str | None) -> None:
        self.counters.requests_in += 1
        fault = fault_of(request)
        if fault is not None:
            self.counters.malformed += 1
            self._turn_away(request, flow, fault)
            return
        request = request.seen_from(flow.host, flow.port)
        try:
            transaction = self._core.transactions.receive_request(request, flow)
        except Overloaded:
            self.counters.overloaded += 1
            self._turn_away(request, flow, Refusal(503, "Too many requests", (("Retry-After", "5"),)))
            return
        if transaction is None:
            return
        if request.method == "CANCEL":
            self._take_cancel(request, transaction)
            return
        try:
            refusal = refusal_of(request, self._core.own)
            if refusal is None and request.to.tag is None and self._core.transactions.is_merged(transaction):
                refusal = Refusal(482, "Merged Request")
            if refusal is not None:
                self._core.refuse(transaction, refusal)
                return
            self._dispatch(request, transaction, flow, certified)
        except SipSyntaxError as error:
            self.counters.malformed += 1
            self._core.respond(transaction, 400, f"Bad Request: {error}")

    def _dispatch(
        self, request: Request, transaction: FlowTransaction, flow: Flow, certified: str | None
    ) -> None:
        method, tag = request.method, request.to.tag
        if tag is not None:
            user = self._core.dialogs.get((request.call_id, tag, request.from_.tag or ""))
            if user is None:
                self._core.respond(transaction, 481)
            elif not user.take(request, transaction, flow):
                self._handle(request, transaction, certified)
        elif method == "INVITE":
            self._take_invite(request, transaction, certified)
        elif method == "OPTIONS":
            self._core.respond(transaction, 200, None, self._core.own.answer_to_options())
        else:
            self._handle(request, transaction, certified)

    def _take_cancel(self, cancel: Request, transaction: FlowTransaction) -> None:
        target, user = self._core.transactions.cancel_target(cancel)
        if target is None:
            self._core.respond(transaction, 481)
            return
        self._core.respond(transaction, 200, to_tag=user.tag if user is not None else None)
        if user is not None:
            user.on_cancel()

    def _take_ack(self, ack: Request, flow: Flow) -> None:
        user = self._core.dialogs.get((ack.call_id, ack.to.tag or "", ack.from_.tag or ""))
        if user is not None:
            user.take_ack(ack)

    def _take_invite(self, request: Request, transaction: FlowTransaction, certified: str | None) -> None:
        policy, core = self.policy, self._core
        if self._closing:
            core.respond(transaction, 503, "Shutting down")
            return
        if len(core.dialogs) >= policy.max_calls or len(self._ringing) >= policy.max_pending:
            self.counters.overloaded += 1
            core.respond(transaction, 503, "Too many calls", (("Retry-After", "10"),))
            return
        if request.contact is None:
            raise SipSyntaxError("Contact is missing")
        session = answer_session(request, policy.session_interval or 1800, policy.least_session_interval)
        refusal = session if isinstance(session, Refusal) else answer_refusal(request)
        refusal = refusal or body_refusal(request, core.own)
        if refusal is not None or isinstance(session, Refusal):
            assert refusal is not None, "a refused session is the refusal"
            core.refuse(transaction, refusal)
            return
        incoming = IncomingCall(core, transaction, request, session, certified, self._authentication)
        self._ringing.add(incoming)
        incoming.on_settled(self._ringing.discard)
        self._spawn("call", self._run_call(incoming))

    async def _run_call(self, incoming: IncomingCall) -> None:
        try:
            incoming.verdict = await self._authentication.verify(incoming.request)
            if not incoming.is_cancelled:
                await self._on_call(incoming)
        except CallCancelled:
            pass  # the caller has its 487
        except DatabaseError as error:
            _log.warning("call_refused", call=incoming.call_id, why=str(error))
            if not incoming.is_answered:
                incoming.reject(503, "Database busy", (("Retry-After", "5"),))
        except Exception as error:
            _log.error("a call was lost to a fault of ours", call=incoming.call_id, exc_info=error)
        finally:
            if not incoming.is_answered:
                incoming.reject(500)

    def _handle(self, request: Request, transaction: FlowTransaction, certified: str | None) -> None:
        handler = self._handlers.get(request.method)
        if handler is None:
            # A method of dialogs only, outside of one (RFC 3261 12.2.2), or the other way round.
            self._core.respond(transaction, 481)
            return
        self._spawn("request", self._run_handler(handler, request, transaction, certified))

    async def _run_handler(
        self, handler: RequestHandler, request: Request, transaction: FlowTransaction, certified: str | None
    ) -> None:
        reply = Reply(500)
        try:
            verdict = await self._authentication.verify(request)
            reply = await handler(
                IncomingRequest(request, transaction.peer, verdict, certified, self._authentication)
            )
        except DatabaseError as error:
            _log.warning("request_refused", method=request.method, why=str(error))
            reply = Reply(503, "Database busy", (("Retry-After", "5"),))
        except Exception as error:
            _log.error("a request was lost to a fault of ours", method=request.method, exc_info=error)
        finally:
            self._core.respond(
                transaction, reply.status, reply.reason, reply.headers, reply.body, reply.to_tag
            )


async def _guarded(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Work whose failure must not end the endpoint."""
    try:
        await work
    except Exception as error:
        _log.error("SIP work failed", work=name, exc_info=error)
