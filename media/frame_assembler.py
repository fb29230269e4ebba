"""Packets in order to whole frames, with what is known of the pictures they refer to."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from media.jitter_buffer import Ordered
from media.keyframe_requests import KeyframeRequests
from media.timeline import Timeline
from protocols.payloads import Depacketizer, Frame
from protocols.payloads.telephone_event import TelephoneEvent, TelephoneEventReceiver

_FIRST_KEYFRAME_GRACE = 0.2
"""Seconds a new source has to send a key frame unasked."""
_MAX_TONES = 32


@dataclass(frozen=True, slots=True)
class TonePressed:
    """A telephone event (RFC 4733), given once; `timestamp` unwrapped."""

    event: TelephoneEvent
    timestamp: int


class FrameAssembler:
    """Gives each packet to the depacketizer of its payload type.

    After a loss every picture is flagged `damaged` until a whole key frame, or the recovery point of a source
    that refreshes gradually, and a key frame is wanted. A source counts as spoilt until its first one.
    """

    def __init__(
        self,
        formats: Mapping[int, Depacketizer | TelephoneEventReceiver],
        timeline: Timeline,
        keyframe_requests: KeyframeRequests,
    ) -> None:
        self._formats = formats
        self._timeline = timeline
        self._requests = keyframe_requests
        self._tones: deque[TonePressed] = deque(maxlen=_MAX_TONES)
        self._depacketizer: Depacketizer | None = None
        self._loss_pending = False
        self._spoilt = False
        self._recovers_in: int | None = None
        self.rejected = 0
        self.frames = self.keyframes = self.damaged = 0

    def push(self, ordered: Ordered) -> list[Frame]:
        """The frames that are whole by this packet."""
        packet = ordered.packet
        after_loss = ordered.after_loss or self._loss_pending
        self._loss_pending = False
        target = self._formats.get(packet.payload_type)
        if target is None:
            self.rejected += 1
            self._loss_pending = after_loss
            return []
        timestamp = self._timeline.unwrap(packet.timestamp, ordered.arrival)
        if isinstance(target, TelephoneEventReceiver):
            event = target.push(packet.payload, timestamp, packet.marker)
            if event is not None:
                self._tones.append(TonePressed(event, timestamp))
            self._loss_pending = after_loss
            return []
        frames = self._change(target, ordered.arrival) if target is not self._depacketizer else []
        malformed = target.malformed
        frames += target.push(packet.payload, timestamp, packet.marker, after_loss)
        if target.needs_keyframes and (after_loss or target.malformed != malformed):
            self._spoil(ordered.arrival)
        return [self._finish(frame, ordered.arrival) for frame in frames]

    def flush(self) -> list[Frame]:
        """The source is over: what is left of it. What comes next is another one."""
        frames: list[Frame] = []
        if self._depacketizer is not None:
            frames = [self._finish(frame, None) for frame in self._depacketizer.flush()]
        self._depacketizer = None
        self._loss_pending = False
        return frames

    def take_tones(self) -> list[TonePressed]:
        tones = list(self._tones)
        self._tones.clear()
        return tones

    def _change(self, target: Depacketizer, now: float) -> list[Frame]:
        """Another payload type than before: the old one's last frame; pictures begin anew."""
        frames = self._depacketizer.flush() if self._depacketizer is not None else []
        self._depacketizer = target
        if target.needs_keyframes:
            self._spoilt, self._recovers_in = True, None
            self._requests.want(now, _FIRST_KEYFRAME_GRACE)
        return frames

    def _spoil(self, now: float | None) -> None:
        """Something the following pictures refer to is gone for good."""
        self._spoilt, self._recovers_in = True, None
        if now is not None:
            self._requests.want(now)

    def _finish(self, frame: Frame, now: float | None) -> Frame:
        if self._depacketizer is not None and self._depacketizer.needs_keyframes:
            frame = self._judge(frame, now)
            self.keyframes += frame.keyframe
        self.frames += 1
        self.damaged += frame.damaged
        return frame

    def _judge(self, picture: Frame, now: float | None) -> Frame:
        if picture.damaged:
            self._spoil(now)
            return picture
        if picture.keyframe:
            self._recover()
        elif self._spoilt:
            if self._recovers_in is None:
                self._recovers_in = picture.recovery_point
            elif self._recovers_in > 0:
                self._recovers_in -= 1
            if self._recovers_in == 0:
                self._recover()
        return replace(picture, damaged=True) if self._spoilt else picture

    def _recover(self) -> None:
        self._spoilt, self._recovers_in = False, None
        self._requests.came()
