"""A meeting's sound without its clock: payloads in, one batch a tick out, each mix coded once a codec."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from mcu_bridge.meeting_sound import INBOX_PAYLOADS, MAX_BATCHES_BEHIND, MeetingSound, SoundBatch
from mcu_bridge.quiet_sound import KEPT, QUIET_AFTER, QuietSound
from media.sound_codecs import FRAME, SoundCodec, SoundEncoder, sound_decoder, sound_encoder
from tests.peers.sound import Sound, hears


class Stage:
    def __init__(self) -> None:
        self.batches: list[SoundBatch] = []
        self.sound = MeetingSound(asyncio.get_running_loop(), self.batches.append)
        self.now = 0.0
        self._encoders: dict[str, SoundEncoder] = {}
        self._sample = 0

    async def play(self, ticks: int, **tones: float) -> None:
        """So many ticks with these tones, each in PCMA."""
        for _ in range(ticks):
            times = np.arange(self._sample, self._sample + FRAME) / 48_000
            self._sample += FRAME
            for name, hertz in tones.items():
                samples = np.round(np.sin(2 * np.pi * hertz * times) * 8000).astype(np.int16)
                encoder = self._encoders.setdefault(name, sound_encoder(SoundCodec.PCMA))
                self.sound.push(name, encoder.encode(samples))
            self.now += 0.020
            self.sound.tick(self.now)
            await asyncio.sleep(0)

    def heard_by(self, listener: str, last: int = 40) -> Sound:
        frames = [f for batch in self.batches[-last:] for f in batch.frames if listener in f.listeners]
        codec = frames[-1].codec
        assert isinstance(codec, SoundCodec)
        decoder = sound_decoder(codec)
        samples = np.concatenate([decoder.decode(frame.payload) for frame in frames])
        return Sound((samples / 32768).astype(np.float32), 48_000)


@pytest.fixture
async def stage() -> Stage:
    return Stage()


async def test_who_speaks_hears_the_others_only_and_each_mix_is_coded_once_a_codec(stage: Stage) -> None:
    for name in ("a", "b", "c", "d"):
        codec = SoundCodec.OPUS if name == "d" else SoundCodec.PCMA
        stage.sound.add(name, SoundCodec.PCMA, codec)
    await stage.play(60, a=440.0, b=1000.0)
    assert hears(stage.heard_by("a"), 1000.0)
    assert not hears(stage.heard_by("a"), 440.0)
    for listener in ("c", "d"):
        assert hears(stage.heard_by(listener), 440.0)
        assert hears(stage.heard_by(listener), 1000.0)
    made = [(frame.codec, set(frame.listeners)) for frame in stage.batches[-1].frames]
    assert len(made) == 4
    assert (SoundCodec.PCMA, {"c"}) in made
    assert (SoundCodec.OPUS, {"d"}) in made
    assert set(stage.batches[-1].speakers) == {"a", "b"}
    assert [b.index for b in stage.batches] == list(range(1, 61))


async def test_one_direction_only(stage: Stage) -> None:
    stage.sound.add("a", SoundCodec.PCMA, None)
    stage.sound.add("b", None, SoundCodec.PCMA)
    await stage.play(50, a=440.0, b=1000.0)
    assert hears(stage.heard_by("b"), 440.0)
    assert not hears(stage.heard_by("b"), 1000.0)
    assert all("a" not in frame.listeners for batch in stage.batches for frame in batch.frames)


async def test_added_again_unchanged_it_goes_on_undisturbed_and_muted(stage: Stage) -> None:
    stage.sound.add("a", SoundCodec.PCMA, SoundCodec.PCMA)
    stage.sound.add("b", SoundCodec.PCMA, SoundCodec.PCMA)
    stage.sound.set_muted("a", True)
    await stage.play(40, a=440.0)
    source = stage.sound._sources["a"]
    stage.sound.add("a", SoundCodec.PCMA, SoundCodec.PCMA)
    assert stage.sound._sources["a"] is source
    await stage.play(40, a=440.0)
    assert not hears(stage.heard_by("b"), 440.0)
    stage.sound.add("a", SoundCodec.PCMU, SoundCodec.PCMA)
    assert stage.sound._sources["a"] is not source


async def test_what_the_loop_does_not_fetch_is_dropped_and_counted_and_the_meeting_goes_on(
    stage: Stage,
) -> None:
    stage.sound.add("a", SoundCodec.PCMA, SoundCodec.PCMA)
    for _ in range(MAX_BATCHES_BEHIND + 7):
        stage.now += 0.02
        stage.sound.tick(stage.now)
    assert stage.sound.dropped_batches == 7
    await asyncio.sleep(0)
    assert len(stage.batches) == MAX_BATCHES_BEHIND
    await stage.play(5)
    assert len(stage.batches) == MAX_BATCHES_BEHIND + 5


async def test_payloads_beyond_the_inbox_go_the_oldest_first_and_are_counted(stage: Stage) -> None:
    stage.sound.add("a", SoundCodec.PCMA, None)
    for _ in range(INBOX_PAYLOADS + 3):
        stage.sound.push("a", bytes(160))
    assert stage.sound._sources["a"].overrun == 3
    stage.sound.push("nobody", bytes(160))


async def test_those_who_left_leave_nothing(stage: Stage) -> None:
    for number in range(20):
        stage.sound.add(f"site-{number}", SoundCodec.PCMA, SoundCodec.OPUS)
        await stage.play(3, **{f"site-{number}": 440.0})
        stage.sound.remove(f"site-{number}")
    await stage.play(3)
    sound = stage.sound
    assert not sound._sources
    assert not sound._listening
    assert not sound.mixer._sources
    assert len(sound._encoders) <= len(SoundCodec)


@pytest.mark.parametrize("codec", [SoundCodec.OPUS, SoundCodec.PCMA, SoundCodec.G722])
async def test_lost_packets_leave_no_hole(stage: Stage, codec: SoundCodec) -> None:
    """One packet in ten is lost; the listener hears no hole."""
    stage.sound.add("a", codec, None)
    stage.sound.add("b", None, SoundCodec.PCMA)
    encoder = sound_encoder(codec)
    index = np.arange(150 * FRAME)
    # A voice: coders of speech do not go on with a bare tone.
    turns = np.cumsum(120 + 30 * np.sin(2 * np.pi * 3 * index / 48_000)) / 48_000
    voice = np.sum([np.sin(2 * np.pi * n * turns) * 4000 / n for n in range(1, 12)], axis=0)
    lost = 0
    for tick in range(150):
        payload = encoder.encode(np.round(voice[tick * FRAME : (tick + 1) * FRAME]).astype(np.int16))
        if tick % 10 == 7:
            lost = FRAME
        else:
            stage.sound.push("a", payload, lost)
            lost = 0
        stage.now += 0.020
        stage.sound.tick(stage.now)
        await asyncio.sleep(0)
    heard = stage.heard_by("b", 100).samples
    loudness = np.sqrt((heard[: len(heard) // FRAME * FRAME].reshape(-1, FRAME) ** 2).mean(axis=1))
    assert loudness.min() > 0.3 * np.median(loudness), loudness


SILENCE = 0.0
"""The frequency of a sine that is none."""


def decoded(stage: Stage, name: str) -> int:
    """Payloads of 20 ms that reached the mixer."""
    return stage.sound.mixer.counts(name).received // FRAME


async def test_quiet_is_not_decoded_and_the_first_word_after_it_is_whole(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        stage.sound.add(name, SoundCodec.PCMA, SoundCodec.PCMA)
    await stage.play(60, a=440.0, b=SILENCE)
    assert decoded(stage, "a") == 60
    assert decoded(stage, "b") == QUIET_AFTER - 1
    await stage.play(30, a=SILENCE, b=SILENCE)
    assert decoded(stage, "a") == 90, "who was in the mix until now may go on"
    assert decoded(stage, "b") == QUIET_AFTER - 1
    await stage.play(3, a=SILENCE, b=1000.0)
    assert decoded(stage, "b") == QUIET_AFTER - 1 + KEPT + 3
    await stage.play(9, a=SILENCE, b=1000.0)
    assert hears(stage.heard_by("c", last=8), 1000.0)
    peaks = [sound_decoder(SoundCodec.PCMA).decode(one).max() for one in payloads_for(stage, "c")]
    loud = [peak > 2000 for peak in peaks]
    assert sum(loud[-12:]) >= 12 - KEPT - 1, "the depth of the queue after the first word came, and no more"
    assert stage.sound.mixer.counts("b").underruns == 0


def payloads_for(stage: Stage, listener: str) -> list[bytes]:
    return [f.payload for batch in stage.batches for f in batch.frames if listener in f.listeners]


async def test_the_only_source_is_heard_also_when_it_is_quiet(stage: Stage) -> None:
    stage.sound.add("a", SoundCodec.PCMA, None)
    stage.sound.add("b", None, SoundCodec.PCMA)
    await stage.play(60, a=SILENCE)
    assert decoded(stage, "a") == 60


def test_quiet_is_told_from_the_coded_bytes_as_the_detector_of_speech_would() -> None:
    for level, quiet in ((-54.0, True), (-46.0, False)):
        for codec in (SoundCodec.PCMA, SoundCodec.PCMU):
            deviation = 2.4 * 32768 * 10 ** (level / 20)  # of which a sixth of the band is kept
            noise = np.random.default_rng(1).normal(0, deviation, FRAME * 40)
            encoder, told = sound_encoder(codec), QuietSound.of(sound_decoder(codec))
            assert told is not None
            samples = np.clip(noise, -32768, 32767).astype(np.int16)
            frames = (samples[at : at + FRAME] for at in range(0, len(samples), FRAME))
            answers = [told.lasts(encoder.encode(frame)) for frame in frames]
            assert answers[-1] is quiet
            assert answers[: QUIET_AFTER - 1] == [False] * (QUIET_AFTER - 1)
    assert QuietSound.of(sound_decoder(SoundCodec.OPUS)) is None


async def test_levels_rise_at_once_fall_slowly_and_are_nothing_while_muted(stage: Stage) -> None:
    for name in ("loud", "soft", "muted"):
        stage.sound.add(name, SoundCodec.PCMA, None)
    stage.sound.set_muted("muted", True)
    await stage.play(20, loud=440.0, muted=440.0)
    before = stage.sound.levels["loud"]
    assert before == pytest.approx(-15.3, abs=0.5)  # a sine with a peak of 8000 of 32768
    assert stage.sound.levels == {"loud": before, "soft": -127.0, "muted": -127.0}
    await stage.play(10)
    assert before - 12 < stage.sound.levels["loud"] < before
    await stage.play(150)
    assert stage.sound.levels["loud"] == -127.0
    stage.sound.remove("loud")
    await stage.play(1)
    assert "loud" not in stage.sound.levels
