"""The vision process in this one: an H.264 camera of people in, violations with evidence out."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from analytics.detection import Bgr
from analytics.model_package import DEFAULT_MODEL
from analytics.vision_keeper import VisionKeeper
from config.settings import Analytics, Node, Recordings, Settings
from foundation.desk_socket import DeskClient
from foundation.desks import AnalysedCamera, RuleSpec, VisionDesk, VisionPlan
from foundation.events import ViolationFlagged
from foundation.repositories.violations import Violation
from media.link import LinkServer
from orchestrator.control import WorkerAddress
from orchestrator.vision_process import DESK, open_vision, run_vision
from tests.analytics.coded_clip import Cameras, coded, over_again
from tests.analytics.evidence_room import Room, evidence_room
from tests.analytics.looks import street
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = requires("opencv-doc")

YARD = ((0.0, 0.3), (1.0, 0.3), (1.0, 1.0), (0.0, 1.0))
INTRUSION = RuleSpec("r1", "gate", "person-in-zone", "禁区", YARD, {"inside": 3, "of": 5, "outside": 5})
LOITERING = RuleSpec("r2", "gate", "loitering", "徘徊", YARD, {"seconds": 4, "tolerance": 3})
DARK = RuleSpec("r3", "gate", "black", "遮挡", (), {"seconds": 2, "recovery": 2})
LOST = RuleSpec("r4", "gate", "stream-lost", "断流", (), {"seconds": 1, "recovery": 2})


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with evidence_room(tmp_path) as room:
        yield room


def settings(room: Room, **analytics: object) -> Settings:
    return Settings(
        node=Node(id="nn", name="南宁", level="city", site_id="nanning"),
        networks=(),
        data=room.folder.parent,
        recordings=Recordings(folder=room.folder.parent / "recordings"),
        analytics=Analytics(**{"rate": 5.0, **analytics}),  # type: ignore[arg-type]  # fields of its own
    )


async def opened(room: Room, cameras: Cameras, stack: AsyncExitStack, **analytics: object) -> VisionKeeper:
    return await open_vision(settings(room, **analytics), cameras, room.database, room.events.append, stack)


def plan(*rules: RuleSpec) -> VisionPlan:
    return VisionPlan((AnalysedCamera("gate", "nanning", "大门", rules),))


async def flagged(room: Room, *kinds: str, timeout: float = 30) -> dict[str, Violation]:
    """The violations by kind, once there is one of each, with its snapshot."""

    def whole(found: Sequence[Violation]) -> bool:
        return set(kinds) <= {one.kind for one in found if one.snapshot_sha256}

    found = await until(room.violations, whole, f"violations {kinds}", timeout, 0.1)
    return {one.kind: one for one in found}


def walk() -> list[Bgr]:
    """A picture a second of the first minute, to be played at five times its speed."""
    return street(60)


async def test_people_in_a_yard_are_flagged_with_the_picture_that_shows_them(room: Room) -> None:
    source = Cameras({"camera:gate": [coded(walk(), fps=5, gop=5)]}, pace=1.0)
    async with AsyncExitStack() as stack:
        keeper = await opened(room, source, stack)
        await keeper.set_plan(plan(INTRUSION, LOITERING, DARK))
        found = await flagged(room, "person-in-zone")
        report = await keeper.report()
    violation = found["person-in-zone"]
    assert "black" not in found
    assert violation.model["name"] == "nanodet"
    assert len(violation.model["sha256"]) == 64
    assert violation.score >= 0.5
    assert violation.boxes
    evidence = settings(room).evidence_folder
    jpeg = (evidence / str(violation.snapshot_path)).read_bytes()
    assert hashlib.sha256(jpeg).hexdigest() == violation.snapshot_sha256
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (576, 768, 3)
    # The boxes hold what changed against an empty yard: nobody is drawn where nobody was.
    background = np.median(np.stack(walk()), axis=0)
    changed = np.abs(picture.astype(np.float32) - background).max(axis=2) > 30
    for _, _, x1, y1, x2, y2 in violation.boxes:
        inside = changed[round(y1 * 576) : round(y2 * 576), round(x1 * 768) : round(x2 * 768)]
        assert inside.mean() > 0.15
    assert isinstance(room.events[0], ViolationFlagged)
    (status,) = report.cameras
    assert status.state in ("watching", "overloaded")
    assert status.inferences > 0
    assert report.model == f"nanodet {violation.model['sha256']}"
    assert source.held == 0


async def test_a_wrong_model_leaves_the_tamper_checks(room: Room, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(DEFAULT_MODEL, model)
    data = bytearray((model / "model.onnx").read_bytes())
    data[-1] ^= 1
    (model / "model.onnx").write_bytes(data)
    dark = coded([np.zeros((90, 160, 3), np.uint8)] * 25, fps=5, gop=5)
    source = Cameras({"camera:gate": [over_again(dark, 4)]}, pace=1.0)
    async with AsyncExitStack() as stack:
        keeper = await opened(room, source, stack, model=model)
        await keeper.set_plan(plan(INTRUSION, DARK))
        found = await flagged(room, "black")
        report = await keeper.report()
    assert set(found) == {"black"}
    assert found["black"].model == {}
    assert "its SHA-256 is" in report.model
    assert "model.yaml expects" in report.model
    assert report.cameras[0].state == "failed"
    assert report.cameras[0].detail.startswith("禁区: cannot be judged: no usable model")


async def test_a_camera_that_goes_is_flagged_and_followed_when_it_comes_back(room: Room) -> None:
    clip = coded(walk()[:10], fps=5, gop=5)
    source = Cameras({"camera:gate": [clip]}, pace=1.0)
    async with AsyncExitStack() as stack:
        keeper = await opened(room, source, stack)
        await keeper.set_plan(plan(LOST))
        violation = (await flagged(room, "stream-lost"))["stream-lost"]
        assert violation.ended_at is None
        assert "last one before the loss: " in violation.snapshot_detail
        (status,) = (await keeper.report()).cameras
        assert status.state == "failed"
        source.acts["camera:gate"].append(over_again(clip, 20))
        await until(room.violations, lambda found: found[0].ended_at is not None, "its end", 40, 0.2)
    assert len(await room.violations()) == 1


async def test_over_sockets_as_a_process_of_its_own_has_it(room: Room, tmp_path: Path) -> None:
    source = Cameras({"camera:gate": [coded(walk(), fps=5, gop=5)]}, pace=1.0)
    worker, stop, ready = WorkerAddress("media-0", tmp_path / "m.desk"), asyncio.Event(), asyncio.Event()
    client = DeskClient(tmp_path / "v.desk")
    async with LinkServer(worker.link, source), asyncio.TaskGroup() as group:
        path = tmp_path / "v.desk"
        group.create_task(run_vision(settings(room), path, (worker,), stop, ready.set))
        await ready.wait()
        await client.connect(5)
        desk = client.desk(VisionDesk, DESK)
        await desk.set_plan(
            plan(replace(INTRUSION, schedule=({"days": [*range(7)], "from": "00:00", "to": "24:00"},)))
        )
        async with asyncio.timeout(30):
            event = await anext(client.events)
        assert isinstance(event, ViolationFlagged)
        assert (event.camera_id, event.site_id, event.kind) == ("gate", "nanning", "person-in-zone")
        violation = (await flagged(room, "person-in-zone"))["person-in-zone"]
        assert violation.id == event.violation_id
        assert (await desk.report()).cameras[0].samples > 0
        await client.aclose()
        stop.set()
