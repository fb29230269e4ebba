"""SIP trunks over HTTP: how the ways to telephones stand."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from foundation.authorisation import Action
from foundation.http_edge import Exchange, Route
from signaling.trunks.trunks import Trunks


class SipTrunkOut(BaseModel):
    """`error` is what its server said last, or why it cannot be reached; null while it is up."""

    name: str
    network: str
    server: str
    username: str
    registers: bool
    state: Literal["starting", "registered", "reachable", "refused", "unreachable"]
    since: datetime
    expires_at: datetime | None
    error: str | None
    calls_now: int
    calls_out: int
    calls_in: int


class TrunkRoutes:
    """`routes` is the table."""

    def __init__(self, trunks: Trunks) -> None:
        self._trunks = trunks

    @property
    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                "GET",
                "/api/v1/sip-trunks",
                self.list_all,
                "Trunks to telephone providers and upper MCUs",
                Action.VIEW_SYSTEM,
                returns=list[SipTrunkOut],
            ),
        )

    async def list_all(self, exchange: Exchange) -> list[SipTrunkOut]:
        return [
            SipTrunkOut(
                name=one.name,
                network=one.network,
                server=one.server,
                username=one.username,
                registers=one.registers,
                state=one.state.value,
                since=one.since,
                expires_at=one.expires_at,
                error=one.error,
                calls_now=one.calls_now,
                calls_out=one.calls_out,
                calls_in=one.calls_in,
            )
            for one in self._trunks.reports()
        ]
