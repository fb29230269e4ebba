"""Who left is out of its row too, however busy the database was."""

from __future__ import annotations

import contextlib

import pytest

from foundation.repositories.conferences import ParticipantState
from signaling import departures
from tests.peers.waiting import until
from tests.signaling.house import House, locked


async def test_a_row_that_cannot_be_closed_is_closed_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departures, "AGAIN_SECONDS", 0.05)
    room, desk = await house.join("room"), await house.join("desk", "guangxi")
    with locked(house.database):
        await house.meetings.leave(room.participant_id, "hung up", hang_up=False)
        assert (await house.row(room.participant_id)).state is ParticipantState.JOINED
    row = await until(
        lambda: house.row(room.participant_id),
        lambda row: row is not None and row.state is ParticipantState.LEFT,
        "the row to be closed",
        10,
    )
    assert row is not None
    assert await house.reason(room.participant_id) == "hung up"
    assert (await house.row(desk.participant_id)).state is ParticipantState.JOINED


async def test_what_waits_is_tried_once_more_at_the_end(house: House) -> None:
    room = await house.join("room")
    with contextlib.ExitStack() as lock:
        lock.enter_context(locked(house.database))
        await house.meetings.leave(room.participant_id, "hung up", hang_up=False)
    await house.meetings.aclose()
    assert (await house.row(room.participant_id)).state is ParticipantState.LEFT


async def test_one_who_is_gone_before_it_was_written_has_a_row_that_says_why(house: House) -> None:
    async def drop() -> None:
        (participant_id,) = house.meeting.members
        await house.meetings.leave(participant_id, "dropped")

    house.desks["media-0"].meanwhile["admit"] = drop
    with pytest.raises(Exception, match="has left meanwhile"):
        await house.join("room")
    (row,) = await house.people()
    assert (row.state, row.name) == (ParticipantState.FAILED, "room")
    assert await house.reason(row.id) == "dropped"
