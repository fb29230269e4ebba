"""Subscriptions to events of ours (RFC 6665): one dialog each, refreshed by the subscriber, or it runs out.

subscription = endpoint.subscription(incoming, EventType("conference"), seconds)
await subscription.notify("application/conference-info+xml", body)
await subscription.urgent.wait()     # it was refreshed, or is over (``ended`` says why)
"""

from __future__ import annotations

import asyncio

from protocols.sip.dialog import Dialog, DialogId, target_is_secure
from protocols.sip.message import Request
from protocols.sip.subscription import EventType, interval, state_of
from protocols.sip.validation import Refusal
from signaling.sip_core import NoAnswer, SipCore, new_tag
from signaling.sip_dialog_client import DialogClient
from signaling.sip_listener import Flow
from signaling.sip_transactions import FlowTransaction
from signaling.sip_way import PeerWay

LEAST = 60
MOST = 3600


class Subscription:
    """The notifier's side of one subscription."""

    def __init__(self, core: SipCore, request: Request, flow: Flow, event: EventType, seconds: int) -> None:
        target = request.to.sip_uri
        user = target.user if target is not None else None
        contact = core.contact(flow, user, secure=target_is_secure(request))
        self.event = event
        self.tag = new_tag()
        self.ended: str | None = None
        self.urgent = asyncio.Event()
        self._core = core
        self._dialog = Dialog.of_server(request, self.tag, contact, first_cseq=0)
        adjacent = len(request.headers.items("Via")) == 1 or bool(self._dialog.state.route_set)
        self._way = PeerWay(core.listeners, flow, adjacent)
        self._way.learn(request, direct=not self._dialog.state.route_set)
        self._client = DialogClient(core, self._dialog, self._way, None)
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        core.dialogs[self.id] = self
        self._run_for(seconds)

    @property
    def id(self) -> DialogId:
        return self._dialog.id

    def fields(self, seconds: int) -> tuple[tuple[str, str], ...]:
        """What a 200 to the SUBSCRIBE says."""
        return (("Expires", str(seconds)), ("Contact", self._dialog.state.local_contact))

    def end(self, reason: str) -> None:
        """Nothing more is to come but the last NOTIFY, which says why (4.1.3)."""
        if self.ended is None:
            self.ended = reason
            self.urgent.set()

    def forget(self) -> None:
        """The last NOTIFY is out, or the subscriber is gone."""
        self.end("noresource")
        if self._timer is not None:
            self._timer.cancel()
        if self._core.dialogs.get(self.id) is self:
            del self._core.dialogs[self.id]

    async def notify(self, content_type: str, body: bytes) -> bool:
        """Send the state; False when the subscriber is gone, or wants no more (4.2.2)."""
        left = self._until - asyncio.get_running_loop().time()
        fields = [
            ("Event", str(self.event)),
            ("Subscription-State", state_of(left, self.ended)),
            ("Allow-Events", ", ".join(self._core.own.events)),
        ]
        if body:
            fields.append(("Content-Type", content_type))
        try:
            response = await self._client.ask("NOTIFY", fields, body)
        except NoAnswer:
            return False
        return response.status < 300

    # -- what the subscriber sends

    def take(self, request: Request, transaction: FlowTransaction, flow: Flow) -> bool:
        """A request in the dialog: only another SUBSCRIBE means something here."""
        if request.method != "SUBSCRIBE":
            return False
        if self.ended is not None or EventType.of(request) != self.event:
            self._core.respond(transaction, 481)
            return True
        seconds = interval(request, LEAST, MOST)
        refusal = seconds if isinstance(seconds, Refusal) else self._dialog.take(request)
        if refusal is not None or isinstance(seconds, Refusal):
            assert refusal is not None, "a refused interval is the refusal"
            self._core.refuse(transaction, refusal)
            return True
        self._way.heard(flow)
        self._way.learn(request, direct=not self._dialog.state.route_set)
        self._dialog.refresh_target(request)
        self._core.respond(transaction, 200, None, self.fields(seconds))
        self._run_for(seconds)
        self.urgent.set()
        return True

    def take_ack(self, ack: Request) -> None:
        """No INVITE, no ACK."""

    def _run_for(self, seconds: int) -> None:
        loop = asyncio.get_running_loop()
        self._until = loop.time() + seconds
        if self._timer is not None:
            self._timer.cancel()
        if seconds == 0:
            self.end("timeout")
        else:
            self._timer = loop.call_at(self._until, self.end, "timeout")
