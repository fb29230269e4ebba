"""Cameras on pages: a camera that is watched is a small meeting, shown full screen; its viewers are browsers.

    viewings = Viewings(workers=workers, cameras=camera_of, clock=clock, network="extranet")
    viewer_id, answer = await viewings.watch(camera, owner="liu", offer=offer, permitted=permitted)
    await viewings.leave(viewer_id, "left")

The view of a camera ("view:camera:ID") is opened on the worker where the camera lives when the first viewer
comes, and closed some seconds after the last one left. Views have no rows: they are gone with main or with
their worker, and the pages offer anew. `run` looks after them: idle views, and viewers whose session,
permission or camera is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import structlog

from foundation.clock import Clock
from foundation.database import DatabaseError
from foundation.desks import (
    Budget,
    ConferenceDesk,
    ConferenceSpec,
    Direction,
    MediaDescription,
    MediaSection,
    ParticipantSpec,
    Refusal,
    RefusalKind,
    SectionKind,
    View,
    ViewMode,
)
from foundation.event_bus import EventBus
from foundation.events import BusReconnected, CameraChanged
from foundation.schema import new_id
from media.node_streams import home_worker
from signaling.camera_calls import CameraLookup, CameraOff, KnownCamera
from signaling.media_workers import MediaWorkers
from signaling.meeting import CAMERA
from signaling.roster import tolerant
from signaling.site_budgets import CAMERA_BPS

log = structlog.get_logger(__name__)

VIEW = "view:"
"""What the ids of these meetings begin with, and of no others."""
VIEWER_BUDGET = Budget(to_site_bps=8_000_000, from_site_bps=100_000)
"""A viewer is in the house: no link of the site tree carries this, and the ledger does not count it."""
TURN_SECONDS = 1.0
CHECK_SECONDS = 30.0
LINGER_SECONDS = 5.0
"""How long a view without viewers is kept: a page that is loaded again finds it warm."""

Permitted = Callable[[KnownCamera], Awaitable[bool]]
"""Whether a viewer's session goes on and may see this camera."""


@dataclass(frozen=True, slots=True)
class ViewingLimits:
    """How many viewers there may be at once."""

    of_a_camera: int = 60
    of_a_user: int = 40
    altogether: int = 400


@dataclass(frozen=True, slots=True)
class Viewer:
    """One page that watches one camera. `owner` is the user's name."""

    viewer_id: str
    camera_id: str
    owner: str
    permitted: Permitted = field(repr=False)


@dataclass(slots=True)
class _CameraView:
    """An open view; `idle_since` is when it was first seen without viewers."""

    worker: str
    desk: ConferenceDesk
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    open: bool = False
    idle_since: float | None = None


class Viewings:
    """See the module's head. All calls belong to the event loop.

    `network` is where browsers' media goes, None when no network of this node takes them.
    """

    def __init__(
        self,
        *,
        workers: MediaWorkers,
        cameras: CameraLookup,
        clock: Clock,
        network: str | None,
        limits: ViewingLimits | None = None,
    ) -> None:
        self._workers = workers
        self._cameras = cameras
        self._clock = clock
        self._network = network
        self._limits = limits or ViewingLimits()
        self._views: dict[str, _CameraView] = {}
        self._viewers: dict[str, Viewer] = {}
        self._check_now = asyncio.Event()
        self._checked_at = clock.monotonic()

    def __len__(self) -> int:
        return len(self._viewers)

    def viewer(self, viewer_id: str) -> Viewer | None:
        return self._viewers.get(viewer_id)

    # --- viewers ------------------------------------------------------------------------------------

    async def watch(
        self, camera: KnownCamera, *, owner: str, offer: MediaDescription, permitted: Permitted
    ) -> tuple[str, MediaDescription]:
        """Viewer id and answer, at once: the picture follows when it comes. Raises Refusal, CameraOff."""
        if not camera.enabled:
            raise CameraOff(camera)
        if self._network is None:
            raise Refusal(RefusalKind.NO_PORT, "no network of this node takes browsers")
        wanted = _receiving(offer)
        self._check_limits(camera.camera_id, owner)
        viewer = Viewer(new_id(), camera.camera_id, owner, permitted)
        self._viewers[viewer.viewer_id] = viewer  # counted from now on, and its view is kept
        view = None
        try:
            view = await self._open(camera)
            spec = ParticipantSpec(
                viewer.viewer_id, _view_id(camera.camera_id), owner, self._network, VIEWER_BUDGET
            )
            answer = await self._admitted(view, spec, wanted)
            if viewer.viewer_id not in self._viewers:
                raise _ended()
        except BaseException:
            self._viewers.pop(viewer.viewer_id, None)
            if view is not None:
                await asyncio.shield(tolerant(view.desk.drop(viewer.viewer_id)))
            raise
        log.info("camera_watched", camera=camera.camera_id, viewer=viewer.viewer_id, user=owner)
        return viewer.viewer_id, answer

    async def leave(self, viewer_id: str, reason: str) -> None:
        """Let a viewer go; harmless for one who is unknown."""
        viewer = self._viewers.pop(viewer_id, None)
        if viewer is None:
            return
        log.info("viewer_left", camera=viewer.camera_id, viewer=viewer_id, why=reason)
        view = self._views.get(viewer.camera_id)
        if view is not None:
            await tolerant(view.desk.drop(viewer_id))

    def _check_limits(self, camera_id: str, owner: str) -> None:
        viewers = self._viewers.values()
        counts = (
            (sum(v.camera_id == camera_id for v in viewers), self._limits.of_a_camera, f"camera {camera_id}"),
            (sum(v.owner == owner for v in viewers), self._limits.of_a_user, f"user {owner}"),
            (len(viewers), self._limits.altogether, "this node"),
        )
        for count, limit, whose in counts:
            if count >= limit:
                detail = f"{whose} has {count} viewers of cameras, and may have {limit}"
                raise Refusal(RefusalKind.NO_CAPACITY, detail, retry_after=10)

    # --- views --------------------------------------------------------------------------------------

    async def _admitted(
        self, view: _CameraView, spec: ParticipantSpec, offer: MediaDescription
    ) -> MediaDescription:
        try:
            return await view.desk.admit(spec, offer)
        except Refusal as refusal:
            if refusal.kind is not RefusalKind.UNKNOWN_CONFERENCE:
                raise
            view.open = False  # the next viewer opens it again
            raise _ended() from refusal

    async def _open(self, camera: KnownCamera) -> _CameraView:
        camera_id, conference_id = camera.camera_id, _view_id(camera.camera_id)
        view = self._views.get(camera_id)
        if view is None:
            names = self._workers.names
            worker = names[home_worker(camera_id, len(names))]
            view = self._views[camera_id] = _CameraView(worker, self._workers.named(worker))
        async with view.opening:
            if not view.open:
                stream = f"{CAMERA}{camera_id}"
                shown = View(ViewMode.FULL_SCREEN, stream)
                await view.desk.open(ConferenceSpec(conference_id, "", camera.name, shown))
                sender = ParticipantSpec(
                    stream, conference_id, camera.name, "", Budget(0, CAMERA_BPS), camera.site_id
                )
                await view.desk.admit_stream(sender, stream)
                view.open = True
        if self._views.get(camera_id) is not view:  # its worker was lost, and another one may answer by now
            if camera_id not in self._views:
                await asyncio.shield(tolerant(view.desk.close(conference_id)))
            raise _ended()
        return view

    async def _tidy(self, now: float) -> None:
        """Close the views that nobody has watched for a while."""
        watched = {viewer.camera_id for viewer in self._viewers.values()}
        for camera_id, view in tuple(self._views.items()):
            if camera_id in watched:
                view.idle_since = None
            elif view.idle_since is None:
                view.idle_since = now
            elif now - view.idle_since >= LINGER_SECONDS:
                del self._views[camera_id]
                await tolerant(view.desk.close(_view_id(camera_id)))

    # --- time ---------------------------------------------------------------------------------------

    def check_now(self) -> None:
        """A session, a permission or a camera may have changed: look at every viewer in a moment."""
        self._check_now.set()

    async def run(self, bus: EventBus) -> None:
        """Look after views and viewers until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(bus), name="viewings.follow")
            group.create_task(self._attend_for_ever(), name="viewings.attend")

    async def _follow(self, bus: EventBus) -> None:
        async with bus.subscribe(CameraChanged, BusReconnected) as events:
            async for _event in events:
                self.check_now()

    async def _attend_for_ever(self) -> None:
        while True:
            await self.attend()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_SECONDS):
                    await self._check_now.wait()

    async def attend(self) -> None:
        """One turn: viewers that are due for a check, then views that are idle."""
        now = self._clock.monotonic()
        if self._check_now.is_set() or now - self._checked_at >= CHECK_SECONDS:
            self._check_now.clear()
            self._checked_at = now
            await self._check()
        await self._tidy(now)

    async def _check(self) -> None:
        by_camera: defaultdict[str, list[Viewer]] = defaultdict(list)
        for viewer in self._viewers.values():
            by_camera[viewer.camera_id].append(viewer)
        for camera_id, viewers in by_camera.items():
            try:
                camera = await self._cameras(camera_id)
                for viewer in viewers:
                    if camera is None or not camera.enabled:
                        await self.leave(viewer.viewer_id, "camera removed or switched off")
                    elif not await viewer.permitted(camera):
                        await self.leave(viewer.viewer_id, "session or permission is over")
            except DatabaseError as error:
                log.warning("viewers_not_checked", camera=camera_id, why=str(error))

    # --- what workers tell ------------------------------------------------------------------------

    async def worker_ready(self, worker: str, pid: int) -> None:
        """Views are opened by viewers: a new worker has none."""

    async def worker_lost(self, worker: str) -> None:
        """Its views and their viewers are gone; the pages notice, and offer anew."""
        lost = {camera_id for camera_id, view in self._views.items() if view.worker == worker}
        for camera_id in lost:
            del self._views[camera_id]
        for viewer in tuple(self._viewers.values()):
            if viewer.camera_id in lost:
                del self._viewers[viewer.viewer_id]

    async def silent(self, participant_id: str) -> None:
        """A page that gives no sign of life is gone; a camera that sends nothing may come again."""
        await self.leave(participant_id, "vanished")

    async def heard(self, participant_id: str) -> None:
        """A viewer sends nothing that matters."""

    async def media_failed(self, participant_id: str, reason: str) -> None:
        await self.leave(participant_id, reason)

    async def ask_fast_update(self, participant_id: str) -> None:
        """Nobody here sends pictures by a signalled call."""

    def pressed(self, participant_id: str, digit: str) -> None:
        """Pages have no keys."""


def _ended() -> Refusal:
    return Refusal(RefusalKind.WORKER_LOST, "the camera's view ended meanwhile; ask again", retry_after=2)


def _view_id(camera_id: str) -> str:
    return f"{VIEW}{CAMERA}{camera_id}"


def _receiving(offer: MediaDescription) -> MediaDescription:
    """The offer of somebody who only receives, whatever else it says it could. Raises Refusal."""
    sections = tuple(_only_receiving(section) for section in offer.sections)
    media = [s for s in sections if s.port and s.kind is not SectionKind.OTHER]
    if any(section.ice is None or section.dtls is None for section in media):
        detail = "the offer is no browser's: it has media without ICE or DTLS"
        raise Refusal(RefusalKind.BAD_DESCRIPTION, detail)
    if not any(section.direction.receives for section in media):
        raise Refusal(RefusalKind.BAD_DESCRIPTION, "the offer asks to receive nothing")
    return replace(offer, sections=sections)


def _only_receiving(section: MediaSection) -> MediaSection:
    if section.direction is Direction.SENDRECV:
        return replace(section, direction=Direction.RECVONLY)
    if section.direction is Direction.SENDONLY:
        return replace(section, direction=Direction.INACTIVE)
    return section
