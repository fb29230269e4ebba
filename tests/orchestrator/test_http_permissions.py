"""Every route of the table, asked by every role: allowed exactly where PERMISSIONS says, and nowhere else.

The cases below must name every route: one that is added without a case fails the first test.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import update

from foundation.authorisation import PERMISSIONS, Action, Role
from foundation.http_edge import Route
from foundation.repositories.schedules import Schedule, ScheduleRepository
from foundation.repositories.sites import Site, SiteRepository
from foundation.schema import UserRow, new_id
from signaling.browser_calls import BrowserCalls
from signaling.meeting import Member
from tests.orchestrator.http_service import OFFER, PASSWORD, PIN, Service, Signed, problem

Case = Callable[[Service], Awaitable[tuple[dict[str, str], Any]]]
"""Makes what the path needs, at the site guangxi; returns the path's parts and the body."""

FORWARDED = {"X-Forwarded-For": "192.0.2.9"}
"""So that a test on loopback is no local caller."""


def body(value: Any = None) -> Case:
    async def make(_service: Service) -> tuple[dict[str, str], Any]:
        return {}, value

    return make


def meeting(value: Any = None) -> Case:
    async def make(service: Service) -> tuple[dict[str, str], Any]:
        return {"id": (await service.meeting()).conference_id}, value

    return make


async def in_meeting(service: Service, owner: str = "somebody-else") -> tuple[str, Member]:
    opened = await service.meeting()
    participant_id, _answer = await BrowserCalls(service.meetings, "extranet").join(
        opened.conference_id, owner=owner, name="刘", site_id=None, sdp=OFFER.encode()
    )
    return opened.conference_id, service.meetings.member(participant_id)


def participant(value: Any = None) -> Case:
    async def make(service: Service) -> tuple[dict[str, str], Any]:
        conference_id, member = await in_meeting(service)
        return {"id": conference_id, "participant": member.participant_id}, value

    return make


counter = iter(range(1_000_000))


async def new_site(_service: Service) -> tuple[dict[str, str], Any]:
    site = {"id": f"site-{next(counter)}", "parent_id": "guangxi", "name": "桂林", "kind": "administration"}
    return {}, site


async def new_link(service: Service) -> tuple[dict[str, str], Any]:
    _, site = await new_site(service)
    async with service.database.transaction() as tx:
        await SiteRepository(tx).save(Site(site["id"], "桂林", "administration", "guangxi"))
    await service.book.reload()
    return {}, {"upper_site_id": "guangxi", "lower_site_id": site["id"], "capacity_bps": 20_000_000}


async def new_user(_service: Service) -> tuple[dict[str, str], Any]:
    name = f"user-{next(counter)}"
    return {}, {"name": name, "password": PASSWORD, "roles": ["viewer"], "site_id": "guangxi"}


def other_user(value: Any = None) -> Case:
    async def make(service: Service) -> tuple[dict[str, str], Any]:
        signed = await service.user(Role.VIEWER, name=f"target-{next(counter)}")
        return {"id": signed.user.id}, value

    return make


async def guest_entry(service: Service) -> tuple[dict[str, str], Any]:
    return {}, {"number": (await service.meeting()).number, "pin": PIN, "name": "刘"}


API = "/api/v1"
SITE, ACCOUNT = {"id": "guangxi"}, {"username": "room-1", "password": "long enough"}


async def address(_service: Service) -> tuple[dict[str, str], Any]:
    return SITE, {"network": "extranet", "prefix": f"10.9.{next(counter) % 250}.0/24"}


def at_site(value: Any) -> Case:
    async def make(_service: Service) -> tuple[dict[str, str], Any]:
        return SITE, value

    return make


def schedule(value: Any = None) -> Case:
    async def make(service: Service) -> tuple[dict[str, str], Any]:
        made = Schedule(new_id(), "周例会", "guangxi", 60, "ma", service.clock.now())
        async with service.database.transaction() as tx:
            await ScheduleRepository(tx).add(made)
        return {"id": made.id}, value

    return make


async def a_link(_service: Service) -> tuple[dict[str, str], Any]:
    return {"id": "guangxi-nanning"}, {"capacity_bps": 60_000_000}


def camera(value: Any = None) -> Case:
    async def make(_service: Service) -> tuple[dict[str, str], Any]:
        return {"stream": "camera:gate", "viewer": "nobody"}, value

    return make


CASES: dict[tuple[str, str], tuple[Case, int]] = {
    ("POST", f"{API}/session"): (body({"name": "nobody", "password": "x"}), 401),
    ("GET", f"{API}/session"): (body(), 200),
    ("DELETE", f"{API}/session"): (body(), 204),
    ("POST", f"{API}/session/password"): (body({"old": PASSWORD, "new": "another 密码 12345"}), 204),
    ("POST", f"{API}/guest-session"): (guest_entry, 200),
    ("GET", f"{API}/users"): (body(), 200),
    ("POST", f"{API}/users"): (new_user, 201),
    ("PATCH", f"{API}/users/{{id}}"): (other_user({"disabled": True}), 200),
    ("DELETE", f"{API}/users/{{id}}/sessions"): (other_user(), 200),
    ("GET", f"{API}/sites"): (body(), 200),
    ("POST", f"{API}/sites"): (new_site, 201),
    ("PATCH", f"{API}/sites/{{id}}"): (at_site({"name": "广西壮族自治区"}), 200),
    ("POST", f"{API}/sites/{{id}}/addresses"): (address, 204),
    ("POST", f"{API}/sites/{{id}}/sip-accounts"): (at_site(ACCOUNT), 204),
    ("GET", f"{API}/sip-registrations"): (body(), 200),
    ("GET", f"{API}/sip-trunks"): (body(), 200),
    ("GET", f"{API}/links"): (body(), 200),
    ("POST", f"{API}/links"): (new_link, 201),
    ("PATCH", f"{API}/links/{{id}}"): (a_link, 200),
    ("GET", f"{API}/conferences"): (body(), 200),
    ("POST", f"{API}/conferences"): (body({"title": "例会", "host_site_id": "guangxi"}), 201),
    ("GET", f"{API}/conferences/{{id}}"): (meeting(), 200),
    ("DELETE", f"{API}/conferences/{{id}}"): (meeting(), 204),
    ("GET", f"{API}/conferences/{{id}}/participants"): (meeting(), 200),
    # 400: no SIP listener runs here; that is found after permission.
    ("POST", f"{API}/conferences/{{id}}/participants"): (meeting({"address": "sip:room@127.0.0.1"}), 400),
    ("PATCH", f"{API}/conferences/{{id}}/participants/{{participant}}"): (participant({"muted": True}), 200),
    ("DELETE", f"{API}/conferences/{{id}}/participants/{{participant}}"): (participant(), 204),
    ("POST", f"{API}/conferences/{{id}}/commands"): (meeting({"command": "mosaic"}), 204),
    # 403, with other words than permission's: the participant is somebody else's.
    ("POST", f"{API}/conferences/{{id}}/participants/{{participant}}/commands"): (
        participant({"command": "request-floor"}),
        403,
    ),
    ("GET", f"{API}/conferences/{{id}}/control"): (meeting(), 200),
    ("GET", f"{API}/conferences/{{id}}/roll-calls"): (meeting(), 200),
    ("GET", f"{API}/conferences/{{id}}/report"): (meeting(), 200),
    ("GET", f"{API}/conferences/{{id}}/announcements"): (meeting(), 200),
    ("POST", f"{API}/conferences/{{id}}/announcements"): (participant({"sound": "chime"}), 204),
    ("DELETE", f"{API}/conferences/{{id}}/announcements"): (participant(), 204),
    ("POST", f"{API}/conferences/{{id}}/webrtc"): (meeting({"sdp": OFFER}), 200),
    # 403, with other words than permission's: the participant is somebody else's.
    ("DELETE", f"{API}/conferences/{{id}}/webrtc/{{participant}}"): (participant(), 403),
    # 409: these meetings were not scheduled; that is found after permission.
    ("POST", f"{API}/conferences/{{id}}/extend"): (meeting({"minutes": 30}), 409),
    ("GET", f"{API}/conferences/{{id}}/plan"): (meeting(), 404),
    ("GET", f"{API}/conferences/{{id}}/minutes.html"): (meeting(), 200),
    ("GET", f"{API}/conferences/{{id}}/minutes.csv"): (meeting(), 200),
    ("GET", f"{API}/schedules"): (body(), 200),
    ("POST", f"{API}/schedules"): (body({"title": "周例会", "host_site_id": "guangxi"}), 201),
    ("GET", f"{API}/schedules/{{id}}"): (schedule(), 200),
    ("PATCH", f"{API}/schedules/{{id}}"): (schedule({"version": 1, "title": "月例会"}), 200),
    ("DELETE", f"{API}/schedules/{{id}}"): (schedule(), 204),
    ("POST", f"{API}/schedules/{{id}}/open"): (schedule(), 201),
    ("POST", f"{API}/streams/{{stream}}/whep"): (camera({"sdp": OFFER}), 415),  # that is no SDP
    ("DELETE", f"{API}/streams/{{stream}}/whep/{{viewer}}"): (camera(), 404),
    ("GET", f"{API}/audit"): (body(), 200),
    ("GET", f"{API}/audit/verification"): (body(), 200),
    ("GET", f"{API}/health"): (body(), 200),
    ("GET", "/metrics"): (body(), 200),
    ("GET", f"{API}/ice-servers"): (body(), 200),
    ("GET", "/ws"): (body(), 426),  # no WebSocket was asked for; that is found after permission
}
OWNERSHIP = "belongs to somebody else"
GUESTS_MAY = {
    ("GET", f"{API}/session"),
    ("DELETE", f"{API}/session"),
    ("GET", f"{API}/ice-servers"),
    ("GET", "/ws"),
}
"""Beside the routes of the meeting that the pass is for, which have a test of their own."""
NO_PLACE = {Action.CHANGE_OWN_PASSWORD}


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    challenge: str | None


async def ask(service: Service, route: Route, headers: dict[str, str]) -> Answer:
    case, _expected = CASES[route.method, route.path]
    parts, sent = await case(service)
    response = await service.client.request(
        route.method, route.path.format(**parts), json=sent, headers={**FORWARDED, **headers}
    )
    return Answer(response.status, await response.text(), response.headers.get("WWW-Authenticate"))


def has_right(route: Route, role: Role) -> bool:
    if route.action is None or route.action in NO_PLACE:
        return True
    return route.action in PERMISSIONS[role]


def placeless(route: Route) -> bool:
    return route.action is None or route.action in NO_PLACE or route.filtered


def fault(route: Route, answer: Answer, status: int, words: str = "") -> list[str]:
    """What is wrong with an answer, in one line; nothing when it is as it should be."""
    if answer.status == status and words in answer.text:
        return []
    return [f"{route.method} {route.path}: {answer.status}, not {status} {words!r}: {answer.text[:200]}"]


def granted(route: Route, answer: Answer) -> list[str]:
    expected = CASES[route.method, route.path][1]
    return fault(route, answer, expected, OWNERSHIP if expected == 403 else "")


async def test_every_route_has_its_case(service: Service) -> None:
    assert {(route.method, route.path) for route in service.routes} == set(CASES)


async def test_routes_without_session(service: Service) -> None:
    wrong: list[str] = []
    for route in service.routes:
        answer = await ask(service, route, {})
        if route.public:
            wrong += granted(route, answer)
        else:
            wrong += fault(route, answer, 401, "sign in first")
            assert answer.challenge == 'Bearer realm="anshi"', route.path
    assert wrong == []


@pytest.mark.parametrize("role", Role)
async def test_role_inside_its_jurisdiction(service: Service, role: Role) -> None:
    wrong: list[str] = []
    for number, route in enumerate(service.routes):
        asker = await service.user(role, name=f"asker-{number}")
        answer = await ask(service, route, asker.bearer)
        if has_right(route, role):
            wrong += granted(route, answer)
        else:
            wrong += fault(route, answer, 403, "not among the rights")
    assert wrong == []


@pytest.mark.parametrize("role", Role)
async def test_role_outside_its_jurisdiction(service: Service, role: Role) -> None:
    """Everything lies at guangxi, the asker belongs to guangdong."""
    wrong: list[str] = []
    for number, route in enumerate(service.routes):
        asker = await service.user(role, name=f"asker-{number}", site="guangdong")
        answer = await ask(service, route, asker.bearer)
        if not has_right(route, role):
            wrong += fault(route, answer, 403, "not among the rights")
        elif placeless(route):
            wrong += granted(route, answer)
            if route.filtered and "guangxi" in answer.text:
                wrong.append(f"{route.path} shows what lies elsewhere: {answer.text[:200]}")
        else:
            wrong += fault(route, answer, 403, "outside the jurisdiction")
    assert wrong == []


async def test_guest_of_another_meeting(service: Service) -> None:
    wrong: list[str] = []
    pass_of = await service.meeting()
    for route in service.routes:
        service.clock.advance(600)  # or the guests' sign-ins would be slowed
        headers, _ = await service.guest(pass_of)
        answer = await ask(service, route, headers)
        if route.public or (route.method, route.path) in GUESTS_MAY:
            wrong += granted(route, answer)
        else:
            wrong += fault(route, answer, 403, "guest")
    assert wrong == []


async def test_guest_of_this_meeting_joins_and_nothing_else(service: Service) -> None:
    opened = await service.meeting()
    headers, _ = await service.guest(opened)
    one = f"{API}/conferences/{opened.conference_id}"
    assert (await service.client.get(one, headers=headers)).status == 200
    joined = await service.client.post(f"{one}/webrtc", json={"sdp": OFFER}, headers=headers)
    assert joined.status == 200
    mine = (await joined.json())["participant_id"]
    await problem(await service.client.delete(f"{one}/participants/{mine}", headers=headers), 403)
    await problem(await service.client.post(f"{one}/commands", json={"command": "end"}, headers=headers), 403)
    await problem(await service.client.get(f"{one}/report", headers=headers), 403)
    assert (await service.client.delete(f"{one}/webrtc/{mine}", headers=headers)).status == 204


async def test_those_without_the_right_do_not_learn_what_exists(service: Service) -> None:
    auditor = await service.user(Role.AUDITOR)
    real = (await service.meeting()).conference_id
    details = set()
    for name in ("nonsense", real):
        response = await service.client.get(f"{API}/conferences/{name}", headers=auditor.bearer)
        details.add((await problem(response, 403))["detail"])
    assert details == {"view-conferences is not among the rights of auditor"}


async def test_roles_that_cannot_be_held_together_are_worth_nothing(service: Service) -> None:
    """A row changed behind our back does not make somebody both operator and auditor."""
    both: Signed = await service.user(Role.OPERATOR)
    async with service.database.transaction() as tx:
        await tx.execute(update(UserRow).values(roles=["operator", "auditor"]))
    answer = await problem(await service.client.get(f"{API}/audit", headers=both.bearer), 403)
    assert "cannot be held together" in answer["detail"]
