"""`python -m benchmarks._fan_out_sender WAY HOST`: the process under test of the fan-out benchmark.

Standard input is one JSON object {source: file of frames, ports: [...], seconds}; standard output one JSON
object, an `Outcome`. The ways:

    sendto      the peer: one socket, one sendto a packet and receiver, headers untouched
    rtp         an RtpSender and an RtpSocket a receiver: headers of its own, each frame at once
    rtp-paced   the same through the pacers of a worker, as meetings do
    srtp-paced  the same again under AEAD_AES_128_GCM
"""

import asyncio
import json
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import uvloop

from media.frame_packets import FramePackets
from media.pacer import QUEUE_SECONDS, PacedFlow, PacedFrame, Pacer, PacingClock
from media.rtp_sender import RtpSender, SenderSettings
from media.rtp_socket import PortRange, RtpSocket
from media.srtp import AEAD_AES_128_GCM, MasterKey, SrtpSession
from media.transport import NobodyListening

FRAME_RATE = 25
BUDGET = 3_500_000  # what a source of 3 Mbit/s needs with its headers, and some air


class SourceFrame(msgspec.Struct):
    """One frame as RTP payloads."""

    payloads: list[bytes]
    keyframe: bool


@dataclass
class Outcome:
    """`cpu` is seconds of this process while frames were sent, without its set-up."""

    cpu: float = 0.0
    sent: int = 0
    dropped: int = 0


@dataclass
class Receiver:
    """One of the many: its own numbers in the headers, its own socket and pacer."""

    socket: RtpSocket
    sender: RtpSender
    pacer: Pacer[PacedFlow] = field(default_factory=lambda: Pacer(BUDGET))


def used() -> float:
    """CPU seconds of this process, the kernel's work for it included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def send_plainly(frames: Sequence[SourceFrame], host: str, ports: Sequence[int], total: int) -> Outcome:
    """The yardstick."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * 1024 * 1024)
    header = bytes((0x80, 96)) + bytes(10)
    ready = [[header + payload for payload in frame.payloads] for frame in frames]
    addresses = [(host, port) for port in ports]
    outcome = Outcome()
    before, begin = used(), time.monotonic()
    for n in range(total):
        time.sleep(max(0.0, begin + n / FRAME_RATE - time.monotonic()))
        for packet in ready[n % len(ready)]:
            for address in addresses:
                sock.sendto(packet, address)
        outcome.sent += len(ready[n % len(ready)]) * len(addresses)
    outcome.cpu = used() - before
    return outcome


async def send_by_sockets(
    frames: Sequence[SourceFrame], host: str, ports: Sequence[int], total: int, *, paced: bool, secure: bool
) -> Outcome:
    """Ours."""
    receivers = [_receiver(host, port, n, secure) for n, port in enumerate(ports)]
    clock = PacingClock()
    before, begin = used(), time.monotonic()
    for n in range(total):
        await asyncio.sleep(max(0.0, begin + n / FRAME_RATE - time.monotonic()))
        frame = frames[n % len(frames)]
        now = time.monotonic()
        for receiver in receivers:
            headers = receiver.sender.headers(frame.payloads, n * 3600, now)
            packets = FramePackets(headers, frame.payloads)
            if paced:
                overhead = receiver.socket.overhead
                paced_frame: PacedFrame[PacedFlow] = PacedFrame(
                    receiver.socket, packets, overhead, keyframe=frame.keyframe
                )
                clock.send(receiver.pacer, paced_frame)
            else:
                receiver.socket.send_rtp(packets)
    await asyncio.sleep(QUEUE_SECONDS / 2)  # the pacers' last frames leave
    clock.close()
    outcome = Outcome(used() - before)
    for receiver in receivers:
        counters = receiver.socket.counters
        outcome.sent += counters.datagrams_sent
        outcome.dropped += counters.send_dropped + counters.send_refused
        outcome.dropped += (
            receiver.pacer.counters.overflowed_frames + receiver.pacer.counters.awaiting_keyframe
        )
        receiver.socket.close()
    return outcome


def _receiver(host: str, port: int, n: int, secure: bool) -> Receiver:
    own = "127.0.0.1" if host.startswith("127.") else "0.0.0.0"
    sock = RtpSocket.open(NobodyListening(), bind=own, ports=PortRange(30000, 32767))
    sock.set_remote((host, port))
    if secure:
        keys = MasterKey.generate(AEAD_AES_128_GCM), MasterKey.generate(AEAD_AES_128_GCM)
        sock.secure(SrtpSession(AEAD_AES_128_GCM, *keys))
    return Receiver(sock, RtpSender(SenderSettings(1000 + n, "bench", 96 + n % 20, 90_000)))


def main() -> None:
    way, host = sys.argv[1:3]
    order = json.loads(sys.stdin.readline())
    frames = msgspec.msgpack.decode(Path(order["source"]).read_bytes(), type=list[SourceFrame])
    ports, total = order["ports"], int(order["seconds"] * FRAME_RATE)

    def ours(paced: bool, secure: bool) -> Outcome:
        return uvloop.run(send_by_sockets(frames, host, ports, total, paced=paced, secure=secure))

    ways: dict[str, Callable[[], Outcome]] = {
        "sendto": lambda: send_plainly(frames, host, ports, total),
        "rtp": lambda: ours(False, False),
        "rtp-paced": lambda: ours(True, False),
        "srtp-paced": lambda: ours(True, True),
    }
    print(json.dumps(asdict(ways[way]())))


if __name__ == "__main__":
    main()
