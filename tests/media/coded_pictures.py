"""H.264 of plain colours as packets, Opus and AAC of a tone: what tests of files and broadcasts are fed."""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from media.packet import Packet

RED, GREEN, BLUE = (81, 90, 240), (145, 54, 34), (41, 240, 110)
"""As Y, Cb, Cr of BT.601."""

FRAME = 3600


def coded(
    colours: Sequence[tuple[int, int, int]],
    *,
    gop: int = 25,
    b_frames: int = 0,
    more: str = "",
    size: tuple[int, int] = (160, 96),
    start: int = 0,
    arrival: float = 100.0,
) -> list[Packet]:
    """One picture a colour, 25 a second, in decoding order; `pts` begins at `start`. `more` are parameters of
    x264's."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = *size, "yuv420p"
    encoder.framerate, encoder.time_base = 25, Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = {
        "preset": "ultrafast",
        "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}:b-adapt=0:threads=1:"
        f"repeat-headers=1:annexb=1{more}",
    }
    made = []
    for number, colour in enumerate(colours):
        planes = np.empty((size[1] * 3 // 2, size[0]), np.uint8)
        planes[: size[1]] = colour[0]
        planes[size[1] : size[1] * 5 // 4] = colour[1]
        planes[size[1] * 5 // 4 :] = colour[2]
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts = number
        made += encoder.encode(frame)
    made += encoder.encode(None)
    return [
        Packet(bytes(one), start + (one.pts or 0) * FRAME, arrival + number * 0.04, one.is_keyframe)
        for number, one in enumerate(made)
    ]


def sound(codec: str, seconds: float, *, arrival: float = 100.0) -> tuple[list[Packet], bytes]:
    """A tone of 440 Hz as `libopus` or `aac` packets on a clock of 48000, and the codec's configuration."""
    encoder = av.AudioCodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout = 48_000, "stereo"
    encoder.format = av.AudioFormat("flt" if codec == "libopus" else "fltp")
    encoder.open()
    step = encoder.frame_size
    made = []
    for at in range(0, int(seconds * 48_000), step):
        wave = (0.3 * np.sin(np.arange(at, at + step) * 2 * np.pi * 440 / 48_000)).astype(np.float32)
        samples = np.stack([wave, wave])
        if codec == "libopus":
            samples = samples.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), encoder.format.name, "stereo")
        frame.sample_rate, frame.pts = 48_000, at
        made += encoder.encode(frame)
    packets = [
        Packet(bytes(one), number * step, arrival + number * step / 48_000) for number, one in enumerate(made)
    ]
    return packets, bytes(encoder.extradata or b"")
