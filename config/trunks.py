"""SIP trunks: the servers of telephone providers, and upper MCUs, that calls go out over and come in from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from config.section import ConfigurationError, Name, Seconds, Secret, Section, check_prefix

TRUNK_NAME = re.compile(r"[\w-]{1,32}\Z")
HOST = re.compile(r"[A-Za-z0-9._-]{1,253}\Z|\[[0-9A-Fa-f:.]+\]\Z|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\Z")
SIP_USER = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,;?/%-]{1,128}\Z")
DIALLED = re.compile(r"\+?[0-9*#]{0,20}\Z")

SrtpPolicy = Literal["off", "offered", "required"]


def check_authority(key: str, authority: Path | None, *, verified: bool) -> None:
    """Raise ConfigurationError for one that is not there, or that nobody would ask."""
    if authority is not None and not verified:
        raise ConfigurationError(f"{key}.tls_verify: false leaves certificate_authority without use")
    if authority is not None and not authority.is_file():
        raise ConfigurationError(f"{key}.certificate_authority: {authority} is no file")


class TrunkNumber(Section, frozen=True):
    """A number of ours at the provider, and the meeting that its callers want."""

    called: Annotated[str, Meta(min_length=1, max_length=32)]
    meeting: Annotated[str, Meta(min_length=1, max_length=16)]


class SipTrunk(Section, frozen=True):
    """One server that telephones are behind.

    `server` is its host; `domain` stands behind the @ of its addresses where that is another name. Numbers
    that begin with one of `prefixes` go out over it (the longest decides, "" is all); `strip` digits are
    taken off before `prepend` is put on. `identity` is the number or user shown to those whom we call. With
    `register` it is signed in there as `username`, for `expires` seconds at a time; without, OPTIONS every
    `keep_alive` seconds tell whether it is there. Only challenges of `realm` are answered, if it is given.
    Calls in come from its own addresses or from `sources`; they go to the meeting that `numbers` names, else
    to the general number. `redirects`: by a 3xx its server may send a call of ours to another number of its
    own, whatever that costs. By TLS its certificate is verified, with the system's authorities and
    `certificate_authority`, which may be a self-signed certificate itself; `tls_verify` false takes any.
    """

    name: str
    server: str
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    transport: Literal["udp", "tcp", "tls"] = "udp"
    network: str | None = None
    domain: str | None = None
    realm: str | None = None
    username: str = ""
    password: Secret | None = None
    register: bool = True
    expires: Annotated[int, Meta(ge=60, le=86400)] = 600
    keep_alive: Annotated[float, Meta(ge=5, le=3600)] = 30.0
    prefixes: tuple[str, ...] = ()
    strip: Annotated[int, Meta(ge=0, le=8)] = 0
    prepend: str = ""
    identity: str | None = None
    display_name: Name | None = None
    identity_header: Literal["p-asserted-identity", "p-preferred-identity", "none"] = "p-asserted-identity"
    sources: tuple[str, ...] = ()
    numbers: tuple[TrunkNumber, ...] = ()
    sound_only: bool = True
    srtp: SrtpPolicy = "off"
    calls: Annotated[int, Meta(ge=1, le=1000)] = 30
    redirects: bool = False
    certificate_authority: Path | None = None
    tls_verify: bool = True
    retry: Seconds = 30.0

    @property
    def host_name(self) -> str:
        """The server without the brackets of an IPv6 address."""
        return self.server.strip("[]")

    @property
    def home(self) -> str:
        """What stands behind the @."""
        return (self.domain or self.server).strip("[]")

    @property
    def shown(self) -> str:
        """Who we are towards those whom we call."""
        return self.identity or self.username

    def check(self, key: str) -> None:
        """Raise ConfigurationError ("key path: what is wrong") for what makes no sense by itself."""
        if not TRUNK_NAME.match(self.name):
            raise ConfigurationError(f"{key}.name: letters, digits, '_' and '-' only, at most 32")
        for name, host in (("server", self.server), ("domain", self.domain)):
            if host is not None and not HOST.match(host):
                raise ConfigurationError(f"{key}.{name}: {host!r} is neither a host name nor an address")
        for name, user in (("username", self.username), ("identity", self.identity)):
            if user and not SIP_USER.match(user):
                raise ConfigurationError(f"{key}.{name}: {user!r} cannot be the user of a SIP address")
        if not self.shown:
            raise ConfigurationError(f"{key}.identity: is needed where there is no username")
        if self.register and not self.username:
            raise ConfigurationError(f"{key}.username: is needed to register")
        for index, prefix in enumerate(self.prefixes):
            if not DIALLED.match(prefix):
                raise ConfigurationError(f"{key}.prefixes[{index}]: {prefix!r} is no beginning of a number")
        if not DIALLED.match(self.prepend):
            raise ConfigurationError(f"{key}.prepend: {self.prepend!r} is no beginning of a number")
        for index, source in enumerate(self.sources):
            check_prefix(f"{key}.sources[{index}]", source)
        if self.srtp != "off" and self.transport != "tls":
            raise ConfigurationError(f"{key}.srtp: keys go with transport tls only, else all could read them")
        check_authority(key, self.certificate_authority, verified=self.tls_verify)
