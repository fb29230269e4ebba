"""Cameras in front of the journeys: gst-rtsp-server's, told to a node, watched by pages without a page."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
from playwright.async_api import Page

from tests.journeys.wire import RTP_HEADER, datagrams
from tests.peers.chromium import Chromium
from tests.peers.gst_camera import gst_camera
from tests.peers.node import Node
from tests.peers.ports import PortBlock
from tests.peers.tshark import Capture

WATCH = Path(__file__).with_name("whep.js").read_text()
WATCHED = "video#watch"
SLICE, IDR = 1, 5


@asynccontextmanager
async def camera(
    node: Node, folder: Path, launch: str, *, camera_id: str, site: str, name: str = "", **more: Any
) -> AsyncIterator[str]:
    """A camera that runs and is told to the node until the block is left; its address."""
    manager = await node.user("system-admin")
    with PortBlock() as ports:
        port = ports.take()
        async with gst_camera(folder, port, launch, name=f"camera-{camera_id}"):
            url = f"rtsp://127.0.0.1:{port}/camera"
            told = {"id": camera_id, "site_id": site, "name": name or camera_id, "url": url, **more}
            await manager.post("/cameras", told)
            try:
                yield url
            finally:
                await manager.delete(f"/cameras/{camera_id}")


async def watch(
    node: Node, browser: Chromium, camera_id: str, user: str = "monitor"
) -> tuple[Page, dict[str, Any]]:
    """A page of the node's origin that watches a camera, and what it was answered."""
    api = await node.user(user)
    page = await browser.open(f"{node.url}/api/v1/health")
    token = api.headers["Authorization"].removeprefix("Bearer ")
    answer: dict[str, Any] = await page.evaluate(WATCH, [f"/api/v1/streams/camera:{camera_id}/whep", token])
    return page, answer


def slices(access_unit: bytes) -> list[str]:
    """Digests of the coded slices of one access unit in a byte stream (H.264 B.1)."""
    units = access_unit.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [_digest(unit) for unit in units if unit and unit[0] & 0x1F in (SLICE, IDR)]


def sent_slices(url: str, seconds: float) -> list[str]:
    """What the camera sends to another player of the same encoder."""
    found: list[str] = []
    with av.open(url, options={"rtsp_transport": "tcp"}) as player:
        began: float | None = None
        for packet in player.demux(player.streams.video[0]):
            if packet.pts is None:
                continue
            at = float(packet.pts * packet.time_base)
            began = at if began is None else began
            found += slices(bytes(packet))
            if at - began > seconds:
                break
    return found


async def forwarded_slices(capture: Capture, display_filter: str) -> list[str]:
    """Digests of the coded slices that passed in RTP, in order, less the first and the last, maybe cut."""
    rows = await capture.fields(f"({display_filter}) && udp", "udp.payload")
    packets = [one for (payload,) in rows for one in datagrams(bytes.fromhex(payload.replace(":", "")))]
    units: list[bytes] = []
    for payload in (packet[RTP_HEADER:] for packet in packets):
        kind = payload[0] & 0x1F
        if kind == 28:  # FU-A, RFC 6184 5.8
            if payload[1] & 0x80:
                units.append(bytes([payload[0] & 0xE0 | payload[1] & 0x1F]))
            if units:
                units[-1] += payload[2:]
        elif kind == 24:  # STAP-A, RFC 6184 5.7.1
            at = 1
            while at < len(payload):
                size = int.from_bytes(payload[at : at + 2], "big")
                units.append(payload[at + 2 : at + 2 + size])
                at += 2 + size
        else:
            units.append(payload)
    coded = [unit for unit in units if unit and unit[0] & 0x1F in (SLICE, IDR)]
    return [_digest(unit) for unit in coded[1:-1]]


def _digest(unit: bytes) -> str:
    return hashlib.sha256(unit.rstrip(b"\0")).hexdigest()
