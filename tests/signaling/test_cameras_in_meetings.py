"""Cameras as participants: admitted as a whole, in again after any loss, out when their row says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from foundation.clock import FakeClock
from foundation.database import Database, DatabaseBusy
from foundation.desk_client import DeskFailed
from foundation.desks import Budget, Refusal, RefusalKind, View, ViewMode
from foundation.events import CameraChanged
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.conferences import ParticipantState
from foundation.repositories.sites import Link
from signaling.admission import Ask, NotAdmitted
from signaling.camera_calls import CameraCalls, CameraOff, CameraRows, KnownCamera
from signaling.meeting import Access, Member, MemberState
from signaling.roster import AlreadyIn
from tests.peers.waiting import until_true
from tests.signaling.house import MBIT, House, locked

GATE = KnownCamera("gate", "nanning", "东门")
STREAM = "camera:gate"


@dataclass
class Cameras:
    """A lookup that knows what it is told."""

    known: dict[str, KnownCamera] = field(default_factory=lambda: {GATE.camera_id: GATE})

    async def __call__(self, camera_id: str) -> KnownCamera | None:
        return self.known.get(camera_id)


def calls(house: House, cameras: Cameras | None = None, measured: int = 0) -> CameraCalls:
    return CameraCalls(house.meetings, cameras or Cameras(), lambda _camera_id: measured)


async def shown(house: House, measured: int = 0) -> Member:
    return await calls(house, measured=measured).join(house.meeting.conference_id, GATE)


async def test_a_camera_joins_with_its_name_and_only_climbs(house: House) -> None:
    member = await shown(house)
    assert member.state is MemberState.CONNECTED
    assert member.budget == Budget(0, 3 * MBIT)
    assert [name for name, _ in house.desk.calls] == ["open", "admit_stream"]
    assert house.desk.streams == {member.participant_id: STREAM}
    spec = house.desk.participants[member.participant_id]
    assert (spec.name, spec.site_id, spec.budget) == ("东门", "nanning", member.budget)
    row = await house.row(member.participant_id)
    assert (row.state, row.address, row.site_id, row.name) == (
        ParticipantState.JOINED,
        STREAM,
        "nanning",
        "东门",
    )
    assert house.admission.carried_bps("gx-nn") == 3 * MBIT
    await house.meetings.leave(member.participant_id, "dropped")
    house.nothing_held()
    assert await house.reason(member.participant_id) == "dropped"


async def test_a_name_of_its_own_and_a_measured_rate(house: House) -> None:
    member = await calls(house, measured=MBIT).join(house.meeting.conference_id, GATE, "一号井口")
    assert member.caller.name == "一号井口"
    assert house.admission.carried_bps("gx-nn") == MBIT


async def test_once_in_a_meeting_and_never_when_off(house: House) -> None:
    await shown(house)
    with pytest.raises(AlreadyIn, match="camera:gate is in meeting 8001 already"):
        await shown(house)
    off = KnownCamera("yard", "nanning", "院子", enabled=False)
    with pytest.raises(CameraOff, match="camera yard"):
        await calls(house).join(house.meeting.conference_id, off)
    assert len(house.meeting.members) == 1


async def test_what_does_not_fit_whole_is_refused_with_the_link_named(house: House) -> None:
    await house.join("room")  # 3 of the link's 4 Mbit/s
    with pytest.raises(NotAdmitted, match=r"link gx-nn is full: capacity 4 .* carries 3 .* asked 3 "):
        await shown(house)
    assert len(house.meeting.members) == 1
    member = await shown(house, measured=900_000)
    assert house.admission.carried_bps("gx-nn") == 3_900_000
    assert member.budget.from_site_bps == 900_000


async def test_a_camera_takes_nothing_of_its_site_s_conference_budget(house: House) -> None:
    await calls(house, measured=MBIT).join(
        house.meeting.conference_id, KnownCamera("roof", "guangxi", "屋顶")
    )
    room = await house.join("room", "guangxi")
    assert room.budget == Budget(3 * MBIT, 3 * MBIT)


async def test_a_site_s_access_is_the_cameras_limit_and_their_assumed_rate(house: House) -> None:
    house.admission.replace_tree(
        house.admission._sites,
        (Link("gx-nn", "guangxi", "nanning", 50 * MBIT),),
        {"nanning": 3 * MBIT},
        {"nanning": 2 * MBIT},
    )
    member = await shown(house)
    assert member.budget.from_site_bps == 2 * MBIT
    yard = KnownCamera("yard", "nanning", "院子")
    with pytest.raises(NotAdmitted, match="access of site nanning is full: capacity 2 Mbit/s"):
        await calls(house).join(house.meeting.conference_id, yard)


async def test_a_camera_in_two_meetings_climbs_once(house: House) -> None:
    other = await house.meetings.open("二", "nation")
    await shown(house)
    second = await calls(house).join(other.conference_id, GATE)
    assert house.admission.carried_bps("gx-nn") == 3 * MBIT
    await house.meetings.leave(second.participant_id, "dropped")
    assert house.admission.carried_bps("gx-nn") == 3 * MBIT


def test_a_full_link_refuses_a_camera_in_either_direction_of_the_tree(house: House) -> None:
    """The camera above, the meeting's host below: the picture goes down."""
    admission = house.admission
    admission.admit(Ask("room", "nanning", "nation", Budget(3 * MBIT, MBIT)))
    with pytest.raises(NotAdmitted, match="gx-nn"):
        admission.admit(Ask("roof", "guangxi", "nanning", Budget(0, 2 * MBIT), "roof"))
    admission.admit(Ask("gate", "nanning", "nation", Budget(0, 3 * MBIT), "gate"))


@pytest.mark.parametrize(
    "failure",
    [Refusal(RefusalKind.NO_CAPACITY, "busy", 15), DeskFailed("a fault"), asyncio.CancelledError()],
)
async def test_a_desk_that_fails_undoes_all(house: House, failure: BaseException) -> None:
    house.desks["media-0"].failures["admit_stream"] = failure
    with pytest.raises(type(failure)):
        await shown(house)
    house.nothing_held()
    (row,) = await house.people()
    assert row.state is ParticipantState.FAILED


async def test_a_locked_database_refuses_a_camera(house: House) -> None:
    with locked(house.database), pytest.raises(DatabaseBusy):
        await shown(house)
    house.nothing_held()


async def test_full_screen_and_mute_as_anybody(house: House) -> None:
    member = await shown(house)
    view = View(ViewMode.FULL_SCREEN, member.participant_id)
    await house.meetings.set_view(house.meeting.conference_id, view)
    await house.set_muted(member.participant_id, True)
    assert house.desk.named("set_view") == [view]
    assert house.desk.named("set_muted") == [(member.participant_id, True)]


async def test_neither_silence_nor_lost_media_sends_a_camera_away(house: House) -> None:
    member = await shown(house)
    await house.meetings.silent(member.participant_id)
    await house.meetings.media_failed(member.participant_id, "no picture")
    assert member.state is MemberState.CONNECTED


async def test_a_lost_worker_s_cameras_are_admitted_at_another(house: House) -> None:
    await house.meetings.worker_ready("media-1", 101)
    member = await shown(house)
    lost = house.workers.worker_of(house.meeting.conference_id)
    assert lost == "media-0"
    assert not house.desks["media-0"].known
    await house.meetings.worker_lost("media-0")
    assert house.workers.worker_of(house.meeting.conference_id) == "media-1"
    assert house.desks["media-1"].known == {member.participant_id}, "no newcomer, who might be refused"
    assert house.desks["media-1"].streams == {member.participant_id: STREAM}


async def test_a_worker_lost_again_meanwhile_leaves_the_camera_in(house: House) -> None:
    await house.meetings.worker_ready("media-1", 101)
    member = await shown(house)
    house.desks["media-1"].failures["admit_stream"] = Refusal(RefusalKind.WORKER_LOST, "gone too")
    await house.meetings.worker_lost("media-0")
    assert house.meetings.state(member.participant_id) is MemberState.CONNECTED
    house.desks["media-1"].failures.clear()
    await house.meetings.worker_lost("media-1")
    await house.meetings.worker_ready("media-1", 102)
    assert house.desks["media-1"].streams == {member.participant_id: STREAM}


@pytest.mark.parametrize("stopped", [True, False])
async def test_after_a_restart_a_camera_is_in_its_meeting_again(
    house: House, database: Database, clock: FakeClock, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signaling.recovery.SETTLE_SECONDS", 0.05)
    member = await shown(house)
    room = await house.join("room", "guangxi")
    await house.set_muted(member.participant_id, True)
    view = View(ViewMode.FULL_SCREEN, member.participant_id)
    await house.meetings.set_view(house.meeting.conference_id, view)
    if stopped:
        await house.meetings.aclose()
    again = House(database, clock)
    await again.meetings.restore()
    (meeting,) = again.meetings.running
    again.meeting = meeting
    others = dict(meeting.members)
    back = others.pop(member.participant_id)
    assert list(others) == ([] if stopped else [room.participant_id])
    assert (back.participant_id, back.access, back.caller) == (
        member.participant_id,
        Access.STREAM,
        member.caller,
    )
    assert meeting.view == view
    assert again.admission.carried_bps("gx-nn") == 3 * MBIT
    left = ParticipantState.LEFT if stopped else ParticipantState.JOINED
    assert (await again.row(room.participant_id)).state is left
    await again.meetings.worker_ready("media-1", 7)
    desk = again.desks["media-1"]
    assert desk.named("open") == [meeting.spec]
    assert desk.streams == {member.participant_id: STREAM}
    assert desk.participants[member.participant_id].muted
    for one in (member, *others.values()):
        await again.meetings.leave(one.participant_id, "dropped")
    again.nothing_held()


async def test_edited_sites_leave_a_camera_s_rate_alone(house: House) -> None:
    member = await shown(house)
    house.admission.replace_tree(
        house.admission._sites, (Link("gx-nn", "guangxi", "nanning", MBIT),), {"nanning": 3 * MBIT}
    )
    await house.meetings.sites_changed()
    assert member.budget == Budget(0, 3 * MBIT)
    assert house.admission.carried_bps("gx-nn") == 3 * MBIT


async def test_a_camera_that_is_removed_or_switched_off_leaves(house: House) -> None:
    cameras = Cameras()
    following = calls(house, cameras)
    member = await shown(house)
    stale = await following.join(house.meeting.conference_id, KnownCamera("old", "guangxi", "旧"))
    running = asyncio.create_task(following.run(house.bus))

    def is_out(one: Member) -> bool:
        return house.meetings.state(one.participant_id) is MemberState.LEFT

    await until_true(lambda: is_out(stale), "a camera without a row to be out", 5.0)
    house.bus.publish(CameraChanged("gate", "nanning"))
    cameras.known["gate"] = KnownCamera("gate", "nanning", "东门", enabled=False)
    house.bus.publish(CameraChanged("gate", "nanning"))
    await until_true(lambda: is_out(member), "the switched off camera to be out", 5.0)

    async def is_written() -> bool:
        return await house.reason(member.participant_id) is not None

    await until_true(is_written, "its row to say why", 5.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await house.reason(member.participant_id) == "camera switched off"
    assert await house.reason(stale.participant_id) == "camera removed"


async def test_a_camera_is_known_by_its_row(database: Database, clock: FakeClock) -> None:
    known = CameraRows(database)
    assert await known("gate") is None
    row = Camera("gate", "nanning", "东门", "rtsp://192.0.2.7/1", clock.now(), enabled=False)
    async with database.transaction() as tx:
        await CameraRepository(tx).add(row)
    assert await known("gate") == KnownCamera("gate", "nanning", "东门", enabled=False)
