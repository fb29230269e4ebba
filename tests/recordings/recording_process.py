"""A service that records one camera in real time; killed or starved by its test.

    python -m tests.recordings.recording_process FOLDER DATABASE-URL [LIMIT]

LIMIT: bytes a file may have (RLIMIT_FSIZE), as a disk that is full; frames are then filled up to reach it
soon, as the database must stay below it. Prints each frame published, and why the recording ended.
"""

import asyncio
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

from foundation.clock import SystemClock
from foundation.database import Database
from foundation.repositories.recordings import RecordingKind
from media.packet import Format
from media.stream import Stream
from recordings.disk import Disk
from recordings.recorder import Recorder, Subject
from recordings.recording_folder import RecordingFolder
from tests.media.coded_pictures import BLUE, GREEN, RED, coded

FILLER = b"\0\0\0\1\x0c" + b"\xff" * 60_000 + b"\x80"
"""Filler data (H.264 7.3.2.7), which decoders skip."""


async def main(folder: str, url: str, limit: int | None) -> None:
    packets = coded([RED, GREEN, BLUE] * 100, gop=25)
    database, disk = Database(url), Disk()
    subject = Subject(RecordingKind.CAMERA, "gate", "nanning")
    recorder = Recorder(
        subject, RecordingFolder(Path(folder)), database, disk, SystemClock(), reserve_bytes=0
    )
    video = Stream("gate", Format("H264", 90_000))
    async with database.reading():
        pass  # its own file is opened before files are limited
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    running = asyncio.create_task(recorder.run(video))
    await asyncio.sleep(0)
    begun = time.monotonic()
    for number, packet in enumerate(packets):
        if running.done():
            break
        video.publish(packet if limit is None else replace(packet, data=packet.data + FILLER))
        print(f"published {number + 1}", flush=True)
        await asyncio.sleep(max(begun + number * 0.04 - time.monotonic(), 0))
    video.close()
    ended = await running
    print(f"ended {ended.cause} {ended.files} {ended.cause.alarm}", flush=True)
    await disk.aclose()
    await database.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None))
