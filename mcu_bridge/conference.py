"""One meeting in a worker: its participants, its sound, its pictures."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from foundation.desks import (
    Budget,
    ConferenceReport,
    ConferenceSpec,
    EncoderReport,
    LegReport,
    MediaDescription,
    ParticipantSpec,
    SectionKind,
    Staging,
)
from foundation.events import (
    DigitPressed,
    Event,
    FastUpdateWanted,
    MediaFailed,
    ParticipantHeard,
    ParticipantSilent,
    PictureFlowWanted,
    SpeakersChanged,
)
from mcu_bridge.access import MediaAccess
from mcu_bridge.audio_mixer import Hearing
from mcu_bridge.captions import CaptionPainter
from mcu_bridge.load import WorkerLoad
from mcu_bridge.meeting_picture import MeetingPicture
from mcu_bridge.meeting_sound import MeetingSound, SoundBatch
from mcu_bridge.participant import LegListeners, Participant
from mcu_bridge.picture_leg import PictureLeg
from mcu_bridge.picture_plan import Canvas, slides_of
from mcu_bridge.programme import Programme
from mcu_bridge.rates import OPUS_BITRATE
from mcu_bridge.sound_clock import SoundClock
from mcu_bridge.stream_participant import StreamListeners, StreamParticipant, StreamPicture
from media.codec_worker import CodecPool
from media.pacer import PacingClock
from media.packet import Format
from media.sound_codecs import SoundCodec
from media.stream import Stream
from media.stream_source import StreamSource
from media.transport import TransportClosed, TransportEvent, TransportFailed

log = structlog.get_logger(__name__)

SILENT_AFTER = 10.0
"""Seconds without RTP, RTCP or consent after which the peer is probed."""


class Conference:
    """See the module's head. All calls belong to the event loop."""

    def __init__(
        self,
        spec: ConferenceSpec,
        *,
        access: MediaAccess,
        pool: CodecPool,
        sound_clock: SoundClock,
        pacing: PacingClock,
        captions: CaptionPainter | None,
        canvas: Canvas,
        emit: Callable[[Event], None],
        loop: asyncio.AbstractEventLoop,
        load: WorkerLoad,
        epoch: float,
    ) -> None:
        """`epoch` is the monotonic instant that pictures' time counts from."""
        self.spec = spec
        self.participants: dict[str, Participant] = {}
        self.streamed: dict[str, StreamParticipant] = {}
        self.sound = MeetingSound(loop, self._sound_ready, OPUS_BITRATE)
        self.picture = MeetingPicture(pool, captions, canvas, loop)
        self.picture.set_view(spec.view)
        self.picture.set_staging(spec.staging)
        self.picture.set_title(spec.title)
        self.programme = Programme(spec.conference_id, canvas.ladder[0], epoch, self._programme_changed)
        self.picture.connect_viewer(self.programme)
        self._access = access
        self._pacing = pacing
        self._emit = emit
        self._loop = loop
        self._clock = sound_clock
        self._load = load
        self._plan_due = True
        self._speakers: tuple[str, ...] = ()
        self._closing: set[asyncio.Task[None]] = set()
        sound_clock.add(self.sound.tick)

    # --- participants -----------------------------------------------------------------------------

    def participant(self, spec: ParticipantSpec) -> Participant:
        """A new, empty participant; one with the same id is replaced."""
        self.drop(spec.participant_id)
        listeners = LegListeners(
            self.sound.push, self._source_changed, self._transport_event, self._leg_changed
        )
        participant = Participant(spec, self._access, self._pacing, listeners, self._loop)
        self.participants[spec.participant_id] = participant
        self.picture.add(spec.participant_id, spec.name)
        return participant

    def stream_participant(self, spec: ParticipantSpec, stream_id: str, streams: StreamSource) -> None:
        """A participant that is a stream; asked again for the same one it goes on as it is."""
        participant_id = spec.participant_id
        known = self.streamed.get(participant_id)
        if known is None or known.stream_id != stream_id:
            self.drop(participant_id)
            listeners = StreamListeners(
                picture_began=self._stream_picture_began,
                picture_ended=self._stream_picture_ended,
                source_changed=self._source_changed,
                sound_began=self._stream_sound_began,
                sound_ended=self.sound.remove,
                heard=self.sound.push,
            )
            self.streamed[participant_id] = StreamParticipant(spec, stream_id, streams, listeners, self._loop)
        self.picture.add(participant_id, spec.name, expected=True)
        self._plan_due = True
        self._stage_sound(participant_id)

    def described(self, participant: Participant) -> None:
        """The participant's legs are as agreed: connect them to sound and pictures."""
        participant_id = participant.participant_id
        leg = participant.sound
        if leg is not None:
            leg.sync = None if participant.picture is None else participant.picture.sync
        receives = leg is not None and leg.terms.direction.receives
        sends = leg is not None and leg.terms.direction.sends
        heard = leg.heard_as if leg is not None and receives else None
        self.sound.add(participant_id, heard, leg.sound_codec if leg is not None and sends else None)
        self._stage_sound(participant_id)
        if participant.only_looks_on:
            self.picture.hide(participant_id)
        else:
            self.picture.add(participant_id, participant.spec.name)
        for name, picture in (
            (participant_id, participant.picture),
            (slides_of(participant_id), participant.slides),
        ):
            if self.picture.leg(name) is not picture:
                self.picture.disconnect(name)
                if picture is not None:
                    self.picture.connect(picture)
        self._plan_due = True

    def own_picture(self, participant_id: str) -> Stream | None:
        """What a participant sends."""
        sender = self.picture.leg(participant_id)
        return None if sender is None else sender.stream

    def drop(self, participant_id: str) -> None:
        """Out of sound and picture, and its ports free, at once; its tasks follow."""
        participant: Participant | StreamParticipant | None = self.participants.pop(participant_id, None)
        participant = participant or self.streamed.pop(participant_id, None)
        if participant is None:
            return
        self.sound.remove(participant_id)
        self.picture.remove(participant_id)
        participant.close()
        task = self._loop.create_task(participant.aclose(), name=f"close {participant_id}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        self._plan_due = True

    def set_spec(self, spec: ConferenceSpec) -> None:
        """Title, view and staging."""
        before, self.spec = self.spec.staging, spec
        self.picture.set_view(spec.view)
        self.picture.set_staging(spec.staging)
        for participant_id in _with_other_sound(before, spec.staging):
            self._stage_sound(participant_id)
        self.picture.set_title(spec.title)
        self._plan_due = True

    def set_budget(self, participant_id: str, budget: Budget) -> None:
        """A stream is sent nothing, and sends as it does: its budget is its link's to hold."""
        participant = self.participants.get(participant_id)
        if participant is not None:
            participant.set_budget(budget)
            self._plan_due = True

    def set_muted(self, participant_id: str, muted: bool) -> None:
        participant = self.participants.get(participant_id) or self.streamed[participant_id]
        participant.spec = replace(participant.spec, muted=muted)
        self._stage_sound(participant_id)

    def _stage_sound(self, participant_id: str) -> None:
        """Who is heard, how loud, and who hears, as control says."""
        participant = self.participants.get(participant_id) or self.streamed.get(participant_id)
        if participant is None:
            return
        staging = self.spec.staging
        outside = participant_id in staging.prompts
        self.sound.set_muted(participant_id, participant.spec.muted or outside)
        self.sound.set_gain(participant_id, staging.gains_db.get(participant_id, 0.0))
        deafened = participant_id in staging.deafened
        hearing = Hearing.NOTHING if deafened else Hearing.ASIDE if outside else Hearing.MEETING
        self.sound.set_hearing(participant_id, hearing)

    # --- what streams tell ------------------------------------------------------------------------

    def _stream_picture_began(self, picture: StreamPicture) -> None:
        self.picture.connect_sender(picture)
        self._plan_due = True

    def _stream_picture_ended(self, participant_id: str) -> None:
        self.picture.disconnect(participant_id)
        self._plan_due = True

    def _stream_sound_began(self, participant_id: str, coded: Format) -> None:
        self.sound.add(participant_id, coded, None)
        self._stage_sound(participant_id)

    def _programme_changed(self) -> None:
        listens = SoundCodec.OPUS if self.programme.wants_sound else None
        self.sound.add(self.programme.participant_id, None, listens)
        self._plan_due = True

    # --- what legs and sound tell -----------------------------------------------------------------

    def _source_changed(self) -> None:
        self._plan_due = True

    def _leg_changed(self, participant_id: str) -> None:
        participant = self.participants.get(participant_id)
        if participant is not None:
            self.described(participant)

    def _transport_event(self, participant_id: str, event: TransportEvent) -> None:
        if isinstance(event, TransportFailed | TransportClosed):
            self._emit(MediaFailed(self.spec.conference_id, participant_id, event.reason))

    def _sound_ready(self, batch: SoundBatch) -> None:
        now = time.monotonic()
        for frame in batch.frames:
            for listener in frame.listeners:
                if listener == self.programme.participant_id:
                    self.programme.take_sound(frame.payload, batch.index, batch.at)
                    continue
                participant = self.participants.get(listener)
                leg = None if participant is None else participant.sound
                if leg is not None and leg.sound_codec == frame.codec:
                    leg.send_sound(frame.payload, batch.index, now, batch.came)
        if batch.speakers != self._speakers:
            self._speakers = batch.speakers
            self.picture.set_speakers(batch.speakers)
            self._plan_due = True
            self._emit(SpeakersChanged(self.spec.conference_id, batch.speakers))

    # --- time -------------------------------------------------------------------------------------

    def poll(self, now: float, wall_clock: float) -> None:
        """Every 20 ms: RTCP that is due, a changed plan."""
        for participant in self.participants.values():
            participant.poll(now, wall_clock)
            digits = "" if participant.sound is None else participant.sound.take_digits()
            for digit in digits:
                self._emit(DigitPressed(self.spec.conference_id, participant.participant_id, digit))
        for streamed in self.streamed.values():
            streamed.poll(now)
        if self._plan_due:
            self._plan_due = False
            self._replan(now)

    def sample(self, now: float) -> None:
        """Ten times a second: what the wire carried."""
        for participant in self.participants.values():
            participant.sample(now)

    def attend(self, now: float) -> None:
        """Twice a second: signs of life, stale tiles, measured rates, a fresh plan."""
        for participant in self.participants.values():
            self._watch(participant, now)
        for streamed in self.streamed.values():
            self._look_at(streamed.picture, now)
        self._replan(now)
        self.picture.tidy()

    def _replan(self, now: float) -> None:
        """Budgets first: what a site has room for decides what it is sent."""
        shown = self.picture.slides
        for participant in self.participants.values():
            self._give_slides(participant, shown)
        self.picture.replan(now, self._load.ceiling)
        self._steer(now)

    def _give_slides(self, participant: Participant, shown: str | None) -> None:
        """Room for slides beside the camera, where they go to a site or it was given the floor."""
        participant_id, camera = participant.participant_id, participant.picture
        granted = None if camera is None else camera.granted
        participant.give_slides(
            to_site=shown not in (None, participant_id) and participant.takes_slides,
            from_site=participant_id == self.spec.staging.slides and participant.slides is not None,
        )
        if camera is not None and camera.granted != granted and not camera.heeds_rtcp and camera.stream:
            self._emit(
                PictureFlowWanted(self.spec.conference_id, participant_id, camera.granted, camera.held)
            )

    def _steer(self, now: float) -> None:
        """A picture that nobody sees is to trickle; one that somebody sees, or will soon, flows in full."""
        wanted = self.picture.wanted
        for participant_id, participant in self.participants.items():
            sent = [leg for leg in participant.pictures if leg.source is not None]
            needed = not sent or any(leg.participant_id in wanted for leg in sent)
            held = participant.demand.look(needed=needed, now=now)
            for leg in participant.pictures:
                if leg.held is held:
                    continue
                leg.hold(held, now)
                if leg.stream is not None and not leg.heeds_rtcp and leg is participant.picture:
                    self._emit(PictureFlowWanted(self.spec.conference_id, participant_id, leg.granted, held))

    def _watch(self, participant: Participant, now: float) -> None:
        conference_id, participant_id = self.spec.conference_id, participant.participant_id
        ago = participant.last_heard_ago(now)
        silent = participant.expects_media and ago > SILENT_AFTER
        if not silent and participant.silent_since is not None:
            participant.silent_since = None
            self._emit(ParticipantHeard(conference_id, participant_id))
        elif silent and (participant.silent_since is None or now - participant.silent_since > SILENT_AFTER):
            participant.silent_since = now  # told again: who answered a probe may vanish later
            self._emit(ParticipantSilent(conference_id, participant_id, round(ago, 1)))
        for leg in participant.pictures:
            self._look_at(leg, now)
            if leg.fast_update_wanted:
                leg.fast_update_wanted = False
                self._emit(FastUpdateWanted(conference_id, participant_id))

    def _look_at(self, picture: PictureLeg | StreamPicture, now: float) -> None:
        picture.measure(now)
        if picture.is_stale(now):
            picture.forget_source()
            self.picture.clear_tile(picture.participant_id)

    # --- what is measured -------------------------------------------------------------------------

    def report(self) -> ConferenceReport:
        now = time.monotonic()
        legs: list[LegReport] = []
        for participant in self.participants.values():
            if participant.sound is not None:
                legs += participant.sound.reports(now)
            for picture in participant.pictures:
                incoming, outgoing = picture.picture_reports(now)
                feed, width, height = self.picture.feed_of(picture.participant_id)
                legs += (incoming, replace(outgoing, source=feed, width=width, height=height))
        for streamed in self.streamed.values():
            legs += streamed.reports(now)
        return ConferenceReport(
            conference_id=self.spec.conference_id,
            worker_pid=os.getpid(),
            legs=tuple(map(self._with_level, legs)),
            encoders=tuple(map(self._with_load, self.picture.encoders)),
            wires=tuple(p.wire_report(now) for p in self.participants.values()),
            speakers=self._speakers,
            late_ticks=self._clock.counts.late,
        )

    def _with_level(self, leg: LegReport) -> LegReport:
        sound = leg.kind is SectionKind.AUDIO and not leg.outgoing
        level = self.sound.levels.get(leg.participant_id) if sound else None
        return leg if level is None else replace(leg, level_dbov=round(level, 1))

    def _with_load(self, encoder: EncoderReport) -> EncoderReport:
        """Processors that are too busy are a reason too; the programme and CIF have one class only."""
        why = self._load.why_lower
        own = encoder.reason.startswith("programme") or encoder.codec not in ("H264", "VP8")
        return replace(encoder, reason=f"{encoder.reason}; {why}") if why and not own else encoder

    def answer(self, participant: Participant, answer: MediaDescription) -> MediaDescription:
        """Connect what was just agreed, and hand the description on."""
        self.described(participant)
        return answer

    async def aclose(self) -> None:
        for participant_id in (*self.participants, *self.streamed):
            self.drop(participant_id)
        self.programme.close()
        self._clock.remove(self.sound.tick)
        await self.picture.aclose()
        await asyncio.gather(*self._closing, return_exceptions=True)


def _with_other_sound(before: Staging, after: Staging) -> set[str]:
    """Whose sound is another, one way or the other."""
    outside = before.prompts.keys() ^ after.prompts.keys()
    louder = {key for key, _gain in before.gains_db.items() ^ after.gains_db.items()}
    return {*outside, *louder, *(before.deafened ^ after.deafened)}
