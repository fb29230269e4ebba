"""Peers of whom nothing is heard are probed, and let go; pages whose transport failed offer anew."""

from __future__ import annotations

import asyncio

import pytest

from signaling import meetings as meetings_module
from signaling.meeting import MemberState
from tests.peers.waiting import until_true
from tests.signaling.house import OFFER, House, locked
from tests.signaling.recording_desk import RecordingLine


async def test_a_silent_peer_that_answers_stays_and_is_probed_again(house: House) -> None:
    line = RecordingLine()
    member = await house.join("room", line=line)
    await house.meetings.silent(member.participant_id)
    assert member.state is MemberState.SILENT
    assert line.probes == 1
    await house.meetings.heard(member.participant_id)
    assert house.meetings.state(member.participant_id) is MemberState.CONNECTED
    await house.meetings.silent(member.participant_id)
    line.alive = False  # it answered once, and vanished later
    await house.meetings.silent(member.participant_id)
    assert house.meetings.state(member.participant_id) is MemberState.LEFT
    assert await house.reason(member.participant_id) == "vanished: no media and no answer"
    house.nothing_held()


async def test_a_probe_without_an_answer_is_waited_for_only_so_long(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meetings_module, "PROBE_SECONDS", 0.05)
    line = RecordingLine()
    line.hanging = asyncio.Event()
    member = await house.join("room", line=line)
    await house.meetings.silent(member.participant_id)
    assert house.meetings.state(member.participant_id) is MemberState.LEFT
    assert line.hung_up == ["vanished: no media and no answer"]


async def test_one_who_is_heard_during_the_probe_stays(house: House) -> None:
    line = RecordingLine(alive=False)
    line.hanging = asyncio.Event()
    member = await house.join("room", line=line)
    probing = asyncio.create_task(house.meetings.silent(member.participant_id))
    await until_true(lambda: line.probes == 1, "the probe", 2.0)
    await house.meetings.heard(member.participant_id)
    line.hanging.set()
    await probing
    assert house.meetings.state(member.participant_id) is MemberState.CONNECTED


async def test_silence_during_a_locked_database_raises_nothing(house: House) -> None:
    """What workers tell runs in main's own scope: an exception there would end main."""
    member = await house.join("room", line=RecordingLine(alive=False))
    with locked(house.database):
        await house.meetings.silent(member.participant_id)
    house.nothing_held()
    await house.meetings.silent("unknown")
    await house.meetings.heard("unknown")


async def test_a_page_whose_transport_failed_has_a_moment_to_offer_anew(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meetings_module, "REOFFER_SECONDS", 0.05)
    stays, goes = await house.join("stays", "nation"), await house.join("goes", "guangxi")
    failing = [house.meetings.media_failed(m.participant_id, "DTLS failed") for m in (stays, goes)]
    both = asyncio.gather(*failing)
    await house.meetings.renegotiate(stays.participant_id, OFFER)
    await both
    assert list(house.meeting.members) == [stays.participant_id]
