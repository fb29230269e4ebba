"""Our BFCP as Wireshark reads it off the wire: none of our code decides what the messages say.

Its dissector knows version 1 of the header only, which BFCP over streams has. Of datagrams (version 2, RFC
8855 5.1) a copy with that number is dissected; all else in them is the same. Primitives from 15 on have an
early draft's names there, so numbers are compared.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from protocols.bfcp.attributes import AttributeType, Number, UnknownAttribute
from protocols.bfcp.message import Primitive
from signaling.control.orders import Command
from tests.peers.requirement import requires
from tests.peers.tshark import Capture
from tests.signaling.floors.bfcp_peer import BfcpPeer
from tests.signaling.floors.floor_stage import FLOOR, GROUP_STYLE, STREAM_STYLE, Stage

pytestmark = requires("tshark")

NAMES = (
    "primitive",
    "conference_id",
    "transaction_id",
    "user_id",
    "hdr_r_bit",
    "attribute_type",
    "floor_id",
    "floorrequest_id",
    "request_status",
    "beneficiary_id",
    "error_code",
    "error_specific_details",
    "error_info_text",
    "status_info_text",
    "supp_primitive",
    "supp_attr",
)
FAULTS = ("_ws.malformed", "bfcp.attribute_length.too_small", "_ws.expert.severity")
GRANTED, DENIED, RELEASED, REVOKED = "3", "4", "6", "7"


@pytest.fixture
def patience() -> float:
    """Seconds for the database: on a busy machine a request is not to be denied for its sake."""
    return 30.0


class Dissected(NamedTuple):
    """The fields of one message in the dissector's words, several of a kind with commas."""

    primitive: str
    conference_id: str
    transaction_id: str
    user_id: str
    hdr_r_bit: str
    attribute_type: str
    floor_id: str
    floorrequest_id: str
    request_status: str
    beneficiary_id: str
    error_code: str
    error_specific_details: str
    error_info_text: str
    status_info_text: str
    supp_primitive: str
    supp_attr: str


@pytest.mark.parametrize("reliable", [False, True], ids=["datagrams", "stream"])
async def test_wireshark_reads_what_we_mean(stage: Stage, tmp_path: Path, reliable: bool) -> None:
    style = STREAM_STYLE if reliable else GROUP_STYLE
    port = stage.listener.address.port(reliable)
    assert port is not None
    kind = "tcp" if reliable else "udp"
    async with Capture(tmp_path, f"{kind} port {port}") as wire:
        (first, one), (second, two) = await stage.terminal("one", style), await stage.terminal("two", style)
        asked = await conversation(stage, one, two)
        await wire.stop()
    rows = await wire.fields(f"{kind}.srcport == {port} && {kind}.payload", f"{kind}.payload")
    payloads = [bytes.fromhex(payload.replace(":", "")) for (payload,) in rows if payload]
    messages = [one for payload in payloads for one in split(payload)]
    assert {message[0] >> 5 for message in messages} == {1 if reliable else 2}
    assert first.floor is not None
    assert second.floor is not None
    users = {first.floor.user: one, second.floor.user: two}
    found = await dissected(tmp_path / "copy", messages)
    assert {row.conference_id for row in found} == {str(first.floor.conference)}
    assert {int(row.user_id) for row in found} == set(users)
    answers = {
        (users[int(row.user_id)], int(row.transaction_id)): row for row in found if is_answer(row, reliable)
    }
    judge({what: answers[key] for what, key in asked.items()}, first.floor.user, second.floor.user)
    announced = [row for row in found if not is_answer(row, reliable)]
    assert {row.primitive for row in announced} == {"4", "8"}
    assert [row.request_status for row in announced if row.primitive == "4"] == [REVOKED]
    if reliable:
        there = await streamed(wire, port)
        assert "12" in [primitive for primitive, *_ in there], there
        assert set(there) <= {(row.primitive, row.transaction_id, row.user_id) for row in found}


async def conversation(stage: Stage, one: BfcpPeer, two: BfcpPeer) -> dict[str, tuple[BfcpPeer, int]]:
    """Each kind of request; who asked it, and its transaction."""
    asked: dict[str, tuple[BfcpPeer, int]] = {}

    async def ask(
        what: str, peer: BfcpPeer, primitive: Primitive, *attributes: Number | UnknownAttribute
    ) -> None:
        message = await peer.ask(primitive, *attributes)
        asked[what] = (peer, message.transaction_id)

    await ask("hello", one, Primitive.HELLO)
    await ask("free", one, Primitive.FLOOR_QUERY, FLOOR)
    await ask("granted", one, Primitive.FLOOR_REQUEST, FLOOR)
    await ask("taken", two, Primitive.FLOOR_QUERY, FLOOR)
    await ask("granted to another", two, Primitive.FLOOR_REQUEST, FLOOR)
    await ask("user", two, Primitive.USER_QUERY)
    await ask("state", two, Primitive.FLOOR_REQUEST_QUERY, Number(AttributeType.FLOOR_REQUEST_ID, 2))
    await ask("released", two, Primitive.FLOOR_RELEASE, Number(AttributeType.FLOOR_REQUEST_ID, 2))
    await ask("no such floor", one, Primitive.FLOOR_REQUEST, Number(AttributeType.FLOOR_ID, 99))
    await ask("no such request", one, Primitive.FLOOR_RELEASE, Number(AttributeType.FLOOR_REQUEST_ID, 77))
    await ask("no chair", one, Primitive.CHAIR_ACTION)
    await ask("unknown attribute", one, Primitive.FLOOR_REQUEST, FLOOR, UnknownAttribute(60, True, b"\0\0"))
    await stage.house.give(Command.ALLOW_SLIDES, on=False)
    await ask("denied", one, Primitive.FLOOR_REQUEST, FLOOR)
    return asked


def judge(said: dict[str, Dissected], first: int, second: int) -> None:
    """Wireshark's words for each answer."""
    hello = said["hello"]
    assert hello.primitive == "12"
    assert {"1", "2", "3", "4", "7", "8", "11", "12", "13"} <= set(hello.supp_primitive.split(","))
    assert {"2", "3", "5", "6", "15", "17", "18"} <= set(hello.supp_attr.split(","))
    free, taken = said["free"], said["taken"]
    assert (free.primitive, free.attribute_type, free.floor_id, free.request_status) == ("8", "2", "1", "")
    assert (taken.primitive, taken.floor_id, taken.request_status) == ("8", "1,1", GRANTED)
    assert (taken.floorrequest_id, taken.beneficiary_id) == ("1,1", str(first))
    for what, request, state in (
        ("granted", "1", GRANTED),
        ("granted to another", "2", GRANTED),
        ("state", "2", GRANTED),
        ("released", "2", RELEASED),
    ):
        row = said[what]
        assert (row.primitive, row.attribute_type, row.floor_id) == ("4", "15,18,5,17", "1"), what
        assert (row.floorrequest_id, row.request_status) == (f"{request},{request}", state), what
    user = said["user"]
    assert (user.primitive, user.beneficiary_id, user.request_status) == ("6", str(second), GRANTED)
    denied = said["denied"]
    assert (denied.primitive, denied.request_status) == ("4", DENIED)
    assert denied.status_info_text
    for what, code in (
        ("no such floor", "6"),
        ("no such request", "7"),
        ("no chair", "5"),
        ("unknown attribute", "4"),
    ):
        assert (said[what].primitive, said[what].error_code) == ("13", code), what
    assert said["no chair"].error_info_text == "this meeting's chair acts by its own means"
    assert said["unknown attribute"].error_specific_details.replace(":", "") == "78"


def is_answer(row: Dissected, reliable: bool) -> bool:
    """Over a stream what a server says of itself has transaction 0 (RFC 8855 8), over datagrams no R flag."""
    return row.transaction_id != "0" if reliable else row.hdr_r_bit in ("1", "True")


def split(payload: bytes) -> list[bytes]:
    """The messages of a segment, by their length (RFC 8855 5.1); no code of ours."""
    found = []
    while payload:
        length = 12 + 4 * int.from_bytes(payload[2:4], "big")
        found.append(payload[:length])
        payload = payload[length:]
    return found


async def dissected(folder: Path, messages: list[bytes]) -> list[Dissected]:
    """One message a packet, with version 1 in its header."""
    copy = Capture(folder, "")
    folder.mkdir()
    copy.file.write_bytes(pcap([bytes((message[0] & 0x1F | 0x20,)) + message[1:] for message in messages]))
    names = [f"bfcp.{name}" for name in NAMES]
    rows = await copy.fields("udp", "frame.protocols", *FAULTS, *names, decode_as=["udp.port==5070,bfcp"])
    assert len(rows) == len(messages)
    for protocols, *fields in rows:
        assert protocols == "raw:ip:udp:bfcp", fields
        assert fields[: len(FAULTS)] == [""] * len(FAULTS), fields
    return [Dissected(*row[1 + len(FAULTS) :]) for row in rows]


async def streamed(wire: Capture, port: int) -> list[tuple[str, ...]]:
    """Primitive, transaction and user of the server's messages as they were on the wire, where one had a
    segment to itself: a second in it is not read, nor what the capture has out of order."""
    rule = [f"tcp.port=={port},bfcp"]
    header = ("bfcp.primitive", "bfcp.transaction_id", "bfcp.user_id", "bfcp.ver", "bfcp.payload_length")
    rows = await wire.fields(f"tcp.srcport=={port} && bfcp", *header, "tcp.len", *FAULTS, decode_as=rule)
    alone = [row for row in rows if int(row[5]) == 12 + 4 * int(row[4].partition(",")[0])]
    assert all(row[3] == "1" and not any(row[6:]) for row in alone), alone
    return [row[:3] for row in alone]


def pcap(datagrams: list[bytes]) -> bytes:
    """A capture of UDP packets from port 5070 (link type 101: bare IP)."""
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101)
    for data in datagrams:
        udp = struct.pack("!HHHH", 5070, 40_000, 8 + len(data), 0) + data
        home = bytes((127, 0, 0, 1))
        packet = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, home, home) + udp
        out += struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet
    return out
