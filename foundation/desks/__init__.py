"""Every desk: what one domain may ask of another, and the descriptions that cross.

A desk is a Protocol; `assembly.py` binds it to an object of the same process or to the other end of
a private Unix socket (`desk_socket`). Only frozen dataclasses cross: descriptions, never sockets.
A refusal crosses as `Refusal`, with a kind that signalling maps to its own status codes.
"""

from foundation.desks.analytics import (
    AnalysedCamera,
    AnalysisStatus,
    RuleSpec,
    VisionDesk,
    VisionPlan,
    VisionReport,
)
from foundation.desks.broadcasts import BroadcastDesk, BroadcastPlan, BroadcastSpec, BroadcastStatus
from foundation.desks.cameras import CameraDesk, CameraPlan, CameraSpec, CameraStatus, RtspAccount
from foundation.desks.conferences import (
    Budget,
    ConferenceDesk,
    ConferenceReport,
    ConferenceSpec,
    Dialled,
    EncoderReport,
    HeldConference,
    LegReport,
    ParticipantSpec,
    Staging,
    View,
    ViewMode,
    WireReport,
    WorkerVitals,
)
from foundation.desks.media_description import (
    CodecDescription,
    CryptoKey,
    Direction,
    DtlsDescription,
    FloorDescription,
    IceDescription,
    MediaDescription,
    MediaSection,
    SectionKind,
)
from foundation.desks.recordings import (
    RecorderReport,
    RecordingDesk,
    RecordingOrder,
    RecordingPlan,
    RecordingStatus,
)
from foundation.desks.refusals import Refusal, RefusalKind
from foundation.desks.streams import StreamRef

__all__ = [
    "AnalysedCamera",
    "AnalysisStatus",
    "BroadcastDesk",
    "BroadcastPlan",
    "BroadcastSpec",
    "BroadcastStatus",
    "Budget",
    "CameraDesk",
    "CameraPlan",
    "CameraSpec",
    "CameraStatus",
    "CodecDescription",
    "ConferenceDesk",
    "ConferenceReport",
    "ConferenceSpec",
    "CryptoKey",
    "Dialled",
    "Direction",
    "DtlsDescription",
    "EncoderReport",
    "FloorDescription",
    "HeldConference",
    "IceDescription",
    "LegReport",
    "MediaDescription",
    "MediaSection",
    "ParticipantSpec",
    "RecorderReport",
    "RecordingDesk",
    "RecordingOrder",
    "RecordingPlan",
    "RecordingStatus",
    "Refusal",
    "RefusalKind",
    "RtspAccount",
    "RuleSpec",
    "SectionKind",
    "Staging",
    "StreamRef",
    "View",
    "ViewMode",
    "VisionDesk",
    "VisionPlan",
    "VisionReport",
    "WireReport",
    "WorkerVitals",
]
