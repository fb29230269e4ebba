"""What a node tells of itself: health, metrics, its audit, its TURN servers."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from sqlalchemy import text

from config.settings import Turn
from foundation.authorisation import Role
from foundation.http_edge import Exchange
from orchestrator.http_ice import IceRoutes
from tests.orchestrator.http_service import PASSWORD, VERSION, Service, problem, serving, settings_with

HEALTH, AUDIT, ICE = "/api/v1/health", "/api/v1/audit", "/api/v1/ice-servers"

# --- health --------------------------------------------------------------------------------------------


async def test_healthy_node(service: Service) -> None:
    response = await service.client.get(HEALTH, headers={"Cookie": "anshi_session=stale"})
    assert response.status == 200
    assert await response.json() == {
        "status": "ok",
        "version": VERSION,
        "node": {"id": "gx", "name": "广西应急指挥中心", "level": "province"},
        "workers": [{"name": "media-0", "pid": 4711, "state": "ready"}],
        "services": [],
        "trunks": [{"name": "telecom", "state": "starting"}],
        "database": "ok",
        "bus": "ok",
    }


async def test_node_without_media_worker_is_of_no_use(service: Service) -> None:
    service.workers.clear()
    response = await service.client.get(HEALTH)
    body = await response.json()
    assert (response.status, body["status"]) == (503, "unavailable")
    assert body["workers"] == [{"name": "media-0", "pid": None, "state": "away"}]
    service.workers["media-0"] = 4712
    assert (await service.client.get(HEALTH)).status == 200


async def test_node_without_database_is_of_no_use(service: Service) -> None:
    async with service.database.transaction() as tx:
        await tx.execute(text("PRAGMA foreign_keys=OFF"))
    await service.database.aclose()
    path = service.database.path
    assert path is not None
    for file in path.parent.glob("anshi.db*"):
        file.unlink()
    path.write_bytes(b"this is no database" * 100)
    response = await service.client.get(HEALTH)
    assert response.status == 503
    body = await response.json()
    assert (body["status"], body["database"]) == ("unavailable", "away")
    assert str(path) not in str(body)
    sign_in = await service.client.post("/api/v1/session", json={"name": "liu", "password": PASSWORD})
    answer = await problem(sign_in, 503)
    assert answer["title"] == "Database unavailable"
    assert str(path) not in str(answer)


# --- metrics -------------------------------------------------------------------------------------------


async def test_metrics_are_for_this_machine_and_for_those_who_may(service: Service) -> None:
    service.telemetry.counter("anshi_calls", "Calls answered").inc(3)
    response = await service.client.get("/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert "anshi_calls_total 3.0" in await response.text()
    # A local proxy that speaks for somebody else is not this machine.
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        carried = {header: "192.0.2.7"}
        await problem(await service.client.get("/metrics", headers=carried), 401)
        admin = await service.user(Role.SYSTEM_ADMIN, name=f"admin-{header.lower()}")
        assert (await service.client.get("/metrics", headers={**carried, **admin.bearer})).status == 200
    viewer = await service.user(Role.VIEWER)
    await problem(await service.client.get("/metrics", headers={**carried, **viewer.bearer}), 403)


def comes_from(monkeypatch: pytest.MonkeyPatch, peer: str) -> None:
    for module in ("peer_address", "web_app"):
        monkeypatch.setattr(f"orchestrator.{module}.peer_of", lambda _request: peer)


async def test_trusted_proxy_reads_metrics_for_itself_only(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with(trusted_proxies=("10.0.0.1",))
    async with serving(sqlite_file, settings=settings) as service:
        for peer, status in (("10.0.0.1", 200), ("10.0.0.2", 401)):
            comes_from(monkeypatch, peer)
            assert (await service.client.get("/metrics")).status == status
        comes_from(monkeypatch, "10.0.0.1")
        await problem(await service.client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.7"}), 401)


# --- audit ---------------------------------------------------------------------------------------------


async def test_audit_is_read_in_pages(service: Service) -> None:
    auditor = await service.user(Role.AUDITOR, name="sun")
    for number in range(3):
        await service.client.post("/api/v1/session", json={"name": f"u{number}", "password": "x"})
    rows = await (await service.client.get(f"{AUDIT}?limit=3", headers=auditor.bearer)).json()
    assert [row["sequence"] for row in rows] == [1, 2, 3]
    more = await (await service.client.get(f"{AUDIT}?after=3", headers=auditor.bearer)).json()
    assert [(row["sequence"], row["actor"], row["outcome"]) for row in more] == [
        (4, "u1", "refused"),
        (5, "u2", "refused"),
    ]
    assert more[0]["previous_hash"] == rows[2]["hash"]
    assert more[0]["detail"] == {}
    assert more[0]["at"].startswith("2026-01-01T00:00:00")
    assert await (await service.client.get(f"{AUDIT}?after=5", headers=auditor.bearer)).json() == []


async def test_chain_is_verified_and_a_changed_row_found(service: Service) -> None:
    auditor = await service.user(Role.AUDITOR, name="sun")
    path = f"{AUDIT}/verification"
    report = await (await service.client.get(path, headers=auditor.bearer)).json()
    assert (report["intact"], report["rows"], report["broken_at"]) == (True, 2, None)
    assert report["head"]["sequence"] == 2
    async with service.database.transaction() as tx:
        await tx.execute(text("UPDATE audit SET detail = '{not json' WHERE sequence = 2"))
    report = await (await service.client.get(path, headers=auditor.bearer)).json()
    assert (report["intact"], report["broken_at"], report["reason"]) == (False, 2, "row 2 was altered")
    rows = await (await service.client.get(AUDIT, headers=auditor.bearer)).json()
    assert rows[1]["detail"] == "{not json"
    assert [(row["action"], row["outcome"]) for row in rows[2:]] == [
        ("verify-audit", "done"),
        ("verify-audit", "failed"),
    ]


# --- TURN ----------------------------------------------------------------------------------------------


async def test_turn_credentials_are_what_coturn_expects(service: Service) -> None:
    liu = await service.user(Role.VIEWER)
    response = await service.client.get(ICE, headers=liu.bearer)
    assert response.headers["Cache-Control"] == "no-store"
    stun, turn = (await response.json())["ice_servers"]
    assert stun == {"urls": ["stun:turn.gx:3478"], "username": None, "credential": None}
    assert turn["urls"] == ["turn:turn.gx:3478?transport=udp"]
    expiry = int(service.clock.now().timestamp()) + 86400
    assert turn["username"] == f"{expiry}:{liu.user.id}"
    digest = hmac.new(b"s3cret", turn["username"].encode(), hashlib.sha1).digest()
    assert turn["credential"] == base64.b64encode(digest).decode()


async def test_guest_gets_turn_credentials_and_an_administrator_does_not(service: Service) -> None:
    guest, _ = await service.guest(await service.meeting())
    servers = (await (await service.client.get(ICE, headers=guest)).json())["ice_servers"]
    assert ":guest-" in servers[1]["username"]
    admin = await service.user(Role.SYSTEM_ADMIN)
    await problem(await service.client.get(ICE, headers=admin.bearer), 403)


async def test_node_without_turn_servers_names_none(service: Service) -> None:
    routes = IceRoutes(turn=Turn(), clock=service.clock)
    exchange = Exchange(request=None, address="127.0.0.1")  # type: ignore[arg-type]  # the handler reads none
    assert (await routes.servers(exchange)).ice_servers == []
