"""Conferences over HTTP with real meeting control: what operators see, do, and are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundation.authorisation import Role
from foundation.desks import Budget, Refusal, RefusalKind, View, ViewMode
from foundation.repositories.sites import Link, Site, SiteRepository
from signaling.meeting import Meeting
from tests.orchestrator.http_service import OFFER, Service, Signed, problem

CONFERENCES = "/api/v1/conferences"


@pytest.fixture
async def operator(service: Service) -> Signed:
    return await service.user(Role.OPERATOR, name="ma")


async def join(service: Service, meeting: Meeting, who: Signed) -> str:
    response = await service.client.post(
        f"{CONFERENCES}/{meeting.conference_id}/webrtc", json={"sdp": OFFER}, headers=who.bearer
    )
    assert response.status == 200, await response.text()
    participant_id: str = (await response.json())["participant_id"]
    return participant_id


async def shown(service: Service, who: Signed, path: str) -> Any:
    response = await service.client.get(path, headers=who.bearer)
    assert response.status == 200, await response.text()
    return await response.json()


async def test_meeting_from_opening_to_end(service: Service, operator: Signed) -> None:
    body = {"title": "安全生产例会", "number": "8001", "host_site_id": "nanning", "pin": "4711"}
    response = await service.client.post(CONFERENCES, json=body, headers=operator.bearer)
    opened = await response.json()
    assert response.status == 201
    assert (opened["number"], opened["state"], opened["has_pin"]) == ("8001", "running", True)
    assert opened["picture"] == {"mode": "mosaic", "participant_id": None}
    assert "4711" not in str(opened)
    one = f"{CONFERENCES}/{opened['id']}"
    assert await shown(service, operator, one) == opened
    assert [found["id"] for found in await shown(service, operator, CONFERENCES)] == [opened["id"]]
    assert (await service.client.delete(one, headers=operator.bearer)).status == 204
    assert (await shown(service, operator, one))["state"] == "ended"
    await problem(await service.client.delete(one, headers=operator.bearer), 404)
    actions = [row.action for row in await service.audited() if row.subject == f"conference:{opened['id']}"]
    assert actions == ["open-conference", "end-conference"]


async def test_no_body_has_fields_that_nobody_knows(service: Service, operator: Signed) -> None:
    """What is misspelt is not passed over: a PIN that is not one opens a meeting to everybody."""
    meeting = await service.meeting()
    one = f"{CONFERENCES}/{meeting.conference_id}"
    member = await join(service, meeting, operator)
    budget = {"to_site_bps": 200_000, "from_site_bps": 200_000, "both": 1}
    for method, path, body, named in (
        ("POST", f"{one}/participants", {"address": "sip:room@127.0.0.1", "site": "nanning"}, "site"),
        ("PATCH", f"{one}/participants/{member}", {"mute": True}, "mute"),
        ("PATCH", f"{one}/participants/{member}", {"budget": budget}, "budget.both"),
        ("POST", f"{one}/webrtc", {"sdp": OFFER, "participant": member}, "participant"),
    ):
        response = await service.client.request(method, path, json=body, headers=operator.bearer)
        assert [fault["at"] for fault in (await problem(response, 422))["faults"]] == [named]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"number": "8001"}, 409, "8001"),
        ({"number": "12"}, 400, "3 to 12 digits"),
        ({"number": "80 01"}, 400, "3 to 12 digits"),
        ({"title": ""}, 422, "title"),
        ({"pin": "12"}, 422, "pin"),
        ({"host_site_id": "guangdong"}, 403, "outside the jurisdiction"),
        ({"Pin": "1234"}, 422, "Pin: Extra inputs are not permitted"),
    ],
)
async def test_meeting_that_cannot_be(
    service: Service, operator: Signed, fields: dict[str, Any], status: int, words: str
) -> None:
    await service.meeting(number="8001")
    response = await service.client.post(
        CONFERENCES, json={"title": "例会", **fields}, headers=operator.bearer
    )
    assert words in (await problem(response, status))["detail"]


async def test_participant_is_seen_muted_and_dropped(service: Service, operator: Signed) -> None:
    meeting = await service.meeting()
    participant_id = await join(service, meeting, operator)
    people = f"{CONFERENCES}/{meeting.conference_id}/participants"
    (person,) = await shown(service, operator, people)
    assert (person["id"], person["state"], person["muted"]) == (participant_id, "connected", False)
    assert person["budget"] == {"to_site_bps": 3_000_000, "from_site_bps": 3_000_000}
    response = await service.client.patch(
        f"{people}/{participant_id}", json={"muted": True}, headers=operator.bearer
    )
    assert (await response.json())["muted"] is True
    assert ("set_muted", participant_id, True) in service.desk.calls
    assert (await service.client.delete(f"{people}/{participant_id}", headers=operator.bearer)).status == 204
    assert ("drop", participant_id) in service.desk.calls
    (person,) = await shown(service, operator, people)
    assert (person["state"], person["reason"]) == ("left", "dropped by ma")


async def test_budget_is_lowered_in_mid_call(service: Service, operator: Signed) -> None:
    meeting = await service.meeting()
    participant_id = await join(service, meeting, operator)
    budget = {"to_site_bps": 1_500_000, "from_site_bps": 1_000_000}
    one = f"{CONFERENCES}/{meeting.conference_id}/participants/{participant_id}"
    response = await service.client.patch(one, json={"budget": budget}, headers=operator.bearer)
    assert (await response.json())["budget"] == budget
    assert ("set_budget", participant_id, Budget(1_500_000, 1_000_000)) in service.desk.calls
    response = await service.client.patch(
        one, json={"budget": {"to_site_bps": 1, "from_site_bps": 1}}, headers=operator.bearer
    )
    await problem(response, 422)


async def test_announcements_are_played_to_all_or_to_one_and_on_record(
    service: Service, operator: Signed
) -> None:
    meeting = await service.meeting()
    path = f"{CONFERENCES}/{meeting.conference_id}/announcements"
    assert await shown(service, operator, path) == []
    nobody = await service.client.post(path, json={"sound": "chime"}, headers=operator.bearer)
    assert (await problem(nobody, 409))["detail"] == "nobody has come to this conference yet"
    participant_id = await join(service, meeting, operator)
    assert await shown(service, operator, path) == ["chime", "演习"]
    for body in ({"sound": "演习"}, {"sound": "chime", "participant_id": participant_id}):
        response = await service.client.post(path, json=body, headers=operator.bearer)
        assert response.status == 204, await response.text()
    assert (await service.client.delete(path, headers=operator.bearer)).status == 204
    unknown = await service.client.post(path, json={"sound": "../secret"}, headers=operator.bearer)
    assert (await problem(unknown, 404))["detail"] == "there is no announcement '../secret'"
    await problem(await service.client.post(path, json={}, headers=operator.bearer), 422)
    assert [call for call in service.desk.calls if "announc" in call[0]] == [
        ("announce", "演习", None),
        ("announce", "chime", participant_id),
        ("stop_announcing", meeting.conference_id),
    ]
    audited = [
        (row.action, json.loads(row.detail)) for row in await service.audited() if "announc" in row.action
    ]
    assert audited == [
        ("announce", {"sound": "演习"}),
        ("announce", {"sound": "chime", "participant": participant_id}),
        ("stop-announcing", {}),
    ]


async def test_commands_reach_the_worker(service: Service, operator: Signed) -> None:
    meeting = await service.meeting()
    participant_id = await join(service, meeting, operator)
    commands = f"{CONFERENCES}/{meeting.conference_id}/commands"
    for body in (
        {"command": "full-screen", "participant_id": participant_id},
        {"command": "mute-all"},
        {"command": "unmute", "participant_id": participant_id},
        {"command": "mosaic"},
    ):
        response = await service.client.post(commands, json=body, headers=operator.bearer)
        assert response.status == 204, await response.text()
    asked = [call for call in service.desk.calls if call[0].startswith("set_")]
    assert asked == [
        ("set_view", meeting.conference_id, View(ViewMode.FULL_SCREEN, participant_id)),
        ("set_muted", participant_id, True),
        ("set_muted", participant_id, False),
        ("set_view", meeting.conference_id, View()),
    ]
    for body, status in (
        ({"command": "full-screen"}, 400),
        ({"command": "full-screen", "participant_id": "nobody"}, 404),
        ({"command": "explode"}, 422),
    ):
        await problem(await service.client.post(commands, json=body, headers=operator.bearer), status)


async def test_participant_of_another_meeting_is_not_reached_through_this_one(
    service: Service, operator: Signed
) -> None:
    """The permission asked is for the meeting in the path."""
    theirs, mine = await service.meeting("guangdong"), await service.meeting("nanning")
    far = await service.user(Role.OPERATOR, name="far", site="guangdong")
    participant_id = await join(service, theirs, far)
    path = f"{CONFERENCES}/{mine.conference_id}"
    for method, end, body in (
        ("DELETE", f"participants/{participant_id}", None),
        ("PATCH", f"participants/{participant_id}", {"muted": True}),
        ("POST", "commands", {"command": "drop", "participant_id": participant_id}),
        ("DELETE", f"webrtc/{participant_id}", None),
    ):
        response = await service.client.request(method, f"{path}/{end}", json=body, headers=operator.bearer)
        await problem(response, 404)
    assert service.meetings.member(participant_id).muted is False


async def test_full_link_answers_lower_then_refuses_with_its_figures(service: Service) -> None:
    async with service.database.transaction() as tx:
        await SiteRepository(tx).save(Site("cenxi", "岑溪", "administration", "nanning", 20_000_000))
        await SiteRepository(tx).save_link(Link("nanning-cenxi", "nanning", "cenxi", 6_000_000))
    await service.book.reload()
    meeting = await service.meeting("nanning")
    county = await service.user(Role.VIEWER, name="county", site="cenxi", grants="nanning")
    await join(service, meeting, county)
    people = f"{CONFERENCES}/{meeting.conference_id}/participants"
    (person,) = await shown(service, county, people)
    assert person["budget"] == {"to_site_bps": 6_000_000, "from_site_bps": 6_000_000}
    (link,) = [
        link for link in await shown(service, county, "/api/v1/links") if link["id"] == "nanning-cenxi"
    ]
    assert link["carried_bps"] == 6_000_000
    response = await service.client.post(
        f"{CONFERENCES}/{meeting.conference_id}/webrtc", json={"sdp": OFFER}, headers=county.bearer
    )
    answer = await problem(response, 503)
    assert response.headers["Retry-After"] == "30"
    assert answer["detail"] == (
        "link nanning-cenxi is full: capacity 6 Mbit/s, carries 6 Mbit/s, asked 20 Mbit/s"
    )
    assert answer["limit"] == {
        "kind": "link",
        "name": "nanning-cenxi",
        "capacity_bps": 6_000_000,
        "carried_bps": 6_000_000,
        "asked_bps": 20_000_000,
    }


@pytest.mark.parametrize(
    ("sdp", "status"), [("nonsense", 400), ("v=0\r\nm=audio x RTP/AVP 0\r\n", 400), ("", 400)]
)
async def test_offer_that_is_no_sdp(service: Service, operator: Signed, sdp: str, status: int) -> None:
    meeting = await service.meeting()
    path = f"{CONFERENCES}/{meeting.conference_id}/webrtc"
    await problem(await service.client.post(path, json={"sdp": sdp}, headers=operator.bearer), status)
    assert meeting.members == {}


async def test_refused_offer_leaves_nobody_behind(service: Service, operator: Signed) -> None:
    meeting = await service.meeting()
    path = f"{CONFERENCES}/{meeting.conference_id}/webrtc"
    service.desk.refusal = Refusal(RefusalKind.NO_COMMON_CODEC, "no codec of the offer is ours")
    answer = await problem(await service.client.post(path, json={"sdp": OFFER}, headers=operator.bearer), 422)
    assert (answer["title"], answer["kind"]) == ("No common codec", "no-common-codec")
    assert meeting.members == {}
    service.desk.refusal = None
    await join(service, meeting, operator)


async def test_report_of_the_worker(service: Service, operator: Signed) -> None:
    meeting = await service.meeting()
    await join(service, meeting, operator)
    report = await shown(service, operator, f"{CONFERENCES}/{meeting.conference_id}/report")
    assert (report["conference_id"], report["worker_pid"]) == (meeting.conference_id, 4711)
    assert set(report) == {
        "conference_id",
        "worker_pid",
        "legs",
        "encoders",
        "wires",
        "speakers",
        "late_ticks",
    }
