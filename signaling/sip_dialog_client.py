"""Our requests inside one dialog: sent where the peer is, challenges answered, 2xx acknowledged.

Nothing but a BYE overtakes an offer that the peer has not answered in any way: where the offer was lost, its
repetition would come after a higher CSeq and be refused as out of order (RFC 3261 12.2.2).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from functools import partial

from protocols.sip.body import SDP
from protocols.sip.dialog import Dialog
from protocols.sip.digest import Login
from protocols.sip.message import Request, Response
from signaling.sip_core import Credentials, NoAnswer, SipCore
from signaling.sip_listener import Flow
from signaling.sip_offers import AckDuty, OurReinvite
from signaling.sip_way import PeerWay

SDP_FIELD = (("Content-Type", SDP),)
_KEPT_ACKS = 4
Fields = Iterable[tuple[str, str]]


class DialogClient:
    """The client side of a call."""

    def __init__(self, core: SipCore, dialog: Dialog, way: PeerWay, login: Login | None) -> None:
        self._core = core
        self._dialog = dialog
        self._way = way
        self._credentials = Credentials(login)
        self._acks: dict[int, tuple[bytes, Flow]] = {}
        self._offer_reached = asyncio.Event()
        self._offer_reached.set()

    async def ask(self, method: str, headers: Fields, body: bytes) -> Response:
        """One request (not INVITE) and its final response. Raises NoAnswer."""
        extra = list(headers)
        if method != "BYE":
            await self._offer_reached.wait()
        if method == "UPDATE":
            self._offer_reached.clear()
        try:
            while True:
                flow = await self._flow_for(body)
                request = self._dialog.request(method, extra, body)
                response = await self._core.ask(request, flow)
                answer = self._credential(response, request)
                if answer is None:
                    return response
                extra = [*headers, answer]
        finally:
            if method == "UPDATE":
                self._offer_reached.set()

    async def invite(self, headers: Fields, sdp: bytes) -> Response:
        """A re-INVITE and its final response, a 2xx acknowledged. Raises NoAnswer."""
        headers = [*headers, ("Allow", ", ".join(self._core.own.methods))]
        extra = headers
        while True:
            flow = await self._flow_for(sdp)
            request = self._dialog.request("INVITE", extra, sdp)
            number = request.cseq.number
            self._offer_reached.clear()
            duty = AckDuty(partial(self.send_ack, number), partial(self.repeat_ack, number))
            waiter = OurReinvite(duty, self._offer_reached)
            try:
                self._core.transactions.start(request, flow, waiter)
            except BaseException:
                self._offer_reached.set()  # it is not under way at all
                raise
            response = await waiter.wait()
            answer = self._credential(response, request)
            if answer is None:
                return response
            extra = [*headers, answer]

    def _credential(self, response: Response, request: Request) -> tuple[str, str] | None:
        if response.status in (401, 407):
            answer = self._credentials.answer(response, request)
            if answer is not None:
                return answer
        self._credentials.accepted()
        return None

    async def _flow_for(self, body: bytes) -> Flow:
        return await self._way.to(self._dialog.next_hop(), len(body))

    def send_ack(self, number: int, sdp: bytes | None = None) -> None:
        """Send (and keep for repetitions) the ACK of the 2xx with that CSeq number."""
        ack = self._dialog.acknowledge(number, SDP_FIELD if sdp else (), sdp or b"")
        flow = self._way.at_once(self._dialog.next_hop())
        if flow is not None:
            self._acks[number] = (self._core.transactions.acknowledge(ack, flow), flow)
        else:
            self._core.spawn("ack", self._send_ack_far(number, ack))
        while len(self._acks) > _KEPT_ACKS:
            del self._acks[min(self._acks)]

    async def _send_ack_far(self, number: int, ack: Request) -> None:
        try:
            flow = await self._flow_for(ack.body)
        except NoAnswer:
            return  # the peer repeats its 2xx, and then hangs up
        self._acks[number] = (self._core.transactions.acknowledge(ack, flow), flow)

    def repeat_ack(self, number: int) -> None:
        """The peer repeated a 2xx: its ACK was lost."""
        if (kept := self._acks.get(number)) is not None:
            data, flow = kept
            self._core.listeners.send(flow, data)

    def glare_wait(self) -> float:
        """Seconds after a 491 (RFC 3261 14.1): the owner of the Call-ID waits longer, in steps of 10 ms."""
        if self._dialog.state.role == "uac":
            return random.randint(210, 400) / 100
        return random.randint(0, 200) / 100
