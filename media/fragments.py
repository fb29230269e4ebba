"""Streams as fragmented MP4: what a recording and a broadcast both are made of.

    fragments = StreamFragments(video.format, sound.format, fragment_seconds=1.0, restart_seconds=60.0)
    for made in fragments.take(packet):           Began | MediaFragment
    fragments.take_sound(packet)
    for made in fragments.end(): ...

Pure: no task, no clock. It begins with the first key frame that carries its parameter sets. It begins anew,
at time 0 and with another `Began`, when the parameter sets change, when media time jumps, and at the first
key frame after `restart_seconds`, or without one after OVERDUE times that. Damaged frames, and those that
need them, are left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from media.packet import Format, Packet
from media.sound_tie import SoundTie
from protocols.isobmff.fragmenter import Fragmenter, MediaFragment
from protocols.isobmff.tracks import (
    AAC_FRAME,
    VIDEO_TIMESCALE,
    AacTrack,
    AvcTrack,
    OpusTrack,
    SoundTrack,
)
from protocols.isobmff.writer import init_segment
from protocols.payloads.h264_sps import MalformedParameterSet
from protocols.payloads.opus import MalformedOpus, packet_duration

JUMP_SECONDS = 10.0
"""A step of media time longer than this, or backwards over a key frame, is no pause but another time."""
OVERDUE = 5
"""Periods that a source without key frames may last instead of one."""
SOUND_TO_COME = 0.45
"""Seconds that the first pictures after a cut wait for sound that belongs before it."""


class UnsupportedFormat(ValueError):
    """The stream's codec has no place in our files as it is: it must be transcoded first."""


@dataclass(frozen=True, slots=True)
class Began:
    """What follows is a file or period of its own. `arrival` of its first frame, monotonic seconds."""

    init: bytes
    codecs: str
    width: int
    height: int
    arrival: float
    jumped: bool


Made: TypeAlias = Began | MediaFragment


@dataclass(slots=True)
class FragmentCounts:
    """Frames left out: `damaged` with those up to the next key frame, `malformed`, `sound` out of place, and
    `leading` ones, which are shown before the key frame that a period begins with and need the one before."""

    taken: int = 0
    damaged: int = 0
    malformed: int = 0
    sound: int = 0
    leading: int = 0


def sound_track(coded: Format) -> SoundTrack:
    """The track of a sound stream. Raises UnsupportedFormat for what is neither Opus nor AAC."""
    if coded.codec == "OPUS":
        return OpusTrack()
    if coded.codec == "MPEG4-GENERIC":
        try:
            return AacTrack.of_config(bytes.fromhex(coded.parameters.get("config", "")))
        except ValueError as error:
            raise UnsupportedFormat(f"the stream's AAC config cannot be used: {error}") from None
    raise UnsupportedFormat(f"{coded.codec} sound cannot be put in MP4 as it is; Opus and AAC can")


class StreamFragments:
    """One stream of pictures, and one of sound beside it, as fragments of at most `fragment_seconds`.

    `index_room`: bytes kept in each init for closing a file. A key frame begins a fragment, if the one before
    has `least_seconds` or `cut_at_key` is set. `live`: fragments are played as they are made, so that sound
    that begins after its pictures has silence before it. Raises UnsupportedFormat.
    """

    def __init__(
        self,
        pictures: Format,
        sound: Format | None,
        *,
        fragment_seconds: float,
        restart_seconds: float | None = None,
        jump_seconds: float = JUMP_SECONDS,
        index_room: int = 0,
        least_seconds: float = 0.0,
        live: bool = False,
    ) -> None:
        if pictures.codec != "H264":
            raise UnsupportedFormat(f"{pictures.codec} pictures cannot be put in MP4 as they are; H264 can")
        self.counts = FragmentCounts()
        self.cut_at_key = False
        self._least = round(least_seconds * VIDEO_TIMESCALE)
        self._sound = sound_track(sound) if sound is not None else None
        self._sound_rate = sound.clock_rate if sound is not None else 1
        self._limit = round(fragment_seconds * VIDEO_TIMESCALE)
        self._restart = None if restart_seconds is None else round(restart_seconds * VIDEO_TIMESCALE)
        self._jump = round(jump_seconds * VIDEO_TIMESCALE)
        self._index_room = index_room
        self._live = live
        self._track: AvcTrack | None = None
        self._fragmenter: Fragmenter | None = None
        self._waiting_for_key = True
        self._begin = 0
        self._latest = 0
        self._heard_until = 0
        self._held: list[Packet] = []
        self._tie = SoundTie(VIDEO_TIMESCALE, self._sound_rate)
        self._began_arrival = 0.0
        self.held_up = 0.0
        """Seconds by which the first frame since `Began` was late, beside those after it."""

    def retarget(self, fragment_seconds: float, least_seconds: float) -> None:
        """Other lengths from the next frame on."""
        self._limit = round(fragment_seconds * VIDEO_TIMESCALE)
        self._least = round(least_seconds * VIDEO_TIMESCALE)
        if self._fragmenter is not None:
            self._fragmenter.limit, self._fragmenter.least = self._limit, self._least

    @property
    def running(self) -> float:
        """Seconds since the latest `Began`."""
        return (self._latest - self._begin) / VIDEO_TIMESCALE

    def take(self, packet: Packet) -> list[Made]:
        """The next picture in decoding order."""
        self.counts.taken += 1
        if not self._held and not self._waits_for_sound(packet):
            return self._take(packet)
        self._held.append(packet)
        first = self._held[0]
        if self._heard_until < first.pts and packet.arrival - first.arrival < SOUND_TO_COME:
            return []
        return self._release()

    def _waits_for_sound(self, packet: Packet) -> bool:
        """Whether a period ends here by its age, and sound that still comes is of before."""
        return (
            packet.keyframe
            and self._fragmenter is not None
            and self._sound is not None
            and self._restart is not None
            and self._begin + self._restart <= packet.pts <= self._latest + self._jump
            and packet.pts - VIDEO_TIMESCALE < self._heard_until < packet.pts
        )

    def _release(self) -> list[Made]:
        held, self._held = self._held, []
        return [made for packet in held for made in self._take(packet)]

    def _take(self, packet: Packet) -> list[Made]:
        if packet.damaged or (self._waiting_for_key and not packet.keyframe):
            self._waiting_for_key = True
            self.counts.damaged += 1
            return []
        try:
            begins = packet.keyframe or self._overdue(packet)
            made = self._begun(packet) if begins else []
            if self._fragmenter is None:
                raise ValueError("the key frame has no parameter sets")
            if not packet.keyframe and abs(packet.pts - self._latest) > self._jump:
                raise ValueError("media time jumped away from a key frame")
            if packet.pts < self._begin:
                self.counts.leading += 1
                return made
            self._fragmenter.cut_at_key = self.cut_at_key
            made += self._fragmenter.push(packet.data, packet.pts - self._begin, begins)
        except (ValueError, MalformedParameterSet):
            self.counts.malformed += 1
            self._waiting_for_key = True
            return []
        self._waiting_for_key = False
        self._latest = packet.pts if packet.keyframe else max(self._latest, packet.pts)
        self._tie.saw(packet)
        due = self._began_arrival + (packet.pts - self._begin) / VIDEO_TIMESCALE
        self.held_up = max(self.held_up, due - packet.arrival)
        return made

    def _overdue(self, packet: Packet) -> bool:
        """No key frame came for OVERDUE periods: a source that refreshes its pictures bit by bit. The next
        period begins all the same, grey until it is refreshed."""
        if self._restart is None or self._fragmenter is None or packet.pts <= self._latest:
            return False
        return packet.pts - self._begin >= OVERDUE * self._restart

    def take_sound(self, packet: Packet) -> None:
        """The next packet of sound; what comes before the pictures begin is left out."""
        fragmenter = self._fragmenter
        if fragmenter is None or self._sound is None:
            return
        self._tie.heard(packet)
        if self._tie.offset is None:
            return
        time = self._sound_time(packet, self._tie.offset)
        try:
            duration = packet_duration(packet.data) if isinstance(self._sound, OpusTrack) else AAC_FRAME
        except MalformedOpus:
            self.counts.malformed += 1
            return
        if packet.damaged or time < 0:
            self.counts.sound += 1
            return
        until = self._begin + (time + duration) * VIDEO_TIMESCALE // self._sound.timescale
        self._heard_until = max(self._heard_until, until)
        before = fragmenter.dropped_sound
        fragmenter.push_sound(packet.data, time, duration)
        self.counts.sound += fragmenter.dropped_sound - before

    def end(self) -> list[Made]:
        """What is left; afterwards only a key frame begins again."""
        left = self._release()
        left += self._fragmenter.flush() if self._fragmenter else []
        self._fragmenter = None
        self._waiting_for_key = True
        return left

    def _begun(self, packet: Packet) -> list[Made]:
        """At a key frame: what is left of the period before, and the new one's start, if it is one."""
        track = AvcTrack.of_access_unit(packet.data) or self._track
        if track is None:
            return []
        step = packet.pts - self._latest
        jumped = self._fragmenter is not None and not 0 < step <= self._jump
        aged = self._restart is not None and packet.pts - self._begin >= self._restart
        if self._fragmenter is not None and track == self._track and not jumped and not aged:
            return []
        before = self._fragmenter
        made, later = self._left_over(packet, handing_on=not jumped)
        if jumped:
            self._tie = SoundTie(VIDEO_TIMESCALE, self._sound_rate)
            self._heard_until = 0
        self._track = track
        self._begin = self._latest = packet.pts
        self._began_arrival, self.held_up = packet.arrival, 0.0
        self._fragmenter = Fragmenter(track, self._sound, self._limit, least=self._least, live=self._live)
        for data, time, duration in later:
            self._fragmenter.push_sound(data, time, duration)
        if self._heard_until:
            self._fragmenter.expect_sound(before is not None and before.silent)
        tracks = [track, self._sound] if self._sound else [track]
        began = Began(
            init_segment(tracks, index_room=self._index_room),
            ",".join(one.codecs for one in tracks),
            track.width,
            track.height,
            packet.arrival,
            jumped,
        )
        return [*made, began]

    def _left_over(
        self, packet: Packet, *, handing_on: bool
    ) -> tuple[list[Made], list[tuple[bytes, int, int]]]:
        """The end of the period before `packet`, and the sound that is ahead of its pictures, in new time."""
        old, self._fragmenter = self._fragmenter, None
        if old is None:
            return [], []
        if not handing_on:
            return list(old.flush()), []
        made: list[Made] = list(old.flush(all_sound=False, until=packet.pts - self._begin))
        if self._sound is None:
            return made, []
        shift = (packet.pts - self._begin) * self._sound.timescale // VIDEO_TIMESCALE
        return made, [
            (data, time - shift, duration) for data, time, duration in old.later_sound() if time >= shift
        ]

    def _sound_time(self, packet: Packet, offset: float) -> int:
        """Sound's place on the file's time line, in its track's timescale."""
        assert self._sound is not None
        scale = self._sound.timescale
        begin = self._begin * scale // VIDEO_TIMESCALE
        return packet.pts * scale // self._sound_rate + round(offset * scale) - begin
