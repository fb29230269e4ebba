"""An outlet and its players: who is asked, who is sent to straight, and in packets of what size."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from media.packet import Format, Packet
from media.stream import Stream
from protocols.rtp.packet import RtpPacket
from protocols.rtsp.framing import Interleaved, RtspFramer
from stream_relay.rtsp_outlet import OutletFrame, RtspOutlet

H264 = Format("H264", 90_000)
CHANNEL = 4


def picture(number: int, size: int = 30_000) -> Packet:
    kind = b"\x65" if number == 0 else b"\x41"
    return Packet(b"\x00\x00\x00\x01" + kind + b"\xa5" * size, 3600 * number, number / 25, number == 0)


def packets(data: bytes) -> list[RtpPacket]:
    events = list(RtspFramer().feed(data))
    assert all(isinstance(event, Interleaved) and event.channel == CHANNEL for event in events)
    return [RtpPacket.parse(event.data) for event in events if isinstance(event, Interleaved)]


@dataclass(eq=False)
class Player:
    """Takes frames as a connection does, and as much of one that is sent straight as its socket has room."""

    asked: list[OutletFrame] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    rests: list[bytes] = field(default_factory=list)
    room: float = math.inf
    reports: int = 0
    ended: int = 0

    def take_frame(self, outlet: RtspOutlet, frame: OutletFrame) -> None:
        self.asked.append(frame)

    def take_rest(self, outlet: RtspOutlet, rest: bytes) -> None:
        outlet.ask(self)
        self.rests.append(rest)

    def take_report(self, outlet: RtspOutlet, datagram: bytes) -> None:
        self.reports += 1

    def outlet_ended(self, outlet: RtspOutlet) -> None:
        self.ended += 1

    def send(self, data: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        taken = data[: int(min(self.room, len(data)))]
        self.sent.append(taken)
        return len(taken)


def test_packets_over_tcp_are_large_and_datagrams_are_not() -> None:
    stream = Stream("camera", H264)
    for tcp, largest in ((True, 8192), (False, 1412)):
        outlet, player = RtspOutlet(stream, 0, tcp=tcp), Player()
        outlet.join(player)
        stream.publish(picture(0))
        sizes = player.asked[-1].packets.sizes
        assert max(sizes) == largest
        assert sum(sizes) > 30_000
        outlet.close()


@pytest.mark.parametrize("room", [0, 1, 20_000])
def test_who_is_sent_to_straight_gets_each_frame_once_whole_and_in_order(room: int) -> None:
    stream = Stream("camera", H264)
    outlet = RtspOutlet(stream, 0, tcp=True)
    player, asked = Player(), Player()
    for one in (player, asked):
        outlet.join(one)
    stream.publish(picture(0))
    outlet.send_straight(player, CHANNEL, player.send)
    stream.publish(picture(1))
    player.room = room
    stream.publish(picture(2))
    stream.publish(picture(3))
    assert outlet.players == 2
    assert len(asked.asked) == 4
    assert len(player.rests) == 1
    got = [
        player.asked[0].interleaved(CHANNEL),
        *player.sent,
        *player.rests,
        player.asked[1].interleaved(CHANNEL),
    ]
    assert len(player.asked) == 2
    assert b"".join(got) == b"".join(frame.interleaved(CHANNEL) for frame in asked.asked)
    numbers = packets(b"".join(got))
    first = numbers[0].sequence_number
    assert [one.sequence_number for one in numbers] == [(first + n) & 0xFFFF for n in range(len(numbers))]
    assert sum(one.marker for one in numbers) == 4


def test_reports_and_the_end_reach_everybody_and_who_left_nothing() -> None:
    stream = Stream("camera", H264)
    outlet = RtspOutlet(stream, 0, tcp=True)
    straight, asked, gone = Player(), Player(), Player()
    for one in (straight, asked, gone):
        outlet.join(one)
    outlet.send_straight(straight, CHANNEL, straight.send)
    outlet.send_straight(gone, CHANNEL, gone.send)
    outlet.leave(gone)
    outlet.send_straight(gone, CHANNEL, gone.send)  # who has left is not let in again
    stream.publish(picture(0))
    outlet.report(1.0, 1.0)
    stream.close()
    assert [(one.reports, one.ended) for one in (straight, asked, gone)] == [(1, 1), (1, 1), (0, 0)]
    assert (len(straight.sent), len(gone.sent)) == (1, 0)
    assert outlet.players == 2
