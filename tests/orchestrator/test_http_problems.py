"""Whatever goes wrong, the answer is a problem document that says who erred; and what headers carry."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from foundation.authorisation import Role
from foundation.desks import Refusal, RefusalKind
from foundation.http_edge import Exchange, Route
from orchestrator import web_app
from tests.orchestrator.http_service import PASSWORD, Service, problem, serving, settings_with

SESSION = "/api/v1/session"
SIGN_IN = {"name": "liu", "password": PASSWORD}
JSON = {"Content-Type": "application/json"}


async def test_unknown_path(service: Service) -> None:
    for path in ("/api/v1/nothing", "/nothing", "/api/v1/conferences/", "/api/v2/session"):
        answer = await problem(await service.client.get(path), 404)
        assert answer["detail"] == f"there is nothing at {path}"


async def test_wrong_method_names_the_right_ones(service: Service) -> None:
    response = await service.client.put(SESSION)
    assert "PUT" in (await problem(response, 405))["detail"]
    assert response.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
    response = await service.client.get("/api/v1/guest-session")
    await problem(response, 405)
    assert response.headers["Allow"] == "OPTIONS, POST"


async def test_options_tells_the_methods_and_no_origin_is_let_in(service: Service) -> None:
    response = await service.client.options("/api/v1/health", headers={"Origin": "https://evil.example"})
    assert response.status == 204
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert not [name for name in response.headers if name.startswith("Access-Control")]
    await problem(await service.client.options("/api/v1/nothing"), 404)


async def test_head_is_get_without_its_body(service: Service) -> None:
    response = await service.client.head("/api/v1/health")
    assert (response.status, response.content_type, await response.read()) == (200, "application/json", b"")
    assert (await service.client.head(SESSION)).status == 401


@pytest.mark.parametrize("text", ["{", "", "{'name': 1}", '{"name": "liu",}'])
async def test_body_that_is_no_json(service: Service, text: str) -> None:
    answer = await problem(await service.client.post(SESSION, data=text, headers=JSON), 400)
    assert "Invalid JSON" in answer["detail"]


async def test_body_that_says_something_else_names_each_field(service: Service) -> None:
    answer = await problem(
        await service.client.post(SESSION, json={"name": 7, "pasword": "x", "password": "y"}), 422
    )
    assert {fault["at"] for fault in answer["faults"]} == {"name", "pasword"}
    assert "pasword: Extra inputs are not permitted" in answer["detail"]
    assert PASSWORD not in json.dumps(answer)
    await problem(await service.client.post(SESSION, json=[]), 422)


async def test_query_that_says_something_else(service: Service) -> None:
    auditor = await service.user(Role.AUDITOR)
    for query in ("after=x", "after=-1", f"after={10**20}", "limit=100000", "befor=1"):
        response = await service.client.get(f"/api/v1/audit?{query}", headers=auditor.bearer)
        assert (await problem(response, 422))["faults"][0]["at"] == query.partition("=")[0]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_body_of_another_type(service: Service, kind: str) -> None:
    """What a form of a foreign page could send is not taken for JSON."""
    await service.user(Role.OPERATOR, name="liu")
    response = await service.client.post(SESSION, data=json.dumps(SIGN_IN), headers={"Content-Type": kind})
    assert kind in (await problem(response, 415))["detail"]
    assert response.headers["Accept"] == "application/json"
    with_charset = {"Content-Type": "application/json; charset=utf-8"}
    taken = await service.client.post(SESSION, data=json.dumps(SIGN_IN), headers=with_charset)
    assert taken.status == 200


async def test_body_that_is_too_long(service: Service) -> None:
    long = json.dumps({"name": "liu", "password": "x" * (web_app.MAX_BODY + 1)})
    await problem(await service.client.post(SESSION, data=long, headers=JSON), 413)


async def test_body_that_never_ends(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_app, "BODY_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.client.port)
    writer.write(
        b"POST /api/v1/session HTTP/1.1\r\nHost: gx\r\nContent-Type: application/json\r\n"
        b"Content-Length: 50\r\n\r\n{"
    )
    async with asyncio.timeout(5):
        answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    writer.close()


async def test_locked_database_says_so(service: Service, sqlite_file: Path) -> None:
    """Another process holds SQLite's write lock: reads go on, writes are put off in clear words."""
    admin = await service.user(Role.SYSTEM_ADMIN, name="liu")
    other = sqlite3.connect(sqlite_file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with capture_logs() as logs:
        patch = {"name": "广西壮族自治区"}
        response = await service.client.patch("/api/v1/sites/guangxi", json=patch, headers=admin.bearer)
    answer = await problem(response, 503)
    assert answer["title"] == "Database busy"
    assert "locked by another writer" in answer["detail"]
    assert response.headers["Retry-After"] == "2"
    assert str(sqlite_file) not in await response.text()
    assert any(str(sqlite_file) in line.get("why", "") for line in logs)
    await problem(await service.client.post(SESSION, json=SIGN_IN), 503)
    assert (await service.client.get("/api/v1/sites", headers=admin.bearer)).status == 200
    health = await service.client.get("/api/v1/health")
    assert (await health.json())["status"] == "ok"
    other.execute("ROLLBACK")
    other.close()
    response = await service.client.patch("/api/v1/sites/guangxi", json=patch, headers=admin.bearer)
    assert (await response.json())["name"] == "广西壮族自治区"


async def test_lost_worker_and_full_worker_say_so(service: Service) -> None:
    operator = await service.user(Role.OPERATOR)
    meeting = await service.meeting()
    await service.desk.open(meeting.spec)
    commands = f"/api/v1/conferences/{meeting.conference_id}/webrtc"
    offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    for kind, status in (
        (RefusalKind.WORKER_LOST, 503),
        (RefusalKind.NO_CAPACITY, 503),
        (RefusalKind.NO_COMMON_CODEC, 422),
    ):
        service.desk.refusal = Refusal(kind, "in the worker's words", retry_after=7)
        response = await service.client.post(commands, json={"sdp": offer}, headers=operator.bearer)
        answer = await problem(response, status)
        assert answer["detail"] == "in the worker's words"
        assert response.headers.get("Retry-After") == ("7" if status == 503 else None)


async def test_fault_of_ours_is_logged_and_says_nothing_of_the_inside(sqlite_file: Path) -> None:
    async def fail(_exchange: Exchange) -> None:
        raise RuntimeError("the secret is 42")

    route = Route("GET", "/api/v1/failing", fail, "Fails", None)
    async with serving(sqlite_file, extra=(route,)) as service:
        with capture_logs() as logs:
            response = await service.client.get("/api/v1/failing")
            answer = await problem(response, 500)
    assert "42" not in json.dumps(answer)
    assert [line["event"] for line in logs] == ["request_failed"]


# --- headers ---------------------------------------------------------------------------------------------


async def test_security_headers_are_on_every_answer(service: Service) -> None:
    for path in ("/api/v1/health", "/api/v1/nothing", "/metrics"):
        headers = (await service.client.get(path)).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Server"] == "anshi"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "camera=(self)" in headers["Permissions-Policy"]
        assert ("Cache-Control" in headers) == path.startswith("/api/")


async def test_hsts_only_with_a_certificate_that_browsers_can_trust(
    service: Service, sqlite_file: Path, tmp_path: Path
) -> None:
    """With our own self-signed one, HSTS would lock people out for a year."""
    assert "Strict-Transport-Security" not in (await service.client.get("/api/v1/health")).headers
    given = settings_with(certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")
    async with serving(sqlite_file, settings=given) as other:
        found = (await other.client.get("/api/v1/health")).headers
    assert found["Strict-Transport-Security"] == "max-age=31536000"
    proxied = settings_with(tls=False, trusted_proxies=("127.0.0.1",))
    async with serving(sqlite_file, settings=proxied) as other:
        secure = {"X-Forwarded-Proto": "https"}
        assert "Strict-Transport-Security" in (await other.client.get("/x", headers=secure)).headers
        assert "Strict-Transport-Security" not in (await other.client.get("/x")).headers


async def test_plain_listener_answers_its_proxies_only(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with(tls=False, trusted_proxies=("10.0.0.1",))
    async with serving(sqlite_file, settings=settings) as service:
        assert (await service.client.get("/api/v1/health")).status == 200  # this machine itself
        monkeypatch.setattr(web_app, "peer_of", lambda _request: "192.0.2.7")
        answer = await problem(await service.client.get("/api/v1/health"), 403)
        assert "no TLS" in answer["detail"]
        monkeypatch.setattr(web_app, "peer_of", lambda _request: "10.0.0.1")
        assert (await service.client.get("/api/v1/health")).status == 200
