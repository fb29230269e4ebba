"""Registered SIP terminals over HTTP: those of the sites that one may see, as long as they hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from foundation.authorisation import Role
from foundation.repositories.sip_bindings import SipBinding, SipBindingRepository
from foundation.repositories.sites import SiteRepository, sip_account
from tests.orchestrator.http_service import Service, problem

PATH = "/api/v1/sip-registrations"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""Where the service's clock stands."""


def binding(username: str, seconds: int, host: str = "192.0.2.7", q: int = 500) -> SipBinding:
    return SipBinding(
        username=username,
        realm="gx",
        contact="sip:room@10.0.0.7:5060",
        parameters="",
        q=q,
        call_key="0" * 64,
        cseq=2_000_000_000,
        registered_at=NOW,
        expires_at=NOW + timedelta(seconds=seconds),
        network="extranet",
        transport="UDP",
        host=host,
        port=5060,
        latched=True,
        user_agent="房间 1.0",
    )


async def test_terminals_of_the_sites_one_may_see(service: Service) -> None:
    async with service.database.transaction() as tx:
        for name, site in (("nanning-room", "nanning"), ("guangdong-room", "guangdong")):
            await SiteRepository(tx).save_sip_account(sip_account(name, "gx", "secret", site))
        bindings = SipBindingRepository(tx)
        await bindings.replace("nanning-room", "gx", [binding("nanning-room", 60, "2001:db8::7")])
        await bindings.replace("guangdong-room", "gx", [binding("guangdong-room", 60)])
    operator = await service.user(Role.OPERATOR, name="liu")
    response = await service.client.get(PATH, headers=operator.bearer)
    assert response.status == 200
    assert await response.json() == [
        {
            "username": "nanning-room",
            "site_id": "nanning",
            "contact": "sip:room@10.0.0.7:5060",
            "q": 0.5,
            "network": "extranet",
            "transport": "UDP",
            "source": "[2001:db8::7]:5060",
            "latched": True,
            "user_agent": "房间 1.0",
            "registered_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-01T00:01:00Z",
        }
    ]
    auditor = await service.user(Role.AUDITOR, name="chen")
    refused = await service.client.get(PATH, headers=auditor.bearer)
    if refused.status == 200:
        assert await refused.json() == []
    else:
        await problem(refused, 403)


async def test_what_has_expired_is_not_shown(service: Service) -> None:
    async with service.database.transaction() as tx:
        await SiteRepository(tx).save_sip_account(sip_account("nanning-room", "gx", "secret", "nanning"))
        await SipBindingRepository(tx).replace("nanning-room", "gx", [binding("nanning-room", -1)])
    operator = await service.user(Role.OPERATOR, name="liu")
    assert await (await service.client.get(PATH, headers=operator.bearer)).json() == []
