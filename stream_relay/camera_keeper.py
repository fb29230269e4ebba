"""The cameras of a media worker: pulled by plan and on demand, opened by name, seen by the desk.

    async with CameraKeeper(emit, index=0, workers=2) as cameras:
        await cameras.set_plan(plan)                        # CameraDesk
        async with cameras.open("camera:ID") as stream: ...  # StreamSource

Every worker gets the whole plan and keeps those whose home it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType

from foundation.desks import CameraPlan, CameraSpec, CameraStatus, Refusal, RefusalKind
from foundation.events import CameraStateChanged, Event
from foundation.tasks import TaskScope
from media.node_streams import home_worker
from media.rtp_socket import PortRange
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamUnavailable
from stream_relay.camera_pull import CameraFault, CameraSettings, Cause
from stream_relay.camera_source import CameraSource, CameraState
from stream_relay.snapshots import SnapshotStudio, Undecodable

OPENING = 10.0
"""Seconds that a camera has to show its first picture."""
SOUND_WAIT = 2.0
"""Seconds for the sound of a camera that has announced some."""
SNAPSHOT_KEPT = 1.0
SNAPSHOTS = 64
"""Of this worker, under way or kept: each holds its camera, and then a picture."""
_LOOK = 0.25
_BETWEEN_EVENTS = 2.0
_SOUND = "/sound"
_PORTS = PortRange(40_000, 49_999)


@dataclass(slots=True)
class _Kept:
    """One camera of the plan. Without a `source` its address is of no use: `fault` says why."""

    spec: CameraSpec
    source: CameraSource | None
    fault: CameraFault | None = None
    told: tuple[str, str] = (CameraState.IDLE, "")
    told_at: float = field(default=float("-inf"))

    @property
    def state(self) -> str:
        """As operators see it: one that failed and tries again still waits."""
        if self.source is None:
            return CameraState.WAITING
        if self.source.state is CameraState.CONNECTING and self.source.fault is not None:
            return CameraState.WAITING
        return self.source.state

    @property
    def why(self) -> CameraFault | None:
        return self.fault if self.source is None else self.source.fault

    def same_settings(self, spec: CameraSpec) -> bool:
        return _reach(self.spec) == _reach(spec)


def _reach(spec: CameraSpec) -> tuple[str, str | None, str, bool]:
    return spec.url, spec.username, spec.password, spec.udp


class CameraKeeper:
    """A CameraDesk and a StreamSource; `emit` is told of states that have changed.

    `index` is this worker's number among `workers`; `ports` are for cameras that send over UDP. `source`
    makes what stands for a camera; tests give other times.
    """

    def __init__(
        self,
        emit: Callable[[Event], None],
        *,
        index: int = 0,
        workers: int = 1,
        ports: PortRange = _PORTS,
        source: Callable[[CameraSpec, PortRange], CameraSource] | None = None,
    ) -> None:
        self._emit = emit
        self._index = index
        self._workers = workers
        self._ports = ports
        self._source = source or camera_source
        self._cameras: dict[str, _Kept] = {}
        self._followers: list[Callable[[CameraPlan], None]] = []
        self._scope = TaskScope("cameras")
        self._studio = SnapshotStudio()
        self._snapshots: dict[tuple[str, int], tuple[asyncio.Task[bytes], float]] = {}

    async def __aenter__(self) -> CameraKeeper:
        await self._scope.__aenter__()
        self._scope.supervise("camera states", self._watch)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        developing = [task for task, _ in self._snapshots.values()]
        for task in developing:
            task.cancel()
        await asyncio.gather(*developing, return_exceptions=True)
        await self._end(self._cameras)
        self._cameras = {}
        await self._scope.__aexit__(kind, error, trace)
        await self._studio.aclose()

    def tell_plans(self, follower: Callable[[CameraPlan], None]) -> None:
        """Hand every plan on, whole: to what serves the cameras of all workers."""
        self._followers.append(follower)

    # --- CameraDesk -------------------------------------------------------------------------------

    async def set_plan(self, plan: CameraPlan) -> None:
        for follower in self._followers:
            follower(plan)
        before, self._cameras = self._cameras, {}
        for spec in plan.cameras:
            if home_worker(spec.camera_id, self._workers) != self._index:
                continue
            known = before.get(spec.camera_id)
            if known is not None and known.same_settings(spec):
                known.spec = spec
                self._cameras[spec.camera_id] = before.pop(spec.camera_id)
            else:
                self._cameras[spec.camera_id] = self._keep(spec)
        await self._end(before)

    async def status(self) -> tuple[CameraStatus, ...]:
        now = time.monotonic()
        return tuple(_status(kept, now) for kept in self._cameras.values())

    async def snapshot(self, camera_id: str, width: int) -> bytes:
        """Whoever asks within a second of another, for the same, gets the same."""
        kept = self._cameras.get(camera_id)
        if kept is None:
            raise Refusal(RefusalKind.UNKNOWN_CAMERA, f"this worker has no camera {camera_id!r}")
        now, key = time.monotonic(), (camera_id, width)
        for old, (task, made) in tuple(self._snapshots.items()):
            if task.done() and (now - made > SNAPSHOT_KEPT or task.cancelled() or task.exception()):
                del self._snapshots[old]
        if key not in self._snapshots:
            if len(self._snapshots) >= SNAPSHOTS:
                detail = f"{SNAPSHOTS} pictures of cameras are being made just now; ask again"
                raise Refusal(RefusalKind.NO_CAPACITY, detail, retry_after=2)
            task = asyncio.create_task(self._photograph(kept, width), name=f"snapshot.{camera_id}")
            self._snapshots[key] = (task, now)
        return await asyncio.shield(self._snapshots[key][0])

    async def _photograph(self, kept: _Kept, width: int) -> bytes:
        try:
            async with (
                asyncio.timeout(OPENING),
                self.open(f"camera:{kept.spec.camera_id}") as stream,
                stream.reader() as reader,
            ):
                packet = await anext(reader)
                while not packet.keyframe or packet.damaged:
                    packet = await anext(reader)
                return await self._studio.develop(packet.data, width)
        except (StreamUnavailable, Undecodable) as error:
            raise Refusal(RefusalKind.CAMERA_FAULT, str(error)) from None
        except (TimeoutError, StopAsyncIteration):
            detail = f"camera {kept.spec.name}: no whole picture within {OPENING:g} s"
            raise Refusal(RefusalKind.CAMERA_FAULT, detail) from None

    # --- StreamSource -----------------------------------------------------------------------------

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        """`camera:ID` and `camera:ID/sound`; the camera is pulled while the context is open."""
        scheme, _, rest = stream_id.partition(":")
        camera_id = rest.removesuffix(_SOUND)
        kept = self._cameras.get(camera_id)
        if scheme != "camera" or kept is None:
            raise NoSuchStream(f"no camera of this worker has a stream {stream_id!r}")
        if kept.source is None:
            raise StreamUnavailable(f"camera {kept.spec.name}: {kept.fault}")
        async with kept.source.hold():
            try:
                stream: Stream | None = await kept.source.video(OPENING)
            except CameraFault as fault:
                raise StreamUnavailable(f"camera {kept.spec.name}: {fault}") from None
            if rest.endswith(_SOUND):
                stream = await kept.source.sound(SOUND_WAIT)
            if stream is None or stream.closed:
                raise NoSuchStream(f"camera {kept.spec.name} sends no sound")
            yield stream

    # --- keeping ----------------------------------------------------------------------------------

    def _keep(self, spec: CameraSpec) -> _Kept:
        try:
            return _Kept(spec, self._source(spec, self._ports))
        except ValueError as error:
            return _Kept(spec, None, CameraFault(Cause.WRONG_ADDRESS, str(error)))

    @staticmethod
    async def _end(cameras: dict[str, _Kept]) -> None:
        await asyncio.gather(*(kept.source.aclose() for kept in cameras.values() if kept.source is not None))

    async def _watch(self) -> None:
        """Tells what has changed, and stayed so until this look; seldom enough for a camera that flaps."""
        while True:
            now = time.monotonic()
            for kept in self._cameras.values():
                fault = kept.why
                seen = (kept.state, "" if fault is None else fault.cause.value)
                if seen != kept.told and now - kept.told_at >= _BETWEEN_EVENTS:
                    kept.told, kept.told_at = seen, now
                    state, cause = seen
                    words = "" if fault is None else str(fault)
                    spec = kept.spec
                    self._emit(CameraStateChanged(spec.camera_id, spec.site_id, state, words, cause))
            await asyncio.sleep(_LOOK)


def camera_source(spec: CameraSpec, ports: PortRange) -> CameraSource:
    """Raises ValueError for a wrong address."""
    settings = CameraSettings(
        spec.url, username=spec.username, password=spec.password, udp=spec.udp, ports=ports
    )
    return CameraSource(spec.camera_id, settings)


def _status(kept: _Kept, now: float) -> CameraStatus:
    source, fault = kept.source, kept.why
    said = "" if fault is None else str(fault)
    cause = "" if fault is None else fault.cause.value
    if source is None:
        return CameraStatus(kept.spec.camera_id, kept.state, said, cause)
    seen, heard = source.seen, source.heard
    _, width, height = ("", 0, 0) if seen is None else seen.identity
    return CameraStatus(
        camera_id=kept.spec.camera_id,
        state=kept.state,
        fault=said,
        cause=cause,
        holders=source.holders,
        codec="" if seen is None else seen.format.codec,
        width=width,
        height=height,
        bitrate_bps=source.bitrate(now),
        frame_rate=source.frame_rate(now),
        sound="" if heard is None else heard.codec,
        frames=source.counts.frames,
        damaged=source.counts.damaged,
        connections=source.counts.connections,
    )
