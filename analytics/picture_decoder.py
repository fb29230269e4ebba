"""A few pictures a second out of a coded stream, for as little work as it takes.

    plan, decoder = SamplePlan(clock_rate=90_000, interval=1.0), SampleDecoder("H264", clock_rate=90_000)
    frames = plan.offer(packet)              on the event loop: what to decode now for a picture; mostly ()
    decoder.take(frames) -> Glimpse | None   in a codec lane; never raises on bad data

Frames wait until a picture is due and are decoded at once: a decoder works best in one go, and what waits
when a key frame comes is never decoded at all. So where key frames come about as often as pictures are wanted
nothing else is decoded; otherwise what lies between a group's last picture and the next key frame is saved.
The loop filter is left out (a quarter of the work; 41 dB and more remain), and so are frames that no other
needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext

from analytics.detection import Bgr
from analytics.motion_gate import Luma
from media.codecs import MAX_PIXELS
from media.packet import Packet

DECODERS: Mapping[str, str] = MappingProxyType(
    {"H264": "h264", "H265": "hevc", "VP8": "vp8", "H263": "h263", "H263-1998": "h263", "H261": "h261"}
)
"""RTP encoding names to decoders."""
EARLY_KEY, EARLY, LATE = 0.3, 0.1, 1.25
"""Of an interval: how early a key frame may be where they are rare, and where all pictures are key frames;
which is where they are no further apart than the last."""
EXACT = 0.001
"""Seconds: the grain of clocks."""
JUMP = 30.0
"""Seconds between pictures from which the stream's clock has jumped."""
MOST_WAITING = 1000
"""Frames that wait for a picture to be due, where pictures are rarer than that."""
PATIENCE = 10.0
"""Seconds that pictures are withheld after damage while no key frame comes: gradual refresh sends none."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A picture out of a stream: `pts` in seconds, `arrival` monotonic; `luma`: its brightness alone."""

    pts: float
    arrival: float
    picture: Bgr
    luma: Luma


class SamplePlan:
    """Says which frames to decode for a picture each `interval` seconds of the stream's time."""

    def __init__(self, clock_rate: int, interval: float) -> None:
        self.keys_only = False
        self._clock_rate = clock_rate
        self._interval = interval
        self._waiting: list[Packet] = []
        self._last_key: float | None = None
        self._due: float | None = None

    def offer(self, packet: Packet) -> tuple[Packet, ...]:
        """The frames to decode now, in order, for the picture of the last of them; mostly none."""
        now = packet.pts / self._clock_rate
        if packet.keyframe:
            self._measure(now)
            self._waiting.clear()
        elif self.keys_only:
            return ()
        self._waiting.append(packet)
        if not self._is_due(now, packet.keyframe) and len(self._waiting) < MOST_WAITING:
            return ()
        frames = tuple(self._waiting)
        self._waiting.clear()
        return frames

    def _measure(self, now: float) -> None:
        last, self._last_key = self._last_key, now
        if last is not None:
            self.keys_only = 0 < now - last <= self._interval * LATE

    def _is_due(self, now: float, keyframe: bool) -> bool:
        early = EXACT
        if keyframe:
            early = self._interval * (EARLY if self.keys_only else EARLY_KEY)
        due = self._due
        if due is not None and due - self._interval - JUMP < now < due - early:
            return False
        self._due = now + self._interval
        if due is not None and not keyframe and now - due < self._interval / 2:
            self._due = due + self._interval
        return True


class SampleDecoder:
    """Decodes one stream. Raises ValueError for a codec that is not known here."""

    def __init__(self, codec: str, clock_rate: int) -> None:
        if codec not in DECODERS:
            raise ValueError(f"its pictures are {codec}; looked at are {', '.join(DECODERS)}")
        self.failed = 0
        self.decoded = 0
        self._codec = DECODERS[codec]
        self._clock_rate = clock_rate
        self._context = self._open()
        self._faulty_since: float | None = 0.0
        self._broken = False

    def take(self, frames: Sequence[Packet]) -> Glimpse | None:
        """The newest picture that comes of these frames, unless it is damaged."""
        picture: av.VideoFrame | None = None
        for packet in frames:
            for frame in self._decode(packet):
                picture = frame if self._sound(frame, packet.arrival) else None
        if picture is None or picture.pts is None:
            return None
        return _glimpse(picture, self._clock_rate, frames[-1].arrival)

    def _decode(self, packet: Packet) -> list[av.VideoFrame]:
        if packet.keyframe and self._broken:
            self._context, self._broken = self._open(), False
        if packet.damaged or not packet.data:
            self._fault(packet.arrival)
        if not packet.data:  # a decoder would take it for the end
            return []
        try:
            if packet.keyframe:  # what is held back from before is of no use any more
                self._context.flush_buffers()
            decoded = self._context.decode(self._coded(packet))
            if packet.keyframe and not decoded:
                decoded = self._hurry(packet)
        except (av.error.FFmpegError, ValueError):
            self._fault(packet.arrival)
            self._broken = True
            return []
        self.decoded += len(decoded)
        return decoded

    def _hurry(self, packet: Packet) -> list[av.VideoFrame]:
        """The key frame that the decoder of a stream with reordering holds back."""
        decoded = self._context.decode(None)
        self._context.flush_buffers()
        self._context.decode(self._coded(packet))
        return decoded

    def _coded(self, packet: Packet) -> av.Packet[Any]:
        coded = av.Packet(packet.data)
        coded.pts = coded.dts = packet.pts
        return coded

    def _open(self) -> VideoCodecContext:
        context = av.CodecContext.create(self._codec, "r")
        if not isinstance(context, VideoCodecContext):
            raise TypeError(f"{self._codec} is not a picture codec")
        context.thread_count = 1
        context.options = {
            "max_pixels": str(MAX_PIXELS),
            "skip_loop_filter": "all",
            "skip_frame": "noref",
        }
        return context

    def _fault(self, now: float) -> None:
        self.failed += 1
        if self._faulty_since is None:
            self._faulty_since = now

    def _sound(self, frame: av.VideoFrame, now: float) -> bool:
        """Whether a frame shows what the camera saw; smears are no evidence."""
        if frame.is_corrupt:
            self._fault(now)
            return False
        if frame.key_frame or (self._faulty_since is not None and now - self._faulty_since > PATIENCE):
            self._faulty_since = None
        return self._faulty_since is None


def _glimpse(frame: av.VideoFrame, clock_rate: int, arrival: float) -> Glimpse:
    picture: Bgr = frame.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
    luma = frame.planes[0]
    rows = np.frombuffer(luma, np.uint8).reshape(-1, luma.line_size)  # type: ignore[call-overload]  # a Plane has the buffer protocol, its stub does not say so
    return Glimpse((frame.pts or 0) / clock_rate, arrival, picture, rows[: frame.height, : frame.width])
