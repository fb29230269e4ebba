"""The objects of the vision process: the model, samplers, watchers, and what they write down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from analytics.detection import Bgr, Detection
from analytics.inference import InferencePool
from analytics.model_package import DEFAULT_MODEL, ModelFault, load
from analytics.sampler import Sampler, SamplerSettings
from analytics.violation_writer import ModelName, ViolationWriter
from analytics.vision_keeper import VisionKeeper
from analytics.watcher import Judging
from config.settings import Settings
from foundation.clock import SystemClock
from foundation.database import Database
from foundation.desk_socket import DeskServer
from foundation.desks import VisionDesk
from foundation.events import Event
from media.codec_worker import CodecPool
from media.link import LinkClient
from media.node_streams import NodeStreams
from media.stream_source import StreamSource
from orchestrator.control import WorkerAddress

log = structlog.get_logger(__name__)

DESK = "vision"
DECODING_NICE = 10
PICTURE_THREADS = 2
"""They measure pictures and write snapshots."""


class _NoDetector:
    """Stands where a detector would when there is no usable model: nobody heeds what it does not find."""

    def detect(self, _picture: Bgr) -> tuple[Detection, ...]:
        return ()


async def run_vision(
    settings: Settings,
    socket_path: Path,
    links: Sequence[WorkerAddress],
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Serve the vision desk on `socket_path` until `stop` is set. What is flagged then goes on in the next
    process."""
    announced: list[DeskServer] = []

    def emit(event: Event) -> None:
        for server in announced:
            server.announce(event)

    async with AsyncExitStack() as stack:
        database = Database(settings.database_url)
        stack.push_async_callback(database.aclose)
        streams = NodeStreams([LinkClient(address.link) for address in links])
        keeper = await open_vision(settings, streams, database, emit, stack)
        server = await stack.enter_async_context(DeskServer(socket_path, {DESK: (VisionDesk, keeper)}))
        announced.append(server)
        ready()
        await stop.wait()
        announced.clear()


async def open_vision(
    settings: Settings,
    streams: StreamSource,
    database: Database,
    emit: Callable[[Event], None],
    stack: AsyncExitStack,
) -> VisionKeeper:
    """A running keeper, which ends with `stack`."""
    analytics, clock = settings.analytics, SystemClock()
    model, inference = await _open_model(analytics.model or DEFAULT_MODEL, analytics.threads)
    stack.push_async_callback(inference.aclose)
    decoding = CodecPool(analytics.threads, "vision", DECODING_NICE)
    stack.push_async_callback(decoding.aclose)
    threads = ThreadPoolExecutor(PICTURE_THREADS, thread_name_prefix="evidence")
    stack.push_async_callback(asyncio.to_thread, threads.shutdown)
    sampling = SamplerSettings(rate=analytics.rate, forced_look=analytics.forced_look)
    keeper = VisionKeeper(
        lambda camera_id: Sampler(camera_id, streams, decoding, inference, sampling, clock=clock),
        ViolationWriter(database, clock, threads, settings.evidence_folder, emit),
        Judging(model, analytics.time_zone, threads, clock),
        inference.load,
    )
    return await stack.enter_async_context(keeper)


async def _open_model(folder: Path, threads: int) -> tuple[ModelName, InferencePool]:
    """The detector; without a usable one the checks of the picture itself go on, and the report says why."""
    try:
        package = await asyncio.to_thread(load, folder)
        pool = await InferencePool.open(package, threads)
    except ModelFault as fault:
        log.error("model_not_usable", why=str(fault), consequence="nobody is seen; tamper checks go on")
        return ModelName(fault=f"no usable model: {fault}"), InferencePool([_NoDetector()])
    return ModelName(package.name, package.digest), pool
