"""A few pictures a second out of a coded stream, for as little work as it takes.

    decoder = SampleDecoder("H264", clock_rate=90_000, interval=1.0)
    decoder.take(packet) -> list[Glimpse]            in a codec lane; never raises on bad data

Where key frames come at least about as often as pictures are wanted, nothing else is decoded. Otherwise all
is, but without the loop filter (a quarter of the work; 41 dB and more remain) and without frames that no
other frame needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import av
import av.error
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from analytics.detection import Bgr
from analytics.motion_gate import Luma
from media.codecs import MAX_PIXELS
from media.packet import Packet

DECODERS: Mapping[str, str] = MappingProxyType(
    {"H264": "h264", "H265": "hevc", "VP8": "vp8", "H263": "h263", "H263-1998": "h263", "H261": "h261"}
)
"""RTP encoding names to decoders."""
EARLY, LATE = 0.9, 1.25
"""Of an interval: a key frame may be this early; key frames this far apart still do."""
EXACT = 0.001
"""Seconds: the grain of clocks."""
JUMP = 30.0
"""Seconds between pictures from which the stream's clock has jumped."""
PATIENCE = 10.0
"""Seconds that pictures are withheld after damage while no key frame comes: gradual refresh sends none."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A picture out of a stream: `pts` in seconds, `arrival` monotonic; `luma`: its brightness alone."""

    pts: float
    arrival: float
    picture: Bgr
    luma: Luma


class SampleDecoder:
    """Decodes one stream. Raises ValueError for a codec that is not known here.

    While `keys_only` is true, frames between need not be brought here at all."""

    def __init__(self, codec: str, clock_rate: int, interval: float) -> None:
        if codec not in DECODERS:
            raise ValueError(f"its pictures are {codec}; looked at are {', '.join(DECODERS)}")
        self.failed = 0
        self.decoded = 0
        self._codec = DECODERS[codec]
        self._clock_rate = clock_rate
        self._interval = interval
        self._context = self._open()
        self.keys_only = False
        self._last_key: int | None = None
        self._due: float | None = None
        self._faulty_since: float | None = 0.0
        self._broken = False

    def take(self, packet: Packet) -> list[Glimpse]:
        """The pictures that are due with this coded frame: mostly none."""
        if packet.keyframe:
            self._choose(packet)
        elif self.keys_only:
            return []
        if packet.damaged or not packet.data:
            self._fault(packet.arrival)
        if not packet.data:  # a decoder would take it for the end
            return []
        coded = av.Packet(packet.data)
        coded.pts = coded.dts = packet.pts
        try:
            frames = self._context.decode(coded)
            if self.keys_only:  # what the decoder holds back for reordering would come a key frame late
                frames += self._context.decode(None)
                self._context.flush_buffers()
        except (av.error.FFmpegError, ValueError):
            self._fault(packet.arrival)
            self._broken = True
            return []
        self.decoded += len(frames)
        return [
            _glimpse(frame, self._clock_rate, packet.arrival)
            for frame in frames
            if self._sound(frame, packet.arrival) and self._is_due(frame)
        ]

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

    def _choose(self, packet: Packet) -> None:
        """At each key frame: do key frames alone come often enough? A decoder that failed begins anew."""
        if self._broken:
            self._context, self._broken = self._open(), False
        last, self._last_key = self._last_key, packet.pts
        if last is not None:
            gap = (packet.pts - last) / self._clock_rate
            self.keys_only = 0 < gap <= self._interval * LATE

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

    def _is_due(self, frame: av.VideoFrame) -> bool:
        if frame.pts is None:
            return False
        now, interval = frame.pts / self._clock_rate, self._interval
        due = self._due
        early = (1 - EARLY) * interval if self.keys_only else EXACT
        if due is not None and due - JUMP < now < due - early:
            return False
        in_step = due is not None and abs(now - due) < interval / 2
        self._due = (due if in_step and due is not None else now) + interval
        return True


def _glimpse(frame: av.VideoFrame, clock_rate: int, arrival: float) -> Glimpse:
    pts = (frame.pts or 0) / clock_rate
    full_range = frame.color_range == ColorRange.JPEG
    if full_range or frame.format.name != "yuv420p" or frame.width % 2 or frame.height % 2:
        picture: Bgr = frame.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
    else:
        picture = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2BGR_I420)  # type: ignore[assignment]  # uint8 in, uint8 out
    luma = frame.planes[0]
    rows = np.frombuffer(luma, np.uint8).reshape(-1, luma.line_size)  # type: ignore[call-overload]  # a Plane has the buffer protocol, its stub does not say so
    return Glimpse(pts, arrival, picture, rows[: frame.height, : frame.width])
