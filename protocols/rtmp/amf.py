"""AMF0 (Adobe, Action Message Format 0): what RTMP's commands and FLV's metadata are written in.

encode_amf("connect", 1.0, {...}) -> bytes;  decode_amf(data) -> [values]      MalformedRtmp
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

_DEEPEST = 8

AmfValue: TypeAlias = "float | bool | str | Mapping[str, AmfValue] | Sequence[AmfValue] | None"


class MalformedRtmp(ValueError):
    """The server sent what is no RTMP."""


def encode_amf(*values: AmfValue) -> bytes:
    """The values one after the other."""
    return b"".join(_encoded(value) for value in values)


def _encoded(value: AmfValue) -> bytes:
    match value:
        case bool():
            return bytes([1, value])
        case float() | int():
            return b"\x00" + struct.pack("!d", value)
        case str():
            return b"\x02" + _text(value)
        case None:
            return b"\x05"
        case Mapping():
            inside = b"".join(_text(name) + _encoded(one) for name, one in value.items())
            return b"\x03" + inside + b"\x00\x00\x09"
        case _:
            return b"\x0a" + struct.pack("!I", len(value)) + b"".join(_encoded(one) for one in value)


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) > 0xFFFF:
        raise ValueError("a string of AMF 0 has at most 65535 bytes")
    return struct.pack("!H", len(data)) + data


def decode_amf(data: bytes) -> list[AmfValue]:
    """All values of a message. Raises MalformedRtmp."""
    reader = _AmfReader(data)
    values = []
    try:
        while reader.at < len(data):
            values.append(reader.value())
    except (struct.error, IndexError, UnicodeDecodeError):
        raise MalformedRtmp("a message of the server breaks off in the middle of a value") from None
    return values


class _AmfReader:
    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data

    def value(self, depth: int = 0) -> AmfValue:
        if depth > _DEEPEST:
            raise MalformedRtmp("a message of the server is nested too deeply")
        marker = self._data[self.at]
        self.at += 1
        match marker:
            case 0:
                return float(self._unpack("!d"))
            case 1:
                return bool(self._unpack("!B"))
            case 2:
                return self._string(self._unpack("!H"))
            case 12:
                return self._string(self._unpack("!I"))
            case 3:
                return self._object(depth)
            case 8:
                self._unpack("!I")
                return self._object(depth)
            case 5 | 6:
                return None
            case 10:
                return [self.value(depth + 1) for _ in range(min(self._unpack("!I"), len(self._data)))]
            case 11:
                date = float(self._unpack("!d"))
                self._unpack("!H")
                return date
            case _:
                raise MalformedRtmp(f"a message of the server holds an AMF 0 marker {marker}")

    def _unpack(self, form: str) -> int:
        (found,) = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return found  # type: ignore[no-any-return]  # the form says what it is

    def _string(self, length: int) -> str:
        found = self._data[self.at : self.at + length]
        if len(found) < length:
            raise IndexError
        self.at += length
        return found.decode(errors="replace")

    def _object(self, depth: int) -> AmfValue:
        found: dict[str, AmfValue] = {}
        while True:
            name = self._string(self._unpack("!H"))
            if not name and self._data[self.at] == 9:
                self.at += 1
                return found
            found[name] = self.value(depth + 1)


# --- chunks (5.3) -------------------------------------------------------------------------------------
