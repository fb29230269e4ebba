"""Cameras: what a media worker is told of them, and its desk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


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
