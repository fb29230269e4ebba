"""A mixed meeting on a bad network, always under control: is everybody seen and heard, does anything grow?

    python -m benchmarks.meeting_soak [--minutes 60] [--seed 1]

A real node holds a meeting of rooms in H.264 in both modes, VP8, H.263 and H.261, G.711, G.722 and Opus, each
behind a relay that loses 3 % in bursts, wanders by 30 ms, doubles and reorders; a browser where Chromium is
installed; and one who comes, is seen and heard and leaves. Every few seconds something is ordered, and what
follows from it is looked for at the rooms: a source on the full screen, mutes, polls, layouts, re-INVITEs.
Lips are measured at the beginning and at the end. Passed when whatever was ordered showed, when everybody is
right at the end, when lips are within 80 ms, when no process grows by more than 0.2 MB a minute, and when
nothing is held once all have left. Freezes and what was lost are told. Prints JSON; exit 1 on failure.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.soak import publish, settle, told
from benchmarks.vigil import Vigil
from orchestrator.demo.terminal.room_terminal import DialRefused, RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings, rgb
from orchestrator.demo.terminal.studio import Studio
from signaling.sip_events import ReinviteRefused
from tests.peers.chromium import Chromium, Person
from tests.peers.lips import MOST_APART, Lips
from tests.peers.node import ADDRESSES, PASSWORD, MeetingHandle, Node, Refused
from tests.peers.picture import GREEN
from tests.peers.requirement import PROGRAMS
from tests.peers.rough_road import RoughRoad, Weather

ROUGH = Weather(loss=0.03, burst=1.5, delay=0.01, jitter=0.03, doubled=0.002, reordered=0.005)
PATIENCE = 15.0
"""Seconds in which what was ordered must show: lost key frames are asked for again."""
PAUSE = 2.0
PROGRAMME = "[data-testid=programme]"
FAR = {**ADDRESSES, "nation-2": ADDRESSES["nation"]}

MIXED = (
    TerminalSettings("nanning", colour="red", tone_hz=440, video=("H264/1",), audio=("PCMA",)),
    TerminalSettings("wuming", colour="blue", tone_hz=880, video=("H264/0",), audio=("OPUS",)),
    TerminalSettings(
        "mine", colour="yellow", tone_hz=1320, video=("H263",), audio=("G722",), bitrate=300_000
    ),
    TerminalSettings("nation", colour="magenta", tone_hz=1760, video=("VP8",), audio=("OPUS",)),
    TerminalSettings(
        "nation-2", colour="cyan", tone_hz=2200, video=("H261",), audio=("PCMU",), bitrate=300_000
    ),
)
VISITOR = TerminalSettings("gx", colour="green", tone_hz=620)


@dataclass
class Room:
    """A terminal behind its road, and its participant."""

    terminal: RoomTerminal
    road: RoughRoad
    participant: str

    @property
    def settings(self) -> TerminalSettings:
        return self.terminal.settings

    @property
    def tone(self) -> float:
        assert self.settings.tone_hz is not None
        return self.settings.tone_hz


@dataclass
class Happened:
    """How often each thing was done, and what did not follow from it."""

    done: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class MeetingSoak:
    """See the module's head. Entered by `play`; everybody has left when that returns."""

    def __init__(
        self,
        node: Node,
        meeting: MeetingHandle,
        studio: Studio,
        rooms: Sequence[TerminalSettings],
        weather: Weather = ROUGH,
        seed: int = 1,
    ) -> None:
        self.happened = Happened()
        self.quality: list[dict[str, object]] = []
        self.lips: list[float] = []
        self._node = node
        self._meeting = meeting
        self._studio = studio
        self._wanted = rooms
        self._weather = weather
        self._dice = random.Random(seed)
        self._rooms: list[Room] = []
        self._look_at_browser: Callable[[], Awaitable[None]] | None = None
        self._began = time.monotonic()

    async def play(self, seconds: float, browser: Path | None = None) -> None:
        """Let everybody in, give orders for so long, look at everybody, and let them leave."""
        async with AsyncExitStack() as stack:
            for settings in self._wanted:
                self._rooms.append(await self._enter(stack, settings))
            if browser is not None:
                await self._bring_browser(stack, browser)
            await self._try("lips", self._measure_lips)
            self._began = time.monotonic()
            while time.monotonic() - self._began < seconds:
                await self._try("all are there", self._all_are_there)
                act = self._dice.choice(self._acts)
                await self._try(act.__name__.strip("_"), act)
                await asyncio.sleep(PAUSE * self._dice.random())
            await self._try("everybody at the end", self._everybody)
            await self._try("lips", self._measure_lips)
            self.quality = [self._told(room) for room in self._rooms]
            for room in self._rooms:
                await room.terminal.hang_up()

    @property
    def _acts(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        return (self._show_one, self._mute_one, self._visit, self._reoffer, self._poll, self._lay_out)

    async def _try(self, what: str, act: Callable[[], Awaitable[None]]) -> None:
        self.happened.done[what] = self.happened.done.get(what, 0) + 1
        try:
            await act()
        except (TimeoutError, AssertionError, RuntimeError, DialRefused, ReinviteRefused, Refused) as error:
            at = time.monotonic() - self._began
            self.happened.problems.append(f"{what} at {at:.0f} s: {type(error).__name__}: {error}")

    # --- who is there -------------------------------------------------------------------------------

    async def _enter(self, stack: AsyncExitStack, settings: TerminalSettings) -> Room:
        road = await stack.enter_async_context(
            RoughRoad(
                self._node.sip_port,
                self._weather,
                address=FAR[settings.name],
                seed=self._dice.getrandbits(32),
            )
        )
        terminal = await stack.enter_async_context(RoomTerminal(settings, self._studio))
        await terminal.dial(road.uri(self._meeting.number))
        return Room(terminal, road, await self._meeting.joined(f"{settings.name}@", timeout=PATIENCE))

    async def _all_are_there(self) -> None:
        """Whose call has ended dials again, and is told as a problem."""
        out = [room for room in self._rooms if not room.terminal.in_call]
        why = []
        for room in out:
            row = await self._meeting.participant(f"{room.settings.name}@")
            why.append(
                f"{room.settings.name}: {None if row is None else row['reason']}, {room.terminal.ended}"
            )
            await room.terminal.dial(room.road.uri(self._meeting.number))
            room.participant = await self._meeting.joined(f"{room.settings.name}@", timeout=PATIENCE)
        assert not out, f"out of the meeting: {'; '.join(why)}"

    async def _bring_browser(self, stack: AsyncExitStack, folder: Path) -> None:
        browser = await stack.enter_async_context(Chromium(folder, Person(GREEN, 3000.0)))
        page = await browser.open(f"{self._node.url}/meetings/{self._meeting.id}/join")
        await page.get_by_test_id("signin-name").fill("viewer")
        await page.get_by_test_id("signin-password").fill(PASSWORD)
        await page.get_by_test_id("signin-password").press("Enter")
        await page.get_by_test_id("join-enter").click()

        async def sees_and_hears() -> None:
            shown = self._rooms[0]
            await self._order("full-screen", shown)
            await self._only(shown)
            await browser.sees(page, rgb(shown.settings.colour), PROGRAMME, timeout=PATIENCE)
            await browser.hears(page, shown.tone, PROGRAMME, timeout=PATIENCE)

        self._look_at_browser = sees_and_hears

    # --- what is done -------------------------------------------------------------------------------

    async def _order(self, command: str, room: Room | None = None, **values: Any) -> None:
        whom = {} if room is None else {"participant_id": room.participant}
        await self._meeting.api.post(f"{self._meeting.path}/commands", {"command": command, **whom, **values})

    async def _seen_by_others(self, shown: Room, patience: float = PATIENCE) -> None:
        others = [room.terminal for room in self._rooms if room is not shown]
        await asyncio.gather(*(one.sees(shown.settings.colour, timeout=patience) for one in others))

    async def _show_one(self) -> None:
        shown = self._dice.choice(self._rooms)
        await self._order("full-screen", shown)
        await self._seen_by_others(shown)

    async def _only(self, heard: Room) -> None:
        """Nobody else may be heard: four are mixed at the most."""
        await self._order("mute-all")
        await self._order("unmute", heard)

    async def _mute_one(self) -> None:
        muted = self._dice.choice(self._rooms)
        listener = self._dice.choice([room for room in self._rooms if room is not muted])
        await self._only(muted)
        await listener.terminal.hears(muted.tone, timeout=PATIENCE)
        await self._order("mute", muted)
        await listener.terminal.hears(muted.tone, timeout=PATIENCE, present=False)
        await self._order("unmute-all")

    async def _visit(self) -> None:
        host = self._dice.choice(self._rooms)
        async with AsyncExitStack() as stack:
            visitor = await self._enter(stack, VISITOR)
            await self._order("full-screen", host)
            await self._only(host)
            await visitor.terminal.sees(host.settings.colour, timeout=PATIENCE)
            await visitor.terminal.hears(host.tone, timeout=PATIENCE)
            await visitor.terminal.hang_up()
        await self._meeting.left(f"{VISITOR.name}@", timeout=PATIENCE)
        await self._order("unmute-all")

    async def _reoffer(self) -> None:
        room = self._dice.choice(self._rooms)
        await room.terminal.hold()
        await room.terminal.resume()
        await room.terminal.sees_frames(5, timeout=PATIENCE)
        shown = next(one for one in self._rooms if one is not room)
        await self._order("full-screen", shown)
        await room.terminal.sees(shown.settings.colour, timeout=PATIENCE)

    async def _poll(self) -> None:
        turns = self._dice.sample(self._rooms, 2)
        await self._order("poll", order=[room.participant for room in turns], interval=3.0)
        for room in turns:
            await self._seen_by_others(room)
        await self._order("stop")

    async def _lay_out(self) -> None:
        await self._order("mosaic", layout=self._dice.choice(("auto", "speaker", "2x2", "3x3", "1+5")))
        await asyncio.gather(*(room.terminal.sees_frames(10, timeout=PATIENCE) for room in self._rooms))
        room = self._dice.choice(self._rooms)
        room.terminal.request_keyframe()
        await room.terminal.sees_frames(5, timeout=PATIENCE)

    # --- the end ------------------------------------------------------------------------------------

    async def _everybody(self) -> None:
        """Each is seen by all others in its colour, and heard by all others with its tone, alone."""
        await self._all_are_there()
        for shown in self._rooms:
            await self._order("full-screen", shown)
            await self._only(shown)
            await self._seen_by_others(shown, 2 * PATIENCE)
            others = [room.terminal for room in self._rooms if room is not shown]
            await asyncio.gather(*(one.hears(shown.tone, timeout=2 * PATIENCE) for one in others))
        if self._look_at_browser is not None:
            await self._look_at_browser()
        await self._order("unmute-all")

    async def _measure_lips(self) -> None:
        """Two more come, one that claps and one that watches, through roads of their own."""
        async with AsyncExitStack() as stack:
            roads = [
                await stack.enter_async_context(
                    RoughRoad(self._node.sip_port, self._weather, address=ADDRESSES["gx"], seed=seed)
                )
                for seed in (1, 2)
            ]
            lips = await stack.enter_async_context(Lips())
            await lips.dial(*(road.uri(self._meeting.number) for road in roads))
            clapper = await self._meeting.joined("clapper@", timeout=PATIENCE)
            await self._order("mute-all")
            for command in ("unmute", "full-screen"):
                await self._meeting.command(command, clapper)
            apart = await lips.measured()
            self.lips.append(round(apart, 3))
            assert abs(apart) <= MOST_APART, f"sound and picture are {1000 * apart:.0f} ms apart"
            await self._order("mosaic")
            await self._order("unmute-all")

    def _told(self, room: Room) -> dict[str, object]:
        """What a terminal saw of the bad network in its call."""
        report, screen, counts = room.terminal.report(), room.terminal.screen, room.road.counts
        freezes = screen.freezes()
        return {
            "name": report.name,
            "picture": report.video_codec,
            "sound": report.audio_codec,
            "frames": report.frames_decoded,
            "damaged": report.frames_damaged,
            "freezes": len(freezes),
            "frozen_seconds": round(sum(freeze.seconds for freeze in freezes), 1),
            "longest_freeze": round(report.longest_freeze, 2),
            "lost_sound_seconds": round(room.terminal.ear.lost_seconds, 2),
            "longest_sound_gap": round(report.longest_sound_gap, 2),
            "key_frames_sent": report.key_frames_sent,
            "packets_lost_on_the_road": counts.lost,
            "packets_on_the_road": counts.carried,
        }


async def soak(minutes: float, seed: int, folder: Path) -> dict[str, object]:
    async with Node(folder / "node") as node, Studio() as studio:
        meeting = await node.meeting("soak")
        warm = MeetingSoak(node, meeting, studio, MIXED, seed=seed)
        here = PROGRAMS["chromium"].present()
        await warm.play(20.0, folder / "first-browser" if here else None)
        await settle(meeting)
        vigil, run = Vigil(node), MeetingSoak(node, meeting, studio, MIXED, seed=seed)
        before = await vigil.held()
        async with vigil:
            await run.play(minutes * 60, folder / "browser" if here else None)
        await settle(meeting)
        after = await vigil.held()
        problems = [*run.happened.problems, *vigil.problems(before, after, minutes * 20)]
        return {
            "minutes": minutes,
            "seed": seed,
            "done": run.happened.done,
            "lips_seconds": run.lips,
            "quality": run.quality,
            **told(vigil, before, after, minutes, problems),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.meeting_soak", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="anshi-soak-") as folder:
        result = asyncio.run(soak(options.minutes, options.seed, Path(folder)))
    return publish(result, Path("build/meeting_soak.json"))


if __name__ == "__main__":
    sys.exit(main())
