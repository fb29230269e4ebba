"""The minutes of a meeting, put together from its rows: who, when, how well, what was ordered and kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from foundation.clock import Clock
from foundation.database import Database, Transaction
from foundation.desk_client import DeskFailed
from foundation.desks import ConferenceReport, Refusal
from foundation.repositories.audit import AuditRepository
from foundation.repositories.broadcasts import BroadcastKind, BroadcastRepository
from foundation.repositories.conferences import Conference, ConferenceRepository, Participant
from foundation.repositories.recordings import RecordingKind, RecordingRepository
from foundation.repositories.roll_calls import RollCallRecord, RollCallRepository
from foundation.repositories.sites import SiteRepository
from signaling.call_quality import QUALITY, CallQuality, quality_in
from signaling.meetings import Meetings, UnknownMeeting

MOST_COMMANDS = 2000
AFTERWARDS = timedelta(minutes=10)
"""An order's row may be written a moment after what it ended."""


@dataclass(frozen=True, slots=True)
class Stay:
    """One participant from its joining to its leaving; never in: `joined_at` None and why in `reason`."""

    name: str
    site: str
    address: str
    called_at: datetime
    joined_at: datetime | None
    left_at: datetime | None
    reason: str
    quality: CallQuality | None

    def seconds(self, now: datetime) -> int:
        if self.joined_at is None:
            return 0
        return max(0, round(((self.left_at or now) - self.joined_at).total_seconds()))


@dataclass(frozen=True, slots=True)
class GivenCommand:
    """What somebody ordered; `about` is a participant's name, or "" for the meeting; `detail` as audited."""

    at: datetime
    actor: str
    action: str
    about: str
    detail: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording or broadcast of the meeting: from, to (None: it goes on), whereby."""

    kind: str
    started_at: datetime
    ended_at: datetime | None
    detail: str


@dataclass(frozen=True, slots=True)
class Minutes:
    conference: Conference
    host: str
    written_at: datetime
    stays: tuple[Stay, ...]
    commands: tuple[GivenCommand, ...]
    roll_calls: tuple[RollCallRecord, ...]
    kept: tuple[Kept, ...]


class MinutesBook:
    """Of meetings that are over and of running ones, whose worker is asked how calls are just now."""

    def __init__(self, database: Database, clock: Clock, meetings: Meetings) -> None:
        self._database = database
        self._clock = clock
        self._meetings = meetings

    async def of(self, conference_id: str) -> Minutes | None:
        """None for a conference that there is not."""
        report = await self._report(conference_id)
        async with self._database.reading() as tx:
            conference = await ConferenceRepository(tx).get(conference_id)
            if conference is None:
                return None
            sites = {site.id: site.name for site in await SiteRepository(tx).all()}
            people = await ConferenceRepository(tx).participants(conference_id)
            stays = [await _stay(tx, row, sites, report) for row in people]
            return Minutes(
                conference=conference,
                host=sites.get(conference.host_site_id, conference.host_site_id),
                written_at=self._clock.now(),
                stays=tuple(stays),
                commands=await _commands(tx, conference, {row.id: row.name for row in people}),
                roll_calls=tuple(reversed(await RollCallRepository(tx).of(conference_id))),
                kept=await self._kept(tx, conference),
            )

    async def _report(self, conference_id: str) -> ConferenceReport | None:
        try:
            return await self._meetings.report(conference_id)
        except (UnknownMeeting, Refusal, DeskFailed):
            return None

    async def _kept(self, tx: Transaction, conference: Conference) -> tuple[Kept, ...]:
        since, until = conference.created_at, conference.ended_at or self._clock.now()
        files = await RecordingRepository(tx).of_subject(
            RecordingKind.CONFERENCE, conference.id, since, until + AFTERWARDS
        )
        found = []
        if files:
            ended = files[-1].ended_at
            size = sum(one.bytes for one in files)
            found.append(Kept("recording", files[0].started_at, ended, f"{len(files)}: {size / 1e6:.1f} MB"))
        for one in await BroadcastRepository(tx).of_subject(BroadcastKind.CONFERENCE, conference.id):
            detail = f"/live/{one.name} · {one.title} · {one.started_by}"
            found.append(Kept("broadcast", one.started_at, one.stopped_at, detail))
        return tuple(found)


async def _stay(
    tx: Transaction, row: Participant, sites: dict[str, str], report: ConferenceReport | None
) -> Stay:
    reason, quality = "", None
    for line in await ConferenceRepository(tx).log_of(row.id):
        if line.event == "reason":
            reason = str(line.detail.get("reason", ""))
        elif line.event == QUALITY:
            quality = _quality(line.detail)
    if quality is None and report is not None and row.left_at is None:
        quality = quality_in(report, row.id)
    return Stay(
        name=row.name,
        site="" if row.site_id is None else sites.get(row.site_id, row.site_id),
        address=row.address,
        called_at=row.created_at,
        joined_at=row.joined_at,
        left_at=row.left_at,
        reason=reason,
        quality=quality,
    )


def _quality(detail: dict[str, Any]) -> CallQuality | None:
    try:
        return msgspec.convert(detail, CallQuality)
    except msgspec.ValidationError:
        return None  # of another version


async def _commands(
    tx: Transaction, conference: Conference, names: dict[str, str]
) -> tuple[GivenCommand, ...]:
    """What was audited of the meeting and of those in it."""
    until = None if conference.ended_at is None else conference.ended_at + AFTERWARDS
    subjects = [f"conference:{conference.id}", *(f"participant:{key}" for key in names)]
    rows = await AuditRepository(tx).search(
        since=conference.created_at - AFTERWARDS, until=until, subjects=subjects[:1000], limit=MOST_COMMANDS
    )
    return tuple(
        GivenCommand(
            row.at, row.actor, row.action, *_about(row.subject, json.loads(row.detail), names), row.outcome
        )
        for row in reversed(rows)
    )


def _about(subject: str, detail: dict[str, Any], names: dict[str, str]) -> tuple[str, str]:
    """Whom a command was about, by name, and the rest of its detail in words."""
    kind, _, key = subject.partition(":")
    about = names.get(key, key) if kind == "participant" else ""
    words = []
    for field, value in detail.items():
        shown = names.get(value, value) if isinstance(value, str) else value
        if field in ("participant", "participant_id") and not about:
            about = str(shown)
        else:
            words.append(f"{field}={shown}")
    return about, ", ".join(words)
