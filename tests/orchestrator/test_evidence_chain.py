"""Vision and recorder beside each other, as the node runs them: a person in a zone becomes a clip."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av

from config.settings import Analytics, Node, Recordings, Settings
from foundation.desk_socket import DeskClient
from foundation.desks import (
    AnalysedCamera,
    RecordingDesk,
    RecordingPlan,
    RuleSpec,
    VisionDesk,
    VisionPlan,
)
from foundation.repositories.violations import ClipState
from media.link import LinkServer
from media.packet import Format, Packet
from media.stream import Stream
from orchestrator import recorder_process, vision_process
from orchestrator.control import WorkerAddress
from tests.analytics.coded_clip import CLOCK, Cameras, coded
from tests.analytics.evidence_room import evidence_room
from tests.analytics.looks import street
from tests.peers.requirement import requires
from tests.peers.waiting import until

YARD = ((0.0, 0.3), (1.0, 0.3), (1.0, 1.0), (0.0, 1.0))


async def play(stream: Stream, packets: Sequence[Packet]) -> None:
    began = time.monotonic()
    for packet in packets:
        await asyncio.sleep(max(0.0, began + packet.arrival - time.monotonic()))
        stream.publish(replace(packet, arrival=time.monotonic()))


@requires("opencv-doc")
async def test_a_person_in_a_zone_becomes_a_row_a_snapshot_and_a_clip(tmp_path: Path) -> None:
    packets = coded(street(75), fps=5, gop=5)
    stream = Stream("camera:gate", Format("H264", CLOCK))
    source = Cameras({"camera:gate": [stream] * 10})
    worker, stop = WorkerAddress("media-0", tmp_path / "m.desk"), asyncio.Event()
    running = (asyncio.Event(), asyncio.Event())
    rule = RuleSpec("r1", "gate", "person-in-zone", "禁区", YARD)
    camera = AnalysedCamera("gate", "nanning", "大门", (rule,))
    async with evidence_room(tmp_path) as room, LinkServer(worker.link, source):
        settings = Settings(
            node=Node(id="nn", name="南宁", level="city", site_id="nanning"),
            networks=(),
            data=tmp_path,
            recordings=Recordings(reserve_megabytes=16),
            analytics=Analytics(rate=5.0),
        )
        clients = [DeskClient(tmp_path / "r.desk"), DeskClient(tmp_path / "v.desk")]
        async with asyncio.TaskGroup() as group:
            services = (recorder_process.run_recorder, vision_process.run_vision)
            for service, client, ready in zip(services, clients, running, strict=True):
                group.create_task(service(settings, client.path, (worker,), stop, ready.set))
                await ready.wait()
                await client.connect(5)
            recorder = clients[0].desk(RecordingDesk, recorder_process.DESK)
            await recorder.set_plan(RecordingPlan(preroll=("gate",)))
            playing = group.create_task(play(stream, packets))
            await asyncio.sleep(2)  # of pre-roll
            await clients[1].desk(VisionDesk, vision_process.DESK).set_plan(VisionPlan((camera,)))
            cut = await until(
                room.violations,
                lambda found: bool(found) and found[0].clip_state is not ClipState.PENDING,
                "its clip",
                40,
            )
            playing.cancel()
            for client in clients:
                await client.aclose()
            stop.set()
        violation = cut[0]
        assert violation.clip_sha256 is not None, violation.clip_detail
        clip = settings.evidence_folder / str(violation.clip_path)
        assert hashlib.sha256(clip.read_bytes()).hexdigest() == violation.clip_sha256
        with av.open(str(clip)) as container:
            times = [float(frame.time or 0) for frame in container.decode(video=0)]
        assert times[-1] - times[0] > 5  # the seconds after, and what there was before
        audited = {record.action: record for record in await room.audited()}
        assert {"record-snapshot"} < set(audited)
        assert any(str(violation.clip_sha256) in record.detail for record in audited.values())
        assert any(str(violation.snapshot_sha256) in record.detail for record in audited.values())
