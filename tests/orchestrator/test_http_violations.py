"""Violations and their rules over HTTP: jurisdiction, evidence, review, rules that cannot be."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from analytics.http_rules import RuleRoutes
from analytics.http_violations import ViolationRoutes
from analytics.violation_writer import write_snapshot
from analytics.vision_plans import VisionPlans
from foundation.authorisation import Authorisation, Role
from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import AnalysisStatus, VisionPlan, VisionReport
from foundation.event_bus import InProcessBus
from foundation.events import CameraChanged, Event, ViolationChanged
from foundation.jobs import JobQueue
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.jobs import JobRepository
from foundation.repositories.violations import CLIP_JOB, ClipState, Violation, ViolationRepository
from foundation.site_tree import SiteTree
from tests.orchestrator.http_service import SITES, Service, Signed, problem, serving
from tests.peers.waiting import until

NOON = datetime(2026, 5, 1, 4, 0, tzinfo=UTC)
ZONE = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
BOX = ("person", 0.91, 0.25, 0.25, 0.5, 0.75)


class Desk:
    """A vision process that notes its plans."""

    def __init__(self) -> None:
        self.plans: asyncio.Queue[VisionPlan] = asyncio.Queue()

    async def set_plan(self, plan: VisionPlan) -> None:
        self.plans.put_nowait(plan)

    async def report(self) -> VisionReport:
        status = AnalysisStatus("gate", "watching", "", 12, 3, 1.0, 0.98, 0.4, 2)
        return VisionReport((status,), "nanodet abcd", 0.2)


@dataclass
class House:
    service: Service
    database: Database
    bus: InProcessBus
    plans: VisionPlans
    desk: Desk
    evidence: Path
    monitor: Signed
    """Of Nanning, below which Cenxi lies."""
    neighbour: Signed
    """Of Guangdong."""

    async def ask(self, method: str, path: str, who: Signed | None = None, body: object = None) -> Any:
        """The response."""
        headers = (who or self.monitor).bearer
        return await self.service.client.request(method, f"/api/v1{path}", headers=headers, json=body)

    async def json(self, method: str, path: str, who: Signed | None = None, body: object = None) -> Any:
        response = await self.ask(method, path, who, body)
        assert response.status < 300, await response.text()
        return None if response.status == 204 else await response.json()

    async def add(self, number: int, **changes: Any) -> Violation:
        violation = replace(
            Violation(
                id=f"{number:032x}",
                camera_id="gate",
                camera_name="大门",
                site_id="nanning",
                kind="person-in-zone",
                rule={"id": "r1", "name": "禁区", "zone": ZONE, "kind": "person-in-zone"},
                started_at=NOON + timedelta(minutes=number),
                model={"name": "nanodet", "sha256": "ab" * 32},
                score=0.91,
                boxes=(BOX,),
            ),
            **changes,
        )
        async with self.database.transaction() as tx:
            await ViolationRepository(tx).add(violation)
        return violation

    async def heard(self, events: AsyncIterator[Event]) -> Event:
        async with asyncio.timeout(2):
            return await anext(events)


@pytest.fixture
async def house(sqlite_file: Path, tmp_path: Path) -> AsyncIterator[House]:
    database, clock, bus = Database(f"sqlite:///{sqlite_file}"), FakeClock(NOON), InProcessBus()
    authorisation = Authorisation(SiteTree({site.id: site.parent_id for site in SITES}), "guangxi")
    desk, evidence = Desk(), tmp_path / "evidence"
    plans = VisionPlans(database, bus, JobQueue(database, bus, clock), desk, poll=0.05)
    shared: dict[str, Any] = {
        "database": database,
        "clock": clock,
        "authorisation": authorisation,
        "bus": bus,
        "time_zone": "Asia/Shanghai",
    }
    routes = (
        *ViolationRoutes(evidence=evidence, **shared).routes,
        *RuleRoutes(plans=plans, **shared).routes,
    )
    async with database.transaction() as tx:
        for camera_id, site in (("gate", "nanning"), ("yard", "cenxi"), ("pier", "guangdong")):
            await CameraRepository(tx).add(Camera(camera_id, site, camera_id, "rtsp://10.0.0.1/1", NOON))
    async with serving(sqlite_file, extra=routes) as service:
        yield House(
            service,
            database,
            bus,
            plans,
            desk,
            evidence,
            await service.user(Role.MONITOR, site="nanning"),
            await service.user(Role.MONITOR, site="guangdong"),
        )
    bus.close()
    await database.aclose()


# --- violations ---------------------------------------------------------------------------------------


async def test_a_list_in_pages_with_filters_and_counts(house: House) -> None:
    for number in range(1, 8):
        await house.add(number, kind="black" if number % 2 else "loitering")
    await house.add(9, site_id="guangdong", camera_id="pier")
    seen, after = [], ""
    while True:
        page = await house.json("GET", f"/violations?limit=3{after}")
        seen += [int(item["id"], 16) for item in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    span = "from=2026-05-01T04:02:00Z&to=2026-05-01T12:04:00%2B08:00"
    assert [int(one["id"], 16) for one in (await house.json("GET", f"/violations?{span}"))["items"]] == [3, 2]
    black = await house.json("GET", "/violations?kind=black&state=open&camera_id=gate")
    assert [item["rule_name"] for item in black["items"]] == ["禁区"] * 4
    assert await house.json("GET", "/violations/summary") == {
        "open": 7,
        "claimed": 0,
        "today": 7,
        "by_kind": {"black": 4, "loitering": 3},
    }
    for wrong in (
        "after=bogus!",
        "after=MjAyNg",
        "limit=0",
        "state=lost",
        "from=noon",
        "from=2026-05-01T00:00",
        "from=0001-01-01T00:00:00%2B08:00",
        "to=9999-12-31T23:59:59-08:00",
        "after=" + urlsafe_b64encode(b"0001-01-01T00:00:00+08:00 a").decode().rstrip("="),
    ):
        assert (await house.ask("GET", f"/violations?{wrong}")).status in (400, 422), wrong


async def test_the_document_names_what_can_be_asked(house: House) -> None:
    document = await house.json("GET", "/openapi.json")
    asked = document["paths"]["/api/v1/violations"]["get"]["parameters"]
    assert {one["name"] for one in asked} == {"state", "camera_id", "kind", "from", "to", "limit", "after"}
    assert set(document["paths"]["/api/v1/rules/{id}"]) >= {"patch", "delete"}


async def test_nobody_learns_of_another_countys_violations(house: House) -> None:
    violation = await house.add(1, clip_path="c.mp4", snapshot_path="s.jpg", clip_state=ClipState.READY)
    rule = await house.json(
        "POST", "/cameras/gate/rules", body={"kind": "loitering", "name": "徘徊", "zone": ZONE}
    )
    one = f"/violations/{violation.id}"
    unknown = f"/violations/{0:032x}"
    for method, path, body in (
        ("GET", one, None),
        ("GET", f"{one}/snapshot.jpg", None),
        ("GET", f"{one}/clip.mp4", None),
        ("POST", f"{one}/review", {"action": "claim", "version": 1}),
        ("GET", "/cameras/gate/rules", None),
        ("POST", "/cameras/gate/rules", {"kind": "black", "name": "x"}),
        ("GET", "/cameras/gate/analysis", None),
        ("PATCH", f"/rules/{rule['id']}", {"enabled": False}),
        ("DELETE", f"/rules/{rule['id']}", None),
    ):
        hidden = await problem(await house.ask(method, path, house.neighbour, body), 404)
        assert hidden["detail"].startswith("there is no ")
        assert "nanning" not in json.dumps(hidden)
    await problem(await house.ask("GET", unknown, house.neighbour), 404)
    assert await house.json("GET", "/violations", house.neighbour) == {"items": [], "next": None}
    assert (await house.json("GET", "/violations/summary", house.neighbour))["open"] == 0
    assert (await house.json("GET", f"/violations/{violation.id}"))["version"] == 1
    viewer = await house.service.user(Role.VIEWER, site="nanning")
    for path in (one, unknown, "/violations", "/rule-kinds", "/cameras/gate/analysis"):
        await problem(await house.ask("GET", path, viewer), 403)
    operator = await house.service.user(Role.OPERATOR, site="nanning")
    await problem(await house.ask("GET", "/cameras/gate/rules", operator), 403)
    await problem(await house.ask("GET", "/cameras/pier/analysis", operator), 404)
    assert (await house.json("GET", "/cameras/gate/analysis", operator))["state"] == "waiting"


async def test_a_review_from_claim_to_decision_with_its_log_and_audit(house: House) -> None:
    violation = await house.add(1)
    second = await house.service.user(Role.MONITOR, site="guangxi")
    path = f"/violations/{violation.id}/review"
    async with house.bus.subscribe(ViolationChanged) as events:
        claimed = await house.json("POST", path, body={"action": "claim", "version": 1})
        assert (claimed["state"], claimed["claimed_by"]) == ("claimed", house.monitor.user.name)
        assert await house.heard(events) == ViolationChanged(violation.id, "gate", "nanning", "claimed")
    held = await problem(await house.ask("POST", path, second, {"action": "confirm", "version": 2}), 409)
    assert held["detail"] == f"this violation is claimed by {house.monitor.user.name}"
    body = {"action": "comment", "version": 2, "comment": "  未戴安全帽 "}
    assert (await house.json("POST", path, second, body))["version"] == 2
    await problem(await house.ask("POST", path, second, {**body, "comment": " "}), 400)
    old = await problem(await house.ask("POST", path, body={"action": "confirm", "version": 1}), 409)
    assert "version 2, not 1" in old["detail"]
    await house.json("POST", path, body={"action": "confirm", "version": 2, "comment": "属实"})
    late = await problem(await house.ask("POST", path, second, {"action": "dismiss", "version": 3}), 409)
    assert late["detail"] == f"this violation was confirmed by {house.monitor.user.name}"
    shown = await house.json("GET", f"/violations/{violation.id}")
    first, other = house.monitor.user.name, second.user.name
    assert [(entry["actor"], entry["event"], entry["comment"]) for entry in shown["log"]] == [
        (first, "claimed", ""),
        (other, "comment", "未戴安全帽"),
        (first, "confirmed", "属实"),
    ]
    assert (shown["state"], shown["decided_by"], shown["rule"]["zone"]) == ("confirmed", first, ZONE)
    assert shown["boxes"] == [
        {"label": "person", "score": 0.91, "x1": 0.25, "y1": 0.25, "x2": 0.5, "y2": 0.75}
    ]
    rows = [row for row in await house.service.audited() if row.subject == f"violation:{violation.id}"]
    assert [(row.actor, row.action) for row in rows] == [
        (first, "claim-violation"),
        (other, "comment-violation"),
        (first, "confirm-violation"),
    ]


async def test_of_two_who_claim_at_once_one_is_told_who_has_it(house: House) -> None:
    violation = await house.add(1)
    others = [
        await house.service.user(Role.MONITOR, name=f"wei-{number}", site="nanning") for number in range(4)
    ]
    path, body = f"/violations/{violation.id}/review", {"action": "claim", "version": 1}
    answers = await asyncio.gather(*(house.ask("POST", path, who, body) for who in others))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
    told = [await answer.json() for answer in answers]
    (holder,) = (one["claimed_by"] for one in told if "claimed_by" in one)
    refused = {one["detail"] for one in told if "detail" in one}
    assert refused == {f"this violation is claimed by {holder}"}


async def test_snapshot_plain_and_with_boxes(house: House) -> None:
    path = "snapshots/2026-05-01/1.jpg"
    digest = write_snapshot(house.evidence / path, np.full((400, 640, 3), 200, np.uint8))
    violation = await house.add(1, snapshot_path=path, snapshot_sha256=digest)
    address = f"/violations/{violation.id}/snapshot.jpg"
    plain = await (await house.ask("GET", f"{address}?boxes=0")).read()
    assert plain == (house.evidence / path).read_bytes()
    response = await house.ask("GET", address)
    assert (response.status, response.content_type) == (200, "image/jpeg")
    drawn = cv2.imdecode(np.frombuffer(await response.read(), np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    blue, green, red = (int(value) for value in drawn[200, 160])  # the left side of the box
    assert red > 180
    assert max(blue, green) < 120
    assert abs(int(drawn[200, 240].mean()) - 200) < 8  # inside it
    (house.evidence / path).write_bytes(plain + b"\0")
    altered = await problem(await house.ask("GET", address), 500)
    assert altered["detail"] == "the snapshot's file is not the one that was written"
    (house.evidence / path).unlink()
    await problem(await house.ask("GET", address), 404)
    bare = await house.add(2, snapshot_detail="the snapshot could not be written: No space left on device")
    missing = await problem(await house.ask("GET", f"/violations/{bare.id}/snapshot.jpg"), 404)
    assert "No space left" in missing["detail"]


async def test_a_clip_in_parts_and_what_is_said_without_one(house: House) -> None:
    clip = house.evidence / "clips/1.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(bytes(range(256)) * 4)
    digest = sha256(clip.read_bytes()).hexdigest()
    violation = await house.add(1, clip_path="clips/1.mp4", clip_sha256=digest, clip_state=ClipState.READY)
    address = f"/api/v1/violations/{violation.id}/clip.mp4"
    client, headers = house.service.client, house.monitor.bearer
    whole = await client.get(address, headers=headers)
    assert (whole.status, whole.content_type, len(await whole.read())) == (200, "video/mp4", 1024)
    part = await client.get(address, headers={**headers, "Range": "bytes=250-259"})
    assert part.status == 206
    assert part.headers["Content-Range"] == "bytes 250-259/1024"
    assert await part.read() == bytes([250, 251, 252, 253, 254, 255, 0, 1, 2, 3])
    clip.write_bytes(bytes(1024))
    said = await problem(await house.ask("GET", address.removeprefix("/api/v1")), 500)
    assert said["detail"] == "the clip's file is not the one that was written"
    clip.unlink()
    await problem(await client.get(address, headers=headers), 404)
    gone = await house.add(
        2, clip_state=ClipState.MISSING, clip_detail="the pre-roll does not reach back to 12:00:01"
    )
    said = await problem(await house.ask("GET", f"/violations/{gone.id}/clip.mp4"), 404)
    assert said["detail"] == "the pre-roll does not reach back to 12:00:01"


# --- rules --------------------------------------------------------------------------------------------


async def test_rule_kinds_name_what_may_be_set(house: House) -> None:
    kinds = {kind["kind"]: kind for kind in await house.json("GET", "/rule-kinds")}
    assert list(kinds) == ["person-in-zone", "loitering", "black", "frozen", "blurred", "stream-lost"]
    assert [kind["needs_zone"] for kind in kinds.values()] == [True, True, False, False, False, False]
    assert kinds["loitering"]["parameters"][1] == {
        "name": "seconds",
        "default": 60,
        "min": 3,
        "max": 86400,
        "unit": "s",
    }


async def test_a_rule_is_made_changed_and_removed(house: House) -> None:
    wanted = {
        "kind": "person-in-zone",
        "name": "禁区",
        "zone": ZONE,
        "parameters": {"inside": 2},
        "schedule": [{"days": [6, 0], "from": "22:00", "to": "06:00"}],
    }
    async with house.bus.subscribe(CameraChanged) as events:
        response = await house.ask("POST", "/cameras/gate/rules", body=wanted)
        assert response.status == 201
        rule = await response.json()
        assert await house.heard(events) == CameraChanged("gate", "nanning")
        assert rule["parameters"] == {"score": 0.5, "inside": 2, "of": 5, "outside": 5, "cool_down": 30}
        assert rule["schedule"] == [{"days": [0, 6], "from": "22:00", "to": "06:00"}]
        assert rule["enabled"]
        assert await house.json("GET", "/cameras/gate/rules") == [rule]
        one = f"/rules/{rule['id']}"
        changed = await house.json("PATCH", one, body={"name": "危险区", "schedule": [], "enabled": False})
        assert changed == {**rule, "name": "危险区", "schedule": [], "enabled": False}
        black = await house.json("PATCH", one, body={"kind": "black"})
        assert (black["zone"], black["parameters"]["seconds"]) == ([], 5)
        assert await house.json("DELETE", one) is None
        for _ in range(3):
            await house.heard(events)
    await problem(await house.ask("DELETE", one), 404)
    rows = [row for row in await house.service.audited() if row.subject == f"rule:{rule['id']}"]
    assert [row.action for row in rows] == ["add-rule", "change-rule", "change-rule", "remove-rule"]
    assert json.loads(rows[1].detail)["before"]["name"] == "禁区"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "smoke"}, "kind: 'smoke' is none of person-in-zone"),
        ({"zone": []}, "zone: person-in-zone needs one"),
        ({"kind": "black"}, "zone: black judges the whole picture"),
        ({"zone": [[0, 0], [1, 1]]}, "zone: a zone has 3 to 32 points"),
        ({"zone": [[0, 0], [1, 1], [1, 0], [0, 1]]}, "zone: the side from point 1 meets"),
        ({"zone": [[0, 0], [1, 0], [1, 1.01]]}, "zone: point 3 is outside the picture"),
        ({"zone": [[n / 40, n * n / 1600] for n in range(33)]}, "zone"),
        ({"zone": [[0, 0], [1], [1, 1]]}, "zone.1"),
        ({"parameters": {"inside": 1}}, "parameters: inside: 1 is not within 2 to 20"),
        ({"parameters": {"seconds": 1}}, "parameters: seconds: person-in-zone has no such"),
        ({"parameters": {"inside": 6}}, "inside: 6 looks cannot be among 5"),
        ({"schedule": [{"days": [7], "from": "08:00", "to": "09:00"}]}, "schedule: window 1: days"),
        ({"schedule": [{"days": [1], "from": "8", "to": "09:00"}]}, "schedule: window 1: from"),
        ({"name": ""}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_rules_that_cannot_be(house: House, fields: dict[str, Any], words: str) -> None:
    body = {"kind": "person-in-zone", "name": "禁区", "zone": ZONE, **fields}
    refused = await problem(await house.ask("POST", "/cameras/gate/rules", body=body), 422)
    assert words in refused["detail"]
    assert await house.json("GET", "/cameras/gate/rules") == []


# --- main and the vision process ----------------------------------------------------------------------


async def test_the_plan_follows_the_rules_and_the_analysis_is_told(house: House) -> None:
    waiting = await house.json("GET", "/cameras/gate/analysis")
    assert (waiting["state"], waiting["detail"]) == ("waiting", "the vision process is not there now")
    running = asyncio.create_task(house.plans.run())
    async with asyncio.timeout(5):
        assert await house.desk.plans.get() == VisionPlan()
        body = {"kind": "person-in-zone", "name": "禁区", "zone": ZONE}
        rule = await house.json("POST", "/cameras/gate/rules", body=body)
        (camera,) = (await house.desk.plans.get()).cameras
        assert (camera.camera_id, camera.site_id, camera.name) == ("gate", "nanning", "gate")
        assert camera.rules[0].rule_id == rule["id"]
        assert [list(point) for point in camera.rules[0].zone] == ZONE
        told = await until(
            lambda: house.json("GET", "/cameras/gate/analysis"),
            lambda seen: bool(seen["state"] == "watching"),
            "its report",
            5,
            0.02,
        )
        assert (told["samples"], told["persons"], told["model"]) == (12, 2, "nanodet abcd")
        assert (await house.json("GET", "/cameras/yard/analysis"))["detail"].startswith("no rule is on")
        await house.json("PATCH", f"/rules/{rule['id']}", body={"enabled": False})
        assert await house.desk.plans.get() == VisionPlan()
    running.cancel()
    await asyncio.wait([running])


async def test_clips_without_a_job_are_asked_for_again(house: House) -> None:
    await house.add(1)
    await house.add(2, clip_state=ClipState.READY)
    assert await house.plans.requeue_clips() == 1
    assert await house.plans.requeue_clips() == 0


async def test_a_clip_whose_jobs_die_is_asked_for_again_and_at_last_only_written_down(house: House) -> None:
    await house.add(1)
    payloads = []
    for _ in range(4):
        assert await house.plans.requeue_clips() == 1
        async with house.database.transaction() as tx:
            jobs, now = JobRepository(tx), house.service.clock.now()
            (job,) = await jobs.claim([CLIP_JOB], "recorder", now, timedelta(seconds=15))
            await jobs.fail(job, now, "the lease ran out: worker gone", None)
        payloads.append(job.payload)
    assert [one.get("give_up") for one in payloads] == [None] * 3 + ["the lease ran out: worker gone"]
