"""Coded pictures as they were on the wire: RTP out of a capture, put together without any code of ours."""

import hashlib
import re
from dataclasses import dataclass

from tests.peers.baresip import Baresip
from tests.peers.tshark import IP_UDP, Capture

RTP_HEADER = 12
STAP_A, FU_A = 24, 28
FULL_PAYLOAD = 1212
"""Bytes of UDP payload in a full picture packet of ours, which is the size that offload merges by."""
STEP = 0.1


@dataclass(frozen=True, slots=True)
class Frame:
    """One access unit: its RTP timestamp, the SHA-256 of its NAL units, how many bytes they have."""

    timestamp: int
    digest: str
    size: int


def answer_to(room: Baresip) -> str:
    """The SIP answer (and what came after) that its latest call got, out of its log."""
    said = (room.folder / "baresip.log").read_text(errors="replace")
    return [part for part in said.split("SIP/2.0 200")[1:] if "\nm=" in part][-1]


def node_port(room: Baresip, medium: str) -> int:
    """The port of the node for a medium of this room's latest call."""
    found = re.search(rf"^m={medium} (\d+) ", answer_to(room), re.MULTILINE)
    assert found is not None, answer_to(room)
    return int(found[1])


async def frames(capture: Capture, display_filter: str) -> list[Frame]:
    """The whole H.264 access units that passed, in order, less the first and the last, which may be cut."""
    rows = await capture.fields(f"({display_filter}) && udp", "udp.payload")
    packets = [one for (payload,) in rows for one in datagrams(bytes.fromhex(payload.replace(":", "")))]
    units: dict[int, list[bytes]] = {}
    for packet in packets:
        assert packet[0] == 0x80, "an RTP packet of version 2, without padding, extension and sources"
        _add(units.setdefault(int.from_bytes(packet[4:8], "big"), []), packet[RTP_HEADER:])
    # A NAL unit never ends with a zero byte (H.264 7.4.1): one that baresip sends is of the start code after.
    whole = [(t, b"\0\0\0\1".join(u.rstrip(b"\0") for u in parts)) for t, parts in units.items()]
    return [Frame(time, hashlib.sha256(data).hexdigest(), len(data)) for time, data in whole[1:-1]]


def datagrams(payload: bytes) -> list[bytes]:
    """The RTP packets of one captured one: segmentation offload shows several of equal size as one."""
    sequence, source = int.from_bytes(payload[2:4], "big"), payload[8:12]
    for size in range(RTP_HEADER + 1, len(payload)):
        following = ((sequence + 1) & 0xFFFF).to_bytes(2, "big")
        found = payload[size : size + 1], payload[size + 2 : size + 4], payload[size + 8 : size + 12]
        if found == (b"\x80", following, source):
            return [payload[at : at + size] for at in range(0, len(payload), size)]
    return [payload]


async def rates(capture: Capture, display_filter: str, start: float, end: float) -> list[int]:
    """Bit/s of IP packets in every window of one second between two wall-clock times, each STEP later."""
    rows = await capture.fields(f"({display_filter}) && udp", "frame.time_epoch", "ip.len", "udp.length")
    packets = [(float(when), _ip_bytes(int(size), int(datagram) - 8)) for when, size, datagram in rows]
    count = int((end - start - 1) / STEP) + 1
    begins = [start + STEP * number for number in range(count)]
    return [8 * sum(size for when, size in packets if begin <= when < begin + 1) for begin in begins]


def _ip_bytes(captured: int, payload: int) -> int:
    """With the headers of every datagram that offload shows as one."""
    return captured + IP_UDP * (max(1, -(-payload // FULL_PAYLOAD)) - 1)


def _add(units: list[bytes], payload: bytes) -> None:
    """RFC 6184 5.6 to 5.8."""
    kind = payload[0] & 0x1F
    if kind == STAP_A:
        at = 1
        while at < len(payload):
            size = int.from_bytes(payload[at : at + 2], "big")
            units.append(payload[at + 2 : at + 2 + size])
            at += 2 + size
    elif kind == FU_A:
        if payload[1] & 0x80:
            units.append(bytes([payload[0] & 0xE0 | payload[1] & 0x1F]))
        if units:  # else the capture began inside the unit
            units[-1] += payload[2:]
    else:
        units.append(payload)
