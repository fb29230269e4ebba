"""Accounts over HTTP: what a security administrator may do, and what nobody may."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundation.authorisation import Role
from tests.orchestrator.http_service import PASSWORD, Service, Signed, problem

USERS = "/api/v1/users"
NEW = "yet another 密码 99"


@pytest.fixture
async def admin(service: Service) -> Signed:
    return await service.user(Role.SECURITY_ADMIN, name="chen")


def wanted(**fields: Any) -> dict[str, Any]:
    return {"name": "liu", "password": PASSWORD, "roles": ["operator"], "site_id": "nanning", **fields}


async def add(service: Service, admin: Signed, **fields: Any) -> dict[str, Any]:
    response = await service.client.post(USERS, json=wanted(**fields), headers=admin.bearer)
    assert response.status == 201, await response.text()
    answer: dict[str, Any] = await response.json()
    return answer


async def test_added_user_can_sign_in(service: Service, admin: Signed) -> None:
    added = await add(service, admin, display_name="刘", grants=["cenxi"])
    assert (added["roles"], added["site_id"], added["grants"]) == (["operator"], "nanning", ["cenxi"])
    assert added["disabled"] is False
    assert "password_hash" not in added
    assert PASSWORD not in json.dumps(added)
    signed = await service.client.post("/api/v1/session", json={"name": "liu", "password": PASSWORD})
    assert (await signed.json())["user"]["display_name"] == "刘"
    row = next(row for row in await service.audited() if row.action == "add-user")
    assert (row.actor, row.subject, row.outcome, row.address) == ("chen", "user:liu", "done", "127.0.0.1")
    assert json.loads(row.detail) == {
        "roles": ["operator"],
        "site_id": "nanning",
        "grants": ["cenxi"],
        "disabled": False,
    }


async def test_list_is_bounded_by_the_jurisdiction(service: Service, admin: Signed) -> None:
    await service.user(Role.VIEWER, name="far", site="guangdong")
    await service.user(Role.VIEWER, name="near", site="cenxi")
    response = await service.client.get(USERS, headers=admin.bearer)
    assert [user["name"] for user in await response.json()] == ["chen", "near"]


@pytest.mark.parametrize(
    ("fields", "status", "title", "words"),
    [
        ({"password": "short"}, 422, "Weak password", "at least 10 characters"),
        ({"password": "liu-liu-liu-77"}, 422, "Weak password", "user's name"),
        ({"roles": ["auditor", "operator"]}, 422, "Roles conflict", "auditor cannot be held together"),
        ({"roles": []}, 422, "Invalid body", "roles"),
        ({"roles": ["emperor"]}, 422, "Invalid body", "'system-admin'"),
        ({"name": "liu hua"}, 422, "Unfit name", "no spaces"),
        ({"name": "ＣＨＥＮ"}, 409, "Name taken", "'chen' already"),
        ({"site_id": "atlantis"}, 403, "Forbidden", "atlantis"),
        ({"grants": ["atlantis"]}, 400, "Bad request", "no site 'atlantis'"),
        ({"site_id": "guangdong"}, 403, "Forbidden", "outside the jurisdiction"),
        ({"grants": ["guangdong"]}, 403, "Forbidden", "outside the jurisdiction"),
        ({"admin": True}, 422, "Invalid body", "admin: Extra inputs"),
    ],
)
async def test_user_who_cannot_be(
    service: Service, admin: Signed, fields: dict[str, Any], status: int, title: str, words: str
) -> None:
    response = await service.client.post(USERS, json=wanted(**fields), headers=admin.bearer)
    answer = await problem(response, status)
    assert answer["title"] == title
    assert words in answer["detail"]
    assert PASSWORD not in json.dumps(answer)
    listed = await service.client.get(USERS, headers=admin.bearer)
    assert len(await listed.json()) == 1
    assert "add-user" not in [row.action for row in await service.audited()]


async def test_roles_change_takes_effect_at_once(service: Service, admin: Signed) -> None:
    liu = await service.user(Role.VIEWER, name="liu", site="nanning")
    conference = {"title": "例会", "host_site_id": "nanning"}
    await problem(await service.client.post("/api/v1/conferences", json=conference, headers=liu.bearer), 403)
    change = {"roles": ["operator", "monitor"], "display_name": "刘"}
    response = await service.client.patch(f"{USERS}/{liu.user.id}", json=change, headers=admin.bearer)
    assert (await response.json())["roles"] == ["monitor", "operator"]
    opened = await service.client.post("/api/v1/conferences", json=conference, headers=liu.bearer)
    assert opened.status == 201
    row = [row for row in await service.audited() if row.action == "change-user"][-1]
    detail = json.loads(row.detail)
    assert detail["roles"] == ["operator", "monitor"]
    assert detail["before"]["roles"] == ["viewer"]


async def test_disabled_user_is_out_and_stays_out_when_enabled_again(service: Service, admin: Signed) -> None:
    liu = await service.user(Role.VIEWER, name="liu", site="nanning")
    one = f"{USERS}/{liu.user.id}"
    response = await service.client.patch(one, json={"disabled": True}, headers=admin.bearer)
    assert (await response.json())["disabled"] is True
    await problem(await service.client.get("/api/v1/session", headers=liu.bearer), 401)
    sign_in = {"name": "liu", "password": PASSWORD}
    await problem(await service.client.post("/api/v1/session", json=sign_in), 401)
    await service.client.patch(one, json={"disabled": False}, headers=admin.bearer)
    await problem(await service.client.get("/api/v1/session", headers=liu.bearer), 401)
    assert (await service.client.post("/api/v1/session", json=sign_in)).status == 200


async def test_password_reset_ends_every_session(service: Service, admin: Signed) -> None:
    liu = await service.user(Role.VIEWER, name="liu", site="nanning")
    one = f"{USERS}/{liu.user.id}"
    weak = await service.client.patch(one, json={"password": "short", "disabled": True}, headers=admin.bearer)
    await problem(weak, 422)
    assert (
        await service.client.get("/api/v1/session", headers=liu.bearer)
    ).status == 200  # nothing half done
    assert (await service.client.patch(one, json={"password": NEW}, headers=admin.bearer)).status == 200
    await problem(await service.client.get("/api/v1/session", headers=liu.bearer), 401)
    signed = await service.client.post("/api/v1/session", json={"name": "liu", "password": NEW})
    assert signed.status == 200
    assert "reset-password" in [row.action for row in await service.audited()]
    assert NEW not in "".join(row.detail for row in await service.audited())


async def test_sessions_of_a_user_are_ended(service: Service, admin: Signed) -> None:
    liu = await service.user(Role.VIEWER, name="liu", site="nanning")
    response = await service.client.delete(f"{USERS}/{liu.user.id}/sessions", headers=admin.bearer)
    assert await response.json() == {"ended": 2}
    await problem(await service.client.get("/api/v1/session", headers=liu.cookie), 401)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"roles": ["system-admin"]}, 403, "nobody may grant-roles to their own account"),
        ({"grants": ["guangxi"]}, 403, "nobody may grant-roles"),
        ({"site_id": "guangxi"}, 403, "nobody may grant-roles"),
        ({"disabled": True}, 409, "their own account"),
        ({"password": NEW}, 409, "/api/v1/session/password"),
    ],
)
async def test_nobody_does_this_to_oneself(
    service: Service, admin: Signed, change: dict[str, Any], status: int, words: str
) -> None:
    response = await service.client.patch(f"{USERS}/{admin.user.id}", json=change, headers=admin.bearer)
    assert words in (await problem(response, status))["detail"]
    assert (await service.client.get(USERS, headers=admin.bearer)).status == 200


async def test_own_display_name_may_be_changed(service: Service, admin: Signed) -> None:
    response = await service.client.patch(
        f"{USERS}/{admin.user.id}", json={"display_name": "陈"}, headers=admin.bearer
    )
    assert (await response.json())["display_name"] == "陈"


async def test_account_that_reaches_further_is_not_taken_over(service: Service) -> None:
    """A county's security administrator cannot reset the password of somebody who acts in the province."""
    county = await service.user(Role.SECURITY_ADMIN, name="county", site="nanning")
    strong = await service.user(Role.OPERATOR, name="strong", site="nanning", grants="guangxi")
    one = f"{USERS}/{strong.user.id}"
    for change in ({"password": NEW}, {"roles": ["viewer"]}, {"grants": []}, {"disabled": True}):
        response = await service.client.patch(one, json=change, headers=county.bearer)
        assert "guangxi" in (await problem(response, 403))["detail"]
    await problem(await service.client.delete(f"{one}/sessions", headers=county.bearer), 403)
    assert (await service.client.get("/api/v1/session", headers=strong.bearer)).status == 200


async def test_user_is_not_moved_out_of_the_jurisdiction(service: Service) -> None:
    county = await service.user(Role.SECURITY_ADMIN, name="county", site="nanning")
    liu = await service.user(Role.OPERATOR, name="liu", site="cenxi")
    for change in ({"site_id": "guangxi"}, {"grants": ["guangxi"]}):
        response = await service.client.patch(f"{USERS}/{liu.user.id}", json=change, headers=county.bearer)
        await problem(response, 403)


async def test_unknown_user(service: Service, admin: Signed) -> None:
    response = await service.client.patch(f"{USERS}/nobody", json={"disabled": True}, headers=admin.bearer)
    assert (await problem(response, 404))["detail"] == "there is no user nobody"
