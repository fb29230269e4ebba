"""People walk into a zone: what becomes of it, from the camera to the reviewed evidence; processes killed."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pytest_asyncio

from analytics.detection import Bgr, Box, Detection
from analytics.detector import Detector
from analytics.model_package import DEFAULT_MODEL, load
from tests.journeys.clock import clock_of, pictures_of
from tests.journeys.live import Live, listening
from tests.peers.ffmpeg import probe
from tests.peers.node import PASSWORD, Api, Node, Refused
from tests.peers.picture import Picture
from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess
from tests.peers.requirement import requires
from tests.peers.street import Street, street
from tests.peers.waiting import until

pytestmark = [requires("opencv-doc", "ffmpeg"), pytest.mark.asyncio(loop_scope="module")]

YARD = [[0.42, 0.3], [0.98, 0.26], [0.98, 0.66], [0.42, 0.52]]
"""The road of vtest.avi, in shares of the picture with its margin. Somebody is in it in every frame shown."""
BEFORE = AFTER = 5.0
RATE = 2.0
"""Looks a second."""
PICTURE = 1.0
"""Seconds between what the row says and the clock in a picture: transport, decoding, a look's period."""
PATIENCE = 40.0


@dataclass(frozen=True, slots=True)
class Post:
    """A node that looks at the street, and who sits before it."""

    node: Node
    street: Street
    monitor: Api
    live: Live

    async def rule(self, kind: str, zone: list[list[float]] | None = None, **parameters: float) -> str:
        told = {"kind": kind, "name": f"禁区 {kind}", "zone": zone or [], "parameters": parameters}
        row = await self.monitor.post("/cameras/street/rules", told)
        return str(row["id"])

    async def no_rules(self) -> None:
        for rule in await self.monitor.get("/cameras/street/rules"):
            await self.monitor.delete(f"/rules/{rule['id']}")

    async def watching(self, **more: int) -> None:
        """Until the picture of now is looked at, and the recorder keeps it."""

        async def analysis() -> dict[str, Any]:
            found: dict[str, Any] = await self.monitor.get("/cameras/street/analysis")
            return found

        def looked(seen: dict[str, Any]) -> bool:
            fresh = seen["last_sample_ago"] is not None and seen["last_sample_ago"] < 2
            return seen["state"] == "watching" and fresh and all(seen[key] == more[key] for key in more)

        await until(analysis, looked, f"the street to be watched, with {more}", PATIENCE)

    async def violation(self, violation_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.monitor.get(f"/violations/{violation_id}")
        return found

    async def all(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.monitor.get("/violations?limit=200"))["items"]
        return items

    async def with_clip(self, violation_id: str) -> dict[str, Any]:
        return await until(
            lambda: self.violation(violation_id),
            lambda row: row["clip_state"] != "pending" and row["snapshot"],
            "its evidence",
            PATIENCE,
        )

    async def over(self, violation_id: str) -> dict[str, Any]:
        return await until(
            lambda: self.violation(violation_id),
            lambda row: row["ended_at"] is not None,
            "the violation to be over",
            PATIENCE,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def post(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    folder = tmp_path_factory.mktemp("post")
    settings = {
        "recordings": {"enabled": True, "reserve_megabytes": 16},
        "analytics": {"enabled": True, "rate": RATE},
    }
    with PortBlock() as ports:
        async with Node(folder / "node", settings=settings) as node, street(folder, ports.take()) as camera:
            manager = await node.user("system-admin")
            told = {"id": "street", "site_id": "wuming", "name": "武鸣街口", "url": camera.url}
            await manager.post("/cameras", told)
            keeper = await node.user("security-admin")
            county = {"name": "wuming-monitor", "roles": ["monitor"], "site_id": "wuming"}
            await keeper.post("/users", {**county, "password": PASSWORD})
            monitor = await node.user("wuming-monitor")
            async with listening(monitor) as live:
                yield Post(node, camera, monitor, live)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(load(DEFAULT_MODEL))


def persons(detector: Detector, picture: Bgr, least: float = 0.4) -> list[Detection]:
    found = detector.detect(picture)
    return [one for one in found if one.label == "person" and one.score >= least]


async def test_who_walks_into_the_zone_is_flagged_with_evidence_of_before_and_after(
    post: Post, detector: Detector, tmp_path: Path
) -> None:
    await post.rule("person-in-zone", YARD, cool_down=0)
    await post.watching(persons=0)
    await asyncio.sleep(BEFORE + 1.5)  # of an empty street, which is the pre-roll
    assert await post.all() == []
    post.street.show("people")
    came = time.time()

    event = await post.live.hears("ViolationFlagged", camera_id="street")
    assert event["kind"] == "person-in-zone"
    assert event["site_id"] == "wuming"
    row = await post.violation(event["violation_id"])  # there before the event
    started = datetime.fromisoformat(row["started_at"]).timestamp()
    assert came < started < came + 3 / RATE + 5, "three looks, and some slowness"
    assert row["rule"]["zone"] == YARD
    assert (row["state"], row["camera_name"], row["rule_name"]) == ("open", "武鸣街口", "禁区 person-in-zone")
    row = await post.with_clip(row["id"])
    assert (row["clip_state"], row["clip_detail"]) == ("ready", "")

    # The snapshot: the same bytes, the time of the violation, persons where the boxes are.
    jpeg, _ = await post.monitor.download(f"/violations/{row['id']}/snapshot.jpg?boxes=0")
    assert hashlib.sha256(jpeg).hexdigest() == row["snapshot_sha256"]
    picture = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    at = clock_of(picture[:, :, ::-1], started)
    assert at is not None
    assert came - 0.2 <= at <= started + 0.2
    assert row["boxes"]
    truth = persons(detector, picture)
    for box in row["boxes"]:
        assert box["label"] == "person"
        drawn = Box(box["x1"], box["y1"], box["x2"], box["y2"])
        feet = drawn.bottom_centre
        assert cv2.pointPolygonTest(np.array(YARD, np.float32), feet, measureDist=False) >= 0
        assert max(drawn.iou(one.box) for one in truth) > 0.7
        assert a_person_fills(detector, picture, drawn)
    assert row["model"]["sha256"] == detector.package.description.sha256

    # The clip: the same bytes, 5 s before and after by the clock in it, nobody at first, people at last.
    mp4, headers = await post.monitor.download(f"/violations/{row['id']}/clip.mp4")
    assert headers["Content-Type"] == "video/mp4"
    assert hashlib.sha256(mp4).hexdigest() == row["clip_sha256"]
    path = tmp_path / "clip.mp4"
    path.write_bytes(mp4)
    pictures = await asyncio.to_thread(pictures_of, path)
    times = [(media, clock_of(one, started)) for media, one in pictures]
    clocks = [(media, clock) for media, clock in times if clock is not None]
    assert len(clocks) > 0.9 * len(times)
    assert all(abs((clock - clocks[0][1]) - (media - clocks[0][0])) < 0.3 for media, clock in clocks)
    assert (
        -BEFORE - 1 - PICTURE <= clocks[0][1] - started <= -BEFORE + PICTURE
    )  # from a key frame, one a second
    assert AFTER - 1 - PICTURE <= clocks[-1][1] - started <= AFTER + 0.2
    assert persons(detector, bgr(pictures[0][1])) == []
    assert len(persons(detector, bgr(pictures[-1][1]))) >= 2
    length = float((await probe(tmp_path, str(path)))["format"]["duration"])
    assert 9.0 <= length <= 12.5

    # Both digests are in the chain of the audit, which is whole.
    auditor = await post.node.user("auditor")
    entries = await auditor.get("/audit?limit=1000")
    about = [entry for entry in entries if entry["subject"] == f"violation:{row['id']}"]
    kept = {entry["action"]: entry["detail"] for entry in about}
    assert kept["record-snapshot"]["sha256"] == row["snapshot_sha256"]
    assert kept["keep-clip"]["clip_sha256"] == row["clip_sha256"]
    assert "unbroken" in await doctor(post.node)


def bgr(picture: Picture) -> Bgr:
    return np.ascontiguousarray(picture[:, :, ::-1])


def a_person_fills(detector: Detector, picture: Bgr, box: Box) -> bool:
    """Whether the box, cut out with a little around it, shows a person to the detector by itself."""
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = box.x1 * width, box.y1 * height, box.x2 * width, box.y2 * height
    around = 0.5 * (y2 - y1)
    rows = slice(max(0, round(y1 - around)), round(y2 + around))
    columns = slice(max(0, round(x1 - around)), round(x2 + around))
    return bool(persons(detector, np.ascontiguousarray(picture[rows, columns])))


async def doctor(node: Node) -> str:
    """What `anshi doctor` says of the audit."""
    anshi = Path(sys.executable).parent / "anshi"
    command = [str(anshi), "doctor", "--config", str(node.config), "--data", str(node.data)]
    process = await PeerProcess.start("doctor", command, node.folder)
    await process.wait(60)
    lines = [line for line in process.words().splitlines() if "audit" in line]
    assert lines, process.words()
    return lines[-1]


async def test_one_monitor_reviews_and_another_is_told_so(post: Post) -> None:
    (row,) = await post.all()
    path, second = f"/violations/{row['id']}/review", await post.node.user("monitor")
    row = await post.violation(row["id"])
    claimed = await post.monitor.post(path, {"action": "claim", "version": row["version"]})
    assert (claimed["state"], claimed["claimed_by"]) == ("claimed", "wuming-monitor")
    changed = await post.live.hears("ViolationChanged", violation_id=row["id"], state="claimed")
    assert changed["site_id"] == "wuming"
    for action in ("claim", "confirm"):
        with pytest.raises(Refused, match="409") as refused:
            await second.post(path, {"action": action, "version": claimed["version"]})
        assert "wuming-monitor" in refused.value.problem["detail"]
    with pytest.raises(Refused, match="409"):  # of an old version
        await post.monitor.post(path, {"action": "confirm", "version": row["version"]})
    noted = await post.monitor.post(
        path, {"action": "comment", "comment": "两人未戴安全帽", "version": claimed["version"]}
    )
    operator = await post.node.user("operator")
    with pytest.raises(Refused, match="403"):
        await operator.post(path, {"action": "confirm", "version": noted["version"]})
    decided = await post.monitor.post(path, {"action": "confirm", "version": noted["version"]})
    assert (decided["state"], decided["decided_by"]) == ("confirmed", "wuming-monitor")
    log = (await post.violation(row["id"]))["log"]
    assert [(entry["event"], entry["actor"]) for entry in log] == [
        ("claimed", "wuming-monitor"),
        ("comment", "wuming-monitor"),
        ("confirmed", "wuming-monitor"),
    ]
    assert log[1]["comment"] == "两人未戴安全帽"
    auditor = await post.node.user("auditor")
    entries = await auditor.get("/audit?limit=1000")
    about = [entry["action"] for entry in entries if entry["subject"] == f"violation:{row['id']}"]
    assert about[-3:] == ["claim-violation", "comment-violation", "confirm-violation"]


async def test_a_killed_vision_flags_nothing_twice_and_what_is_open_goes_on(post: Post) -> None:
    (first,) = await post.all()
    assert first["ended_at"] is None, "people are in the zone all the while"
    await post.node.kill("vision")
    looks = 8
    await post.watching()
    before = (await post.monitor.get("/cameras/street/analysis"))["samples"]
    await until(
        lambda: post.monitor.get("/cameras/street/analysis"),
        lambda seen: seen["samples"] >= before + looks and seen["persons"] > 0,
        f"{looks} looks of the new process",
        PATIENCE,
    )
    (still,) = await post.all()
    assert (still["id"], still["ended_at"]) == (first["id"], None)
    post.street.show("empty")
    over = await post.over(first["id"])
    assert over["ended_at"] > over["started_at"]
    assert len(await post.all()) == 1


async def test_a_recorder_killed_before_the_clip_leaves_a_violation_that_says_what_is_missing(
    post: Post,
) -> None:
    await post.watching(persons=0)
    post.street.show("people")
    flagged = await post.live.hears("ViolationFlagged", kind="person-in-zone")
    await post.node.kill("recorder")
    row = await post.with_clip(flagged["violation_id"])
    assert row["clip_state"] in ("partial", "missing")
    assert "s before were not kept: the recorder began to keep this camera at" in row["clip_detail"]
    assert row["snapshot_sha256"]
    if row["clip_state"] == "partial":
        mp4, _ = await post.monitor.download(f"/violations/{row['id']}/clip.mp4")
        assert hashlib.sha256(mp4).hexdigest() == row["clip_sha256"]
    else:
        with pytest.raises(Refused, match="404") as refused:
            await post.monitor.download(f"/violations/{row['id']}/clip.mp4")
        assert refused.value.problem["detail"] == row["clip_detail"]
    post.street.show("empty")
    await post.over(row["id"])


async def test_black_frozen_and_away_are_violations_too(post: Post) -> None:
    await post.no_rules()
    await post.rule("black", seconds=2, recovery=1)
    await post.rule("frozen", seconds=4, recovery=1)
    await post.rule("stream-lost", seconds=3, recovery=2)
    await post.watching()

    post.street.show("black")
    black = await post.live.hears("ViolationFlagged", kind="black")
    post.street.show("empty")
    row = await post.over(black["violation_id"])
    assert row["model"] == {}
    jpeg, _ = await post.monitor.download(f"/violations/{row['id']}/snapshot.jpg?boxes=0")
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.asarray(picture).mean() < 30

    post.street.show("frozen")
    frozen = await post.live.hears("ViolationFlagged", kind="frozen")
    post.street.show("empty")
    row = await post.over(frozen["violation_id"])
    clip = await post.with_clip(row["id"])
    assert clip["clip_state"] == "ready", clip["clip_detail"]

    await post.street.take_down()
    lost = await post.live.hears("ViolationFlagged", kind="stream-lost")
    row = await post.with_clip(lost["violation_id"])
    assert row["clip_state"] == "partial"  # nothing came after
    assert "no picture was kept after" in row["clip_detail"]
    assert "the last one before the loss" in row["snapshot_detail"]
    await post.street.put_up()
    await post.over(row["id"])
    kinds = [one["kind"] for one in await post.all()]
    assert kinds == ["stream-lost", "frozen", "black", "person-in-zone", "person-in-zone"]
    assert "unbroken" in await doctor(post.node)
