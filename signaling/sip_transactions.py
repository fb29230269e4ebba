"""Transactions on real sockets: the pure layer's outputs are sent, its deadlines kept by one timer.

The transaction users (calls, handlers) register per transaction and are called synchronously: a response is
acted on, and acknowledged, in the same turn of the loop that read it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from protocols.sip.grammar import Parameters, SipSyntaxError
from protocols.sip.headers import BRANCH_COOKIE, Via
from protocols.sip.message import Message, Request, Response
from protocols.sip.transaction import (
    Deliver,
    Failed,
    Finished,
    Output,
    Timing,
    Transaction,
    Transmit,
    Trouble,
)
from protocols.sip.transaction_layer import Known, TransactionLayer
from signaling.sip_listener import Flow, ListenerTable, NoWay

FlowTransaction = Transaction[Flow]
Spawn = Callable[[str, Coroutine[Any, Any, None]], "asyncio.Task[None] | None"]
"""Puts a named piece of work into the endpoint's scope; None when that is over."""


class ClientUser(Protocol):
    """Who sent a request."""

    def on_response(self, response: Response) -> None:
        """A provisional or final response; for INVITE every 2xx, repeated and forked ones too."""
        ...

    def on_failure(self, trouble: Trouble) -> None:
        """No final response will come."""
        ...


class ServerUser(Protocol):
    """Who answers an INVITE; ``tag`` is the To tag of its responses, None when the request has one."""

    @property
    def tag(self) -> str | None: ...

    def on_cancel(self) -> None:
        """The caller gave up before a final response."""
        ...


@dataclass(slots=True)
class SipCounters:
    """Counts since the start, for metrics."""

    requests_in: int = 0
    requests_out: int = 0
    responses_in: int = 0
    malformed: int = 0
    stray_responses: int = 0
    overloaded: int = 0
    timeouts: int = 0
    transport_failures: int = 0


def new_branch() -> str:
    return BRANCH_COOKIE + secrets.token_hex(9)


class SipTransactions:
    """The transaction layer of one endpoint. ``spawn`` puts work into the endpoint's scope."""

    def __init__(
        self,
        listeners: ListenerTable,
        timing: Timing,
        limit: int,
        spawn: Spawn,
    ) -> None:
        self.counters = SipCounters()
        self.timing = timing
        self._layer: TransactionLayer[Flow] = TransactionLayer(timing, limit)
        self._listeners = listeners
        self._spawn = spawn
        self._clients: dict[FlowTransaction, ClientUser] = {}
        self._servers: dict[FlowTransaction, ServerUser] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self.on_ack: Callable[[Request, Flow], None] = lambda request, flow: None

    def __len__(self) -> int:
        return len(self._layer)

    def via(self, flow: Flow, branch: str) -> Via:
        """Our Via for requests on that flow."""
        host, port = self._listeners.of(flow.network).advertised(flow.transport)
        return Via(flow.transport, host, port, Parameters((("branch", branch), ("rport", None))))

    def start(self, request: Request, flow: Flow, user: ClientUser) -> FlowTransaction:
        """Send a request in a transaction of its own; its Via is put on top here."""
        request = self._topped(request, flow, new_branch())
        transaction, outputs = self._layer.start_client(request, flow, flow.is_reliable, _now())
        self._clients[transaction] = user
        self.counters.requests_out += 1
        self._apply(outputs)
        return transaction

    def start_cancel(self, cancel: Request, flow: Flow, user: ClientUser) -> None:
        """Send a CANCEL, whose Via is that of its INVITE."""
        transaction, outputs = self._layer.start_client(cancel, flow, flow.is_reliable, _now())
        self._clients[transaction] = user
        self.counters.requests_out += 1
        self._apply(outputs)

    def acknowledge(self, ack: Request, flow: Flow) -> bytes:
        """Send the ACK of a 2xx; its bytes serve again when the 2xx is repeated."""
        data = self._topped(ack, flow, new_branch()).to_bytes()
        self._listeners.send(flow, data)
        return data

    def _topped(self, request: Request, flow: Flow, branch: str) -> Request:
        headers = request.headers.led_by("Via", str(self.via(flow, branch)))
        return Request(request.method, request.uri, headers, request.body)

    def receive_request(self, request: Request, flow: Flow) -> FlowTransaction | None:
        """The server transaction of a new request; None when nothing more is to do. Raises Overloaded."""
        matched = self._layer.receive_request(request, flow, flow.is_reliable, _now())
        if matched is None:
            self.on_ack(request, flow)
            return None
        if isinstance(matched, Known):
            self._apply(matched.outputs)
            return None
        self._wake()
        return matched.transaction

    def receive_response(self, response: Response, flow: Flow) -> bool:
        """Give a response to its transaction; False when there is none."""
        self.counters.responses_in += 1
        matched = self._layer.receive_response(response, _now())
        if matched is None:
            self.counters.stray_responses += 1
            return False
        self._apply(matched.outputs)
        return True

    def respond(self, transaction: FlowTransaction, response: Response) -> None:
        self._apply(self._layer.respond(transaction, response, _now()))

    def serve(self, transaction: FlowTransaction, user: ServerUser) -> None:
        """Name the user of an INVITE's server transaction."""
        self._servers[transaction] = user

    def cancel_target(self, cancel: Request) -> tuple[FlowTransaction | None, ServerUser | None]:
        transaction = self._layer.cancelled_by(cancel)
        return transaction, self._servers.get(transaction) if transaction is not None else None

    def is_merged(self, transaction: FlowTransaction) -> bool:
        return self._layer.is_merged(transaction)

    def send_response(self, response: Response, flow: Flow) -> bool:
        """Send a response as its Via asks: on the request's connection or, failing that, to a new one."""
        if flow.is_reliable:
            if self._listeners.send(flow, response.to_bytes()):
                return True
            self._spawn("response", self._send_elsewhere(response, flow))
            return True
        host, port = response.via.reply_address()
        return self._listeners.send(Flow(flow.network, "UDP", host, port), response.to_bytes())

    async def _send_elsewhere(self, response: Response, flow: Flow) -> None:
        host, port = response.via.reply_address()
        try:
            opened = await self._listeners.of(flow.network).connect(flow.transport, host, port)
        except NoWay:
            self.counters.transport_failures += 1
            return
        self._listeners.send(opened, response.to_bytes())

    def _apply(self, outputs: Iterable[Output[Flow]]) -> None:
        waiting = deque(outputs)
        while waiting:
            output = waiting.popleft()
            transaction = output.transaction
            match output:
                case Transmit(message=message):
                    if not self._transmit(message, transaction.peer):
                        waiting.extend(self._layer.transport_failed(transaction, _now()))
                case Deliver(message=Response() as response):
                    if (client := self._clients.get(transaction)) is not None:
                        client.on_response(response)
                case Deliver(message=Request() as ack):
                    self.on_ack(ack, transaction.peer)
                case Failed(trouble=trouble):
                    self._count_trouble(trouble)
                    if (client := self._clients.get(transaction)) is not None:
                        client.on_failure(trouble)
                case Finished():
                    self._clients.pop(transaction, None)
                    self._servers.pop(transaction, None)
        self._wake()

    def _count_trouble(self, trouble: Trouble) -> None:
        if trouble is Trouble.TIMEOUT:
            self.counters.timeouts += 1
        else:
            self.counters.transport_failures += 1

    def _transmit(self, message: Message, flow: Flow) -> bool:
        try:
            if isinstance(message, Response):
                return self.send_response(message, flow)
            return self._listeners.send(flow, message.to_bytes())
        except (SipSyntaxError, ValueError):
            return False  # a message of ours that cannot be printed: the user hears of it as a failure

    def _wake(self) -> None:
        deadline = self._layer.next_deadline()
        if deadline is None or deadline >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._apply(self._layer.expire(_now()))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _now() -> float:
    return asyncio.get_running_loop().time()
