"""STUN messages (RFC 8489) with the ICE attributes (RFC 8445 16.1): bytes <-> `StunMessage`, no I/O.

    message = StunMessage.parse(datagram)            # StunError says what is wrong
    message.authenticated_by(b"password")            # MESSAGE-INTEGRITY (HMAC-SHA1), over the bytes as sent
    StunMessage(BINDING, StunClass.SUCCESS, message.transaction_id, (XorMappedAddress("192.0.2.1", 4000),))
        .to_bytes(key=b"password")                   # MESSAGE-INTEGRITY, then FINGERPRINT

Attributes are frozen dataclasses. What we do not know is kept as `UnknownAttribute`, so that a request with
a comprehension-required one (type < 0x8000) can be answered by 420. Attributes after MESSAGE-INTEGRITY,
FINGERPRINT excepted, are ignored (RFC 8489 14.5). A FINGERPRINT, when present, must be right.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Protocol, TypeVar

MAGIC_COOKIE = 0x2112A442
HEADER_LENGTH = 20
BINDING = 0x001

_COOKIE_BYTES = MAGIC_COOKIE.to_bytes(4, "big")
_FINGERPRINT_XOR = 0x5354554E
_MESSAGE_INTEGRITY = 0x0008
_FINGERPRINT = 0x8028
_INTEGRITY_LENGTH = 24  # attribute header and HMAC-SHA1
_FINGERPRINT_LENGTH = 8
_MAX_MESSAGE_LENGTH = 0xFFFC


class StunError(ValueError):
    """The sender's bytes are not a STUN message; the text says which part."""


class StunClass(IntEnum):
    """RFC 8489 5: the two class bits."""

    REQUEST = 0b00
    INDICATION = 0b01
    SUCCESS = 0b10
    ERROR = 0b11


class StunAttribute(Protocol):
    """What every attribute can do: print its value; `transaction_id` is for the XOR of addresses."""

    @property
    def type(self) -> int: ...

    def value_bytes(self, transaction_id: bytes) -> bytes: ...


def _exactly(name: str, value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise StunError(f"{name} must have {length} bytes, the sender gave {len(value)}")
    return value


@dataclass(frozen=True, slots=True)
class UnknownAttribute:
    """An attribute we do not interpret, kept as it came."""

    type: int
    value: bytes

    @property
    def comprehension_required(self) -> bool:
        return self.type < 0x8000

    def value_bytes(self, transaction_id: bytes) -> bytes:
        return self.value


@dataclass(frozen=True, slots=True)
class Username:
    """RFC 8489 14.3; in ICE "receiver's ufrag:sender's ufrag" (RFC 8445 7.2.2)."""

    type: ClassVar[int] = 0x0006
    name: str

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Username:
        if len(value) > 512:
            raise StunError("USERNAME is longer than 512 bytes")
        try:
            return cls(value.decode())
        except UnicodeDecodeError:
            raise StunError("USERNAME is not UTF-8") from None

    def value_bytes(self, transaction_id: bytes) -> bytes:
        return self.name.encode()


@dataclass(frozen=True, slots=True)
class Software:
    """RFC 8489 14.14: who made the sender; only for people's eyes."""

    type: ClassVar[int] = 0x8022
    description: str

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Software:
        return cls(value.decode(errors="replace"))

    def value_bytes(self, transaction_id: bytes) -> bytes:
        return self.description.encode()


def _parse_address(name: str, value: bytes, mask: bytes) -> tuple[str, int]:
    if len(value) < 4:
        raise StunError(f"{name} is cut short")
    family = value[1]
    length = {1: 4, 2: 16}.get(family)
    if length is None:
        raise StunError(f"{name} has the unknown address family {family}")
    _exactly(name, value, 4 + length)
    clear = bytes(a ^ b for a, b in zip(value[2:], mask[:2] + mask[:length], strict=True))
    return str(ipaddress.ip_address(clear[2:])), int.from_bytes(clear[:2], "big")


def _print_address(host: str, port: int, mask: bytes) -> bytes:
    address = ipaddress.ip_address(host)
    clear = port.to_bytes(2, "big") + address.packed
    masked = bytes(a ^ b for a, b in zip(clear, mask[:2] + mask[: len(address.packed)], strict=True))
    return bytes((0, 1 if address.version == 4 else 2)) + masked


@dataclass(frozen=True, slots=True)
class XorMappedAddress:
    """RFC 8489 14.2: the address the request came from."""

    type: ClassVar[int] = 0x0020
    host: str
    port: int

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> XorMappedAddress:
        return cls(*_parse_address("XOR-MAPPED-ADDRESS", value, _COOKIE_BYTES + transaction_id))

    def value_bytes(self, transaction_id: bytes) -> bytes:
        return _print_address(self.host, self.port, _COOKIE_BYTES + transaction_id)


@dataclass(frozen=True, slots=True)
class MappedAddress:
    """RFC 8489 14.1: the same unmasked, from servers of RFC 3489's time."""

    type: ClassVar[int] = 0x0001
    host: str
    port: int

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> MappedAddress:
        return cls(*_parse_address("MAPPED-ADDRESS", value, bytes(16)))

    def value_bytes(self, transaction_id: bytes) -> bytes:
        return _print_address(self.host, self.port, bytes(16))


@dataclass(frozen=True, slots=True)
class Priority:
    """RFC 8445 16.1: priority of the peer-reflexive candidate this check may reveal."""

    type: ClassVar[int] = 0x0024
    priority: int

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> Priority:
        return cls(int.from_bytes(_exactly("PRIORITY", value, 4), "big"))

    def value_bytes(self, transaction_id: bytes) -> bytes:
        return self.priority.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class UseCandidate:
    """RFC 8445 16.1: the controlling agent nominates this pair."""

    type: ClassVar[int] = 0x0025

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> UseCandidate:
        _exactly("USE-CANDIDATE", value, 0)
        return cls()

    def value_bytes(self, transaction_id: bytes) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class IceControlled:
    """RFC 8445 16.1: the sender believes itself controlled; 64-bit tie-breaker."""

    type: ClassVar[int] = 0x8029
    tie_breaker: int

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> IceControlled:
        return cls(int.from_bytes(_exactly("ICE-CONTROLLED", value, 8), "big"))

    def value_bytes(self, transaction_id: bytes) -> bytes:
        return self.tie_breaker.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class IceControlling:
    """RFC 8445 16.1: the sender believes itself controlling; 64-bit tie-breaker."""

    type: ClassVar[int] = 0x802A
    tie_breaker: int

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> IceControlling:
        return cls(int.from_bytes(_exactly("ICE-CONTROLLING", value, 8), "big"))

    def value_bytes(self, transaction_id: bytes) -> bytes:
        return self.tie_breaker.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """RFC 8489 14.8: why a request was refused; `code` is 300..699."""

    type: ClassVar[int] = 0x0009
    code: int
    reason: str = ""

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> ErrorCode:
        if len(value) < 4:
            raise StunError("ERROR-CODE is cut short")
        hundreds, units = value[2] & 0x07, value[3]
        if not 3 <= hundreds <= 6 or units > 99:
            raise StunError(f"ERROR-CODE {hundreds}|{units} is outside 300..699")
        return cls(hundreds * 100 + units, value[4:].decode(errors="replace"))

    def value_bytes(self, transaction_id: bytes) -> bytes:
        hundreds, units = divmod(self.code, 100)
        return bytes((0, 0, hundreds, units)) + self.reason.encode()


@dataclass(frozen=True, slots=True)
class UnknownAttributes:
    """RFC 8489 14.9: in a 420 response, the types that were not understood."""

    type: ClassVar[int] = 0x000A
    types: tuple[int, ...]

    @classmethod
    def parse(cls, value: bytes, transaction_id: bytes) -> UnknownAttributes:
        if len(value) % 2:
            raise StunError("UNKNOWN-ATTRIBUTES has an odd length")
        return cls(struct.unpack(f"!{len(value) // 2}H", value))

    def value_bytes(self, transaction_id: bytes) -> bytes:
        return struct.pack(f"!{len(self.types)}H", *self.types)


_KNOWN = {
    attribute.type: attribute.parse
    for attribute in (
        Username,
        Software,
        XorMappedAddress,
        MappedAddress,
        Priority,
        UseCandidate,
        IceControlled,
        IceControlling,
        ErrorCode,
        UnknownAttributes,
    )
}

A = TypeVar("A")


def new_transaction_id() -> bytes:
    """96 random bits (RFC 8489 5)."""
    return os.urandom(12)


def looks_like_stun(data: bytes) -> bool:
    """RFC 8489 6.3, the cheap test: first two bits, cookie, whole length."""
    return (
        len(data) >= HEADER_LENGTH
        and data[0] < 0x40
        and data[4:8] == _COOKIE_BYTES
        and len(data) == HEADER_LENGTH + (data[2] << 8 | data[3])
    )


def _message_type(method: int, message_class: StunClass) -> int:
    """RFC 8489 5, figure 3: method and class bits interleaved."""
    return (
        (method & 0xF80) << 2
        | (method & 0x070) << 1
        | (method & 0x00F)
        | (message_class & 0b10) << 7
        | (message_class & 0b01) << 4
    )


def _method_and_class(message_type: int) -> tuple[int, StunClass]:
    method = (message_type & 0x3E00) >> 2 | (message_type & 0x00E0) >> 1 | (message_type & 0x000F)
    return method, StunClass((message_type & 0x0100) >> 7 | (message_type & 0x0010) >> 4)


def _with_length(data: bytes, length: int) -> bytes:
    return data[:2] + length.to_bytes(2, "big") + data[4:]


def _integrity(before: bytes, key: bytes) -> bytes:
    """RFC 8489 14.5: HMAC-SHA1 over what stands before, its length field reaching to the attribute's end."""
    covered = _with_length(before, len(before) - HEADER_LENGTH + _INTEGRITY_LENGTH)
    return hmac.digest(key, covered, hashlib.sha1)


def _fingerprint(before: bytes) -> int:
    """RFC 8489 14.7."""
    covered = _with_length(before, len(before) - HEADER_LENGTH + _FINGERPRINT_LENGTH)
    return zlib.crc32(covered) ^ _FINGERPRINT_XOR


def _attribute_bytes(attribute_type: int, value: bytes) -> bytes:
    return struct.pack("!HH", attribute_type, len(value)) + value + bytes(-len(value) % 4)


@dataclass(frozen=True, slots=True)
class StunMessage:
    """RFC 8489 5. `attributes` excludes MESSAGE-INTEGRITY and FINGERPRINT, which `to_bytes` adds."""

    method: int
    message_class: StunClass
    transaction_id: bytes = field(default_factory=new_transaction_id)
    attributes: tuple[StunAttribute, ...] = ()
    integrity: bytes | None = field(default=None, compare=False)
    has_fingerprint: bool = field(default=False, compare=False)
    covered: bytes = field(default=b"", compare=False, repr=False)
    """As received: what stood before MESSAGE-INTEGRITY, over which it was computed."""

    def first(self, kind: type[A]) -> A | None:
        """The first attribute of this kind (RFC 8489 14: later ones are ignored)."""
        return next((a for a in self.attributes if isinstance(a, kind)), None)

    def unknown_required(self) -> tuple[int, ...]:
        """Types of the comprehension-required attributes that we do not understand."""
        return tuple(
            a.type for a in self.attributes if isinstance(a, UnknownAttribute) and a.comprehension_required
        )

    def authenticated_by(self, key: bytes) -> bool:
        """Whether the received MESSAGE-INTEGRITY is there and was made with this key."""
        return self.integrity is not None and hmac.compare_digest(
            self.integrity, _integrity(self.covered, key)
        )

    @classmethod
    def parse(cls, data: bytes) -> StunMessage:
        """One datagram. Raises StunError."""
        method, message_class = _parse_header(data)
        transaction_id = data[8:HEADER_LENGTH]
        attributes: list[StunAttribute] = []
        integrity: bytes | None = None
        covered = b""
        at = HEADER_LENGTH
        while at < len(data):
            if at + 4 > len(data):
                raise StunError("the last attribute's header is cut short")
            kind, length = struct.unpack_from("!HH", data, at)
            end = at + 4 + length
            if end > len(data):
                raise StunError(f"attribute 0x{kind:04x} is longer than the message")
            value = data[at + 4 : end]
            if kind == _FINGERPRINT:
                _check_fingerprint(data, at, value)
                return cls(method, message_class, transaction_id, tuple(attributes), integrity, True, covered)
            if integrity is None:
                if kind == _MESSAGE_INTEGRITY:
                    integrity = _exactly("MESSAGE-INTEGRITY", value, 20)
                    covered = data[:at]
                elif kind in _KNOWN:
                    attributes.append(_KNOWN[kind](value, transaction_id))
                else:
                    attributes.append(UnknownAttribute(kind, value))
            at = end + (-length % 4)
        return cls(method, message_class, transaction_id, tuple(attributes), integrity, False, covered)

    def to_bytes(self, key: bytes | None = None, *, fingerprint: bool = True) -> bytes:
        """The message on the wire; with `key`, MESSAGE-INTEGRITY is added."""
        body = b"".join(_attribute_bytes(a.type, a.value_bytes(self.transaction_id)) for a in self.attributes)
        message_type = _message_type(self.method, self.message_class)
        data = struct.pack("!HHI", message_type, len(body), MAGIC_COOKIE) + self.transaction_id + body
        if key is not None:
            data += _attribute_bytes(_MESSAGE_INTEGRITY, _integrity(data, key))
        if fingerprint:
            data += _attribute_bytes(_FINGERPRINT, _fingerprint(data).to_bytes(4, "big"))
        if len(data) - HEADER_LENGTH > _MAX_MESSAGE_LENGTH:
            raise ValueError("the attributes do not fit a STUN message")
        return _with_length(data, len(data) - HEADER_LENGTH)


def _parse_header(data: bytes) -> tuple[int, StunClass]:
    if len(data) < HEADER_LENGTH:
        raise StunError(f"a STUN message has at least {HEADER_LENGTH} bytes, the sender gave {len(data)}")
    message_type, length, cookie = struct.unpack_from("!HHI", data)
    if message_type & 0xC000:
        raise StunError("the first two bits are not zero")
    if cookie != MAGIC_COOKIE:
        raise StunError("the magic cookie is missing (RFC 3489 messages are not served)")
    if length % 4 or length != len(data) - HEADER_LENGTH:
        raise StunError(f"the length field says {length}, {len(data) - HEADER_LENGTH} bytes came")
    return _method_and_class(message_type)


def _check_fingerprint(data: bytes, at: int, value: bytes) -> None:
    _exactly("FINGERPRINT", value, 4)
    if at + _FINGERPRINT_LENGTH != len(data):
        raise StunError("FINGERPRINT is not the last attribute")
    if int.from_bytes(value, "big") != _fingerprint(data[:at]):
        raise StunError("FINGERPRINT does not match")
