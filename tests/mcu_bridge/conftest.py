"""A real bridge on loopback, and rooms that speak RTP to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from foundation.desks import (
    Budget,
    ConferenceSpec,
    MediaDescription,
    ParticipantSpec,
    SectionKind,
    View,
    ViewMode,
)
from foundation.events import Event
from mcu_bridge.access import MediaAccess, MediaNetwork
from mcu_bridge.bridge import Bridge, BridgeSettings
from mcu_bridge.picture_plan import Canvas
from media.dtls import DtlsCertificate
from media.rtp_socket import PortRange
from tests.mcu_bridge.cameras import Camera, Cameras
from tests.mcu_bridge.rtp_peer import GREEN, RED, RtpPeer, Tile
from tests.peers.ports import PortBlock

MEETING = "meeting"
FULL = Budget(1_200_000, 1_200_000)
LEFT, RIGHT = Tile(0, 0, 2, 1), Tile(1, 0, 2, 1)
"""The tiles of a mosaic of two."""


def full_screen(name: str) -> View:
    return View(ViewMode.FULL_SCREEN, name)


@dataclass
class Stage:
    """One bridge with one meeting, and the peers that are in it by their names."""

    access: MediaAccess
    peer_ports: PortRange
    bridge: Bridge
    events: list[Event] = field(default_factory=list)
    cameras: Cameras = field(default_factory=Cameras)
    answers: dict[str, MediaDescription] = field(default_factory=dict)
    """What those who joined were told, by their names."""

    def spec(self, name: str, budget: Budget = FULL, *, muted: bool = False) -> ParticipantSpec:
        return ParticipantSpec(name, MEETING, name, "lan", budget, muted=muted)

    async def join(
        self,
        name: str,
        peer: RtpPeer,
        budget: Budget = FULL,
        *,
        offer: MediaDescription | None = None,
    ) -> MediaDescription:
        answer = await self.bridge.admit(self.spec(name, budget), offer or peer.offer())
        peer.answered(answer)
        self.answers[name] = answer
        return answer

    @asynccontextmanager
    async def pair(self, *, secure: bool = False) -> AsyncIterator[tuple[RtpPeer, RtpPeer]]:
        """Red at 440 Hz, secured if wanted, and green at 900 Hz have joined."""
        ports = self.peer_ports
        async with RtpPeer(RED, 440.0, ports, secure=secure) as red, RtpPeer(GREEN, 900.0, ports) as green:
            await self.join("red", red)
            await self.join("green", green)
            yield red, green

    async def bring(self, name: str, camera: Camera) -> None:
        """A camera takes part."""
        self.cameras[f"camera:{name}"] = camera
        await self.bridge.admit_stream(self.spec(name), f"camera:{name}")

    async def encoders(self) -> list[str]:
        return [encoder.key for encoder in (await self.bridge.report(MEETING)).encoders]

    async def feed(self, name: str, kind: SectionKind = SectionKind.VIDEO) -> str:
        """What a participant's picture is fed by."""
        report = await self.bridge.report(MEETING)
        legs = (
            leg for leg in report.legs if leg.participant_id == name and leg.kind is kind and leg.outgoing
        )
        return next((leg.source for leg in legs), "")


@pytest.fixture(scope="session")
def certificate() -> DtlsCertificate:
    return DtlsCertificate.generate()


@pytest.fixture
def block() -> Iterator[PortBlock]:
    with PortBlock() as block:
        yield block


@pytest.fixture
def access(block: PortBlock, certificate: DtlsCertificate) -> MediaAccess:
    first = block.take(40, even=True)
    network = MediaNetwork("lan", "127.0.0.1", "127.0.0.1", PortRange(first, first + 39), 0, 0)
    return MediaAccess({"lan": network}, certificate)


def settings() -> BridgeSettings:
    """A small canvas, and never too busy: other tests run beside this one."""
    return BridgeSettings(codec_threads=1, cpu_limit=100.0, canvas=Canvas(640, 360))


@pytest.fixture
async def stage(access: MediaAccess, block: PortBlock) -> AsyncIterator[Stage]:
    first = block.take(40, even=True)
    events: list[Event] = []
    async with AsyncExitStack() as stack:
        cameras = await stack.enter_async_context(Cameras())
        bridge = await stack.enter_async_context(Bridge(settings(), access, events.append, cameras))
        await bridge.open(ConferenceSpec(MEETING, "1000", "A meeting", View()))
        yield Stage(access, PortRange(first, first + 39), bridge, events, cameras)
