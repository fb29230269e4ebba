"""What peers show and play: files of one colour and one tone, made at set-up."""

import wave
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.peers.picture import Colour, Picture

BAR = 0.92  # the moving bar lies below this part of the height, outside every region that tests measure


@dataclass(frozen=True, slots=True)
class Footage:
    """A picture of one colour; a small bar travels along its lower edge, so that no two frames are equal.

    `detail` (0 to 100) adds noise of that amplitude to the brightness, for a picture that costs bits to code.
    """

    colour: Colour
    width: int = 352
    height: int = 288
    rate: int = 25
    detail: int = 0

    def frame(self, number: int) -> Picture:
        """Frame `number` as RGB."""
        picture = np.empty((self.height, self.width, 3), np.uint8)
        picture[:] = self.colour
        if self.detail:
            noise = np.random.default_rng(number).integers(
                -self.detail, self.detail + 1, (self.height, self.width, 1)
            )
            picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
        length = max(2, self.width // 16)
        start = number * max(2, self.width // 100) % (self.width - length)
        picture[int(self.height * BAR) :, start : start + length] = 240
        return picture

    def planes(self, number: int) -> av.VideoFrame:
        """Frame `number` as YUV 4:2:0."""
        return av.VideoFrame.from_ndarray(self.frame(number), format="rgb24").reformat(format="yuv420p")


def write_h264(
    path: Path, footage: Footage, seconds: float = 4.0, bit_rate: int = 2_000_000, repeats: int = 1
) -> Path:
    """Video alone, baseline (so no B frames), a key frame a second; encoded once, written `repeats` times."""
    frames = round(seconds * footage.rate)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=footage.rate)
        stream.width, stream.height, stream.pix_fmt = footage.width, footage.height, "yuv420p"
        stream.bit_rate = bit_rate
        stream.gop_size = footage.rate
        stream.options = {"preset": "ultrafast", "profile": "baseline", "bf": "0"}
        coded: list[tuple[bytes, int, bool]] = []
        for number in range(frames):
            frame = footage.planes(number)
            frame.pts, frame.time_base = number, Fraction(1, footage.rate)
            coded += [(bytes(p), p.pts or 0, p.is_keyframe) for p in stream.encode(frame)]
        coded += [(bytes(p), p.pts or 0, p.is_keyframe) for p in stream.encode()]
        for repeat in range(repeats):
            for data, pts, is_keyframe in coded:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, footage.rate)
                packet.pts = packet.dts = pts + repeat * frames
                packet.is_keyframe = is_keyframe
                container.mux(packet)
    return path


def write_y4m(path: Path, footage: Footage, frames: int = 50) -> Path:
    """Raw YUV4MPEG2, which Chromium's fake camera loops."""
    with path.open("wb") as out:
        out.write(f"YUV4MPEG2 W{footage.width} H{footage.height} F{footage.rate}:1 Ip A1:1 C420\n".encode())
        for number in range(frames):
            out.write(b"FRAME\n" + footage.planes(number).to_ndarray().tobytes())
    return path


def tone(
    frequency: float, rate: int = 48_000, seconds: float = 4.0, amplitude: float = 0.25
) -> NDArray[np.int16]:
    """A mono sine of 16 bits, of a whole number of periods so that a loop has no click."""
    periods = round(frequency * seconds)
    count = round(periods * rate / frequency)
    return np.round(np.sin(2 * np.pi * frequency * np.arange(count) / rate) * amplitude * 32767).astype(
        np.int16
    )


def write_tone(path: Path, frequency: float, rate: int = 48_000, seconds: float = 4.0) -> Path:
    """The same as a WAV file."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(tone(frequency, rate, seconds).tobytes())
    return path
