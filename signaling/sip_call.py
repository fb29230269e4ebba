"""A live SIP call: its dialog, the requests both ways inside it, its session timer and its end.

async for event in call.events():        # Reinvited, InfoReceived, Refreshed, and Ended as the last
    ...
answer = await call.reinvite(sdp)        # ReinviteRefused, CallOver
await call.bye()
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal

from protocols.sip.body import SDP, sdp_of
from protocols.sip.dialog import Dialog, DialogId
from protocols.sip.digest import Login
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.message import Message, Request, Response
from protocols.sip.session_timer import (
    SessionAgreement,
    answer_session,
    request_session,
    session_of_answer,
)
from protocols.sip.validation import Refusal, answer_refusal, body_refusal
from signaling.sip_answers import UnacknowledgedAnswers
from signaling.sip_core import NoAnswer, SipCore
from signaling.sip_dialog_client import SDP_FIELD, DialogClient
from signaling.sip_event_queue import EventQueue
from signaling.sip_events import (
    CallEvent,
    CallOver,
    CallSnapshot,
    EndCause,
    Ended,
    InfoReceived,
    KeyPressed,
    MediaLost,
    Referred,
    Refreshed,
    Reinvited,
    ReinviteRefused,
)
from signaling.sip_listener import Flow
from signaling.sip_offers import PeerOffer
from signaling.sip_provisionals import ReliableProvisionals, answer_prack
from signaling.sip_session import SessionClock
from signaling.sip_transactions import FlowTransaction
from signaling.sip_way import PeerWay

_MAX_EVENTS = 64
_TRIES = 4
_GRACE = 10.0
Fields = Iterable[tuple[str, str]]
Offer = bytes | Callable[[], bytes | None]
"""An offer, or what makes it when its turn has come; then None means that it need not be made any more."""


class Call:
    """One confirmed dialog. Made by the endpoint: never constructed by its users."""

    def __init__(
        self,
        core: SipCore,
        dialog: Dialog,
        flow: Flow,
        *,
        adjacent: bool,
        latched: bool = False,
        login: Login | None = None,
        peer: Message | None = None,
    ) -> None:
        self._core = core
        self._dialog = dialog
        self._way = PeerWay(core.listeners, flow, adjacent, latched)
        self._client = DialogClient(core, dialog, self._way, login)
        self._events: EventQueue[CallEvent] = EventQueue(_MAX_EVENTS)
        self._ended: Ended | None = None
        self._over = asyncio.Event()
        self._hanging_up: asyncio.Task[None] | None = None
        self._answers = UnacknowledgedAnswers(core.policy.timing, self._unacknowledged)
        self._turn = asyncio.Lock()
        self._calm = asyncio.Event()
        self._calm.set()
        self._our_offer = False
        self._offering: set[asyncio.Task[bytes | None]] = set()
        self._their_offer: PeerOffer | None = None
        self._session = SessionClock(self._start_refresh, self._session_expired)
        self._established: asyncio.Future[bytes | None] | None = None
        self.provisionals: ReliableProvisionals | None = None
        """Of the INVITE that made the call; their PRACKs may come after its 200."""
        self.peer_allows: frozenset[str] = frozenset()
        self.local_sdp: bytes | None = None
        self.remote_sdp: bytes | None = None
        if peer is not None:
            self._learn(peer)

    # -- what it is

    @property
    def id(self) -> DialogId:
        """Call-ID, local tag, remote tag."""
        return self._dialog.id

    @property
    def call_id(self) -> str:
        return self._dialog.id[0]

    @property
    def network(self) -> str:
        return self._way.flow.network

    @property
    def flow(self) -> Flow:
        """Where the peer was last heard."""
        return self._way.flow

    @property
    def remote_uri(self) -> str:
        """The peer's From or To value, without its tag: what it claims to be."""
        return self._dialog.state.remote_uri

    @property
    def ended(self) -> Ended | None:
        return self._ended

    def events(self) -> AsyncIterator[CallEvent]:
        """What the peer does, in order; the iteration stops after Ended. For one reader."""
        return aiter(self._events)

    def tell(self, event: KeyPressed | MediaLost) -> None:
        """Put what came by way of the call's media among its events."""
        self._events.put(event)

    @property
    def events_dropped(self) -> int:
        """Events lost because nobody read them."""
        return self._events.dropped

    async def wait_established(self) -> bytes | None:
        """Wait for the ACK of our answer; the SDP in it, if any. Raises CallOver when it never comes."""
        if self._established is None:
            return None
        await asyncio.wait([self._established])
        if self._established.cancelled():
            raise CallOver(await self.wait_ended())
        return self._established.result()

    async def wait_ended(self) -> Ended:
        await self._over.wait()
        assert self._ended is not None
        return self._ended

    def snapshot(self) -> CallSnapshot:
        """The call as a value that can be stored; see ``SipEndpoint.restore``."""
        flow = self._way.flow
        return CallSnapshot(
            dialog=self._dialog.state,
            network=flow.network,
            transport=flow.transport,
            host=flow.host,
            port=flow.port,
            behind_nat=self._way.behind_nat,
            adjacent=self._way.adjacent,
            local_sdp=self.local_sdp,
            remote_sdp=self.remote_sdp,
            session=self._session.agreement,
            session_left=self._session.left(),
            peer_allows=self.peer_allows,
        )

    @classmethod
    def restored(cls, core: SipCore, snapshot: CallSnapshot, login: Login | None = None) -> Call:
        """A call from its snapshot. A stream of the former process is gone: the next request opens one."""
        flow = Flow(snapshot.network, snapshot.transport, snapshot.host, snapshot.port)
        call = cls(
            core,
            Dialog(snapshot.dialog),
            flow,
            adjacent=snapshot.adjacent,
            latched=snapshot.behind_nat,
            login=login,
        )
        call.local_sdp, call.remote_sdp = snapshot.local_sdp, snapshot.remote_sdp
        call.peer_allows = snapshot.peer_allows
        # Whoever was down for a while is given a moment to refresh, or to be refreshed.
        left = max(snapshot.session_left, _GRACE) if snapshot.session_left is not None else None
        call.agree(snapshot.session, left)
        return call

    # -- what it does

    async def reinvite(self, sdp: Offer) -> bytes | None:
        """Offer other media; the peer's answer. Glare is waited out (RFC 3261 14.1).

        Raises ReinviteRefused (the session stays as it was) or CallOver.
        """
        return await self._offer("INVITE", sdp)

    async def update(self, sdp: Offer) -> bytes | None:
        """The same by UPDATE (RFC 3311), for peers whose Allow has it."""
        return await self._offer("UPDATE", sdp)

    async def info(self, content_type: str, body: bytes) -> int:
        """Send an INFO; its final status, 408 when none came. Raises CallOver."""
        try:
            response = await self._ask("INFO", (("Content-Type", content_type),), body)
        except NoAnswer:
            return 408
        return response.status

    async def notify(self, headers: Fields, body: bytes) -> int:
        """Send a NOTIFY; its final status, 408 when none came. Raises CallOver.

        A 481 ends what it notifies of, not the call (RFC 5057 5.1).
        """
        if self._ended is not None:
            raise CallOver(self._ended)
        try:
            return (await self._client.ask("NOTIFY", headers, body)).status
        except NoAnswer:
            return 408

    async def probe(self, timeout: float = 4.0) -> bool:
        """Ask for a sign of life (OPTIONS in the dialog): any response but 481 and 408 is one."""
        try:
            async with asyncio.timeout(timeout):
                response = await self._ask("OPTIONS", (("Accept", SDP),), b"")
        except (NoAnswer, TimeoutError, CallOver):
            return False
        return response.status not in (408, 481)

    async def bye(
        self, reason: str | None = None, cause: EndCause = EndCause.LOCAL_BYE, status: int = 200
    ) -> None:
        """Hang up and wait for the peer's answer; harmless when the call is over.

        ``reason`` is told, with the ``status`` that fits it (RFC 3326).
        """
        self.hang_up(reason, cause, status)
        if self._hanging_up is not None:
            await asyncio.shield(self._hanging_up)

    def hang_up(
        self, reason: str | None = None, cause: EndCause = EndCause.LOCAL_BYE, status: int = 200
    ) -> None:
        """Begin to hang up: the call is over for its owner at once, the BYE goes its way."""
        if self._ended is not None:
            return
        self._end(Ended(cause, reason or ""), forget=False)
        self._hanging_up = self._core.spawn("bye", self._say_bye(reason, status))

    def start_answered(
        self, transaction: FlowTransaction, response: Response, agreement: SessionAgreement | None
    ) -> None:
        """The 200 of an incoming call is out: repeat it until its ACK, run the session timer."""
        self._established = self.await_ack(transaction, response)
        self._settle()
        self.agree(agreement)

    def acknowledge(self, sdp: bytes | None = None) -> None:
        """The ACK of an outgoing call's answer; needed from outside only when the call was offerless."""
        self.local_sdp = sdp or self.local_sdp
        self._client.send_ack(self._dialog.state.local_cseq, sdp)

    # -- inside

    async def _say_bye(self, reason: str | None, status: int) -> None:
        try:
            # RFC 3261 15: not before the ACK of our 2xx came; but not for long, the peer may be gone.
            await self._answers.settled(timeout=2.0)
            self._answers.close()
            text = f'SIP;cause={status};text="{reason}"' if reason and '"' not in reason else None
            await self._client.ask("BYE", (("Reason", text),) if text else (), b"")
        except NoAnswer:
            return
        finally:
            self._forget()

    def _unacknowledged(self) -> None:
        self.hang_up("no ACK", EndCause.NO_ACK)

    def _end(self, ended: Ended, forget: bool = True) -> None:
        if self._ended is not None:
            return
        self._ended = ended
        self.agree(None)
        if self._their_offer is not None:
            self._their_offer.refuse(487, None)
        for work in self._offering:
            if work is not asyncio.current_task():
                work.cancel()
        if forget:
            self._answers.close()
            self._forget()
        self._events.finish(ended)
        self._over.set()
        self._calm.set()

    def _forget(self) -> None:
        if self._core.dialogs.get(self.id) is self:
            del self._core.dialogs[self.id]

    def _learn(self, message: Message) -> None:
        """Note what the peer's INVITE or answer says of it: methods, and whether a NAT hides its Contact."""
        allowed = message.headers.tokens("Allow")
        if allowed:
            self.peer_allows = frozenset(name.upper() for name in allowed)
        self._way.learn(message, direct=not self._dialog.state.route_set)

    async def _ask(self, method: str, headers: Fields, body: bytes) -> Response:
        """One request and its final response. Raises NoAnswer, CallOver."""
        if self._ended is not None:
            raise CallOver(self._ended)
        response = await self._client.ask(method, headers, body)
        if response.status == 481:
            self._end(Ended(EndCause.PEER_GONE, "481"))
        return response

    async def _offer(self, method: Literal["INVITE", "UPDATE"], sdp: Offer) -> bytes | None:
        # A transaction of its own task: whoever asked may lose patience, but the INVITE is under way all the
        # same, and another must not start before it is done (RFC 3261 14.1).
        work = asyncio.create_task(self._offer_in_turn(method, sdp), name="sip-offer")
        self._offering.add(work)
        work.add_done_callback(self._offered)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled() and self._ended is not None:
                raise CallOver(self._ended) from None
            raise

    def _offered(self, work: asyncio.Task[bytes | None]) -> None:
        self._offering.discard(work)
        if not work.cancelled():
            work.exception()  # nobody may be waiting any more

    async def _offer_in_turn(self, method: Literal["INVITE", "UPDATE"], offer: Offer) -> bytes | None:
        async with self._turn:
            for _ in range(_TRIES):
                await self._calm.wait()
                if self._ended is not None:
                    raise CallOver(self._ended)
                sdp = offer if isinstance(offer, bytes) else offer()
                if sdp is None:
                    return None
                response = await self._offer_once(method, sdp)
                if response.status < 300:
                    self.local_sdp = sdp
                    answer = sdp_of(response)
                    self.remote_sdp = answer or self.remote_sdp
                    return answer
                if response.status != 491:
                    raise ReinviteRefused(response.status, response.reason)
                await asyncio.sleep(self._client.glare_wait())
        raise ReinviteRefused(491, "Request Pending")

    async def _offer_once(self, method: Literal["INVITE", "UPDATE"], sdp: bytes) -> Response:
        headers = [*SDP_FIELD, *self._session_fields()]
        self._our_offer = True
        try:
            if method == "UPDATE":
                response = await self._ask(method, headers, sdp)
            else:
                response = await self._client.invite(headers, sdp)
            if response.status < 300:
                self._dialog.refresh_target(response)
                self.agree(session_of(response))
        except NoAnswer as error:
            self.hang_up("no answer to re-INVITE", EndCause.PEER_GONE)
            raise ReinviteRefused(408, str(error)) from None
        except SipSyntaxError as error:
            raise ReinviteRefused(502, f"the answer is malformed: {error}") from None
        finally:
            self._our_offer = False
        if response.status in (408, 481):
            self.hang_up("the peer lost the call", EndCause.PEER_GONE)
        return response

    def _session_fields(self) -> tuple[tuple[str, str], ...]:
        policy = self._core.policy
        fields: tuple[tuple[str, str], ...] = (("Supported", "timer"),)
        agreement = self._session.agreement
        if agreement is None:
            return fields
        return fields + request_session(agreement.seconds, policy.least_session_interval, agreement)

    def send_ack(self, number: int) -> None:
        """Acknowledge the 2xx with that CSeq number."""
        self._client.send_ack(number)

    def repeat_ack(self, number: int) -> None:
        """The peer repeated a 2xx: its ACK was lost."""
        self._client.repeat_ack(number)

    # -- what the peer sends

    def take_ack(self, ack: Request) -> None:
        try:
            sdp = sdp_of(ack)
        except SipSyntaxError:
            sdp = None
        if self._answers.acknowledge(ack.cseq.number, sdp):
            self.remote_sdp = sdp or self.remote_sdp
            self._settle()

    def take(self, request: Request, transaction: FlowTransaction, flow: Flow) -> bool:
        """A request inside the dialog."""
        if request.method == "BYE":
            self._core.respond(transaction, 200)
            self._end(Ended(EndCause.REMOTE_BYE, request.headers.get("Reason") or ""))
            return True
        if self._ended is not None:
            self._core.respond(transaction, 481)
            return True
        refusal = self._refusal_of(request) or self._dialog.take(request)
        if refusal is not None:
            self._core.refuse(transaction, refusal)
            return True
        self._way.heard(flow)
        match request.method:
            case "INVITE" | "UPDATE":
                self._take_offer(request, transaction)
            case "INFO" if request.headers.get("Info-Package"):
                self._core.respond(transaction, 469, None, (("Recv-Info", ""),))
            case "INFO":
                self._core.respond(transaction, 200)
                kind = request.content_type
                self._events.put(InfoReceived(kind.name if kind else "", request.body, request))
            case "PRACK":
                answer_prack(self._core, self.provisionals, request, transaction)
            case "REFER":
                self._take_refer(request, transaction)
            case "OPTIONS":
                self._core.respond(transaction, 200, None, self._core.own.answer_to_options())
            case _:
                return False
        return True

    def _take_refer(self, request: Request, transaction: FlowTransaction) -> None:
        def answer(status: int, reason: str | None, headers: Fields) -> None:
            fields = [("Contact", self._dialog.state.local_contact)] if status < 300 else []
            self._core.respond(transaction, status, reason, [*fields, *headers])

        if not self._events.put(Referred(request, answer)):
            answer(500, "too many events wait", ())

    def _refusal_of(self, request: Request) -> Refusal | None:
        if request.method not in ("INVITE", "UPDATE"):
            return None
        busy = self._their_offer is not None
        if self._our_offer and (request.method == "INVITE" or request.body):
            return Refusal(491, "Request Pending")
        if busy:
            return Refusal(
                500, "An earlier offer is unanswered", (("Retry-After", str(random.randint(0, 10))),)
            )
        return answer_refusal(request) or body_refusal(request, self._core.own)

    def _take_offer(self, request: Request, transaction: FlowTransaction) -> None:
        policy = self._core.policy
        self._learn(request)
        wanted = policy.session_interval or 1800
        session = answer_session(request, wanted, policy.least_session_interval)
        if isinstance(session, Refusal):
            self._core.refuse(transaction, session)
            return
        offer = sdp_of(request)
        if request.method == "UPDATE" and offer is None:
            self._dialog.refresh_target(request)
            self.agree(session.agreement)
            contact = ("Contact", self._dialog.state.local_contact)
            self._core.respond(transaction, 200, None, (contact, *session.headers))
            self._events.put(Refreshed(by_peer=True))
            return
        method: Literal["INVITE", "UPDATE"] = "UPDATE" if request.method == "UPDATE" else "INVITE"
        pending = PeerOffer(self, request, transaction, session, policy.reinvite_answer)
        self._their_offer = pending
        self._calm.clear()
        if method == "INVITE":
            self._core.transactions.serve(transaction, pending)
        if not self._events.put(Reinvited(method, offer, request, pending)):
            pending.refuse(500, "too many events wait")

    def accept_offer(self, pending: PeerOffer, sdp: bytes | None) -> asyncio.Future[bytes | None]:
        """Send the 200 of a re-INVITE or UPDATE."""
        self._their_offer = None
        fields = [
            ("Contact", self._dialog.state.local_contact),
            *self._core.own.fields(),
            *pending.session.headers,
        ]
        if sdp:
            fields.extend(SDP_FIELD)
        response = self._core.respond(pending.transaction, 200, None, fields, sdp or b"")
        self._dialog.refresh_target(pending.request)
        self.local_sdp = sdp or self.local_sdp
        self.remote_sdp = sdp_of(pending.request) or self.remote_sdp
        self.agree(pending.session.agreement)
        if pending.request.method == "INVITE":
            future = self.await_ack(pending.transaction, response)
        else:
            future = asyncio.get_running_loop().create_future()
            future.set_result(None)
        self._settle()
        return future

    def await_ack(self, transaction: FlowTransaction, response: Response) -> asyncio.Future[bytes | None]:
        """Repeat a 2xx of ours until its ACK comes."""
        return self._answers.keep(
            response.cseq.number, response, lambda again: self._core.transactions.respond(transaction, again)
        )

    def drop_offer(self, pending: PeerOffer, status: int, reason: str | None) -> None:
        """Refuse a re-INVITE or UPDATE."""
        self._their_offer = None
        self._core.respond(pending.transaction, status, reason)
        self._settle()

    def _settle(self) -> None:
        if self._their_offer is None and not self._answers:
            self._calm.set()
        elif self._ended is None:
            self._calm.clear()

    # -- the session timer

    def agree(self, agreement: SessionAgreement | None, left: float | None = None) -> None:
        """Run the session timer anew; ``left`` seconds of it remain, if it is not fresh. None stops it."""
        if self._ended is None or agreement is None:
            self._session.agree(agreement, left)

    def _session_expired(self) -> None:
        self.hang_up("session expired", EndCause.SESSION_EXPIRED)

    def _start_refresh(self) -> None:
        self._core.spawn("refresh", self._refresh())

    async def _refresh(self) -> None:
        try:
            if "UPDATE" in self.peer_allows:
                response = await self._ask("UPDATE", self._session_fields(), b"")
                if response.status < 300:
                    self._dialog.refresh_target(response)
                    self.agree(session_of(response) or self._session.agreement)
                    self._events.put(Refreshed(by_peer=False))
                    return
                self.peer_allows -= {"UPDATE"} if response.status in (405, 501) else frozenset()
            if self.local_sdp is not None:
                await self._offer("INVITE", lambda: self.local_sdp)  # as it stands when its turn comes
                self._events.put(Refreshed(by_peer=False))
        except (NoAnswer, ReinviteRefused, SipSyntaxError):
            return  # the session timer runs on, and hangs up at its end
        except CallOver:
            return


def session_of(response: Response) -> SessionAgreement | None:
    """The agreement in a 2xx; one that cannot be read is none, and no reason to lose the call."""
    try:
        return session_of_answer(response)
    except SipSyntaxError:
        return None
