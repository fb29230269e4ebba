"""What a test terminal sends: its camera and its tone, within what the peer and the network take."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from foundation.desks import CodecDescription, MediaDescription, SectionKind
from mcu_bridge.cif_formats import cif_limits
from mcu_bridge.negotiation import CIF_CODECS, coding, packetization_mode, profile_level_id
from mcu_bridge.rates import PAYLOAD, picture_bps, sound_wire_bps
from mcu_bridge.sound_leg import SoundLeg
from media.codecs import VideoCodec, VideoTarget
from media.pacer import MIN_RATE, PacedFlow, Pacer
from media.sound_codecs import SoundCodec
from orchestrator.demo.terminal.footage import Footage, Rgb
from orchestrator.demo.terminal.legs import ScreenLeg
from orchestrator.demo.terminal.reels import Camera, CodedFrame, LiveCamera, LoopedCamera, Shot, digest
from orchestrator.demo.terminal.senses import HASHES_KEPT
from orchestrator.demo.terminal.settings import TerminalSettings, rgb
from orchestrator.demo.terminal.studio import PERIOD, Studio
from protocols.payloads.h264_fmtp import H264Format, LevelLimits, MalformedFormat

_STEP = 0.85
_LEAST_BITRATE = 32_000
_MOST_CATCH_UP = 5
_SMALLER = ((640, 360), (352, 288), (176, 144))
_CIF_WIDTH = 352
_IP_UDP = 28


class Player:
    """Feeds the legs of one call; `use_picture` and `use_sound` say which, None takes them away."""

    def __init__(self, settings: TerminalSettings, studio: Studio, pacer: Pacer[PacedFlow]) -> None:
        self.frames_sent = 0
        self.key_frames_sent = 0
        self.hashes: deque[str] = deque(maxlen=HASHES_KEPT)
        self.shot: Shot | None = None
        self._settings = settings
        self._studio = studio
        self._pacer = pacer
        self._picture: ScreenLeg | None = None
        self._sound: SoundLeg | None = None
        self._colour: Rgb = rgb(settings.colour)
        self._tone = settings.tone_hz
        self._camera: Camera | None = None
        self._tape: tuple[bytes, ...] = ()
        self._began: float | None = None
        self._sound_index = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # --- legs ---------------------------------------------------------------------------------------

    def use_picture(self, leg: ScreenLeg | None) -> None:
        """Another leg may mean another codec: the camera of the old one stops."""
        self._picture, self.shot = leg, None
        camera, self._camera = self._camera, None
        if camera is not None:
            self._spawn(camera.aclose())

    def use_sound(self, leg: SoundLeg | None) -> None:
        self._sound, self._tape = leg, ()
        if leg is not None:
            self._spawn(self._load_tape(SoundCodec(leg.codec.name), self._tone))

    # --- what is shown and played -------------------------------------------------------------------

    async def show(self, colour: Rgb) -> None:
        """The camera shows another colour; returns when it does."""
        self._colour = colour
        if self.shot is not None:
            self.shot = replace(self.shot, footage=replace(self.shot.footage, colour=colour))
            await self._film(self.shot)

    async def play(self, frequency: float | None) -> None:
        """Another tone, or silence."""
        self._tone = frequency
        if self._sound is not None:
            await self._load_tape(SoundCodec(self._sound.codec.name), frequency)

    async def _load_tape(self, codec: SoundCodec, frequency: float | None) -> None:
        tape = await self._studio.tape(codec, frequency)
        if self._sound is not None and self._sound.sound_codec is codec and frequency == self._tone:
            self._tape = tape

    def restart(self) -> None:
        """The peer wants a key frame."""
        if self._camera is not None:
            self._camera.restart()

    def sent_at(self, number: int) -> float | None:
        return None if self._camera is None else self._camera.sent_at(number)

    # --- within what the peer takes -----------------------------------------------------------------

    def follow(self, theirs: MediaDescription, now: float) -> None:
        """Keep to the peer's b= and to what its reports allow: the pacer at once, the camera soon."""
        picture = self._picture
        overhead = _IP_UDP if picture is None else picture.transport.overhead
        sound = sound_wire_bps(None if self._sound is None else self._sound.sound_codec, overhead)
        section = next((s for s in theirs.sections if s.kind is SectionKind.VIDEO and s.port), None)
        wires = [] if theirs.bandwidth_bps is None else [theirs.bandwidth_bps]
        if section is not None and section.bandwidth_bps is not None:
            wires.append(section.bandwidth_bps + sound)
        rates = [self._settings.bitrate, *(picture_bps(wire, sound, overhead) for wire in wires)]
        network = None if picture is None else picture.limit(now)
        if network is not None:
            rates.append(network)
            wires.append(int(network * 1.1) + sound + 50_000)
        pace = max(MIN_RATE, min([unlimited(self._settings), *wires]))
        if pace != self._pacer.rate:
            self._studio.pacing.set_rate(self._pacer, pace)
        if picture is not None:
            shot = self._wanted(picture.codec, min(rates))
            if shot != self.shot:
                self.shot = shot
                self._spawn(self._film(shot))

    def _wanted(self, codec: CodecDescription, rate: int) -> Shot:
        """What the peer can take of what we would show; rates go down in steps, so that reels are shared."""
        settings, limits = self._settings, _limits(codec)
        bitrate = float(settings.bitrate if limits is None else min(settings.bitrate, 1000 * limits.max_br))
        while bitrate > max(rate, _LEAST_BITRATE):
            bitrate *= _STEP
        width, height, fps = _fitting(settings, limits)
        if codec.name in CIF_CODECS:
            width, height, fps = _cif(settings, codec)
        is_h264 = codec.name == "H264"
        target = VideoTarget(
            VideoCodec(coding(codec)),
            width,
            height,
            fps,
            max(_LEAST_BITRATE, int(bitrate)),
            profile_level_id=profile_level_id(codec) if is_h264 else "42e01f",
            max_slice_bytes=PAYLOAD if is_h264 and packetization_mode(codec) == 0 else 0,
            vbv_frames=4.0,
        )
        footage = Footage(self._colour, width, height, settings.detail, settings.numbered)
        return Shot(footage, target, max(1, round(settings.loop_seconds * fps)))

    async def _film(self, shot: Shot) -> None:
        """Make the camera play this shot, unless another is wanted by then."""
        fps, studio = shot.target.fps, self._studio
        reel = await studio.reel(shot) if self._settings.looped else ()
        if shot != self.shot or self._closed:
            return
        before = self._camera
        if reel:
            self._camera = LoopedCamera(reel, fps, self._send)
        else:
            self._camera = LiveCamera(shot, self._send, studio.pool, studio.loop, self._settings.name)
        if self._picture is not None:
            self._picture.sender.rebase()
        if before is not None:
            await before.aclose()

    def _send(self, frame: CodedFrame, timestamp: int) -> None:
        picture = self._picture
        if picture is None or self._closed or not picture.terms.direction.sends:
            return
        if not picture.send_frame(frame, timestamp, time.monotonic()):
            self.restart()
            return
        self.frames_sent += 1
        self.key_frames_sent += frame.keyframe
        if self._settings.hashing:
            self.hashes.append(digest(frame.data))

    # --- the clock ----------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Every 20 ms."""
        self._tick_sound(now)
        if self._camera is not None:
            self._camera.tick(now)

    def _tick_sound(self, now: float) -> None:
        """20 ms of tone for each 20 ms that have passed; after a stall a gap in the timestamps."""
        sound = self._sound
        if sound is None or not self._tape:
            return
        if self._began is None:
            self._began = now
        index = int((now - self._began) / PERIOD + 1e-6)
        for one in range(max(self._sound_index, index - _MOST_CATCH_UP + 1), index + 1):
            sound.send_sound(self._tape[one % len(self._tape)], one, now)
        self._sound_index = max(self._sound_index, index + 1)

    def stop(self) -> None:
        """Nothing is sent any more."""
        self._closed = True

    async def aclose(self) -> None:
        self.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._camera is not None:
            await self._camera.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._studio.loop.create_task(work, name=f"terminal {self._settings.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def unlimited(settings: TerminalSettings) -> int:
    """What the wire may carry when the peer says nothing: the picture with its headers, sound, repeats."""
    return settings.bitrate * 5 // 4 + 200_000


def _limits(codec: CodecDescription) -> LevelLimits | None:
    if codec.name != "H264":
        return None
    try:
        return H264Format.parse(
            ";".join(f"{name}={value}" for name, value in codec.parameters.items())
        ).limits
    except MalformedFormat:
        return None


def _cif(settings: TerminalSettings, codec: CodecDescription) -> tuple[int, int, int]:
    """CIF if the peer takes it, else its largest size below."""
    sizes = cif_limits(codec).sizes
    size = next((size for size in sizes if size.width <= _CIF_WIDTH), sizes[-1])
    return size.width, size.height, max(1, min(settings.fps, int(size.frame_rate)))


def _fitting(settings: TerminalSettings, limits: LevelLimits | None) -> tuple[int, int, int]:
    """Width, height and rate that the peer's level carries (ITU-T H.264 A.3.1), ours if it does."""
    sizes = [(settings.width, settings.height)]
    sizes += [size for size in _SMALLER if size[0] * size[1] < settings.width * settings.height]
    for width, height in sizes:
        for fps in (settings.fps, 15):
            if limits is None or (fps <= settings.fps and limits.carry(width, height, fps)):
                return width, height, fps
    return (*sizes[-1], min(5, settings.fps))
