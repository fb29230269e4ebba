"""What a meeting shows the outside: one stream of pictures and one of sound, made while somebody holds them.

    async with programme.pictures() as stream: ...      H264, of one size and rate whatever is shown
    async with programme.sound() as stream: ...         OPUS, 20 ms a packet: everybody

The pictures come from the meeting's encoders as any receiver's do: who is shown is the view's to say, and the
class is shared with receivers of the very same. A switch shows at the new encoder's key frame; time stamps
and parameter sets go on. Both streams count from one instant, and their packets' `ntp` says when each is to
be seen or heard.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager

from mcu_bridge.outlet import Outlet
from mcu_bridge.picture_plan import PictureLimits, Step
from media.codecs import CLOCK
from media.packet import Format, Packet
from media.sound_codecs import FRAME, RATE
from media.stream import Stream
from media.stream_source import NoSuchStream
from protocols.payloads import Packetizer
from protocols.payloads.h264_fmtp import smallest_level

SOUND = "/sound"
SOUND_LAG = 0.02
"""Seconds by which sound waits longer in its playout queue than a picture in decoder and canvas."""
_NTP_EPOCH = 2_208_988_800
_SKIPPED = RATE // 20
"""A step of more than 50 ms between the sound's count and the clock is a tick that never was."""


def programme_id(conference_id: str) -> str:
    return f"programme:{conference_id}"


class WholeFrames:
    """The packetizer of who takes frames as they are."""

    def packetize(self, frame: bytes) -> list[bytes]:
        return [frame]


class Programme:
    """Fulfils `PictureViewer`. `epoch` is the monotonic instant that the meeting's picture time counts from;
    `changed` is called when a first holder came or the last one left."""

    def __init__(self, conference_id: str, step: Step, epoch: float, changed: Callable[[], None]) -> None:
        self.participant_id = programme_id(conference_id)
        self.outlet: Outlet | None = None
        self._step = step
        self._epoch = epoch
        self._epoch_ntp = time.time() - (time.monotonic() - epoch) + _NTP_EPOCH
        self._changed = changed
        self._closed = False
        self._holders = {"": 0, SOUND: 0}
        self._streams: dict[str, Stream] = {}
        self._latest = -1
        self._heard: tuple[int, int] | None = None

    # --- who holds it -------------------------------------------------------------------------------

    @asynccontextmanager
    async def pictures(self) -> AsyncIterator[Stream]:
        """The pictures, encoded while anybody is in here. Raises NoSuchStream when the meeting has ended."""
        async with self._hold("", self._make_pictures) as stream:
            yield stream

    @asynccontextmanager
    async def sound(self) -> AsyncIterator[Stream]:
        async with self._hold(SOUND, self._make_sound) as stream:
            yield stream

    @asynccontextmanager
    async def _hold(self, part: str, make: Callable[[], Stream]) -> AsyncIterator[Stream]:
        if self._closed:
            raise NoSuchStream(f"the meeting of {self.participant_id} has ended")
        if part not in self._streams:
            self._streams[part] = make()
            self._changed()
        stream = self._streams[part]
        self._holders[part] += 1
        try:
            yield stream
        finally:
            self._holders[part] -= 1
            if not self._holders[part] and self._streams.get(part) is stream:
                del self._streams[part]
                stream.close()
                self._changed()

    def _make_pictures(self) -> Stream:
        step = self._step
        level = smallest_level(step.width, step.height, step.frame_rate, step.bitrate_bps) or 31
        parameters = {"profile-level-id": f"42e0{level:02x}", "packetization-mode": "1"}
        return Stream(
            self.participant_id,
            Format("H264", CLOCK, parameters=parameters),
            on_keyframe_wanted=self._want_keyframe,
        )

    def _make_sound(self) -> Stream:
        self._heard = None
        return Stream(self.participant_id + SOUND, Format("OPUS", RATE, 2))

    @property
    def wants_sound(self) -> bool:
        return SOUND in self._streams

    # --- pictures -----------------------------------------------------------------------------------

    @property
    def limits(self) -> PictureLimits | None:
        """One rung always; nothing while nobody holds the pictures."""
        if "" not in self._streams:
            return None
        return PictureLimits("H264", self._step.bitrate_bps, always=self._step)

    @property
    def packetization(self) -> Hashable:
        return WholeFrames

    def make_packetizer(self) -> Packetizer:
        return WholeFrames()

    def send_picture(self, payloads: Sequence[bytes], packet: Packet, *, first: bool) -> None:
        stream = self._streams.get("")
        if stream is None:
            return
        # At a switch the new encoder's first frame may be of the very tick that the old one's last was.
        self._latest = pts = max(packet.pts, self._latest + 1)
        stream.publish(Packet(packet.data, pts, packet.arrival, packet.keyframe, ntp=self._ntp(pts / CLOCK)))

    def _want_keyframe(self) -> None:
        if self.outlet is not None:
            self.outlet.stream.request_keyframe()

    # --- sound --------------------------------------------------------------------------------------

    def take_sound(self, payload: bytes, index: int, at: float) -> None:
        """20 ms of the mix of everybody; `index` counts ticks, `at` is when this one was, monotonic."""
        stream = self._streams.get(SOUND)
        if stream is None:
            return
        due = round((at - self._epoch) * RATE)
        pts = due if self._heard is None else self._heard[1] + (index - self._heard[0]) * FRAME
        if due - pts > _SKIPPED:
            pts = due
        self._heard = index, pts
        stream.publish(Packet(payload, pts, time.monotonic(), ntp=self._ntp(pts / RATE - SOUND_LAG)))

    def _ntp(self, seconds: float) -> float:
        return self._epoch_ntp + seconds

    # --- the end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """The meeting is over: whoever holds its streams finds them ended."""
        self._closed = True
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.close()
