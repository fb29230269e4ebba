"""The lines of a session description (RFC 8866 5, grammar in 9)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

MAX_LENGTH = 65_536
MAX_MEDIA = 32

_MEDIA_LINE = re.compile(
    r"(?P<media>\S+)\s+(?P<port>\d{1,9})(?:/(?P<count>\d+))?\s+(?P<protocol>\S+)\s*(?P<formats>.*)", re.ASCII
)
# Some GB/T 28181 devices forget the space before the formats ("RTP/AVP96").
_GLUED_FORMATS = re.compile(r"(?P<protocol>.*?AVPF?)(?P<formats>\d+)$")


class SdpError(ValueError):
    """The peer's description cannot be read; the message says where."""


@dataclass(frozen=True, slots=True)
class Origin:
    """o= (RFC 8866 5.2)."""

    username: str
    session_id: str
    version: int
    address: str

    @classmethod
    def parse(cls, value: str) -> Self:
        words = value.split()
        if len(words) < 6:
            # Seen from terminals in the field: an o= line cut short says nothing that we need.
            return cls(words[0] if words else "-", "0", 0, "0.0.0.0")
        version = int(words[2]) if is_number(words[2], 20) else 0
        return cls(words[0], words[1], version, words[5])

    def __str__(self) -> str:
        return (
            f"{self.username} {self.session_id} {self.version} IN {address_type(self.address)} {self.address}"
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """c= (RFC 8866 5.7); a multicast TTL is cut off."""

    address: str

    @classmethod
    def parse(cls, value: str) -> Self:
        words = value.split()
        if len(words) != 3 or words[0] != "IN" or words[1] not in ("IP4", "IP6"):
            raise SdpError(f"connection line cannot be read: c={value}")
        return cls(words[2].split("/", 1)[0])

    def __str__(self) -> str:
        return f"IN {address_type(self.address)} {self.address}"


@dataclass(frozen=True, slots=True)
class Media:
    """One m= line and what follows it (RFC 8866 5.14).

    `attributes` are (name, value) in order; a property attribute has the value None. `bandwidth` are
    (type, value) of b= lines: "AS" in kbit/s, "TIAS" in bit/s (RFC 3890). `other` keeps lines of types
    that this page does not know (GB/T 28181's y= and f=).
    """

    media: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    connection: Connection | None = None
    bandwidth: tuple[tuple[str, int], ...] = ()
    attributes: tuple[tuple[str, str | None], ...] = ()
    other: tuple[tuple[str, str], ...] = ()

    def values(self, name: str) -> list[str]:
        """All values of the attribute `name`, in order."""
        return [value for key, value in self.attributes if key == name and value is not None]

    def value(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self.attributes)

    def lines(self) -> list[str]:
        lines = [f"m={self.media} {self.port} {self.protocol} {' '.join(self.formats)}".rstrip()]
        if self.connection is not None:
            lines.append(f"c={self.connection}")
        lines += [f"b={kind}:{value}" for kind, value in self.bandwidth]
        lines += [_attribute_line(name, value) for name, value in self.attributes]
        lines += [f"{kind}={value}" for kind, value in self.other]
        return lines


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A whole description; session-level attributes and lines apart from the media's."""

    origin: Origin
    media: tuple[Media, ...] = ()
    name: str = "-"
    connection: Connection | None = None
    bandwidth: tuple[tuple[str, int], ...] = ()
    timing: tuple[str, ...] = ("0 0",)
    attributes: tuple[tuple[str, str | None], ...] = ()
    other: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a description. CR, LF and CRLF end lines; bytes that are no UTF-8 are tried as GB18030."""
        if len(data) > MAX_LENGTH:
            raise SdpError(f"description of {len(data)} bytes is longer than {MAX_LENGTH}")
        session, *medias = _sections(_decode(data))
        if len(medias) > MAX_MEDIA:
            raise SdpError(f"{len(medias)} media lines are more than {MAX_MEDIA}")
        origin = next((Origin.parse(v) for k, v in session if k == "o"), None)
        if origin is None:
            raise SdpError("no origin line (o=)")
        return cls(
            origin=origin,
            media=tuple(_media(lines) for lines in medias),
            name=next((v for k, v in session if k == "s"), "-"),
            connection=_connection(session),
            bandwidth=_bandwidth(session),
            timing=tuple(v for k, v in session if k == "t") or ("0 0",),
            attributes=_attributes(session),
            other=tuple((k, v) for k, v in session if k not in "vosctba"),
        )

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name and value is not None]

    def value(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self.attributes)

    def __bytes__(self) -> bytes:
        lines = ["v=0", f"o={self.origin}", f"s={self.name or '-'}"]
        lines += [f"{kind}={value}" for kind, value in self.other]
        if self.connection is not None:
            lines.append(f"c={self.connection}")
        lines += [f"b={kind}:{value}" for kind, value in self.bandwidth]
        lines += [f"t={value}" for value in self.timing]
        lines += [_attribute_line(name, value) for name, value in self.attributes]
        for media in self.media:
            lines += media.lines()
        return ("\r\n".join(lines) + "\r\n").encode()


def is_number(text: str, digits: int = 15) -> bool:
    """Whether int() takes it and it is of a sane size: `isdigit` alone lets "²" through."""
    return text.isascii() and text.isdigit() and len(text) <= digits


def address_type(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def _attribute_line(name: str, value: str | None) -> str:
    return f"a={name}" if value is None else f"a={name}:{value}"


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("gb18030", errors="replace")


_BLANKS = " \t\0"
"""Some stacks end a description as a C string."""


def _sections(text: str) -> list[list[tuple[str, str]]]:
    """The session's lines, then each media's, as (type, value)."""
    sections: list[list[tuple[str, str]]] = [[]]
    lines = [line.strip(_BLANKS) for line in re.split(r"\r\n|\r|\n", text)]
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        if len(line) < 2 or line[1] != "=":
            raise SdpError(f"line {number} is no <type>=<value>: {line[:60]!r}")
        if line[0] == "m":
            sections.append([])
        sections[-1].append((line[0], line[2:].strip(_BLANKS)))
    if not sections[0] or sections[0][0] != ("v", "0"):
        raise SdpError("a description begins with v=0")
    return sections


def _media(lines: list[tuple[str, str]]) -> Media:
    value = lines[0][1]
    match = _MEDIA_LINE.fullmatch(value)
    if match is None:
        raise SdpError(f"media line cannot be read: m={value}")
    protocol, formats = match["protocol"], match["formats"].split()
    if not formats and (glued := _GLUED_FORMATS.fullmatch(protocol)):
        protocol, formats = glued["protocol"], [glued["formats"]]
    port = int(match["port"])
    if port > 65_535:
        raise SdpError(f"port {port} of m={match['media']} is none")
    return Media(
        media=match["media"],
        port=port,
        protocol=protocol,
        formats=tuple(formats),
        connection=_connection(lines),
        bandwidth=_bandwidth(lines),
        attributes=_attributes(lines),
        other=tuple((k, v) for k, v in lines if k not in "mcba"),
    )


def _connection(lines: list[tuple[str, str]]) -> Connection | None:
    return next((Connection.parse(v) for k, v in lines if k == "c"), None)


def _bandwidth(lines: list[tuple[str, str]]) -> tuple[tuple[str, int], ...]:
    found = []
    for kind, value in lines:
        name, _, number = value.partition(":")
        if kind == "b" and is_number(number.strip()):
            found.append((name, int(number.strip())))
    return tuple(found)


def _attributes(lines: list[tuple[str, str]]) -> tuple[tuple[str, str | None], ...]:
    found: list[tuple[str, str | None]] = []
    for kind, line in lines:
        if kind == "a":
            name, colon, value = line.partition(":")
            found.append((name.strip(), value.strip() if colon else None))
    return tuple(found)
