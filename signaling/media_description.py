"""SDP to and from the neutral `MediaDescription`; SIP and WebRTC share it.

Reading takes what peers really send: session-level values inherited by the sections, duplicate
m-lines, feedback for "*", missing rtpmaps of static payload types. Writing is strict: an answer has
one section for each of the offer's, in its order and with its protocol (RFC 3264 6).
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from foundation.desks import (
    CodecDescription,
    CryptoKey,
    Direction,
    DtlsDescription,
    IceDescription,
    MediaDescription,
    MediaSection,
    Refusal,
    RefusalKind,
    SectionKind,
)
from protocols.sdp import (
    Bandwidth,
    Connection,
    Crypto,
    Fingerprint,
    FormatParameters,
    Media,
    Origin,
    RtcpFeedback,
    RtpMap,
    SdpError,
    SessionDescription,
)
from protocols.sdp.attributes import rtp_maps
from protocols.sdp.session import is_number

_DIRECTIONS = tuple(Direction)
_NO_ADDRESS = "0.0.0.0"


def read_sdp(data: bytes) -> MediaDescription:
    """Read an offer or answer; `Refusal(BAD_DESCRIPTION)` says what is wrong with it."""
    try:
        session = SessionDescription.parse(data)
        sections = tuple(_section(session, media) for media in session.media)
    except SdpError as error:
        raise Refusal(RefusalKind.BAD_DESCRIPTION, f"session description: {error}") from error
    bandwidth = Bandwidth.of(session)
    group = next((v.split() for v in session.values("group") if v.startswith("BUNDLE")), [])
    return MediaDescription(
        sections=sections,
        bandwidth_bps=None if bandwidth is None else bandwidth.bits_per_second,
        bundle=tuple(group[1:]),
    )


def _section(session: SessionDescription, media: Media) -> MediaSection:
    kind = {"audio": SectionKind.AUDIO, "video": SectionKind.VIDEO}.get(media.media, SectionKind.OTHER)
    if "RTP/" not in media.protocol:
        kind = SectionKind.OTHER
    connection = media.connection or session.connection
    if connection is None and media.port and kind is not SectionKind.OTHER:
        raise SdpError(f"m={media.media} has no connection line")
    bandwidth = Bandwidth.of(media)
    direction = _direction(session, media)
    address = connection.address if connection is not None else _NO_ADDRESS
    if address == _NO_ADDRESS and media.value("ice-ufrag") is None and session.value("ice-ufrag") is None:
        # RFC 2543 hold: the peer takes nothing at this address.
        direction = Direction.SENDONLY if direction.sends else Direction.INACTIVE
    return MediaSection(
        kind=kind,
        address=address,
        port=media.port,
        protocol=media.protocol,
        codecs=() if kind is SectionKind.OTHER else _codecs(media),
        direction=direction,
        mid=media.value("mid"),
        content=media.value("content"),
        label=media.value("label"),
        bandwidth_bps=None if bandwidth is None else bandwidth.bits_per_second,
        rtcp_port=_rtcp_port(media),
        rtcp_mux=media.has("rtcp-mux"),
        rtcp_rsize=media.has("rtcp-rsize"),
        ptime=_number(media.value("ptime")),
        crypto=_crypto(media),
        ice=_ice(session, media),
        dtls=_dtls(session, media),
        extensions=_extensions(media),
        ssrc=_ssrc(media),
        media=f"{media.media} {' '.join(media.formats)}",
    )


def _codecs(media: Media) -> tuple[CodecDescription, ...]:
    parameters = {f.payload_type: f.parameters for f in map(FormatParameters.parse, media.values("fmtp"))}
    feedback = [RtcpFeedback.parse(value) for value in media.values("rtcp-fb")]
    return tuple(
        CodecDescription(
            name=codec.name,
            payload_type=codec.payload_type,
            clock_rate=codec.clock_rate,
            channels=codec.channels,
            parameters=parameters.get(codec.payload_type, {}),
            feedback=tuple(f.feedback for f in feedback if f.payload_type in (None, codec.payload_type)),
        )
        for codec in rtp_maps(media)
    )


def _direction(session: SessionDescription, media: Media) -> Direction:
    for described in (media, session):
        for direction in _DIRECTIONS:
            if described.has(direction.value):
                return direction
    return Direction.SENDRECV


def _rtcp_port(media: Media) -> int | None:
    words = (media.value("rtcp") or "").split()
    return int(words[0]) if words and is_number(words[0]) and 0 < int(words[0]) <= 65_535 else None


def _crypto(media: Media) -> tuple[CryptoKey, ...]:
    """The lines we can honour (RFC 4568 5.1.2: another is passed over): one key, no strange parameters.

    The lifetime binds the sender alone; it comes back with a new key. Several keys would change in
    mid-stream by their identifiers.
    """
    usable = []
    for value in media.values("crypto"):
        try:
            line = Crypto.parse(value)
        except SdpError:
            continue
        if line.unmet is None and len(line.keys) == 1:
            text = str(replace(line.keys[0], lifetime=None)).removeprefix("inline:")
            usable.append(CryptoKey(line.tag, line.suite, text))
    return tuple(usable)


def _ice(session: SessionDescription, media: Media) -> IceDescription | None:
    ufrag = media.value("ice-ufrag") or session.value("ice-ufrag")
    password = media.value("ice-pwd") or session.value("ice-pwd")
    if ufrag is None or password is None:
        return None
    return IceDescription(ufrag, password, tuple(media.values("candidate")), session.has("ice-lite"))


def _dtls(session: SessionDescription, media: Media) -> DtlsDescription | None:
    value = media.value("fingerprint") or session.value("fingerprint")
    if value is None:
        return None
    fingerprint = Fingerprint.parse(value)
    setup = media.value("setup") or session.value("setup") or "actpass"
    return DtlsDescription(fingerprint.algorithm, fingerprint.value, setup)


def _extensions(media: Media) -> dict[int, str]:
    found = {}
    for value in media.values("extmap"):
        words = value.split()
        number = words[0].split("/")[0] if words else ""
        if is_number(number) and len(words) > 1:
            found[int(number)] = words[1]
    return found


def _ssrc(media: Media) -> int | None:
    return next((_number(value.split()[0]) for value in media.values("ssrc") if value.split()), None)


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and is_number(value) else None


def write_sdp(
    description: MediaDescription, *, session_id: int | None = None, version: int = 1, name: str = "Anshi"
) -> bytes:
    """Print our offer or answer. `session_id` and `version` keep to RFC 3264 8 over a dialog's life."""
    address = next((s.address for s in description.sections if s.port), _NO_ADDRESS)
    attributes: list[tuple[str, str | None]] = []
    if description.bundle:
        attributes.append(("group", " ".join(("BUNDLE", *description.bundle))))
    if any(section.ice is not None and section.ice.lite for section in description.sections):
        attributes.append(("ice-lite", None))
    session = SessionDescription(
        origin=Origin("anshi", str(session_id or secrets.randbits(48)), version, address),
        name=name,
        connection=Connection(address),
        bandwidth=_bandwidth_lines(description.bandwidth_bps),
        attributes=tuple(attributes),
        media=tuple(_media(section, address) for section in description.sections),
    )
    return bytes(session)


def _bandwidth_lines(bits_per_second: int | None) -> tuple[tuple[str, int], ...]:
    """b=AS only: every terminal reads it, and it counts the headers as our budgets do."""
    return () if bits_per_second is None else (("AS", max(1, bits_per_second // 1000)),)


def _media(section: MediaSection, session_address: str) -> Media:
    if section.port == 0 or section.kind is SectionKind.OTHER:
        return _refused(section)
    same_address = section.address == session_address
    return Media(
        media=section.kind.value,
        port=section.port,
        protocol=section.protocol,
        formats=tuple(str(codec.payload_type) for codec in section.codecs),
        connection=None if same_address else Connection(section.address),
        bandwidth=_bandwidth_lines(section.bandwidth_bps),
        attributes=(
            *_codec_attributes(section),
            *_section_attributes(section),
            *_security_attributes(section),
        ),
    )


def _refused(section: MediaSection) -> Media:
    words = [word for word in section.media.split(" ") if word] or [section.kind.value, "0"]
    attributes: tuple[tuple[str, str | None], ...] = () if section.mid is None else (("mid", section.mid),)
    formats = tuple(words[1:]) or ("0",)
    return Media(words[0], 0, section.protocol, formats, attributes=(*attributes, ("inactive", None)))


def _codec_attributes(section: MediaSection) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for codec in section.codecs:
        rtp_map = RtpMap(codec.payload_type, _printed_name(codec.name), codec.clock_rate, codec.channels)
        found.append(("rtpmap", str(rtp_map)))
        if codec.parameters:
            found.append(("fmtp", str(FormatParameters(codec.payload_type, codec.parameters))))
        found += [("rtcp-fb", str(RtcpFeedback(codec.payload_type, value))) for value in codec.feedback]
    if section.ptime is not None:
        found.append(("ptime", str(section.ptime)))
    return found


def _printed_name(name: str) -> str:
    """Some terminals compare these case-sensitively, against RFC 8866 6.6; print what they print."""
    return {"OPUS": "opus", "TELEPHONE-EVENT": "telephone-event", "RTX": "rtx"}.get(name, name)


def _section_attributes(section: MediaSection) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = [(section.direction.value, None)]
    for name in ("mid", "content", "label"):
        value = getattr(section, name)
        if value is not None:
            found.append((name, value))
    if section.rtcp_mux:
        found.append(("rtcp-mux", None))
    elif section.rtcp_port is not None:
        found.append(("rtcp", str(section.rtcp_port)))
    if section.rtcp_rsize:
        found.append(("rtcp-rsize", None))
    found += [("extmap", f"{number} {uri}") for number, uri in section.extensions.items()]
    if section.ssrc is not None and section.cname is not None:
        if section.rtx_ssrc is not None:
            found.append(("ssrc-group", f"FID {section.ssrc} {section.rtx_ssrc}"))
        for ssrc in (section.ssrc, section.rtx_ssrc):
            if ssrc is not None:
                found += [
                    ("ssrc", f"{ssrc} cname:{section.cname}"),
                    ("ssrc", f"{ssrc} msid:{section.cname} {section.mid}"),
                ]
    return found


def _security_attributes(section: MediaSection) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = [
        ("crypto", f"{key.tag} {key.suite} inline:{key.key}") for key in section.crypto
    ]
    if section.ice is not None:
        found += [("ice-ufrag", section.ice.ufrag), ("ice-pwd", section.ice.password)]
        found += [("candidate", candidate) for candidate in section.ice.candidates]
        found.append(("end-of-candidates", None))
    if section.dtls is not None:
        found += [
            ("fingerprint", f"{section.dtls.algorithm} {section.dtls.fingerprint}"),
            ("setup", section.dtls.setup),
        ]
    return found
