"""A camera and a meeting recorded by a whole node: from an RTSP server that is not ours to the file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import pytest_asyncio

from tests.journeys.cameras import camera
from tests.peers.gst_camera import pipeline
from tests.peers.node import Api, Node, Refused
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = [requires("gst-rtsp-server", "ffmpeg"), pytest.mark.asyncio(loop_scope="module")]

TONE = 440.0
"""What gst's audiotestsrc plays."""
RED_PICTURE = 0xC82828
SECONDS = 6.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A node that records."""
    settings = {"recordings": {"enabled": True, "reserve_megabytes": 16}}
    async with Node(tmp_path_factory.mktemp("recording-node"), settings=settings) as running:
        yield running


async def record(api: Api, switch: str, subject: str) -> list[dict[str, Any]]:
    """Switch on, wait until some seconds are recorded, switch off; the finished recordings."""

    async def seconds() -> float:
        rows = (await api.get(f"/recordings?subject={subject}"))["items"]
        return sum(row["seconds"] for row in rows if row["state"] == "finished")

    assert (await api.request("PUT", switch, {"on": True}))["on"] is True
    await until(
        lambda: api.get(switch), lambda state: state["state"] == "recording", "the recording's begin", 25
    )
    report = f"/recordings?subject={subject}"
    assert (await api.get(report))["items"][0]["state"] == "open"
    await asyncio.sleep(SECONDS)
    assert (await api.request("PUT", switch, {"on": False})) == {"on": False, "state": None, "detail": None}
    await until(seconds, lambda some: some > SECONDS - 1.5, "a finished recording", 10)
    rows: list[dict[str, Any]] = (await api.get(report))["items"]
    return rows


async def downloaded(api: Api, recording: str, folder: Path) -> Path:
    url = f"/api/v1/recordings/{recording}/file.mp4?download=1"
    async with api._session.get(url, headers=api.headers) as answer:  # the helper reads JSON only
        assert answer.status == 200
        assert answer.headers["Content-Disposition"].startswith("attachment; ")
        path = folder / "downloaded.mp4"
        path.write_bytes(await answer.read())
        return path


def seen_and_heard(path: Path) -> tuple[int, tuple[int, ...], float]:
    """How many pictures, the colour in the middle of the last one, the strongest tone."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        height, width, _ = pictures[-1].shape
        colour = tuple(int(value) for value in pictures[-1][height // 2, width // 2])
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])  # planar
        rate = container.streams.audio[0].rate
    spectrum = np.abs(np.fft.rfft(sound[rate // 2 :]))
    return len(pictures), colour, float(spectrum[1:].argmax() + 1) * rate / len(sound[rate // 2 :])


async def test_a_camera_is_recorded_with_its_sound_and_played_back(node: Node, tmp_path: Path) -> None:
    launch = pipeline(RED_PICTURE, width=640, height=360, sound="PCMA")
    async with camera(node, tmp_path, launch, camera_id="gate", site="wuming", name="东门"):
        monitor = await node.user("monitor")
        rows = await record(monitor, "/cameras/gate/recording", "gate")
        assert {row["subject_name"] for row in rows} == {"东门"}
        longest = max(rows, key=lambda row: row["seconds"])
        assert (longest["width"], longest["height"]) == (640, 360)
        path = await downloaded(monitor, longest["id"], tmp_path)
        pictures, colour, tone = seen_and_heard(path)
        assert pictures >= 25 * (SECONDS - 2)
        assert np.allclose(colour, (0xC8, 0x28, 0x28), atol=12)
        assert tone == pytest.approx(TONE, abs=5)
        with pytest.raises(Refused, match="403"):
            await (await node.user("operator")).request("PUT", "/cameras/gate/recording", {"on": True})


async def test_a_meeting_is_recorded_as_its_programme(node: Node, tmp_path: Path) -> None:
    launch = pipeline(RED_PICTURE, width=640, height=360, sound="PCMA")
    async with camera(node, tmp_path, launch, camera_id="yard", site="wuming"):
        meeting = await node.meeting()
        await meeting.api.post(f"{meeting.path}/participants", {"address": "camera:yard"})
        rows = await record(meeting.api, f"{meeting.path}/recording", meeting.id)
        longest = max(rows, key=lambda row: row["seconds"])
        assert longest["kind"] == "conference"
        assert "opus" in longest["codecs"]
        file = await until(lambda: _on_disk(node, longest["id"]), bool, "the file", 5)
        pictures, colour, tone = seen_and_heard(file[0])
        assert pictures >= 10 * (SECONDS - 2)
        assert np.allclose(colour, (0xC8, 0x28, 0x28), atol=16)
        assert tone == pytest.approx(TONE, abs=5)
        await meeting.api.request("PUT", f"{meeting.path}/recording", {"on": True})
        await meeting.command("end")
        await until(
            lambda: meeting.api.get(f"{meeting.path}/recording"),
            lambda state: state["on"] is False,
            "the order's end",
            10,
        )


async def _on_disk(node: Node, recording: str) -> list[Path]:
    return list((node.data / "recordings").glob(f"conference/*/*/*{recording}.mp4"))
