"""Header values of RFC 3261 20 and RFC 4028 as frozen values that parse and print themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from protocols.sip.grammar import (
    NO_PARAMETERS,
    Parameters,
    SipSyntaxError,
    excerpt,
    find_outside,
    is_token,
    number,
    quote,
    split_outside,
    unquote,
)
from protocols.sip.uri import SipUri, Uri, parse_host, parse_uri, print_host

BRANCH_COOKIE = "z9hG4bK"
_KEPT = 256
"""Characters of the longest value that is remembered as parsed: a stranger's long ones would fill memory."""
_VIA = re.compile(r"SIP\s*/\s*2\.0\s*/\s*([^\s/]+)\s+(.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Via:
    """One Via value (RFC 3261 20.42, rport of RFC 3581)."""

    transport: str
    host: str
    port: int | None = None
    parameters: Parameters = NO_PARAMETERS

    @staticmethod
    def parse(text: str) -> Via:
        return _known_via(text) if len(text) <= _KEPT else Via._parse(text)

    @classmethod
    def _parse(cls, text: str) -> Via:
        match = _VIA.fullmatch(text.strip())
        if match is None or not is_token(match.group(1)):
            raise SipSyntaxError(f"not a Via: {excerpt(text)}")
        sent_by, semicolon, parameters = match.group(2).partition(";")
        host, port = parse_host(sent_by, "Via")
        return cls(match.group(1).upper(), host, port, Parameters.parse(semicolon + parameters))

    @property
    def branch(self) -> str:
        """The branch, "" when a client of RFC 2543 sent none."""
        return self.parameters.get("branch") or ""

    @property
    def sent_by(self) -> str:
        return print_host(self.host.lower(), self.port)

    def seen_from(self, host: str, port: int) -> Via:
        """What a server notes on arrival: ``received`` if it differs, ``rport`` if asked (RFC 3581 4)."""
        parameters = self.parameters
        asked = "rport" in parameters
        if asked:
            parameters = parameters.with_value("rport", str(port))
        if asked or host != self.host:
            parameters = parameters.with_value("received", host)
        else:
            parameters = parameters.without("received")
        return replace(self, parameters=parameters)

    def reply_address(self) -> tuple[str, int]:
        """Where a response goes that cannot use the request's connection (RFC 3261 18.2.2, RFC 3581 4).

        maddr is passed over: it serves multicast only, and lets a stranger point our answers at others.
        """
        # An IPv6 address stands there without brackets; some write them all the same (RFC 5118 4.5).
        host = (self.parameters.get("received") or self.host).strip("[]")
        rport = self.parameters.get("rport")
        if rport and rport.isdigit():
            return host, int(rport)
        default = 5061 if self.transport == "TLS" else 5060
        return host, self.port if self.port is not None else default

    def __str__(self) -> str:
        return f"SIP/2.0/{self.transport} {print_host(self.host, self.port)}{self.parameters}"


@dataclass(frozen=True, slots=True)
class NameAddress:
    """name-addr or addr-spec with header parameters: From, To, Contact, Route, Record-Route, Refer-To."""

    uri: Uri
    display_name: str = ""
    parameters: Parameters = NO_PARAMETERS

    @staticmethod
    def parse(text: str) -> NameAddress:
        return _known_address(text) if len(text) <= _KEPT else NameAddress._parse(text)

    @classmethod
    def _parse(cls, text: str) -> NameAddress:
        text = text.strip()
        left = find_outside(text, "<")
        if left < 0:
            return cls._parse_bare(text)
        display = text[:left].strip()
        right = text.find(">", left)
        if right < 0:
            raise SipSyntaxError(f"an angle bracket does not close: {excerpt(text)}")
        uri = parse_uri(text[left + 1 : right])
        return cls(uri, unquote(display), Parameters.parse(text[right + 1 :]))

    @classmethod
    def _parse_bare(cls, text: str) -> NameAddress:
        # Without brackets every parameter is the header's, and "?" and "," may not appear (RFC 3261 20).
        # A user part may hold semicolons, though, so the search for the first begins behind the "@".
        start = max(text.find("@"), 0)
        end = text.find(";", start)
        uri_text, parameters = (text, "") if end < 0 else (text[:end], text[end:])
        if "?" in uri_text or "," in uri_text:
            raise SipSyntaxError(f"a URI with '?' or ',' needs angle brackets: {excerpt(text)}")
        return cls(parse_uri(uri_text), "", Parameters.parse(parameters))

    @property
    def tag(self) -> str | None:
        return self.parameters.get("tag") or None

    @property
    def sip_uri(self) -> SipUri | None:
        return self.uri if isinstance(self.uri, SipUri) else None

    def with_tag(self, tag: str) -> NameAddress:
        return replace(self, parameters=self.parameters.with_value("tag", tag))

    def __str__(self) -> str:
        display = f"{quote(self.display_name)} " if self.display_name else ""
        return f"{display}<{self.uri}>{self.parameters}"


# The same values are asked for again and again while a message is handled, and come back in the next ones.
_known_via = lru_cache(256)(Via._parse)
_known_address = lru_cache(256)(NameAddress._parse)


def parse_addresses(values: Iterable[str]) -> tuple[NameAddress, ...]:
    """Route, Record-Route, Contact without the star: items already split at their commas."""
    return tuple(NameAddress.parse(value) for value in values if value)


def parse_contacts(values: Iterable[str]) -> tuple[NameAddress, ...] | Literal["*"]:
    """Contact of a REGISTER; the star (RFC 3261 10.2.2) must stand alone."""
    items = [value for value in values if value]
    if items == ["*"]:
        return "*"
    if "*" in items:
        raise SipSyntaxError("Contact has a star beside other values")
    return parse_addresses(items)


@dataclass(frozen=True, slots=True)
class CSeq:
    """RFC 3261 20.16."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        parts = text.split()
        if len(parts) != 2 or not is_token(parts[1]):
            raise SipSyntaxError(f"not a CSeq: {excerpt(text)}")
        return cls(number(parts[0], "CSeq", 2**31 - 1), parts[1])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


Refresher = Literal["uac", "uas"]


@dataclass(frozen=True, slots=True)
class SessionExpires:
    """RFC 4028 4: the interval in seconds and who refreshes."""

    seconds: int
    refresher: Refresher | None = None

    @classmethod
    def parse(cls, text: str) -> SessionExpires:
        seconds, semicolon, rest = text.partition(";")
        named = (Parameters.parse(semicolon + rest).get("refresher") or "").lower()
        refresher: Refresher | None = "uac" if named == "uac" else "uas" if named == "uas" else None
        return cls(number(seconds, "Session-Expires"), refresher)

    def __str__(self) -> str:
        return f"{self.seconds};refresher={self.refresher}" if self.refresher else str(self.seconds)


@dataclass(frozen=True, slots=True)
class MediaType:
    """Content-Type, Accept items (RFC 3261 20.15); type and subtype in lower case."""

    type: str
    subtype: str
    parameters: Parameters = NO_PARAMETERS

    @classmethod
    def parse(cls, text: str) -> MediaType:
        head, semicolon, rest = text.partition(";")
        kind, slash, subtype = head.partition("/")
        kind, subtype = kind.strip().lower(), subtype.strip().lower()
        if not slash or not is_token(kind) or not is_token(subtype):
            raise SipSyntaxError(f"not a media type: {excerpt(text)}")
        return cls(kind, subtype, Parameters.parse(semicolon + rest))

    @property
    def name(self) -> str:
        """``type/subtype``."""
        return f"{self.type}/{self.subtype}"

    def __str__(self) -> str:
        return f"{self.name}{self.parameters}"


def split_list(text: str) -> list[str]:
    """The items of a comma-separated header; empty items stay, so that a parser can refuse them."""
    return split_outside(text, ",")
