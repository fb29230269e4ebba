"""One camera under its rules: samples in, violations out.

watcher = CameraWatcher(camera, open_sampler, writer, judging)
await watcher.run()              # until the sampler ends; what is flagged goes on at the next run
watcher.change(camera)           # other rules, from the next sample on; the stream is not touched
watcher.status()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from analytics.detection import Sample, Seen, StreamLost
from analytics.rule_kinds import BLACK, BLURRED, FROZEN, RULE_KINDS, ParameterFault
from analytics.rules import PERSON, Flag, Judge, Look, Verdict, make_judge
from analytics.sampler import SamplerState, SamplerStatus
from analytics.schedule import Schedule, ScheduleFault
from analytics.tamper import Measures, measure
from analytics.tracker import PATIENCE, Track, Tracker
from analytics.violation_writer import ModelName, ViolationWriter
from analytics.zones import ZoneFault
from foundation.clock import Clock
from foundation.desks import AnalysedCamera, AnalysisStatus, RuleSpec

log = structlog.get_logger(__name__)

_MEASURED = (BLACK, FROZEN, BLURRED)


class Sampling(Protocol):
    """What `analytics.sampler.Sampler` is to a watcher."""

    def __aiter__(self) -> AsyncIterator[Seen]: ...

    def status(self) -> SamplerStatus: ...


OpenSampler = Callable[[str], AbstractAsyncContextManager[Sampling]]


@dataclass(frozen=True, slots=True)
class Judging:
    """What all cameras share: the detector's name, the time zone of schedules, threads for pictures."""

    model: ModelName
    time_zone: str
    threads: ThreadPoolExecutor
    clock: Clock


@dataclass(slots=True)
class _Rule:
    """A rule at work; `violation_id` of what it has flagged."""

    spec: RuleSpec
    judge: Judge
    schedule: Schedule
    violation_id: str | None = None


class CameraWatcher:
    """See the module's head."""

    def __init__(
        self, camera: AnalysedCamera, open_sampler: OpenSampler, writer: ViolationWriter, judging: Judging
    ) -> None:
        self.camera = camera
        self._open_sampler = open_sampler
        self._writer = writer
        self._judging = judging
        self._rules: dict[str, _Rule] = {}
        self._faults: list[str] = []
        self._ruled: tuple[RuleSpec, ...] = ()
        self._tracker = Tracker()
        self._sampler: Sampling | None = None
        self._persons = 0

    def change(self, camera: AnalysedCamera) -> None:
        """Other rules or another name. The camera stays the same."""
        self.camera = camera

    async def run(self) -> None:
        """Watch until cancelled."""
        self._rules, self._ruled, self._tracker = {}, (), Tracker()
        await self._apply_rules()
        await self._resume()
        async with self._open_sampler(self.camera.camera_id) as sampler:
            self._sampler = sampler
            try:
                async for seen in sampler:
                    await self._take(seen)
            finally:
                self._sampler = None

    def status(self) -> AnalysisStatus:
        """How it does, now; a rule that nobody can judge is said first."""
        camera_id = self.camera.camera_id
        if self._sampler is None:
            return AnalysisStatus(camera_id, "waiting", "; ".join(self._faults))
        sampling = self._sampler.status()
        details = (*self._faults, *((sampling.detail,) if sampling.detail else ()))
        state = str(SamplerState.FAILED) if self._faults else str(sampling.state)
        return AnalysisStatus(
            camera_id=camera_id,
            state=state,
            detail="; ".join(details),
            samples=sampling.samples,
            inferences=sampling.inferences if self._judging.model.usable else 0,
            wanted_rate=sampling.wanted_rate,
            achieved_rate=sampling.achieved_rate,
            last_sample_ago=sampling.last_sample_ago,
            persons=self._persons,
        )

    # --- rules --------------------------------------------------------------------------------------

    async def _apply_rules(self) -> None:
        """Rules that are as before go on as they are; what a withdrawn one had flagged is over."""
        wanted = self.camera.rules
        if wanted is self._ruled:
            return
        before, self._rules, self._faults = self._rules, {}, []
        for spec in wanted:
            known = before.get(spec.rule_id)
            if known is not None and known.spec == spec:
                self._rules[spec.rule_id] = before.pop(spec.rule_id)
            elif (made := self._make(spec)) is not None:
                self._rules[spec.rule_id] = made
        self._ruled = wanted
        stays = (rule.spec.parameters.get("tolerance", 0.0) + 1 for rule in self._rules.values())
        self._tracker.patience = max((PATIENCE, *stays))
        for rule in before.values():
            await self._finish(rule, self._judging.clock.now())

    def _make(self, spec: RuleSpec) -> _Rule | None:
        """A rule that makes no sense is told in the status; the API lets none in."""
        model = self._judging.model
        try:
            if RULE_KINDS[spec.kind].needs_model and not model.usable:
                self._faults.append(f"{spec.name}: cannot be judged: {model.fault}")
            return _Rule(spec, make_judge(spec), Schedule.of(spec.schedule, self._judging.time_zone))
        except (ParameterFault, ZoneFault, ScheduleFault, KeyError) as error:
            self._faults.append(f"{spec.name}: is not judged: {error}")
            log.error("rule_not_judged", camera=self.camera.camera_id, rule=spec.rule_id, reason=str(error))
            return None

    async def _resume(self) -> None:
        """What was flagged when the last process ended goes on, or is over with its rule, or with the model
        that could tell."""
        for violation in await self._writer.unfinished(self.camera.camera_id):
            rule = self._rules.get(str(violation.rule.get("id")))
            judged = rule is not None and (
                self._judging.model.usable or not RULE_KINDS[rule.spec.kind].needs_model
            )
            if rule is None or not judged or rule.violation_id is not None:  # or it would be open for ever
                await self._writer.finish(violation.id, self._judging.clock.now())
                continue
            rule.violation_id = violation.id
            rule.judge.resume(self._judging.clock.monotonic())

    # --- samples ------------------------------------------------------------------------------------

    async def _take(self, seen: Seen) -> None:
        await self._apply_rules()
        if isinstance(seen, StreamLost):
            self._persons = 0
            began = seen.at - timedelta(seconds=max(seen.arrival - seen.since, 0.0))
            for rule in tuple(self._rules.values()):
                resting = not rule.schedule.holds(seen.at)
                verdict = rule.judge.rest() if resting else rule.judge.blind(seen)
                await self._heed(rule, verdict, began, seen.at)
            return
        look = await self._look(seen)
        for rule in tuple(self._rules.values()):
            verdict = rule.judge.look(look) if rule.schedule.holds(seen.at) else rule.judge.rest()
            await self._heed(rule, verdict, seen.at, seen.at)

    async def _look(self, sample: Sample) -> Look:
        measures: Measures | None = None
        if any(rule.spec.kind in _MEASURED for rule in self._rules.values()):
            loop = asyncio.get_running_loop()
            measures = await loop.run_in_executor(self._judging.threads, measure, sample.picture)
        tracks: tuple[Track, ...] | None = None
        if sample.detections is None or not self._judging.model.usable:
            self._tracker.hold(sample.arrival)
        else:
            tracks = self._tracker.update(sample.arrival, sample.detections)
            self._persons = sum(track.label == PERSON for track in tracks)
        return Look(sample, tracks, measures)

    async def _heed(
        self, rule: _Rule, verdict: Verdict | None, started_at: datetime, ended_at: datetime
    ) -> None:
        if isinstance(verdict, Flag):
            rule.violation_id = await self._writer.flag(
                self.camera, rule.spec, verdict, started_at, self._judging.model
            )
        elif verdict is not None:
            await self._finish(rule, ended_at)

    async def _finish(self, rule: _Rule, ended_at: datetime) -> None:
        if rule.violation_id is not None:
            await self._writer.finish(rule.violation_id, ended_at)
            rule.violation_id = None
