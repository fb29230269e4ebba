"""Sound of a broadcast as AAC, which every player and every RTMP server takes: one encode, shared.

    async with as_aac(sound, pool) as stream: ...        a Stream of MPEG4-GENERIC at 48 kHz, mono

Sound that is AAC already is handed on untouched. Safari and third-party platforms do not take Opus in our
containers, and cameras send G.711 besides, so that everything else is decoded and encoded once a broadcast,
in the codec threads (about 1 % of a core).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from media.codec_worker import CodecPool, Lane, OldestInbox
from media.packet import Format, Packet
from media.sound_codecs import RATE, sound_decoder
from media.stream import Stream

FRAME = 1024
BITRATE = 64_000
WAITING = 100
"""Packets that may wait for the codec thread: 2 s."""
SLACK = RATE // 50
"""Samples that packets' times may stray from the samples' count before the difference is made good."""
LONGEST_GAP = RATE
"""A longer hole is not filled with silence but begins anew at its own time."""
CONFIG = "1188"
"""AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1): AAC LC, 48 kHz, one channel."""


@asynccontextmanager
async def as_aac(sound: Stream, pool: CodecPool) -> AsyncIterator[Stream]:
    """`sound` as AAC while the context is open. Raises UnsupportedSound for what is not decoded here."""
    if sound.format.codec == "MPEG4-GENERIC":
        yield sound
        return
    made = Stream(f"{sound.id}/aac", Format("MPEG4-GENERIC", RATE, 1, {"config": CONFIG}))
    loop = asyncio.get_running_loop()

    def deliver(packets: Sequence[Packet]) -> None:
        for packet in packets:
            made.publish(packet)

    lane = pool.lane(
        AacTranscoder(sound.format).take,
        inbox=OldestInbox[Packet](WAITING),
        deliver=deliver,
        loop=loop,
        name=made.id,
    )
    feeding = asyncio.create_task(_feed(sound, lane, made), name=made.id)
    try:
        yield made
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await lane.aclose()
        made.close()


async def _feed(sound: Stream, lane: Lane[Packet, Packet], made: Stream) -> None:
    async with sound.reader() as reader:
        async for packet in reader:
            lane.put(packet)
    made.close()


class AacTranscoder:
    """Packets of one stream to AAC packets on a clock of 48 kHz. Synchronous; raises UnsupportedSound.

    Media time is kept: holes up to a second become silence, longer ones a step of `pts`. `arrival` and `ntp`
    of what comes out are those of what was said then.
    """

    def __init__(self, coded: Format) -> None:
        self._clock_rate = coded.clock_rate
        self._decoder = sound_decoder(coded)
        self._encoder = _encoder()
        self._waiting: NDArray[np.int16] = np.zeros(0, np.int16)
        self._position: int | None = None
        self._frame_at = 0
        self._times: list[tuple[int, Packet]] = []

    def take(self, packet: Packet) -> list[Packet]:
        """The next packet, in order."""
        at = packet.pts * RATE // self._clock_rate
        samples = self._decoder.decode(packet.data)
        if self._position is None:
            self._begin(at)
        assert self._position is not None
        apart = at - self._position
        made: list[Packet] = []
        if apart < -LONGEST_GAP or apart > LONGEST_GAP:
            made += self._encode_all(np.zeros(-len(self._waiting) % FRAME, np.int16))
            self._begin(at)
        elif apart > SLACK:
            made += self._encode_all(np.zeros(apart, np.int16))
        elif apart < -SLACK:
            samples = samples[-apart:]
        self._times = [*self._times[-8:], (at, packet)]
        return made + self._encode_all(samples)

    def _begin(self, at: int) -> None:
        self._position = self._frame_at = at

    def _encode_all(self, samples: NDArray[np.int16]) -> list[Packet]:
        assert self._position is not None
        self._position += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        made: list[Packet] = []
        while len(self._waiting) >= FRAME:
            frame, self._waiting = self._waiting[:FRAME], self._waiting[FRAME:]
            made += self._encode(frame)
        return made

    def _encode(self, samples: NDArray[np.int16]) -> Iterator[Packet]:
        """Times are those that the encoder gives: it knows how much it holds back and puts before."""
        frame = av.AudioFrame.from_ndarray(
            (samples.astype(np.float32) / 32768)[None, :], format="fltp", layout="mono"
        )
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), self._frame_at
        self._frame_at += FRAME
        for coded in self._encoder.encode(frame):
            yield self._packet(bytes(coded), coded.pts if coded.pts is not None else self._frame_at)

    def _packet(self, data: bytes, at: int) -> Packet:
        """With the times of the newest packet taken, moved by what lies between."""
        if not self._times:
            return Packet(data, at, 0.0, damaged=True)  # priming of what never came
        then, source = self._times[-1]
        moved = (at - then) / RATE
        ntp = None if source.ntp is None else source.ntp + moved
        return Packet(data, at, source.arrival + moved, ntp=ntp)


def _encoder() -> AudioCodecContext:
    context = av.CodecContext.create("aac", "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = RATE, "mono", av.AudioFormat("fltp")
    context.time_base = Fraction(1, RATE)
    context.bit_rate = BITRATE
    context.open()
    return context
