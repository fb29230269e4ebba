"""Registered SIP terminals over HTTP: who can be called by the name of its account."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from foundation.authorisation import Action, Authorisation
from foundation.http_edge import Exchange, Route
from signaling.registrar import Registrar, RegistrationEntry


class SipRegistrationOut(BaseModel):
    """`source` is where the REGISTER came from; a terminal behind a NAT (`latched`) is called there."""

    username: str
    site_id: str
    contact: str
    q: float
    network: str
    transport: str
    source: str
    latched: bool
    user_agent: str
    registered_at: datetime
    expires_at: datetime


class RegistrationRoutes:
    """`routes` is the table."""

    def __init__(self, *, registrar: Registrar, authorisation: Authorisation) -> None:
        self._registrar = registrar
        self._authorisation = authorisation

    @property
    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                "GET",
                "/api/v1/sip-registrations",
                self.list_all,
                "Registered SIP terminals",
                Action.VIEW_SITES,
                returns=list[SipRegistrationOut],
                filtered=True,
            ),
        )

    async def list_all(self, exchange: Exchange) -> list[SipRegistrationOut]:
        visible = self._authorisation.sites(exchange.who, Action.VIEW_SITES)
        return [_out(entry) for entry in await self._registrar.entries() if entry.site_id in visible]


def _out(entry: RegistrationEntry) -> SipRegistrationOut:
    binding = entry.binding
    host = f"[{binding.host}]" if ":" in binding.host else binding.host
    return SipRegistrationOut(
        username=binding.username,
        site_id=entry.site_id,
        contact=binding.contact,
        q=binding.q / 1000,
        network=binding.network,
        transport=binding.transport,
        source=f"{host}:{binding.port}",
        latched=binding.latched,
        user_agent=binding.user_agent,
        registered_at=binding.registered_at,
        expires_at=binding.expires_at,
    )
