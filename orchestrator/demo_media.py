"""The media of one call of a test terminal: descriptions, legs, camera and tone, and what the wire carried.

media = TerminalMedia(settings, studio, screen, ear)
ours = media.offer(); media.answered(theirs)          # when we call, or offer again
ours = media.answer(theirs)                           # when we are called, or offered again
media.tick(now, wall_clock)                           # every 20 ms, by the studio
await media.aclose()
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from foundation.desks import (
    CodecDescription,
    Direction,
    MediaDescription,
    MediaSection,
    Refusal,
    RefusalKind,
    SectionKind,
)
from mcu_bridge.inlets import LegInlet
from mcu_bridge.negotiation import (
    OFFERED_AUDIO,
    OFFERED_VIDEO,
    AgreedCodecs,
    agree,
    packetization_mode,
    profile_level_id,
    settle,
)
from mcu_bridge.rates import PAYLOAD, NetworkLimit, picture_bps, picture_wire_bps, sound_wire_bps
from mcu_bridge.rtp_leg import LegTerms, RtpLeg, packetizer_for
from mcu_bridge.sound_leg import SoundLeg
from media.codecs import VideoCodec, VideoTarget
from media.pacer import MIN_RATE, PacedFlow, Pacer, Precedence
from media.rtp_sender import BitrateLimit, KeyframeRequested, SenderEvent
from media.rtp_socket import RtpSocket
from media.sound_codecs import SoundCodec
from media.transport import MediaTransport, NobodyListening, TransportEvent
from orchestrator.demo_footage import Footage, Rgb
from orchestrator.demo_reels import Camera, CodedFrame, LiveCamera, LoopedCamera, Shot, digest
from orchestrator.demo_senses import HASHES_KEPT, Ear, Screen
from orchestrator.demo_settings import AUDIO, TerminalSettings, WireSecond, rgb
from orchestrator.demo_studio import PERIOD, Studio
from protocols.payloads import Frame
from protocols.payloads.h264_fmtp import H264Format, LevelLimits, MalformedFormat

_SAMPLE_TICKS = 5
_SAMPLES_A_SECOND = 10
_SECONDS_KEPT = 300
_STEP = 0.85
_LEAST_BITRATE = 32_000
_MOST_CATCH_UP = 5
_SMALLER = ((640, 360), (352, 288), (176, 144))
_FAST_UPDATE_SPACING = 1.0


class ScreenLeg(RtpLeg):
    """The picture: frames to the screen, the camera's to the peer."""

    def __init__(
        self, terms: LegTerms, media: TerminalMedia, transport: MediaTransport, screen: Screen
    ) -> None:
        super().__init__(terms, transport, media.studio.pacing, media.pacer)
        self.network = NetworkLimit()
        self._media = media
        self._screen = screen
        self._packetizer = packetizer_for(self.codec)
        self._ssrc: int | None = None

    def take_rtp(self, data: bytes, arrival: float) -> None:
        super().take_rtp(data, arrival)
        if self.receiver.ssrc is not None and self.receiver.ssrc != self._ssrc:
            self._ssrc = self.receiver.ssrc
            self._screen.change_source(self._ssrc)

    def take_frames(self, frames: Sequence[Frame], arrival: float) -> None:
        self._screen.take(frames, arrival)

    def take_feedback(self, event: SenderEvent, now: float) -> None:
        if isinstance(event, KeyframeRequested):
            self._media.restart_picture()
        elif isinstance(event, BitrateLimit):
            self.network.report(event, now)

    def send_frame(self, frame: CodedFrame, timestamp: int, now: float) -> bool:
        packets = self.sender.packets(self._packetizer.packetize(frame.data), timestamp, now)
        return self.send(packets, Precedence.PICTURE, keyframe=frame.keyframe)


class WireLog:
    """IP bytes both ways over sliding windows of a second, sampled ten times a second."""

    def __init__(self) -> None:
        self.seconds: deque[WireSecond] = deque(maxlen=_SECONDS_KEPT * _SAMPLES_A_SECOND)
        self.peak_sent = 0
        self.peak_received = 0
        self.sent = 0
        self.received = 0
        self._samples: deque[tuple[int, int]] = deque([(0, 0)], maxlen=_SAMPLES_A_SECOND + 1)

    def sample(self, transports: Sequence[MediaTransport], now: float) -> None:
        self.sent = sum(transport.counters.bytes_sent for transport in transports)
        self.received = sum(transport.counters.bytes_received for transport in transports)
        self._samples.append((self.sent, self.received))
        first = self._samples[0]
        second = WireSecond(now, self.sent - first[0], self.received - first[1])
        self.seconds.append(second)
        self.peak_sent = max(self.peak_sent, second.sent)
        self.peak_received = max(self.peak_received, second.received)


class TerminalMedia:
    """See the module's head."""

    def __init__(
        self,
        settings: TerminalSettings,
        studio: Studio,
        screen: Screen,
        ear: Ear,
        ask_fast_update: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.studio = studio
        self.pacer: Pacer[PacedFlow] = Pacer(_unlimited(settings))
        self.picture: ScreenLeg | None = None
        self.sound: SoundLeg | None = None
        self.wire = WireLog()
        self.frames_sent = 0
        self.key_frames_sent = 0
        self.hashes_sent: deque[str] = deque(maxlen=HASHES_KEPT)
        self.theirs: MediaDescription | None = None
        self.ours: MediaDescription | None = None
        self._screen = screen
        self._ear = ear
        self._ask_fast_update = ask_fast_update
        self._asked_at = 0.0
        self._colour: Rgb = rgb(settings.colour)
        self._tone = settings.tone_hz
        self._held: Direction | None = None
        self._cname = secrets.token_hex(8)
        self._sockets: dict[SectionKind, RtpSocket] = {}
        self._camera: Camera | None = None
        self._shot: Shot | None = None
        self._tape: tuple[bytes, ...] = ()
        self._began: float | None = None
        self._ticks = 0
        self._sound_index = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._deaf = False
        screen.begin()
        ear.begin()

    # --- descriptions -------------------------------------------------------------------------------

    def offer(self, held: Direction | None = None) -> MediaDescription:
        """Describe ourselves, or the running session anew; `held` bounds every direction. Raises Refusal."""
        self._held = held
        if self.ours is None:
            sections = tuple(self._first_section(kind) for kind in self._kinds())
        else:
            sections = tuple(
                replace(section, direction=self._wish(section.kind)) if section.port else section
                for section in self.ours.sections
            )
        self.ours = self._with_bandwidth(sections)
        return self.ours

    def _kinds(self) -> list[SectionKind]:
        kinds = ((SectionKind.AUDIO, self.settings.audio), (SectionKind.VIDEO, self.settings.video))
        return [kind for kind, codecs in kinds if codecs]

    def _first_section(self, kind: SectionKind) -> MediaSection:
        socket = self._socket(kind, rtcp_mux=False)
        codecs = [self._described(one) for one in _described_codecs(self.settings, kind)]
        return MediaSection(
            kind, self.settings.bind, socket.ports.rtp, codecs=tuple(codecs), direction=self._wish(kind)
        )

    def _described(self, codec: CodecDescription) -> CodecDescription:
        return codec if self.settings.feedback else replace(codec, feedback=())

    def _wish(self, kind: SectionKind) -> Direction:
        wish = self.settings.direction if kind is SectionKind.VIDEO else Direction.SENDRECV
        return wish if self._held is None else _both(wish, self._held)

    def _with_bandwidth(self, sections: tuple[MediaSection, ...]) -> MediaDescription:
        limit = self.settings.receive_bps
        if limit is None:
            return MediaDescription(sections)
        sound = next((SoundCodec(c.name) for s in sections for c in s.codecs if c.name in AUDIO), None)
        picture = picture_wire_bps(limit, sound_wire_bps(sound, 28))
        bounded = (replace(s, bandwidth_bps=picture) if s.kind is SectionKind.VIDEO else s for s in sections)
        return MediaDescription(tuple(bounded), limit)

    def answered(self, theirs: MediaDescription) -> None:
        """The peer's answer to `offer`. Raises Refusal."""
        assert self.ours is not None, "an answer follows an offer"
        sections = []
        for index, section in enumerate(self.ours.sections):
            answered = theirs.sections[index] if index < len(theirs.sections) else None
            agreed = None if answered is None or not section.port else settle(section, answered)
            if answered is None or agreed is None:
                self._close_leg(section.kind)
                sections.append(replace(section, port=0))
                continue
            direction = _both(answered.direction.reversed, self._wish(section.kind))
            self._connect(section.kind, agreed, answered, direction)
            sections.append(replace(section, codecs=agreed.answer, direction=direction))
        self._settled(sections, theirs)

    def answer(self, theirs: MediaDescription) -> MediaDescription:
        """Answer the peer's offer. Raises Refusal, and then the session stays as it was."""
        chosen: dict[SectionKind, tuple[int, AgreedCodecs]] = {}
        for index, section in enumerate(theirs.sections):
            agreed = agree(self._understood(section)) if section.port else None
            if agreed is not None and section.kind not in chosen and section.content != "slides":
                chosen[section.kind] = (index, agreed)
        if not chosen:
            raise Refusal(RefusalKind.NO_COMMON_CODEC, f"{self.settings.name} has no codec in common")
        for kind in tuple(self._sockets):
            if kind not in chosen:
                self._close_leg(kind)
        sections = []
        for index, section in enumerate(theirs.sections):
            if section.kind not in chosen or chosen[section.kind][0] != index:
                sections.append(replace(section, address=self.settings.bind, port=0, bandwidth_bps=None))
                continue
            socket = self._socket(section.kind, rtcp_mux=section.rtcp_mux)
            agreed = chosen[section.kind][1]
            direction = _both(section.direction.reversed, self._wish(section.kind))
            self._connect(section.kind, agreed, section, direction)
            sections.append(
                MediaSection(
                    section.kind,
                    self.settings.bind,
                    socket.ports.rtp,
                    protocol=section.protocol,
                    codecs=tuple(self._described(codec) for codec in agreed.answer),
                    direction=direction,
                    mid=section.mid,
                    content=section.content,
                    rtcp_mux=socket.ports.rtp == socket.ports.rtcp,
                )
            )
        self._settled(sections, theirs)
        assert self.ours is not None, "just settled"
        return self.ours

    def _understood(self, section: MediaSection) -> MediaSection:
        """The section less the codecs that this terminal does not have; no SRTP without DTLS or keys here."""
        if section.kind is SectionKind.OTHER or "SAVP" in section.protocol:
            return replace(section, codecs=())
        ours = {_key(codec) for codec in _described_codecs(self.settings, section.kind)}
        return replace(section, codecs=tuple(c for c in section.codecs if c.name == "RTX" or _key(c) in ours))

    def _settled(self, sections: list[MediaSection], theirs: MediaDescription) -> None:
        self.theirs = theirs
        self.ours = self._with_bandwidth(tuple(sections))
        if not self.legs:
            raise Refusal(RefusalKind.NO_COMMON_CODEC, f"{self.settings.name}: the peer took no medium")
        self._apply_limits(time.monotonic())

    # --- legs -----------------------------------------------------------------------------------------

    @property
    def legs(self) -> list[RtpLeg]:
        return [leg for leg in (self.sound, self.picture) if leg is not None]

    @property
    def transports(self) -> list[MediaTransport]:
        return list(self._sockets.values())

    def _socket(self, kind: SectionKind, *, rtcp_mux: bool) -> RtpSocket:
        if kind not in self._sockets:
            try:
                self._sockets[kind] = RtpSocket.open(
                    NobodyListening(),
                    bind=self.settings.bind,
                    ports=self.settings.rtp_ports,
                    rtcp_mux=rtcp_mux,
                )
            except OSError as error:
                raise Refusal(RefusalKind.NO_PORT, str(error)) from error
        return self._sockets[kind]

    def _connect(
        self, kind: SectionKind, agreed: AgreedCodecs, remote: MediaSection, direction: Direction
    ) -> None:
        socket = self._sockets[kind]
        rtcp = remote.rtcp_port or remote.port + (0 if remote.rtcp_mux else 1)
        socket.set_remote((remote.address, remote.port), (remote.address, rtcp))
        if not self.settings.feedback:
            agreed = replace(agreed, answer=tuple(map(self._described, agreed.answer)))
        running: RtpLeg | None = self.sound if kind is SectionKind.AUDIO else self.picture
        if running is not None and running.terms.agreed == agreed:
            running.terms = replace(running.terms, direction=direction)
            return
        terms = LegTerms(
            participant_id=self.settings.name,
            kind=kind,
            agreed=agreed,
            direction=direction,
            ssrc=secrets.randbits(32) or 1,
            cname=self._cname,
            rtx_ssrc=None if agreed.rtx is None else secrets.randbits(32) or 1,
            expected_ssrc=remote.ssrc,
        )
        leg: RtpLeg
        if kind is SectionKind.AUDIO:
            leg = self.sound = SoundLeg(terms, socket, self.studio.pacing, self.pacer, self._ear.take)
            self._ear.open(leg.sound_codec)
            self._spawn(self._load_tape(leg.sound_codec, self._tone))
        else:
            leg = self.picture = ScreenLeg(terms, self, socket, self._screen)
            self._screen.open(VideoCodec(leg.codec.name), self.studio.pool, self.ask_keyframe)
            self._shot = None
        socket.receiver = LegInlet(leg, _unheeded)
        socket.expect(leg.payload_types)

    def _close_leg(self, kind: SectionKind) -> None:
        if kind is SectionKind.AUDIO:
            self.sound = None
        elif self.picture is not None:
            self.picture = None
            self._screen.close()
        socket = self._sockets.pop(kind, None)
        if socket is not None:
            socket.close()

    # --- camera and tone ------------------------------------------------------------------------------

    async def show(self, colour: Rgb) -> None:
        """The camera shows another colour; returns when it does."""
        self._colour = colour
        await self._film()

    async def play(self, frequency: float | None) -> None:
        """Another tone, or silence."""
        self._tone = frequency
        if self.sound is not None:
            await self._load_tape(self.sound.sound_codec, frequency)

    async def _load_tape(self, codec: SoundCodec, frequency: float | None) -> None:
        tape = await self.studio.tape(codec, frequency)
        if self.sound is not None and self.sound.sound_codec is codec and frequency == self._tone:
            self._tape = tape

    def _apply_limits(self, now: float) -> None:
        """Follow what the peer's description and reports allow: the pacer at once, the camera soon."""
        picture, theirs = self.picture, self.theirs
        if theirs is None:
            return
        overhead = 28 if picture is None else picture.transport.overhead
        sound = sound_wire_bps(None if self.sound is None else self.sound.sound_codec, overhead)
        section = next((s for s in theirs.sections if s.kind is SectionKind.VIDEO and s.port), None)
        wires = [] if theirs.bandwidth_bps is None else [theirs.bandwidth_bps]
        if section is not None and section.bandwidth_bps is not None:
            wires.append(section.bandwidth_bps + sound)
        rates = [self.settings.bitrate, *(picture_bps(wire, sound, overhead) for wire in wires)]
        network = None if picture is None else picture.network.current(now)
        if network is not None:
            rates.append(network)
            wires.append(int(network * 1.1) + sound + 50_000)
        pace = max(MIN_RATE, min([_unlimited(self.settings), *wires]))
        if pace != self.pacer.rate:
            self.studio.pacing.set_rate(self.pacer, pace)
        if picture is not None:
            self._follow(picture, min(rates), now)

    def _follow(self, picture: ScreenLeg, rate: int, now: float) -> None:
        if self.settings.receive_bps is not None and self.sound is not None:
            sound = sound_wire_bps(self.sound.sound_codec, picture.transport.overhead)
            wish = picture_bps(self.settings.receive_bps, sound, picture.transport.overhead)
            picture.receiver.limit_bitrate(wish, now)
        shot = self._wanted_shot(picture, rate)
        if shot != self._shot:
            self._shot = shot
            self._spawn(self._film())

    def _wanted_shot(self, picture: ScreenLeg, rate: int) -> Shot:
        """What the peer can take of what we would show; rates go down in steps, so that reels are shared."""
        settings, codec = self.settings, picture.codec
        limits = _limits(codec)
        bitrate = float(settings.bitrate if limits is None else min(settings.bitrate, 1000 * limits.max_br))
        while bitrate > max(rate, _LEAST_BITRATE):
            bitrate *= _STEP
        width, height, fps = _fitting(settings, limits)
        footage = Footage(self._colour, width, height, settings.detail, settings.numbered)
        target = VideoTarget(
            VideoCodec(codec.name),
            width,
            height,
            fps,
            max(_LEAST_BITRATE, int(bitrate)),
            profile_level_id=profile_level_id(codec) if codec.name == "H264" else "42e01f",
            max_slice_bytes=PAYLOAD if codec.name == "H264" and packetization_mode(codec) == 0 else 0,
            vbv_frames=4.0,
        )
        return Shot(footage, target, max(1, round(settings.loop_seconds * fps)))

    async def _film(self) -> None:
        """Make the camera play the wanted shot."""
        shot = self._shot
        if shot is None:
            return
        if shot.footage.colour != self._colour:
            shot = self._shot = replace(shot, footage=replace(shot.footage, colour=self._colour))
        fps = shot.target.fps
        camera: Camera
        if self.settings.looped:
            reel = await self.studio.reel(shot)
            camera = LoopedCamera(reel, fps, self._send_frame)
        else:
            camera = LiveCamera(
                shot, self._send_frame, self.studio.pool, self.studio.loop, self.settings.name
            )
        if shot != self._shot:
            await camera.aclose()
            return
        before, self._camera = self._camera, camera
        if self.picture is not None:
            self.picture.sender.rebase()
        if before is not None:
            await before.aclose()

    def _send_frame(self, frame: CodedFrame, timestamp: int) -> None:
        picture = self.picture
        if picture is None or self._deaf or not picture.terms.direction.sends:
            return
        if not picture.send_frame(frame, timestamp, time.monotonic()):
            self.restart_picture()
            return
        self.frames_sent += 1
        self.key_frames_sent += frame.keyframe
        if self.settings.hashing:
            self.hashes_sent.append(digest(frame.data))

    def restart_picture(self) -> None:
        """The peer wants a key frame."""
        if self._camera is not None:
            self._camera.restart()

    def ask_keyframe(self) -> None:
        """We want one of the peer."""
        if self.picture is not None:
            self.picture.receiver.request_keyframe(time.monotonic())

    def insist_on_keyframe(self) -> None:
        if self.picture is not None:
            self.picture.receiver.request_keyframe(time.monotonic(), urgent=True)

    def sent_at(self, number: int) -> float | None:
        return None if self._camera is None else self._camera.sent_at(number)

    # --- the clock ------------------------------------------------------------------------------------

    def tick(self, now: float, wall_clock: float) -> None:
        if self._deaf:
            return
        self._tick_sound(now)
        if self._camera is not None and self.picture is not None:
            self._camera.tick(now)
        for leg in self.legs:
            leg.poll(now, wall_clock)
        picture = self.picture
        if picture is not None and picture.fast_update_wanted:
            picture.fast_update_wanted = False
            if now - self._asked_at >= _FAST_UPDATE_SPACING:
                self._asked_at = now
                self._ask_fast_update()
        self._ticks += 1
        if self._ticks % _SAMPLE_TICKS == 0:
            self.wire.sample(self.transports, now)
            self._apply_limits(now)

    def _tick_sound(self, now: float) -> None:
        """20 ms of tone for each 20 ms that have passed; after a stall a gap in the timestamps."""
        sound = self.sound
        if sound is None or not self._tape:
            return
        if self._began is None:
            self._began = now
        index = int((now - self._began) / PERIOD + 1e-6)
        first = max(self._sound_index, index - _MOST_CATCH_UP + 1)
        for one in range(first, index + 1):
            sound.send_sound(self._tape[one % len(self._tape)], one, now)
        self._sound_index = max(self._sound_index, index + 1)

    # --- the end --------------------------------------------------------------------------------------

    def fall_silent(self) -> None:
        """From now on send nothing and hear nothing; the ports stay open, as behind a dead cable."""
        self._deaf = True
        for socket in self._sockets.values():
            socket.receiver = NobodyListening()

    async def aclose(self) -> None:
        """Say goodbye (unless fallen silent) and free ports, camera and decoder."""
        now, wall_clock = time.monotonic(), time.time()
        if not self._deaf:
            for leg in self.legs:
                leg.say_goodbye(now, wall_clock)
        self._deaf = True
        self.wire.sample(self.transports, now)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.studio.pacing.forget(self.pacer)
        for socket in self._sockets.values():
            socket.close()
        self._screen.close()
        if self._camera is not None:
            await self._camera.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.studio.loop.create_task(work, name=f"terminal {self.settings.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _unheeded(event: TransportEvent) -> None:
    """Where the peer's media comes from is the socket's business."""


def _both(one: Direction, other: Direction) -> Direction:
    """What both allow."""
    sends, receives = one.sends and other.sends, one.receives and other.receives
    if sends:
        return Direction.SENDRECV if receives else Direction.SENDONLY
    return Direction.RECVONLY if receives else Direction.INACTIVE


def _key(codec: CodecDescription) -> tuple[str, int]:
    """Codecs with equal keys understand each other."""
    return codec.name, packetization_mode(codec) if codec.name == "H264" else 0


def _described_codecs(settings: TerminalSettings, kind: SectionKind) -> list[CodecDescription]:
    """The codecs of the settings in their order; telephone events beside sound."""
    if kind is SectionKind.AUDIO:
        by_name = {codec.name: codec for codec in OFFERED_AUDIO}
        return [*(by_name[name] for name in settings.audio), by_name["TELEPHONE-EVENT"]]
    by_key = {_key(codec): codec for codec in OFFERED_VIDEO}
    keys = {"H264/1": ("H264", 1), "H264/0": ("H264", 0), "VP8": ("VP8", 0)}
    return [by_key[keys[name]] for name in settings.video]


def _unlimited(settings: TerminalSettings) -> int:
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


def _fitting(settings: TerminalSettings, limits: LevelLimits | None) -> tuple[int, int, int]:
    """Width, height and rate that the peer's level carries (ITU-T H.264 A.3.1), ours if it does."""
    sizes = [(settings.width, settings.height)]
    sizes += [size for size in _SMALLER if size[0] * size[1] < settings.width * settings.height]
    for width, height in sizes:
        for fps in (settings.fps, 15):
            if limits is None or (fps <= settings.fps and limits.carry(width, height, fps)):
                return width, height, fps
    return (*sizes[-1], 5)
