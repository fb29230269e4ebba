"""All of SIP at one node: the endpoint, and who takes what arrives at it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from config.trunks import SipTrunk, SrtpPolicy
from foundation.clock import Clock
from foundation.database import Database
from foundation.event_bus import EventBus
from foundation.tasks import TaskScope
from signaling.callers import CallerDirectory
from signaling.conference_events import ConferenceEvents
from signaling.lobby_room import LobbyRoom
from signaling.media_workers import MediaWorkers
from signaling.meetings import Meetings
from signaling.picture_flows import PictureFlows
from signaling.registrar import Registrar
from signaling.sip_calls import SipCalls
from signaling.sip_core import SipPolicy
from signaling.sip_dialling import DialledNetworks
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_incoming import IncomingRequest, Reply
from signaling.sip_listener import ListenerSettings
from signaling.sip_lobby import SipLobby
from signaling.trunks.trunks import Trunks

GOODBYE_SECONDS = 1.0


class SipService:
    """`calls` brings participants in and out, `registrar` knows where terminals are.

    The first listener's network is the one that calls go out on when nothing names another. Callers of
    `lobby_number` key in which meeting they want; `lobby` is where they wait. `srtp` says by network whether
    calls out by TLS offer SRTP, `redirects` where a 3xx may lead; `flow_networks` are those where a re-INVITE
    may lower an unseen picture.
    """

    def __init__(
        self,
        listeners: Sequence[ListenerSettings],
        *,
        realm: str,
        meetings: Meetings,
        workers: MediaWorkers,
        callers: CallerDirectory,
        database: Database,
        clock: Clock,
        bus: EventBus,
        lobby_number: str | None = None,
        trunks: Sequence[SipTrunk] = (),
        srtp: Mapping[str, SrtpPolicy] | None = None,
        redirects: Mapping[str, Sequence[str]] | None = None,
        flow_networks: Collection[str] = (),
        policy: SipPolicy | None = None,
    ) -> None:
        self._bus = bus
        self._keeping: asyncio.Task[None] | None = None
        self.registrar = Registrar(database, clock, callers, realm)
        self.lobby = LobbyRoom(workers)
        default = listeners[0].network
        self.trunks = Trunks(trunks, default_network=default, node=realm, clock=clock)
        self.calls = SipCalls(
            meetings,
            callers,
            DialledNetworks(default, srtp or {}, redirects or {}),
            self.registrar,
            SipLobby(meetings, callers, self.lobby, lobby_number),
            self.trunks,
        )
        self.flows = PictureFlows(meetings, self.calls.conversations, flow_networks)
        self.events = ConferenceEvents(meetings, callers)
        self.endpoint = SipEndpoint(
            listeners,
            realm=realm,
            on_call=self.calls.take,
            authenticator=callers,
            handlers={
                "REGISTER": self.registrar.take,
                "SUBSCRIBE": self.events.take,
                "REFER": _refer,
                "NOTIFY": _notify,
            },
            extensions=("norefersub",),
            events=("conference", "refer"),
            policy=replace(policy or SipPolicy(), focus=True),
        )
        self.calls.connect(self.endpoint)
        self.trunks.connect(self.endpoint)
        self.events.connect(self.endpoint)

    async def start(self, scope: TaskScope) -> None:
        """Take calls. Raises OSError that names a port in use."""
        await self.calls.take_up(self.endpoint)
        await self.endpoint.start()
        scope.supervise("sip bindings", self.registrar.run)
        scope.supervise("conference events", lambda: self.events.run(self._bus))
        scope.supervise("picture flows", lambda: self.flows.run(self._bus))
        scope.supervise("missed picture flows", self.flows.keep)
        self._keeping = scope.spawn("sip trunks", self.trunks.run())

    async def aclose(self, timeout: float = GOODBYE_SECONDS) -> None:
        """Calls that are still there get their BYE; nobody is followed any more."""
        await self.events.aclose()
        await self.flows.aclose()
        await self.calls.aclose()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        await self.trunks.aclose(timeout)
        await self.endpoint.aclose(timeout)


async def _refer(incoming: IncomingRequest) -> Reply:
    """A REFER outside a call: nobody knows whom it would move (RFC 3515 has it inside a dialog, too)."""
    return Reply(403, "REFER is taken inside a call only")


async def _notify(incoming: IncomingRequest) -> Reply:
    """We subscribe to nothing, so no NOTIFY is ours (RFC 6665 4.1.3)."""
    return Reply(481)
