"""A test terminal's slides: a second stream with a camera, a pacer and a screen of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from foundation.desks import MediaDescription
from mcu_bridge.negotiation import coding
from mcu_bridge.rtp_leg import LegTerms
from media.codecs import VideoCodec
from media.pacer import PacedFlow, Pacer
from media.rtp_socket import RtpSocket
from orchestrator.demo.terminal.legs import ScreenLeg
from orchestrator.demo.terminal.player import Player, unlimited
from orchestrator.demo.terminal.senses import Screen
from orchestrator.demo.terminal.settings import TerminalSettings
from orchestrator.demo.terminal.studio import Studio


class SecondPicture:
    """Received always, sent while it `presents`. `ask_keyframe` asks the peer for one."""

    def __init__(
        self,
        settings: TerminalSettings,
        studio: Studio,
        screen: Screen | None,
        ask_keyframe: Callable[[], None],
    ) -> None:
        own = replace(settings, colour=settings.slides or settings.colour, numbered=False, hashing=False)
        self.presents = False
        self._studio = studio
        self._screen = screen or Screen(f"{settings.name} slides")
        self._ask_keyframe = ask_keyframe
        self._pacer: Pacer[PacedFlow] = Pacer(unlimited(own))
        self._leg: ScreenLeg | None = None
        self.player = Player(own, studio, self._pacer)
        self._screen.begin()

    def leg(self, terms: LegTerms, socket: RtpSocket) -> ScreenLeg:
        """The leg of a session just agreed."""
        leg = self._leg = ScreenLeg(
            terms, socket, self._studio.pacing, self._pacer, self._screen, self.player.restart
        )
        self._screen.open(VideoCodec(coding(leg.codec)), self._studio.pool, self._ask_keyframe)
        if self.presents:
            self.player.use_picture(leg)
        return leg

    def start(self) -> None:
        """Send from now on."""
        self.presents = True
        self.player.use_picture(self._leg)

    def stop(self) -> None:
        self.presents = False
        self.player.use_picture(None)

    def follow(self, theirs: MediaDescription, now: float) -> None:
        if self.presents:
            self.player.follow(theirs, now)

    def close_leg(self) -> None:
        self._leg = None
        self.player.use_picture(None)
        self._screen.close()

    async def aclose(self) -> None:
        self._studio.pacing.forget(self._pacer)
        self._screen.close()
        await self.player.aclose()
