"""What a site may send and take: of newcomers and of those who leave, by what they ask, and by order."""

from __future__ import annotations

import pytest

from foundation.database import DatabaseBusy
from foundation.desks import Budget, Refusal, RefusalKind
from signaling.site_budgets import SOUND_BPS
from tests.signaling.house import FULL, HALF, MBIT, House, description, locked


async def test_a_peer_that_takes_less_is_budgeted_less_but_never_out_of_its_sound(house: House) -> None:
    member = await house.join("room", offer=description(5004, 768_000))
    assert member.budget == Budget(768_000, 3 * MBIT)
    phone = await house.join("phone", "guangxi", offer=description(5004, 20_000))
    assert phone.budget.to_site_bps == SOUND_BPS


async def test_a_newcomer_lowers_its_mates_and_its_end_gives_back(house: House) -> None:
    room = await house.join("room", "guangxi")
    desk = await house.join("desk", "guangxi")
    assert (room.budget, desk.budget) == (HALF, HALF)
    assert (room.participant_id, HALF) in house.desk.named("set_budget")
    assert (await house.record(room.participant_id)).budget == HALF
    await house.meetings.leave(desk.participant_id, "hung up")
    assert room.budget == FULL
    assert house.desk.named("set_budget")[-1] == (room.participant_id, FULL)
    assert house.admission.held(room.participant_id) == FULL


@pytest.mark.parametrize("called", [False, True])
async def test_what_a_newcomer_loses_while_it_comes_reaches_its_worker(house: House, called: bool) -> None:
    """Once the worker knows it, and once."""
    await house.join("nobody's mate")
    house.desk.meanwhile["offer" if called else "admit"] = lambda: house.join("desk", "guangxi")
    room = await (house.dial("room") if called else house.join("room", "guangxi"))
    assert room.budget == HALF
    assert house.desk.participants[room.participant_id].budget == FULL, "told before"
    assert house.desk.named("set_budget") == [(room.participant_id, HALF)]
    assert (await house.record(room.participant_id)).budget == HALF


@pytest.mark.parametrize("busy", [False, True])
async def test_a_newcomer_that_fails_gives_back_too(house: House, busy: bool) -> None:
    room = await house.join("room", "guangxi")
    if busy:
        with locked(house.database), pytest.raises(DatabaseBusy):
            await house.join("desk", "guangxi")
    else:
        house.desk.failures["admit"] = Refusal(RefusalKind.NO_COMMON_CODEC, "no codec")
        with pytest.raises(Refusal):
            await house.join("desk", "guangxi")
    assert room.budget == FULL
    assert house.admission.held(room.participant_id) == FULL


async def test_a_budget_is_changed_and_a_failing_desk_changes_nothing(house: House) -> None:
    member = await house.join("room")
    mate = await house.join("mate")
    lowered = (member.budget, mate.budget)
    assert lowered[0].to_site_bps + lowered[1].to_site_bps <= 3 * MBIT
    small = Budget(500_000, 500_000)
    assert await house.meetings.set_budget(member.participant_id, small) == small
    assert (await house.record(member.participant_id)).budget == small
    house.desk.failures["set_budget"] = Refusal(RefusalKind.WORKER_LOST, "gone")
    with pytest.raises(Refusal):
        await house.meetings.set_budget(member.participant_id, Budget(2 * MBIT, 2 * MBIT))
    assert (member.wanted, member.budget) == (small, small)
    assert house.admission.held(member.participant_id) == small
    assert (await house.record(member.participant_id)).budget == small
    del house.desk.failures["set_budget"]
    with locked(house.database), pytest.raises(DatabaseBusy):
        await house.meetings.set_budget(member.participant_id, FULL)
    assert house.admission.held(member.participant_id) == small
