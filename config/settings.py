"""What can be set, its defaults, and what makes no sense together.

    settings = config.loading.load(Path("county.yaml"))
    settings.http.port, settings.network("extranet").sip.udp, settings.database_url

Durations are seconds, rates bit/s (in a file also "3M", "512k", "1G"), addresses IP literals. Every
struct is frozen; `Settings.check()` raises `ConfigurationError` with the key path that is wrong.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta

from config.section import ConfigurationError, Name, Seconds, Secret, check_prefix
from config.section import Section as _Section
from config.trunks import HOST, SipTrunk, SrtpPolicy, check_authority

__all__ = ["ConfigurationError", "Secret", "Settings"]

Port = Annotated[int, Meta(ge=1, le=65535)]
Rate = Annotated[int, Meta(ge=1, extra={"unit": "bit/s"})]
Dscp = Annotated[int, Meta(ge=0, le=63)]

NETWORK_NAME = re.compile(r"[\w-]{1,32}\Z")
NODE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
BFCP_ABOVE_SIP = 10
LOBBY_NUMBER = re.compile(r"[0-9]{1,12}\Z")
DATABASE_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


class Node(_Section, frozen=True):
    """Which node this is; `site_id` is its place in the site tree."""

    id: str
    name: Name
    level: Literal["nation", "province", "city", "county", "township"] = "county"
    site_id: str | None = None


class Http(_Section, frozen=True):
    """The listener of pages and API: HTTPS, or plain HTTP for trusted proxies only.

    Without `certificate` and `key` a self-signed pair is made at first start; `tls: false` is for a
    node behind one of `trusted_proxies` (addresses or prefixes), whose forwarded headers are
    believed. `network` is where browsers' media goes: the first with a `webrtc_port` unless named.
    `live_sockets` may listen to live events at once, `live_sockets_of_one` of them from one address.
    """

    bind: str = "0.0.0.0"
    port: Port = 8443
    tls: bool = True
    certificate: Path | None = None
    key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    external_url: str | None = None
    network: str | None = None
    live_sockets: Annotated[int, Meta(ge=1, le=100_000)] = 2000
    live_sockets_of_one: Annotated[int, Meta(ge=1, le=100_000)] = 500


class Database(_Section, frozen=True):
    """SQLAlchemy URL; without one, SQLite in the data folder."""

    url: Secret | None = None


class Secrets(_Section, frozen=True):
    """The file of the keys that seal secrets in the database: `secrets.key` in the data folder unless given.

    Whoever has both reads the secrets, so it may live elsewhere; whoever loses it has to enter them anew.
    """

    key_file: Path | None = None


class Redis(_Section, frozen=True):
    """Joins machines; without a URL the event bus stays in this node."""

    url: Secret | None = None


class Mosaic(_Section, frozen=True):
    """The composed picture: pixels and frames a second."""

    width: Annotated[int, Meta(ge=320, le=3840, multiple_of=16)] = 1280
    height: Annotated[int, Meta(ge=176, le=2160, multiple_of=2)] = 720
    fps: Annotated[int, Meta(ge=1, le=25)] = 25


class Media(_Section, frozen=True):
    """Media processes.

    `workers` 0 keeps media inside the main process. `spare` holds one more process with its imports
    done, so that a lost worker is replaced at once. `codec_threads` 0 means one a core. Above
    `cpu_limit` (a share of all cores) new media is answered lower, then refused.
    """

    workers: Annotated[int, Meta(ge=0, le=64)] = 1
    spare: bool = True
    codec_threads: Annotated[int, Meta(ge=0, le=256)] = 0
    mosaic: Mosaic = Mosaic()
    cpu_limit: Annotated[float, Meta(gt=0, le=1)] = 0.85

    @property
    def codec_thread_count(self) -> int:
        return self.codec_threads or os.cpu_count() or 1


class Sip(_Section, frozen=True):
    """SIP ports of one network; null switches a transport off.

    `srtp`: whether calls of ours that go by TLS offer SRTP with keys in the description, "offered" without it
    where that is refused. "required" makes no call in this network that would not have it.
    `flow_by_reinvite`: terminals that heed neither REMB nor TMMBR are told by a re-INVITE with a lower b=
    that nobody sees their picture, and by another before it is shown. Off, they send on: some trip over it.
    `redirects`: addresses, prefixes and host names that a 3xx may send a call of ours to, beside the same
    host and the callee's own site. Servers and terminals that we call by TLS are verified, with the system's
    authorities and `certificate_authority`, which may be a self-signed certificate itself; `tls_verify` false
    takes any certificate, so that whoever is in between may read and answer.
    """

    udp: Port | None = 5060
    tcp: Port | None = 5060
    tls: Port | None = 5061
    srtp: SrtpPolicy = "off"
    flow_by_reinvite: bool = False
    redirects: tuple[str, ...] = ()
    certificate_authority: Path | None = None
    tls_verify: bool = True


class Bfcp(_Section, frozen=True):
    """BFCP ports of one network (who may show slides), one of each transport.

    Null takes the first from ten above the SIP port on that nothing else of this node has.
    """

    udp: Port | None = None
    tcp: Port | None = None


class DscpMarks(_Section, frozen=True):
    """RFC 4594 marks: expedited forwarding for sound, AF41 for pictures, CS3 for signalling."""

    audio: Dscp = 46
    video: Dscp = 34
    signalling: Dscp = 24


class Network(_Section, frozen=True):
    """A named network with its own listeners.

    `bind` is an address of this machine, `advertise` what peers are told (another one behind 1:1
    NAT). `bfcp` null keeps terminals from taking the slides here. `rtsp` is where cameras can be played
    from; null for nowhere. `rtp_ports` are first and last UDP port, both included. WebRTC takes one UDP port
    a media worker, from `webrtc_port` on; null keeps browsers' media out of this network. `rtsp_clients` may
    be connected at once, `rtsp_clients_of_one` of them from one address.
    """

    name: str
    bind: str
    advertise: str | None = None
    sip: Sip = Sip()
    bfcp: Bfcp | None = Bfcp()
    rtp_ports: tuple[Port, Port] = (40000, 48999)
    webrtc_port: Port | None = 49000
    rtsp: Port | None = 8554
    rtsp_clients: Annotated[int, Meta(ge=1, le=100_000)] = 500
    rtsp_clients_of_one: Annotated[int, Meta(ge=1, le=100_000)] = 150
    mtu: Annotated[int, Meta(ge=576, le=9216)] = 1500
    dscp: DscpMarks = DscpMarks()

    @property
    def advertised(self) -> str:
        return self.advertise or self.bind


class Edge(_Section, frozen=True):
    """The public's listener: live broadcast and its watch page, in a process of its own.

    Certificate and trusted proxies are those of `http`. `external_url` is what viewers are told when
    another name or port leads here; `viewers` bounds how many connections are held at once, and
    `viewers_of_one` how many of them one address (behind a trusted proxy the forwarded one; an IPv6 /64) has:
    an office behind one NAT is one address. This machine itself is not bounded.
    """

    enabled: bool = True
    bind: str = "0.0.0.0"
    port: Port = 8444
    external_url: str | None = None
    viewers: Annotated[int, Meta(ge=1, le=1_000_000)] = 5000
    viewers_of_one: Annotated[int, Meta(ge=1, le=1_000_000)] = 500


class Recordings(_Section, frozen=True):
    """Recordings and evidence; `folder` is `recordings` in the data folder unless given.

    The oldest go when they are older than `max_age_days` or take more than `quota_gigabytes`; null is no
    bound. `reserve_megabytes` stay free on the disk. `preroll` are the seconds of an analysed camera that
    are kept for clips.
    """

    enabled: bool = True
    folder: Path | None = None
    max_age_days: Annotated[float, Meta(gt=0)] | None = 30.0
    quota_gigabytes: Annotated[float, Meta(gt=0)] | None = None
    reserve_megabytes: Annotated[int, Meta(ge=16)] = 512
    preroll: Annotated[float, Meta(ge=5, le=120)] = 15.0


class Analytics(_Section, frozen=True):
    """What looks at cameras with rules.

    `model` is the folder of a model package; the packaged detector when null. `threads` run inferences;
    each camera is sampled `rate` times a second, and looked at every `forced_look` seconds even when
    nothing moves. Schedules are in `time_zone` (IANA name).
    """

    enabled: bool = True
    model: Path | None = None
    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    rate: Annotated[float, Meta(gt=0, le=10)] = 1.0
    forced_look: Seconds = 5.0
    time_zone: str = "Asia/Shanghai"


class Turn(_Section, frozen=True):
    """TURN servers for browsers behind closed firewalls; credentials as in the TURN REST draft."""

    urls: tuple[str, ...] = ()
    secret: Secret | None = None
    ttl: Seconds = 86400.0


class Guests(_Section, frozen=True):
    """What a guest site (one that only knows the meeting's PIN) may use each way."""

    budget: Rate = 1_000_000


class Meetings(_Section, frozen=True):
    """`lobby_number` is the node's general SIP number: its callers key in a meeting's number, #, PIN, #.

    No meeting can be called by that number itself; null for none. `announcements` is a folder of WAV files
    (16-bit PCM) that operators may play into meetings.
    """

    lobby_number: str | None = None
    announcements: Path | None = None


class Logo(_Section, frozen=True):
    """A picture file (PNG, with or without transparency) in a corner of whatever is composed."""

    file: Path
    corner: Literal["top-left", "top-right", "bottom-left", "bottom-right"] = "top-right"


class Sessions(_Section, frozen=True):
    """How long a sign-in lasts: without use, and at most."""

    idle: Seconds = 7200.0
    absolute: Seconds = 43200.0


class Logging(_Section, frozen=True):
    """`auto` is readable text on a terminal and JSON otherwise."""

    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Listener:
    """Ports that this node takes: `key` is the setting, `last_port` is included."""

    key: str
    address: str
    port: int
    last_port: int
    transport: Literal["tcp", "udp"]

    def overlaps(self, other: Listener) -> bool:
        if self.transport != other.transport:
            return False
        if self.port > other.last_port or other.port > self.last_port:
            return False
        mine, theirs = ipaddress.ip_address(self.address), ipaddress.ip_address(other.address)
        return mine == theirs or mine.is_unspecified or theirs.is_unspecified

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        ports = str(self.port) if self.port == self.last_port else f"{self.port}-{self.last_port}"
        return f"{host}:{ports}/{self.transport}"


class Settings(_Section, frozen=True):
    """Everything a node is told. `data` is absolute once loaded; `font` replaces the packaged font."""

    node: Node
    networks: Annotated[tuple[Network, ...], Meta(min_length=1)]
    data: Path = Path("data")
    http: Http = Http()
    database: Database = Database()
    secrets: Secrets = Secrets()
    redis: Redis = Redis()
    media: Media = Media()
    edge: Edge = Edge()
    recordings: Recordings = Recordings()
    analytics: Analytics = Analytics()
    turn: Turn = Turn()
    guests: Guests = Guests()
    meetings: Meetings = Meetings()
    trunks: tuple[SipTrunk, ...] = ()
    sessions: Sessions = Sessions()
    logging: Logging = Logging()
    font: Path | None = None
    logo: Logo | None = None

    @property
    def database_url(self) -> str:
        """An asynchronous SQLAlchemy URL."""
        if self.database.url is None:
            return f"sqlite+aiosqlite:///{self.data / 'anshi.db'}"
        scheme, _, rest = self.database.url.partition("://")
        return f"{DATABASE_DRIVERS[scheme]}://{rest}"

    @property
    def key_file(self) -> Path:
        return self.secrets.key_file or self.data / "secrets.key"

    @property
    def recordings_folder(self) -> Path:
        return self.recordings.folder or self.data / "recordings"

    @property
    def evidence_folder(self) -> Path:
        """Snapshots and clips of violations."""
        return self.recordings_folder / "evidence"

    @property
    def browser_network(self) -> Network | None:
        """Where the media of browsers goes; None if no network takes it."""
        if self.http.network is not None:
            return self.network(self.http.network)
        return next((network for network in self.networks if network.webrtc_port is not None), None)

    def network(self, name: str) -> Network:
        """The network of that name; KeyError if there is none."""
        for network in self.networks:
            if network.name == name:
                return network
        raise KeyError(name)

    def webrtc_port(self, network: Network, worker: int) -> int | None:
        """The UDP port of media worker `worker` (0 is the first) for browsers."""
        return None if network.webrtc_port is None else network.webrtc_port + worker

    def listeners(self) -> Iterator[Listener]:
        """Every port that this node will take."""
        yield from self._fixed_listeners()
        yield from self._bfcp_listeners().values()

    def bfcp_port(self, network: Network, transport: Literal["tcp", "udp"]) -> int | None:
        """Where BFCP of that network is; None for nowhere."""
        listener = self._bfcp_listeners().get((network.name, transport))
        return None if listener is None else listener.port

    def _bfcp_listeners(self) -> dict[tuple[str, str], Listener]:
        taken = list(self._fixed_listeners())
        found: dict[tuple[str, str], Listener] = {}
        transports: tuple[Literal["udp", "tcp"], ...] = ("udp", "tcp")
        for index, network in enumerate(self.networks):
            sip, bfcp = network.sip, network.bfcp
            base = sip.udp or sip.tcp or sip.tls
            if bfcp is None or base is None:
                continue
            for transport, given in zip(transports, (bfcp.udp, bfcp.tcp), strict=True):
                key = f"networks[{index}].bfcp.{transport}"
                port = given or base + BFCP_ABOVE_SIP
                while port <= 65_535:
                    place = Listener(key, network.bind, port, port, transport)
                    other = None if given else next(filter(place.overlaps, taken), None)
                    if other is None:
                        found[network.name, transport] = place
                        taken.append(place)
                        break
                    port = other.last_port + 1
        return found

    def _fixed_listeners(self) -> Iterator[Listener]:
        yield Listener("http.port", self.http.bind, self.http.port, self.http.port, "tcp")
        if self.edge.enabled:
            yield Listener("edge.port", self.edge.bind, self.edge.port, self.edge.port, "tcp")
        for index, network in enumerate(self.networks):
            key = f"networks[{index}]"
            sip = network.sip
            if sip.udp is not None:
                yield Listener(f"{key}.sip.udp", network.bind, sip.udp, sip.udp, "udp")
            if sip.tcp is not None:
                yield Listener(f"{key}.sip.tcp", network.bind, sip.tcp, sip.tcp, "tcp")
            if sip.tls is not None:
                yield Listener(f"{key}.sip.tls", network.bind, sip.tls, sip.tls, "tcp")
            if network.rtsp is not None:
                yield Listener(f"{key}.rtsp", network.bind, network.rtsp, network.rtsp, "tcp")
            yield Listener(f"{key}.rtp_ports", network.bind, *network.rtp_ports, "udp")
            if network.webrtc_port is not None:
                last = network.webrtc_port + max(self.media.workers, 1) - 1
                yield Listener(f"{key}.webrtc_port", network.bind, network.webrtc_port, last, "udp")

    def check(self) -> None:
        """Raise ConfigurationError ("key path: what is wrong") for what makes no sense."""
        if not NODE_ID.match(self.node.id):
            raise ConfigurationError("node.id: letters, digits, '.', '_' and '-' only, at most 64")
        self._check_http()
        self._check_networks()
        self._check_trunks()
        self._check_others()
        seen: list[Listener] = []
        for listener in self.listeners():
            for other in seen:
                if listener.overlaps(other):
                    raise ConfigurationError(f"{listener.key}: {listener} is also taken by {other.key}")
            seen.append(listener)

    def _check_http(self) -> None:
        http = self.http
        _address("http.bind", http.bind)
        if (http.certificate is None) != (http.key is None):
            missing = "key" if http.key is None else "certificate"
            raise ConfigurationError(f"http.{missing}: certificate and key are given together or not at all")
        for index, proxy in enumerate(http.trusted_proxies):
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ConfigurationError(f"http.trusted_proxies[{index}]: {error}") from None
        if not http.tls and not http.trusted_proxies:
            raise ConfigurationError("http.tls: without TLS, http.trusted_proxies must be given")
        if http.external_url is not None:
            _url("http.external_url", http.external_url)
        if http.network is None:
            return
        for network in self.networks:
            if network.name == http.network:
                if network.webrtc_port is None:
                    raise ConfigurationError(f"http.network: network {http.network!r} has no webrtc_port")
                return
        known = ", ".join(network.name for network in self.networks)
        raise ConfigurationError(f"http.network: unknown network {http.network!r} (known: {known})")

    def _check_networks(self) -> None:
        names: set[str] = set()
        for index, network in enumerate(self.networks):
            key = f"networks[{index}]"
            if not NETWORK_NAME.match(network.name):
                raise ConfigurationError(f"{key}.name: letters, digits, '_' and '-' only, at most 32")
            if network.name in names:
                raise ConfigurationError(f"{key}.name: there is already a network {network.name!r}")
            names.add(network.name)
            bind = _address(f"{key}.bind", network.bind)
            if network.advertise is not None:
                advertised = _address(f"{key}.advertise", network.advertise)
                if advertised.is_unspecified:
                    raise ConfigurationError(f"{key}.advertise: peers cannot send to {network.advertise}")
            elif bind.is_unspecified:
                raise ConfigurationError(f"{key}.advertise: must be given when bind is {network.bind}")
            check_authority(f"{key}.sip", network.sip.certificate_authority, verified=network.sip.tls_verify)
            for at, host in enumerate(network.sip.redirects):
                if not HOST.match(host):
                    check_prefix(f"{key}.sip.redirects[{at}]", host)
            first, last = network.rtp_ports
            if first > last:
                raise ConfigurationError(f"{key}.rtp_ports: the first port {first} is above the last {last}")
            if last - first < 7:
                raise ConfigurationError(f"{key}.rtp_ports: {last - first + 1} ports do not hold two calls")
            highest = (network.webrtc_port or 0) + max(self.media.workers, 1) - 1
            if highest > 65535:
                raise ConfigurationError(
                    f"{key}.webrtc_port: with media.workers {self.media.workers} it goes up to {highest}"
                )

    def _check_trunks(self) -> None:
        names: set[str] = set()
        for index, trunk in enumerate(self.trunks):
            key = f"trunks[{index}]"
            trunk.check(key)
            if trunk.name in names:
                raise ConfigurationError(f"{key}.name: there is already a trunk {trunk.name!r}")
            names.add(trunk.name)
            network = next((n for n in self.networks if trunk.network in (None, n.name)), None)
            if network is None:
                raise ConfigurationError(f"{key}.network: unknown network {trunk.network!r}")
            if getattr(network.sip, trunk.transport) is None:
                where = f"network {network.name!r} has no SIP over {trunk.transport}"
                raise ConfigurationError(f"{key}.transport: {where}")

    def _check_others(self) -> None:
        if self.database.url is not None:
            scheme = self.database.url.partition("://")[0]
            if scheme not in DATABASE_DRIVERS:
                raise ConfigurationError(f"database.url: {scheme!r} is neither sqlite nor postgresql")
        if self.redis.url is not None and urlsplit(self.redis.url).scheme not in ("redis", "rediss", "unix"):
            raise ConfigurationError("redis.url: expected redis://, rediss:// or unix://")
        for index, url in enumerate(self.turn.urls):
            if not url.startswith(("stun:", "stuns:", "turn:", "turns:")):
                raise ConfigurationError(f"turn.urls[{index}]: expected stun:, stuns:, turn: or turns:")
            if url.startswith("turn") and self.turn.secret is None:
                raise ConfigurationError(f"turn.secret: {url} needs the secret shared with that server")
        lobby = self.meetings.lobby_number
        if lobby is not None and not LOBBY_NUMBER.match(lobby):
            raise ConfigurationError(f"meetings.lobby_number: {lobby!r} is not 1 to 12 digits")
        _address("edge.bind", self.edge.bind)
        if self.edge.external_url is not None:
            _url("edge.external_url", self.edge.external_url)
        try:
            ZoneInfo(self.analytics.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            unknown = self.analytics.time_zone
            raise ConfigurationError(f"analytics.time_zone: {unknown!r} is no known time zone") from None
        if self.sessions.idle > self.sessions.absolute:
            raise ConfigurationError("sessions.idle: is longer than sessions.absolute")


def _address(key: str, value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        raise ConfigurationError(f"{key}: {value!r} is not an IP address") from None


def _url(key: str, value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{key}: {value!r} is not an http or https address")
