"""The header values RTSP has of its own (RFC 2326 12); each parses and prints itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from protocols.sip.grammar import quote, unquote

_INFO = re.compile(r",\s*(?=url\s*=)", re.IGNORECASE)
_PAIR = re.compile(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?")
_NPT = re.compile(r"npt\s*=\s*(now|[\d.:]*)\s*-\s*([\d.:]*)", re.IGNORECASE)
DEFAULT_TIMEOUT = 60
"""RFC 2326 12.37."""


class MalformedHeader(ValueError):
    """The peer's header value cannot be read; the message says which."""


def _pair(text: str, largest: int) -> tuple[int, int] | None:
    match = _PAIR.fullmatch(text.strip())
    if match is None:
        return None
    first = int(match[1])
    second = int(match[2]) if match[2] else first + 1
    return (first, second) if max(first, second) <= largest else None


def _of_pair(pair: tuple[int, int]) -> str:
    return f"{pair[0]}-{pair[1]}"


@dataclass(frozen=True, slots=True)
class Transport:
    """One transport specification (RFC 2326 12.39). Pairs are (RTP, RTCP) ports or channels."""

    tcp: bool = False
    unicast: bool = True
    profile: str = "RTP/AVP"
    interleaved: tuple[int, int] | None = None
    client_port: tuple[int, int] | None = None
    server_port: tuple[int, int] | None = None
    source: str | None = None
    ssrc: int | None = None
    mode: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Unknown parameters are skipped, ones that make no sense count as absent. Raises MalformedHeader."""
        name, *parameters = (part.strip() for part in text.split(";"))
        words = name.upper().split("/")
        if len(words) not in (2, 3) or words[0] != "RTP":
            raise MalformedHeader(f"transport cannot be read: {text[:60]}")
        values: dict[str, str] = {}
        for part in parameters:
            key, _, value = part.partition("=")
            values.setdefault(key.strip().lower(), unquote(value))
        try:
            ssrc = int(values.get("ssrc", ""), 16)
        except ValueError:
            ssrc = -1
        return cls(
            tcp=len(words) == 3 and words[2] == "TCP",
            unicast="multicast" not in values,
            profile="/".join(words[:2]),
            interleaved=_pair(values.get("interleaved", ""), 255),
            client_port=_pair(values.get("client_port", ""), 65535),
            server_port=_pair(values.get("server_port", ""), 65535),
            source=values.get("source") or None,
            ssrc=ssrc if 0 <= ssrc < 2**32 else None,
            mode=values["mode"].upper() if values.get("mode") else None,
        )

    @classmethod
    def parse_all(cls, text: str) -> tuple[Self, ...]:
        """The alternatives of a request in the client's order; those that cannot be read are left out."""
        found = []
        for item in text.split(","):
            try:
                found.append(cls.parse(item))
            except MalformedHeader:
                continue
        return tuple(found)

    def __str__(self) -> str:
        parts = [f"{self.profile}/TCP" if self.tcp else self.profile]
        parts.append("unicast" if self.unicast else "multicast")
        if self.source is not None:
            parts.append(f"source={self.source}")
        for key, pair in (
            ("interleaved", self.interleaved),
            ("client_port", self.client_port),
            ("server_port", self.server_port),
        ):
            if pair is not None:
                parts.append(f"{key}={_of_pair(pair)}")
        if self.ssrc is not None:
            parts.append(f"ssrc={self.ssrc:08X}")
        if self.mode is not None:
            parts.append(f"mode={quote(self.mode)}")
        return ";".join(parts)


@dataclass(frozen=True, slots=True)
class Session:
    """RFC 2326 12.37; `timeout` in seconds."""

    id: str
    timeout: int = DEFAULT_TIMEOUT

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises MalformedHeader when there is no identifier."""
        name, *parameters = (part.strip() for part in text.split(";"))
        if not name or len(name) > 256:
            raise MalformedHeader(f"session cannot be read: {text[:60]}")
        timeout = DEFAULT_TIMEOUT
        for part in parameters:
            key, _, value = part.partition("=")
            if key.strip().lower() == "timeout" and re.fullmatch(r"[0-9]{1,6}", value.strip()):
                timeout = int(value) or DEFAULT_TIMEOUT
        return cls(name, timeout)

    def __str__(self) -> str:
        return self.id if self.timeout == DEFAULT_TIMEOUT else f"{self.id};timeout={self.timeout}"


@dataclass(frozen=True, slots=True)
class RtpInfo:
    """One stream of RTP-Info (RFC 2326 12.33): its first packet after PLAY, as far as the server says."""

    url: str
    sequence: int | None = None
    rtptime: int | None = None

    @classmethod
    def parse_all(cls, text: str) -> tuple[Self, ...]:
        """Tolerant: what cannot be read is left out, for nothing depends on it. URLs may hold commas."""
        found = []
        for item in _INFO.split(text.strip()):
            match = re.match(r"url\s*=\s*(.*?)\s*(?:;\s*((?:seq|rtptime)\s*=.*))?$", item, re.IGNORECASE)
            if match is None:
                continue
            numbers = dict(re.findall(r"(seq|rtptime)\s*=\s*([0-9]{1,10})", (match[2] or "").lower()))
            sequence, rtptime = numbers.get("seq"), numbers.get("rtptime")
            found.append(
                cls(
                    unquote(match[1]),
                    int(sequence) & 0xFFFF if sequence else None,
                    int(rtptime) & 0xFFFF_FFFF if rtptime else None,
                )
            )
        return tuple(found)

    def __str__(self) -> str:
        parts = [f"url={self.url}"]
        if self.sequence is not None:
            parts.append(f"seq={self.sequence}")
        if self.rtptime is not None:
            parts.append(f"rtptime={self.rtptime}")
        return ";".join(parts)


def _seconds(text: str) -> float | None:
    """npt-sec or npt-hhmmss (RFC 2326 3.6)."""
    seconds = 0.0
    for part in text.split(":"):
        try:
            seconds = 60 * seconds + float(part)
        except ValueError:
            return None
    return seconds


@dataclass(frozen=True, slots=True)
class Range:
    """A range of normal play time in seconds (RFC 2326 12.29, 3.6); `start` None is "now"."""

    start: float | None = 0.0
    end: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises MalformedHeader for other units than npt, which we do not play."""
        match = _NPT.match(text.strip())
        if match is None:
            raise MalformedHeader(f"range cannot be read: {text[:60]}")
        return cls(None if match[1].lower() == "now" else _seconds(match[1]) or 0.0, _seconds(match[2]))

    def __str__(self) -> str:
        start = "now" if self.start is None else f"{self.start:.3f}"
        return f"npt={start}-" + ("" if self.end is None else f"{self.end:.3f}")


@dataclass(frozen=True, slots=True)
class Public:
    """The methods a server supports (RFC 2326 12.28)."""

    methods: tuple[str, ...] = ()

    @classmethod
    def parse(cls, values: Sequence[str]) -> Self:
        """`values`: of all Public (or Allow) lines; separators seen are commas and spaces."""
        return cls(tuple(word.upper() for value in values for word in re.split(r"[,\s]+", value) if word))

    def __contains__(self, method: str) -> bool:
        return method in self.methods

    def __str__(self) -> str:
        return ", ".join(self.methods)
