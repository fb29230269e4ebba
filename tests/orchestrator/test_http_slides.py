"""Slides over HTTP: a page presents and stops for itself, an operator takes back and forbids; minutes."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.authorisation import Role
from tests.orchestrator.http_service import OFFER, Service, Signed, problem

CONFERENCES = "/api/v1/conferences"
PICTURE = (
    "m=video 9 UDP/TLS/RTP/SAVPF 96\nc=IN IP4 0.0.0.0\na=mid:{mid}\na=rtcp-mux\na=rtpmap:96 H264/90000\n"
)
SHARING = OFFER.replace("BUNDLE 0", "BUNDLE 0 1 2") + PICTURE.format(mid=1) + PICTURE.format(mid=2)


class Talk:
    """A meeting, its operator, and a page that may share."""

    def __init__(self, service: Service, meeting_id: str, operator: Signed) -> None:
        self.service = service
        self.path = f"{CONFERENCES}/{meeting_id}"
        self.operator = operator

    async def join(self, who: Signed, sdp: str = SHARING) -> str:
        response = await self.service.client.post(
            f"{self.path}/webrtc", json={"sdp": sdp}, headers=who.bearer
        )
        assert response.status == 200, await response.text()
        participant_id: str = (await response.json())["participant_id"]
        return participant_id

    async def command(self, who: Signed, body: dict[str, Any], site: str | None = None) -> Any:
        path = self.path if site is None else f"{self.path}/participants/{site}"
        return await self.service.client.post(f"{path}/commands", json=body, headers=who.bearer)

    async def does(self, who: Signed, body: dict[str, Any], site: str | None = None) -> None:
        response = await self.command(who, body, site)
        assert response.status == 204, await response.text()

    async def fails(self, status: int, who: Signed, body: dict[str, Any], site: str | None = None) -> str:
        detail: str = (await problem(await self.command(who, body, site), status))["detail"]
        return detail

    async def control(self) -> dict[str, Any]:
        response = await self.service.client.get(f"{self.path}/control", headers=self.operator.bearer)
        state: dict[str, Any] = await response.json()
        return state

    async def slides(self) -> str | None:
        found: str | None = (await self.control())["slides"]
        return found


@pytest.fixture
async def talk(service: Service) -> Talk:
    operator = await service.user(Role.OPERATOR, name="ma")
    meeting = await service.meeting()
    return Talk(service, meeting.conference_id, operator)


async def test_a_page_presents_and_stops_for_itself(talk: Talk) -> None:
    viewer = await talk.service.user(Role.VIEWER, name="liu")
    page, other = await talk.join(viewer), await talk.join(talk.operator)
    assert (await talk.control())["slides_allowed"] is True
    await talk.does(viewer, {"command": "present"}, page)
    assert await talk.slides() == page
    assert "belongs to somebody else" in await talk.fails(403, viewer, {"command": "present"}, other)
    assert "for itself" in await talk.fails(
        403, viewer, {"command": "stop-presenting", "participant_id": other}, page
    )
    await talk.does(talk.operator, {"command": "present"}, other)
    assert await talk.slides() == other
    assert "does not present" in await talk.fails(409, viewer, {"command": "stop-presenting"}, page)
    await talk.does(talk.operator, {"command": "stop-presenting"}, other)
    assert await talk.slides() is None


async def test_an_operator_takes_slides_back_and_forbids_them(talk: Talk) -> None:
    viewer = await talk.service.user(Role.VIEWER, name="liu")
    page = await talk.join(viewer)
    await talk.does(viewer, {"command": "present"}, page)
    version = (await talk.control())["version"]
    stale = {"command": "take-back-slides", "version": version - 1}
    assert "present by liu" in await talk.fails(409, talk.operator, stale)
    await talk.does(talk.operator, {"command": "take-back-slides", "version": version})
    assert await talk.slides() is None
    assert "nobody presents" in await talk.fails(409, talk.operator, {"command": "take-back-slides"})
    await talk.does(talk.operator, {"command": "allow-slides", "on": False})
    assert "may not present" in await talk.fails(403, viewer, {"command": "present"}, page)
    assert (await talk.control())["slides_allowed"] is False


async def test_a_page_without_a_second_video_section_has_nothing_to_present(talk: Talk) -> None:
    page = await talk.join(talk.operator, OFFER)
    assert "no stream for slides" in await talk.fails(409, talk.operator, {"command": "present"}, page)


async def test_the_minutes_say_who_presented(talk: Talk) -> None:
    viewer = await talk.service.user(Role.VIEWER, name="liu")
    page = await talk.join(viewer)
    await talk.does(viewer, {"command": "present"}, page)
    await talk.does(talk.operator, {"command": "take-back-slides"})
    response = await talk.service.client.get(f"{talk.path}/minutes.csv", headers=talk.operator.bearer)
    sheet = await response.text()
    assert "present" in sheet
    assert "take-back-slides" in sheet
