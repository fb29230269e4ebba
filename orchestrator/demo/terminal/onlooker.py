"""What can be asked of a test terminal about what it perceives."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from orchestrator.demo.terminal.footage import CENTRE, TOLERANCE, WHOLE, Region, Rgb
from orchestrator.demo.terminal.senses import Ear, NotPerceived, Screen, Spectrum, Tone, Watching
from orchestrator.demo.terminal.settings import TerminalSettings, rgb
from orchestrator.demo.terminal.studio import Studio

_LOOK_AGAIN = 1.0


class Onlooker(ABC):
    """Somebody in front of a screen, with an ear."""

    def __init__(self, settings: TerminalSettings) -> None:
        self.settings = settings
        self.screen = Screen(settings.name, settings.watching, settings.hashing)
        self.second_screen = Screen(f"{settings.name} slides", settings.watching)

    def listen(self, studio: Studio) -> None:
        """The ear needs the studio's threads."""
        self.ear = Ear(studio)

    @abstractmethod
    def request_keyframe(self) -> None:
        """Ask whoever is seen for a key frame."""

    async def sees(
        self,
        colour: Rgb | str,
        region: Region = CENTRE,
        timeout: float = 10.0,
        *,
        tolerance: int = TOLERANCE,
        present: bool = True,
    ) -> None:
        """Wait until the region and each quarter of it has the colour (or no longer has).

        Raises NotPerceived with the colour that is there.
        """
        await self._sees(self.screen, colour, region, timeout, tolerance, present)

    async def sees_slides(self, colour: Rgb | str, timeout: float = 10.0, *, region: Region = WHOLE) -> None:
        """The same of the second picture, in one that comes from now on: an ended share leaves its last."""
        await self._sees(self.second_screen, colour, region, timeout, TOLERANCE, True, anew=True)

    async def _sees(
        self,
        screen: Screen,
        colour: Rgb | str,
        region: Region,
        timeout: float,
        tolerance: int,
        present: bool,
        anew: bool = False,
    ) -> None:
        meant = rgb(colour)
        before = screen.frames_decoded if anew else 0
        name = self.settings.name if screen is self.screen else f"{self.settings.name}'s second screen"

        def explain() -> str:
            return (
                f"{name} to see {'' if present else 'no '}{colour} in {region}; it sees "
                f"{screen.colour_at(region)} after {screen.frames_decoded} of {screen.frames_received} frames"
            )

        def seen() -> bool:
            if screen.latest is None or screen.frames_decoded <= before:
                return False
            return screen.shows(meant, region, tolerance) is present

        await self._look(screen, seen, timeout, explain)

    async def _look(
        self, screen: Screen, seen: Callable[[], bool], timeout: float, explain: Callable[[], str]
    ) -> None:
        """Who watches key frames only asks for one a second while it looks."""
        if self.settings.watching is not Watching.KEY_FRAMES:
            return await screen.bell.until(seen, timeout, explain)
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            self.request_keyframe()
            with contextlib.suppress(NotPerceived):
                return await screen.bell.until(seen, min(_LOOK_AGAIN, left), explain)
        raise NotPerceived(f"waited {timeout} s: {explain()}")

    async def sees_frames(self, count: int = 1, timeout: float = 10.0) -> None:
        """Wait for so many more decoded pictures."""
        screen, wanted = self.screen, self.screen.frames_decoded + count
        await self._look(
            screen,
            lambda: screen.frames_decoded >= wanted,
            timeout,
            lambda: (
                f"{self.settings.name} to see {count} frames, {wanted - screen.frames_decoded} are missing"
            ),
        )

    async def hears(self, hertz: float, timeout: float = 10.0, *, present: bool = True) -> Spectrum:
        """Wait until the last second holds the tone (or no longer does). Raises NotPerceived."""
        return await self.ear.hears(hertz, timeout, present=present)

    async def tones(self) -> tuple[Tone, ...]:
        """The tones of the last second, the loudest first."""
        return await self.ear.tones()

    def colour_at(self, x: float, y: float, width: float, height: float) -> Rgb | None:
        """The mean colour of a part of the picture now; None before the first picture."""
        return self.screen.colour_at(Region(x, y, width, height))

    def number_in(self, region: Region = WHOLE) -> int | None:
        """The frame number that a terminal with `numbered` burnt into the picture that fills the region."""
        return self.screen.number_in(region)
