"""Which tones a sound holds: one tone a site tells a test who is heard."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SILENCE = -60.0  # dBFS; below it nobody is speaking
AUDIBLE = -40.0  # dBFS; a peer's tone (sent at about -12) after coding and mixing lies well above
NEARBY = 15.0  # Hz; how far a coded and resampled tone may lie from its name
CONTRAST = 12.0  # dB; a tone stands out of what lies around it by at least this much


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono samples between -1 and 1, and how many there are in a second."""

    samples: NDArray[np.float32]
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def last(self, seconds: float) -> "Sound":
        """The end of it; all of it when it is shorter."""
        return Sound(self.samples[-max(1, round(seconds * self.rate)) :], self.rate)


def level(sound: Sound) -> float:
    """Its power as that of a sine, in dBFS (a sine of full amplitude is 0)."""
    if not len(sound.samples):
        return -200.0
    power = float(np.mean(np.square(sound.samples, dtype=np.float64)))
    return 10 * float(np.log10(max(2 * power, 1e-20)))


def spectrum(sound: Sound) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies in Hz, and the level of a sine there in dBFS."""
    window = np.hanning(len(sound.samples))
    bins = np.abs(np.fft.rfft(sound.samples * window)) * 2 / max(float(window.sum()), 1e-9)
    levels = 20 * np.log10(np.maximum(bins, 1e-10)).astype(np.float64)
    return np.fft.rfftfreq(len(sound.samples), 1 / sound.rate).astype(np.float64), levels


def dominant_tone(sound: Sound) -> float | None:
    """The loudest frequency in Hz, or None for silence (or less than 0.1 s)."""
    if sound.seconds < 0.1 or level(sound) < SILENCE:
        return None
    frequencies, levels = spectrum(sound)
    audible = frequencies > 50
    return float(frequencies[audible][np.argmax(levels[audible])])


def tone_level(sound: Sound, frequency: float) -> float:
    """The level in dBFS of the loudest line within NEARBY of `frequency`."""
    frequencies, levels = spectrum(sound)
    return float(levels[np.abs(frequencies - frequency) <= NEARBY].max(initial=-200.0))


def hears(sound: Sound, frequency: float, audible: float = AUDIBLE) -> bool:
    """Whether the tone is there, loud enough and standing out of what lies 40 to 120 Hz beside it."""
    if sound.seconds < 0.1:
        return False
    found = tone_level(sound, frequency)
    frequencies, levels = spectrum(sound)
    distance = np.abs(frequencies - frequency)
    around = levels[(distance >= 40) & (distance <= 120)]
    floor = float(np.median(around)) if len(around) else -200.0
    return found >= audible and found - floor >= CONTRAST


def read_wav(path: Path) -> Sound:
    """A 16-bit WAV file mixed to mono, also one still being written (its header then says a length of 0).

    Raises ValueError when it is no 16-bit PCM WAV file, or not that far yet.
    """
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"{path.name} is no WAV file")
    channels = rate = 0
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        at += 8
        if name == b"fmt ":
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at)
            if kind not in (1, 0xFFFE) or bits != 16:
                raise ValueError(f"{path.name} is not 16-bit PCM")
        elif name == b"data" and channels:
            whole = len(data) - at if size in (0, 0xFFFFFFFF) or at + size > len(data) else size
            frames = whole // (2 * channels)
            samples = np.frombuffer(data, "<i2", frames * channels, at).reshape(frames, channels)
            return Sound((samples.mean(axis=1) / 32768).astype(np.float32), rate)
        at += size + size % 2
    raise ValueError(f"{path.name} holds no sound yet")
