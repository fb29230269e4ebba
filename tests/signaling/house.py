"""Meeting control with all that lies about it: a real database, a small tree, desks that remember."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import (
    Budget,
    CodecDescription,
    ConferenceDesk,
    Dialled,
    MediaDescription,
    MediaSection,
    SectionKind,
)
from foundation.event_bus import InProcessBus
from foundation.repositories.conferences import ConferenceRepository, ConferenceState, Participant
from foundation.repositories.sites import Link
from foundation.site_tree import SiteTree
from signaling.admission import Admission
from signaling.control.orders import Command, Order
from signaling.control.state import ControlState
from signaling.media_workers import MediaWorkers
from signaling.meeting import Access, Caller, CallRecord, Meeting, Member
from signaling.meeting_rows import MeetingRows
from signaling.meetings import Meetings
from tests.signaling.recording_desk import RecordingDesk, RecordingLine

MBIT = 1_000_000
FULL = Budget(3 * MBIT, 3 * MBIT)
HALF = Budget(1_500_000, 1_500_000)
PCMA = (CodecDescription("PCMA", 8, 8_000),)


def description(port: int, bandwidth: int | None = None) -> MediaDescription:
    return MediaDescription(
        (MediaSection(SectionKind.AUDIO, "192.0.2.1", port, codecs=PCMA),), bandwidth_bps=bandwidth
    )


OFFER, OURS, ANSWER = description(5004), description(40_000), description(6004)


class House:
    """Meeting control with all that lies about it."""

    def __init__(
        self, database: Database, clock: FakeClock, desk: type[RecordingDesk] = RecordingDesk
    ) -> None:
        self.database = database
        self.bus = InProcessBus()
        self.desks = {name: desk(name, OURS) for name in ("media-0", "media-1")}
        self.workers = MediaWorkers(cast(Mapping[str, ConferenceDesk], self.desks))
        self.admission = Admission(
            SiteTree({"nation": None, "guangxi": "nation", "nanning": "guangxi"}),
            (Link("gx-nn", "guangxi", "nanning", 4 * MBIT),),
            {"nation": 3 * MBIT, "guangxi": 3 * MBIT, "nanning": 3 * MBIT},
            MBIT,
        )
        self.rows = MeetingRows(database, clock)
        self.meetings = Meetings(
            rows=self.rows,
            bus=self.bus,
            workers=self.workers,
            admission=self.admission,
            site_budget=lambda site: MBIT if site is None else 3 * MBIT,
        )
        self.meeting: Meeting

    @property
    def desk(self) -> RecordingDesk:
        """The desk of the meeting's worker."""
        worker = self.workers.worker_of(self.meeting.conference_id)
        assert worker is not None
        return self.desks[worker]

    async def join(
        self,
        name: str,
        site: str | None = "nanning",
        *,
        line: RecordingLine | None = None,
        offer: MediaDescription = OFFER,
        access: Access = Access.DIALLED_IN,
    ) -> Member:
        caller = Caller(name, site, "lan", f"sip:{name}@192.0.2.1")
        member, answer = await self.meetings.join(
            self.meeting.conference_id, caller, offer, access, line or RecordingLine()
        )
        assert answer == OURS
        return member

    async def dial(self, name: str = "called", site: str = "guangxi") -> Member:
        """It rings there."""
        caller = Caller(name, site, "lan", f"sip:{name}@192.0.2.9")
        member, offer = await self.meetings.dial(self.meeting.conference_id, caller, Dialled.PLAIN)
        assert offer == OURS
        return member

    async def give(self, command: Command, whom: str | None = None, **values: Any) -> ControlState:
        """An operator's order."""
        order = Order(command, "operator", participant_id=whom, **values)
        return await self.meetings.control.give(self.meeting.conference_id, order)

    async def set_muted(self, participant_id: str, muted: bool) -> None:
        conference_id = self.meetings.member(participant_id).conference_id
        order = Order(Command.MUTE if muted else Command.UNMUTE, "operator", participant_id)
        await self.meetings.control.give(conference_id, order)

    async def row(self, participant_id: str) -> Participant:
        async with self.database.reading() as tx:
            row = await ConferenceRepository(tx).participant(participant_id)
        assert row is not None
        return row

    async def record(self, participant_id: str) -> CallRecord:
        row = await self.row(participant_id)
        assert row.description is not None
        return CallRecord.from_json(row.description)

    async def people(self) -> list[Participant]:
        async with self.database.reading() as tx:
            return list(await ConferenceRepository(tx).participants(self.meeting.conference_id))

    async def state(self) -> ConferenceState:
        async with self.database.reading() as tx:
            row = await ConferenceRepository(tx).get(self.meeting.conference_id)
        assert row is not None
        return row.state

    async def reason(self, participant_id: str) -> object:
        async with self.database.reading() as tx:
            log = await ConferenceRepository(tx).log_of(participant_id)
        return log[-1].detail.get("reason")

    def nothing_held(self) -> None:
        """Nobody is in the meeting, in the ledger or on a worker."""
        assert not self.meeting.members
        assert not self.meetings._roster.members
        assert self.admission.carried_bps("gx-nn") == 0
        assert not self.admission._held
        assert not any(desk.participants for desk in self.desks.values())


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """Somebody else writes."""
    assert database.path is not None
    with contextlib.closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
