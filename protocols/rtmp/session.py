"""A client's side of an RTMP session (Adobe's Real Time Messaging Protocol 1.0), without sockets.

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
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

from protocols.rtmp.amf import AmfValue, MalformedRtmp, decode_amf, encode_amf
from protocols.rtmp.chunks import (
    ACKNOWLEDGE,
    AUDIO,
    BANDWIDTH,
    COMMAND,
    DATA,
    SET_CHUNK_SIZE,
    USER_CONTROL,
    VIDEO,
    WINDOW,
    ChunkReader,
    Message,
    chunked,
)

_PING_REQUEST, _PING_RESPONSE = 6, 7
_HANDSHAKE = 1536
_OUR_CHUNK = 65_536
_PORTS = {"rtmp": 1935, "rtmps": 443}


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
            self._control(ACKNOWLEDGE, struct.pack("!I", self._received & 0xFFFFFFFF))
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
        self._control(SET_CHUNK_SIZE, struct.pack("!I", _OUR_CHUNK))
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
            case t if t == WINDOW and len(message.body) >= 4:
                self._window = int.from_bytes(message.body[:4], "big")
            case t if t == BANDWIDTH and len(message.body) >= 4:
                self._control(WINDOW, message.body[:4])
            case t if t == USER_CONTROL and message.body[:2] == _PING_REQUEST.to_bytes(2, "big"):
                self._control(USER_CONTROL, _PING_RESPONSE.to_bytes(2, "big") + message.body[2:6])
            case t if t == COMMAND:
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
            if not isinstance(about, float) or not 0 <= about <= 0xFFFFFFFF:
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
        self._send(Message(COMMAND, stream, 0, encode_amf(*values)), lane)

    def _control(self, type: int, body: bytes) -> None:
        size = 128 if type == SET_CHUNK_SIZE else _OUR_CHUNK
        self._out += chunked(Message(type, 0, 0, body), _CONTROL_LANE, size)

    def _send(self, message: Message, lane: int) -> None:
        self._out += chunked(message, lane, _OUR_CHUNK)
