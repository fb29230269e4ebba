"""The media side of all meetings of a worker: fulfils `ConferenceDesk`.

async with Bridge(settings, access, emit, streams) as bridge:
    answer = await bridge.admit(participant, offer)
    await bridge.admit_stream(participant, "camera:340...")
    async with bridge.streams.open("programme:7") as stream: ...      see `MeetingStreams`
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType

import structlog

from foundation.desks import (
    Budget,
    ConferenceReport,
    ConferenceSpec,
    Dialled,
    HeldConference,
    MediaDescription,
    ParticipantSpec,
    Refusal,
    RefusalKind,
    Staging,
    View,
    WorkerVitals,
)
from foundation.events import Event
from foundation.tasks import TaskScope
from mcu_bridge.access import MediaAccess
from mcu_bridge.announcements import AnnouncementShelf, UnusableAnnouncement
from mcu_bridge.captions import CaptionPainter
from mcu_bridge.conference import Conference
from mcu_bridge.layouts import NAMES
from mcu_bridge.load import WorkerLoad
from mcu_bridge.meeting_streams import MeetingStreams
from mcu_bridge.participant import Participant
from mcu_bridge.picture_plan import Canvas
from mcu_bridge.sound_clock import SoundClock
from media.codec_worker import CodecPool
from media.codecs import CLOCK
from media.pacer import PacingClock
from media.stream_source import StreamSource

log = structlog.get_logger(__name__)

TICK = 0.020
_PICTURE_EVERY = 2
_SAMPLE_EVERY = 5
_ATTEND_EVERY = 25
MOST_WITHOUT_SELF = 3
"""Each site that does not see itself has a screen and an encoder of its own."""
ROOM_FOR_MOSAICS = 0.7
"""Share of the limit from which on nobody gets one more."""
CODEC_NICENESS = 0
"""Raised, others take the core from a thread that holds the interpreter, and sound waits for it."""


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """`cpu_limit` is a share of all cores, `canvas` what composed pictures are like."""

    codec_threads: int
    cpu_limit: float = 0.85
    canvas: Canvas = field(default_factory=Canvas)
    captions: CaptionPainter | None = None
    processor_time: Callable[[], float] = time.process_time
    """Seconds of processors that this worker used."""
    announcements: AnnouncementShelf = field(default_factory=AnnouncementShelf)


class Bridge:
    """See the module's head. Enter it inside a running event loop."""

    def __init__(
        self,
        settings: BridgeSettings,
        access: MediaAccess,
        emit: Callable[[Event], None],
        streams: StreamSource | None = None,
    ) -> None:
        """`streams` opens what participants that are streams are made of; without it there can be none."""
        self._settings = settings
        self._sources = streams
        self._access = access
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._pool = CodecPool(settings.codec_threads, "codec", CODEC_NICENESS)
        self._sound_clock = SoundClock()
        self._pacing = PacingClock()
        self._scope = TaskScope("bridge")
        self._conferences: dict[str, Conference] = {}
        self._places: dict[str, Conference] = {}
        self._load = WorkerLoad(os.cpu_count() or 1, settings.cpu_limit)
        self.late_ticks = 0
        self.failed_turns = 0
        self._index = 0
        self._epoch = time.monotonic()
        self.streams = MeetingStreams(self._conferences.get, self._places.get)

    async def __aenter__(self) -> Bridge:
        self._epoch = time.monotonic()
        await self._scope.__aenter__()
        self._sound_clock.start()
        self._scope.supervise("ticker", self._tick)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.clear()
        await self._scope.__aexit__(None, None, None)
        self._pacing.close()
        await self._loop.run_in_executor(None, self._sound_clock.close)
        await self._pool.aclose()

    async def clear(self) -> bool:
        """End every meeting, because whoever had them opened is gone; whether there were any."""
        known = tuple(self._conferences)
        await asyncio.gather(*(self.close(conference_id) for conference_id in known))
        return bool(known)

    # --- the desk ---------------------------------------------------------------------------------

    async def holdings(self) -> tuple[HeldConference, ...]:
        return tuple(
            HeldConference(conference_id, (*conference.participants, *conference.streamed))
            for conference_id, conference in self._conferences.items()
        )

    async def open(self, spec: ConferenceSpec) -> None:
        conference = self._conferences.get(spec.conference_id)
        if conference is not None:
            conference.set_spec(spec)
            return
        self._conferences[spec.conference_id] = Conference(
            spec,
            access=self._access,
            pool=self._pool,
            sound_clock=self._sound_clock,
            pacing=self._pacing,
            captions=self._settings.captions,
            canvas=self._settings.canvas,
            emit=self._emit,
            loop=self._loop,
            load=self._load,
            epoch=self._epoch,
        )

    async def close(self, conference_id: str) -> None:
        conference = self._conferences.pop(conference_id, None)
        if conference is not None:
            for participant_id in (*conference.participants, *conference.streamed):
                self._places.pop(participant_id, None)
            await conference.aclose()

    async def admit(
        self, participant: ParticipantSpec, offer: MediaDescription, resume: MediaDescription | None = None
    ) -> MediaDescription:
        conference, made = self._place(participant, known=resume is not None)
        try:
            answer = made.admit(offer, resume)
        except BaseException:
            await self.drop(participant.participant_id)
            raise
        return conference.answer(made, answer)

    async def admit_stream(self, participant: ParticipantSpec, stream_id: str, known: bool = False) -> None:
        if self._sources is None:
            raise Refusal(
                RefusalKind.NO_CAPACITY, f"this worker was set up without streams: {stream_id} cannot join"
            )
        if stream_id.partition("/")[0] == f"programme:{participant.conference_id}":
            raise Refusal(RefusalKind.BAD_DESCRIPTION, "a meeting cannot be shown to itself")
        conference = self._room(participant, known=known)
        conference.stream_participant(participant, stream_id, self._sources)

    async def offer(self, participant: ParticipantSpec, dialled: Dialled) -> MediaDescription:
        if dialled is Dialled.WEBRTC:
            raise Refusal(RefusalKind.BAD_DESCRIPTION, "a browser makes the offer itself")
        _conference, made = self._place(participant)
        try:
            return made.offer(secured=dialled is Dialled.SECURED)
        except BaseException:
            await self.drop(participant.participant_id)
            raise

    async def answered(self, participant_id: str, answer: MediaDescription) -> MediaDescription:
        conference, known = self._find(participant_id)
        return conference.answer(known, known.answered(answer))

    async def resume_dialled(
        self, participant: ParticipantSpec, ours: MediaDescription, theirs: MediaDescription
    ) -> None:
        conference, made = self._place(participant, known=True)
        try:
            made.resume_dialled(ours, theirs)
        except BaseException:
            await self.drop(participant.participant_id)
            raise
        conference.described(made)

    async def renegotiate(self, participant_id: str, offer: MediaDescription) -> MediaDescription:
        conference, known = self._find(participant_id)
        try:
            return known.renegotiate(offer)
        finally:
            conference.described(known)  # refused midway too: legs that were made anew are connected

    async def set_budget(self, participant_id: str, budget: Budget) -> None:
        self._place_of(participant_id).set_budget(participant_id, budget)

    async def set_view(self, conference_id: str, view: View) -> None:
        _check_layouts(view)
        conference = self._conference(conference_id)
        conference.set_spec(replace(conference.spec, view=view))

    async def set_staging(self, conference_id: str, view: View, staging: Staging) -> None:
        _check_layouts(view, *staging.views.values())
        conference = self._conference(conference_id)
        spec = conference.spec
        asking = staging.without_self - spec.staging.without_self
        if asking and len(staging.without_self) > MOST_WITHOUT_SELF:
            raise Refusal(
                RefusalKind.NO_CAPACITY,
                f"a meeting can have {MOST_WITHOUT_SELF} mosaics of sites that do not see themselves",
            )
        if asking and self._load.share > ROOM_FOR_MOSAICS * self._settings.cpu_limit:
            raise Refusal(RefusalKind.NO_CAPACITY, f"no room for another mosaic: {self._load}", 15)
        conference.set_spec(replace(spec, view=view, staging=staging))

    async def set_muted(self, participant_id: str, muted: bool) -> None:
        self._place_of(participant_id).set_muted(participant_id, muted)

    async def announcements(self) -> tuple[str, ...]:
        return await asyncio.to_thread(self._settings.announcements.names)

    async def announce(self, conference_id: str, sound: str, participant_id: str | None) -> None:
        conference = self._conference(conference_id)
        if participant_id is not None and participant_id not in conference.participants:
            raise Refusal(RefusalKind.UNKNOWN_PARTICIPANT, f"participant {participant_id} hears nothing here")
        try:
            samples = await asyncio.to_thread(self._settings.announcements.load, sound)
        except UnusableAnnouncement as error:
            raise Refusal(RefusalKind.UNKNOWN_ANNOUNCEMENT, str(error)) from error
        conference.sound.announce(samples, participant_id)

    async def stop_announcing(self, conference_id: str) -> None:
        self._conference(conference_id).sound.stop_announcing()

    async def refresh_picture(self, participant_id: str) -> None:
        known = self._place_of(participant_id).participants.get(participant_id)
        for picture in () if known is None else known.pictures:
            picture.refresh()

    async def drop(self, participant_id: str) -> None:
        conference = self._places.pop(participant_id, None)
        if conference is not None:
            conference.drop(participant_id)

    async def report(self, conference_id: str) -> ConferenceReport:
        return self._conference(conference_id).report()

    async def vitals(self) -> WorkerVitals:
        return WorkerVitals(
            pid=os.getpid(),
            tasks=len(asyncio.all_tasks()),
            threads=threading.active_count(),
            codec_lanes=self._pool.lanes,
            participants=len(self._places),
            cpu_share=round(self._load.share, 3),
            late_sound_ticks=self._sound_clock.counts.late,
            late_turns=self.late_ticks,
        )

    # --- helpers ----------------------------------------------------------------------------------

    def _conference(self, conference_id: str) -> Conference:
        try:
            return self._conferences[conference_id]
        except KeyError:
            raise Refusal(
                RefusalKind.UNKNOWN_CONFERENCE, f"this worker has no conference {conference_id}"
            ) from None

    def _room(self, spec: ParticipantSpec, *, known: bool = False) -> Conference:
        """Room for a participant; one who is `known` from a lost worker is no newcomer to be refused."""
        conference = self._conference(spec.conference_id)
        if self._load.full and not known and spec.participant_id not in self._places:
            raise Refusal(RefusalKind.NO_CAPACITY, str(self._load), retry_after=15)
        self._places[spec.participant_id] = conference
        return conference

    def _place(self, spec: ParticipantSpec, *, known: bool = False) -> tuple[Conference, Participant]:
        conference = self._room(spec, known=known)
        return conference, conference.participant(spec)

    def _place_of(self, participant_id: str) -> Conference:
        conference = self._places.get(participant_id)
        if conference is None:
            raise Refusal(RefusalKind.UNKNOWN_PARTICIPANT, f"this worker has no participant {participant_id}")
        return conference

    def _find(self, participant_id: str) -> tuple[Conference, Participant]:
        """A participant that negotiates."""
        conference = self._place_of(participant_id)
        streamed = conference.streamed.get(participant_id)
        if streamed is not None:
            raise Refusal(
                RefusalKind.BAD_DESCRIPTION,
                f"participant {participant_id} is {streamed.stream_id}: a stream negotiates nothing",
            )
        return conference, conference.participants[participant_id]

    # --- time -------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """One clock for all: RTCP each tick, pictures 25 times a second, the rest more rarely.

        Picture time counts from `_epoch`, also after a fault: what was missed is skipped.
        """
        while True:
            self._index += 1
            delay = self._epoch + self._index * TICK - time.monotonic()
            if delay < -0.5:
                missed = int(-delay / TICK)
                self.late_ticks += missed
                self._index += missed
            await asyncio.sleep(max(delay, 0.0))  # even a late tick lets others have the loop
            self._turn(self._index)

    def _turn(self, index: int) -> None:
        now, wall_clock = time.monotonic(), time.time()
        if index % _ATTEND_EVERY == 0:
            self._load.sample(self._settings.processor_time(), now)
        for conference in tuple(self._conferences.values()):
            try:
                self._serve(conference, index, now, wall_clock)
            except Exception as error:  # a fault in one meeting must not stop the clock of the others
                self.failed_turns += 1
                if self.failed_turns.bit_count() == 1:
                    log.error(
                        "turn_failed",
                        conference=conference.spec.conference_id,
                        failed=self.failed_turns,
                        exc_info=error,
                    )

    def _serve(self, conference: Conference, index: int, now: float, wall_clock: float) -> None:
        conference.poll(now, wall_clock)
        if index % _PICTURE_EVERY == 0:
            conference.picture.tick(round(index * TICK * CLOCK))
        if index % _SAMPLE_EVERY == 0:
            conference.sample(now)
        if index % _ATTEND_EVERY == 0:
            conference.attend(now)


def _check_layouts(*views: View) -> None:
    """Raises Refusal for a layout that there is not."""
    for view in views:
        if view.layout not in NAMES:
            raise Refusal(
                RefusalKind.BAD_DESCRIPTION,
                f"no layout is called {view.layout!r}; there are {', '.join(NAMES)}",
            )
