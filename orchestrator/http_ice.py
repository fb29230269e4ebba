"""STUN and TURN servers for pages, with credentials that last a while.

The TURN server shares a secret with us (coturn: use-auth-secret, static-auth-secret). As in
draft-uberti-behave-turn-rest-00 2.2 the user name is "expiry:user" in seconds of Unix time, and the
password base64(HMAC-SHA1(secret, user name)).
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from pydantic import BaseModel

from config.settings import Turn
from foundation.authorisation import Action, Resource
from foundation.clock import Clock
from foundation.http_edge import Exchange, Route


class IceServer(BaseModel):
    """As RTCIceServer has it; a STUN server needs no credentials."""

    urls: list[str]
    username: str | None = None
    credential: str | None = None


class IceServersOut(BaseModel):
    ice_servers: list[IceServer]


class IceRoutes:
    """For whoever may join a meeting, and for guests."""

    def __init__(self, *, turn: Turn, clock: Clock) -> None:
        self._turn = turn
        self._clock = clock

    @property
    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                "GET",
                "/api/v1/ice-servers",
                self.servers,
                "STUN and TURN servers",
                Action.JOIN_CONFERENCE,
                resource=_own_meeting,
                returns=IceServersOut,
                guests=True,
                filtered=True,
            ),
        )

    async def servers(self, exchange: Exchange) -> IceServersOut:
        user = exchange.actor.user_id if exchange.actor is not None else f"guest-{_guest_id(exchange)}"
        stun = [url for url in self._turn.urls if url.startswith("stun")]
        turn = [url for url in self._turn.urls if not url.startswith("stun")]
        servers = [IceServer(urls=stun)] if stun else []
        if turn:
            username, credential = self._credentials(user)
            servers.append(IceServer(urls=turn, username=username, credential=credential))
        return IceServersOut(ice_servers=servers)

    def _credentials(self, user: str) -> tuple[str, str]:
        expiry = int(self._clock.now().timestamp() + self._turn.ttl)
        username = f"{expiry}:{user}"
        digest = hmac.new((self._turn.secret or "").encode(), username.encode(), hashlib.sha1).digest()
        return username, base64.b64encode(digest).decode()


def _guest_id(exchange: Exchange) -> str:
    return exchange.guest.id if exchange.guest is not None else ""


async def _own_meeting(exchange: Exchange) -> Resource:
    """A guest asks for the meeting of the pass; users are asked for their role only."""
    return Resource("conference", exchange.guest.conference_id if exchange.guest is not None else None)
