"""A site on the full screen reaches the others as it came: not one byte of its pictures is made anew."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.journeys.scene import FULL_TILE, NANNING, TWO_TILES, WUMING, sees_all
from tests.journeys.wire import frames, node_port
from tests.peers.baresip import Baresip
from tests.peers.node import MeetingHandle
from tests.peers.picture import BLUE, RED
from tests.peers.requirement import requires
from tests.peers.tshark import Capture
from tests.peers.waiting import until

pytestmark = [requires("baresip", "tshark"), pytest.mark.asyncio(loop_scope="module")]

SHOWN = replace(NANNING, video_codecs=(), detail=12)
WATCHING = replace(WUMING, video_codecs=())
ENOUGH = 75
"""Frames: three seconds."""


async def test_frames_of_a_full_screen_site_arrive_as_they_left(
    meeting: MeetingHandle, tmp_path: Path
) -> None:
    async with (
        Baresip(tmp_path / "shown", SHOWN) as shown,
        Baresip(tmp_path / "watching", WATCHING) as watching,
    ):
        for room in (shown, watching):
            await room.dial(meeting.uri)
            await room.established()
        shown_id = await meeting.joined(SHOWN.user)
        watching_id = await meeting.joined(WATCHING.user)
        await sees_all(watching, TWO_TILES, RED, BLUE)
        came, went = node_port(shown, "video"), node_port(watching, "video")
        async with Capture(tmp_path / "wire", f"udp and (dst port {came} or src port {went})") as wire:
            await meeting.command("full-screen", shown_id)
            await sees_all(watching, (FULL_TILE,), RED)
            await sees_all(shown, (FULL_TILE,), BLUE)
            report = await until(
                meeting.report, lambda report: not report["encoders"], "every encoder to end", 5.0
            )
            before = await meeting.leg(watching_id, "video", outgoing=True)
            assert before is not None
            assert before["source"] == f"pass-through:{shown_id}"
            after = await until(
                lambda: meeting.leg(watching_id, "video", outgoing=True),
                lambda leg: leg is not None and leg["frames"] >= before["frames"] + ENOUGH,
                f"{ENOUGH} more frames to {WATCHING.user}",
                10.0,
            )
            assert after is not None
            assert not (await meeting.report())["encoders"]
            await wire.stop()
        assert report["worker_pid"]

        sent = [frame.digest for frame in await frames(wire, f"udp.dstport == {came}")]
        received = [frame.digest for frame in await frames(wire, f"udp.srcport == {went}")]
        assert len(set(sent)) > ENOUGH, "the source's frames are not all the same"
        first = next(index for index, digest in enumerate(received) if digest in set(sent))
        forwarded = received[first:]
        assert len(forwarded) >= ENOUGH
        start = sent.index(forwarded[0])
        assert forwarded == sent[start : start + len(forwarded)]

        await meeting.command("mosaic")
        await sees_all(watching, TWO_TILES, RED, BLUE)
        await sees_all(shown, TWO_TILES, RED, BLUE)
        assert (await meeting.report())["encoders"]
