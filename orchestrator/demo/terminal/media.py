"""The media of one call of a test terminal: descriptions, legs, ports, and what the wire carried.

media = TerminalMedia(settings, studio, screen, ear, ask_fast_update)
ours = media.offer(); media.answered(theirs)          # when we call, or offer again
ours = media.answer(theirs)                           # when we are called, or offered again
media.tick(now, wall_clock)                           # every 20 ms, by the studio
await media.aclose()
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from foundation.desks import Direction, MediaDescription, MediaSection, Refusal, RefusalKind, SectionKind
from mcu_bridge.inlets import LegInlet
from mcu_bridge.negotiation import AgreedCodecs, agree, coding, settle
from mcu_bridge.rates import picture_bps, sound_wire_bps
from mcu_bridge.rtp_leg import LegTerms, RtpLeg
from mcu_bridge.sound_leg import SoundLeg
from media.codecs import VideoCodec
from media.pacer import PacedFlow, Pacer
from media.rtp_socket import RtpSocket
from media.sound_codecs import SoundCodec
from media.transport import MediaTransport, NobodyListening, TransportEvent
from orchestrator.demo.terminal.description import codecs_of, common, described, understood, with_bandwidth
from orchestrator.demo.terminal.floor import FloorClient
from orchestrator.demo.terminal.legs import ScreenLeg, WireLog
from orchestrator.demo.terminal.player import Player, unlimited
from orchestrator.demo.terminal.second_picture import SecondPicture
from orchestrator.demo.terminal.senses import Ear, Screen
from orchestrator.demo.terminal.settings import TerminalSettings
from orchestrator.demo.terminal.studio import Studio

_SAMPLE_TICKS = 5
_FAST_UPDATE_SPACING = 1.0


class TerminalMedia:
    """See the module's head. `ask_fast_update` is called when a key frame must be asked for by signalling."""

    def __init__(
        self,
        settings: TerminalSettings,
        studio: Studio,
        screen: Screen,
        ear: Ear,
        ask_fast_update: Callable[[], None],
        second_screen: Screen | None = None,
    ) -> None:
        self.picture: ScreenLeg | None = None
        self.slides: ScreenLeg | None = None
        self.sound: SoundLeg | None = None
        self.theirs: MediaDescription | None = None
        self.ours: MediaDescription | None = None
        self.wire = WireLog()
        self._settings = settings
        self._studio = studio
        self._screen = screen
        self._ear = ear
        self._ask_fast_update = ask_fast_update
        self._asked_at = 0.0
        self._pacer: Pacer[PacedFlow] = Pacer(unlimited(settings))
        self.player = Player(settings, studio, self._pacer)
        self.second = SecondPicture(settings, studio, second_screen, self.ask_slides)
        self.floor: FloorClient | None = None
        if settings.floor is not None:
            self.floor = FloorClient(settings.bind, settings.floor == "TCP", self.second.stop)
        self._held: Direction | None = None
        self._before: tuple[MediaDescription | None, Direction | None] = (None, None)
        self._cname = secrets.token_hex(8)
        self._sockets: dict[SectionKind, RtpSocket] = {}
        self._ticks = 0
        self._silent = False
        screen.begin()
        ear.begin()

    @property
    def legs(self) -> list[RtpLeg]:
        return [leg for leg in (self.sound, self.picture, self.slides) if leg is not None]

    @property
    def transports(self) -> list[MediaTransport]:
        return list(self._sockets.values())

    # --- descriptions -------------------------------------------------------------------------------

    def offer(self, held: Direction | None = None) -> MediaDescription:
        """Describe ourselves, or the running session anew; `held` bounds every direction. Raises Refusal."""
        self._before = (self.ours, self._held)
        self._held = held
        if self.ours is None:
            settings = self._settings
            kinds = [(SectionKind.AUDIO, settings.audio), (SectionKind.VIDEO, settings.video)]
            if settings.slides is not None:
                kinds.append((SectionKind.SLIDES, settings.video))
            floor = () if self.floor is None else (self.floor.section(),)
            sections = (*(self._first_section(kind) for kind, codecs in kinds if codecs), *floor)
        else:
            sections = tuple(
                replace(section, direction=self._wish(section.kind)) if section.port else section
                for section in self.ours.sections
            )
        self.ours = with_bandwidth(self._settings, sections)
        return self.ours

    def withdraw(self) -> None:
        """The peer refused the last offer: the session is what it was."""
        self.ours, self._held = self._before

    def _first_section(self, kind: SectionKind) -> MediaSection:
        socket = self._socket(kind, rtcp_mux=False)
        codecs = tuple(codecs_of(self._settings, kind))
        return MediaSection(
            kind, self._settings.bind, socket.ports.rtp, codecs=codecs, direction=self._wish(kind)
        )

    def _wish(self, kind: SectionKind) -> Direction:
        wish = self._settings.direction if kind is SectionKind.VIDEO else Direction.SENDRECV
        return wish if self._held is None else common(wish, self._held)

    def answered(self, theirs: MediaDescription) -> None:
        """The peer's answer to `offer`. Raises Refusal."""
        assert self.ours is not None, "an answer follows an offer"
        sections = []
        for index, section in enumerate(self.ours.sections):
            answered = theirs.sections[index] if index < len(theirs.sections) else None
            if section.kind is SectionKind.FLOOR and self.floor is not None:
                self.floor.learn(answered)
                sections.append(section)
                continue
            agreed = None if answered is None or not section.port else settle(section, answered)
            if answered is None or agreed is None:
                self._close_leg(section.kind)
                sections.append(replace(section, port=0))
                continue
            direction = common(answered.direction.reversed, self._wish(section.kind))
            self._connect(section.kind, agreed, answered, direction)
            sections.append(replace(section, codecs=agreed.answer, direction=direction))
        self._settled(sections, theirs)

    def answer(self, theirs: MediaDescription) -> MediaDescription:
        """Answer the peer's offer. Raises Refusal, and then the session stays as it was."""
        chosen: dict[SectionKind, tuple[int, AgreedCodecs]] = {}
        for index, section in enumerate(theirs.sections):
            agreed = agree(understood(self._settings, section)) if section.port else None
            wanted = section.kind is not SectionKind.SLIDES or self._settings.slides is not None
            if agreed is not None and section.kind not in chosen and wanted:
                chosen[section.kind] = (index, agreed)
        if not chosen:
            raise Refusal(RefusalKind.NO_COMMON_CODEC, f"{self._settings.name} has no codec in common")
        for kind in tuple(self._sockets):
            if kind not in chosen:
                self._close_leg(kind)
        sections = []
        for index, section in enumerate(theirs.sections):
            if section.kind in chosen and chosen[section.kind][0] == index:
                sections.append(self._answer_section(section, chosen[section.kind][1]))
            elif self.floor is not None and section.kind is SectionKind.FLOOR and self.floor.takes(section):
                self.floor.learn(section)
                sections.append(self.floor.section(section.mid))
            else:
                sections.append(replace(section, address=self._settings.bind, port=0, bandwidth_bps=None))
        return self._settled(sections, theirs)

    def _answer_section(self, section: MediaSection, agreed: AgreedCodecs) -> MediaSection:
        socket = self._socket(section.kind, rtcp_mux=section.rtcp_mux)
        direction = common(section.direction.reversed, self._wish(section.kind))
        self._connect(section.kind, agreed, section, direction)
        return MediaSection(
            section.kind,
            self._settings.bind,
            socket.ports.rtp,
            protocol=section.protocol,
            codecs=tuple(described(self._settings, codec) for codec in agreed.answer),
            direction=direction,
            mid=section.mid,
            content=section.content,
            rtcp_mux=socket.ports.rtp == socket.ports.rtcp,
        )

    def _settled(self, sections: list[MediaSection], theirs: MediaDescription) -> MediaDescription:
        self.theirs = theirs
        self.ours = with_bandwidth(self._settings, sections)
        if not self.legs:
            raise Refusal(RefusalKind.NO_COMMON_CODEC, f"{self._settings.name}: the peer took no medium")
        self._follow(time.monotonic())
        return self.ours

    # --- legs ---------------------------------------------------------------------------------------

    def _socket(self, kind: SectionKind, *, rtcp_mux: bool) -> RtpSocket:
        if kind not in self._sockets:
            settings = self._settings
            try:
                self._sockets[kind] = RtpSocket.open(
                    NobodyListening(), bind=settings.bind, ports=settings.rtp_ports, rtcp_mux=rtcp_mux
                )
            except OSError as error:
                raise Refusal(RefusalKind.NO_PORT, str(error)) from error
        return self._sockets[kind]

    def _connect(
        self, kind: SectionKind, agreed: AgreedCodecs, remote: MediaSection, direction: Direction
    ) -> None:
        """The leg of a medium: the running one if its codecs stay, else a new one."""
        socket = self._sockets[kind]
        rtcp = remote.rtcp_port or remote.port + (0 if remote.rtcp_mux else 1)
        socket.set_remote((remote.address, remote.port), (remote.address, rtcp))
        agreed = replace(agreed, answer=tuple(described(self._settings, codec) for codec in agreed.answer))
        running = self._leg(kind)
        if running is not None and running.terms.agreed == agreed:
            running.terms = replace(running.terms, direction=direction)
            self.player.restart()  # whoever was on hold begins with a key frame
            return
        terms = LegTerms(
            participant_id=self._settings.name,
            kind=kind,
            agreed=agreed,
            direction=direction,
            ssrc=secrets.randbits(32) or 1,
            cname=self._cname,
            rtx_ssrc=None if agreed.rtx is None else secrets.randbits(32) or 1,
            expected_ssrc=remote.ssrc,
        )
        leg: RtpLeg
        if kind is SectionKind.SLIDES:
            leg = self.slides = self.second.leg(terms, socket)
        elif kind is SectionKind.AUDIO:
            leg = self._sound_leg(terms, socket)
        else:
            leg = self._picture_leg(terms, socket)
        socket.receiver = LegInlet(leg, _unheeded)
        socket.expect(leg.payload_types)

    def _leg(self, kind: SectionKind) -> RtpLeg | None:
        if kind is SectionKind.SLIDES:
            return self.slides
        return self.sound if kind is SectionKind.AUDIO else self.picture

    def _sound_leg(self, terms: LegTerms, socket: RtpSocket) -> RtpLeg:
        leg = self.sound = SoundLeg(terms, socket, self._studio.pacing, self._pacer, self._ear.take)
        self._ear.open(SoundCodec(leg.codec.name))
        self.player.use_sound(leg)
        return leg

    def _picture_leg(self, terms: LegTerms, socket: RtpSocket) -> RtpLeg:
        leg = self.picture = ScreenLeg(
            terms, socket, self._studio.pacing, self._pacer, self._screen, self.player.restart
        )
        self._screen.open(VideoCodec(coding(leg.codec)), self._studio.pool, self.ask_keyframe)
        self.player.use_picture(leg)
        return leg

    def _close_leg(self, kind: SectionKind) -> None:
        if kind is SectionKind.AUDIO:
            self.sound = None
            self.player.use_sound(None)
        elif kind is SectionKind.SLIDES:
            self.slides = None
            self.second.close_leg()
        elif kind is SectionKind.VIDEO and self.picture is not None:
            self.picture = None
            self.player.use_picture(None)
            self._screen.close()
        socket = self._sockets.pop(kind, None)
        if socket is not None:
            self.wire.retire(socket)
            socket.close()

    def ask_keyframe(self, urgent: bool = False) -> None:
        """Ask the peer for a key frame; `urgent` also right after the last request."""
        if self.picture is not None:
            self.picture.receiver.request_keyframe(time.monotonic(), urgent)

    def ask_slides(self, urgent: bool = False) -> None:
        """Ask for a key frame of the second picture."""
        if self.slides is not None:
            self.slides.receiver.request_keyframe(time.monotonic(), urgent)

    # --- the clock ----------------------------------------------------------------------------------

    def tick(self, now: float, wall_clock: float) -> None:
        if self._silent:
            return
        self.player.tick(now)
        self.second.player.tick(now)
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
            self._follow(now)

    def _follow(self, now: float) -> None:
        """Keep to what the peer takes, and tell it what we take."""
        if self.theirs is not None:
            self.player.follow(self.theirs, now)
            self.second.follow(self.theirs, now)
        limit, picture = self._settings.receive_bps, self.picture
        if limit is not None and picture is not None:
            overhead = picture.transport.overhead
            sound = sound_wire_bps(None if self.sound is None else self.sound.sound_codec, overhead)
            picture.receiver.limit_bitrate(picture_bps(limit, sound, overhead), now)

    # --- the end ------------------------------------------------------------------------------------

    def fall_silent(self) -> None:
        """From now on send nothing and hear nothing; the ports stay open, as behind a dead cable."""
        self._silent = True
        self.player.stop()
        self.second.player.stop()
        for socket in self._sockets.values():
            socket.receiver = NobodyListening()

    async def aclose(self) -> None:
        """Say goodbye (unless fallen silent) and free ports, camera and decoder."""
        now, wall_clock = time.monotonic(), time.time()
        if not self._silent:
            for leg in self.legs:
                leg.say_goodbye(now, wall_clock)
        self._silent = True
        self.wire.sample(self.transports, now)
        self._studio.pacing.forget(self._pacer)
        for socket in self._sockets.values():
            socket.close()
        self._screen.close()
        if self.floor is not None:
            self.floor.close()
        await self.second.aclose()
        await self.player.aclose()


def _unheeded(event: TransportEvent) -> None:
    """Where the peer's media comes from is the socket's business."""
