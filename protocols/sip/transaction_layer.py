"""All transactions of one endpoint: matching (RFC 3261 17.1.3, 17.2.3), merged requests, deadlines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic

from protocols.sip.deadlines import Deadlines
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.headers import BRANCH_COOKIE
from protocols.sip.message import Request, Response
from protocols.sip.transaction import (
    Finished,
    Kind,
    Output,
    PeerT,
    State,
    Timing,
    Transaction,
    TransactionKey,
)


@dataclass(frozen=True, slots=True)
class Known(Generic[PeerT]):
    """A message of a transaction that exists; its outputs are all there is to do."""

    outputs: list[Output[PeerT]]


@dataclass(frozen=True, slots=True)
class Fresh(Generic[PeerT]):
    """A new request: its server transaction, which waits for responses."""

    transaction: Transaction[PeerT]


class Overloaded(Exception):
    """The table of transactions is full."""


class TransactionLayer(Generic[PeerT]):
    """Tables of client and server transactions, at most ``limit`` in all."""

    def __init__(self, timing: Timing = Timing(), limit: int = 50_000) -> None:  # noqa: B008 - frozen
        self.timing = timing
        self._limit = limit
        self._clients: dict[TransactionKey, Transaction[PeerT]] = {}
        self._servers: dict[TransactionKey, Transaction[PeerT]] = {}
        self._merge_keys: dict[TransactionKey, Transaction[PeerT]] = {}
        self._deadlines: Deadlines[Transaction[PeerT]] = Deadlines()

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers)

    def next_deadline(self) -> float | None:
        return self._deadlines.next()

    def expire(self, now: float) -> list[Output[PeerT]]:
        """Run every timer that is due."""
        outputs: list[Output[PeerT]] = []
        for transaction in self._deadlines.take_due(now):
            outputs += self._settled(transaction, transaction.expire(now))
        return outputs

    def start_client(
        self, request: Request, peer: PeerT, reliable: bool, now: float
    ) -> tuple[Transaction[PeerT], list[Output[PeerT]]]:
        """Send a request (its top Via carries a fresh branch). An ACK of a 2xx has no transaction."""
        kind = Kind.INVITE_CLIENT if request.method == "INVITE" else Kind.CLIENT
        key = (request.via.branch, request.method)
        transaction = Transaction(kind, key, request, peer, reliable, self.timing)
        self._clients[key] = transaction
        return transaction, self._settled(transaction, transaction.begin(now))

    def receive_request(
        self, request: Request, peer: PeerT, reliable: bool, now: float
    ) -> Known[PeerT] | Fresh[PeerT] | None:
        """Match a request of proper syntax. None: an ACK that belongs to no transaction, so to a dialog.

        Raises Overloaded when a new one has no room.
        """
        key = server_key(request)
        transaction = self._servers.get(key)
        if transaction is not None:
            return Known(self._settled(transaction, transaction.receive(request, now)))
        if request.method == "ACK":
            return None
        if len(self) >= self._limit:
            raise Overloaded
        kind = Kind.INVITE_SERVER if request.method == "INVITE" else Kind.SERVER
        transaction = Transaction(kind, key, request, peer, reliable, self.timing)
        self._servers[key] = transaction
        merge_key = _merge_key(request)
        first = self._merge_keys.get(merge_key)
        if first is None or _answers_challenge(request, first):
            self._merge_keys[merge_key] = transaction
        outputs = self._settled(transaction, transaction.begin(now))
        assert not outputs, "a server transaction says nothing before its user does"
        return Fresh(transaction)

    def receive_response(self, response: Response, now: float) -> Known[PeerT] | None:
        """Match a response; None when no transaction waits for it."""
        transaction = self._clients.get((response.via.branch, response.cseq.method))
        if transaction is None:
            return None
        return Known(self._settled(transaction, transaction.receive(response, now)))

    def respond(self, transaction: Transaction[PeerT], response: Response, now: float) -> list[Output[PeerT]]:
        return self._settled(transaction, transaction.respond(response, now))

    def transport_failed(self, transaction: Transaction[PeerT], now: float) -> list[Output[PeerT]]:
        return self._settled(transaction, transaction.transport_failed(now))

    def is_merged(self, transaction: Transaction[PeerT]) -> bool:
        """Whether another branch brought the same request (RFC 3261 8.2.2.2); for those without a To tag.

        Not so where credentials answer a challenge to the first: old clients leave the CSeq as it was.
        """
        first = self._merge_keys.get(_merge_key(transaction.request))
        return first is not None and first is not transaction

    def cancelled_by(self, cancel: Request) -> Transaction[PeerT] | None:
        """The INVITE transaction a CANCEL is for (RFC 3261 9.2)."""
        return self._servers.get(server_key(cancel, "INVITE"))

    def clients(self) -> Iterator[Transaction[PeerT]]:
        return iter(tuple(self._clients.values()))

    def _settled(self, transaction: Transaction[PeerT], outputs: list[Output[PeerT]]) -> list[Output[PeerT]]:
        if transaction.state is State.TERMINATED:
            self._deadlines.set(transaction, None)
            table = self._servers if transaction.is_server else self._clients
            if table.get(transaction.key) is transaction:
                del table[transaction.key]
            if transaction.is_server:
                merge_key = _merge_key(transaction.request)
                if self._merge_keys.get(merge_key) is transaction:
                    del self._merge_keys[merge_key]
        else:
            self._deadlines.set(transaction, transaction.next_deadline())
        return outputs


def server_key(request: Request, method: str | None = None) -> TransactionKey:
    """What identifies a server transaction (RFC 3261 17.2.3); an ACK matches its INVITE."""
    via = request.via
    method = method or ("INVITE" if request.method == "ACK" else request.method)
    if via.branch.startswith(BRANCH_COOKIE) and len(via.branch) > len(BRANCH_COOKIE):
        return (via.branch, via.sent_by, method)
    # A client of RFC 2543: the To tag is left out, for the ACK has one and the INVITE has not.
    bare_via = (via.transport, via.sent_by, via.branch)
    number = str(request.cseq.number)
    return (*bare_via, method, request.uri, request.from_.tag or "", request.call_id, number)


def _answers_challenge(request: Request, first: Transaction[PeerT]) -> bool:
    """Whether the request brings credentials for what was told 401 or 407."""
    if first.response is None or first.response.status not in (401, 407):
        return False
    return any(request.headers.get(name) is not None for name in ("Authorization", "Proxy-Authorization"))


def _merge_key(request: Request) -> TransactionKey:
    try:
        cseq = request.cseq
        return (request.from_.tag or "", request.call_id, str(cseq.number), cseq.method)
    except SipSyntaxError:
        return ()


__all__ = ["Finished", "Fresh", "Known", "Overloaded", "TransactionLayer", "server_key"]
