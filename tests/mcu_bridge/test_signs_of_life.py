"""Silence, pictures that stop, and how a key frame is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foundation.desks import MediaDescription
from foundation.events import FastUpdateWanted, ParticipantHeard, ParticipantSilent
from mcu_bridge import conference as conference_module
from tests.mcu_bridge.conftest import LEFT, MEETING, Stage
from tests.mcu_bridge.rtp_peer import RED, RtpPeer
from tests.peers.waiting import until_true


async def test_silence_is_told_and_told_again_and_so_is_its_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conference_module, "SILENT_AFTER", 0.6)
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red:
        await stage.join("red", red)
        await red.more_pictures(2)
        stage.events.clear()
        red.sending = False

        def silences() -> list[ParticipantSilent]:
            return [event for event in stage.events if isinstance(event, ParticipantSilent)]

        await until_true(lambda: len(silences()) >= 2, "a second word of silence", 5.0)
        assert silences()[0].participant_id == "red"
        assert silences()[0].seconds > 0.5
        red.sending = True
        heard = ParticipantHeard(MEETING, "red")
        await until_true(lambda: heard in stage.events, "to be heard again", 3.0)


async def test_a_picture_that_stops_leaves_its_tile_and_comes_back_by_a_key_frame(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu_bridge.picture_leg.STALE_AFTER", 0.8)
    async with stage.pair() as (red, green):
        await green.sees(RED, LEFT)
        red.sending_picture = False
        await until_true(lambda: not green.shows(RED, LEFT), "the tile to be cleared", 4.0)
        asked = red.keyframe_requests
        red._footage = tuple(frame for frame in red._footage if not frame[1]) + red._footage[:1]
        red.sending_picture = True
        await until_true(lambda: red.keyframe_requests > asked, "a request for a key frame", 3.0)
        await green.sees(RED, LEFT)


async def test_without_feedback_the_key_frame_is_asked_by_signalling(stage: Stage) -> None:
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red:
        deaf = tuple(
            replace(s, codecs=tuple(replace(c, feedback=()) for c in s.codecs)) for s in red.offer().sections
        )
        red._footage = red._footage[1:]  # never a key frame
        await stage.join("red", red, offer=MediaDescription(deaf))
        wanted = FastUpdateWanted(MEETING, "red")
        await until_true(lambda: wanted in stage.events, "FastUpdateWanted", 4.0)
