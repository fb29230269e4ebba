"""A worker whose processors are busy gives a lower class first, then refuses newcomers, and says why."""

from __future__ import annotations

import os
import time
from contextlib import AsyncExitStack
from dataclasses import replace

from foundation.desks import ConferenceSpec, EncoderReport, Refusal, RefusalKind, View
from mcu_bridge.access import MediaAccess
from mcu_bridge.bridge import Bridge
from media.rtp_socket import PortRange
from tests.mcu_bridge.conftest import MEETING, Stage, settings
from tests.mcu_bridge.rtp_peer import BLUE, GREEN, RED, RtpPeer, Tile
from tests.peers.ports import PortBlock
from tests.peers.waiting import until

LIMIT = 0.8


class Processors:
    """What a worker used of them: `share` of all from its last change on."""

    def __init__(self) -> None:
        self._share, self._used, self._since = 0.0, 0.0, time.monotonic()

    def __call__(self) -> float:
        return self._used + (time.monotonic() - self._since) * self._share * (os.cpu_count() or 1)

    def keep_busy(self, share: float) -> None:
        self._used, self._since = self(), time.monotonic()
        self._share = share


async def test_a_lower_class_first_then_503(access: MediaAccess, block: PortBlock) -> None:
    first = block.take(40, even=True)
    ports, busy = PortRange(first, first + 39), Processors()
    configured = replace(settings(), cpu_limit=LIMIT, processor_time=busy)
    async with AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(Bridge(configured, access, lambda _event: None))
        await bridge.open(ConferenceSpec(MEETING, "1000", "A meeting", View()))
        stage = Stage(access, ports, bridge)
        red = await stack.enter_async_context(RtpPeer(RED, 440.0, ports))
        green = await stack.enter_async_context(RtpPeer(GREEN, 0.0, ports))
        blue = await stack.enter_async_context(RtpPeer(BLUE, 0.0, ports))

        async def encoders() -> tuple[EncoderReport, ...]:
            return (await bridge.report(MEETING)).encoders

        await stage.join("red", red)
        await stage.join("green", green)
        await green.sees(RED, Tile(0, 0, 2, 1))
        (encoder,) = await encoders()
        assert (encoder.key, encoder.reason) == ("mosaic H264 640x360@25 600k", "mosaic")

        busy.keep_busy(0.97 * LIMIT)
        lower = await until(encoders, lambda all_: "@15" in all_[0].key, "a lower class", 15.0)
        assert lower[0].key == "mosaic H264 640x360@15 360k"
        assert lower[0].reason.startswith("mosaic; 1 of 3 rungs lower, this worker keeps ")
        assert lower[0].reason.endswith("% of the processors busy, its limit is 80%")
        await stage.join("blue", blue)
        await bridge.drop("blue")

        busy.keep_busy(1.0)

        async def refused() -> Refusal | None:
            try:
                await bridge.admit(stage.spec("blue"), blue.offer())
            except Refusal as refusal:
                return refusal
            await bridge.drop("blue")
            return None

        refusal = await until(refused, lambda refusal: refusal is not None, "blue to be refused", 15.0)
        assert refusal is not None
        assert (refusal.kind, refusal.retry_after) == (RefusalKind.NO_CAPACITY, 15)
        assert str(refusal).startswith("this worker keeps ")
        assert (await bridge.vitals()).cpu_share > LIMIT
        await green.sees(RED, Tile(0, 0, 2, 1))
