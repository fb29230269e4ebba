"""RTMP messages and the chunks that carry them (RTMP 1.0, 5.3 and 5.4).

chunked(message, chunk_stream, chunk_size) -> bytes
reader = ChunkReader();  reader.feed(data) -> [messages]        MalformedRtmp
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from protocols.rtmp.amf import MalformedRtmp

AUDIO, VIDEO, DATA = 8, 9, 18
SET_CHUNK_SIZE, ABORT, ACKNOWLEDGE, USER_CONTROL, WINDOW, BANDWIDTH, COMMAND = 1, 2, 3, 4, 5, 6, 20
"""Message types (5.4, 7.1)."""
_CHUNK_LIMIT, _MESSAGE_LIMIT = 16 << 20, 8 << 20
_EXTENDED = 0xFFFFFF


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `timestamp` in milliseconds, which wraps at 2^32."""

    type: int
    stream: int
    timestamp: int
    body: bytes


def chunked(message: Message, chunk_stream: int, chunk_size: int) -> bytes:
    """A message as chunks with a whole header (type 0) and continuations (type 3)."""
    timestamp = message.timestamp & 0xFFFFFFFF
    extended = struct.pack("!I", timestamp) if timestamp >= _EXTENDED else b""
    head = bytes([chunk_stream]) + min(timestamp, _EXTENDED).to_bytes(3, "big")
    head += len(message.body).to_bytes(3, "big") + bytes([message.type]) + struct.pack("<I", message.stream)
    parts = [head, extended, message.body[:chunk_size]]
    for at in range(chunk_size, len(message.body), chunk_size):
        parts += [bytes([0xC0 | chunk_stream]), extended, message.body[at : at + chunk_size]]
    return b"".join(parts)


@dataclass(slots=True)
class _Lane:
    """What is remembered of one chunk stream."""

    type: int = 0
    stream: int = 0
    timestamp: int = 0
    delta: int = 0
    length: int = 0
    extended: bool = False
    body: bytearray = field(default_factory=bytearray)


class ChunkReader:
    """Bytes, however split, to messages. Raises MalformedRtmp."""

    def __init__(self) -> None:
        self.chunk_size = 128
        self._data = bytearray()
        self._lanes: dict[int, _Lane] = {}

    def feed(self, data: bytes) -> list[Message]:
        self._data += data
        found: list[Message] = []
        at = 0
        while (step := self._chunk(at)) is not None:
            at, message = step
            if message is not None:
                found.append(message)
                self._obey(message)
        del self._data[:at]
        return found

    def _obey(self, message: Message) -> None:
        if message.type == SET_CHUNK_SIZE and len(message.body) >= 4:
            size = int.from_bytes(message.body[:4], "big") & 0x7FFFFFFF
            if not 1 <= size <= _CHUNK_LIMIT:
                raise MalformedRtmp(f"the server asks for chunks of {size} bytes")
            self.chunk_size = size
        elif message.type == ABORT and len(message.body) >= 4:
            lane = self._lanes.get(int.from_bytes(message.body[:4], "big"))
            if lane is not None:
                lane.body.clear()

    def _chunk(self, at: int) -> tuple[int, Message | None] | None:
        """The place behind the chunk at `at` and the message that it completes; None when more must come."""
        data, end = self._data, len(self._data)
        if at >= end:
            return None
        form, number = data[at] >> 6, data[at] & 63
        at += 1
        if number < 2:
            wide = 1 + number
            if end < at + wide:
                return None
            number = 64 + int.from_bytes(data[at : at + wide], "little")
            at += wide
        size = (11, 7, 3, 0)[form]
        if end < at + size:
            return None
        lane = self._lanes.setdefault(number, _Lane())
        if len(self._lanes) > 256:
            raise MalformedRtmp("the server opens more chunk streams than anybody needs")
        header = bytes(data[at : at + size])
        at += size
        field_value = int.from_bytes(header[:3], "big") if form < 3 else 0
        extended = field_value == _EXTENDED if form < 3 else lane.extended
        if extended:
            if end < at + 4:
                return None
            field_value = int.from_bytes(data[at : at + 4], "big")
            at += 4
        length = int.from_bytes(header[3:6], "big") if form < 2 else lane.length
        if length > _MESSAGE_LIMIT:
            raise MalformedRtmp(f"the server sends a message of {length} bytes")
        taken = min(length - len(lane.body) if form == 3 else length, self.chunk_size)
        if end < at + taken:
            return None
        self._remember(lane, form, header, field_value, extended, length)
        lane.body += data[at : at + taken]
        at += taken
        if len(lane.body) < lane.length:
            return at, None
        message = Message(lane.type, lane.stream, lane.timestamp, bytes(lane.body))
        lane.body.clear()
        return at, message

    @staticmethod
    def _remember(lane: _Lane, form: int, header: bytes, time: int, extended: bool, length: int) -> None:
        if form == 3:
            if not lane.body:  # a message of its own, like the last
                lane.timestamp = (lane.timestamp + lane.delta) & 0xFFFFFFFF
            return
        lane.body.clear()
        lane.extended = extended
        if form == 0:
            lane.timestamp, lane.delta = time, 0
            lane.stream = int.from_bytes(header[7:11], "little")
        else:
            lane.delta = time
            lane.timestamp = (lane.timestamp + time) & 0xFFFFFFFF
        if form < 2:
            lane.length, lane.type = length, header[6]


# --- a client's session (7.2) -------------------------------------------------------------------------
