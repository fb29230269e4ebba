"""Sites, links, callers' addresses and SIP accounts over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundation.authorisation import Role
from foundation.repositories.sites import SiteRepository
from tests.orchestrator.http_service import Service, Signed, problem

SITES, LINKS = "/api/v1/sites", "/api/v1/links"


@pytest.fixture
async def admin(service: Service) -> Signed:
    return await service.user(Role.SYSTEM_ADMIN, name="wei")


def site(**fields: Any) -> dict[str, Any]:
    return {"id": "guilin", "parent_id": "guangxi", "name": "桂林", "kind": "administration", **fields}


async def test_site_is_added_changed_and_followed_by_permission(service: Service, admin: Signed) -> None:
    response = await service.client.post(SITES, json=site(), headers=admin.bearer)
    assert response.status == 201
    assert (await response.json())["conference_budget_bps"] == 3_000_000
    assert "guilin" in service.authorisation.tree
    change = {"conference_budget_bps": 2_000_000}
    response = await service.client.patch(f"{SITES}/guilin", json=change, headers=admin.bearer)
    assert await response.json() == {
        **site(),
        "conference_budget_bps": 2_000_000,
        "access_capacity_bps": 20_000_000,
    }
    assert service.book.budget("guilin") == 2_000_000
    rows = [row for row in await service.audited() if row.subject == "site:guilin"]
    assert [row.action for row in rows] == ["add-site", "change-site"]
    assert json.loads(rows[1].detail) == {**change, "before": {"conference_budget_bps": 3_000_000}}


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"id": "nanning"}, 409, "already a site 'nanning'"),
        ({"parent_id": "atlantis"}, 400, "parent_id: there is no site 'atlantis'"),
        ({"parent_id": "guangdong"}, 403, "outside the jurisdiction"),
        ({"id": "桂林"}, 422, "id: "),
        ({"conference_budget_bps": -1}, 422, "conference_budget_bps"),
        ({"conference_budget_bps": 10**30}, 422, "conference_budget_bps"),
        ({"colour": "red"}, 422, "colour: Extra"),
    ],
)
async def test_site_that_cannot_be(
    service: Service, admin: Signed, fields: dict[str, Any], status: int, words: str
) -> None:
    before = len(await service.audited())
    answer = await problem(
        await service.client.post(SITES, json=site(**fields), headers=admin.bearer), status
    )
    assert words in answer["detail"]
    assert len(await service.audited()) == before


async def test_unknown_site_and_link(service: Service, admin: Signed) -> None:
    await problem(await service.client.patch(f"{SITES}/atlantis", json={}, headers=admin.bearer), 404)
    change = {"capacity_bps": 1}
    await problem(await service.client.patch(f"{LINKS}/none", json=change, headers=admin.bearer), 404)


async def test_lists_are_bounded_by_the_jurisdiction(service: Service) -> None:
    viewer = await service.user(Role.VIEWER, site="nanning")
    sites = await (await service.client.get(SITES, headers=viewer.bearer)).json()
    assert [found["id"] for found in sites] == ["cenxi", "nanning"]
    links = await (await service.client.get(LINKS, headers=viewer.bearer)).json()
    assert links == [
        {
            "id": "guangxi-nanning",
            "upper_site_id": "guangxi",
            "lower_site_id": "nanning",
            "capacity_bps": 50_000_000,
            "carried_bps": 0,
        }
    ]


async def test_link_is_added_and_widened(service: Service, admin: Signed) -> None:
    link = {"upper_site_id": "nanning", "lower_site_id": "cenxi", "capacity_bps": 20_000_000}
    response = await service.client.post(LINKS, json=link, headers=admin.bearer)
    assert response.status == 201
    assert (await response.json())["id"] == "nanning--cenxi"
    response = await service.client.patch(
        f"{LINKS}/nanning--cenxi", json={"capacity_bps": 30_000_000}, headers=admin.bearer
    )
    assert (await response.json())["capacity_bps"] == 30_000_000


@pytest.mark.parametrize(
    ("link", "status", "words"),
    [
        (("guangxi", "nanning", "other"), 409, "already has the link 'guangxi-nanning'"),
        (("nanning", "cenxi", "guangxi-nanning"), 409, "already a link"),
        (("guangxi", "cenxi", "x"), 400, "not directly above"),
        (("guangxi", "atlantis", "x"), 400, "lower_site_id: there is no site"),
        (("nation", "guangxi", "x"), 403, "outside the jurisdiction"),
    ],
)
async def test_link_that_cannot_be(
    service: Service, admin: Signed, link: tuple[str, str, str], status: int, words: str
) -> None:
    upper, lower, name = link
    body = {"id": name, "upper_site_id": upper, "lower_site_id": lower, "capacity_bps": 1_000_000}
    response = await service.client.post(LINKS, json=body, headers=admin.bearer)
    assert words in (await problem(response, status))["detail"]


async def test_callers_address(service: Service, admin: Signed) -> None:
    path = f"{SITES}/nanning/addresses"
    body = {"network": "extranet", "prefix": "10.1.2.0/24"}
    assert (await service.client.post(path, json=body, headers=admin.bearer)).status == 204
    async with service.database.reading() as tx:
        assert await SiteRepository(tx).site_at("extranet", "10.1.2.3") == "nanning"
    for wrong, words in (
        ({"network": "moon"}, "known: extranet"),
        ({"prefix": "10.1.2.3/24"}, "host bits"),
        ({"prefix": "here"}, "prefix: "),
    ):
        response = await service.client.post(path, json={**body, **wrong}, headers=admin.bearer)
        assert words in (await problem(response, 400))["detail"]


async def test_callers_of_a_site_are_not_taken_away(service: Service, admin: Signed) -> None:
    nanning, cenxi = f"{SITES}/nanning/addresses", f"{SITES}/cenxi/addresses"
    whole = {"network": "extranet", "prefix": "10.1.0.0/16"}
    part = {"network": "extranet", "prefix": "10.1.2.0/24"}
    assert (await service.client.post(nanning, json=whole, headers=admin.bearer)).status == 204
    await problem(await service.client.post(cenxi, json=whole, headers=admin.bearer), 409)
    county = await service.user(Role.SYSTEM_ADMIN, name="county", site="cenxi")
    taken = await problem(await service.client.post(cenxi, json=part, headers=county.bearer), 409)
    assert "outside your jurisdiction" in taken["detail"]
    # Whoever is responsible for both may divide it.
    assert (await service.client.post(cenxi, json=part, headers=admin.bearer)).status == 204


async def test_sip_account_keeps_no_password_and_is_not_taken_away(service: Service, admin: Signed) -> None:
    body = {"username": "room-1", "password": "very long secret"}
    path = f"{SITES}/nanning/sip-accounts"
    assert (await service.client.post(path, json=body, headers=admin.bearer)).status == 204
    county = await service.user(Role.SYSTEM_ADMIN, name="county", site="cenxi")
    other = await service.client.post(f"{SITES}/cenxi/sip-accounts", json=body, headers=county.bearer)
    assert "belongs to another site" in (await problem(other, 409))["detail"]
    again = await service.client.post(path, json={**body, "password": "another one"}, headers=admin.bearer)
    assert again.status == 204
    assert "secret" not in "".join(row.detail for row in await service.audited())
    for name in ('a"b', "a:b", "a b", ""):
        response = await service.client.post(path, json={**body, "username": name}, headers=admin.bearer)
        await problem(response, 422)
