"""Frames as the bodies of FLV tags, which RTMP carries (Adobe Flash Video File Format 10.1, E.4.2 and E.4.3).

    bodies = FlvBodies(sound.format)
    bodies.sound(packet);  for type, milliseconds, body in bodies.picture(packet): ...

Pure. Begins with the first key frame that has its parameter sets; sound before it is left out. The time of
everything begins at 0 there. AAC and H.264 only.
"""

from __future__ import annotations

from collections import deque

from media.packet import Format, Packet
from media.sound_tie import SoundTie
from protocols.isobmff.fragmenter import DecodeTimes
from protocols.isobmff.tracks import VIDEO_TIMESCALE, AvcTrack
from protocols.payloads.h264_sps import MalformedParameterSet
from protocols.rtmp.amf import encode_amf
from protocols.rtmp.chunks import AUDIO, DATA, VIDEO

SOUND_WAITING = 512
_AVC, _KEY, _INTER = 7, 0x10, 0x20
_AAC = bytes([0xAF])
"""SoundFormat 10; rate, size and channels are those that E.4.2.1 wants for AAC, whatever it is."""

Tag = tuple[int, int, bytes]


class FlvBodies:
    """`left_out` counts frames that could not be sent: before the first key frame, damaged, out of time."""

    def __init__(self, sound: Format | None) -> None:
        self.left_out = 0
        self._sound = sound
        self._track: AvcTrack | None = None
        self._times = DecodeTimes()
        self._untimed: deque[tuple[Packet, bytes]] = deque()
        self._first: Packet | None = None
        self._tie = SoundTie(VIDEO_TIMESCALE, sound.clock_rate if sound is not None else 1)
        self._waiting: deque[Packet] = deque()
        self._lag = 0
        self._last_sound = -1
        self._broken = False

    def sound(self, packet: Packet) -> None:
        """Keep a packet until the next picture; beyond SOUND_WAITING the oldest goes."""
        if self._first is None or packet.damaged:
            return
        self._waiting.append(packet)
        if len(self._waiting) > SOUND_WAITING:
            self._waiting.popleft()
            self.left_out += 1

    def picture(self, packet: Packet) -> list[Tag]:
        """The tags of the next picture in decoding order, and of the sound up to it."""
        tags: list[Tag] = []
        try:
            if packet.keyframe and not packet.damaged:
                tags += self._begin(packet)
            if self._track is None or self._first is None or packet.damaged or self._broken:
                self._broken = self._track is not None
                self.left_out += 1
                return tags
            sample = self._track.sample(packet.data)
        except (ValueError, MalformedParameterSet):
            self._broken = True
            self.left_out += 1
            return tags
        self._tie.saw(packet)
        known = self._times.push(packet.pts - self._first.pts, packet.keyframe)
        self._untimed.append((packet, sample))
        for decode_time in known:
            tags.append(self._coded(*self._untimed.popleft(), decode_time))
        return [*tags, *self._heard_by_now()]

    def _begin(self, packet: Packet) -> list[Tag]:
        """At a key frame: what a decoder must know first, when that is new."""
        track = AvcTrack.of_access_unit(packet.data) or self._track
        self._broken = track is None
        if track is None or track == self._track:
            return []
        tags: list[Tag] = []
        if self._first is None:
            self._first = packet
            tags.append((DATA, 0, self._about(track)))
            if self._sound is not None:
                config = bytes.fromhex(self._sound.parameters.get("config", ""))
                tags.append((AUDIO, 0, _AAC + b"\x00" + config))
        self._track = track
        head = bytes([_KEY | _AVC, 0, 0, 0, 0])
        tags.append((VIDEO, self._milliseconds(packet.pts - self._first.pts), head + track.configuration()))
        return tags

    def _about(self, track: AvcTrack) -> bytes:
        about: dict[str, float] = {"width": track.width, "height": track.height, "videocodecid": _AVC}
        if self._sound is not None:
            about |= {"audiocodecid": 10, "audiosamplerate": self._sound.clock_rate}
        return encode_amf("@setDataFrame", "onMetaData", about)

    def _coded(self, packet: Packet, sample: bytes, decode_time: int) -> Tag:
        """Servers take no negative composition time: everything is shown later by what it would lack."""
        assert self._first is not None
        shown = packet.pts - self._first.pts
        self._lag = max(self._lag, decode_time - shown)
        kind = (_KEY if packet.keyframe else _INTER) | _AVC
        at = self._milliseconds(decode_time)
        offset = max(self._milliseconds(shown + self._lag) - at, 0)
        return VIDEO, at, bytes([kind, 1]) + offset.to_bytes(3, "big") + sample

    def _heard_by_now(self) -> list[Tag]:
        """The sound that waits, beside its pictures."""
        tags: list[Tag] = []
        while self._waiting and self._sound is not None and self._first is not None:
            heard = self._waiting.popleft()
            self._tie.heard(heard)
            if self._tie.offset is None:
                continue
            seconds = heard.pts / self._sound.clock_rate + self._tie.offset
            seconds -= self._first.pts / VIDEO_TIMESCALE
            at = round(seconds * 1000) + self._milliseconds(self._lag)
            if at <= self._last_sound or seconds < 0:
                self.left_out += 1
                continue
            self._last_sound = at
            tags.append((AUDIO, at, _AAC + b"\x01" + heard.data))
        return tags

    @staticmethod
    def _milliseconds(ticks: int) -> int:
        return max(round(ticks * 1000 / VIDEO_TIMESCALE), 0)
