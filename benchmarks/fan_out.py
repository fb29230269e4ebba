"""One H.264 source of 3 Mbit/s to 100 receivers: CPU of the sending process against a plain sendto loop.

Over loopback the targets hold. Over a veth pair without UDP segmentation offload, which is nearer to a real
network card, the same is told for information (root and ethtool needed).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import msgspec
import numpy as np

from benchmarks._fan_out_sender import FRAME_RATE, SourceFrame
from benchmarks.result import Result
from protocols.payloads.h264 import H264Packetizer

RECEIVERS = 100
SECONDS = 3
ROUNDS = 5
RATE = 3_000_000
SIZE = (1280, 720)
TARGETS: dict[str, float | None] = {"rtp": 0.6, "rtp-paced": None, "srtp-paced": 1.8}
NAMESPACE = "anshibench"
VETH = ("anshibench0", "anshibench1")
HERE, THERE = "198.51.100.1", "198.51.100.2"


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.write_bytes(msgspec.msgpack.encode(encode_source()))
        yield from compare("loopback", source, "127.0.0.1", (), ROUNDS, TARGETS)
        reason = no_veth()
        if reason:
            print(f"fan_out over veth skipped: {reason}", file=sys.stderr)
        else:
            with veth_without_segmentation() as namespace:
                inside = ("ip", "netns", "exec", namespace)
                yield from compare("veth", source, THERE, inside, 2, dict.fromkeys(TARGETS))


def encode_source() -> list[SourceFrame]:
    """A moving, noisy picture, encoded in real H.264 and packetized once."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = SIZE
    encoder.pix_fmt = "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, FRAME_RATE), Fraction(FRAME_RATE)
    encoder.bit_rate = RATE
    rate = str(RATE)
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "threads": "1",
        "g": "50",
        "maxrate": rate,
        "bufsize": str(RATE // 5),
    }
    noise = np.random.default_rng(1).integers(0, 256, (SIZE[1] * 3 // 2, SIZE[0] * 2), dtype=np.uint8)
    packetizer = H264Packetizer(1)
    frames = []
    for n in range(SECONDS * FRAME_RATE):
        picture = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(noise[:, n * 4 : n * 4 + SIZE[0]]), format="yuv420p"
        )
        picture.pts = n
        frames += [
            SourceFrame(packetizer.packetize(bytes(packet)), packet.is_keyframe)
            for packet in encoder.encode(picture)
        ]
    return frames


def compare(
    where: str,
    source: Path,
    host: str,
    inside: Sequence[str],
    rounds: int,
    targets: dict[str, float | None],
) -> list[Result]:
    """Every way in each round, so that all see the same neighbours; the least disturbed round of each."""
    spent: dict[str, list[float]] = {way: [] for way in ("sendto", *targets)}
    for _ in range(rounds):
        for way, figures in spent.items():
            figures.append(send(way, source, host, inside))
    least = {way: min(figures) / SECONDS for way, figures in spent.items()}
    return [
        Result.against(
            f"fan-out to {RECEIVERS}, {way}, {where}",
            least[way],
            "CPU s/s",
            peer="sendto loop",
            peer_value=least["sendto"],
            at_most=target,
        )
        for way, target in targets.items()
    ]


def send(way: str, source: Path, host: str, inside: Sequence[str], receivers: int = RECEIVERS) -> float:
    """CPU seconds of one way for SECONDS of media.

    Raises RuntimeError when its datagrams did not all go and nearly all come.
    """
    with subprocess.Popen(
        [*inside, sys.executable, "-m", "benchmarks._drain", host, str(receivers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as drain:
        assert drain.stdout is not None
        ports = json.loads(drain.stdout.readline())
        order = json.dumps({"source": str(source), "ports": ports, "seconds": SECONDS})
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks._fan_out_sender", way, host],
            input=order + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        output, _ = drain.communicate()
    if done.returncode:
        raise RuntimeError(f"the sender of {way} failed: {done.stderr[-400:]}")
    outcome = json.loads(done.stdout)
    came = sum(datagrams for datagrams, _ in json.loads(output))
    if outcome["dropped"] or came < 0.98 * outcome["sent"]:
        raise RuntimeError(f"{way}: {outcome['sent']} sent, {outcome['dropped']} dropped, {came} came")
    return float(outcome["cpu"])


def no_veth() -> str | None:
    """Why there can be no veth pair here."""
    if os.geteuid() != 0:
        return "not root"
    missing = [tool for tool in ("ip", "ethtool") if shutil.which(tool) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


@contextmanager
def veth_without_segmentation() -> Iterator[str]:
    """A namespace at the other end of a pair whose near end cannot segment; yields its name."""
    namespace = f"{NAMESPACE}{os.getpid()}"
    near, far = VETH
    _clear_up()
    _run("ip", "netns", "add", namespace)
    try:
        _run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", namespace)
        _run("ip", "address", "add", f"{HERE}/30", "dev", near)
        _run("ip", "link", "set", near, "up")
        _run("ip", "-n", namespace, "address", "add", f"{THERE}/30", "dev", far)
        _run("ip", "-n", namespace, "link", "set", far, "up")
        _run("ethtool", "-K", near, "tx-udp-segmentation", "off")
        yield namespace
    finally:
        _run("ip", "netns", "delete", namespace)


def _clear_up() -> None:
    """What a benchmark left that was killed: the pair goes with its namespace."""
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    for line in listed.splitlines():
        name = line.partition(" ")[0]
        process = name.removeprefix(NAMESPACE)
        if process != name and process.isdecimal() and not Path(f"/proc/{process}").exists():
            _run("ip", "netns", "delete", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
