"""URIs of RFC 3261 19.1: sip and sips taken apart, others kept whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import unquote as percent_decoded

from protocols.sip.grammar import NO_PARAMETERS, Parameters, SipSyntaxError, excerpt, number

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_FORBIDDEN = re.compile(r'[\x00-\x20\x7f<>"]')
_DEFAULT_PORTS = {"sip": 5060, "sips": 5061}

Host = tuple[str, int | None]


def parse_host(text: str, what: str) -> Host:
    """``host[:port]``, the host a name, an IPv4 address, a bracketed IPv6 address or a bare domain number."""
    text = text.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not re.fullmatch(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._\-]+)?", host):
            raise SipSyntaxError(f"{what} has no proper IPv6 address: {excerpt(text)}")
        rest = rest.strip()
        if rest and rest[0] != ":":
            raise SipSyntaxError(f"{what} has text after its address: {excerpt(text)}")
        return host, number(rest[1:], f"port of {what}", 65535) if rest else None
    host, colon, port = text.partition(":")
    host = host.strip()
    if not host or re.search(r'[\x00-\x20\x7f<>"@,;?/\[\]]', host):
        raise SipSyntaxError(f"{what} has no proper host: {excerpt(text)}")
    return host, number(port, f"port of {what}", 65535) if colon else None


def print_host(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


@dataclass(frozen=True, slots=True)
class SipUri:
    """``sip:user:password@host:port;parameters?headers``; user, password and headers keep their escapes."""

    host: str
    user: str | None = None
    port: int | None = None
    scheme: Literal["sip", "sips"] = "sip"
    password: str | None = None
    parameters: Parameters = NO_PARAMETERS
    headers: str = ""

    @classmethod
    def parse(cls, text: str) -> SipUri:
        """Raises SipSyntaxError, for other schemes too."""
        uri = parse_uri(text)
        if isinstance(uri, OtherUri):
            raise SipSyntaxError(f"neither a sip nor a sips URI: {excerpt(text)}")
        return uri

    @property
    def user_text(self) -> str:
        """The user part with its escapes decoded, "" when there is none."""
        return percent_decoded(self.user or "", errors="surrogateescape")

    @property
    def transport(self) -> str | None:
        """The transport parameter in upper case, or None."""
        value = self.parameters.get("transport")
        return value.upper() if value else None

    @property
    def effective_port(self) -> int:
        if self.port is not None:
            return self.port
        return 5061 if self.transport == "TLS" else _DEFAULT_PORTS[self.scheme]

    def bare(self) -> SipUri:
        """Only scheme, user, host and port: an address-of-record."""
        return replace(self, password=None, parameters=Parameters(), headers="")

    def same_as(self, other: Uri) -> bool:
        """Equivalence as RFC 3261 19.1.4 has it, URI headers left out of it."""
        if not isinstance(other, SipUri):
            return False
        if (self.scheme, self.host.lower(), self.port) != (other.scheme, other.host.lower(), other.port):
            return False
        if (self.user_text, self.password) != (other.user_text, other.password):
            return False
        mine, theirs = self._comparable(), other._comparable()
        shared = mine.keys() & theirs.keys()
        lone = mine.keys() ^ theirs.keys()
        return not lone & {"user", "ttl", "method", "maddr", "transport"} and all(
            mine[name] == theirs[name] for name in shared
        )

    def _comparable(self) -> dict[str, str]:
        return {
            name.lower(): percent_decoded(value or "", errors="surrogateescape").lower()
            for name, value in self.parameters.items
        }

    def __str__(self) -> str:
        user = "" if self.user is None else self.user
        if self.password is not None:
            user += f":{self.password}"
        if self.user is not None:
            user += "@"
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{print_host(self.host, self.port)}{self.parameters}{headers}"


@dataclass(frozen=True, slots=True)
class OtherUri:
    """A URI of another scheme (tel:, urn: ...), not looked into."""

    scheme: str
    rest: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


Uri = SipUri | OtherUri


def parse_uri(text: str) -> Uri:
    """Any URI. Raises SipSyntaxError."""
    text = text.strip()
    scheme_match = _SCHEME.match(text)
    if scheme_match is None:
        raise SipSyntaxError(f"a URI has no scheme: {excerpt(text)}")
    if found := _FORBIDDEN.search(text):
        raise SipSyntaxError(f"a URI contains {found.group()!a}: {excerpt(text)}")
    scheme, rest = scheme_match.group(1).lower(), text[scheme_match.end() :]
    if scheme not in _DEFAULT_PORTS:
        return OtherUri(scheme, rest)
    user: str | None = None
    password: str | None = None
    # A user part may hold semicolons and question marks (RFC 4475 3.1.1.13), so the "@" is looked for first.
    if "@" in rest:
        user, _, rest = rest.partition("@")
        user, colon, secret = user.partition(":")
        password = secret if colon else None
        if not user:
            raise SipSyntaxError(f"a URI has an empty user part: {excerpt(text)}")
    rest, _, headers = rest.partition("?")
    host_text, semicolon, parameters = rest.partition(";")
    host, port = parse_host(host_text, "a URI")
    return SipUri(
        host=host,
        user=user,
        port=port,
        scheme="sips" if scheme == "sips" else "sip",
        password=password,
        parameters=Parameters.parse(semicolon + parameters),
        headers=headers,
    )
