"""Every event that crosses a domain, on one page.

An event says what is already so: the row is written first, the event announced second. A lost
event costs latency only, since whoever acts on it also rescans the rows. All are frozen and
msgspec-encodable, named on the wire by their class names (`EVENT_TYPES`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Event:
    """The common ancestor; carries nothing."""


# --- meetings, announced by signalling --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConferenceOpened(Event):
    conference_id: str


@dataclass(frozen=True, slots=True)
class ConferenceChanged(Event):
    """View, title or lock changed; the row has the new state."""

    conference_id: str


@dataclass(frozen=True, slots=True)
class ConferenceEnded(Event):
    conference_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConferenceEnding(Event):
    """Its time is over soon: `ends_at` in ISO 8601; extending it announces ConferenceChanged."""

    conference_id: str
    ends_at: str


@dataclass(frozen=True, slots=True)
class ParticipantChanged(Event):
    """A participant was called, joined, was muted, held, given another budget, or left."""

    conference_id: str
    participant_id: str
    state: str


@dataclass(frozen=True, slots=True)
class RenegotiationNeeded(Event):
    """The participant's page must offer anew: its media worker is gone and keys with it."""

    conference_id: str
    participant_id: str


# --- media workers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerReady(Event):
    worker: str
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerLost(Event):
    """A worker process died or stopped answering; its meetings must move."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class ParticipantSilent(Event):
    """Neither RTP nor RTCP came for `seconds`; signalling probes the peer, then lets it go."""

    conference_id: str
    participant_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ParticipantHeard(Event):
    """Media came again after `ParticipantSilent`, or for the first time."""

    conference_id: str
    participant_id: str


@dataclass(frozen=True, slots=True)
class DigitPressed(Event):
    """A key of a terminal or telephone (RFC 4733 DTMF: 0-9, *, #, A-D), once however often it was repeated.

    It may be part of a PIN: never print it.
    """

    conference_id: str
    participant_id: str
    digit: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MediaFailed(Event):
    """A participant's transport cannot work (a DTLS handshake failed, a port was lost)."""

    conference_id: str
    participant_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SpeakersChanged(Event):
    """Who speaks now, loudest first."""

    conference_id: str
    participant_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FastUpdateWanted(Event):
    """We need a key frame of a peer that negotiated no RTCP feedback: ask by signalling."""

    conference_id: str
    participant_id: str


@dataclass(frozen=True, slots=True)
class PictureFlowWanted(Event):
    """A peer without feedback for it (REMB, TMMBR) should keep its picture within so many bit/s: by b= of a
    re-INVITE, where it is known to heed that. `held`: nobody is shown the picture."""

    conference_id: str
    participant_id: str
    bitrate_bps: int
    held: bool


# --- cameras, recordings, violations, broadcasts; `site_id` is whose, for permission ---------------------


@dataclass(frozen=True, slots=True)
class CameraChanged(Event):
    """A camera was added, changed or removed, or its rules were."""

    camera_id: str
    site_id: str


@dataclass(frozen=True, slots=True)
class CameraStateChanged(Event):
    """A worker's word on a camera: `state`, `fault` and `cause` as in CameraStatus, "" for none."""

    camera_id: str
    site_id: str
    state: str
    fault: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class RecordingChanged(Event):
    """An order was given or withdrawn, or a recording began or ended."""

    kind: str
    subject: str
    site_id: str


@dataclass(frozen=True, slots=True)
class RecordingAlarm(Event):
    """A recording stopped by a fault that somebody must mend (a full disk)."""

    kind: str
    subject: str
    site_id: str
    cause: str
    detail: str


@dataclass(frozen=True, slots=True)
class ViolationFlagged(Event):
    """A rule was broken; the row has all."""

    violation_id: str
    camera_id: str
    site_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class ViolationChanged(Event):
    """Its evidence came, it ended, was claimed, commented or decided."""

    violation_id: str
    camera_id: str
    site_id: str
    state: str


@dataclass(frozen=True, slots=True)
class BroadcastChanged(Event):
    """A broadcast was started, changed or stopped."""

    broadcast_id: str
    site_id: str
    state: str


# --- the bus itself --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BusReconnected(Event):
    """Events may have been lost: rescan the rows."""


EVENT_TYPES: Final[tuple[type[Event], ...]] = (
    ConferenceOpened,
    ConferenceChanged,
    ConferenceEnded,
    ConferenceEnding,
    ParticipantChanged,
    RenegotiationNeeded,
    WorkerReady,
    WorkerLost,
    ParticipantSilent,
    ParticipantHeard,
    DigitPressed,
    MediaFailed,
    SpeakersChanged,
    FastUpdateWanted,
    PictureFlowWanted,
    CameraChanged,
    CameraStateChanged,
    RecordingChanged,
    RecordingAlarm,
    ViolationFlagged,
    ViolationChanged,
    BroadcastChanged,
    BusReconnected,
)
