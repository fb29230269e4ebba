"""How SIP trunks are shown: their state and last error, never their password."""

from __future__ import annotations

from foundation.authorisation import Role
from foundation.clock import FakeClock
from foundation.telemetry import Telemetry
from orchestrator.trunk_gauges import TrunkGauges
from signaling.trunks.trunk import TrunkState
from signaling.trunks.trunks import Trunks
from tests.orchestrator.http_service import TRUNKS, Service, problem

PATH = "/api/v1/sip-trunks"


async def test_trunks_are_listed_without_their_passwords(service: Service) -> None:
    operator = await service.user(Role.OPERATOR, name="liu")
    response = await service.client.get(PATH, headers=operator.bearer)
    assert response.status == 200
    assert str(TRUNKS[0].password) not in await response.text()
    (row,) = await response.json()
    assert (row["name"], row["state"], row["registers"]) == ("telecom", "starting", True)
    assert row["server"] == "sbc.telecom.example.cn;transport=udp"
    assert (row["error"], row["calls_now"]) == (None, 0)
    assert str(TRUNKS[0].password) not in repr(TRUNKS)


async def test_only_who_may_see_the_system_sees_its_trunks(service: Service) -> None:
    viewer = await service.user(Role.VIEWER, name="chen")
    await problem(await service.client.get(PATH, headers=viewer.bearer), 403)


async def test_a_number_without_a_trunk_that_is_up_is_refused_with_the_reason(service: Service) -> None:
    operator = await service.user(Role.OPERATOR, name="liu")
    meeting = await service.meeting()
    path = f"/api/v1/conferences/{meeting.conference_id}/participants"
    for address, why in (
        ("tel:+86-771-586-1234", "trunk telecom is starting"),
        ("+867715861234", "trunk telecom is starting"),
        ("13800138000", "no trunk of this node takes the number 13800138000"),
        ("mailto:x@example.cn", "telephone numbers"),
    ):
        response = await service.client.post(path, json={"address": address}, headers=operator.bearer)
        assert why in (await problem(response, 400))["detail"]


def test_trunks_are_figures() -> None:
    clock = FakeClock()
    telemetry = Telemetry()
    trunks = Trunks(TRUNKS, default_network="extranet", node="gx", clock=clock)
    gauges = TrunkGauges(telemetry, trunks)
    gauges.look()
    assert b'anshi_sip_trunk_up{state="starting",trunk="telecom"} 0.0' in telemetry.exposition()
    (trunk,) = trunks._trunks
    trunk.stands(TrunkState.REGISTERED, clock.now())
    trunk.calls_in = 2
    gauges.look()
    text = telemetry.exposition()
    assert b'anshi_sip_trunk_up{state="registered",trunk="telecom"} 1.0' in text
    assert b'state="starting"' not in text
    assert b'anshi_sip_trunk_calls{trunk="telecom",what="in"} 2.0' in text
