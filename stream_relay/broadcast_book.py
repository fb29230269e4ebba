"""The broadcasts as main knows them: rows, told to the edge as a plan; and how the edge says they do.

    book = BroadcastBook(database, clock, desk, publish)
    await book.edge_ready()                 the edge has come up (again): it gets the plan
    await book.changed()                    rows were changed: it gets the plan
    await book.conference_ended(id)         broadcasts of that meeting are over
    scope.supervise("broadcasts", book.run) asks the edge every POLL_SECONDS how it does
    book.statuses                           broadcast name -> BroadcastStatus

An edge that cannot be reached, or fails, is no error here: it is given the plan when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from foundation.clock import Clock
from foundation.database import Database
from foundation.desk_client import DeskFailed
from foundation.desks import BroadcastDesk, BroadcastPlan, BroadcastSpec, BroadcastStatus, Refusal
from foundation.events import BroadcastChanged, Event
from foundation.repositories.broadcasts import Broadcast, BroadcastKind, BroadcastRepository

POLL_SECONDS = 2.0
STOPPED = "stopped"

_log = structlog.get_logger("broadcast_book")


class BroadcastBook:
    """`publish` puts an event on the bus. Without an edge (`desk` None) rows are kept and nothing is told."""

    def __init__(
        self, database: Database, clock: Clock, desk: BroadcastDesk | None, publish: Callable[[Event], None]
    ) -> None:
        self.statuses: dict[str, BroadcastStatus] = {}
        self._database = database
        self._clock = clock
        self._desk = desk
        self._publish = publish
        self._telling = asyncio.Lock()
        self._states: dict[str, tuple[str, str]] = {}
        self._behind = False

    async def edge_ready(self) -> None:
        await self._tell()

    async def changed(self) -> None:
        """After a change of rows."""
        await self._tell()

    async def conference_ended(self, conference_id: str) -> None:
        """What was broadcast of the meeting is over; no error when nothing was."""
        await self._end_ended(conference_id)

    async def _end_ended(self, conference_id: str | None = None) -> None:
        """Stop the broadcasts of this meeting; without one, of all that have ended while nobody looked."""
        ended = []
        async with self._database.transaction() as tx:
            rows = BroadcastRepository(tx)
            for one in await rows.running():
                if one.kind is not BroadcastKind.CONFERENCE:
                    continue
                if conference_id is None:
                    meeting = await rows.subject(one.kind, one.subject)
                    over = meeting is None or not meeting.running
                else:
                    over = one.subject == conference_id
                if over:
                    await rows.stop(one.id, self._clock.now())
                    ended.append(one)
        for one in ended:
            self._publish(BroadcastChanged(one.id, one.site_id, STOPPED))
        if ended:
            await self._tell()

    async def run(self) -> None:
        """Until cancelled."""
        await self._end_ended()
        while True:
            if self._behind:
                await self._tell()
            await self._poll()
            await asyncio.sleep(POLL_SECONDS)

    async def _tell(self) -> None:
        """The plan of now; one at a time, so that an older one never comes last."""
        if self._desk is None:
            return
        async with self._telling:
            self._behind = True  # until it has been told, whatever comes between
            running = await self._running()
            specs = tuple(_spec(one) for one in running)
            try:
                await self._desk.set_plan(BroadcastPlan(specs))
                self._behind = False
            except (Refusal, DeskFailed) as error:
                _log.info("edge not told", why=str(error))
        names = {one.name for one in running}
        for name in self.statuses.keys() - names:
            del self.statuses[name]

    async def _poll(self) -> None:
        if self._desk is None:
            return
        try:
            found = {one.name: one for one in await self._desk.report()}
        except (Refusal, DeskFailed):
            found = {}
        self.statuses.clear()
        self.statuses.update(found)
        await self._announce(found)

    async def _announce(self, found: Mapping[str, BroadcastStatus]) -> None:
        """States that are not what they were, for pages that show them."""
        now = {name: (one.state, one.push_state) for name, one in found.items()}
        moved = {name for name, state in now.items() if self._states.get(name) != state}
        self._states = now
        if not moved:
            return
        for row in await self._running():
            if row.name in moved:
                self._publish(BroadcastChanged(row.id, row.site_id, now[row.name][0]))

    async def _running(self) -> tuple[Broadcast, ...]:
        async with self._database.reading() as tx:
            return await BroadcastRepository(tx).running()


def _spec(row: Broadcast) -> BroadcastSpec:
    return BroadcastSpec(row.name, row.title, row.stream_id, row.delay_seconds, row.push_url)
