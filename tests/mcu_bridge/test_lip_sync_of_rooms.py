"""A flash and a beep at once: how far apart they reach another room, by the sender reports it gets."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import deque

import numpy as np
import pytest

from foundation.desks import SectionKind, View, ViewMode
from media.packet import Packet
from media.rtp_socket import PortRange
from media.sound_codecs import FRAME, RATE
from tests.mcu_bridge.conftest import MEETING, Stage
from tests.mcu_bridge.rtp_peer import GREEN, RtpPeer, Yuv, footage
from tests.peers.waiting import until_true

DARK: Yuv = (40, 128, 128)
BRIGHT: Yuv = (210, 128, 128)
SIZE = (320, 180)
EVERY = 0.8
LASTING = 0.24
ALLOWED = 0.080


class Clapper(RtpPeer):
    """Flashes and beeps about every 0.8 s, each flash with the picture taken as its beep begins.

    Its pictures come `late`, as its sender reports say.
    """

    def __init__(self, ports: PortRange, late: float) -> None:
        super().__init__(DARK, 1000.0, ports)
        self._late = late
        self._frames = {on: footage(colour, "H264", 200_000, SIZE)[0][0] for on, colour in
                        ((True, BRIGHT), (False, DARK))}  # fmt: skip
        self._on = False
        self._taken: deque[tuple[float, bool]] = deque()

    def _play(self, now: float) -> None:
        if self._ticks % 4 == 0:
            self._on = now % EVERY < LASTING
            self._taken.append((now, self._on))
        times = now + np.arange(FRAME) / RATE
        samples = np.round(np.sin(2 * math.pi * self.hertz * times) * 8000 * self._on).astype(np.int16)
        payloads = self._sound_packetizer.packetize(self._sound_encoder.encode(samples))
        sender = self._senders[SectionKind.AUDIO]
        self.send_sound(sender.packets(payloads, self._ticks * 160, now, marker=False))

    def _show(self, now: float) -> None:
        while self._taken and self._taken[0][0] <= now - self._late:
            taken, on = self._taken.popleft()
            payloads = self._picture_packetizer.packetize(self._frames[on])
            sender = self._senders[SectionKind.VIDEO]
            packets = sender.packets(payloads, round(taken * 90_000), now, captured=taken)
            self._sockets[SectionKind.VIDEO].send_rtp(packets)


class Watcher(RtpPeer):
    """Notes when, by the sender reports, a flash and a beep began."""

    def __init__(self, ports: PortRange) -> None:
        super().__init__(GREEN, 0.0, ports)
        self.flashes: list[float] = []
        self.beeps: list[float] = []
        self._bright = self._loud = True

    def forget(self) -> None:
        self.flashes.clear()
        self.beeps.clear()

    def take_rtp(self, kind: SectionKind, data: bytes, arrival: float) -> None:
        receiver = self._receivers[kind]
        for frame in receiver.receive_rtp(data, arrival):
            at = receiver.ntp_at(frame.timestamp)
            if kind is SectionKind.AUDIO:
                self._listen(self._sound_decoder.decode(frame.data), at)
                continue
            packet = Packet(frame.data, frame.timestamp, arrival, frame.keyframe, frame.damaged)
            for picture in self._decoder.decode(packet):
                bright = bool((picture.y > 150).mean() > 0.1)
                if bright and not self._bright and at is not None:
                    self.flashes.append(at)
                self._bright = bright

    def _listen(self, samples: np.ndarray, at: float | None) -> None:
        loud = np.abs(samples.astype(int)) > 2500
        if loud.any() and not self._loud and at is not None:
            self.beeps.append(at + int(np.argmax(loud)) / RATE)
        self._loud = bool(loud.any())

    def apart(self) -> list[float]:
        """Of each beep: how much later it is than the flash next to it; below 0 for one that is early."""
        flashes = self.flashes
        return [beep - min(flashes, key=lambda flash: abs(flash - beep)) for beep in self.beeps if flashes]


async def measured(watcher: Watcher) -> float:
    """The median of four, tried for twenty seconds: a busy machine holds up decoders for a while."""
    end = time.monotonic() + 20
    while True:
        watcher.forget()
        await until_true(
            lambda: len(watcher.beeps) >= 4 and len(watcher.flashes) >= 4, "four flashes and beeps", 15.0
        )
        apart = statistics.median(watcher.apart() or [math.inf])
        if abs(apart) <= ALLOWED or time.monotonic() >= end:
            return apart


@pytest.mark.parametrize("late", [0.0, 0.25])
async def test_flash_and_beep_arrive_together(stage: Stage, late: float) -> None:
    ports = stage.peer_ports
    async with Clapper(ports, late) as clapper, Watcher(ports) as watcher:
        await stage.join("clapper", clapper)
        await stage.join("watcher", watcher)
        await asyncio.sleep(2.0)  # sender reports come, and enough of both media to compare
        mosaic = await measured(watcher)
        await stage.bridge.set_view(MEETING, View(ViewMode.FULL_SCREEN, "clapper"))
        await asyncio.sleep(0.5)
        forwarded = await measured(watcher)
        assert abs(mosaic) <= ALLOWED, mosaic
        assert abs(forwarded) <= ALLOWED, forwarded
