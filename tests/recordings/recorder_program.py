"""The recorder process as its test starts it, with a short lease on clips.

    python -m tests.recordings.recorder_program SETTINGS SOCKET STREAMS

SETTINGS is a file of dumped settings, SOCKET where it serves, STREAMS the socket of the process that has the
streams. Prints "ready"; SIGTERM ends it.
"""

import asyncio
import signal
import sys
from pathlib import Path

from config.loading import restore
from orchestrator import recorder_process
from orchestrator.control import WorkerAddress

recorder_process.CLIP_LEASE_SECONDS = 3.0


async def main(settings: str, socket: str, streams: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    links = [WorkerAddress("media-0", Path(streams))]
    dumped = Path(settings).read_bytes()
    await recorder_process.run_recorder(
        restore(dumped), Path(socket), links, stop, lambda: print("ready", flush=True)
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
