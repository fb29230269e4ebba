"""Every desk: what one domain may ask of another, and the descriptions that cross.

A desk is a Protocol; `assembly.py` binds it to an object of the same process or to the other end of
a private Unix socket (`desk_socket`). Only frozen dataclasses cross: descriptions, never sockets.
A refusal crosses as `Refusal`, with a kind that signalling maps to its own status codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class RefusalKind(StrEnum):
    """Why a desk refused; SIP, H.323 and HTTP each have their own number for it."""

    NO_COMMON_CODEC = "no-common-codec"
    BAD_DESCRIPTION = "bad-description"
    UNKNOWN_CONFERENCE = "unknown-conference"
    UNKNOWN_PARTICIPANT = "unknown-participant"
    NO_CAPACITY = "no-capacity"
    NO_PORT = "no-port"
    WORKER_LOST = "worker-lost"
    NOT_RESUMABLE = "not-resumable"
    UNKNOWN_CAMERA = "unknown-camera"
    CAMERA_FAULT = "camera-fault"
    LOCKED = "locked"


class Refusal(Exception):
    """A desk does not do what was asked; `detail` says who erred, in words for an operator."""

    def __init__(self, kind: RefusalKind, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after


# --- what two ends say about their media (RFC 3264 without the syntax of RFC 4566) -------------------


class SectionKind(StrEnum):
    AUDIO = "audio"
    VIDEO = "video"
    OTHER = "other"  # an m-line that we answer with port 0


class Direction(StrEnum):
    """RFC 3264 5.1, from the describing side's point of view."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def reversed(self) -> Direction:
        """The same agreement seen from the other side."""
        return {
            Direction.SENDONLY: Direction.RECVONLY,
            Direction.RECVONLY: Direction.SENDONLY,
        }.get(self, self)


@dataclass(frozen=True, slots=True)
class CodecDescription:
    """One payload type: RTP encoding name in upper case, clock, fmtp parameters, RTCP feedback.

    `feedback` holds the values of `a=rtcp-fb` ("nack", "nack pli", "ccm fir", "goog-remb" ...).
    """

    name: str
    payload_type: int
    clock_rate: int
    channels: int = 1
    parameters: dict[str, str] = field(default_factory=dict)
    feedback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CryptoKey:
    """An SDES key (RFC 4568): suite name, base64 of master key and salt, tag of its a=crypto line."""

    tag: int
    suite: str
    key: str


@dataclass(frozen=True, slots=True)
class IceDescription:
    """RFC 8839 credentials; `candidates` are the values of a=candidate lines."""

    ufrag: str
    password: str
    candidates: tuple[str, ...] = ()
    lite: bool = False


@dataclass(frozen=True, slots=True)
class DtlsDescription:
    """RFC 8842: certificate fingerprint ("sha-256", "AB:CD...") and setup role."""

    algorithm: str
    fingerprint: str
    setup: str


@dataclass(frozen=True, slots=True)
class MediaSection:
    """One m-line.

    `port` 0 is a refused section. `rtcp_port` None means the RTP port + 1, or the RTP port itself when
    `rtcp_mux`. `bandwidth_bps` is b=TIAS, or b=AS in bit/s (with headers). `protocol` is mirrored in
    the answer ("RTP/AVP", "UDP/TLS/RTP/SAVPF" ...).
    """

    kind: SectionKind
    address: str
    port: int
    protocol: str = "RTP/AVP"
    codecs: tuple[CodecDescription, ...] = ()
    direction: Direction = Direction.SENDRECV
    mid: str | None = None
    content: str | None = None
    label: str | None = None
    bandwidth_bps: int | None = None
    rtcp_port: int | None = None
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    ptime: int | None = None
    crypto: tuple[CryptoKey, ...] = ()
    ice: IceDescription | None = None
    dtls: DtlsDescription | None = None
    extensions: dict[int, str] = field(default_factory=dict)
    ssrc: int | None = None
    rtx_ssrc: int | None = None
    cname: str | None = None
    media: str = ""  # the m-line's own media and format words, kept for a section of kind OTHER


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """All sections of one offer or answer, in order, and the session's bandwidth in bit/s."""

    sections: tuple[MediaSection, ...]
    bandwidth_bps: int | None = None
    bundle: tuple[str, ...] = ()


# --- meetings --------------------------------------------------------------------------------------


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
    "3x3", "4x4", "pip", "speaker+strip").
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
    untouched, so that all have it. `next_shown` are shown soon: their pictures are made ready.
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
    WEBRTC = "webrtc"


@dataclass(frozen=True, slots=True)
class ParticipantSpec:
    """Who joins: `name` is drawn under the picture, `network` says which addresses and ports serve."""

    participant_id: str
    conference_id: str
    name: str
    network: str
    budget: Budget
    site_id: str | None = None
    muted: bool = False


@dataclass(frozen=True, slots=True)
class LegReport:
    """One direction of one medium at one instant; rates in bit/s over the last second."""

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

    async def admit_stream(self, participant: ParticipantSpec, stream_id: str) -> None:
        """Take in a participant that is a stream of this node ("camera:ID"): seen and heard, sent nothing.

        Returns before the stream has come; the worker opens it again whenever it ends or fails, and its
        tile shows the name only meanwhile. `drop` lets it go.
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

    async def refresh_picture(self, participant_id: str) -> None:
        """The peer asked for a key frame by signalling (SIP INFO, H.245)."""
        ...

    async def drop(self, participant_id: str) -> None:
        """Free a participant's legs; unknown is no error."""
        ...

    async def report(self, conference_id: str) -> ConferenceReport: ...

    async def vitals(self) -> WorkerVitals: ...


# --- streams ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamRef:
    """Names a stream anywhere on this node: which process has it, its id there, its codec."""

    node: str
    worker: str
    id: str
    codec: str


# --- cameras ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """A camera as its worker must know it: where it is, how to sign in, whose it is."""

    camera_id: str
    site_id: str
    name: str
    url: str
    username: str | None = None
    password: str = field(default="", repr=False)
    udp: bool = False


@dataclass(frozen=True, slots=True)
class RtspAccount:
    """Who may play over RTSP: digest credentials (RFC 7616 3.4.2, MD5), the sites whose cameras it sees."""

    username: str
    ha1_md5: str = field(repr=False)
    sites: frozenset[str]


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """All cameras of the node, and who may play them over RTSP in its `realm`.

    Every worker gets the same, and pulls those whose home it is (`media.node_streams.home_worker`).
    """

    cameras: tuple[CameraSpec, ...] = ()
    accounts: tuple[RtspAccount, ...] = ()
    realm: str = ""


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """How a camera does. `state` as in stream_relay.camera_source; `fault` says who erred, "" for none."""

    camera_id: str
    state: str
    fault: str = ""
    cause: str = ""
    holders: int = 0
    codec: str = ""
    width: int = 0
    height: int = 0
    bitrate_bps: int = 0
    frame_rate: float = 0.0
    sound: str = ""
    frames: int = 0
    damaged: int = 0
    connections: int = 0


class CameraDesk(Protocol):
    """Cameras of a media worker. Methods raise `Refusal`."""

    async def set_plan(self, plan: CameraPlan) -> None:
        """Serve those of these cameras whose home is here; one whose settings are the same goes on
        undisturbed."""
        ...

    async def status(self) -> tuple[CameraStatus, ...]: ...

    async def snapshot(self, camera_id: str, width: int) -> bytes:
        """A JPEG of what the camera shows now, at most `width` pixels wide."""
        ...


# --- recordings and evidence -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordingOrder:
    """Record this, as long as the order stands. `kind` is "camera" or "conference"."""

    kind: str
    subject: str
    site_id: str

    @property
    def stream_id(self) -> str:
        """The name of its pictures' stream (`media.stream_source`); its sound's has "/sound" behind."""
        return f"programme:{self.subject}" if self.kind == "conference" else f"camera:{self.subject}"


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """All that is recorded, and the cameras whose last seconds are kept for clips (`preroll`)."""

    orders: tuple[RecordingOrder, ...] = ()
    preroll: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordingStatus:
    """How one order does: `state` "waiting" (for its stream), "recording" or "failed"; rates in bit/s."""

    kind: str
    subject: str
    state: str
    detail: str = ""
    since: float = 0.0
    files: int = 0
    bytes: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class RecorderReport:
    statuses: tuple[RecordingStatus, ...] = ()
    free_bytes: int = 0
    total_bytes: int = 0
    preroll: tuple[str, ...] = ()


class RecordingDesk(Protocol):
    """The recorder process."""

    async def set_plan(self, plan: RecordingPlan) -> None: ...

    async def report(self) -> RecorderReport: ...


# --- analytics -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A rule for one camera. `kind`: person-in-zone, loitering, black, frozen, blurred or stream-lost.

    `zone` is a polygon of points in 0..1 of the picture, empty for the whole of it. `parameters` are the
    kind's own (seconds, frames n of m, threshold); `schedule` is a list of {"days": [0..6], "from": "HH:MM",
    "to": "HH:MM"}, empty for always, in the node's time zone.
    """

    rule_id: str
    camera_id: str
    kind: str
    name: str
    zone: tuple[tuple[float, float], ...] = ()
    parameters: dict[str, float] = field(default_factory=dict)
    schedule: tuple[dict[str, str | list[int]], ...] = ()


@dataclass(frozen=True, slots=True)
class AnalysedCamera:
    """A camera that is looked at, with its rules."""

    camera_id: str
    site_id: str
    name: str
    rules: tuple[RuleSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class VisionPlan:
    cameras: tuple[AnalysedCamera, ...] = ()


@dataclass(frozen=True, slots=True)
class AnalysisStatus:
    """How one camera's analysis does. `state`: "waiting", "watching", "overloaded" or "failed"."""

    camera_id: str
    state: str
    detail: str = ""
    samples: int = 0
    inferences: int = 0
    wanted_rate: float = 0.0
    achieved_rate: float = 0.0
    last_sample_ago: float | None = None
    persons: int = 0


@dataclass(frozen=True, slots=True)
class VisionReport:
    """`model` is the name and digest of what detects; `load` the share of the inference threads in use."""

    cameras: tuple[AnalysisStatus, ...] = ()
    model: str = ""
    load: float = 0.0


class VisionDesk(Protocol):
    """The vision process."""

    async def set_plan(self, plan: VisionPlan) -> None: ...

    async def report(self) -> VisionReport: ...


# --- broadcast -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BroadcastSpec:
    """A live broadcast: `name` is its address below /live, `stream_id` what it shows.

    `delay` in seconds holds the picture back for everyone; `push_url` is an RTMP address to push to, "" for
    none.
    """

    name: str
    title: str
    stream_id: str
    delay: float = 0.0
    push_url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class BroadcastPlan:
    broadcasts: tuple[BroadcastSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class BroadcastStatus:
    """`state`: "waiting" (for its stream), "live" or "failed"; `push_state`: "", "connecting", "pushing",
    "waiting" (to try again)."""

    name: str
    state: str
    detail: str = ""
    viewers: int = 0
    sent_bytes: int = 0
    latency: float = 0.0
    push_state: str = ""
    push_detail: str = ""


class BroadcastDesk(Protocol):
    """The edge process."""

    async def set_plan(self, plan: BroadcastPlan) -> None:
        """Broadcast exactly these; one that is gone ends for its viewers at once."""
        ...

    async def report(self) -> tuple[BroadcastStatus, ...]: ...
