from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from mcu_bridge.audio_mixer import (
    ALL,
    SILENCE,
    AudioMixer,
    Hearing,
    MixedTick,
    level_of,
    limit,
    mix_aside,
    mix_without,
)
from media.resampling import Samples
from media.sound_codecs import FRAME, RATE

TONES = {"nation": 400, "province": 700, "city": 1000, "county": 1300, "mine": 1600, "works": 1900}
LOUD = 4000


class Meeting:
    """Sites with a tone each, ticked by hand; keeps what each of them hears."""

    def __init__(self, sites: Iterable[str] = TONES, most_speakers: int = 4) -> None:
        self.mixer = AudioMixer(most_speakers)
        self.ticks = 0
        self.heard: dict[str, list[Samples]] = {}
        for site in sites:
            self.mixer.add_source(site)
            self.mixer.add_listener(site, own=site)
            self.heard[site] = []

    def run(self, count: int, speaking: Sequence[str], loudness: float = LOUD) -> MixedTick:
        for _ in range(count):
            for site in speaking:
                self.mixer.push(site, tone(TONES[site], self.ticks, loudness))
            mixed = self.mixer.tick(self.ticks * 0.02)
            self.ticks += 1
            for mix in mixed.mixes:
                for listener in mix.listeners:
                    self.heard[listener].append(mix.samples)
        return mixed

    def hears(self, site: str, last: int = 25) -> set[str]:
        """Whose tones are in what a site heard in its last frames."""
        return tones_in(np.concatenate(self.heard[site][-last:]))


def tone(frequency: float, index: int, loudness: float = LOUD) -> Samples:
    positions = np.arange(FRAME) + index * FRAME
    samples: Samples = np.rint(np.sin(positions * 2 * np.pi * frequency / RATE) * loudness).astype(np.int16)
    return samples


def tones_in(samples: Samples, least: float = 200) -> set[str]:
    amplitudes = np.abs(np.fft.rfft(samples.astype(np.float64))) / len(samples) * 2
    return {
        site
        for site, frequency in TONES.items()
        if amplitudes[round(frequency * len(samples) / RATE)] > least
    }


def told(hertz: int, seconds: float) -> Samples:
    return np.concatenate([tone(hertz, n) for n in range(round(seconds * 50))])


def test_an_announcement_is_heard_by_all_beside_the_others_and_ends() -> None:
    meeting = Meeting(["nation", "city"])
    meeting.run(30, ["nation"])
    meeting.mixer.announce(told(TONES["mine"], 1.0))
    mixed = meeting.run(30, ["nation"])
    assert meeting.hears("city") == {"nation", "mine"}
    assert meeting.hears("nation") == {"mine"}, "one's own sound is left out all the same"
    assert not any(mix.silent for mix in mixed.mixes)
    meeting.run(50, ["nation"])
    assert meeting.hears("city") == {"nation"}


def test_an_announcement_to_one_is_heard_by_that_one_only() -> None:
    meeting = Meeting(["nation", "city", "county"])
    meeting.run(30, ["nation"])
    meeting.mixer.announce(told(TONES["mine"], 2.0), "city")
    mixed = meeting.run(30, ["nation"])
    assert {mix.key: mix.listeners for mix in mixed.mixes}[mix_aside("city")] == ("city",)
    assert meeting.hears("city") == {"nation", "mine"}
    assert meeting.hears("county") == {"nation"}
    meeting.mixer.announce(told(TONES["works"], 2.0))
    meeting.run(30, ["nation", "city"])
    assert meeting.hears("city") == {"nation", "mine", "works"}, "both at once, and not itself"
    assert meeting.hears("county") == {"nation", "city", "works"}
    meeting.mixer.stop_announcing()
    mixed = meeting.run(30, ["nation", "city"])
    assert meeting.hears("city") == {"nation"}
    assert mix_aside("city") not in {mix.key for mix in mixed.mixes}


def test_who_is_deafened_or_gone_hears_no_announcement() -> None:
    meeting = Meeting(["nation", "city"])
    meeting.mixer.set_hearing("city", Hearing.NOTHING)
    meeting.mixer.announce(told(TONES["mine"], 1.0), "city")
    meeting.mixer.announce(told(TONES["works"], 1.0))
    meeting.run(30, [])
    assert meeting.hears("city") == set()
    assert meeting.hears("nation") == {"works"}
    meeting.mixer.announce(told(TONES["mine"], 1.0), "nation")
    meeting.mixer.remove_listener("nation")
    assert all("nation" not in mix.listeners for mix in meeting.mixer.tick(9.0).mixes)


def test_who_waits_outside_hears_only_what_is_told_to_it() -> None:
    meeting = Meeting(["nation", "city"])
    meeting.mixer.set_hearing("city", Hearing.ASIDE)
    meeting.mixer.announce(told(TONES["works"], 1.0))
    meeting.run(30, ["nation"])
    assert meeting.hears("city") == set()
    meeting.mixer.announce(told(TONES["mine"], 1.0), "city")
    mixed = meeting.run(30, ["nation"])
    assert meeting.hears("city") == {"mine"}
    assert not next(mix.silent for mix in mixed.mixes if mix.listeners == ("city",))
    meeting.run(60, ["nation"])
    assert meeting.hears("city") == set(), "it has ended"
    meeting.mixer.set_hearing("city", Hearing.MEETING)
    meeting.run(30, ["nation"])
    assert meeting.hears("city") == {"nation"}


def test_everybody_hears_the_others_and_not_himself() -> None:
    meeting = Meeting()
    speaking = ["nation", "city", "mine"]
    mixed = meeting.run(60, speaking)
    for site in TONES:
        assert meeting.hears(site) == set(speaking) - {site}
    assert {mix.key for mix in mixed.mixes} == {ALL, *map(mix_without, speaking)}
    listeners = {mix.key: mix.listeners for mix in mixed.mixes}
    assert listeners[ALL] == ("province", "county", "works")
    assert listeners[mix_without("city")] == ("city",)
    assert not any(mix.silent for mix in mixed.mixes)


def test_a_lone_speaker_hears_silence() -> None:
    meeting = Meeting()
    mixed = meeting.run(40, ["city"])
    own = next(mix for mix in mixed.mixes if mix.listeners == ("city",))
    assert own.silent
    assert not own.samples.any()


def test_all_are_in_one_mix_while_nobody_speaks() -> None:
    mixed = Meeting().run(5, [])
    assert [(mix.key, mix.silent, len(mix.listeners)) for mix in mixed.mixes] == [(ALL, True, len(TONES))]


def test_five_hundred_listeners_cost_as_many_mixes_as_there_are_speakers() -> None:
    mixer = AudioMixer(4)
    for site in TONES:
        mixer.add_source(site)
        mixer.add_listener(site, own=site)
    for n in range(500):
        mixer.add_listener(f"viewer-{n}")
    for index in range(30):
        for site, frequency in TONES.items():
            mixer.push(site, tone(frequency, index))
        mixed = mixer.tick(index * 0.02)
    assert len(mixed.mixes) == 5
    assert sum(len(mix.listeners) for mix in mixed.mixes) == 506


def test_only_the_loudest_are_mixed_when_too_many_speak() -> None:
    meeting = Meeting(most_speakers=2)
    meeting.run(40, ["city", "mine"], LOUD)
    for _ in range(40):  # two more come in, quieter
        meeting.run(1, ["city", "mine", "county", "works"], LOUD)
    assert meeting.hears("nation") == {"city", "mine"}
    meeting.mixer.set_gain("works", 12)
    meeting.run(80, ["city", "mine", "county", "works"], LOUD / 2)
    assert "works" in meeting.hears("nation")
    assert len(meeting.hears("nation")) == 2


def test_a_silent_member_gives_its_place_at_once() -> None:
    meeting = Meeting(most_speakers=1)
    meeting.run(30, ["city"])
    meeting.run(25, [])  # 0.5 s: beyond the hangover
    meeting.run(30, ["mine"])
    assert meeting.hears("nation") == {"mine"}


def test_a_muted_site_is_not_heard_nor_counted_as_speaker() -> None:
    meeting = Meeting()
    meeting.run(40, ["city", "mine"])
    meeting.mixer.set_muted("city", True)
    mixed = meeting.run(40, ["city", "mine"])
    assert meeting.hears("nation") == {"mine"}
    assert mixed.levels["city"] == -127.0
    meeting.mixer.set_muted("city", False)
    meeting.run(40, ["city", "mine"])
    assert meeting.hears("nation") == {"city", "mine"}
    assert meeting.mixer.depth("city") < 0.08  # nothing piled up meanwhile


def test_a_deafened_site_hears_nothing_and_is_still_heard() -> None:
    meeting = Meeting()
    meeting.mixer.set_hearing("city", Hearing.NOTHING)
    mixed = meeting.run(40, ["city", "mine"])
    assert meeting.hears("city") == set()
    assert meeting.hears("mine") == {"city"}
    (mix,) = [mix for mix in mixed.mixes if mix.key == SILENCE]
    assert (mix.listeners, mix.silent) == (("city",), True)


def test_gain() -> None:
    meeting = Meeting()
    meeting.mixer.set_gain("city", -12)
    mixed = meeting.run(40, ["city", "mine"])
    assert mixed.levels["mine"] - mixed.levels["city"] == pytest.approx(12, abs=0.2)


def test_levels_are_dbov() -> None:
    assert level_of(np.full(FRAME, -32768, np.int16)) == 0
    assert level_of(tone(1000, 0, 32767)) == pytest.approx(-3.01, abs=0.02)
    assert level_of(tone(1000, 0, 327.67)) == pytest.approx(-43.0, abs=0.1)
    assert level_of(np.zeros(FRAME, np.int16)) == -127


def test_speakers_are_named_latest_first_and_a_cough_is_none() -> None:
    meeting = Meeting()
    assert meeting.run(60, ["city"]).speakers == ("city",)
    meeting.run(30, [])
    mixed = meeting.run(60, ["mine"])
    assert mixed.speakers == ("mine", "city")
    meeting.run(30, [])
    assert meeting.run(8, ["works"]).speakers == ("mine", "city")
    meeting.run(30, [])
    assert meeting.run(60, ["works"]).speakers == ("works", "mine", "city")


def test_two_who_speak_alike_do_not_take_the_floor_from_each_other() -> None:
    meeting = Meeting()
    firsts = [meeting.run(1, ["city", "mine"]).speakers[:1] for _ in range(150)]
    changes = sum(one != other for one, other in pairwise(firsts[30:]))
    assert changes == 0


def test_steady_noise_is_not_speech_and_a_steady_tone_is() -> None:
    meeting = Meeting()
    mixed = meeting.run(1500, ["city", "mine"], 4000)  # 30 s
    assert set(mixed.mixed) == {"city", "mine"}
    quiet = Meeting()
    mixed = quiet.run(1500, ["city"], 80)  # -55 dBov of hum
    assert mixed.speakers == ()
    assert mixed.mixed == ()


def test_the_first_word_is_not_clipped() -> None:
    meeting = Meeting()
    meeting.run(100, [])
    meeting.run(12, ["city"])
    heard = np.concatenate(meeting.heard["nation"][100:])
    first = int(np.argmax(np.abs(heard) > LOUD / 2))
    assert first <= 0.045 * RATE  # the playout depth, and nothing on top


def test_a_source_that_leaves_is_gone_and_its_late_frames_are_counted() -> None:
    meeting = Meeting()
    meeting.run(40, ["city", "mine"])
    meeting.mixer.remove_source("city")
    meeting.mixer.remove_listener("city")
    mixed = meeting.run(40, ["city", "mine"])
    assert meeting.hears("nation") == {"mine"}
    assert meeting.mixer.strays == 40
    assert "city" not in mixed.levels
    assert mixed.speakers == ("mine",)
    meeting.mixer.push_lost("city", FRAME)
    assert meeting.mixer.strays == 41


def test_names_are_unique() -> None:
    mixer = AudioMixer()
    mixer.add_source("a")
    mixer.add_listener("a")
    with pytest.raises(ValueError, match="sound source 'a'"):
        mixer.add_source("a")
    with pytest.raises(ValueError, match="listener 'a'"):
        mixer.add_listener("a")
    with pytest.raises(ValueError, match="at least one speaker"):
        AudioMixer(0)


def test_loud_sums_are_held_within_16_bits_without_clicks() -> None:
    meeting = Meeting()
    meeting.run(100, ["nation", "city", "mine", "works"], 16000)
    heard = np.concatenate(meeting.heard["county"][50:]).astype(np.int32)
    assert 28_000 < np.abs(heard).max() <= 32_767
    steepest = sum(2 * np.pi * TONES[site] / RATE * 16000 for site in ("nation", "city", "mine", "works"))
    assert np.abs(np.diff(heard)).max() < steepest
    assert tones_in(heard.astype(np.int16)) == {"nation", "city", "mine", "works"}


def test_the_limiter_lets_go_slowly() -> None:
    loud, quiet = np.full(FRAME, 60_000, np.int32), np.full(FRAME, 10_000, np.int32)
    samples, gain = limit(loud, 1.0)
    assert samples[100:].max() <= 30_000
    assert gain == pytest.approx(0.5)
    first, gain = limit(quiet, gain)
    assert 4_900 < first[0] < 5_100
    for _ in range(30):
        samples, gain = limit(quiet, gain)
    assert gain == 1.0
    assert (samples == 10_000).all()


def test_the_joins_of_a_mix_make_no_clicks() -> None:
    meeting = Meeting()
    for _ in range(4):
        meeting.run(30, ["city"])
        meeting.run(200, [])
    heard = np.concatenate(meeting.heard["nation"]).astype(np.int32)
    slope = 2 * np.pi * TONES["city"] / RATE * LOUD
    assert np.abs(np.diff(heard)).max() < slope * 1.6


def test_the_only_source_there_is_is_heard_however_faint_it_is() -> None:
    """A camera that is watched; beside another source the same sound counts as noise."""
    for sites, faint in ((("mine",), True), (("mine", "works"), False)):
        meeting = Meeting(sites)
        meeting.mixer.add_listener("watcher")
        meeting.heard["watcher"] = []
        last = meeting.run(100, ["mine"], loudness=40)
        assert last.speakers == ()
        heard = np.concatenate(meeting.heard["watcher"][-25:])
        assert bool(tones_in(heard, least=20)) is faint
