"""Meetings: what a media worker is told of them, what it measures, and its desk."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from foundation.desks.media_description import MediaDescription, SectionKind


@dataclass(frozen=True, slots=True)
class Budget:
    """What a participant's media may use, IP packets with all headers, bit/s, seen from the meeting."""

    to_site_bps: int
    from_site_bps: int


class ViewMode(StrEnum):
    MOSAIC = "mosaic"
    FULL_SCREEN = "full-screen"


@dataclass(frozen=True, slots=True)
class View:
    """What the participants see: everyone in a mosaic, or one of them on the full screen.

    With a `page`, the mosaic has these only, in this order. `layout`: "auto" (equal cells, as many as there
    are sites), "speaker" (who speaks is large) or a layout's own name ("full", "1+1", "2x2", "1+5", "1+7",
    "3x3", "4x4", "pip", "speaker+strip", "slides+speaker": slides are in the main picture of all).
    """

    mode: ViewMode = ViewMode.MOSAIC
    participant_id: str | None = None
    page: tuple[str, ...] = ()
    layout: str = "auto"


@dataclass(frozen=True, slots=True)
class Staging:
    """What meeting control makes of a meeting beyond its view; whole and declarative, by participant id.

    `views`: who sees something else than the meeting's view. `prompts`: who waits outside, sees this text
    only, and is neither seen nor heard and hears nothing. `deafened` are sent no sound. `cameras_off` are
    seen by nobody. `without_self` get a mosaic without their own tile. `gains_db` makes sites louder or
    quieter. `banner` is drawn on composed pictures; with `banner_everywhere` no picture is forwarded
    untouched, so that all have it. `next_shown` are shown soon: their pictures are made ready. `slides` is
    whose second picture everybody gets, as a second stream or, who takes none, in the main picture.
    """

    views: dict[str, View] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    deafened: frozenset[str] = frozenset()
    cameras_off: frozenset[str] = frozenset()
    without_self: frozenset[str] = frozenset()
    gains_db: dict[str, float] = field(default_factory=dict)
    banner: str = ""
    banner_everywhere: bool = False
    next_shown: tuple[str, ...] = ()
    slides: str | None = None


@dataclass(frozen=True, slots=True)
class ConferenceSpec:
    """A meeting as its worker must know it."""

    conference_id: str
    number: str
    title: str
    view: View = View()
    staging: Staging = Staging()


class Dialled(StrEnum):
    """Which transport a participant's media takes when we are the one who offers."""

    PLAIN = "plain"
    SECURED = "secured"
    """RTP ports as PLAIN has them, with SRTP keys in the description (RFC 4568)."""
    WEBRTC = "webrtc"


@dataclass(frozen=True, slots=True)
class ParticipantSpec:
    """Who joins: `name` is drawn under the picture, `network` says which addresses and ports serve.

    One who has `sound_only` is a telephone: neither offered pictures nor answered any.
    """

    participant_id: str
    conference_id: str
    name: str
    network: str
    budget: Budget
    site_id: str | None = None
    muted: bool = False
    sound_only: bool = False


@dataclass(frozen=True, slots=True)
class LegReport:
    """One direction of one medium at one instant; rates in bit/s over the last second.

    `freezes` counts how often a picture stood still, and `frozen_seconds` for how long in all, one that goes
    on included: no new picture that can be shown for more than three times the usual interval of its last
    30, and 150 ms at the least. Towards a site it is what was sent: what got lost on the way shows as loss.
    """

    participant_id: str
    kind: SectionKind
    outgoing: bool
    codec: str
    bitrate_bps: int
    packets: int
    lost: int
    jitter_ms: float
    round_trip_ms: float | None
    frames: int
    width: int = 0
    height: int = 0
    source: str = ""  # of an outgoing picture: "pass-through:<participant>" or the encoder's class
    granted_bps: int = 0  # of an incoming picture: what the site was asked to keep to
    held: bool = False  # an incoming picture that nobody is shown: the site was asked for a trickle
    level_dbov: float | None = None  # of incoming sound, 0 is full scale, -127 nothing or muted
    freezes: int = 0  # of a main picture; slides stand still rightly
    frozen_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class EncoderReport:
    """A running encoder and why it runs."""

    key: str
    codec: str
    width: int
    height: int
    bitrate_bps: int
    receivers: int
    reason: str


@dataclass(frozen=True, slots=True)
class WireReport:
    """IP bytes of one participant since it joined, and in the last whole second."""

    participant_id: str
    sent_bytes: int
    received_bytes: int
    sent_last_second: int
    received_last_second: int
    peak_sent_second: int
    peak_received_second: int
    last_heard_ago: float


@dataclass(frozen=True, slots=True)
class ConferenceReport:
    """What a meeting's worker measures, for metrics and the operator's page."""

    conference_id: str
    worker_pid: int
    legs: tuple[LegReport, ...] = ()
    encoders: tuple[EncoderReport, ...] = ()
    wires: tuple[WireReport, ...] = ()
    speakers: tuple[str, ...] = ()
    late_ticks: int = 0


@dataclass(frozen=True, slots=True)
class HeldConference:
    """A meeting that a worker holds, and the ids of those whose media run in it."""

    conference_id: str
    participants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerVitals:
    """What a worker process holds and how it does; anything that grows without meetings is a leak."""

    pid: int
    tasks: int
    threads: int
    codec_lanes: int
    participants: int
    cpu_share: float
    late_sound_ticks: int
    late_turns: int


class ConferenceDesk(Protocol):
    """The media side of meetings, as signalling sees it; one a media worker.

    Every method raises `Refusal`. `admit`, `offer` and `open` are idempotent by id: asked again they
    replace what was there, so that a caller may retry after a lost answer.
    """

    async def holdings(self) -> tuple[HeldConference, ...]:
        """What the worker holds: main asks when it (or its connection) was gone, and takes it up."""
        ...

    async def open(self, spec: ConferenceSpec) -> None:
        """Make the meeting, or change its title and view."""
        ...

    async def close(self, conference_id: str) -> None:
        """End the meeting and free all it holds; unknown is no error."""
        ...

    async def admit(
        self, participant: ParticipantSpec, offer: MediaDescription, resume: MediaDescription | None = None
    ) -> MediaDescription:
        """Take a participant in and answer its offer.

        `resume` is the answer a lost worker gave before: the same ports, codecs and keys are taken
        again, so that the peer need not notice; `Refusal(NOT_RESUMABLE)` if that cannot be done.
        """
        ...

    async def admit_stream(self, participant: ParticipantSpec, stream_id: str, known: bool = False) -> None:
        """Take in a participant that is a stream of this node ("camera:ID"): seen and heard, sent nothing.

        Returns before the stream has come; the worker opens it again whenever it ends or fails, and its
        tile shows the name only meanwhile. `drop` lets it go. One that is `known` from a lost worker is no
        newcomer to be refused.
        """
        ...

    async def offer(self, participant: ParticipantSpec, dialled: Dialled) -> MediaDescription:
        """Make room for a participant whom we call, and describe what we can do."""
        ...

    async def answered(self, participant_id: str, answer: MediaDescription) -> MediaDescription:
        """The called side answered; returns our side as agreed (what `resume` takes later)."""
        ...

    async def resume_dialled(
        self, participant: ParticipantSpec, ours: MediaDescription, theirs: MediaDescription
    ) -> None:
        """Take a dialled participant of a lost worker over, on the same ports."""
        ...

    async def renegotiate(self, participant_id: str, offer: MediaDescription) -> MediaDescription:
        """Answer a later offer (re-INVITE, UPDATE, ICE restart) of the same participant."""
        ...

    async def set_budget(self, participant_id: str, budget: Budget) -> None:
        """Hold the participant to a new budget within a second."""
        ...

    async def set_view(self, conference_id: str, view: View) -> None: ...

    async def set_staging(self, conference_id: str, view: View, staging: Staging) -> None:
        """Change all that control decides at once.

        `Refusal(NO_CAPACITY)`, and nothing changed, when the worker cannot make another mosaic for a site
        that newly asks not to see itself.
        """
        ...

    async def set_muted(self, participant_id: str, muted: bool) -> None:
        """Take a participant's sound out of the mix, or back in."""
        ...

    async def announcements(self) -> tuple[str, ...]:
        """The names of the sounds that can be played into meetings."""
        ...

    async def announce(self, conference_id: str, sound: str, participant_id: str | None) -> None:
        """Play a sound once, to everybody or to one; instead of what it plays there now.

        `Refusal(UNKNOWN_ANNOUNCEMENT)` says what is wrong with the sound.
        """
        ...

    async def stop_announcing(self, conference_id: str) -> None: ...

    async def refresh_picture(self, participant_id: str) -> None:
        """The peer asked for a key frame by signalling (SIP INFO, H.245)."""
        ...

    async def drop(self, participant_id: str) -> None:
        """Free a participant's legs; unknown is no error."""
        ...

    async def report(self, conference_id: str) -> ConferenceReport: ...

    async def vitals(self) -> WorkerVitals: ...
