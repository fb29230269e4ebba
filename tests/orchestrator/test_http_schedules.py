"""Schedules and minutes over HTTP: kept, changed without overwriting anybody, opened, extended, written."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest

from foundation.authorisation import Role
from tests.orchestrator.http_service import OFFER, Service, Signed, problem

SCHEDULES = "/api/v1/schedules"
CONFERENCES = "/api/v1/conferences"


@pytest.fixture
async def operator(service: Service) -> Signed:
    return await service.user(Role.OPERATOR, name="ma")


async def asked(
    service: Service, who: Signed, method: str, path: str, body: Any = None, status: int = 200
) -> Any:
    response = await service.client.request(method, path, json=body, headers=who.bearer)
    assert response.status == status, await response.text()
    return await response.json() if status != 204 else None


async def test_a_schedule_from_first_to_last(service: Service, operator: Signed) -> None:
    start = service.clock.now() + timedelta(hours=2)
    wanted = {
        "title": "周例会",
        "host_site_id": "nanning",
        "number": "8001",
        "pin": "4711",
        "starts_at": start.isoformat(),
        "duration_minutes": 90,
        "repeat": "weekly",
        "participants": [
            {"site_id": "cenxi"},
            {"address": "camera:gate", "on_screen": True},
            {"address": "sip:room@192.0.2.1", "name": "会议室"},
        ],
    }
    made = await asked(service, operator, "POST", SCHEDULES, wanted, 201)
    assert (made["state"], made["has_pin"], made["created_by"], made["version"]) == ("waiting", True, "ma", 1)
    assert [one["on_screen"] for one in made["participants"]] == [False, True, False]
    one = f"{SCHEDULES}/{made['id']}"
    assert await asked(service, operator, "GET", one) == made
    assert await asked(service, operator, "GET", SCHEDULES) == [made]
    assert made["lobby"] == "off"
    wanted = {"version": 1, "title": "月例会", "pin": None, "lobby": "all"}
    changed = await asked(service, operator, "PATCH", one, wanted)
    assert (changed["title"], changed["has_pin"], changed["version"]) == ("月例会", False, 2)
    assert changed["lobby"] == "all"
    assert changed["number"] == "8001"
    late = await service.client.patch(one, json={"version": 1, "redials": 0}, headers=operator.bearer)
    assert "the present version is 2" in (await problem(late, 409))["detail"]
    never = await service.client.patch(one, json={"version": 10**20, "redials": 0}, headers=operator.bearer)
    assert (await problem(never, 422))["faults"][0]["at"] == "version"
    template = await asked(service, operator, "PATCH", one, {"version": 2, "starts_at": None})
    assert (template["state"], template["starts_at"]) == ("template", None)
    opened = await asked(service, operator, "POST", f"{one}/open", status=201)
    assert opened["number"] == "8001"
    service.clock.advance(1)
    again = await service.client.post(f"{one}/open", headers=operator.bearer)
    assert "8001" in (await problem(again, 409))["detail"]
    meeting = f"{CONFERENCES}/{opened['conference_id']}"
    plan = await asked(service, operator, "GET", f"{meeting}/plan")
    assert plan["schedule_id"] == made["id"]
    assert [one["participant_id"] for one in plan["participants"]] == [None, None, None]
    longer = await asked(service, operator, "POST", f"{meeting}/extend", {"minutes": 30})
    assert longer["ends_at"] > plan["ends_at"]
    await asked(service, operator, "DELETE", one, status=204)
    await problem(await service.client.get(one, headers=operator.bearer), 404)
    assert (await asked(service, operator, "GET", meeting))["state"] == "running"
    control = await asked(service, operator, "GET", f"{meeting}/control")
    assert control["lobby"] == "all"
    actions = [row.action for row in await service.audited() if "schedule" in row.action + row.subject]
    assert actions == [
        "add-schedule",
        "change-schedule",
        "change-schedule",
        "open-schedule",
        "remove-schedule",
    ]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"starts_at": "2025-01-01T00:00:00Z"}, 400, "is past"),
        ({"starts_at": "2026-01-01T00:00:00"}, 422, "starts_at"),
        ({"starts_at": "9999-12-31T23:59:59-08:00"}, 422, "starts_at"),
        ({"duration_minutes": 29}, 422, "duration_minutes"),
        ({"host_site_id": "guangdong"}, 403, "outside the jurisdiction"),
        ({"participants": [{}]}, 422, "an address or a site_id"),
        ({"participants": [{"site_id": "atlantis"}]}, 400, "participant 1: there is no site 'atlantis'"),
        ({"participants": [{"address": "h323:x"}]}, 400, "cannot be called"),
        ({"participants": [{"address": "camera:none"}]}, 400, "there is no camera:none"),
        (
            {"participants": [{"site_id": "cenxi"}, {"site_id": "cenxi"}]},
            400,
            "participant 2: cenxi is there twice",
        ),
        ({"repeat": "hourly"}, 422, "repeat"),
        ({"lobby": "some"}, 422, "lobby"),
        ({"redial": 3}, 422, "redial"),
    ],
)
async def test_a_schedule_that_cannot_be(
    service: Service, operator: Signed, fields: dict[str, Any], status: int, words: str
) -> None:
    response = await service.client.post(SCHEDULES, json={"title": "例会", **fields}, headers=operator.bearer)
    assert words in (await problem(response, status))["detail"]


async def test_a_meeting_that_was_not_scheduled_has_no_end_to_move(
    service: Service, operator: Signed
) -> None:
    meeting = await service.meeting()
    path = f"{CONFERENCES}/{meeting.conference_id}/extend"
    response = await service.client.post(path, json={"minutes": 30}, headers=operator.bearer)
    assert "was not scheduled" in (await problem(response, 409))["detail"]


async def test_minutes_of_a_meeting(service: Service, operator: Signed) -> None:
    meeting = await service.meeting()
    one = f"{CONFERENCES}/{meeting.conference_id}"
    joined = await asked(service, operator, "POST", f"{one}/webrtc", {"sdp": OFFER})
    participant_id = joined["participant_id"]
    await asked(service, operator, "PATCH", f"{one}/participants/{participant_id}", {"muted": True})
    service.clock.advance(605)
    await asked(service, operator, "DELETE", f"{one}/participants/{participant_id}", status=204)
    chinese = await service.client.get(f"{one}/minutes.csv", headers=operator.bearer)
    assert chinese.headers["Content-Language"] == "zh-CN"
    assert "attachment" in chinese.headers["Content-Disposition"]
    text = (await chinese.read()).decode("utf-8-sig")
    lines = list(csv.reader(io.StringIO(text)))
    assert ["会议名称", "安全生产例会"] in lines
    stay = next(line for line in lines if len(line) == 13 and line[2].startswith("browser:"))
    assert stay[5:7] == ["0:10:05", "dropped by ma"]
    commands = [line for line in lines if len(line) == 6 and line[1] == "ma"]
    assert [line[2] for line in commands] == ["change-participant", "drop"]
    assert [line[3] for line in commands] == [stay[0]] * 2
    headers = {**operator.bearer, "Accept-Language": "en-GB,en;q=0.9"}
    english = await service.client.get(f"{one}/minutes.html", headers=headers)
    page = await english.text()
    assert english.content_type == "text/html"
    assert "<h2>Participants</h2>" in page
    assert "0:10:05" in page
    await problem(
        await service.client.get(f"{CONFERENCES}/nothing/minutes.csv", headers=operator.bearer), 404
    )
