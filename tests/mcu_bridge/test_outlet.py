"""One stream to its receivers: begun at a key frame, split once, and no receiver stops another."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence

from mcu_bridge.outlet import Outlet
from media.packet import Format, Packet
from media.stream import Stream
from protocols.payloads import Packetizer
from protocols.payloads.h264 import H264Packetizer

KEY = b"\x00\x00\x00\x01\x65" + bytes(range(1, 200)) * 10
DELTA = b"\x00\x00\x00\x01\x41" + bytes(range(1, 100))


class Receiver:
    def __init__(self, mode: int = 1) -> None:
        self.outlet: Outlet | None = None
        self.sent: list[tuple[str, bool]] = []
        self.payloads: list[Sequence[bytes]] = []
        self.made = 0
        self._mode = mode

    @property
    def packetization(self) -> Hashable:
        return self._mode

    def make_packetizer(self) -> Packetizer:
        self.made += 1
        return H264Packetizer(self._mode, 1200)

    def send_picture(self, payloads: Sequence[bytes], packet: Packet, *, first: bool) -> None:
        assert self.outlet is not None
        self.payloads.append(payloads)
        self.sent.append((self.outlet.stream.id, first))


class Failing(Receiver):
    def send_picture(self, payloads: Sequence[bytes], packet: Packet, *, first: bool) -> None:
        raise OverflowError("planted")


class Source:
    def __init__(self, name: str) -> None:
        self.asked = 0
        self.stream = Stream(name, Format("H264", 90_000), on_keyframe_wanted=self._ask)
        self.outlet = Outlet(self.stream)

    def _ask(self) -> None:
        self.asked += 1

    def send(self, keyframe: bool = False) -> None:
        self.outlet.send(Packet(KEY if keyframe else DELTA, 0, 0.0, keyframe))


def test_a_receiver_begins_at_the_key_frame_it_asked_for() -> None:
    source, receiver = Source("a"), Receiver()
    source.outlet.attach(receiver)
    source.outlet.attach(receiver)
    assert source.asked == 1
    source.send()
    assert receiver.sent == []
    source.send(keyframe=True)
    source.send()
    assert receiver.sent == [("a", True), ("a", False)]


def test_the_old_picture_goes_on_until_the_new_ones_key_frame() -> None:
    old, new, receiver = Source("old"), Source("new"), Receiver()
    old.outlet.attach(receiver)
    old.send(keyframe=True)
    new.outlet.attach(receiver)
    old.send()
    new.send()
    old.send()
    new.send(keyframe=True)
    old.send()
    new.send()
    assert receiver.sent == [("old", True), ("old", False), ("old", False), ("new", True), ("new", False)]
    assert (old.outlet.receivers, new.outlet.receivers) == (0, 1)


def test_a_change_of_mind_leaves_the_picture_as_it_is() -> None:
    old, new, receiver = Source("old"), Source("new"), Receiver()
    old.outlet.attach(receiver)
    old.send(keyframe=True)
    new.outlet.attach(receiver)
    new.outlet.detach(receiver)
    new.send(keyframe=True)
    old.send()
    assert receiver.sent == [("old", True), ("old", False)]
    assert receiver.outlet is old.outlet


def test_receivers_of_one_packetization_share_the_split() -> None:
    source = Source("a")
    receivers = [Receiver(), Receiver(), Receiver()]
    for receiver in receivers:
        source.outlet.attach(receiver)
    source.send(keyframe=True)
    source.send()
    assert [receiver.made for receiver in receivers] == [1, 0, 0]
    assert receivers[0].payloads[0] is receivers[2].payloads[0]
    assert len(receivers[0].payloads[0]) == 2  # fragments of 1200 bytes


def test_what_cannot_be_split_is_counted_and_the_others_get_it() -> None:
    source, whole, short = Source("a"), Receiver(1), Receiver(0)
    source.outlet.attach(whole)
    source.outlet.attach(short)
    source.send(keyframe=True)
    assert len(whole.sent) == 1
    assert short.sent == []
    assert source.outlet.unsendable == 1


async def test_a_receiver_that_fails_stops_neither_the_others_nor_the_outlet() -> None:
    source, good = Source("a"), Receiver()
    source.outlet.attach(Failing())
    source.outlet.attach(good)
    running = asyncio.create_task(source.outlet.run())
    await asyncio.sleep(0)
    for keyframe in (True, False, False):
        source.stream.publish(Packet(KEY if keyframe else DELTA, 0, 0.0, keyframe))
    source.stream.publish(Packet(b"", 0, 0.0, False))
    source.stream.close()
    await running
    assert good.sent == [("a", True), ("a", False), ("a", False)]
    assert source.outlet.failed == 3
