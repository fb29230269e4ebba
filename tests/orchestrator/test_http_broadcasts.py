"""Broadcasts over the API: who may start, see and stop them; what the edge is told; secrets kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from config.settings import Edge
from foundation.authorisation import Authorisation, Role
from foundation.clock import FakeClock
from foundation.database import Database, DatabaseBusy
from foundation.desk_client import DeskFailed
from foundation.desks import BroadcastPlan, BroadcastStatus, Refusal, RefusalKind
from foundation.events import BroadcastChanged, Event
from foundation.repositories.broadcasts import Broadcast, BroadcastRepository
from foundation.schema import CameraRow
from foundation.site_tree import SiteTree
from stream_relay.broadcast_book import BroadcastBook
from stream_relay.http_broadcasts import BroadcastRoutes
from tests.keys import BOX
from tests.orchestrator.http_service import SITES, Service, problem, serving, settings_with

PATH = "/api/v1/broadcasts"
PUSH = "rtmps://live.example.cn/app/s3cret-key?token=t0ken"


@dataclass
class FakeEdge:
    """The edge's desk; gone while `lost`, and with a defect while `broken`."""

    plans: list[BroadcastPlan] = field(default_factory=list)
    statuses: tuple[BroadcastStatus, ...] = ()
    lost: bool = False
    broken: bool = False

    async def set_plan(self, plan: BroadcastPlan) -> None:
        self._check()
        self.plans.append(plan)

    async def report(self) -> tuple[BroadcastStatus, ...]:
        self._check()
        return self.statuses

    def _check(self) -> None:
        if self.lost:
            raise Refusal(RefusalKind.WORKER_LOST, "the edge is gone")
        if self.broken:
            raise DeskFailed("KeyError: 'programme'")


@dataclass
class Studio:
    service: Service
    edge: FakeEdge
    book: BroadcastBook
    events: list[Event]

    async def post(self, who: Any, **body: Any) -> Any:
        return await self.service.client.post(PATH, json=body, headers=who.bearer)

    async def started(self, who: Any, **body: Any) -> dict[str, Any]:
        answer = await self.post(who, **body)
        assert answer.status == 201, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found

    async def listed(self, who: Any) -> list[dict[str, Any]]:
        answer = await self.service.client.get(PATH, headers=who.bearer)
        assert answer.status == 200, await answer.text()
        found: list[dict[str, Any]] = await answer.json()
        return found


@asynccontextmanager
async def studio_on(path: Path, edge_settings: Edge | None = None) -> AsyncIterator[Studio]:
    settings = replace_edge(edge_settings)
    database = Database(f"sqlite:///{path}", busy_timeout=0.3, secrets=BOX)
    async with database.transaction() as tx:
        for camera, site in (("cam-nanning", "nanning"), ("cam-guangdong", "guangdong")):
            tx.add(
                CameraRow(
                    id=camera,
                    site_id=site,
                    name=f"{camera} 大门",
                    url="rtsp://10.0.0.1/1",
                    username=None,
                    password="",
                    udp=False,
                    enabled=True,
                    created_at=datetime(2026, 1, 1, tzinfo=UTC),
                )
            )
        await tx.flush()
    edge, events, clock = FakeEdge(), list[Event](), FakeClock()
    book = BroadcastBook(database, clock, edge, events.append)
    routes = BroadcastRoutes(
        settings=settings,
        database=database,
        clock=clock,
        authorisation=Authorisation(SiteTree({one.id: one.parent_id for one in SITES}), "guangxi"),
        statuses=book.statuses,
        changed=book.changed,
        publish=events.append,
    ).routes
    async with serving(path, settings=settings, extra=routes) as service:
        yield Studio(service, edge, book, events)
    await database.aclose()


def replace_edge(edge: Edge | None) -> Any:
    import msgspec

    settings = settings_with()
    return settings if edge is None else msgspec.structs.replace(settings, edge=edge)


@pytest.fixture
async def studio(sqlite_file: Path) -> AsyncIterator[Studio]:
    async with studio_on(sqlite_file) as studio:
        yield studio


async def test_a_meeting_is_broadcast_changed_and_stopped(studio: Studio) -> None:
    operator = await studio.service.user(Role.OPERATOR)
    meeting = await studio.service.meeting()
    made = await studio.started(operator, kind="conference", subject=meeting.conference_id, name="regular")
    assert made["title"] == "安全生产例会"
    assert (made["state"], made["viewers"], made["public"]) == ("waiting", 0, True)
    assert made["watch_url"] == "https://127.0.0.1:8444/watch/regular"
    assert made["playlist_url"] == "https://127.0.0.1:8444/live/regular/index.m3u8"
    (spec,) = studio.edge.plans[-1].broadcasts
    assert (spec.name, spec.stream_id) == ("regular", f"programme:{meeting.conference_id}")
    one = f"{PATH}/{made['id']}"
    client, headers = studio.service.client, operator.bearer
    answer = await client.patch(one, json={"delay_seconds": 30, "title": "新标题"}, headers=headers)
    assert (await answer.json())["delay_seconds"] == 30
    (spec,) = studio.edge.plans[-1].broadcasts
    assert (spec.delay, spec.title) == (30.0, "新标题")
    taken = await studio.post(operator, kind="conference", subject=meeting.conference_id, name="regular")
    assert "is running" in (await problem(taken, 409))["detail"]
    for _ in range(2):
        assert (await client.delete(one, headers=headers)).status == 204
    assert studio.edge.plans[-1].broadcasts == ()
    (listed,) = await studio.listed(operator)
    assert (listed["state"], bool(listed["stopped_at"])) == ("stopped", True)
    assert (await client.patch(one, json={"title": "x"}, headers=headers)).status == 409
    states = [event.state for event in studio.events if isinstance(event, BroadcastChanged)]
    assert states == ["waiting", "waiting", "stopped"]
    actions = [record.action for record in await studio.service.audited()]
    assert actions[-3:] == ["start-broadcast", "change-broadcast", "stop-broadcast"]


async def test_what_the_edge_says_is_shown_and_announced(studio: Studio) -> None:
    operator = await studio.service.user(Role.OPERATOR)
    meeting = await studio.service.meeting()
    await studio.started(operator, kind="conference", subject=meeting.conference_id, name="regular")
    studio.edge.statuses = (BroadcastStatus("regular", "live", "", 1234, 99, 0.7, "pushing", ""),)
    studio.events.clear()
    polling = asyncio.create_task(studio.book.run())
    async with asyncio.timeout(5):
        while not studio.events:  # noqa: ASYNC110 - what is published has no event of its own here
            await asyncio.sleep(0.01)
    polling.cancel()
    (listed,) = await studio.listed(operator)
    assert (listed["state"], listed["viewers"], listed["latency"]) == ("live", 1234, 0.7)
    assert [getattr(event, "state", "") for event in studio.events] == ["live"]


async def test_an_edge_that_is_gone_is_told_when_it_is_back(studio: Studio) -> None:
    operator = await studio.service.user(Role.OPERATOR)
    meeting = await studio.service.meeting()
    studio.edge.lost = True
    made = await studio.started(operator, kind="conference", subject=meeting.conference_id)
    assert studio.edge.plans == []
    studio.edge.lost = False
    await studio.book.edge_ready()
    assert [spec.name for spec in studio.edge.plans[-1].broadcasts] == [made["name"]]


async def test_an_edge_that_fails_is_no_failure_of_what_was_asked(studio: Studio) -> None:
    """The row is committed by then: the answer says so, and so does the event."""
    operator = await studio.service.user(Role.OPERATOR)
    meeting = await studio.service.meeting()
    studio.edge.broken = True
    made = await studio.started(operator, kind="conference", subject=meeting.conference_id)
    assert [event.broadcast_id for event in studio.events if isinstance(event, BroadcastChanged)] == [
        made["id"]
    ]
    await studio.book._poll()
    (listed,) = await studio.listed(operator)
    assert listed["state"] == made["state"], "nothing is known of it, and that is no error"
    studio.edge.broken = False
    await studio.book.changed()
    assert [spec.name for spec in studio.edge.plans[-1].broadcasts] == [made["name"]]


async def test_an_edge_that_came_while_the_database_was_locked_is_told_later(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = await studio.service.user(Role.OPERATOR)
    made = await studio.started(operator, kind="camera", subject="cam-nanning")
    studio.edge.plans.clear()

    async def busy(_rows: BroadcastRepository) -> tuple[Broadcast, ...]:
        raise DatabaseBusy("database anshi.db is busy")

    with monkeypatch.context() as patch:
        patch.setattr(BroadcastRepository, "running", busy)
        with pytest.raises(DatabaseBusy):
            await studio.book.edge_ready()
    polling = asyncio.create_task(studio.book.run())
    async with asyncio.timeout(5):
        while not studio.edge.plans:  # noqa: ASYNC110 - the double has no event
            await asyncio.sleep(0.01)
    polling.cancel()
    assert [spec.name for spec in studio.edge.plans[-1].broadcasts] == [made["name"]]


async def test_the_end_of_a_meeting_ends_its_broadcast_and_no_other(studio: Studio) -> None:
    operator = await studio.service.user(Role.OPERATOR)
    first, second = await studio.service.meeting(), await studio.service.meeting()
    for meeting in (first, second):
        await studio.started(operator, kind="conference", subject=meeting.conference_id)
    await studio.book.conference_ended(first.conference_id)
    assert [one.stream_id for one in studio.edge.plans[-1].broadcasts] == [
        f"programme:{second.conference_id}"
    ]
    ended = await studio.post(operator, kind="conference", subject="none")
    await problem(ended, 404)
    await studio.service.meetings.end(second.conference_id, "over")
    late = await studio.post(operator, kind="conference", subject=second.conference_id)
    assert "has ended" in (await problem(late, 409))["detail"]


async def test_a_meeting_that_ended_while_nobody_looked_is_not_broadcast_for_ever(studio: Studio) -> None:
    operator = await studio.service.user(Role.OPERATOR)
    meeting = await studio.service.meeting()
    await studio.started(operator, kind="conference", subject=meeting.conference_id)
    await studio.started(operator, kind="camera", subject="cam-nanning")
    await studio.service.meetings.end(meeting.conference_id, "over")
    polling = asyncio.create_task(studio.book.run())
    async with asyncio.timeout(5):
        while len(studio.edge.plans[-1].broadcasts) != 1:  # noqa: ASYNC110 - the double has no event
            await asyncio.sleep(0.01)
    polling.cancel()
    assert studio.edge.plans[-1].broadcasts[0].stream_id == "camera:cam-nanning"


async def test_a_private_broadcast_of_a_camera_is_known_to_those_who_may_see_the_camera(
    studio: Studio,
) -> None:
    operator = await studio.service.user(Role.OPERATOR)
    made = await studio.started(operator, kind="camera", subject="cam-nanning", public=False)
    assert len(made["name"]) == 32
    again = await studio.started(operator, kind="camera", subject="cam-nanning", public=False)
    assert again["name"] != made["name"]
    named = await studio.post(operator, kind="camera", subject="cam-nanning", public=False, name="gate")
    assert "cannot be guessed" in (await problem(named, 400))["detail"]
    assert studio.edge.plans[-1].broadcasts[0].stream_id == "camera:cam-nanning"
    monitor = await studio.service.user(Role.MONITOR, site="nanning")
    viewer = await studio.service.user(Role.VIEWER, site="nanning")
    other = await studio.service.user(Role.MONITOR, site="guangdong")
    assert [one["id"] for one in await studio.listed(monitor)].count(made["id"]) == 1
    assert await studio.listed(viewer) == []
    assert await studio.listed(other) == []
    assert made["name"] not in str([record.detail for record in await studio.service.audited()])


async def test_who_may_not_start_change_or_stop(studio: Studio) -> None:
    operator = await studio.service.user(Role.OPERATOR)
    county = await studio.service.user(Role.OPERATOR, site="cenxi")
    monitor = await studio.service.user(Role.MONITOR)
    meeting = await studio.service.meeting()
    made = await studio.started(operator, kind="conference", subject=meeting.conference_id)
    for who in (county, monitor):
        await problem(await studio.post(who, kind="conference", subject=meeting.conference_id), 403)
        one = f"{PATH}/{made['id']}"
        await problem(await studio.service.client.delete(one, headers=who.bearer), 403)
        await problem(await studio.service.client.patch(one, json={}, headers=who.bearer), 403)
    await problem(await studio.post(operator, kind="camera", subject="cam-guangdong"), 403)
    await problem(await studio.service.client.get(PATH), 401)
    assert await studio.listed(county) == []


async def test_a_push_address_is_for_those_who_run_it_and_for_nobody_after_the_end(studio: Studio) -> None:
    operator = await studio.service.user(Role.OPERATOR)
    viewer = await studio.service.user(Role.VIEWER)
    meeting = await studio.service.meeting()
    for address in ("http://live.example/s3cret-key", "rtmp://live.example/s3cret-key"):
        refused = await studio.post(
            operator, kind="conference", subject=meeting.conference_id, push_url=address
        )
        assert "s3cret" not in str(await problem(refused, 422))
    made = await studio.started(operator, kind="conference", subject=meeting.conference_id, push_url=PUSH)
    assert made["push_url"] == "rtmps://live.example.cn/…"
    assert studio.edge.plans[-1].broadcasts[0].push_url == PUSH
    one = f"{PATH}/{made['id']}"
    back = await studio.service.client.patch(
        one, json={"push_url": made["push_url"]}, headers=operator.bearer
    )
    assert "without its secret" in str(await problem(back, 422))
    await studio.service.client.patch(one, json={"title": "other"}, headers=operator.bearer)
    assert studio.edge.plans[-1].broadcasts[0].push_url == PUSH
    async with studio.service.database.reading() as tx:
        stored = await tx.scalar(text("SELECT push_url FROM broadcasts"))
    assert stored.startswith("sealed1:")
    assert "s3cret" not in stored
    (seen,) = await studio.listed(viewer)
    assert (seen["push_url"], seen["push_detail"]) == (None, "")
    audited = str([record.detail for record in await studio.service.audited()])
    assert "live.example.cn" in audited
    assert "s3cret" not in audited
    await studio.service.client.delete(f"{PATH}/{made['id']}", headers=operator.bearer)
    assert (await studio.listed(operator))[0]["push_url"] == ""


async def test_addresses_are_those_that_the_settings_name(sqlite_file: Path) -> None:
    async with studio_on(sqlite_file, Edge(external_url="https://live.gx.example/")) as studio:
        operator = await studio.service.user(Role.OPERATOR)
        meeting = await studio.service.meeting()
        made = await studio.started(
            operator, kind="conference", subject=meeting.conference_id, name="regular"
        )
        assert made["watch_url"] == "https://live.gx.example/watch/regular"
    async with studio_on_without_edge(sqlite_file) as studio:
        operator = await studio.service.user(Role.OPERATOR, name="second")
        meeting = await studio.service.meeting()
        refused = await studio.post(operator, kind="conference", subject=meeting.conference_id)
        assert "edge.enabled is off" in (await problem(refused, 409))["detail"]


@asynccontextmanager
async def studio_on_without_edge(path: Path) -> AsyncIterator[Studio]:
    database = Database(f"sqlite:///{path}", secrets=BOX)
    async with database.transaction() as tx:
        from sqlalchemy import delete

        await tx.execute(delete(CameraRow))
    await database.aclose()
    async with studio_on(path, Edge(enabled=False)) as studio:
        yield studio
