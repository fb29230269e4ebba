"""A room without signalling: one colour and one tone out over loopback RTP, what it sees and hears in.

    async with RtpPeer(RED, 440.0, ports) as peer:
        peer.answered(await bridge.admit(spec, peer.offer()))
        await peer.sees(GREEN, Tile(1, 0, 2, 1)); await peer.hears(880.0)

Colours are YUV, so that nothing is converted. Pictures are small and encoded once, at set-up.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import Self

import numpy as np

from foundation.desks import (
    CodecDescription,
    CryptoKey,
    Direction,
    MediaDescription,
    MediaSection,
    SectionKind,
)
from mcu_bridge.aac_terms import AacTerms
from media.codecs import VideoCodec, VideoDecoder, VideoEncoder, VideoTarget
from media.packet import Packet
from media.picture import Picture
from media.receiver_reports import ReceiverFeedback
from media.rtp_receiver import ReceiverSettings, RtpReceiver
from media.rtp_sender import (
    BitrateLimit,
    KeyframeRequested,
    LimitSource,
    RtpSender,
    SenderEvent,
    SenderSettings,
)
from media.rtp_socket import PortRange, RtpSocket
from media.sound_codecs import FRAME, SoundCodec, sound_decoder, sound_encoder
from media.srtp import PROFILES, MasterKey, SrtpSender, SrtpSession
from media.transport import Address, TransportEvent
from protocols.payloads import Depacketizer, Packetizer
from protocols.payloads.g711 import G711Depacketizer, G711Packetizer
from protocols.payloads.h261 import H261Depacketizer, H261Packetizer
from protocols.payloads.h263 import H263Depacketizer, H263Packetizer
from protocols.payloads.h263_plus import H263PlusDepacketizer, H263PlusPacketizer
from protocols.payloads.h264 import H264Packetizer
from protocols.payloads.h264_depacketizer import H264Depacketizer
from protocols.payloads.opus import OpusDepacketizer, OpusPacketizer
from protocols.payloads.vp8 import Vp8Depacketizer, Vp8Packetizer
from protocols.rtp.rtcp import parse_compound
from tests.mcu_bridge.second_picture import SecondPicture
from tests.peers.sound import Sound, hears
from tests.peers.waiting import until_true

Yuv = tuple[int, int, int]
RED: Yuv = (81, 90, 240)
GREEN: Yuv = (145, 54, 34)
BLUE: Yuv = (41, 240, 110)
YELLOW: Yuv = (210, 16, 146)
NEAR = 14

LOOP_FRAMES = 12
RATE = 12.5
SUITE = "AES_CM_128_HMAC_SHA1_80"
FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb")
H264 = CodecDescription(
    "H264", 97, 90_000, 1, {"profile-level-id": "42e01f", "packetization-mode": "1"}, FEEDBACK
)
H264_MODE_0 = replace(H264, parameters={"profile-level-id": "42e01f", "packetization-mode": "0"})
VP8 = CodecDescription("VP8", 100, 90_000, 1, {}, FEEDBACK)
PCMA = CodecDescription("PCMA", 8, 8_000)
H263 = CodecDescription("H263", 34, 90_000, 1, {"cif": "1", "qcif": "1"})
H263_PLUS = CodecDescription("H263-1998", 96, 90_000, 1, {"cif": "1", "qcif": "1"})
H261 = CodecDescription("H261", 31, 90_000, 1, {"cif": "1", "qcif": "1"})
G722 = CodecDescription("G722", 9, 8_000)
OPUS = CodecDescription("OPUS", 111, 48_000, 2)
AAC = CodecDescription(
    "MPEG4-GENERIC",
    102,
    48_000,
    2,
    {"profile-level-id": "15", "mode": "AAC-hbr", "config": "1190"}
    | {"sizelength": "13", "indexlength": "3", "indexdeltalength": "3"},
)
"""As Kedacom's and others' terminals write it: AAC-LC, stereo,"""
LATM = CodecDescription(
    "MP4A-LATM", 103, 90_000, 1, {"cpresent": "0", "config": "400028103fc0", "object": "2"}
)
"""and 16 kHz mono on LATM's old clock."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One cell of a mosaic of so many columns and rows."""

    column: int = 0
    row: int = 0
    columns: int = 1
    rows: int = 1


@cache
def footage(
    colour: Yuv, codec: str, bitrate: int, size: tuple[int, int], *, noisy: bool = True
) -> tuple[tuple[bytes, bool], ...]:
    """Coded frames of a loop that begins with a key frame; noise along its foot makes no two equal."""
    # With less room libx264's own words leave nothing for the first picture, and it is grey.
    encoder = VideoEncoder(
        VideoTarget(VideoCodec(codec), *size, 25, bitrate, vbv_frames=max(1, 16_000 * 25 / bitrate))
    )
    noise = np.random.default_rng(1)
    coded: list[tuple[bytes, bool]] = []
    for number in range(LOOP_FRAMES):
        picture = Picture.blank(*size, colour, number * 7200)
        strip = picture.y[size[1] * 7 // 8 :]
        if noisy:
            strip[...] = noise.integers(16, 235, strip.shape, np.uint8)
        coded += [(packet.data, packet.keyframe) for packet in encoder.encode(picture)]
    return tuple(coded)


def common(direction: Direction, slides: SecondPicture) -> Direction:
    """Slides are held with the rest."""
    return slides.direction if direction is Direction.SENDRECV else direction


class _Inlet:
    """What a socket of the peer hands on."""

    def __init__(self, peer: RtpPeer, kind: SectionKind) -> None:
        self._peer, self._kind = peer, kind

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        self._peer.take_rtp(self._kind, data, arrival)

    def rtcp_received(self, data: bytes, source: Address, arrival: float) -> None:
        self._peer.take_rtcp(self._kind, data, arrival)

    def transport_event(self, event: TransportEvent) -> None:
        pass


class RtpPeer:
    """See the module's head. One that is `viewing` offers to receive only, and sends RTCP at the most. One
    that is `obedient` sends a small and thin picture while it is asked for less than its own."""

    def __init__(
        self,
        colour: Yuv,
        hertz: float,
        ports: PortRange,
        *,
        video: CodecDescription | None = H264,
        audio: CodecDescription = PCMA,
        bitrate: int = 200_000,
        size: tuple[int, int] = (320, 180),
        secure: bool = False,
        viewing: bool = False,
        slides: SecondPicture | None = None,
        obedient: bool = False,
    ) -> None:
        self.video, self.audio = video, audio
        self.slides = slides
        self.hertz = hertz
        self.sending = True
        self.viewing = viewing
        self.sending_picture = True
        self.pictures = 0
        self.keyframes = 0
        self.keyframe_requests = 0
        self.remb: int | None = None
        self.tmmbr: int | None = None
        self.granted: list[int] = []
        """What it was asked to keep to, one wish after the other."""
        self.frames: deque[bytes] = deque(maxlen=200)
        self.latest: Picture | None = None
        self.received_bytes: deque[tuple[float, int]] = deque(maxlen=4000)
        self.theirs: MediaDescription | None = None
        self._heard: deque[np.ndarray] = deque(maxlen=30)  # 20 ms each
        self._footage = self._full = footage(colour, video.name, bitrate, size) if video is not None else ()
        self._thin: tuple[tuple[bytes, bool], ...] = ()
        if obedient and video is not None:
            self._thin = footage(colour, video.name, bitrate, (160, 96), noisy=False)
        self._bitrate = bitrate
        self._ports = ports
        self._sockets: dict[SectionKind, RtpSocket] = {}
        self._receivers: dict[SectionKind, RtpReceiver] = {}
        self._senders: dict[SectionKind, RtpSender] = {}
        self._frame = 0
        self._ticks = 0
        self._secure = secure
        self.keys: dict[SectionKind, MasterKey] = {}
        self._task: asyncio.Task[None] | None = None
        self._begin()

    # --- descriptions -------------------------------------------------------------------------------

    def _begin(self) -> None:
        aac = AacTerms.of(self.audio)
        self._sound_packetizer: Packetizer
        self._sound_units = 0
        if aac is not None:
            self._sound_decoder = sound_decoder(aac.heard)
            self._sound_encoder = sound_encoder(aac.coding)
            self._sound_packetizer = aac.packetizer(1200)
        else:
            self._sound_decoder = sound_decoder(SoundCodec(self.audio.name))
            self._sound_encoder = sound_encoder(SoundCodec(self.audio.name))
            self._sound_packetizer = OpusPacketizer() if self.audio.name == "OPUS" else G711Packetizer()
        if self.video is not None:
            self._decoder = VideoDecoder(VideoCodec(self.video.name))
            mode = int(self.video.parameters.get("packetization-mode", "0"))
            self._picture_packetizer: Packetizer
            match self.video.name:
                case "VP8":
                    self._picture_packetizer = Vp8Packetizer()
                case "H263":
                    self._picture_packetizer = H263Packetizer()
                case "H263-1998":
                    self._picture_packetizer = H263PlusPacketizer()
                case "H261":
                    self._picture_packetizer = H261Packetizer()
                case _:
                    self._picture_packetizer = H264Packetizer(mode, 1200)

    @property
    def kinds(self) -> list[SectionKind]:
        there = {
            SectionKind.AUDIO: True,
            SectionKind.VIDEO: self.video is not None,
            SectionKind.SLIDES: self.slides is not None,
        }
        return [kind for kind, is_there in there.items() if is_there]

    def codec(self, kind: SectionKind) -> CodecDescription:
        if kind is SectionKind.AUDIO:
            return self.audio
        if kind is SectionKind.SLIDES:
            assert self.slides is not None
            return self.slides.codec
        assert self.video is not None
        return self.video

    def open(self) -> None:
        for kind in self.kinds:
            if kind not in self._sockets:
                self._sockets[kind] = RtpSocket.open(_Inlet(self, kind), bind="127.0.0.1", ports=self._ports)
            self._renew(kind)

    def _renew(self, kind: SectionKind) -> None:
        codec = self.codec(kind)
        ssrc = random.getrandbits(32)
        depacketizer: Depacketizer
        match codec.name:
            case "H264":
                depacketizer = H264Depacketizer()
            case "VP8":
                depacketizer = Vp8Depacketizer()
            case "H263":
                depacketizer = H263Depacketizer()
            case "H263-1998":
                depacketizer = H263PlusDepacketizer()
            case "H261":
                depacketizer = H261Depacketizer()
            case "OPUS":
                depacketizer = OpusDepacketizer()
            case _:
                aac = AacTerms.of(codec)
                depacketizer = G711Depacketizer() if aac is None else aac.depacketizer()
        picture = kind is not SectionKind.AUDIO
        feedback = ReceiverFeedback(nack=picture, pli=picture)
        settings = ReceiverSettings(
            ssrc, "peer", codec.clock_rate, {codec.payload_type: depacketizer}, {}, feedback
        )
        self._receivers[kind] = RtpReceiver(settings)
        self._senders[kind] = RtpSender(
            SenderSettings(ssrc, "peer", codec.payload_type, codec.clock_rate, nack=picture)
        )

    def move(self) -> None:
        """Other ports from now on, as after a change of network."""
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()
        self.open()

    def change(self, *, video: CodecDescription | None = None, audio: CodecDescription | None = None) -> None:
        """Other codecs; to be offered."""
        self.video, self.audio = video or self.video, audio or self.audio
        self._begin()
        self.open()

    def new_key(self, kind: SectionKind) -> CryptoKey:
        profile = PROFILES[SUITE]
        self.keys[kind] = MasterKey.generate(profile)
        return CryptoKey(1, SUITE, self.keys[kind].inline())

    def offer(
        self,
        direction: Direction = Direction.SENDRECV,
        *,
        address: str = "127.0.0.1",
        bandwidth: int | None = None,
        rekey: bool = False,
    ) -> MediaDescription:
        """Our description as it is now."""
        sections = []
        if self.viewing and direction is Direction.SENDRECV:
            direction = Direction.RECVONLY
        for kind in self.kinds:
            section = MediaSection(
                kind, address, self._sockets[kind].ports.rtp, codecs=(self.codec(kind),), direction=direction
            )
            if kind is SectionKind.SLIDES and self.slides is not None:
                section = replace(section, content="slides", direction=common(direction, self.slides))
            if self._secure:
                known = self.keys.get(kind)
                key = CryptoKey(1, SUITE, known.inline()) if known and not rekey else self.new_key(kind)
                section = replace(section, protocol="RTP/SAVP", crypto=(key,))
            sections.append(section)
        return MediaDescription(tuple(sections), bandwidth)

    def roll_over(self, times: int) -> None:
        """As if 2**16 packets of each medium had been sent so many times meanwhile (RFC 3711 3.3.1)."""
        for socket in self._sockets.values():
            assert socket._srtp is not None
            sender = getattr(socket._srtp.protect, "__self__")  # noqa: B009  # a bound method's, for mypy
            assert isinstance(sender, SrtpSender)
            for ssrc in sender._highest:
                sender._highest[ssrc] += times << 16

    def answered(self, answer: MediaDescription) -> None:
        """Send where the answer says."""
        self.theirs = answer
        for section in answer.sections:
            if not section.port or section.kind not in self._sockets:
                continue
            socket = self._sockets[section.kind]
            socket.set_remote((section.address, section.port))
            if section.crypto:
                profile = PROFILES[SUITE]
                remote = MasterKey.parse_inline(profile, section.crypto[0].key)
                socket.secure(SrtpSession(profile, self.keys[section.kind], remote))

    # --- media --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.open()
        self._task = asyncio.create_task(self._run(), name="rtp peer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for socket in self._sockets.values():
            socket.close()

    async def _run(self) -> None:
        due = time.monotonic()
        while True:
            due += 0.020
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            self._ticks += 1
            now, wall_clock = time.monotonic(), time.time()
            if self.sending and self.theirs is not None and not self.viewing:
                self._play(now)
                if self.video is not None and self.sending_picture and self._ticks % 4 == 0:
                    self._show(now)
                if self.slides is not None and self.slides.sending and self._ticks % 4 == 2:
                    self._show_slides(self.slides, now)
            for kind in self.kinds:
                receiver, sender, socket = self._receivers[kind], self._senders[kind], self._sockets[kind]
                receiver.release(now)
                for datagram in (*sender.poll(now, wall_clock), *receiver.poll(now)):
                    if self.sending:
                        socket.send_rtcp(datagram)

    def _play(self, now: float) -> None:
        times = np.arange(self._ticks * FRAME, (self._ticks + 1) * FRAME) / 48_000
        samples = np.round(np.sin(2 * math.pi * self.hertz * times) * 8000).astype(np.int16)
        if not self.hertz:
            samples = np.zeros(FRAME, np.int16)
        coded = self._sound_encoder.encode(samples)
        ticks, aac = self._ticks * self.audio.clock_rate // 50, AacTerms.of(self.audio)
        if aac is not None:
            if not coded:
                return
            ticks, self._sound_units = round(self._sound_units * aac.unit_ticks), self._sound_units + 1
        payloads = self._sound_packetizer.packetize(coded)
        sender = self._senders[SectionKind.AUDIO]
        packets = sender.packets(payloads, ticks, now, marker=aac is not None)
        self._sockets[SectionKind.AUDIO].send_rtp(packets)

    def send_sound(self, packets: Sequence[bytes]) -> None:
        """RTP packets made elsewhere, on the way of its sound."""
        self._sockets[SectionKind.AUDIO].send_rtp(packets)

    def _show(self, now: float) -> None:
        data, _key = self._footage[self._frame]
        self._frame = (self._frame + 1) % len(self._footage)
        payloads = self._picture_packetizer.packetize(data)
        packets = self._senders[SectionKind.VIDEO].packets(payloads, round(now * 90_000), now)
        self._sockets[SectionKind.VIDEO].send_rtp(packets)

    def _show_slides(self, slides: SecondPicture, now: float) -> None:
        packets = self._senders[SectionKind.SLIDES].packets(slides.payloads(), round(now * 90_000), now)
        self._sockets[SectionKind.SLIDES].send_rtp(packets)

    @property
    def sent_frames(self) -> set[bytes]:
        return {data for data, _key in self._footage}

    def take_rtp(self, kind: SectionKind, data: bytes, arrival: float) -> None:
        self.received_bytes.append((arrival, len(data) + 28))
        for frame in self._receivers[kind].receive_rtp(data, arrival):
            if kind is SectionKind.SLIDES and self.slides is not None:
                self.slides.take(frame, arrival)
                continue
            if kind is SectionKind.AUDIO:
                samples = self._sound_decoder.decode(frame.data)
                if len(samples):
                    self._heard.append(samples)
                continue
            self.pictures += 1
            self.keyframes += frame.keyframe
            self.frames.append(frame.data)
            packet = Packet(frame.data, frame.timestamp, arrival, frame.keyframe, frame.damaged)
            for picture in self._decoder.decode(packet):
                self.latest = picture

    def take_rtcp(self, kind: SectionKind, data: bytes, arrival: float) -> None:
        packets = parse_compound(data)
        self._receivers[kind].receive_rtcp(packets, arrival)
        for event in self._senders[kind].receive_rtcp(packets, arrival):
            if kind is SectionKind.SLIDES and self.slides is not None:
                self._heed(self.slides, event)
            elif isinstance(event, KeyframeRequested):
                self.keyframe_requests += 1
                self._frame = 0
            elif isinstance(event, BitrateLimit) and event.source is not LimitSource.RR:
                self._keep_to(event)

    def _keep_to(self, limit: BitrateLimit) -> None:
        if limit.source is LimitSource.REMB:
            self.remb = limit.bps
        else:
            self.tmmbr = limit.bps
        if self.granted[-1:] != [limit.bps]:
            self.granted.append(limit.bps)
        wanted = self._thin if self._thin and limit.bps < self._bitrate else self._full
        if wanted is not self._footage:
            self._footage, self._frame = wanted, 0

    def _heed(self, slides: SecondPicture, event: SenderEvent) -> None:
        if isinstance(event, KeyframeRequested):
            slides.asked_for_key_frame()
        elif isinstance(event, BitrateLimit) and event.source is LimitSource.REMB:
            slides.remb = event.bps

    # --- what it perceives --------------------------------------------------------------------------

    def colour(self, tile: Tile = Tile()) -> Yuv | None:
        """The mean colour of the middle of a tile."""
        picture = self.latest
        if picture is None:
            return None
        means = []
        for plane in picture.planes:
            height, width = plane.shape[0] / tile.rows, plane.shape[1] / tile.columns
            top, left = int(height * tile.row), int(width * tile.column)
            part = plane[
                top + int(height * 0.3) : top + int(height * 0.6),
                left + int(width * 0.3) : left + int(width * 0.7),
            ]
            means.append(round(float(part.mean())))
        return means[0], means[1], means[2]

    def shows(self, colour: Yuv, tile: Tile = Tile()) -> bool:
        seen = self.colour(tile)
        return seen is not None and all(abs(a - b) <= NEAR for a, b in zip(seen, colour, strict=True))

    async def sees(self, colour: Yuv, tile: Tile = Tile(), timeout: float = 8.0) -> None:
        await until_true(
            lambda: self.shows(colour, tile),
            f"{colour} in {tile}",
            timeout,
            lambda: f"it sees {self.colour(tile)}",
        )

    async def hears(self, hertz: float, *, present: bool = True, timeout: float = 6.0) -> None:
        """Wait until the last 0.6 s have the tone, or no longer have it."""
        await until_true(
            lambda: self.sound.seconds > 0.55 and hears(self.sound, hertz) is present,
            f"{hertz} Hz{'' if present else ' to end'}",
            timeout,
            lambda: f"{len(self._heard)} frames heard",
        )

    @property
    def sound(self) -> Sound:
        samples = np.concatenate([np.zeros(0, np.int16), *self._heard])
        return Sound((samples / 32768).astype(np.float32), 48_000)

    async def more_pictures(self, count: int = 5, timeout: float = 6.0) -> None:
        wanted = self.pictures + count
        await until_true(lambda: self.pictures >= wanted, f"{count} more pictures", timeout)

    def rate(self, seconds: float = 1.0) -> float:
        """IP bits a second of what came lately."""
        since = time.monotonic() - seconds
        return 8 * sum(size for at, size in self.received_bytes if at >= since) / seconds
