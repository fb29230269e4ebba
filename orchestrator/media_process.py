"""The objects of a media worker, or of the media part inside main."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from config.settings import Settings
from foundation.desk_socket import DeskServer
from foundation.desks import ConferenceDesk
from foundation.events import Event
from mcu_bridge.access import MediaAccess, MediaNetwork
from mcu_bridge.bridge import Bridge, BridgeSettings
from mcu_bridge.captions import CaptionPainter, UnusableFont
from mcu_bridge.picture_plan import Canvas
from media.dtls import DtlsCertificate
from media.ice_lite import IceLiteSocket
from media.link import LinkServer
from media.rtp_socket import PortRange
from media.stream import Stream
from media.stream_source import NoSuchStream
from orchestrator.control import WorkerAddress
from orchestrator.font import find_font

log = structlog.get_logger(__name__)

DESK = "conference"
SWITCH_INTERVAL = 0.001
"""Seconds a thread may keep the interpreter while another waits: sound beside pictures needs it short."""


class MeetingPictures:
    """What participants of this worker send, as a StreamSource."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        stream = self._bridge.stream(stream_id)
        if stream is None or stream.closed:
            raise NoSuchStream(f"no meeting of this worker has a stream {stream_id!r}")
        yield stream


@asynccontextmanager
async def media_part(settings: Settings, index: int, emit: Callable[[Event], None]) -> AsyncIterator[Bridge]:
    """A running bridge on the settings' networks; `index` is the worker's number (its WebRTC port)."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    sockets: list[IceLiteSocket] = []
    try:
        access = _access(settings, index, sockets)
        mosaic = settings.media.mosaic
        bridge_settings = BridgeSettings(
            codec_threads=settings.media.codec_thread_count,
            cpu_limit=settings.media.cpu_limit,
            canvas=Canvas(mosaic.width, mosaic.height, mosaic.fps),
            captions=_captions(settings),
        )
        async with Bridge(bridge_settings, access, emit) as bridge:
            yield bridge
    finally:
        for socket in sockets:
            socket.close()


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


def _access(settings: Settings, index: int, sockets: list[IceLiteSocket]) -> MediaAccess:
    networks = {}
    for network in settings.networks:
        port = settings.webrtc_port(network, index)
        ice = None
        if port is not None:
            ice = IceLiteSocket.open(
                bind=network.bind, port=port, advertised=(network.advertised,), dscp=network.dscp.video
            )
            sockets.append(ice)
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
    """Serve the conference desk on `socket_path` until `stop` is set; `workers` are all media workers."""
    announced: list[DeskServer] = []

    def emit(event: Event) -> None:
        for server in announced:
            server.announce(event)

    link = WorkerAddress("", socket_path).link
    async with (
        media_part(settings, index, emit) as bridge,
        DeskServer(socket_path, {DESK: (ConferenceDesk, bridge)}) as server,
        LinkServer(link, MeetingPictures(bridge)),
    ):
        announced.append(server)
        ready()
        await stop.wait()
