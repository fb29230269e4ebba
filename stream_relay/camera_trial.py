"""Tries a camera once: what it offers, or why it cannot be had."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from media.packet import Packet
from protocols.rtsp.description import Track
from stream_relay.camera_pull import CameraFault, CameraPull, CameraSettings, Cause
from stream_relay.track_formats import CodedPicture

TRIAL_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class TrialResult:
    """`fault` None: the camera was seen. `sound` is the codec of its sound, "" for none."""

    fault: CameraFault | None = None
    codec: str = ""
    width: int = 0
    height: int = 0
    sound: str = ""


@dataclass
class _Trial:
    """The owner of one pull, done with the first picture that says what it is."""

    tracks: Sequence[Track] = ()
    picture: CodedPicture | None = None
    frames: int = 0
    seen: asyncio.Event = field(default_factory=asyncio.Event)

    def pull_started(self, tracks: Sequence[Track]) -> None:
        self.tracks = tracks

    def packet_pulled(self, track: Track, packet: Packet) -> None:
        if track.media != "video":
            return
        self.frames += 1
        if packet.keyframe and not packet.damaged and self.picture is None:
            self.picture = CodedPicture.of(packet.data)
            if self.picture is not None:
                self.seen.set()

    def result(self, fault: CameraFault) -> TrialResult:
        """`fault` counts only where no picture came."""
        sound = next((track.codec for track in self.tracks if track.media == "audio"), "")
        if self.picture is None:
            return TrialResult(fault, sound=sound)
        _, width, height = self.picture.identity
        return TrialResult(None, self.picture.format.codec, width, height, sound)

    def too_late(self) -> CameraFault:
        if not self.tracks:
            return CameraFault(Cause.TIMED_OUT, f"no answer within {TRIAL_SECONDS:g} s")
        what = f"{self.frames} frames and no key frame" if self.frames else "no picture"
        return CameraFault(Cause.TIMED_OUT, f"it plays, but {what} came within {TRIAL_SECONDS:g} s")


async def try_camera(settings: CameraSettings, seconds: float = TRIAL_SECONDS) -> TrialResult:
    """Connects, plays until the first key frame, and leaves; within `seconds`."""
    trial = _Trial()
    try:
        pull = CameraPull(settings, trial)
    except ValueError as error:
        return TrialResult(CameraFault(Cause.WRONG_ADDRESS, str(error)))
    pulling = asyncio.create_task(pull.run(), name="camera.trial")
    seeing = asyncio.create_task(trial.seen.wait(), name="camera.trial.seen")
    fault: CameraFault | None = None
    try:
        await asyncio.wait((pulling, seeing), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if pulling.done():
            pulling.result()
    except CameraFault as raised:
        fault = raised
    finally:
        pulling.cancel()
        seeing.cancel()
        await asyncio.gather(pulling, seeing, return_exceptions=True)
    return trial.result(fault or trial.too_late())
