"""Watchers and their keeper on scripted samples: rows, jobs, events, evidence, plans that change."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import select

from analytics.detection import Sample
from analytics.violation_writer import NOT_YET, ModelName
from analytics.vision_keeper import VisionKeeper
from foundation.clock import boot_id
from foundation.desks import AnalysedCamera, RuleSpec, VisionPlan
from foundation.events import ViolationChanged, ViolationFlagged
from foundation.repositories.violations import ClipState, Violation
from foundation.schema import JobRow
from tests.analytics.evidence_room import MODEL, Room, Script, evidence_room
from tests.analytics.looks import NOON, lost, person, sample
from tests.peers.waiting import until

ZONE = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
INTRUSION = RuleSpec("r1", "gate", "person-in-zone", "禁区", ZONE, {"inside": 2, "of": 3, "outside": 2})
LOST = RuleSpec("r2", "gate", "stream-lost", "断流", (), {"seconds": 30})
DARK = RuleSpec("r3", "gate", "black", "遮挡", (), {"seconds": 3})
GATE = AnalysedCamera("gate", "nanning", "大门", (INTRUSION, LOST))


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with evidence_room(tmp_path) as room:
        yield room


@asynccontextmanager
async def keeping(room: Room, model: ModelName = MODEL, **scripts: Script) -> AsyncIterator[VisionKeeper]:
    async with VisionKeeper(scripts.__getitem__, room.writer(), room.judging(model), lambda: 0.25) as keeper:
        yield keeper


def intruder(at: float, score: float = 0.8) -> Sample:
    picture = np.full((90, 160, 3), int(score * 100), np.uint8)
    return sample(at, (person(0.7, 0.8, score=score),), picture)


async def only(room: Room) -> Violation:
    (violation,) = await room.violations()
    return violation


async def test_row_and_job_then_event_then_snapshot_then_the_end(room: Room) -> None:
    script = Script()
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((GATE,)))
        await script.give(intruder(0, 0.6), intruder(1, 0.9))
        flagged = await only(room)
        assert (flagged.kind, flagged.camera_name, flagged.site_id) == ("person-in-zone", "大门", "nanning")
        assert flagged.started_at == NOON.replace(second=1)
        assert (flagged.score, flagged.ended_at) == (0.9, None)
        assert flagged.model == {"name": "nanodet", "sha256": "ab" * 32}
        assert flagged.rule["parameters"] == INTRUSION.parameters
        assert flagged.rule["zone"] == [list(point) for point in ZONE]
        assert flagged.boxes == (("person", 0.9, 0.65, 0.5, 0.75, 0.8),)
        assert flagged.clip_state is ClipState.PENDING
        await script.give(sample(2), sample(3))
        ended = await only(room)
        assert ended.ended_at == NOON.replace(second=3)
        assert [type(event) for event in room.events] == [
            ViolationFlagged,
            ViolationChanged,
            ViolationChanged,
        ]
    jpeg = (room.folder / str(ended.snapshot_path)).read_bytes()
    assert hashlib.sha256(jpeg).hexdigest() == ended.snapshot_sha256
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert abs(float(picture.mean()) - 90) < 3  # the surest look, without boxes
    assert ended.snapshot_detail == ""
    async with room.database.reading() as tx:
        (job,) = await tx.scalars(select(JobRow))
    assert (job.kind, job.key) == ("cut-clip", f"clip:{ended.id}")
    ago = (room.clock.now() - ended.started_at).total_seconds()
    assert job.payload == {
        "violation_id": ended.id,
        "monotonic": pytest.approx(room.clock.monotonic() - ago),
        "boot": boot_id(),
    }
    (audited,) = await room.audited()
    assert (audited.actor, audited.action, audited.subject) == (
        "vision",
        "record-snapshot",
        f"violation:{ended.id}",
    )
    assert json.loads(audited.detail)["sha256"] == ended.snapshot_sha256
    assert not list(room.folder.rglob("*.part"))


async def test_a_snapshot_that_cannot_be_written_hides_nothing(room: Room) -> None:
    room.folder.write_text("a file where the folder should be")
    script = Script()
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((GATE,)))
        await script.give(intruder(0), intruder(1))
        flagged = await only(room)
    assert (flagged.snapshot_path, flagged.snapshot_sha256) == (None, None)
    assert flagged.snapshot_detail.startswith("the snapshot could not be written: ")
    assert flagged.snapshot_detail != NOT_YET
    assert [record.outcome for record in await room.audited()] == ["failed"]
    assert isinstance(room.events[0], ViolationFlagged)


async def test_a_busy_database_delays_and_loses_nothing(room: Room) -> None:
    script = Script()
    other = sqlite3.connect(room.database.path or "", isolation_level=None)
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((GATE,)))
        await script.give(intruder(0))
        other.execute("BEGIN IMMEDIATE")
        giving = asyncio.create_task(script.give(intruder(1)))
        await asyncio.sleep(0.8)  # longer than the database waits
        assert not room.events
        other.execute("ROLLBACK")
        await giving
        assert (await only(room)).started_at == NOON.replace(second=1)
    other.close()


async def test_a_dead_camera_is_one_open_violation_with_its_last_picture(room: Room) -> None:
    script = Script()
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((GATE,)))
        await script.give(sample(0), *(lost(at, since=0) for at in range(1, 7200, 15)))
        violation = await only(room)
    assert (violation.kind, violation.started_at, violation.ended_at) == ("stream-lost", NOON, None)
    assert violation.model == {}
    assert violation.snapshot_sha256 is not None
    assert "last one before the loss: the camera does not answer" in violation.snapshot_detail


async def test_after_a_restart_the_same_violation_goes_on(room: Room) -> None:
    script = Script()
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((GATE,)))
        await script.give(sample(0), lost(31, since=0))
    before = await only(room)
    assert before.ended_at is None
    script = Script()
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((GATE,)))
        start = room.clock.monotonic()
        await script.give(lost(start + 5, since=0), lost(start + 100, since=0))
        assert await room.violations() == [before]
        await script.give(*(sample(start + 101 + second) for second in range(70)))
        assert (await only(room)).ended_at is not None


async def test_without_a_model_that_can_tell_what_was_flagged_is_over(room: Room) -> None:
    script = Script()
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((GATE,)))
        await script.give(intruder(0), intruder(1))
        assert (await only(room)).ended_at is None
    script = Script()
    async with keeping(room, ModelName(fault="no usable model"), gate=script) as keeper:
        await keeper.set_plan(VisionPlan((GATE,)))
        await script.give(sample(room.clock.monotonic() + 1))
        assert (await only(room)).ended_at is not None


async def test_a_plan_given_twice_and_other_rules_leave_the_stream_alone(room: Room) -> None:
    gate, yard = Script(), Script()
    other = AnalysedCamera("yard", "cenxi", "后院", (replace(DARK, rule_id="r9", camera_id="yard"),))
    async with keeping(room, gate=gate, yard=yard) as keeper:
        await keeper.set_plan(VisionPlan((GATE, other)))
        await gate.give(intruder(0), intruder(1))
        await yard.give(sample(0))
        await keeper.set_plan(VisionPlan((GATE, other)))
        await keeper.set_plan(VisionPlan((replace(GATE, rules=(LOST, DARK)), other)))
        await gate.give(*(sample(2 + second) for second in range(5)))
        ended, dark = await room.violations()
        assert (ended.kind, ended.ended_at is not None) == ("person-in-zone", True)
        assert (dark.kind, dark.ended_at) == ("black", None)
        await keeper.set_plan(VisionPlan((other,)))
        await until(room.violations, lambda found: found[1].ended_at is not None, "its end", 5, 0.02)
        assert (gate.opened, gate.closed, yard.opened, yard.closed) == (1, 1, 1, 0)
        assert [status.camera_id for status in (await keeper.report()).cameras] == ["yard"]


async def test_what_a_camera_outside_the_plan_had_flagged_is_over(room: Room) -> None:
    script = Script()
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((GATE,)))
        await script.give(intruder(0), intruder(1))
    async with keeping(room) as keeper:
        await keeper.set_plan(VisionPlan())
        await until(room.violations, lambda found: found[0].ended_at is not None, "its end", 5, 0.02)


async def test_outside_its_schedule_a_rule_sleeps(room: Room) -> None:
    nights = ({"days": [0, 1, 2, 3, 4, 5, 6], "from": "22:00", "to": "06:00"},)
    script = Script()
    async with keeping(room, gate=script) as keeper:
        night_rule = replace(INTRUSION, schedule=nights)  # type: ignore[arg-type]  # lists are invariant
        await keeper.set_plan(VisionPlan((replace(GATE, rules=(night_rule,)),)))
        await script.give(*(intruder(at) for at in range(5)))
        assert await room.violations() == []
        night = 12 * 3600
        await script.give(*(intruder(night + at) for at in range(5)))
        await script.give(intruder(night + 6 * 3600))
        violation = await only(room)
    assert violation.started_at == NOON.replace(hour=16, second=1)
    assert violation.ended_at == NOON.replace(hour=22)


async def test_the_report_says_how_each_camera_does(room: Room) -> None:
    script = Script()
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((GATE,)))
        await script.give(sample(0, (person(0.2, 0.5), person(0.7, 0.5), person(0.4, 0.4, label="dog"))))
        report = await keeper.report()
    (status,) = report.cameras
    assert (status.state, status.samples, status.inferences, status.persons) == ("watching", 7, 5, 2)
    assert (report.model, report.load) == (f"nanodet {'ab' * 32}", 0.25)


async def test_without_a_model_tamper_checks_go_on_and_the_report_says_why(room: Room) -> None:
    script = Script()
    fault = ModelName(fault="no usable model: model.onnx: its SHA-256 is 00, model.yaml expects 11")
    async with keeping(room, fault, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((replace(GATE, rules=(INTRUSION, DARK)),)))
        await script.give(*(sample(at, (person(0.7, 0.8),)) for at in range(6)))
        report = await keeper.report()
    assert [found.kind for found in await room.violations()] == ["black"]
    assert report.model == fault.fault
    assert report.cameras[0].state == "failed"
    assert report.cameras[0].detail == f"禁区: cannot be judged: {fault.fault}"


async def test_a_rule_that_makes_no_sense_is_told_and_stops_no_other(room: Room) -> None:
    script = Script()
    broken = replace(DARK, rule_id="r8", name="坏", parameters={"seconds": -1})
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((replace(GATE, rules=(broken, INTRUSION)),)))
        await script.give(intruder(0), intruder(1))
        (status,) = (await keeper.report()).cameras
    assert "坏: is not judged: seconds: -1 is not within 1 to 3600" in status.detail
    assert (await only(room)).kind == "person-in-zone"


async def test_a_camera_whose_only_rule_makes_no_sense_says_so(room: Room) -> None:
    script = Script()
    broken = replace(DARK, rule_id="r8", name="坏", parameters={"seconds": -1})
    async with keeping(room, gate=script) as keeper:
        await keeper.set_plan(VisionPlan((replace(GATE, rules=(broken,)),)))
        await script.give(intruder(0))
        (status,) = (await keeper.report()).cameras
    assert status.detail == "坏: is not judged: seconds: -1 is not within 1 to 3600"
