"""An outlet and its players: who is asked, who is written to straight, and in packets of what size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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
    """Takes frames as a connection does; `on_write` runs inside a straight write, as a pause may."""

    asked: list[OutletFrame] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    reports: int = 0
    ended: int = 0
    on_write: Callable[[], None] | None = None

    def take_frame(self, outlet: RtspOutlet, frame: OutletFrame) -> None:
        self.asked.append(frame)

    def take_report(self, outlet: RtspOutlet, datagram: bytes) -> None:
        self.reports += 1

    def outlet_ended(self, outlet: RtspOutlet) -> None:
        self.ended += 1

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if self.on_write is not None:
            self.on_write()


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


def test_who_is_written_to_straight_gets_each_frame_once_whole_and_in_order() -> None:
    stream = Stream("camera", H264)
    outlet = RtspOutlet(stream, 0, tcp=True)
    player, asked = Player(), Player()
    for one in (player, asked):
        outlet.join(one)
    stream.publish(picture(0))
    outlet.write_straight(player, CHANNEL, player.write)
    stream.publish(picture(1))
    player.on_write = lambda: outlet.ask(player)  # paused by this frame
    stream.publish(picture(2))
    stream.publish(picture(3))
    assert outlet.players == 2
    assert len(asked.asked) == 4
    frames = [player.asked[0].interleaved(CHANNEL), *player.written, player.asked[1].interleaved(CHANNEL)]
    assert len(player.asked) == 2
    assert frames == [frame.interleaved(CHANNEL) for frame in asked.asked]
    got = packets(b"".join(frames))
    first = got[0].sequence_number
    assert [one.sequence_number for one in got] == [(first + n) & 0xFFFF for n in range(len(got))]
    assert sum(one.marker for one in got) == 4


def test_reports_and_the_end_reach_everybody_and_who_left_nothing() -> None:
    stream = Stream("camera", H264)
    outlet = RtspOutlet(stream, 0, tcp=True)
    straight, asked, gone = Player(), Player(), Player()
    for one in (straight, asked, gone):
        outlet.join(one)
    outlet.write_straight(straight, CHANNEL, straight.write)
    outlet.write_straight(gone, CHANNEL, gone.write)
    outlet.leave(gone)
    outlet.write_straight(gone, CHANNEL, gone.write)  # who has left is not let in again
    stream.publish(picture(0))
    outlet.report(1.0, 1.0)
    stream.close()
    assert [(one.reports, one.ended) for one in (straight, asked, gone)] == [(1, 1), (1, 1), (0, 0)]
    assert (len(straight.written), len(gone.written)) == (1, 0)
    assert outlet.players == 2
