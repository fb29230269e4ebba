"""The rest of the chain while a meeting is measured: the broadcast watched, a violation, a recording.

chain = Chain(premises, meeting_id, folder, room_colour)
await chain.run(seconds)               beside the meeting's own Watch
chain.verdict(), chain.facts()
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import av
import av.error
import cv2
import numpy as np

from orchestrator.demo import stamp
from orchestrator.demo.browser import JoinFailed
from orchestrator.demo.cameras import STREET
from orchestrator.demo.node import Refused
from orchestrator.demo.premises import Premises, renew_rule
from orchestrator.demo.viewer import Viewer, ViewerLook

PERIOD = 1.5
GLASS_TO_GLASS = 3.0
ENOUGH = 0.8
SHARE = 0.04
CLIP_SECONDS = (6.0, 14.0)
"""Of ten; the seconds before are fewer where the camera has only just come up."""
EVIDENCE_SECONDS = 30.0
"""Beyond the measuring: what a violation of the last second needs for its clip."""


@dataclass(slots=True)
class Chain:
    """See the module's head. `viewer` None: there is no browser here to watch with."""

    premises: Premises
    meeting_id: str
    folder: Path
    room_colour: tuple[int, int, int]
    with_viewer: bool
    began: str
    """ISO time: what was flagged before does not count."""
    looks: list[ViewerLook] = field(default_factory=list)
    viewer_failed: str = ""
    violation: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    recording: dict[str, Any] = field(default_factory=dict)
    broadcast: dict[str, Any] = field(default_factory=dict)

    async def run(self, seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            if self.with_viewer:
                group.create_task(self._watch(seconds))
            if self.premises.cameras.with_street:
                group.create_task(self._await_violation(seconds + EVIDENCE_SECONDS))
            group.create_task(asyncio.sleep(seconds))
        await self._read_recording()

    async def _watch(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        try:
            async with Viewer(self.folder / "viewer") as viewer:
                await viewer.watch(self.premises.broadcast["watch_url"])
                while time.monotonic() < until:
                    self.looks.append(await viewer.look())
                    await asyncio.sleep(PERIOD)
                await viewer.screenshot(self.folder / "viewer" / "watch.png")
                rows = await self.premises.people.operator.get("/broadcasts")
                self.broadcast = next(row for row in rows if row["id"] == self.premises.broadcast["id"])
        except JoinFailed as error:
            self.viewer_failed = str(error)

    # --- a violation ----------------------------------------------------------------------------------

    async def _await_violation(self, seconds: float) -> None:
        """The first one of this run whose evidence is complete, or as far as it came."""
        monitor, until = self.premises.people.monitor, time.monotonic() + seconds
        await renew_rule(monitor)
        while time.monotonic() < until:
            rows = (await monitor.get(f"/violations?camera_id={STREET}&from={self.began}"))["items"]
            if rows:
                self.violation = await monitor.get(f"/violations/{rows[-1]['id']}")
                if self.violation["clip_state"] != "pending" and self.violation["snapshot"]:
                    break
            await asyncio.sleep(1.0)
        if self.violation:
            self.evidence = {"snapshot": await self._snapshot(), "clip": await self._clip()}

    async def _snapshot(self) -> dict[str, Any]:
        path = f"/violations/{self.violation['id']}/snapshot.jpg?boxes=0"
        try:
            data = await self.premises.people.monitor.download(path)
        except (Refused, aiohttp.ClientError) as error:
            return {"ok": False, "detail": str(error)}
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        whole = hashlib.sha256(data).hexdigest() == self.violation["snapshot_sha256"]
        size = None if picture is None else [picture.shape[1], picture.shape[0]]
        return {"ok": whole and size is not None and bool(self.violation["boxes"]), "size": size}

    async def _clip(self) -> dict[str, Any]:
        path = f"/violations/{self.violation['id']}/clip.mp4"
        try:
            data = await self.premises.people.monitor.download(path)
        except (Refused, aiohttp.ClientError) as error:
            return {"ok": False, "detail": str(error)}
        frames, seconds = await asyncio.to_thread(_played, data)
        whole = hashlib.sha256(data).hexdigest() == self.violation["clip_sha256"]
        at_ease = CLIP_SECONDS[0] <= seconds <= CLIP_SECONDS[1]
        return {"ok": whole and at_ease, "frames": frames, "seconds": round(seconds, 2), "bytes": len(data)}

    # --- a recording ----------------------------------------------------------------------------------

    async def _read_recording(self) -> None:
        """The newest closed file of the meeting, or the open one: that is playable too."""
        operator = self.premises.people.operator
        rows = (await operator.get(f"/recordings?kind=conference&subject={self.meeting_id}"))["items"]
        if not rows:
            self.recording = {"ok": False, "detail": "no file of the meeting's recording is there"}
            return
        try:
            data = await operator.download(f"/recordings/{rows[0]['id']}/file.mp4")
        except (Refused, aiohttp.ClientError) as error:
            self.recording = {"ok": False, "detail": str(error)}
            return
        frames, seconds = await asyncio.to_thread(_played, data)
        share = await asyncio.to_thread(_share_of, data, self.room_colour)
        self.recording = {
            "ok": frames > 0 and share >= SHARE,
            "files": len(rows),
            "frames": frames,
            "seconds": round(seconds, 2),
            "room_colour_share": round(share, 3),
        }

    # --- what holds -------------------------------------------------------------------------------------

    @property
    def _ages(self) -> list[float]:
        return [look.age for look in self.looks if look.age is not None]

    def verdict(self) -> dict[str, bool]:
        held = {"the meeting's recording plays": bool(self.recording.get("ok"))}
        if self.premises.cameras.with_street:
            whole = all(part["ok"] for part in self.evidence.values()) and bool(self.evidence)
            held["a violation has its snapshot and a clip that plays"] = whole
        if self.with_viewer:
            held |= self._viewer_verdict()
        return held

    def _viewer_verdict(self) -> dict[str, bool]:
        looks, ages = self.looks, self._ages
        frames = [look.frames for look in looks]
        moving = sum(after > before for before, after in itertools.pairwise(frames))
        enough = ENOUGH * max(1, len(looks) - 1)
        colour = sum(look.share(self.room_colour) >= SHARE for look in looks)
        return {
            "the viewer fetched parts and decoded frames": bool(looks)
            and looks[-1].parts > 0
            and moving >= enough,
            "the viewer saw the room's colour": colour >= enough and bool(looks),
            "the viewer read the camera's clock in the meeting's picture": len(ages) >= len(looks) / 2
            and bool(ages),
            f"glass to glass is at most {GLASS_TO_GLASS:g} s": bool(ages)
            and statistics.median(ages) <= GLASS_TO_GLASS,
        }

    def facts(self) -> dict[str, Any]:
        ages = self._ages
        last = self.looks[-1] if self.looks else None
        return {
            "viewer": {
                "looks": len(self.looks),
                "failed": self.viewer_failed,
                "parts": last.parts if last else 0,
                "frames": last.frames if last else 0,
                "dropped": last.dropped if last else 0,
                "size": last.size if last else None,
                "camera_share_of_picture": round(last.share(stamp.GROUND), 3) if last else None,
                "glass_to_glass_seconds": {
                    "read": len(ages),
                    "median": round(statistics.median(ages), 2) if ages else None,
                    "highest": round(max(ages), 2) if ages else None,
                },
                "viewers_counted": self.broadcast.get("viewers"),
            },
            "violation": {
                key: self.violation.get(key) for key in ("id", "kind", "score", "clip_state", "clip_detail")
            },
            "evidence": self.evidence,
            "recording": self.recording,
        }


def _played(data: bytes) -> tuple[int, float]:
    """Frames decoded and seconds from the first to past the last; none for what does not play."""
    frames, first, last = 0, None, 0.0
    try:
        with av.open(io.BytesIO(data), "r") as container:
            for frame in container.decode(video=0):
                at = frame.time or 0.0
                first = at if first is None else first
                last = max(last, at)
                frames += 1
    except av.error.FFmpegError:
        return frames, 0.0
    return frames, last - (first or 0.0)


def _share_of(data: bytes, colour: tuple[int, int, int]) -> float:
    """The largest share of the colour in one of the file's key frames."""
    best = 0.0
    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].codec_context.skip_frame = "NONKEY"
        for frame in container.decode(video=0):
            rgb = np.asarray(frame.reformat(width=160, height=90).to_ndarray(format="rgb24"), np.int16)
            best = max(best, float((np.abs(rgb - np.array(colour)).max(axis=2) <= 48).mean()))
    return best
