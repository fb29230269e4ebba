"""Watching a camera by WHEP, and calling one into a meeting: what is answered, refused, and ended."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import ClientResponse

from foundation.authorisation import Role
from foundation.desks import Refusal, RefusalKind
from signaling.camera_calls import KnownCamera
from signaling.viewings import CHECK_SECONDS, ViewingLimits
from tests.orchestrator.http_service import OFFER, Service, Signed, problem

STREAMS = "/api/v1/streams"
GATE = f"{STREAMS}/camera:gate/whep"
CONFERENCES = "/api/v1/conferences"
WATCHING = OFFER + "a=recvonly\n"


@pytest.fixture
async def monitor(service: Service) -> Signed:
    return await service.user(Role.MONITOR, name="wei")


async def post(
    service: Service, who: Signed, path: str = GATE, sdp: str = WATCHING, kind: str = "application/sdp"
) -> ClientResponse:
    headers = {**who.bearer, "Content-Type": kind}
    return await service.client.post(path, data=sdp.encode(), headers=headers)


async def watch(service: Service, who: Signed, path: str = GATE) -> str:
    response = await post(service, who, path)
    assert response.status == 201, await response.text()
    return response.headers["Location"]


async def test_an_offer_is_answered_and_the_session_deleted(service: Service, monitor: Signed) -> None:
    response = await post(service, monitor)
    assert response.status == 201
    assert response.content_type == "application/sdp"
    answer = await response.text()
    assert "m=audio 49000 UDP/TLS/RTP/SAVPF 111" in answer.splitlines()
    location = response.headers["Location"]
    assert location.startswith(f"{GATE}/")
    assert [name for name, *_ in service.desk.calls] == ["open", "admit_stream", "admit"]
    assert list(service.desk.calls[1][1:]) == ["东门", "camera:gate"]
    assert (await service.client.delete(location, headers=monitor.bearer)).status == 204
    assert service.desk.calls[-1] == ("drop", location.rpartition("/")[2])
    await problem(await service.client.delete(location, headers=monitor.bearer), 404)


async def test_methods_that_whep_has_no_use_for(service: Service, monitor: Signed) -> None:
    location = await watch(service, monitor)
    for method, path in (("GET", GATE), ("PUT", GATE), ("PATCH", location), ("GET", location)):
        response = await service.client.request(method, path, headers=monitor.bearer)
        await problem(response, 405)
    escaped = await post(service, monitor, f"{STREAMS}/camera%3Agate/whep")
    assert escaped.status == 201


async def test_a_page_watches_by_cookie_with_its_csrf_token_only(service: Service, monitor: Signed) -> None:
    kind = {"Content-Type": "application/sdp"}
    refused = await service.client.post(GATE, data=WATCHING, headers={**monitor.cookie, **kind})
    assert "CSRF" in (await problem(refused, 403))["detail"]
    assert (await service.client.post(GATE, data=WATCHING, headers={**monitor.page, **kind})).status == 201


@pytest.mark.parametrize(
    ("sdp", "kind", "status", "words"),
    [
        (WATCHING, "application/json", 415, "not application/sdp"),
        ("nonsense", "application/sdp", 400, "session description"),
        ("", "application/sdp", 400, "session description"),
        (OFFER + "a=sendonly\n", "application/sdp", 400, "to receive nothing"),
        (WATCHING.replace("a=ice-ufrag:abcd\n", ""), "application/sdp", 400, "without ICE or DTLS"),
        (WATCHING + "a=x:" + "y" * 100_000, "application/sdp", 413, "at most 100000 bytes"),
    ],
)
async def test_what_is_no_offer_of_a_viewer(
    service: Service, monitor: Signed, sdp: str, kind: str, status: int, words: str
) -> None:
    refused = await problem(await post(service, monitor, sdp=sdp, kind=kind), status)
    assert words in refused["detail"]
    assert service.desk.calls == []


async def test_cameras_that_cannot_be_watched(service: Service, monitor: Signed) -> None:
    await problem(await post(service, monitor, f"{STREAMS}/camera:nowhere/whep"), 404)
    await problem(await post(service, monitor, f"{STREAMS}/programme:gate/whep"), 404)
    off = await problem(await post(service, monitor, f"{STREAMS}/camera:dark/whep"), 409)
    assert "switched off" in off["detail"]
    service.desk.refusal = Refusal(RefusalKind.NO_COMMON_CODEC, "no codec in common")
    assert (await problem(await post(service, monitor), 422))["kind"] == "no-common-codec"
    assert len(service.viewings) == 0


async def test_too_many_viewers_are_told_when_to_come_again(service: Service, monitor: Signed) -> None:
    service.viewings._limits = ViewingLimits(of_a_user=1)
    await watch(service, monitor)
    response = await post(service, monitor)
    assert response.headers["Retry-After"] == "10"
    assert "user wei has 1 viewers" in (await problem(response, 503))["detail"]


async def test_another_county_s_camera_is_out_of_reach(service: Service) -> None:
    county = await service.user(Role.MONITOR, name="cenxi", site="cenxi")
    other = await service.user(Role.MONITOR, name="guangdong", site="guangdong")
    yard = f"{STREAMS}/camera:yard/whep"
    location = await watch(service, county, yard)
    for refused in (
        await post(service, other, yard),
        await service.client.delete(location, headers=other.bearer),
        await post(service, county),
    ):
        assert "outside the jurisdiction" in (await problem(refused, 403))["detail"]
    above = await service.user(Role.MONITOR, name="above")
    mine = await service.client.delete(location, headers=above.bearer)
    assert "somebody else" in (await problem(mine, 403))["detail"]
    elsewhere = location.replace("camera:yard", "camera:gate")
    await problem(await service.client.delete(elsewhere, headers=above.bearer), 404)


@pytest.mark.parametrize("how", ["signed out", "session ended", "camera moved"])
async def test_a_viewer_goes_with_its_right(service: Service, monitor: Signed, how: str) -> None:
    await watch(service, monitor)
    await service.viewings.attend()
    assert len(service.viewings) == 1
    match how:
        case "signed out":
            await service.client.delete("/api/v1/session", headers=monitor.bearer)
            service.viewings.check_now()
        case "session ended":
            service.clock.advance(24 * 3600)
        case _:
            service.cameras["gate"] = KnownCamera("gate", "guangdong", "东门")
            service.clock.advance(CHECK_SECONDS)
    await service.viewings.attend()
    assert len(service.viewings) == 0
    assert service.desk.calls[-1][0] == "drop"


# --- into a meeting ----------------------------------------------------------------------------------------


async def call(service: Service, who: Signed, meeting_id: str, **body: Any) -> ClientResponse:
    path = f"{CONFERENCES}/{meeting_id}/participants"
    return await service.client.post(path, json=body, headers=who.bearer)


async def test_a_camera_is_called_seen_full_screen_muted_and_dropped(service: Service) -> None:
    operator = await service.user(Role.OPERATOR, name="ma")
    meeting = await service.meeting()
    response = await call(service, operator, meeting.conference_id, address="camera:gate")
    assert response.status == 201, await response.text()
    shown = await response.json()
    assert (shown["name"], shown["address"], shown["site_id"]) == ("东门", "camera:gate", "guangxi")
    assert (shown["state"], shown["network"]) == ("connected", None)
    assert shown["budget"] == {"to_site_bps": 0, "from_site_bps": 3_000_000}
    path = f"{CONFERENCES}/{meeting.conference_id}"
    order = {"command": "full-screen", "participant_id": shown["id"]}
    assert (await service.client.post(f"{path}/commands", json=order, headers=operator.bearer)).status == 204
    one = f"{path}/participants/{shown['id']}"
    muted = await service.client.patch(one, json={"muted": True}, headers=operator.bearer)
    assert (await muted.json())["muted"] is True
    budget = {"budget": {"to_site_bps": 1_000_000, "from_site_bps": 1_000_000}}
    refused = await problem(await service.client.patch(one, json=budget, headers=operator.bearer), 409)
    assert "it sends what it sends" in refused["detail"]
    again = await problem(await call(service, operator, meeting.conference_id, address="camera:gate"), 409)
    assert "already" in again["detail"]
    assert (await service.client.delete(one, headers=operator.bearer)).status == 204
    assert [name for name, *_ in service.desk.calls][-2:] == ["drop", "set_view"]
    deeds = [(row.action, row.detail) for row in await service.audited() if row.actor == "ma"]
    assert ("call", '{"address":"camera:gate"}') in deeds


async def test_a_camera_that_cannot_be_called(service: Service) -> None:
    operator = await service.user(Role.OPERATOR, name="ma")
    meeting_id = (await service.meeting()).conference_id
    await problem(await call(service, operator, meeting_id, address="camera:nowhere"), 404)
    off = await problem(await call(service, operator, meeting_id, address="camera:dark"), 409)
    assert "switched off" in off["detail"]
    wrong = await call(service, operator, meeting_id, address="camera:gate", site_id="nanning")
    assert "camera gate is at guangxi" in (await problem(wrong, 400))["detail"]
    await problem(await call(service, operator, meeting_id, address="rtsp://127.0.0.1/x"), 400)


async def test_a_meeting_of_one_s_own_does_not_open_other_people_s_cameras(service: Service) -> None:
    operator = await service.user(Role.OPERATOR, name="nn", site="nanning")
    meeting_id = (await service.meeting("nanning")).conference_id
    refused = await problem(await call(service, operator, meeting_id, address="camera:gate"), 403)
    assert "outside the jurisdiction" in refused["detail"]
    response = await call(service, operator, meeting_id, address="camera:yard", name="岑溪")
    assert response.status == 201
    assert (await response.json())["name"] == "岑溪"
