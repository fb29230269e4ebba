"""The attribute values the product understands; each parses and prints itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self

from protocols.sdp.session import Media, SdpError, SessionDescription, is_number

# RFC 3551 6: payload types that need no a=rtpmap.
STATIC_PAYLOADS = {
    0: ("PCMU", 8000, 1),
    3: ("GSM", 8000, 1),
    4: ("G723", 8000, 1),
    8: ("PCMA", 8000, 1),
    9: ("G722", 8000, 1),
    15: ("G728", 8000, 1),
    18: ("G729", 8000, 1),
    26: ("JPEG", 90_000, 1),
    31: ("H261", 90_000, 1),
    32: ("MPV", 90_000, 1),
    33: ("MP2T", 90_000, 1),
    34: ("H263", 90_000, 1),
}


@dataclass(frozen=True, slots=True)
class RtpMap:
    """a=rtpmap (RFC 8866 6.6)."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int = 1

    @classmethod
    def parse(cls, value: str) -> Self:
        number, _, encoding = value.partition(" ")
        parts = encoding.strip().split("/")
        if not is_number(number) or len(parts) < 2 or not is_number(parts[1]):
            raise SdpError(f"rtpmap cannot be read: {value}")
        channels = int(parts[2]) if len(parts) > 2 and is_number(parts[2]) else 1
        return cls(int(number), parts[0].upper(), int(parts[1]), channels)

    def __str__(self) -> str:
        channels = f"/{self.channels}" if self.channels != 1 else ""
        return f"{self.payload_type} {self.name}/{self.clock_rate}{channels}"


_PARAMETER_ENDS = re.compile(
    r";|\s+(?=[A-Za-z][\w-]*=)|/(?=(?:SQCIF|QCIF|CIF\d*|CUSTOM|PAR|CPCF|BPP|HRD|MAXBR)=\d)"
)


@dataclass(frozen=True, slots=True)
class FormatParameters:
    """a=fmtp (RFC 8866 6.15); a parameter without "=" has the value "".

    Semicolons part parameters; terminals of H.263's time put spaces or slashes between them, and the slash is
    a letter of base64 elsewhere.
    """

    payload_type: int
    parameters: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: str) -> Self:
        number, _, text = value.partition(" ")
        if not is_number(number):
            raise SdpError(f"fmtp cannot be read: {value}")
        parameters = {}
        for item in _PARAMETER_ENDS.split(text):
            name, _, setting = item.strip().partition("=")
            if name:
                parameters[name.strip().lower()] = setting.strip()
        return cls(int(number), parameters)

    def __str__(self) -> str:
        items = [f"{name}={value}" if value else name for name, value in self.parameters.items()]
        return f"{self.payload_type} {';'.join(items)}"


@dataclass(frozen=True, slots=True)
class RtcpFeedback:
    """a=rtcp-fb (RFC 4585 4.2); payload type None stands for "*"."""

    payload_type: int | None
    feedback: str

    @classmethod
    def parse(cls, value: str) -> Self:
        number, _, feedback = value.partition(" ")
        if number != "*" and not is_number(number):
            raise SdpError(f"rtcp-fb cannot be read: {value}")
        return cls(None if number == "*" else int(number), " ".join(feedback.split()).lower())

    def __str__(self) -> str:
        return f"{'*' if self.payload_type is None else self.payload_type} {self.feedback}"


_MAX_LIFETIME = 1 << 48  # RFC 3711 3.2.1: packets under one master key


@dataclass(frozen=True, slots=True, repr=False)
class InlineKey:
    """One key-param (RFC 4568 9.2): base64 of key and salt, how many packets it may serve, (value, length)
    of its MKI. Never printed by accident."""

    key: str
    lifetime: int | None = None
    mki: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        method, _, info = text.partition(":")
        key, *rest = info.split("|")
        if method.lower() != "inline" or not key or len(rest) > 2:
            raise SdpError(f"key method cannot be read: {method[:20]}")
        lifetime: int | None = None
        mki: tuple[int, int] | None = None
        for position, word in enumerate(rest):
            if ":" in word and position == len(rest) - 1:
                mki = _read_mki(word)
            elif position == 0 and word:
                lifetime = _read_lifetime(word)
            elif word:
                raise SdpError(f"key parameter cannot be read: {word[:20]}")
        return cls(key, lifetime, mki)

    def __str__(self) -> str:
        lifetime = "" if self.lifetime is None else f"|{self.lifetime}"
        mki = "" if self.mki is None else f"|{self.mki[0]}:{self.mki[1]}"
        return f"inline:{self.key}{lifetime}{mki}"


def _read_lifetime(word: str) -> int:
    base, power, exponent = word.partition("^")
    if power and base == "2" and is_number(exponent) and len(exponent) <= 2:
        lifetime = 1 << int(exponent)
    elif not power and is_number(word):
        lifetime = int(word)
    else:
        raise SdpError(f"key lifetime cannot be read: {word[:20]}")
    if not 0 < lifetime <= _MAX_LIFETIME:
        raise SdpError(f"no key lives for {word} packets (RFC 3711 3.2.1)")
    return lifetime


def _read_mki(word: str) -> tuple[int, int]:
    value, _, length = word.partition(":")
    if not (is_number(value, 309) and is_number(length)):
        raise SdpError(f"master key identifier cannot be read: {word[:20]}")
    found = int(value), int(length)
    if not 0 < found[1] <= 128 or found[0] >> 8 * found[1]:
        raise SdpError(f"master key identifier does not fit its length: {word[:20]}")
    return found


@dataclass(frozen=True, slots=True)
class Crypto:
    """a=crypto (RFC 4568 9.1): tag, suite, keys, and session parameters as they stand."""

    tag: int
    suite: str
    keys: tuple[InlineKey, ...]
    parameters: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: str) -> Self:
        words = value.split()
        if len(words) < 3 or not is_number(words[0]):
            raise SdpError(f"crypto cannot be read: {value[:40]}")
        keys = tuple(InlineKey.parse(text) for text in words[2].split(";") if text)
        if not keys:
            raise SdpError(f"crypto has no key: {value[:40]}")
        return cls(int(words[0]), words[1].upper(), keys, tuple(words[3:]))

    @property
    def unmet(self) -> str | None:
        """The session parameter that forbids taking this line, None when there is none (RFC 4568 6.3).

        What leaves packets unencrypted or unauthenticated, derives keys again and again, or protects FEC is
        not done here. A window size is a hint, and a parameter that begins with "-" may be passed over.
        """
        for word in self.parameters:
            name, _, setting = word.partition("=")
            harmless = (
                name.startswith("-") or name.upper() == "WSH" or (name.upper() == "KDR" and setting == "0")
            )
            if not harmless:
                return word
        return None

    def __str__(self) -> str:
        keys = ";".join(map(str, self.keys))
        return " ".join((f"{self.tag} {self.suite} {keys}", *self.parameters))


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """a=fingerprint (RFC 8122 5)."""

    algorithm: str
    value: str

    @classmethod
    def parse(cls, value: str) -> Self:
        algorithm, _, fingerprint = value.partition(" ")
        if not fingerprint:
            raise SdpError(f"fingerprint cannot be read: {value}")
        return cls(algorithm.lower(), fingerprint.strip().upper())

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """a=candidate (RFC 8839 5.1), UDP host and reflexive ones as far as an ICE-lite side needs them."""

    foundation: str
    component: int
    transport: str
    priority: int
    address: str
    port: int
    kind: str

    @classmethod
    def parse(cls, value: str) -> Self:
        words = value.split()
        if len(words) < 8 or words[6] != "typ" or not all(map(is_number, words[1:6:2])):
            raise SdpError(f"candidate cannot be read: {value}")
        return cls(
            words[0], int(words[1]), words[2].lower(), int(words[3]), words[4], int(words[5]), words[7]
        )

    def __str__(self) -> str:
        return (
            f"{self.foundation} {self.component} {self.transport} {self.priority} "
            f"{self.address} {self.port} typ {self.kind}"
        )


@dataclass(frozen=True, slots=True)
class FloorId:
    """a=floorid (RFC 8856 5.4): a floor and the labels of its streams.

    Printed with "mstrm"; "m-stream", which RFC 4583 had in its examples, is read as well.
    """

    number: int
    labels: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: str) -> Self:
        words = value.replace(":", " ").split()
        if not words or not is_number(words[0]) or int(words[0]) > 0xFFFF:
            raise SdpError(f"floorid cannot be read: {value[:40]}")
        named = len(words) > 1 and words[1].lower() in ("mstrm", "m-stream", "mstream")
        return cls(int(words[0]), tuple(words[2:]) if named else ())

    def __str__(self) -> str:
        return f"{self.number} mstrm:{' '.join(self.labels)}" if self.labels else str(self.number)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """The limit that b= lines set, in bit/s with IP headers as RFC 4566 5.8 counts AS.

    TIAS (RFC 3890) counts without transport headers and names a rate more exactly, so it is taken
    first. A limit of 0 is kept: it says "send nothing".
    """

    bits_per_second: int

    @classmethod
    def of(cls, description: Media | SessionDescription) -> Self | None:
        limits = dict(description.bandwidth)
        if "TIAS" in limits:
            return cls(limits["TIAS"])
        kilobits = limits.get("AS", limits.get("CT"))
        return None if kilobits is None else cls(kilobits * 1000)


def rtp_maps(media: Media) -> list[RtpMap]:
    """The codecs of a section in the order of its m-line; static payload types filled in."""
    mapped = {rtp_map.payload_type: rtp_map for rtp_map in map(RtpMap.parse, media.values("rtpmap"))}
    found = []
    for word in media.formats:
        if not is_number(word):
            continue
        number = int(word)
        if number in mapped:
            found.append(mapped[number])
        elif number in STATIC_PAYLOADS:
            found.append(RtpMap(number, *STATIC_PAYLOADS[number]))
    return found
