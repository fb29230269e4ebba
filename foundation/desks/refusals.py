"""How a desk says no."""

from __future__ import annotations

from enum import StrEnum


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
    UNKNOWN_ANNOUNCEMENT = "unknown-announcement"


class Refusal(Exception):
    """A desk does not do what was asked; `detail` says who erred, in words for an operator."""

    def __init__(self, kind: RefusalKind, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
