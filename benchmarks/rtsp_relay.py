"""One picture of 3 Mbit/s to 50 RTSP players over TCP: CPU of the relay beside nginx-rtmp's with 50 RTMP
players, how soon a new player sees a whole frame, and what 20 that read nothing take from the others."""

import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvloop

from benchmarks._hls_server import key_frame
from benchmarks.result import Result
from media.packet import Format, Packet
from media.stream import Stream
from stream_relay.rtmp_push import RtmpPush
from stream_relay.rtsp_server import RtspServer
from tests.peers.nginx_rtmp import nginx_rtmp
from tests.peers.ports import PortBlock

READERS, STALLED, SECONDS = 50, 20, 5
ROUNDS = 3
"""In turn; the least of each counts: what else the machine does only adds."""
FRAME_RATE = 25
KEY_FRAME, FRAME = 60_000, 13_000
"""Bytes; with a key frame a second 3 Mbit/s."""
START_CODE = b"\x00\x00\x00\x01"


def run() -> list[Result]:
    gc.freeze()  # as every worker does
    rounds = [(uvloop.run(_relay(stalled=0)), uvloop.run(_nginx_relay())) for _ in range(ROUNDS)]
    alone = min((one for one, _ in rounds), key=lambda one: one.cpu_per_gigabit)
    peer = min(one for _, one in rounds)
    crowded = uvloop.run(_relay(stalled=STALLED))
    name = f"rtsp/tcp to {READERS} readers"
    ours = alone.cpu_per_gigabit
    return [
        Result.bounded(name, ours, "CPU-s/Gbit", at_most=0.25),
        Result.against(
            f"{name}, beside rtmp",
            ours,
            "CPU-s/Gbit",
            peer="nginx-rtmp, rtmp",
            peer_value=peer,
            at_most=1.6,
        ),
        Result.bounded("first whole frame of a new rtsp reader, p50", alone.first_frame, "ms", at_most=5.0),
        Result.bounded(f"lost by the others beside {STALLED} stalled", crowded.lost, "packets", at_most=0.0),
    ]


class Relayed:
    """What one run measured."""

    def __init__(self, cpu: float, gigabits: float, first_frame: float, lost: int) -> None:
        self.cpu_per_gigabit = cpu / gigabits
        self.first_frame = first_frame
        self.lost = lost


class _Shelf:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @asynccontextmanager
    async def open(self, path: str, user: str | None) -> AsyncIterator[Sequence[Stream]]:
        yield (self._stream,)


async def _nginx_relay() -> float:
    """CPU seconds a gigabit that nginx-rtmp spends on the same picture, pushed to it and played from it."""
    stream = Stream("bench", Format("H264", 90_000))
    with tempfile.TemporaryDirectory() as folder, PortBlock() as ports, _published(stream, key_frame()):
        port = ports.take()
        async with nginx_rtmp(Path(folder) / "nginx", port) as nginx:
            push = asyncio.create_task(RtmpPush(f"rtmp://127.0.0.1:{port}/live/bench").run(stream, None))
            players = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks._rtmp_players", str(port), str(READERS), str(SECONDS)),
                stdout=asyncio.subprocess.PIPE,
            )
            assert players.stdout is not None, "asked for as a pipe"
            await players.stdout.readline()
            before = _cpu_seconds(nginx.pid)
            received = int(await players.stdout.readline())
            spent = _cpu_seconds(nginx.pid) - before
            await players.wait()
            push.cancel()
            await asyncio.gather(push, return_exceptions=True)
    if received * 8 < 0.9 * READERS * SECONDS * 3e6:
        raise RuntimeError(f"nginx-rtmp relayed {received} bytes only: nothing was measured")
    return spent / (received * 8 / 1e9)


@contextmanager
def _published(stream: Stream, parameter_sets: bytes = b"") -> Iterator[None]:
    """Pictures on the stream until the block is left, from as cheap a source as can be: what is measured is
    the relay."""
    key = parameter_sets + START_CODE + b"\x65" + b"\xa5" * KEY_FRAME
    other = START_CODE + b"\x41" + b"\xa5" * FRAME
    loop = asyncio.get_running_loop()
    began, number = loop.time(), 0
    timer: asyncio.TimerHandle

    def publish() -> None:
        nonlocal number, timer
        keyframe = number % FRAME_RATE == 0
        stream.publish(Packet(key if keyframe else other, 3600 * number, time.monotonic(), keyframe))
        number += 1
        timer = loop.call_at(began + number / FRAME_RATE, publish)

    publish()
    try:
        yield
    finally:
        timer.cancel()


async def _relay(stalled: int) -> Relayed:
    stream = Stream("bench", Format("H264", 90_000))
    server = RtspServer(_Shelf(stream))
    await server.start("127.0.0.1", 0)
    players = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks._rtsp_players", str(server.port)),
        *(str(READERS), str(stalled), str(SECONDS)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert players.stdout is not None, "asked for as a pipe"
        with _published(stream):
            first = json.loads(await players.stdout.readline())
            before = _cpu_seconds(os.getpid())
            received, lost = json.loads(await players.stdout.readline())
            spent = _cpu_seconds(os.getpid()) - before
        await players.wait()
    finally:
        if players.returncode is None:
            players.kill()
            await players.wait()
        await server.aclose()
    if stalled and not server.dropped:
        raise RuntimeError("the stalled players did not stall: nothing was measured")
    return Relayed(spent, received * 8 / 1e9, statistics.median(first), lost)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process in nanosecond steps, as clock_getcpuclockid(3) finds it: /proc tells
    steps of 10 ms, a sixth of what nginx uses here."""
    return time.clock_gettime(~pid << 3 | 2)
