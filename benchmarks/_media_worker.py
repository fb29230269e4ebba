"""A media worker as a node runs it, alone, for whoever measures one.

    async with media_worker(folder) as worker:
        await worker.desk.open(ConferenceSpec(...))
        before = worker.cpu(); ...; used = worker.cpu() - before

`python -m benchmarks._media_worker FOLDER` is the process itself. It never finds itself too busy; admission
is main's, which is not there.
"""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from config.settings import Media, Network, Node, Settings, Sip
from foundation.desk_socket import DeskClient
from foundation.desks import ConferenceDesk
from orchestrator.control import WorkerAddress
from orchestrator.media_process import DESK, run_media_worker
from tests.peers.process import PeerProcess

PROJECT = Path(__file__).resolve().parent.parent
NETWORK = "bench"
HOST = "127.0.0.1"
TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class MediaWorker:
    """A running worker."""

    desk: ConferenceDesk
    pid: int

    def cpu(self) -> float:
        """CPU seconds that it has used, the kernel's work for it included."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK


@asynccontextmanager
async def media_worker(folder: Path) -> AsyncIterator[MediaWorker]:
    """Start one in `folder`; it ends with the block."""
    command = [sys.executable, "-u", "-m", "benchmarks._media_worker", str(folder)]
    process = await PeerProcess.start("worker", command, folder, {"PYTHONPATH": str(PROJECT)})
    client = DeskClient(_address(folder).socket)
    try:
        await process.said("ready", START_SECONDS)
        pid = await client.connect(wait=10)
        yield MediaWorker(client.desk(ConferenceDesk, DESK), pid)
    finally:
        await client.aclose()
        await process.aclose()


def _address(folder: Path) -> WorkerAddress:
    return WorkerAddress("media-0", folder / "media-0.socket")


def main() -> None:
    folder = Path(sys.argv[1])
    network = Network(
        NETWORK, HOST, sip=Sip(None, None, None), rtp_ports=(50_000, 59_999), webrtc_port=None, rtsp=None
    )
    settings = Settings(
        node=Node(id="bench", name="bench"), networks=(network,), media=Media(workers=1, cpu_limit=1.0)
    )
    address = _address(folder)
    gc.freeze()
    uvloop.run(
        run_media_worker(
            settings, 0, address.socket, [address], asyncio.Event(), lambda: print("ready", flush=True)
        )
    )


if __name__ == "__main__":
    main()
