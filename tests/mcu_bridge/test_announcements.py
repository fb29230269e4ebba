"""The shelf of sounds: what is found, what is played as it is, and what is refused with words."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from mcu_bridge.announcements import CHIME, Announcements, AnnouncementShelf, UnusableAnnouncement
from media.sound_codecs import FRAME


def write(path: Path, rate: int = 16_000, channels: int = 1, width: int = 2, seconds: float = 0.5) -> None:
    times = np.arange(round(rate * seconds)) / rate
    sound = np.round(np.sin(2 * np.pi * 500 * times) * 10_000)
    frames = np.repeat(sound, channels).astype("<i2" if width == 2 else "i1")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames.tobytes())


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_files_of_all_rates_keep_length_pitch_and_loudness(tmp_path: Path, rate: int, channels: int) -> None:
    write(tmp_path / "drill.wav", rate, channels)
    sound = AnnouncementShelf(tmp_path).load("drill")
    assert sound.dtype == np.int16
    assert abs(len(sound) - 24_000) <= 6
    spectrum = np.abs(np.fft.rfft(sound[:24_000])) / 12_000
    assert abs(int(np.argmax(spectrum)) * 48_000 / len(sound[:24_000]) - 500) <= 4
    assert 9_000 < np.abs(sound).max() <= 10_001


def test_names_are_those_of_files_and_the_chime(tmp_path: Path) -> None:
    for name in ("b", "一号演习", "a.b"):
        write(tmp_path / f"{name}.wav")
    (tmp_path / "notes.txt").write_text("no sound")
    assert AnnouncementShelf(tmp_path).names() == (CHIME, "a.b", "b", "一号演习")
    assert AnnouncementShelf().names() == (CHIME,)
    assert AnnouncementShelf(tmp_path / "missing").names() == (CHIME,)


def test_the_chime_needs_no_file() -> None:
    sound = AnnouncementShelf().load(CHIME)
    assert 48_000 <= len(sound) <= 96_000
    assert 3_000 < int(np.abs(sound).max()) < 20_000
    assert int(np.abs(sound[-480:]).max()) < 800, "it has died away"


def test_what_cannot_be_played_says_why(tmp_path: Path) -> None:
    shelf = AnnouncementShelf(tmp_path / "sounds")
    (tmp_path / "sounds").mkdir()
    write(tmp_path / "secret.wav")
    for name in ("../secret", "/etc/passwd", "", "x" * 65, "missing"):
        with pytest.raises(UnusableAnnouncement, match="there is no announcement"):
            shelf.load(name)
    write(tmp_path / "sounds" / "bytes.wav", width=1)
    with pytest.raises(UnusableAnnouncement, match="8 bits, 1 channels"):
        shelf.load("bytes")
    write(tmp_path / "sounds" / "long.wav", rate=8_000, seconds=121)
    with pytest.raises(UnusableAnnouncement, match="lasts 121 s"):
        shelf.load("long")
    write(tmp_path / "sounds" / "none.wav", seconds=0)
    with pytest.raises(UnusableAnnouncement, match="is empty"):
        shelf.load("none")
    (tmp_path / "sounds" / "text.wav").write_text("no sound")
    with pytest.raises(UnusableAnnouncement, match=r"text\.wav cannot be played"):
        shelf.load("text")


def test_a_new_sound_takes_the_place_of_the_old_and_each_ends() -> None:
    playing = Announcements()
    assert playing.next().to_all is None
    playing.play(np.full(FRAME + 10, 5, np.int16), None)
    playing.play(np.full(FRAME, 7, np.int16), "room")
    said = playing.next()
    assert said.to_all is not None
    assert (int(said.to_all[0]), int(said.to_some["room"][-1])) == (5, 7)
    last = playing.next()
    assert last.to_all is not None
    assert (int(last.to_all[9]), int(last.to_all[10]), dict(last.to_some)) == (5, 0, {})
    assert playing.next().to_all is None
    playing.play(np.full(FRAME, 1, np.int16), None)
    playing.play(np.full(FRAME, 2, np.int16), None)
    said = playing.next()
    assert said.to_all is not None
    assert int(said.to_all[0]) == 2
