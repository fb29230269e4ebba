"""Rules as machines: looks go in, verdicts come out. No clock, no I/O.

    judge = make_judge(spec)                             # RuleSpec; ParameterFault, ZoneFault
    verdict = judge.look(look)                           # Flag, Over or None
    verdict = judge.blind(lost)                          # the camera gives no picture
    judge.resume(arrival)                                # what was flagged before this process began goes on
    verdict = judge.rest()                               # outside its schedule

A rule has at most one violation at a time: what happens while it is flagged belongs to it. Times are
`Sample.arrival`, seconds that only go forward.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from analytics.detection import Detection, Sample, StreamLost
from analytics.rule_kinds import BLACK, BLURRED, FROZEN, LOITERING, PERSON_IN_ZONE, STREAM_LOST, settled
from analytics.tamper import Blur, Cover, Freeze, Measures
from analytics.tracker import Track
from analytics.zones import Zone
from foundation.desks import RuleSpec

PERSON = "person"
BLIND_PATIENCE = 10.0
"""Seconds without a picture after which those who were in a zone count as gone."""
MOST_PICTURES = 4
"""Best pictures that a rule keeps at once, one a track; who comes later is shown as at the flagging."""


@dataclass(frozen=True, slots=True)
class Look:
    """One sample, with those who were seen in it. `tracks` is None when the model was not asked as nothing
    moved; `measures` when no rule of the camera wants them."""

    sample: Sample
    tracks: tuple[Track, ...] | None
    measures: Measures | None = None

    @property
    def at(self) -> float:
        return self.sample.arrival


@dataclass(frozen=True, slots=True)
class Flag:
    """The rule is broken. `sample` shows it best, with `shown` in it; None where there is no picture of it,
    as `lacking` says."""

    score: float
    sample: Sample | None
    shown: tuple[Detection, ...] = ()
    lacking: str = ""


@dataclass(frozen=True, slots=True)
class Over:
    """What was flagged has ended."""


Verdict = Flag | Over


class Judge(Protocol):
    """What all rules do."""

    @property
    def flagged(self) -> bool: ...

    def look(self, look: Look) -> Verdict | None: ...

    def blind(self, lost: StreamLost) -> Verdict | None: ...

    def resume(self, at: float) -> None: ...

    def rest(self) -> Verdict | None: ...


# --- persons ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stay:
    """One track in the zone: when it came, was seen last, which of the last looks found it there, and the
    best picture of it so far, with those who stood in the zone then."""

    since: float
    last: float
    recent: deque[bool]
    looks: int = 0
    absent: int = 0
    broken: bool = False
    score: float = 0.0
    best: Sample | None = None
    shown: tuple[Detection, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """When a stay breaks the rule, and when it is over."""

    breaks: Callable[[Stay], bool]
    ends: Callable[[Stay, float], bool]


class PersonRule:
    """Flags when the first stay breaks its terms, and is over when the last that did has ended.

    `window`: looks that a stay remembers. After the end nothing is flagged for `cool_down` seconds; who is
    there still when they have passed is flagged then.
    """

    def __init__(self, zone: Zone, score: float, terms: Terms, window: int, cool_down: float) -> None:
        self._zone = zone
        self._score = score
        self._terms = terms
        self._window = window
        self._cool_down = cool_down
        self._stays: dict[int, Stay] = {}
        self._present: frozenset[int] = frozenset()
        self._flagged = False
        self._resumed: Stay | None = None
        self._quiet_until = float("-inf")

    @property
    def flagged(self) -> bool:
        return self._flagged

    def look(self, look: Look) -> Verdict | None:
        if look.tracks is None:  # nothing moved: whoever is there stays there; flagging waits for a real look
            for track_id in self._present:
                self._stays[track_id].last = look.at
            if self._resumed is not None:
                self._resumed.last = look.at
            return None
        self._note(look, look.tracks)
        return self._verdict(look)

    def blind(self, lost: StreamLost) -> Verdict | None:
        """Short gaps are nothing; after a longer one nobody knows who is still there."""
        last = max((stay.last for stay in self._all()), default=lost.since)
        if lost.arrival - max(last, lost.since) < BLIND_PATIENCE:
            return None
        self._stays.clear()
        self._present = frozenset()
        return self._end(lost.arrival)

    def resume(self, at: float) -> None:
        self._flagged = True
        self._resumed = Stay(at, at, deque([True], self._window), broken=True)

    def rest(self) -> Verdict | None:
        """Outside the schedule nobody is judged, and no cool-down runs."""
        self._stays.clear()
        self._present = frozenset()
        verdict = self._end(0.0)
        self._quiet_until = float("-inf")
        return verdict

    def _all(self) -> tuple[Stay, ...]:
        resumed = () if self._resumed is None else (self._resumed,)
        return (*self._stays.values(), *resumed)

    def _note(self, look: Look, tracks: tuple[Track, ...]) -> None:
        inside = [
            track
            for track in tracks
            if track.label == PERSON
            and track.score >= self._score
            and self._zone.contains(track.box.bottom_centre)
        ]
        shown = tuple(Detection(track.label, track.score, track.box) for track in inside)
        self._present = frozenset(track.id for track in inside)
        for track in inside:
            stay = self._stays.get(track.id)
            if stay is None:
                stay = self._stays[track.id] = Stay(look.at, look.at, deque(maxlen=self._window))
            stay.last, stay.absent, stay.looks = look.at, 0, stay.looks + 1
            stay.recent.append(True)
            self._keep_best(stay, track.score, look.sample, shown)
        for track_id, stay in self._stays.items():
            if track_id not in self._present:
                stay.recent.append(False)
                stay.absent += 1
        if self._resumed is not None:
            self._resumed.absent = 0 if inside else self._resumed.absent + 1
            self._resumed.last = look.at if inside else self._resumed.last
        gone = [key for key, stay in self._stays.items() if self._terms.ends(stay, look.at)]
        for track_id in gone:
            del self._stays[track_id]

    def _keep_best(self, stay: Stay, score: float, sample: Sample, shown: tuple[Detection, ...]) -> None:
        kept = sum(other.best is not None for other in self._stays.values())
        if score > stay.score and (stay.best is not None or kept < MOST_PICTURES):
            stay.best, stay.shown = sample, shown
        stay.score = max(stay.score, score)

    def _verdict(self, look: Look) -> Verdict | None:
        for stay in self._stays.values():
            stay.broken = stay.broken or self._terms.breaks(stay)
        if self._flagged:
            for stay in self._stays.values():
                if stay.broken:  # it belongs to what is flagged, and whose picture is taken
                    stay.best, stay.shown = None, ()
            if self._resumed is not None and self._terms.ends(self._resumed, look.at):
                self._resumed = None
            going_on = self._resumed is not None or any(stay.broken for stay in self._stays.values())
            return None if going_on else self._end(look.at)
        broken = [self._stays[track_id] for track_id in self._present if self._stays[track_id].broken]
        if not broken or look.at < self._quiet_until:
            return None
        self._flagged = True
        worst = max(broken, key=lambda stay: stay.score)
        if worst.best is not None:
            return Flag(worst.score, worst.best, worst.shown)
        here = tuple(
            Detection(track.label, track.score, track.box)
            for track in look.tracks or ()
            if track.id in self._present
        )
        return Flag(worst.score, look.sample, here)

    def _end(self, at: float) -> Over | None:
        if not self._flagged:
            return None
        self._flagged, self._resumed = False, None
        self._quiet_until = at + self._cool_down
        return Over()


def _person_in_zone(zone: Zone, values: dict[str, float]) -> PersonRule:
    inside, outside = int(values["inside"]), int(values["outside"])
    terms = Terms(
        breaks=lambda stay: sum(stay.recent) >= inside,
        ends=lambda stay, _at: stay.absent >= (outside if stay.broken else max(outside, int(values["of"]))),
    )
    return PersonRule(zone, values["score"], terms, int(values["of"]), values["cool_down"])


def _loitering(zone: Zone, values: dict[str, float]) -> PersonRule:
    seconds, tolerance = values["seconds"], values["tolerance"]
    terms = Terms(
        breaks=lambda stay: stay.last - stay.since >= seconds and stay.looks >= 3,
        ends=lambda stay, at: stay.absent > 0 and at - stay.last > tolerance,
    )
    return PersonRule(zone, values["score"], terms, 1, values["cool_down"])


# --- tamper checks ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Lasting:
    """Begins when something has lasted for `seconds`, ends `recovery` seconds after it was so last."""

    seconds: float
    recovery: float
    flagged: bool = False
    since: float | None = None
    last: float = field(default=float("-inf"))

    def update(self, at: float, present: bool, since: float | None = None) -> bool:
        """Note how it is at `at` (present since `since`, if that is known); True when `flagged` changed."""
        if present:
            self.since = at if self.since is None else self.since
            self.since = self.since if since is None else min(self.since, since)
            self.last = at
            begins = not self.flagged and at - self.since >= self.seconds
            self.flagged = self.flagged or begins
            return begins
        self.since = None
        ends = self.flagged and at - self.last >= self.recovery
        self.flagged = self.flagged and not ends
        return ends


class Check(Protocol):
    def resume(self) -> None: ...

    def sees(self, measures: Measures) -> bool: ...


class TamperRule:
    """Flags what a check of the picture sees for long enough. While there is no picture nothing is known:
    what is flagged stays so, what was about to be is not."""

    def __init__(self, check: Check, seconds: float, recovery: float) -> None:
        self._check = check
        self._lasting = Lasting(seconds, recovery)

    @property
    def flagged(self) -> bool:
        return self._lasting.flagged

    def look(self, look: Look) -> Verdict | None:
        if look.measures is None or not self._lasting.update(look.at, self._check.sees(look.measures)):
            return None
        return Flag(1.0, look.sample) if self.flagged else Over()

    def blind(self, lost: StreamLost) -> Verdict | None:
        self._lasting.since = None
        if self.flagged:
            self._lasting.last = lost.arrival
        return None

    def resume(self, at: float) -> None:
        self._lasting.flagged, self._lasting.last = True, at
        self._check.resume()

    def rest(self) -> Verdict | None:
        return _rest(self._lasting)


class StreamLostRule:
    """Flags a camera that gives no picture for long enough; its last one is the snapshot. A camera that comes
    and goes stays flagged until it has stayed for `recovery` seconds."""

    def __init__(self, seconds: float, recovery: float) -> None:
        self._lasting = Lasting(seconds, recovery)
        self._last_sample: Sample | None = None

    @property
    def flagged(self) -> bool:
        return self._lasting.flagged

    def look(self, look: Look) -> Verdict | None:
        self._last_sample = look.sample
        return Over() if self._lasting.update(look.at, False) else None

    def blind(self, lost: StreamLost) -> Verdict | None:
        if not self._lasting.update(lost.arrival, True, lost.since):
            return None
        sample, self._last_sample = self._last_sample, None
        if sample is None:
            return Flag(1.0, None, lacking=f"no picture came: {lost.reason}")
        return Flag(1.0, sample, lacking=f"the picture is the last one before the loss: {lost.reason}")

    def resume(self, at: float) -> None:
        self._lasting.flagged, self._lasting.last = True, at

    def rest(self) -> Verdict | None:
        return _rest(self._lasting)


def _rest(lasting: Lasting) -> Over | None:
    was_flagged = lasting.flagged
    lasting.flagged, lasting.since = False, None
    return Over() if was_flagged else None


# --- by its row ---------------------------------------------------------------------------------------


def make_judge(rule: RuleSpec) -> Judge:
    """The machine of a rule. Raises ParameterFault, ZoneFault; KeyError for an unknown kind."""
    values = settled(rule.kind, rule.parameters)
    zone = Zone.of(rule.zone)
    match rule.kind:
        case kind if kind == PERSON_IN_ZONE:
            return _person_in_zone(zone, values)
        case kind if kind == LOITERING:
            return _loitering(zone, values)
        case kind if kind == STREAM_LOST:
            return StreamLostRule(values["seconds"], values["recovery"])
    checks: dict[str, Callable[[], Check]] = {
        BLACK: lambda: Cover(values["brightness"], values["deviation"], values["share"]),
        FROZEN: lambda: Freeze(values["difference"], values["share"]),
        BLURRED: lambda: Blur(values["sharpness"], int(values["learning"])),
    }
    return TamperRule(checks[rule.kind](), values["seconds"], values["recovery"])
