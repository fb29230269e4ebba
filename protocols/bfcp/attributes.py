"""BFCP attributes (RFC 8855 5.2): frozen values that parse and print themselves.

    attributes = parse_attributes(payload)          raises MalformedBfcp
    print_attributes(attributes) -> bytes           each padded to four bytes

An attribute of an unknown type is kept as `UnknownAttribute`: whether it may be ignored is its M bit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

_U16 = struct.Struct("!H")
LONGEST = 255
"""Bytes of one attribute with its header: its length is one byte."""
DEEPEST = 4
"""Grouped attributes inside one another; the standard nests three."""


class MalformedBfcp(ValueError):
    """Bytes that are no BFCP."""


class AttributeType(IntEnum):
    """RFC 8855 table 2."""

    BENEFICIARY_ID = 1
    FLOOR_ID = 2
    FLOOR_REQUEST_ID = 3
    PRIORITY = 4
    REQUEST_STATUS = 5
    ERROR_CODE = 6
    ERROR_INFO = 7
    PARTICIPANT_PROVIDED_INFO = 8
    STATUS_INFO = 9
    SUPPORTED_ATTRIBUTES = 10
    SUPPORTED_PRIMITIVES = 11
    USER_DISPLAY_NAME = 12
    USER_URI = 13
    BENEFICIARY_INFORMATION = 14
    FLOOR_REQUEST_INFORMATION = 15
    REQUESTED_BY_INFORMATION = 16
    FLOOR_REQUEST_STATUS = 17
    OVERALL_REQUEST_STATUS = 18


class RequestState(IntEnum):
    """RFC 8855 table 4."""

    PENDING = 1
    ACCEPTED = 2
    GRANTED = 3
    DENIED = 4
    CANCELLED = 5
    RELEASED = 6
    REVOKED = 7


class ErrorReason(IntEnum):
    """RFC 8855 table 5."""

    CONFERENCE_DOES_NOT_EXIST = 1
    USER_DOES_NOT_EXIST = 2
    UNKNOWN_PRIMITIVE = 3
    UNKNOWN_MANDATORY_ATTRIBUTE = 4
    UNAUTHORIZED_OPERATION = 5
    INVALID_FLOOR_ID = 6
    FLOOR_REQUEST_ID_DOES_NOT_EXIST = 7
    TOO_MANY_FLOOR_REQUESTS = 8
    USE_TLS = 9
    UNABLE_TO_PARSE_MESSAGE = 10
    USE_DTLS = 11
    UNSUPPORTED_VERSION = 12
    INCORRECT_MESSAGE_LENGTH = 13
    GENERIC_ERROR = 14


@dataclass(frozen=True, slots=True)
class Number:
    """An attribute that is one 16-bit id: BENEFICIARY-ID, FLOOR-ID, FLOOR-REQUEST-ID (5.2.1 to 5.2.3)."""

    type: AttributeType
    value: int

    def contents(self) -> bytes:
        return _U16.pack(self.value)


@dataclass(frozen=True, slots=True)
class Priority:
    """5.2.4: 0 is the lowest, 4 the highest; higher ones are read as 4."""

    value: int = 2
    type: AttributeType = AttributeType.PRIORITY

    def contents(self) -> bytes:
        return bytes((self.value << 5, 0))


@dataclass(frozen=True, slots=True)
class RequestStatus:
    """5.2.5; `queue_position` 0 says nothing of a queue. A state we do not know is kept as its number."""

    state: int
    queue_position: int = 0
    type: AttributeType = AttributeType.REQUEST_STATUS

    def contents(self) -> bytes:
        return bytes((self.state, self.queue_position))


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """5.2.6; `details` are the types of the unknown mandatory attributes."""

    reason: int
    details: bytes = b""
    type: AttributeType = AttributeType.ERROR_CODE

    @classmethod
    def unknown_attributes(cls, types: Iterable[int]) -> ErrorCode:
        details = bytes(number << 1 for number in types)
        return cls(ErrorReason.UNKNOWN_MANDATORY_ATTRIBUTE, details)

    def contents(self) -> bytes:
        return bytes((self.reason,)) + self.details


@dataclass(frozen=True, slots=True)
class Text:
    """ERROR-INFO, PARTICIPANT-PROVIDED-INFO, STATUS-INFO, USER-DISPLAY-NAME, USER-URI: UTF-8."""

    type: AttributeType
    value: str

    def contents(self) -> bytes:
        """Cut at a whole character where it is too long for an attribute."""
        return self.value.encode()[: LONGEST - 2].decode(errors="ignore").encode()


@dataclass(frozen=True, slots=True)
class Supported:
    """SUPPORTED-ATTRIBUTES or SUPPORTED-PRIMITIVES (5.2.10, 5.2.11)."""

    type: AttributeType
    values: tuple[int, ...]

    def contents(self) -> bytes:
        shift = self.type is AttributeType.SUPPORTED_ATTRIBUTES
        return bytes(value << shift for value in self.values)


@dataclass(frozen=True, slots=True)
class Group:
    """A grouped attribute: an id and attributes (5.2.14 to 5.2.18)."""

    type: AttributeType
    id: int
    attributes: tuple[Attribute, ...] = ()

    def contents(self) -> bytes:
        return _U16.pack(self.id) + print_attributes(self.attributes)


@dataclass(frozen=True, slots=True)
class UnknownAttribute:
    """Of no type we know; `mandatory` must not be ignored (5.2)."""

    type: int
    mandatory: bool
    value: bytes

    def contents(self) -> bytes:
        return self.value


Attribute: TypeAlias = (
    Number | Priority | RequestStatus | ErrorCode | Text | Supported | Group | UnknownAttribute
)

NUMBERS = frozenset({AttributeType.BENEFICIARY_ID, AttributeType.FLOOR_ID, AttributeType.FLOOR_REQUEST_ID})
TEXTS = frozenset(
    {
        AttributeType.ERROR_INFO,
        AttributeType.PARTICIPANT_PROVIDED_INFO,
        AttributeType.STATUS_INFO,
        AttributeType.USER_DISPLAY_NAME,
        AttributeType.USER_URI,
    }
)
GROUPS = frozenset(
    {
        AttributeType.BENEFICIARY_INFORMATION,
        AttributeType.FLOOR_REQUEST_INFORMATION,
        AttributeType.REQUESTED_BY_INFORMATION,
        AttributeType.FLOOR_REQUEST_STATUS,
        AttributeType.OVERALL_REQUEST_STATUS,
    }
)


def parse_attributes(data: bytes, depth: int = 0) -> tuple[Attribute, ...]:
    """All attributes of a payload or group. Raises MalformedBfcp."""
    if depth > DEEPEST:
        raise MalformedBfcp(f"attributes are nested more than {DEEPEST} deep")
    found: list[Attribute] = []
    at = 0
    while at < len(data):
        if len(data) - at < 2:
            raise MalformedBfcp("an attribute's header is cut off")
        type_, mandatory, length = data[at] >> 1, bool(data[at] & 1), data[at + 1]
        if length < 2 or at + length > len(data):
            raise MalformedBfcp(f"attribute {type_} says it has {length} bytes, {len(data) - at} are there")
        found.append(_attribute(type_, mandatory, data[at + 2 : at + length], depth))
        at += (length + 3) // 4 * 4
    return tuple(found)


def print_attributes(attributes: Iterable[Attribute]) -> bytes:
    """Raises ValueError for a group that does not fit into its length byte."""
    printed = bytearray()
    for attribute in attributes:
        contents = attribute.contents()
        if len(contents) + 2 > LONGEST:
            raise ValueError(f"attribute {attribute.type} of {len(contents)} bytes does not fit")
        mandatory = attribute.mandatory if isinstance(attribute, UnknownAttribute) else True
        printed += bytes((attribute.type << 1 | mandatory, len(contents) + 2)) + contents
        printed += bytes(-len(printed) % 4)
    return bytes(printed)


def _attribute(type_: int, mandatory: bool, value: bytes, depth: int) -> Attribute:
    try:
        known = AttributeType(type_)
    except ValueError:
        return UnknownAttribute(type_, mandatory, value)
    if known in TEXTS:
        return Text(known, value.decode(errors="replace"))
    if known in NUMBERS:
        return Number(known, _u16(known, value))
    if known in GROUPS:
        return Group(known, _u16(known, value), parse_attributes(value[2:], depth + 1))
    match known:
        case AttributeType.PRIORITY:
            return Priority(min(_u16(known, value) >> 13, 4))
        case AttributeType.REQUEST_STATUS:
            both = _u16(known, value)
            return RequestStatus(both >> 8, both & 0xFF)
        case AttributeType.ERROR_CODE:
            if not value:
                raise MalformedBfcp("ERROR-CODE is empty")
            return ErrorCode(value[0], value[1:])
        case AttributeType.SUPPORTED_ATTRIBUTES:
            return Supported(known, tuple(byte >> 1 for byte in value))
    return Supported(known, tuple(value))


def _u16(type_: AttributeType, value: bytes) -> int:
    if len(value) < 2:
        raise MalformedBfcp(f"{type_.name} has {len(value)} bytes where two are needed")
    number: int = _U16.unpack_from(value)[0]
    return number
