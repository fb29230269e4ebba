"""Fuzzes every RTP payload format: `python -m fuzz.payloads [seconds] [seed] [format]`.

Mutations of fuzz/corpus/payloads/FORMAT (streams: two bytes of length before each payload) go through the
depacketizer with losses, lies of the marker and other timestamps; every frame that comes out goes into the
packetizers of its format. Each format gets `seconds`. Faults: any exception but a packetizer's ValueError, a
payload above the limit, memory that grows, an input that takes longer than a second. Culprits are kept in
build/fuzz/payloads.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fuzz.campaign import Campaign, main
from fuzz.messages import campaign
from protocols.payloads import Depacketizer, Packetizer
from protocols.payloads.aac import (
    AacDepacketizer,
    AacPacketizer,
    AacParameters,
    AudioSpecificConfig,
    MalformedAac,
)
from protocols.payloads.aac_latm import LatmDepacketizer, LatmPacketizer, StreamMuxConfig
from protocols.payloads.g711 import G711Depacketizer, G711Packetizer
from protocols.payloads.h261 import H261Depacketizer, H261Packetizer
from protocols.payloads.h263 import H263Depacketizer, H263Packetizer
from protocols.payloads.h263_plus import H263PlusDepacketizer, H263PlusPacketizer
from protocols.payloads.h264 import H264Packetizer
from protocols.payloads.h264_depacketizer import H264Depacketizer
from protocols.payloads.opus import OpusDepacketizer, OpusPacketizer
from protocols.payloads.telephone_event import TelephoneEventReceiver
from protocols.payloads.vp8 import Vp8Depacketizer, Vp8Packetizer

LIMIT = 1200
AAC = AacParameters.of({"config": "1190", "sizelength": "13", "indexlength": "3", "indexdeltalength": "3"})
LATM = StreamMuxConfig.of({"cpresent": "0", "config": "400023203fc0"})


@dataclass(frozen=True, slots=True)
class Format:
    """A payload format: what is fuzzed, and into what its frames go again."""

    depacketizer: Callable[[], Depacketizer]
    packetizers: tuple[Callable[[], Packetizer], ...]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "h261": Format(H261Depacketizer, (H261Packetizer,)),
        "h263": Format(H263Depacketizer, (H263Packetizer, H263PlusPacketizer)),
        "h263_plus": Format(H263PlusDepacketizer, (H263PlusPacketizer, H263Packetizer)),
        "h264": Format(
            H264Depacketizer, (lambda: H264Packetizer(1, LIMIT), lambda: H264Packetizer(0, LIMIT))
        ),
        "vp8": Format(Vp8Depacketizer, (Vp8Packetizer,)),
        "opus": Format(OpusDepacketizer, (OpusPacketizer,)),
        "g711": Format(G711Depacketizer, (G711Packetizer,)),
        "aac": Format(lambda: AacDepacketizer(AAC), (lambda: AacPacketizer(LIMIT),)),
        "aac_latm": Format(
            lambda: LatmDepacketizer(LATM, 90_000),
            (lambda: LatmPacketizer(LIMIT), lambda: AacPacketizer(LIMIT)),
        ),
    }
)
EVENTS = "telephone_event"


def try_stream(fuzzed: Format, stream: list[bytes], chance: random.Random) -> None:
    """Raises whatever is not the peer's fault."""
    receiver = fuzzed.depacketizer()
    senders = [make() for make in fuzzed.packetizers]
    frames = []
    timestamp = 0
    for payload in stream:
        marker = chance.random() < 0.3
        frames += receiver.push(payload, timestamp, marker, chance.random() < 0.1)
        if marker or chance.random() < 0.05:
            timestamp += chance.choice((3600, 3000, -3000, 1 << 31))
    frames += receiver.flush()
    if sum(len(frame.data) for frame in frames) > 16 * sum(map(len, stream)) + 65_536:
        raise AssertionError("more came out than went in")
    for frame in frames:
        for sender in senders:
            try:
                payloads = sender.packetize(frame.data)
            except ValueError:
                continue
            if isinstance(sender, OpusPacketizer | G711Packetizer):
                continue
            if max(map(len, payloads), default=0) > LIMIT:
                raise AssertionError(f"a payload of {max(map(len, payloads))} bytes")


def try_configuration(stream: list[bytes]) -> None:
    """The same bytes as the configurations of descriptions."""
    for payload in stream:
        for parse in (AudioSpecificConfig.parse, StreamMuxConfig.parse):
            try:
                parse(payload[:64])
            except MalformedAac:
                continue


def try_events(stream: list[bytes], chance: random.Random) -> None:
    receiver = TelephoneEventReceiver()
    timestamp = 0
    for payload in stream:
        event = receiver.push(payload, timestamp, chance.random() < 0.3)
        if event is not None:
            bytes(event)
            _ = event.digit
        timestamp += chance.choice((0, 0, 160, 8000, -160))


def damaged(chance: random.Random, payload: bytes) -> bytes:
    """A payload with something before it, or changed, mostly in its first bytes."""
    if not chance.randrange(3):
        return chance.randbytes(chance.choice((1, 4, 40, 400))) + payload
    found = bytearray(payload or b"\0")
    reach = min(len(found), chance.choice((4, 16, 2000)))
    for _ in range(chance.randint(1, 4)):
        found[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return bytes(found)


def format_campaign(name: str) -> Campaign[list[bytes]]:
    def trial(stream: list[bytes], chance: random.Random) -> None:
        if name == EVENTS:
            try_events(stream, chance)
        else:
            try_stream(FORMATS[name], stream, chance)
        if name.startswith("aac"):
            try_configuration(stream)

    return campaign(f"payloads/{name}", trial, damaged)


if __name__ == "__main__":
    names = sys.argv[3:] or [*FORMATS, EVENTS]
    sys.exit(main([format_campaign(name) for name in names], sys.argv[1:3]))
