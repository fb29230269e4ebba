"""Where callers of the general number wait: a meeting without rows on a media worker, which shows a text and
says it.

room = LobbyRoom(workers)
answer = await room.enter(visitor, offer)            # raises Refusal
await room.speak(visitor)                            # what the prompt says, again and again, until cancelled
await room.prompt(visitor, PIN_PROMPT)               # what the visitor sees and hears from now on
await room.leave(visitor)

Nobody sees or hears another there. Keys of telephone events (RFC 4733) are told to the visitor by `pressed`;
when its worker is lost it is given the same ports on another one, or told that its media are gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from foundation.desk_client import DeskFailed
from foundation.desks import (
    Budget,
    ConferenceDesk,
    ConferenceSpec,
    Dialled,
    MediaDescription,
    ParticipantSpec,
    Refusal,
    RefusalKind,
    Staging,
)
from foundation.schema import new_id
from signaling.media_workers import MediaWorkers
from signaling.roster import tolerant

log = structlog.get_logger(__name__)

LOBBY = "lobby:"
"""What the ids of these meetings begin with, and of no others."""
BUDGET = Budget(to_site_bps=256_000, from_site_bps=128_000)
"""A text that stands still and silence: no site's budget is asked for it."""
CHIME = "chime"
"""The announcement that every worker has."""
SAID_AGAIN = 8.0
"""Seconds after which a caller that pressed nothing is told again."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a caller is shown, and the announcement that says it; without a file of that name, the chime."""

    text: str
    sound: str


def _nobody(_what: str) -> None:
    return None


@dataclass(slots=True, eq=False)
class Visitor:
    """A caller who waits. `pressed` gets each key, `lost` why there are no media any more."""

    network: str
    prompt: Prompt
    sound_only: bool = False
    pressed: Callable[[str], None] = _nobody
    lost: Callable[[str], None] = _nobody
    visitor_id: str = field(default_factory=new_id)
    theirs: MediaDescription | None = None
    ours: MediaDescription | None = None
    worker: str = ""
    prompted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something else to say."""

    @property
    def conference_id(self) -> str:
        return f"{LOBBY}{self.worker}"

    @property
    def spec(self) -> ParticipantSpec:
        return ParticipantSpec(
            self.visitor_id, self.conference_id, "", self.network, BUDGET, sound_only=self.sound_only
        )


class LobbyRoom:
    """See the module's head. All calls belong to the event loop."""

    def __init__(self, workers: MediaWorkers) -> None:
        self._workers = workers
        self._visitors: dict[str, Visitor] = {}

    def __len__(self) -> int:
        return len(self._visitors)

    # --- visitors ---------------------------------------------------------------------------------

    async def enter(self, visitor: Visitor, offer: MediaDescription) -> MediaDescription:
        """Take a caller in, who sees `visitor.prompt`; the answer to its offer. Raises Refusal."""
        desk = await self._seated(visitor)
        try:
            answer = await desk.admit(visitor.spec, offer)
        except BaseException:
            self._visitors.pop(visitor.visitor_id, None)
            raise
        visitor.theirs, visitor.ours = offer, answer
        return answer

    async def offer(self, visitor: Visitor) -> MediaDescription:
        """Take a caller in who wants an offer of ours; `answered` follows. Raises Refusal."""
        desk = await self._seated(visitor)
        try:
            return await desk.offer(visitor.spec, Dialled.PLAIN)
        except BaseException:
            self._visitors.pop(visitor.visitor_id, None)
            raise

    async def answered(self, visitor: Visitor, answer: MediaDescription) -> None:
        """Its answer to our offer. Raises Refusal."""
        visitor.ours = await self._desk(visitor).answered(visitor.visitor_id, answer)
        visitor.theirs = answer

    async def renegotiate(self, visitor: Visitor, offer: MediaDescription) -> MediaDescription:
        """Answer a later offer. Raises Refusal."""
        answer = await self._desk(visitor).renegotiate(visitor.visitor_id, offer)
        visitor.theirs, visitor.ours = offer, answer
        return answer

    async def prompt(self, visitor: Visitor, prompt: Prompt) -> None:
        """Show, and say, something else."""
        visitor.prompt = prompt
        visitor.prompted.set()
        if visitor.visitor_id in self._visitors:
            try:
                await self._desk(visitor).open(self._spec(visitor.worker))
            except (Refusal, DeskFailed) as error:
                log.warning("prompt_not_shown", why=str(error))

    async def speak(self, visitor: Visitor) -> None:
        """Say what is shown: at once, after each change, and every SAID_AGAIN. Until it is cancelled."""
        while True:
            visitor.prompted.clear()
            await self._say(visitor)
            try:
                async with asyncio.timeout(SAID_AGAIN):
                    await visitor.prompted.wait()
            except TimeoutError:
                continue

    async def _say(self, visitor: Visitor) -> None:
        try:
            desk = self._desk(visitor)
            try:
                await desk.announce(visitor.conference_id, visitor.prompt.sound, visitor.visitor_id)
            except Refusal as refusal:
                if refusal.kind is RefusalKind.UNKNOWN_ANNOUNCEMENT:
                    await desk.announce(visitor.conference_id, CHIME, visitor.visitor_id)
        except (Refusal, DeskFailed) as error:
            log.info("prompt_not_said", why=str(error))  # the worker is lost, or the caller is about to leave

    async def leave(self, visitor: Visitor) -> None:
        """Let a caller go; the last one closes the room."""
        if self._visitors.pop(visitor.visitor_id, None) is None:
            return
        try:
            desk = self._desk(visitor)
        except Refusal:
            return
        if any(other.worker == visitor.worker for other in self._visitors.values()):
            await tolerant(desk.drop(visitor.visitor_id))
        else:
            await tolerant(desk.close(visitor.conference_id))

    async def _seated(self, visitor: Visitor) -> ConferenceDesk:
        """The desk of a ready worker, its room open and with the visitor's prompt."""
        ready = self._workers.ready
        if not ready:
            raise Refusal(RefusalKind.WORKER_LOST, "no media worker is ready", retry_after=2)
        visitor.worker = min(ready, key=lambda worker: (self._seats(worker), worker))
        self._visitors[visitor.visitor_id] = visitor
        try:
            desk = self._desk(visitor)
            await desk.open(self._spec(visitor.worker))
        except BaseException:
            self._visitors.pop(visitor.visitor_id, None)
            raise
        return desk

    def _seats(self, worker: str) -> int:
        return sum(visitor.worker == worker for visitor in self._visitors.values())

    def _desk(self, visitor: Visitor) -> ConferenceDesk:
        return self._workers.named(visitor.worker)

    def _spec(self, worker: str) -> ConferenceSpec:
        prompts = {
            visitor.visitor_id: visitor.prompt.text
            for visitor in self._visitors.values()
            if visitor.worker == worker
        }
        return ConferenceSpec(f"{LOBBY}{worker}", "", "", staging=Staging(prompts=prompts))

    # --- what workers tell ------------------------------------------------------------------------

    def pressed(self, participant_id: str, digit: str) -> None:
        visitor = self._visitors.get(participant_id)
        if visitor is not None:
            visitor.pressed(digit)

    async def worker_ready(self, worker: str, pid: int) -> None:
        """Rooms are opened by visitors: a new worker has none."""

    async def worker_lost(self, worker: str) -> None:
        """Its visitors go on at the same ports elsewhere."""
        for visitor in [one for one in self._visitors.values() if one.worker == worker]:
            await self._move(visitor)

    async def _move(self, visitor: Visitor) -> None:
        if visitor.theirs is None or visitor.ours is None:
            return  # its first answer is under way, and will fail by itself
        try:
            desk = await self._seated(visitor)
            await desk.admit(visitor.spec, visitor.theirs, resume=visitor.ours)
        except (Refusal, DeskFailed) as error:
            self._visitors.pop(visitor.visitor_id, None)
            visitor.lost(str(error))

    async def silent(self, participant_id: str) -> None:
        """Whoever waits may be silent; its patience for keys is bounded."""

    async def heard(self, participant_id: str) -> None:
        """Nobody listens."""

    async def media_failed(self, participant_id: str, reason: str) -> None:
        visitor = self._visitors.get(participant_id)
        if visitor is not None:
            visitor.lost(reason)

    async def ask_fast_update(self, participant_id: str) -> None:
        """Nobody's picture is shown here."""
