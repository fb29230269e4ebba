"""Cameras, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from foundation.database import Database
from foundation.repositories.broadcasts import Broadcast, BroadcastKind, BroadcastRepository
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.rules import Rule, RuleRepository
from foundation.schema import RecordingOrderRow

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
GATE = Camera(
    "34020000001320000001", "nanning", "大门", "rtsp://10.0.0.1/1", NOON, "admin", "s3cret", udp=True
)


async def test_a_camera_is_kept_changed_and_removed(database: Database) -> None:
    yard = Camera("yard", "guangxi", "后院", "rtsp://10.0.0.2/1", NOON)
    async with database.transaction() as tx:
        cameras = CameraRepository(tx)
        await cameras.add(yard)
        await cameras.add(GATE)
        assert await cameras.get(GATE.id) == GATE
        assert await cameras.get("roof") is None
        assert await cameras.all() == (GATE, yard)
        assert await cameras.in_sites({"guangxi"}) == (yard,)
        changed = replace(GATE, name="西门", password="other", enabled=False)
        await cameras.change(changed)
    async with database.transaction() as tx:
        cameras = CameraRepository(tx)
        assert await cameras.get(GATE.id) == changed
        assert await cameras.remove(GATE.id, NOON)
        assert not await cameras.remove(GATE.id, NOON)
        assert await cameras.all() == (yard,)


async def test_what_is_done_with_cameras_is_known_and_goes_with_them(database: Database) -> None:
    async with database.transaction() as tx:
        cameras = CameraRepository(tx)
        await cameras.add(GATE)
        await cameras.add(replace(GATE, id="yard"))
        await RuleRepository(tx).add(Rule("r1", GATE.id, "black", "遮挡", NOON))
        await RuleRepository(tx).add(Rule("r2", "yard", "black", "遮挡", NOON, enabled=False))
        for kind, subject in (("camera", GATE.id), ("conference", "yard")):
            order = RecordingOrderRow(
                kind=kind, subject=subject, site_id="nanning", ordered_by="wei", ordered_at=NOON
            )
            tx.add(order)
        await tx.flush()
        assert await cameras.recorded() == {GATE.id}
        assert await cameras.analysed() == {GATE.id}
        await cameras.remove(GATE.id, NOON)
        assert await cameras.recorded() == frozenset()
        assert await cameras.analysed() == frozenset()


async def test_a_broadcast_ends_with_its_camera_and_does_not_show_the_next_of_that_id(
    database: Database,
) -> None:
    gate = Broadcast(
        "b1",
        "private",
        "东门",
        BroadcastKind.CAMERA,
        GATE.id,
        "nanning",
        False,
        0,
        "rtmp://x/y/z",
        "wei",
        NOON,
    )
    async with database.transaction() as tx:
        cameras, broadcasts = CameraRepository(tx), BroadcastRepository(tx)
        await cameras.add(GATE)
        await broadcasts.add(gate)
        await broadcasts.add(replace(gate, id="b2", name="yard", subject="yard"))
        await broadcasts.add(
            replace(gate, id="b3", name="meeting", kind=BroadcastKind.CONFERENCE, subject=GATE.id)
        )
        await cameras.remove(GATE.id, NOON)
        await cameras.add(replace(GATE, site_id="guangxi"))
    async with database.reading() as tx:
        broadcasts = BroadcastRepository(tx)
        assert {one.id for one in await broadcasts.running()} == {"b2", "b3"}
        assert await broadcasts.get("b1") == replace(gate, stopped_at=NOON, push_url="")


@pytest.mark.parametrize("wrong", ["", "a b", "a/b", "相机", "x" * 65, "../x"])
def test_an_id_that_cannot_be(wrong: str) -> None:
    with pytest.raises(ValueError, match="camera id"):
        replace(GATE, id=wrong)


def test_the_password_does_not_show() -> None:
    assert "s3cret" not in repr(GATE)
