"""Provisional responses of ours that are acknowledged (RFC 3262): each repeated until a PRACK comes."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from protocols.sip.grammar import SipSyntaxError
from protocols.sip.message import Request, Response
from protocols.sip.reliability import HIGHEST_FIRST, OPTION, RAck
from protocols.sip.transaction import Timing
from signaling.sip_core import SipCore
from signaling.sip_transactions import FlowTransaction

_MOST_WAITING = 8


class ReliableProvisionals:
    """The server's side of one INVITE: one response at a time, the next when it is acknowledged (3).

    ``send`` puts a response on the wire; ``on_silence`` is called when 64*T1 pass without a PRACK.
    """

    def __init__(
        self, timing: Timing, send: Callable[[Response], object], on_silence: Callable[[], None]
    ) -> None:
        self._timing = timing
        self._send = send
        self._on_silence = on_silence
        self._next = random.randint(1, HIGHEST_FIRST)
        self._open: Response | None = None
        self._waiting: deque[Response] = deque(maxlen=_MOST_WAITING)
        self._acknowledged: set[RAck] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._calm = asyncio.Event()
        self._calm.set()

    def offer(self, response: Response) -> None:
        """Send it, numbered, as soon as the one before has been acknowledged."""
        self._waiting.append(response)
        self._calm.clear()
        self.go_on()

    async def settled(self) -> None:
        """Wait until all have been acknowledged."""
        await self._calm.wait()

    def take(self, prack: Request) -> bool:
        """A PRACK of the dialog; False when it acknowledges nothing of ours. Raises SipSyntaxError.

        One that acknowledges again what is acknowledged (its 200 was lost) is right, too. ``go_on`` when it
        is answered.
        """
        rack = RAck.parse(prack.headers.get("RAck") or "")
        if self._open is not None and rack == RAck.of(self._open):
            self._acknowledged.add(rack)
            self._open = None
            self._stop()
            return True
        return rack in self._acknowledged

    def go_on(self) -> None:
        """Send the next response, if nothing waits for its PRACK."""
        if self._open is None:
            self._send_next()

    def close(self) -> None:
        """The final response is out: nothing is repeated any more, late PRACKs are still known."""
        if self._open is not None:
            self._acknowledged.add(RAck.of(self._open))
        self._open = None
        self._waiting.clear()
        self._stop()
        self._calm.set()

    def _send_next(self) -> None:
        if not self._waiting:
            self._calm.set()
            return
        response = self._waiting.popleft()
        fields = (("Require", OPTION), ("RSeq", str(self._next)))
        self._next += 1
        self._open = Response(
            response.status, response.reason, response.headers.having(*fields), response.body
        )
        loop = asyncio.get_running_loop()
        self._repeat(self._open, self._timing.t1, loop.time() + self._timing.timeout)

    def _repeat(self, response: Response, interval: float, deadline: float) -> None:
        """The interval doubles, without the bound of T2 (3)."""
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            self._on_silence()
            return
        self._send(response)
        when = min(loop.time() + interval, deadline)
        self._timer = loop.call_at(when, self._repeat, response, 2 * interval, deadline)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def answer_prack(
    core: SipCore,
    provisionals: ReliableProvisionals | None,
    request: Request,
    transaction: FlowTransaction,
) -> None:
    """Answer a PRACK: 200 when it acknowledges a response of ours, else 481; offers in it are refused."""
    try:
        known = provisionals is not None and provisionals.take(request)
    except SipSyntaxError as error:
        core.respond(transaction, 400, f"Bad Request: {error}")
        return
    if not known:
        core.respond(transaction, 481)
    elif request.body:
        core.respond(transaction, 488, "No offer is taken in a PRACK")
    else:
        core.respond(transaction, 200)
    if provisionals is not None:
        provisionals.go_on()
