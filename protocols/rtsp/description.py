"""What DESCRIBE answers: tracks and the URLs that control them (RFC 2326 C.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from protocols.sdp import FormatParameters, Media, RtpMap, SdpError, SessionDescription
from protocols.sdp.attributes import rtp_maps

DEFAULT_PORT = 554


@dataclass(frozen=True, slots=True)
class Track:
    """One m= line; the first of its formats. `control` is absolute. `parameters` are those of a=fmtp."""

    media: str
    payload_type: int
    codec: str
    clock_rate: int
    control: str
    channels: int = 1
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Presentation:
    """`control` is the aggregate URL, for PLAY and TEARDOWN."""

    control: str
    tracks: tuple[Track, ...]

    @classmethod
    def parse(cls, data: bytes, base: str) -> Presentation:
        """`base`: see `base_url`. Tracks without a codec we can name are left out. Raises SdpError."""
        description = SessionDescription.parse(data)
        control = resolve(base, description.value("control") or "*")
        tracks = [track for media in description.media if (track := _track(media, control)) is not None]
        return cls(control, tuple(tracks))


def _track(media: Media, base: str) -> Track | None:
    try:
        maps = rtp_maps(media)
        parameters = [FormatParameters.parse(value) for value in media.values("fmtp")]
    except SdpError:
        return None
    if not maps:
        return None
    first: RtpMap = maps[0]
    return Track(
        media=media.media,
        payload_type=first.payload_type,
        codec=first.name,
        clock_rate=first.clock_rate,
        control=resolve(base, media.value("control") or "*"),
        channels=first.channels,
        parameters=next((one.parameters for one in parameters if one.payload_type == first.payload_type), {}),
    )


def base_url(request_url: str, content_base: str | None, content_location: str | None) -> str:
    """RFC 2326 C.1.1: Content-Base, else Content-Location, else the request's URL.

    Cameras send them relative, empty or of another scheme: such a one is passed over.
    """
    for candidate in (content_base, content_location):
        text = (candidate or "").strip()
        if _is_absolute(text) and urlsplit(text).netloc:
            return text
    return request_url


def resolve(base: str, control: str) -> str:
    """An a=control value on a base.

    "trackID=1" is put behind the base whole, query string and all, as every client does it: RFC 3986 would
    cut the last segment off, and a camera that has its channel in the query would not know its own URL.
    """
    control = control.strip()
    if control in ("", "*"):
        return base
    if _is_absolute(control):
        return control
    if control[0] == "/":
        return urljoin("http" + base[base.index(":") :], control).replace("http", "rtsp", 1)
    return base + control if base[-1] == "/" or control[0] == "?" else f"{base}/{control}"


def _is_absolute(url: str) -> bool:
    return url[:7].lower() in ("rtsp://", "rtspu:/") or url[:8].lower() == "rtsps://"


@dataclass(frozen=True, slots=True)
class Address:
    """A camera's URL taken apart: where to connect to, what to ask for, and who is said to ask."""

    host: str
    port: int
    url: str
    """Without user and password, which never belong into a request line."""
    username: str | None = None
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises ValueError that says what is wrong with our own setting."""
        parts = urlsplit(text.strip())
        if parts.scheme.lower() != "rtsp" or not parts.hostname:
            raise ValueError("a camera's address looks like rtsp://host:port/path")
        host = parts.netloc.rpartition("@")[2]
        url = urlunsplit(("rtsp", host, parts.path or "/", parts.query, ""))
        username = None if parts.username is None else unquote(parts.username)
        return cls(parts.hostname, parts.port or DEFAULT_PORT, url, username, unquote(parts.password or ""))
