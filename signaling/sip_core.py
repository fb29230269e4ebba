"""What calls in and out share: policy, transactions, the table of dialogs, requests with one final answer."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from protocols.sip.dialog import DialogId
from protocols.sip.digest import DigestClient, Login
from protocols.sip.grammar import Parameters
from protocols.sip.headers import NameAddress
from protocols.sip.message import Request, Response
from protocols.sip.replies import respond
from protocols.sip.transaction import Timing, Trouble
from protocols.sip.uri import SipUri
from protocols.sip.validation import Capabilities, Refusal
from signaling.sip_authentication import ChallengePolicy
from signaling.sip_listener import Flow, ListenerTable
from signaling.sip_transactions import FlowTransaction, SipTransactions, Spawn

Fields = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class SipPolicy:
    """Times in seconds, and bounds. ``session_interval`` None: we do not ask for session timers.

    ``max_pending`` calls to us wait for an answer at the most; who comes then is sent away at once (503 with
    Retry-After) rather than kept waiting for what cannot be done in time.
    """

    product: str = "Anshi"
    focus: bool = False
    """Our Contact says that whoever calls it is in a conference (RFC 4579 5.1)."""
    session_interval: int | None = 1800
    least_session_interval: int = 90
    ring_timeout: float = 180.0
    reinvite_answer: float = 15.0
    max_calls: int = 4000
    max_pending: int = 200
    max_transactions: int = 50_000
    timing: Timing = field(default_factory=Timing)
    challenges: ChallengePolicy = field(default_factory=ChallengePolicy)


class DialogUser(Protocol):
    """Who takes the requests inside a dialog: a call, or one that is still ringing."""

    def take(self, request: Request, transaction: FlowTransaction, flow: Flow) -> bool:
        """Answer a request; False when its method means nothing here."""
        ...

    def take_ack(self, ack: Request) -> None: ...


class NoAnswer(Exception):
    """No final response came."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__("no answer in time" if trouble is Trouble.TIMEOUT else "the peer cannot be reached")
        self.trouble = trouble


class FinalResponse:
    """A client user that waits for one final response of a request other than INVITE."""

    def __init__(self) -> None:
        self._future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._future.add_done_callback(_retrieved)

    def on_response(self, response: Response) -> None:
        if response.status >= 200 and not self._future.done():
            self._future.set_result(response)

    def on_failure(self, trouble: Trouble) -> None:
        if not self._future.done():
            self._future.set_exception(NoAnswer(trouble))

    async def wait(self) -> Response:
        """The response. Raises NoAnswer."""
        return await self._future


def _retrieved(future: asyncio.Future[Response]) -> None:
    if not future.cancelled():
        future.exception()  # nobody may be waiting any more; that is no mistake


class Credentials:
    """Our login towards one peer; answers its challenges as they come."""

    def __init__(self, login: Login | None) -> None:
        self._client = DigestClient(login) if login is not None else None
        self._tries = 0

    def answer(self, response: Response, request: Request) -> tuple[str, str] | None:
        """The field for the next try; None when the challenge cannot or should not be answered."""
        if self._client is None or self._tries >= 2:
            return None
        proxy = response.status == 407
        challenges = response.headers.all("Proxy-Authenticate" if proxy else "WWW-Authenticate")
        answer = self._client.answer(
            challenges, request.method, request.uri, request.body, secrets.token_hex(8)
        )
        if answer is None:
            return None
        self._tries += 1
        return ("Proxy-Authorization" if proxy else "Authorization", str(answer))

    def accepted(self) -> None:
        """The last try went through; later challenges are new ones."""
        self._tries = 0


class SipCore:
    """The endpoint's insides, handed to its calls."""

    def __init__(
        self,
        listeners: ListenerTable,
        policy: SipPolicy,
        own: Capabilities,
        spawn: Spawn,
    ) -> None:
        self.listeners = listeners
        self.policy = policy
        self.own = own
        self.spawn = spawn
        self.transactions = SipTransactions(listeners, policy.timing, policy.max_transactions, spawn)
        self.dialogs: dict[DialogId, DialogUser] = {}
        self._tag_secret = secrets.token_bytes(16)

    def respond(
        self,
        transaction: FlowTransaction,
        status: int,
        reason: str | None = None,
        headers: Fields = (),
        body: bytes = b"",
        to_tag: str | None = None,
    ) -> Response:
        """Answer in a server transaction; returns what was sent."""
        response = self.reply(transaction.request, status, reason, headers, body, to_tag)
        self.transactions.respond(transaction, response)
        return response

    def reply(
        self,
        request: Request,
        status: int,
        reason: str | None = None,
        headers: Fields = (),
        body: bytes = b"",
        to_tag: str | None = None,
    ) -> Response:
        """A response with our Server field, and a To tag that is the same for each repetition."""
        fields = [*headers, ("Server", self.policy.product)]
        return respond(request, status, reason, fields, body, to_tag or self._steady_tag(request))

    def refuse(self, transaction: FlowTransaction, refusal: Refusal) -> None:
        self.respond(transaction, refusal.status, refusal.reason, refusal.headers)

    def _steady_tag(self, request: Request) -> str:
        seed = "\n".join(request.headers.all("Via")[:1] + request.headers.all("Call-ID"))
        return hashlib.blake2s(
            seed.encode("utf-8", "surrogateescape"), key=self._tag_secret, digest_size=6
        ).hexdigest()

    def contact(self, flow: Flow, user: str | None, *, secure: bool = False) -> str:
        """Our Contact on that flow's network, as advertised there; SIPS for a `secure` dialog."""
        host, port = self.listeners.of(flow.network).advertised(flow.transport)
        uri = SipUri(host, user or None, port, "sips" if secure and flow.transport == "TLS" else "sip")
        if flow.is_reliable and uri.scheme == "sip":
            uri = replace(uri, parameters=uri.parameters.with_value("transport", flow.transport.lower()))
        feature = Parameters((("isfocus", None),)) if self.policy.focus else Parameters()
        return str(NameAddress(uri, "", feature))

    async def ask(self, request: Request, flow: Flow) -> Response:
        """Send a request other than INVITE and wait for its final response. Raises NoAnswer."""
        waiter = FinalResponse()
        self.transactions.start(request, flow, waiter)
        return await waiter.wait()


def new_tag() -> str:
    return secrets.token_hex(6)
