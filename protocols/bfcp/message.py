"""A BFCP message (RFC 8855 5): common header and attributes.

message = parse(data)                       one whole message; raises MalformedBfcp
message.print(reliable=False) -> bytes      version 1 over streams, over datagrams that of the message
framer.feed(data) -> list[bytes]            whole messages of a byte stream
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

from protocols.bfcp.attributes import (
    Attribute,
    AttributeType,
    Group,
    MalformedBfcp,
    Number,
    Text,
    UnknownAttribute,
    parse_attributes,
    print_attributes,
)

HEADER = struct.Struct("!BBHIHH")
FRAGMENT = struct.Struct("!HH")
OVER_STREAMS, OVER_DATAGRAMS = 1, 2
TAKEN_OVER_DATAGRAMS = (OVER_STREAMS, OVER_DATAGRAMS)
"""Terminals of before RFC 8855 have version 1 over datagrams, too."""
_RESPONDER, FRAGMENTED = 0x10, 0x08
_AttributeT = TypeVar("_AttributeT", bound=Attribute)


class Primitive(IntEnum):
    """RFC 8855 table 1."""

    FLOOR_REQUEST = 1
    FLOOR_RELEASE = 2
    FLOOR_REQUEST_QUERY = 3
    FLOOR_REQUEST_STATUS = 4
    USER_QUERY = 5
    USER_STATUS = 6
    FLOOR_QUERY = 7
    FLOOR_STATUS = 8
    CHAIR_ACTION = 9
    CHAIR_ACTION_ACK = 10
    HELLO = 11
    HELLO_ACK = 12
    ERROR = 13
    FLOOR_REQUEST_STATUS_ACK = 14
    FLOOR_STATUS_ACK = 15
    GOODBYE = 16
    GOODBYE_ACK = 17


@dataclass(frozen=True, slots=True)
class Fragment:
    """Where a part of a large message belongs, in units of four bytes (5.1)."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Message:
    """`primitive` is a number, since a message may have one we do not know. `responder` is the R flag."""

    primitive: int
    conference_id: int
    transaction_id: int
    user_id: int
    attributes: tuple[Attribute, ...] = ()
    responder: bool = False
    version: int = OVER_DATAGRAMS
    fragment: Fragment | None = None
    payload: bytes = field(default=b"", repr=False)
    """Of a fragment only: its part of the attributes."""

    def print(self, *, reliable: bool = False) -> bytes:
        payload = self.payload if self.fragment is not None else print_attributes(self.attributes)
        version = OVER_STREAMS if reliable else self.version
        first = version << 5
        if version != OVER_STREAMS:  # there these bits are reserved (RFC 4582 5.1)
            first |= (_RESPONDER if self.responder else 0) | (FRAGMENTED if self.fragment is not None else 0)
        words = len(payload) // 4
        head = HEADER.pack(
            first, self.primitive, words, self.conference_id, self.transaction_id, self.user_id
        )
        if self.fragment is not None:
            head += FRAGMENT.pack(self.fragment.offset, self.fragment.length)
        return head + payload

    def number(self, type: AttributeType) -> int | None:
        """The first id of this type."""
        for attribute in self.attributes:
            if isinstance(attribute, Number | Group) and attribute.type is type:
                return attribute.value if isinstance(attribute, Number) else attribute.id
        return None

    def numbers(self, type: AttributeType) -> tuple[int, ...]:
        return tuple(one.value for one in self.attributes if isinstance(one, Number) and one.type is type)

    def text(self, type: AttributeType) -> str | None:
        for attribute in self.attributes:
            if isinstance(attribute, Text) and attribute.type is type:
                return attribute.value
        return None

    def first(self, kind: type[_AttributeT]) -> _AttributeT | None:
        return next((one for one in self.attributes if isinstance(one, kind)), None)

    @property
    def unknown_mandatory(self) -> tuple[int, ...]:
        """Types that must not be ignored and are not known (5.2)."""
        return tuple(
            one.type for one in self.attributes if isinstance(one, UnknownAttribute) and one.mandatory
        )


@dataclass(frozen=True, slots=True)
class Header:
    """The common header alone: enough to answer a message that cannot be read."""

    version: int
    primitive: int
    payload_bytes: int
    conference_id: int
    transaction_id: int
    user_id: int
    responder: bool
    fragmented: bool

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Raises MalformedBfcp for fewer than 12 bytes."""
        if len(data) < HEADER.size:
            raise MalformedBfcp(f"a message of {len(data)} bytes has no whole header")
        first, primitive, words, conference, transaction, user = HEADER.unpack_from(data)
        return cls(
            first >> 5,
            primitive,
            4 * words,
            conference,
            transaction,
            user,
            bool(first & _RESPONDER),
            bool(first & FRAGMENTED),
        )


def parse(data: bytes) -> Message:
    """One whole message. Raises MalformedBfcp."""
    header = Header.parse(data)
    rest = data[HEADER.size :]
    fragment = None
    if header.fragmented and header.version == OVER_DATAGRAMS:
        if len(rest) < FRAGMENT.size:
            raise MalformedBfcp("a fragment without offset and length")
        fragment = Fragment(*FRAGMENT.unpack_from(rest))
        rest = rest[FRAGMENT.size :]
    wanted = 4 * fragment.length if fragment is not None else header.payload_bytes
    if len(rest) != wanted:
        raise MalformedBfcp(f"the payload has {len(rest)} bytes, its header says {wanted}")
    return Message(
        header.primitive,
        header.conference_id,
        header.transaction_id,
        header.user_id,
        () if fragment is not None else parse_attributes(rest),
        header.responder,
        header.version,
        fragment,
        rest if fragment is not None else b"",
    )


class StreamFramer:
    """Cuts a byte stream (TCP, TLS) into messages by their length (5.1). Longer ones than `limit` raise."""

    def __init__(self, limit: int = 65_536) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The whole messages that are there now. Raises MalformedBfcp."""
        self._buffer += data
        whole: list[bytes] = []
        while len(self._buffer) >= HEADER.size:
            length = HEADER.size + 4 * int.from_bytes(self._buffer[2:4], "big")
            if length > self._limit:
                raise MalformedBfcp(f"a message of {length} bytes, at most {self._limit} are taken")
            if len(self._buffer) < length:
                break
            whole.append(bytes(self._buffer[:length]))
            del self._buffer[:length]
        return whole
