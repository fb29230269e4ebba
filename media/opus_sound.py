"""Sound that files and browsers cannot hold (G.711, G.722), as Opus.

    async with as_opus(sound, pool) as stream: ...         another Stream; Opus and AAC pass as they are
    maker = OpusMaker(sound.format)                        what does it: packets in, packets of 20 ms out

Decoding and encoding run in the pool's threads. The pool is whoever's process it is; one lane a stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np

from media.codec_worker import CodecPool, Lane, OldestInbox
from media.packet import Format, Packet
from media.sound_codecs import FRAME, RATE, SILENT, SoundCodec, UnsupportedSound, sound_decoder, sound_encoder
from media.stream import Stream

__all__ = ["AS_IT_IS", "OPUS", "OpusMaker", "UnsupportedSound", "as_opus"]

OPUS = Format("OPUS", RATE, 2)
AS_IT_IS = frozenset({"OPUS", "MPEG4-GENERIC"})
"""What MP4 and browsers hold without transcoding."""
BITRATE = 48_000
WAITING = 100
"""Packets that may wait for a thread."""
GAP_SECONDS = 0.1
"""A hole in the source's time that is kept as a hole; smaller ones are its clock's unrest."""


class OpusMaker:
    """Synchronous; one object a stream. Raises UnsupportedSound for a format that cannot be decoded."""

    def __init__(self, coded: Format) -> None:
        self._decoder = sound_decoder(coded)
        self._encoder = sound_encoder(SoundCodec.OPUS, BITRATE)
        self._rate = coded.clock_rate
        self._samples = SILENT
        self._time: int | None = None

    def take(self, packet: Packet) -> list[Packet]:
        """What is whole by now, on a clock of 48000; a damaged packet leaves a hole."""
        if packet.damaged:
            return []
        time = packet.pts * RATE // self._rate
        if self._time is None or abs(time - self._time - len(self._samples)) > GAP_SECONDS * RATE:
            self._time, self._samples = time, SILENT
        self._samples = np.concatenate((self._samples, self._decoder.decode(packet.data)))
        made = []
        while len(self._samples) >= FRAME:
            ahead = (self._time - time) / RATE
            made.append(
                Packet(
                    self._encoder.encode(self._samples[:FRAME]),
                    self._time,
                    packet.arrival,
                    ntp=None if packet.ntp is None else packet.ntp + ahead,
                )
            )
            self._samples = self._samples[FRAME:]
            self._time += FRAME
        return made


@asynccontextmanager
async def as_opus(sound: Stream, pool: CodecPool) -> AsyncIterator[Stream]:
    """The sound as a stream that MP4 can hold, which ends with its source. Raises UnsupportedSound."""
    if sound.format.codec in AS_IT_IS:
        yield sound
        return
    made = Stream(sound.id, OPUS)

    def deliver(packets: Sequence[Packet]) -> None:
        for packet in packets:
            made.publish(packet)

    lane: Lane[Packet, Packet] = pool.lane(
        OpusMaker(sound.format).take,
        inbox=OldestInbox(WAITING),
        deliver=deliver,
        loop=asyncio.get_running_loop(),
        name=f"opus.{sound.id}",
    )

    async def feed() -> None:
        async with sound.reader() as reader:
            async for packet in reader:
                lane.put(packet)
        made.close()

    feeding = asyncio.create_task(feed(), name=f"opus.{sound.id}")
    try:
        yield made
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await lane.aclose()
        made.close()
