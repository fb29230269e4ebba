"""The objects of a media worker, or of the media part inside main."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from config.settings import Listener, Settings
from foundation.desk_socket import DeskServer
from foundation.desks import CameraDesk, ConferenceDesk
from foundation.events import Event
from foundation.tasks import TaskScope
from mcu_bridge.access import MediaAccess, MediaNetwork
from mcu_bridge.announcements import AnnouncementShelf
from mcu_bridge.bridge import Bridge, BridgeSettings
from mcu_bridge.captions import CaptionPainter, UnusableFont
from mcu_bridge.logo import Corner, Logo, UnusableLogo
from mcu_bridge.picture_plan import Canvas
from media.dtls import DtlsCertificate
from media.ice_lite import IceLiteSocket
from media.link import LinkClient, LinkServer
from media.node_streams import JoinedSources, NodeStreams
from media.rtp_socket import PortRange
from media.stream_source import StreamSource
from orchestrator.control import StartFailure, WorkerAddress
from orchestrator.font import find_font
from stream_relay.camera_keeper import CameraKeeper
from stream_relay.rtsp_gate import RtspGate
from stream_relay.rtsp_server import RtspLimits

log = structlog.get_logger(__name__)

DESK = "conference"
CAMERAS = "cameras"
ABANDONED_GRACE = 60.0
"""Seconds for which meetings go on without main: its restart takes a few."""
SWITCH_INTERVAL = 0.001
"""Seconds a thread may keep the interpreter while another waits: sound beside pictures needs it short."""


@dataclass(frozen=True, slots=True)
class MediaPart:
    """Meetings and cameras of one worker, as desks and as the source of their streams.

    `streams` are those that live here, for a LinkServer; `rtsp` plays the node's cameras, in the first
    worker only.
    """

    bridge: Bridge
    cameras: CameraKeeper
    streams: StreamSource
    rtsp: RtspGate | None


@asynccontextmanager
async def media_part(
    settings: Settings,
    index: int,
    emit: Callable[[Event], None],
    workers: Sequence[WorkerAddress] = (),
) -> AsyncIterator[MediaPart]:
    """What runs on the settings' networks; `index` is the worker's number among `workers`, which are all
    media workers, none where media is inside main. Raises StartFailure for an RTSP port that is taken, and
    for a logo that cannot be drawn."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    mosaic = settings.media.mosaic
    bridge_settings = BridgeSettings(
        codec_threads=settings.media.codec_thread_count,
        cpu_limit=settings.media.cpu_limit,
        canvas=Canvas(mosaic.width, mosaic.height, mosaic.fps, _logo(settings)),
        captions=_captions(settings),
        announcements=AnnouncementShelf(settings.meetings.announcements),
    )
    async with AsyncExitStack() as stack:
        access = _access(settings, index, stack)
        ports = PortRange(*settings.networks[0].rtp_ports)
        cameras = await stack.enter_async_context(
            CameraKeeper(emit, index=index, workers=len(workers), ports=ports)
        )
        others = [LinkClient(worker.link) for number, worker in enumerate(workers) if number != index]
        anywhere = NodeStreams(others, [cameras])
        bridge = await stack.enter_async_context(Bridge(bridge_settings, access, emit, anywhere))
        rtsp = None
        if index == 0:
            rtsp = await _rtsp(settings, anywhere, stack)
            cameras.tell_plans(rtsp.set_plan)
        yield MediaPart(bridge, cameras, JoinedSources([cameras, bridge.streams]), rtsp)


async def _rtsp(settings: Settings, streams: StreamSource, stack: AsyncExitStack) -> RtspGate:
    gate = RtspGate(streams)
    stack.push_async_callback(gate.aclose)
    for number, network in enumerate(settings.networks):
        if network.rtsp is None:
            continue
        limits = RtspLimits(
            connections=network.rtsp_clients,
            of_one=network.rtsp_clients_of_one,
            ports=PortRange(*network.rtp_ports),
            dscp=network.dscp.video,
        )
        try:
            await gate.start(network.bind, network.rtsp, limits)
        except OSError as error:
            taken = Listener(f"networks[{number}].rtsp", network.bind, network.rtsp, network.rtsp, "tcp")
            in_use = error.errno == errno.EADDRINUSE
            why = "is in use by another program" if in_use else f"cannot be opened: {error.strerror}"
            raise StartFailure(f"{taken.key}: {taken} {why}") from error
    return gate


def _captions(settings: Settings) -> CaptionPainter | None:
    """Without a usable font meetings go on, with mosaics that name nobody; `anshi doctor` says so too."""
    font = find_font(settings)
    if font is None:
        log.warning("no_font", consequence="site names are not drawn in mosaics")
        return None
    try:
        return CaptionPainter(font)
    except UnusableFont as error:
        log.error("unusable_font", why=str(error), consequence="site names are not drawn in mosaics")
        return None


def _logo(settings: Settings) -> Logo | None:
    """Raises StartFailure: whoever sets a logo wants it seen."""
    if settings.logo is None:
        return None
    try:
        return Logo.load(settings.logo.file, Corner(settings.logo.corner))
    except UnusableLogo as error:
        raise StartFailure(f"logo.file: {error}") from error


def _access(settings: Settings, index: int, stack: AsyncExitStack) -> MediaAccess:
    networks = {}
    for network in settings.networks:
        port = settings.webrtc_port(network, index)
        ice = None
        if port is not None:
            ice = IceLiteSocket.open(
                bind=network.bind, port=port, advertised=(network.advertised,), dscp=network.dscp.video
            )
            stack.callback(ice.close)
        networks[network.name] = MediaNetwork(
            name=network.name,
            bind=network.bind,
            advertised=network.advertised,
            rtp_ports=PortRange(*network.rtp_ports),
            dscp_audio=network.dscp.audio,
            dscp_video=network.dscp.video,
            ice=ice,
        )
    return MediaAccess(networks, DtlsCertificate.generate())


async def run_media_worker(
    settings: Settings,
    index: int,
    socket_path: Path,
    workers: Sequence[WorkerAddress],
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Serve meetings and cameras on `socket_path` until `stop` is set; `workers` are all media workers."""
    announced: list[DeskServer] = []

    def emit(event: Event) -> None:
        for server in announced:
            server.announce(event)

    link = WorkerAddress("", socket_path).link
    async with media_part(settings, index, emit, workers) as part:
        desks = {DESK: (ConferenceDesk, part.bridge), CAMERAS: (CameraDesk, part.cameras)}
        async with (
            DeskServer(socket_path, desks) as server,
            LinkServer(link, part.streams),
            TaskScope("worker") as scope,
        ):
            announced.append(server)
            scope.supervise("abandoned", lambda: _end_abandoned(server, part.bridge))
            ready()
            await stop.wait()


async def _end_abandoned(server: DeskServer, bridge: Bridge, grace: float = ABANDONED_GRACE) -> None:
    """Main is gone. Its successor takes up what it has rows for; when none comes, nobody is left to end
    calls or to withdraw permissions, and no meeting goes on."""
    while True:
        await server.abandoned.wait()
        log.warning("main_is_gone", waiting=grace)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await server.occupied.wait()
                continue
        if server.abandoned.is_set():
            if await bridge.clear():
                log.warning("meetings_abandoned")
            await server.occupied.wait()
