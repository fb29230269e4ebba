"""SDP to and from the neutral `MediaDescription`; SIP and WebRTC share it.

Reading takes what peers really send: session-level values inherited by the sections, duplicate
m-lines, feedback for "*", missing rtpmaps of static payload types, a second picture named by a=content, by
the label of its floor, or by nothing but its place. Writing is strict: an answer has one section for each of
the offer's, in its order and with its protocol (RFC 3264 6).
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from foundation.desks import (
    CodecDescription,
    CryptoKey,
    Direction,
    DtlsDescription,
    FloorDescription,
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
    FloorId,
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
_SLIDES, _MAIN = "slides", "main"
_FLOOR_ROLES = ("c-only", "s-only", "c-s")
_PRINTED_MEDIA = {SectionKind.SLIDES: "video", SectionKind.FLOOR: "application"}
_PRINTED = {
    "OPUS": "opus",
    "TELEPHONE-EVENT": "telephone-event",
    "RTX": "rtx",
    "MPEG4-GENERIC": "mpeg4-generic",
}
_NO_ADDRESS = "0.0.0.0"
_FAMILIES = ("IP4", "IP6")


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
        sections=_with_slides(_bundled(session, sections, group[1:]), group[1:]),
        bandwidth_bps=None if bandwidth is None else bandwidth.bits_per_second,
        bundle=tuple(group[1:]),
    )


def _section(session: SessionDescription, media: Media) -> MediaSection:
    kind = _kind(media)
    connection = media.connection or session.connection
    spoken = kind not in (SectionKind.OTHER, SectionKind.FLOOR)
    if connection is None and media.port and spoken:
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
        codecs=_codecs(media) if spoken else (),
        direction=direction,
        mid=media.value("mid"),
        content=media.value("content"),
        label=media.value("label"),
        bandwidth_bps=None if bandwidth is None else bandwidth.bits_per_second,
        rtcp_port=_rtcp_port(media),
        rtcp_address=_rtcp_address(media),
        rtcp_mux=media.has("rtcp-mux"),
        rtcp_rsize=media.has("rtcp-rsize"),
        ptime=_number(media.value("ptime")),
        crypto=_crypto(media),
        ice=_ice(session, media),
        dtls=_dtls(session, media) if spoken else None,
        extensions=_extensions(media),
        ssrc=_ssrc(media),
        media=f"{media.media} {' '.join(media.formats)}",
        floor=_floor(media) if kind is SectionKind.FLOOR else None,
    )


def _kind(media: Media) -> SectionKind:
    if media.media == "application" and media.protocol.upper().endswith("BFCP"):
        return SectionKind.FLOOR
    if "RTP/" not in media.protocol:
        return SectionKind.OTHER
    if media.media == "video":
        words = (media.value("content") or "").lower().replace(",", " ").split()
        return SectionKind.SLIDES if _SLIDES in words else SectionKind.VIDEO  # RFC 4796
    return SectionKind.AUDIO if media.media == "audio" else SectionKind.OTHER


def _floor(media: Media) -> FloorDescription:
    """RFC 8856 5; what cannot be read of it is as if it were not there."""
    floors = []
    for value in media.values("floorid"):
        try:
            floors.append(FloorId.parse(value))
        except SdpError:
            continue
    words = (media.value("floorctrl") or "").lower().split()
    return FloorDescription(
        roles=tuple(word for word in words if word in _FLOOR_ROLES),
        conference_id=_number(media.value("confid")),
        user_id=_number(media.value("userid")),
        floors=tuple((floor.number, floor.labels) for floor in floors),
        setup=media.value("setup"),
        connection=media.value("connection"),
        version=_number((media.value("bfcpver") or "").split(" ")[0]),
    )


def _bundled(
    session: SessionDescription, sections: tuple[MediaSection, ...], bundle: list[str]
) -> tuple[MediaSection, ...]:
    """RFC 9143 7.2: a section that is "bundle-only" has port 0 and is none the less on offer, with the port
    of the group."""
    port = next((s.port for s in sections if s.mid in bundle and s.port), 0)
    return tuple(
        replace(section, port=port)
        if not section.port and section.mid in bundle and media.has("bundle-only")
        else section
        for section, media in zip(sections, session.media, strict=True)
    )


def _with_slides(sections: tuple[MediaSection, ...], bundle: list[str]) -> tuple[MediaSection, ...]:
    """Which picture is the slides where no a=content says so.

    The one whose label the floor has; else a browser's second picture of one bundle; else, beside BFCP, the
    second of two that nothing distinguishes. A picture twice in different profiles is the same picture.
    """
    if any(section.kind is SectionKind.SLIDES for section in sections):
        return sections
    videos = [i for i, section in enumerate(sections) if section.kind is SectionKind.VIDEO]
    unnamed = [i for i in videos if sections[i].content is None]
    floors = [s.floor for s in sections if s.floor is not None and s.port]
    labels = {label for floor in floors for _number, named in floor.floors for label in named}
    labelled = [i for i in unnamed if sections[i].label in labels]
    browser = [i for i in unnamed if sections[i].mid in bundle and sections[i].ice is not None]
    second = None
    if labelled and len(videos) > len(labelled):
        second = labelled[0]
    elif len(browser) > 1:
        second = browser[1]
    elif floors and len(unnamed) == len(videos) == 2:
        first, other = (sections[i] for i in videos)
        second = videos[1] if first.protocol == other.protocol else None
    return tuple(
        replace(section, kind=SectionKind.SLIDES) if i == second else section
        for i, section in enumerate(sections)
    )


def _codecs(media: Media) -> tuple[CodecDescription, ...]:
    parameters: dict[int, dict[str, str]] = {}
    for line in map(FormatParameters.parse, media.values("fmtp")):
        parameters.setdefault(line.payload_type, {}).update(line.parameters)  # some break it over lines
    feedback = [RtcpFeedback.parse(value) for value in media.values("rtcp-fb")]
    return tuple(
        CodecDescription(
            name=codec.name,
            payload_type=codec.payload_type,
            clock_rate=_clock_rate(codec),
            channels=codec.channels,
            parameters=parameters.get(codec.payload_type, {}),
            feedback=tuple(f.feedback for f in feedback if f.payload_type in (None, codec.payload_type)),
        )
        for codec in rtp_maps(media)
    )


def _clock_rate(codec: RtpMap) -> int:
    """RFC 3551 4.5.2: G.722 ticks at 8000 though it samples at 16000, which old terminals write."""
    return 8_000 if (codec.name, codec.payload_type) == ("G722", 9) else codec.clock_rate


def _direction(session: SessionDescription, media: Media) -> Direction:
    for described in (media, session):
        for direction in _DIRECTIONS:
            if described.has(direction.value):
                return direction
    return Direction.SENDRECV


def _rtcp_port(media: Media) -> int | None:
    words = (media.value("rtcp") or "").split()
    return int(words[0]) if words and is_number(words[0]) and 0 < int(words[0]) <= 65_535 else None


def _rtcp_address(media: Media) -> str | None:
    """The address behind the port of a=rtcp (RFC 3605 2.1): "53020 IN IP4 126.16.64.4"."""
    words = (media.value("rtcp") or "").split()
    stated = len(words) == 4 and words[1].upper() == "IN" and words[2].upper() in _FAMILIES
    return words[3] if stated else None


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
        media=tuple(_media(section, address) for section in _with_contents(description.sections)),
    )
    return bytes(session)


def _with_contents(sections: tuple[MediaSection, ...]) -> list[MediaSection]:
    """RFC 4796 where there are two pictures: terminals tell them by a=content; browsers have their order.

    A refused picture keeps the words that its offer had.
    """
    if not any(section.kind is SectionKind.SLIDES for section in sections):
        return list(sections)
    contents = {SectionKind.SLIDES: _SLIDES, SectionKind.VIDEO: _MAIN}
    return [
        section
        if section.ice is not None or section.content is not None or not section.port
        else replace(section, content=contents.get(section.kind))
        for section in sections
    ]


def _bandwidth_lines(bits_per_second: int | None) -> tuple[tuple[str, int], ...]:
    """b=AS only: every terminal reads it, and it counts the headers as our budgets do."""
    return () if bits_per_second is None else (("AS", max(1, bits_per_second // 1000)),)


def _media(section: MediaSection, session_address: str) -> Media:
    if section.port == 0 or section.kind is SectionKind.OTHER:
        return _refused(section)
    same_address = section.address == session_address
    if section.kind is SectionKind.FLOOR:
        connection = None if same_address else Connection(section.address)
        attributes = tuple(_floor_attributes(section))
        return Media("application", section.port, section.protocol, ("*",), connection, (), attributes)
    return Media(
        media=_PRINTED_MEDIA.get(section.kind, section.kind.value),
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
    printed = _PRINTED_MEDIA.get(section.kind, section.kind.value)
    words = [word for word in section.media.split(" ") if word] or [printed, "0"]
    formats = tuple(words[1:]) or ("0",)
    attributes = (("inactive", None), *_names(section))
    return Media(words[0], 0, section.protocol, formats, attributes=attributes)


def _names(section: MediaSection) -> list[tuple[str, str | None]]:
    """What tells a section from others of its kind (RFC 5888, 4796, 4574)."""
    values = (("mid", section.mid), ("content", section.content), ("label", section.label))
    return [(name, value) for name, value in values if value is not None]


def _floor_attributes(section: MediaSection) -> list[tuple[str, str | None]]:
    """RFC 8856 5, in the order of its examples."""
    floor = section.floor or FloorDescription()
    found: list[tuple[str, str | None]] = [] if section.mid is None else [("mid", section.mid)]
    numbers = (("confid", floor.conference_id), ("userid", floor.user_id))
    found += [("setup", floor.setup)] if floor.setup is not None else []
    found += [("connection", floor.connection)] if floor.connection is not None else []
    found += [("floorctrl", " ".join(floor.roles))] if floor.roles else []
    found += [(name, str(number)) for name, number in numbers if number is not None]
    found += [("floorid", str(FloorId(number, labels))) for number, labels in floor.floors]
    found += [("bfcpver", str(floor.version))] if floor.version is not None else []
    return found


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
    return _PRINTED.get(name, name)


def _section_attributes(section: MediaSection) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = [(section.direction.value, None), *_names(section)]
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
