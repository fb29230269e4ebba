"""RTMP as bytes (Adobe's Real Time Messaging Protocol 1.0): chunks, AMF0, a client's side of a session. Pure.

    session = RtmpSession(parse_rtmp_url("rtmp://host/app/key"), publishing=True)
    send(session.take())                               bytes to write, again after every feed and send
    for event in session.feed(received): ...           Started | Refused | Media
    session.send_media(VIDEO, milliseconds, body)

Publishing and playing differ in their last command only. `Refused` and `MalformedRtmp` speak of the server in
words for an operator; the stream's name, which is a secret on most platforms, is not in them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

AUDIO, VIDEO, DATA = 8, 9, 18
_SET_CHUNK_SIZE, _ABORT, _ACKNOWLEDGE, _USER_CONTROL, _WINDOW, _BANDWIDTH, _COMMAND = 1, 2, 3, 4, 5, 6, 20
_PING_REQUEST, _PING_RESPONSE = 6, 7
_HANDSHAKE = 1536
_OUR_CHUNK = 65_536
_CHUNK_LIMIT, _MESSAGE_LIMIT = 16 << 20, 8 << 20
_EXTENDED = 0xFFFFFF
_DEEPEST = 8
_PORTS = {"rtmp": 1935, "rtmps": 443}

AmfValue: TypeAlias = "float | bool | str | Mapping[str, AmfValue] | Sequence[AmfValue] | None"


class MalformedRtmp(ValueError):
    """The server sent what is no RTMP."""


@dataclass(frozen=True, slots=True)
class RtmpUrl:
    """rtmp://host[:port]/app[/instance]/name; `name` with its query is the stream key."""

    host: str
    port: int
    tls: bool
    app: str
    name: str = field(repr=False)

    @property
    def tc_url(self) -> str:
        """Where the application is, without the stream's name."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rtmps' if self.tls else 'rtmp'}://{host}:{self.port}/{self.app}"


def parse_rtmp_url(text: str) -> RtmpUrl:
    """Raises ValueError, which says what is wrong and never repeats the address."""
    parts = urlsplit(text)
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise ValueError("an RTMP address whose port is no number") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("an RTMP address looks like rtmp://host/application/stream")
    path = parts.path.strip("/")
    app, _, name = path.rpartition("/")
    if not app or not name:
        raise ValueError("an RTMP address names an application and a stream: rtmp://host/application/stream")
    return RtmpUrl(
        parts.hostname, port, parts.scheme == "rtmps", app, f"{name}?{parts.query}" if parts.query else name
    )


# --- AMF0 (Action Message Format, AMF 0) --------------------------------------------------------------


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
        if message.type == _SET_CHUNK_SIZE and len(message.body) >= 4:
            size = int.from_bytes(message.body[:4], "big") & 0x7FFFFFFF
            if not 1 <= size <= _CHUNK_LIMIT:
                raise MalformedRtmp(f"the server asks for chunks of {size} bytes")
            self.chunk_size = size
        elif message.type == _ABORT and len(message.body) >= 4:
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


@dataclass(frozen=True, slots=True)
class Started:
    """The server takes (or gives) the stream."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server does not, or not any more."""

    words: str


@dataclass(frozen=True, slots=True)
class Media:
    """What a player is sent."""

    type: int
    timestamp: int
    body: bytes


RtmpEvent: TypeAlias = Started | Refused | Media

_CONNECT, _CREATE, _BEGIN = 1.0, 4.0, 5.0
_CONTROL_LANE, _COMMAND_LANE, _STREAM_LANE, _MEDIA_LANE = 2, 3, 4, 6


class RtmpSession:
    """A client that publishes or plays one stream. Raises MalformedRtmp in `feed`."""

    def __init__(self, url: RtmpUrl, *, publishing: bool, nonce: bytes | None = None) -> None:
        self._url = url
        self._publishing = publishing
        self._stream = 0
        self._shaking: bytearray | None = bytearray()
        self._reader = ChunkReader()
        self._received = self._acknowledged = 0
        self._window = 0
        nonce = os.urandom(_HANDSHAKE - 8) if nonce is None else nonce
        self._out = bytearray(b"\x03" + bytes(8) + nonce)

    def take(self) -> bytes:
        """What is to be written now."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def feed(self, data: bytes) -> list[RtmpEvent]:
        """What came from the server, however split."""
        self._received += len(data)
        if self._shaking is not None:
            self._shaking += data
            if len(self._shaking) < 1 + 2 * _HANDSHAKE:
                return []
            if self._shaking[0] != 3:
                raise MalformedRtmp("the server does not speak RTMP (version 3)")
            self._out += self._shaking[1 : 1 + _HANDSHAKE]
            data = bytes(self._shaking[1 + 2 * _HANDSHAKE :])
            self._shaking = None
            self._open()
        events = [event for message in self._reader.feed(data) for event in self._take(message)]
        if self._window and self._received - self._acknowledged >= self._window // 2:
            self._acknowledged = self._received
            self._control(_ACKNOWLEDGE, struct.pack("!I", self._received & 0xFFFFFFFF))
        return events

    def send_media(self, type: int, timestamp: int, body: bytes) -> None:
        """AUDIO, VIDEO or DATA of the published stream."""
        self._send(Message(type, self._stream, timestamp, body), _MEDIA_LANE)

    def leave(self) -> None:
        """Say that nothing follows."""
        if self._publishing and self._stream:
            self._command(_COMMAND_LANE, 0, "FCUnpublish", 6.0, None, self._url.name)
        if self._stream:
            self._command(_COMMAND_LANE, 0, "deleteStream", 7.0, None, float(self._stream))

    def _open(self) -> None:
        self._control(_SET_CHUNK_SIZE, struct.pack("!I", _OUR_CHUNK))
        about: dict[str, AmfValue] = {"app": self._url.app, "tcUrl": self._url.tc_url}
        if self._publishing:
            about |= {"type": "nonprivate", "flashVer": "FMLE/3.0 (compatible; anshi)"}
        else:
            about |= {"flashVer": "LNX 9,0,124,2", "fpad": False, "audioCodecs": 4071.0, "videoCodecs": 252.0}
        self._command(_COMMAND_LANE, 0, "connect", _CONNECT, about)

    def _take(self, message: Message) -> list[RtmpEvent]:
        match message.type:
            case t if t in (AUDIO, VIDEO, DATA):
                return [Media(message.type, message.timestamp, message.body)]
            case t if t == _WINDOW and len(message.body) >= 4:
                self._window = int.from_bytes(message.body[:4], "big")
            case t if t == _BANDWIDTH and len(message.body) >= 4:
                self._control(_WINDOW, message.body[:4])
            case t if t == _USER_CONTROL and message.body[:2] == _PING_REQUEST.to_bytes(2, "big"):
                self._control(_USER_CONTROL, _PING_RESPONSE.to_bytes(2, "big") + message.body[2:6])
            case t if t == _COMMAND:
                return self._obey(decode_amf(message.body))
        return []

    def _obey(self, values: list[AmfValue]) -> list[RtmpEvent]:
        name, transaction = [*values, None, None][:2]
        about = values[3] if len(values) > 3 else None
        if name == "_result" and transaction == _CONNECT:
            if self._publishing:
                self._command(_COMMAND_LANE, 0, "releaseStream", 2.0, None, self._url.name)
                self._command(_COMMAND_LANE, 0, "FCPublish", 3.0, None, self._url.name)
            self._command(_COMMAND_LANE, 0, "createStream", _CREATE, None)
        elif name == "_result" and transaction == _CREATE:
            if not isinstance(about, float):
                raise MalformedRtmp("the server made a stream without a number")
            self._stream = int(about)
            rest = ("publish", _BEGIN, None, self._url.name, "live")
            if self._publishing:
                self._command(_STREAM_LANE, self._stream, *rest)
            else:
                self._command(_STREAM_LANE, self._stream, "play", _BEGIN, None, self._url.name, -2000.0)
        elif name == "_error" and transaction in (_CONNECT, _CREATE, _BEGIN):
            return [Refused(self._words(about, "refused the connection"))]
        elif name == "onStatus":
            return self._status(about)
        return []

    def _status(self, about: AmfValue) -> list[RtmpEvent]:
        if not isinstance(about, Mapping):
            return []
        code = str(about.get("code", ""))
        if about.get("level") == "error" or code.endswith(("UnpublishNotify", "Unpublish.Success")):
            return [Refused(self._words(about, "ended the stream"))]
        return [Started()] if code in ("NetStream.Publish.Start", "NetStream.Play.Start") else []

    def _words(self, about: AmfValue, otherwise: str) -> str:
        said = []
        if isinstance(about, Mapping):
            said = [str(about[key]) for key in ("code", "description") if about.get(key)]
        secret = self._url.name.partition("?")[0]
        text = ": ".join(said).replace(self._url.name, "...").replace(secret, "...")[:200]
        return f"the server {otherwise}" + (f" ({text})" if text else "")

    def _command(self, lane: int, stream: int, *values: AmfValue) -> None:
        self._send(Message(_COMMAND, stream, 0, encode_amf(*values)), lane)

    def _control(self, type: int, body: bytes) -> None:
        size = 128 if type == _SET_CHUNK_SIZE else _OUR_CHUNK
        self._out += chunked(Message(type, 0, 0, body), _CONTROL_LANE, size)

    def _send(self, message: Message, lane: int) -> None:
        self._out += chunked(message, lane, _OUR_CHUNK)
