"""The conference event package (RFC 4575): who is in a meeting, told once a second at most."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import structlog

from foundation.database import DatabaseError
from foundation.event_bus import EventBus
from foundation.events import BusReconnected, ConferenceChanged, ConferenceEnded, ParticipantChanged
from protocols.sip.grammar import SipSyntaxError
from protocols.sip.subscription import EventType, interval
from protocols.sip.uri import SipUri
from protocols.sip.validation import Refusal
from signaling.callers import CallerDirectory, Unidentified
from signaling.conference_info import CONFERENCE_INFO, ConferenceInfo
from signaling.meetings import Meetings, UnknownMeeting
from signaling.sip_claims import claim_of_request
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_incoming import IncomingRequest, Reply
from signaling.sip_subscriptions import LEAST, MOST, Subscription

log = structlog.get_logger(__name__)

PACKAGE = "conference"
PIN_MARK = "*"
MOST_SUBSCRIPTIONS = 500
MOST_OF_ONE = 8
"""Subscriptions from one address; behind one NAT there may be several terminals."""
PAUSE = 1.0
"""Seconds between two NOTIFYs of a subscription (RFC 4575 3.10)."""
GOODBYE_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class _Watch:
    """A subscription to one meeting, and what its subscriber was told last."""

    subscription: Subscription
    conference_id: str
    source: str
    host: str
    told: ConferenceInfo | None = None
    version: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class ConferenceEvents:
    """Takes SUBSCRIBEs, follows the bus, and sends the NOTIFYs."""

    def __init__(self, meetings: Meetings, callers: CallerDirectory) -> None:
        self._meetings = meetings
        self._callers = callers
        self._endpoint: SipEndpoint | None = None
        self._watches: dict[_Watch, asyncio.Task[None]] = {}

    def connect(self, endpoint: SipEndpoint) -> None:
        self._endpoint = endpoint

    def __len__(self) -> int:
        return len(self._watches)

    async def run(self, bus: EventBus) -> None:
        """Note which meetings have changed, until the bus closes."""
        kinds = (ParticipantChanged, ConferenceChanged, ConferenceEnded, BusReconnected)
        async with bus.subscribe(*kinds) as events:
            async for event in events:
                of_all = isinstance(event, BusReconnected)
                for watch in self._watches:
                    if of_all or watch.conference_id == getattr(event, "conference_id", None):
                        watch.changed.set()

    # --- SUBSCRIBE --------------------------------------------------------------------------------

    async def take(self, incoming: IncomingRequest) -> Reply:
        """Answer a SUBSCRIBE that opens a subscription (a handler of the endpoint)."""
        try:
            return await self._subscribed(incoming)
        except SipSyntaxError as error:
            return Reply(400, f"Bad Request: {error}")
        except UnknownMeeting:
            return Reply(404, "No such meeting")
        except Unidentified as error:
            return incoming.challenge() if error.challenge else Reply(error.status, error.reason)
        except DatabaseError as error:
            log.error("subscription_lost", why=str(error))
            return Reply(503, "Database busy", (("Retry-After", "5"),))

    async def _subscribed(self, incoming: IncomingRequest) -> Reply:
        request = incoming.request
        event = EventType.of(request)
        if event.package != PACKAGE:
            return Reply(489, headers=(("Allow-Events", PACKAGE),))
        if request.to.tag is not None or self._endpoint is None:
            return Reply(403, "Subscribe outside the call, to the Contact of the meeting")
        accepted = request.headers.tokens("Accept")
        if accepted and not accepted & {CONFERENCE_INFO, "application/*", "*/*"}:
            return Reply(406, headers=(("Accept", CONFERENCE_INFO),))
        seconds = interval(request, LEAST, MOST)
        if isinstance(seconds, Refusal):
            return Reply(seconds.status, seconds.reason, seconds.headers)
        uri = request.target
        number, star, pin = (uri.user_text if isinstance(uri, SipUri) else "").partition(PIN_MARK)
        meeting = self._meetings.by_number(number)
        await self._callers.resolve(claim_of_request(incoming, pin if star else None), meeting)
        if request.contact is None:
            raise SipSyntaxError("Contact is missing")
        source = incoming.flow.host
        if len(self._watches) >= MOST_SUBSCRIPTIONS or self._of(source) >= MOST_OF_ONE:
            return Reply(503, "Too many subscriptions", (("Retry-After", "30"),))
        subscription = self._endpoint.subscription(incoming, event, seconds)
        host = self._endpoint.advertised_host(incoming.network)
        self._watch(_Watch(subscription, meeting.conference_id, source, host))
        return Reply(200, headers=subscription.fields(seconds), to_tag=subscription.tag)

    def _of(self, source: str) -> int:
        return Counter(watch.source for watch in self._watches)[source]

    def _watch(self, watch: _Watch) -> None:
        # The task begins when this turn of the loop is over, so that the 200 is out before its NOTIFY.
        task = asyncio.get_running_loop().create_task(self._serve(watch), name="conference events")
        self._watches[watch] = task
        task.add_done_callback(lambda _: self._watches.pop(watch, None))

    # --- NOTIFY -----------------------------------------------------------------------------------

    async def _serve(self, watch: _Watch) -> None:
        """All of it at first and at each refresh, what has changed in between, and a last word."""
        subscription = watch.subscription
        try:
            while await self._tell(watch):
                await _first(subscription.urgent, timeout=PAUSE)
                await _first(subscription.urgent, watch.changed)
                if subscription.urgent.is_set():
                    subscription.urgent.clear()
                    watch.told = None
        finally:
            subscription.forget()

    async def _tell(self, watch: _Watch) -> bool:
        """One NOTIFY, if there is news; False when it was the last, or the subscriber is gone."""
        watch.changed.clear()
        subscription = watch.subscription
        try:
            now = ConferenceInfo.of(self._meetings.meeting(watch.conference_id), watch.host)
        except UnknownMeeting:
            subscription.end("noresource")
            if watch.told is None:
                await subscription.notify(CONFERENCE_INFO, b"")
                return False
            now = watch.told.over
        last = subscription.ended is not None  # it may end while this NOTIFY is on its way
        if now == watch.told and not last:
            return True
        watch.version += 1
        body = now.document(watch.version, watch.told)
        watch.told = now
        return await subscription.notify(CONFERENCE_INFO, body) and not last

    async def aclose(self) -> None:
        """Tell every subscriber that it has to subscribe anew, to the next process."""
        tasks = tuple(self._watches.values())
        for watch in tuple(self._watches):
            watch.subscription.end("deactivated")
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GOODBYE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _first(*events: asyncio.Event, timeout: float | None = None) -> None:
    """Return when one of the events is set, or the time is up."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
