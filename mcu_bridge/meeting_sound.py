"""A meeting's sound from payloads to payloads, in the sound clock's thread.

Legs put payloads in (`push`) from the event loop; every 20 ms the clock's thread decodes what came,
mixes, encodes each mix once a codec and hands the event loop one batch for all listeners. Nothing
waits for anything: what the loop does not fetch in time is dropped with the batch and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mcu_bridge.audio_mixer import AudioMixer, Hearing, Mix, MixedTick
from mcu_bridge.playout import PATIENT, SITE
from mcu_bridge.quiet_sound import QuietSound
from mcu_bridge.speakers import NO_SOUND
from media.packet import Format
from media.resampling import Samples
from media.sound_codecs import (
    OpusDecoder,
    SoundCodec,
    SoundCoding,
    SoundDecoder,
    SoundEncoder,
    sound_decoder,
    sound_encoder,
)

INBOX_PAYLOADS = 25
FALL = 1.0
MAX_BATCHES_BEHIND = 10


@dataclass(frozen=True, slots=True)
class SoundFrame:
    """20 ms for these listeners, coded once."""

    listeners: tuple[str, ...]
    codec: SoundCoding
    payload: bytes


@dataclass(frozen=True, slots=True)
class SoundBatch:
    """What one tick made: `index` counts ticks of 20 ms, `speakers` who spoke last comes first.

    `at` is the tick's time, monotonic seconds, and `came` when what was said last came here.
    """

    index: int
    frames: tuple[SoundFrame, ...]
    speakers: tuple[str, ...]
    at: float = 0.0
    came: float = 0.0


@dataclass(slots=True)
class _Arrival:
    payload: bytes
    lost_samples: int


class _Source:
    """A participant's incoming sound: payloads that wait, and the decoder of the clock's thread."""

    def __init__(self, codec: SoundCodec | Format) -> None:
        self.codec = codec
        self.decoder: SoundDecoder = sound_decoder(codec)
        self.quiet = QuietSound.of(self.decoder)
        self.inbox: deque[_Arrival] = deque(maxlen=INBOX_PAYLOADS)
        self.overrun = 0


class MeetingSound:
    """Sound of one meeting. `tick` belongs to the clock's thread, all else to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[SoundBatch], None],
        opus_bitrate: int = 32_000,
    ) -> None:
        self.mixer = AudioMixer()
        self.dropped_batches = 0
        self.levels: Mapping[str, float] = {}
        """How loud each site is, dBov, as an indicator shows it: up at once, down by `FALL` a tick."""
        self._loop = loop
        self._deliver = deliver
        self._opus_bitrate = opus_bitrate
        # Replaced whole, never changed in place: the clock's thread iterates over what it fetched.
        self._sources: Mapping[str, _Source] = {}
        self._listening: Mapping[str, SoundCoding] = {}
        self._encoders: dict[tuple[str, SoundCoding], SoundEncoder] = {}
        self._made = 0  # batches; written by the clock's thread only
        self._fetched = 0  # written by the event loop only

    def add(
        self, participant_id: str, heard: SoundCodec | Format | None, listens: SoundCoding | None
    ) -> None:
        """`heard` is the codec it sends, `listens` the one it is sent; None where that way is shut.

        Where nothing changes its sound goes on undisturbed. Raises UnsupportedSound for a stream's format
        that cannot be decoded.
        """
        source = self._sources.get(participant_id)
        running = (None if source is None else source.codec, self._listening.get(participant_id))
        if running == (heard, listens):
            return
        source = None if heard is None else _Source(heard)
        self.remove(participant_id)
        if source is not None:
            self.mixer.add_source(participant_id, SITE if isinstance(heard, SoundCodec) else PATIENT)
            self._sources = {**self._sources, participant_id: source}
        if listens is not None:
            self._listening = {**self._listening, participant_id: listens}
            self.mixer.add_listener(participant_id, own=participant_id if heard is not None else None)

    def remove(self, participant_id: str) -> None:
        self._sources = {key: value for key, value in self._sources.items() if key != participant_id}
        self._listening = {key: value for key, value in self._listening.items() if key != participant_id}
        self.mixer.remove_listener(participant_id)
        self.mixer.remove_source(participant_id)

    def set_muted(self, participant_id: str, muted: bool) -> None:
        if participant_id in self._sources:
            self.mixer.set_muted(participant_id, muted)

    def set_gain(self, participant_id: str, decibels: float) -> None:
        if participant_id in self._sources:
            self.mixer.set_gain(participant_id, decibels)

    def set_hearing(self, participant_id: str, hearing: Hearing) -> None:
        if participant_id in self._listening:
            self.mixer.set_hearing(participant_id, hearing)

    def announce(self, samples: Samples, listener: str | None) -> None:
        """Play a sound to everybody, or to one; who hears nothing does not hear it either."""
        if listener is None or listener in self._listening:
            self.mixer.announce(samples, listener)

    def stop_announcing(self) -> None:
        self.mixer.stop_announcing()

    def push(self, participant_id: str, payload: bytes, lost_samples: int = 0) -> None:
        """A payload came, after `lost_samples` at 48 kHz that will not come."""
        source = self._sources.get(participant_id)
        if source is None:
            return
        if len(source.inbox) == INBOX_PAYLOADS:
            source.overrun += 1
        source.inbox.append(_Arrival(payload, lost_samples))

    def tick(self, now: float) -> None:
        """20 ms of everything; called by the sound clock."""
        for participant_id, source in self._sources.items():
            self._decode(participant_id, source)
        mixed = self.mixer.tick(now)
        before = self.levels.get
        self.levels = {
            name: level if level > (fallen := before(name, NO_SOUND) - FALL) else max(fallen, NO_SOUND)
            for name, level in mixed.levels.items()
        }
        listening = self._listening
        frames = tuple(frame for mix in mixed.mixes for frame in self._encode(mix, listening))
        self._forget_idle_encoders(mixed, listening)
        if self._made - self._fetched >= MAX_BATCHES_BEHIND:
            self.dropped_batches += 1
            return
        self._made += 1
        batch = SoundBatch(mixed.index, frames, mixed.speakers, now, now - mixed.waited)
        self._loop.call_soon_threadsafe(self._hand_over, batch)

    def _decode(self, participant_id: str, source: _Source) -> None:
        while source.inbox:
            arrival = source.inbox.popleft()
            if self._rests(participant_id, source, arrival.payload):
                continue
            if arrival.lost_samples:
                self._recover(participant_id, source, arrival)
            samples = source.decoder.decode(arrival.payload)
            if len(samples):
                self.mixer.push(participant_id, samples)

    def _rests(self, participant_id: str, source: _Source, payload: bytes) -> bool:
        """Whether the payload need not be decoded; once it must, the quiet just before it is too."""
        quiet = source.quiet
        if quiet is None:
            return False
        if quiet.lasts(payload) and self.mixer.rest(participant_id):
            quiet.kept.append(payload)
            return True
        while quiet.kept:
            self.mixer.push(participant_id, source.decoder.decode(quiet.kept.popleft()))
        return False

    def _recover(self, participant_id: str, source: _Source, arrival: _Arrival) -> None:
        """What was lost, from what the next packet repeats of it, or going on from what came before."""
        if isinstance(source.decoder, OpusDecoder):
            samples = source.decoder.recover(arrival.payload, arrival.lost_samples)
            if len(samples):
                self.mixer.push(participant_id, samples)
                return
        self.mixer.push_lost(participant_id, arrival.lost_samples)

    def _encode(self, mix: Mix, listening: Mapping[str, SoundCoding]) -> list[SoundFrame]:
        """The mix once for each codec that somebody hears it in."""
        by_codec: dict[SoundCoding, list[str]] = {}
        for listener in mix.listeners:
            codec = listening.get(listener)
            if codec is not None:
                by_codec.setdefault(codec, []).append(listener)
        frames = []
        for codec, listeners in by_codec.items():
            encoder = self._encoders.get((mix.key, codec))
            if encoder is None:
                encoder = self._encoders[mix.key, codec] = sound_encoder(codec, self._opus_bitrate)
            payload = encoder.encode(mix.samples)
            if payload:  # AAC's access units are longer than a tick
                frames.append(SoundFrame(tuple(listeners), codec, payload))
        return frames

    def _forget_idle_encoders(self, mixed: MixedTick, listening: Mapping[str, SoundCoding]) -> None:
        """A speaker's own mix ends when the speech does: its encoder is kept for no one else."""
        if len(self._encoders) <= len(mixed.mixes) * len(SoundCodec):
            return
        keys = {mix.key for mix in mixed.mixes}
        codecs = set(listening.values())
        self._encoders = {k: v for k, v in self._encoders.items() if k[0] in keys and k[1] in codecs}

    def _hand_over(self, batch: SoundBatch) -> None:
        self._fetched += 1
        self._deliver(batch)
