"""Re-INVITE and UPDATE of one call: the peer's, waiting for our answer, and ours, waiting for the peer's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from protocols.sip.message import Request, Response
from protocols.sip.session_timer import SessionAnswer
from protocols.sip.transaction import Trouble
from signaling.sip_core import NoAnswer
from signaling.sip_events import ReinviteRefused
from signaling.sip_transactions import FlowTransaction


class OfferOwner(Protocol):
    """The call a peer's offer belongs to."""

    def accept_offer(self, offer: PeerOffer, sdp: bytes | None) -> Awaitable[bytes | None]: ...

    def drop_offer(self, offer: PeerOffer, status: int, reason: str | None) -> None: ...


class PeerOffer:
    """One unanswered re-INVITE or UPDATE; refused with 500 after ``patience`` seconds."""

    def __init__(
        self,
        owner: OfferOwner,
        request: Request,
        transaction: FlowTransaction,
        session: SessionAnswer,
        patience: float,
    ) -> None:
        self.request = request
        self.transaction = transaction
        self.session = session
        self._owner = owner
        self._open = True
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(patience, self.refuse, 500, "no answer in time")

    @property
    def tag(self) -> None:
        """The request is inside a dialog and has its To tag."""
        return

    def answer(self, sdp: bytes | None) -> Awaitable[bytes | None]:
        """Raises ReinviteRefused when it is too late: cancelled, timed out, or the call is over."""
        if not self._close():
            raise ReinviteRefused(487, "the offer is no longer open")
        return self._owner.accept_offer(self, sdp)

    def refuse(self, status: int, reason: str | None) -> None:
        if self._close():
            self._owner.drop_offer(self, status, reason)

    def on_cancel(self) -> None:
        self.refuse(487, None)

    def _close(self) -> bool:
        was_open, self._open = self._open, False
        self._timer.cancel()
        return was_open


@dataclass(frozen=True, slots=True)
class AckDuty:
    """How to acknowledge the 2xx of our INVITE, and its repetitions."""

    first: Callable[[], None]
    again: Callable[[], None]


class OurReinvite:
    """The client user of our re-INVITE: every 2xx is acknowledged in the turn that brings it.

    `reached` is set by the first response, or when none will come.
    """

    def __init__(self, duty: AckDuty, reached: asyncio.Event) -> None:
        self._duty = duty
        self._reached = reached
        self._acknowledged = False
        self._response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def on_response(self, response: Response) -> None:
        self._reached.set()
        if response.status < 200:
            return
        if response.status < 300:
            # Whether or not somebody still waits: an unacknowledged 2xx would cost the call.
            (self._duty.again if self._acknowledged else self._duty.first)()
            self._acknowledged = True
        if not self._response.done():
            self._response.set_result(response)

    def on_failure(self, trouble: Trouble) -> None:
        self._reached.set()
        if not self._response.done():
            self._response.set_exception(NoAnswer(trouble))

    async def wait(self) -> Response:
        """The final response. Raises NoAnswer."""
        return await self._response
