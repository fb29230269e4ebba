"""RtpSocket on loopback, on both event loops: latching, segmentation, counters, ports."""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from media import datagrams
from media.datagrams import MAX_SEGMENTS, DatagramSender, runs
from media.rtp_socket import (
    RELATCH_AFTER,
    NoPortLeft,
    PortPair,
    PortRange,
    RtpSocket,
    SymmetricLatch,
)
from media.srtp import AES_CM_128_HMAC_SHA1_80, MasterKey, SrtpSession
from media.transport import Address, MediaTransport, PeerMoved, TransportEvent, WireCounters

HOST = "127.0.0.1"


class Receiver:
    """Keeps what came and lets a test wait for it."""

    def __init__(self) -> None:
        self.rtp: list[tuple[bytes, Address]] = []
        self.rtcp: list[bytes] = []
        self.events: list[TransportEvent] = []
        self._changed = asyncio.Event()

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        self.rtp.append((data, source))
        self._changed.set()

    def rtcp_received(self, data: bytes, source: Address, arrival: float) -> None:
        self.rtcp.append(data)
        self._changed.set()

    def transport_event(self, event: TransportEvent) -> None:
        self.events.append(event)

    async def until(self, rtp: int = 0, rtcp: int = 0) -> None:
        async with asyncio.timeout(5):
            while len(self.rtp) < rtp or len(self.rtcp) < rtcp:
                self._changed.clear()
                await self._changed.wait()


def rtp(sequence: int, payload: bytes = b"media", payload_type: int = 96, ssrc: int = 7) -> bytes:
    return (
        bytes((0x80, payload_type))
        + (sequence & 0xFFFF).to_bytes(2, "big")
        + bytes(4)
        + ssrc.to_bytes(4, "big")
        + payload
    )


RECEIVER_REPORT = bytes.fromhex("80c9000100000007")


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.settimeout(5)
    with sock:
        yield sock


def open_socket(receiver: Receiver, **options: Any) -> RtpSocket:
    return RtpSocket.open(receiver, bind=HOST, ports=PortRange(41000, 48999), **options)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_frames_leave_and_arrive_whole_and_are_counted(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(frames_leave_and_arrive_whole_and_are_counted())


async def frames_leave_and_arrive_whole_and_are_counted() -> None:
    left, right = Receiver(), Receiver()
    a, b = open_socket(left), open_socket(right, dscp=34)
    transport: MediaTransport = a
    a.set_remote((HOST, b.ports.rtp))
    b.set_remote((HOST, a.ports.rtp))
    frame = [rtp(n, bytes((n,)) * 1188) for n in range(70)] + [rtp(70, b"short"), rtp(71, b"longer again")]
    transport.send_rtp(frame)
    transport.send_rtcp(RECEIVER_REPORT)
    await right.until(rtp=72, rtcp=1)
    assert [data for data, _ in right.rtp] == frame
    assert {source for _, source in right.rtp} == {(HOST, a.ports.rtp)}
    assert right.rtcp == [RECEIVER_REPORT]
    length = sum(map(len, frame)) + len(RECEIVER_REPORT) + 73 * 28
    assert (a.counters.datagrams_sent, a.counters.bytes_sent) == (73, length)
    assert (b.counters.datagrams_received, b.counters.bytes_received) == (73, length)
    assert a.overhead == 28
    assert b.last_received is not None
    b.send_rtp([rtp(1)])
    await left.until(rtp=1)
    a.close()
    b.close()
    a.send_rtp(frame)
    assert a.counters.send_refused == 72


async def test_media_follows_the_source_once(peer: socket.socket) -> None:
    receiver = Receiver()
    ours = open_socket(receiver)
    there = (HOST, ours.ports.rtp)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as described:
        described.bind((HOST, 0))
        described.settimeout(5)
        ours.set_remote(described.getsockname())
        ours.send_rtp([rtp(1, b"to the description")])
        assert described.recv(2000)[12:] == b"to the description"
        peer.sendto(rtp(10), there)
        peer.sendto(rtp(11), there)
        await receiver.until(rtp=2)
        assert [data for data, _ in receiver.rtp] == [rtp(10), rtp(11)]
        assert receiver.events == [PeerMoved(peer.getsockname())]
        ours.send_rtp([rtp(2, b"to the source")])
        assert peer.recv(2000)[12:] == b"to the source"
        described.sendto(rtp(20), there)
        described.sendto(rtp(21), there)
        peer.sendto(rtp(12), there)
        await receiver.until(rtp=3)
        assert receiver.rtp[-1][0] == rtp(12)
        assert ours.counters.rejected == 2
        ours.relatch()
        described.sendto(rtp(22), there)
        await receiver.until(rtp=4)
        assert ours.remote == described.getsockname()
    ours.close()


async def test_only_valid_media_latches(peer: socket.socket) -> None:
    receiver = Receiver()
    ours = open_socket(receiver)
    ours.set_remote((HOST, 9))
    ours.expect({96})
    there = (HOST, ours.ports.rtp)
    for junk in (
        b"",
        b"x" * 40,
        rtp(1, payload_type=97),
        rtp(2, payload_type=97),
        b"\x9f" + rtp(3)[1:],
        RECEIVER_REPORT[:4],
    ):
        peer.sendto(junk, there)
    peer.sendto(rtp(5), there)
    peer.sendto(rtp(9), there)
    peer.sendto(rtp(10), there)
    await receiver.until(rtp=2)
    assert [data for data, _ in receiver.rtp] == [rtp(9), rtp(10)]
    assert ours.counters.rejected == 7
    ours.close()


def test_the_latch_lets_go_after_silence() -> None:
    latch = SymmetricLatch()
    described, first, second = (HOST, 1), (HOST, 2), (HOST, 3)
    latch.describe(described)
    assert not latch.accepts(first, 7, 65535, 0.0)
    assert not latch.accepts(second, 7, 0, 0.0)
    assert not latch.accepts(first, 7, 0, 0.0)
    assert not latch.accepts(first, 8, 1, 0.0)
    assert latch.accepts(first, 8, 2, 0.1)
    assert latch.target == first
    silent = 0.1 + RELATCH_AFTER
    assert not latch.accepts(second, 9, 5, silent - 0.01)
    assert not latch.accepts(second, 9, 6, silent)
    assert latch.accepts(first, 8, 3, silent)
    assert not latch.accepts(second, 9, 7, 2 * silent)
    assert latch.accepts(second, 9, 8, 2 * silent)
    assert latch.target == second
    latch.describe((HOST, 1))
    assert latch.target == second
    latch.describe((HOST, 4))
    assert latch.target == (HOST, 4)


async def test_srtp_by_description(peer: socket.socket) -> None:
    left, right = Receiver(), Receiver()
    a, b = open_socket(left), open_socket(right)
    keys = [MasterKey.generate(AES_CM_128_HMAC_SHA1_80) for _ in range(2)]
    a.secure(SrtpSession(AES_CM_128_HMAC_SHA1_80, keys[0], keys[1]))
    b.secure(SrtpSession(AES_CM_128_HMAC_SHA1_80, keys[1], keys[0]))
    a.set_remote((HOST, b.ports.rtp))
    b.set_remote((HOST, 9))
    assert a.overhead == 38
    for sequence in (1, 2):  # clear packets of a stranger must not latch
        peer.sendto(rtp(sequence, bytes(40)), (HOST, b.ports.rtp))
    a.send_rtp([rtp(1), rtp(2)])
    await right.until(rtp=2)
    a.send_rtcp(RECEIVER_REPORT)
    await right.until(rtcp=1)
    assert [data for data, _ in right.rtp] == [rtp(1), rtp(2)]
    assert right.rtcp == [RECEIVER_REPORT]
    assert b.counters.rejected == 2
    a.send_rtp([bytes(11)])
    assert a.counters.send_refused == 1
    a.close()
    b.close()


async def test_one_port_for_both() -> None:
    left, right = Receiver(), Receiver()
    a, b = open_socket(left, rtcp_mux=True), open_socket(right, rtcp_mux=True)
    assert a.ports.rtp == a.ports.rtcp
    a.set_remote((HOST, b.ports.rtp))
    a.send_rtp([rtp(1), rtp(2)])
    b.set_remote((HOST, a.ports.rtp))
    a.send_rtcp(RECEIVER_REPORT)
    b.send_rtcp(RECEIVER_REPORT)
    await right.until(rtp=2, rtcp=1)
    await left.until(rtcp=1)
    a.close()
    b.close()


async def test_ports_come_from_the_range_and_can_be_taken_over() -> None:
    receiver = Receiver()
    small = PortRange(48101, 48105)
    assert sorted(p.rtp for p in small.pairs()) == [48102, 48104]
    first = RtpSocket.open(receiver, bind=HOST, ports=small)
    second = RtpSocket.open(receiver, bind=HOST, ports=small)
    assert {first.ports, second.ports} == {PortPair(48102, 48103), PortPair(48104, 48105)}
    with pytest.raises(NoPortLeft, match=r"127\.0\.0\.1"):
        RtpSocket.open(receiver, bind=HOST, ports=small)
    with pytest.raises(NoPortLeft):
        RtpSocket.open(receiver, bind=HOST, ports=first.ports)
    ports = first.ports
    first.close()
    first.close()
    again = RtpSocket.open(receiver, bind=HOST, ports=ports)
    assert again.ports == ports
    again.close()
    second.close()
    with pytest.raises(OSError, match="assign"):
        RtpSocket.open(receiver, bind="192.0.2.1", ports=small)


async def test_the_mark_is_on_the_packets(peer: socket.socket) -> None:
    peer.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    ours = open_socket(Receiver(), dscp=46)
    ours.set_remote(peer.getsockname())
    ours.send_rtp([rtp(1, bytes(500)), rtp(2, bytes(500))])
    for _ in range(2):
        _, ancillary, _, _ = peer.recvmsg(2000, 100)
        assert ancillary[0][2][0] == 46 << 2
    ours.close()


async def test_ipv6_counts_its_longer_header() -> None:
    receiver = Receiver()
    try:
        ours = RtpSocket.open(receiver, bind="::1", ports=PortRange(41000, 48999))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    ours.set_remote(("::1", ours.ports.rtp))
    ours.send_rtp([rtp(1), rtp(2)])
    await receiver.until(rtp=2)
    assert receiver.rtp[0][1] == ("::1", ours.ports.rtp)
    assert ours.counters.bytes_sent == ours.counters.bytes_received == 2 * (17 + 48)
    ours.close()


@given(st.lists(st.sampled_from((0, 5, 1200, 1201, 30000)) | st.integers(0, 1500), min_size=1, max_size=150))
def test_every_run_is_one_the_kernel_can_segment(sizes: list[int]) -> None:
    packets = [bytes(size) for size in sizes]
    cut = list(runs(packets))
    assert [packet for run in cut for packet in run] == packets
    for run in cut:
        assert len(run) <= MAX_SEGMENTS
        assert len(run) == 1 or sum(map(len, run)) <= 65487
        assert {len(packet) for packet in run[:-1]} <= {len(run[0])}
        assert len(run[-1]) <= len(run[0])
    assert datagrams._is_run(sizes) is (len(cut) == 1 and len(packets) * sizes[0] <= 65487)


class RefusingSocket:
    """A kernel that knows no UDP_SEGMENT, or whose buffer is full."""

    family = socket.AF_INET

    def __init__(self, error: int, each: int = 0) -> None:
        self.error, self.each = error, each
        self.calls: list[str] = []

    def sendmsg(self, *_: object) -> int:
        self.calls.append("sendmsg")
        raise OSError(self.error, "refused")

    def sendto(self, data: bytes, _: Address) -> int:
        self.calls.append("sendto")
        if self.each:
            raise OSError(self.each, "refused")
        return len(data)


@pytest.mark.parametrize("error", [errno.EIO, errno.EINVAL])
def test_segmentation_refused_is_remembered(error: int) -> None:
    sock: Any = RefusingSocket(error)
    sender, counters = DatagramSender(sock), WireCounters()
    sender.send([b"abc"] * 3, (HOST, 9), counters)
    sender.send([b"abc"] * 2, (HOST, 9), counters)
    assert sock.calls == ["sendmsg"] + ["sendto"] * 5
    assert (counters.datagrams_sent, counters.bytes_sent) == (5, 5 * 31)


def test_full_buffers_and_missing_routes_are_counted() -> None:
    full: Any = RefusingSocket(errno.EAGAIN, errno.EAGAIN)
    counters = WireCounters()
    DatagramSender(full).send([b"abc"] * (MAX_SEGMENTS + 1), (HOST, 9), counters)
    assert counters == WireCounters(send_dropped=MAX_SEGMENTS + 1)
    unreachable: Any = RefusingSocket(errno.ENETUNREACH, errno.ENETUNREACH)
    counters = WireCounters()
    DatagramSender(unreachable).send([b"abc", b"abc", b"abcd"], (HOST, 9), counters)
    assert counters == WireCounters(send_refused=3)
