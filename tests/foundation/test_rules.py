"""Rules, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime

from foundation.database import Database
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.rules import Rule, RuledCamera, RuleRepository

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
RULE = Rule(
    "r1",
    "gate",
    "person-in-zone",
    "禁区",
    NOON,
    ((0.1, 0.2), (0.9, 0.2), (0.5, 1.0)),
    {"inside": 3, "score": 0.5},
    ({"days": [0, 6], "from": "22:00", "to": "06:00"},),
)


async def test_rules_of_cameras_that_are_on(database: Database) -> None:
    async with database.transaction() as tx:
        cameras, rules = CameraRepository(tx), RuleRepository(tx)
        await cameras.add(Camera("gate", "nanning", "大门", "rtsp://10.0.0.1/1", NOON))
        await cameras.add(Camera("yard", "nanning", "后院", "rtsp://10.0.0.2/1", NOON, enabled=False))
        await cameras.add(Camera("roof", "nanning", "屋顶", "rtsp://10.0.0.3/1", NOON))
        black = Rule("r2", "gate", "black", "遮挡", NOON)
        off = Rule("r3", "gate", "frozen", "冻结", NOON, enabled=False)
        for rule in (RULE, black, off, replace(RULE, id="r4", camera_id="yard")):
            await rules.add(rule)
        assert await rules.at_work() == (RuledCamera("gate", "nanning", "大门", (RULE, black)),)
        assert await rules.of_camera("gate") == (RULE, black, off)
        assert await rules.of_camera("roof") == ()


async def test_a_rule_is_changed_removed_and_goes_with_its_camera(database: Database) -> None:
    changed = replace(RULE, name="危险区", zone=(), enabled=False)
    async with database.transaction() as tx:
        cameras, rules = CameraRepository(tx), RuleRepository(tx)
        await cameras.add(Camera("gate", "nanning", "大门", "rtsp://10.0.0.1/1", NOON))
        await rules.add(RULE)
        await rules.change(changed)
        assert await rules.get("r1") == changed
        await rules.add(replace(RULE, id="r2"))
        assert await rules.remove("r1")
        assert not await rules.remove("r1")
        await cameras.remove("gate", NOON)
    async with database.reading() as tx:
        assert await RuleRepository(tx).get("r2") is None
