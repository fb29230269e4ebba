"""Which codec two ends use (RFC 3264 6, RFC 6184 8.2.2), as pure functions.

Sound follows the offerer's order, but AAC is taken only where neither Opus nor G.722 is offered. Pictures
prefer H.264 over VP8 over H.263 over H.261, mode 1 over mode 0 and baseline over main over high: what most
sites share can be forwarded, and encoded once. Who only receives is given the highest profile that it offers
instead: its decoder takes lower ones too, and cameras send high.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from foundation.desks import CodecDescription, Direction, MediaDescription, MediaSection, SectionKind
from mcu_bridge.aac_terms import AacTerms
from mcu_bridge.cif_formats import cif_parameters
from media.srtp import PROFILES
from protocols.payloads.h264_fmtp import LEVELS, ProfileLevel

AUDIO_CODECS = {"OPUS": 48_000, "G722": 8_000, "PCMA": 8_000, "PCMU": 8_000}
"""Clock rates in RTP; G.722 samples twice as often as its clock ticks (RFC 3551 4.5.2)."""
TELEPHONE_EVENT = "TELEPHONE-EVENT"
VIDEO_CODECS = ("H264", "VP8", "H263-2000", "H263-1998", "H263", "H261")
"""Best first."""
CIF_CODECS = frozenset({"H263-2000", "H263-1998", "H263", "H261"})
"""Of a few fixed picture sizes."""
VIDEO_FEEDBACK = ("nack", "nack pli", "ccm fir", "ccm tmmbr", "goog-remb")

_H264_PROFILES = ("42", "4d", "64")  # profile_idc of baseline, main, high
_RECEIVED_PROFILES = ("64", "f4", "4d", "42")
"""Best first, for who only receives. A decoder of High 4:4:4 Predictive takes high, main and constrained
baseline (ITU-T H.264 A.2.7): Chromium without a decoder in hardware offers that and not high."""
_OUR_LEVEL = 31  # 3.1: 1280x720 at 30

MID_EXTENSION = "urn:ietf:params:rtp-hdrext:sdes:mid"
PICTURES = (SectionKind.VIDEO, SectionKind.SLIDES)

# What we offer when we call: dynamic payload types as terminals like them.
OFFERED_AUDIO = (
    CodecDescription("OPUS", 96, 48_000, 2, {"useinbandfec": "1", "minptime": "20"}),
    CodecDescription("G722", 9, 8_000),
    CodecDescription("PCMA", 8, 8_000),
    CodecDescription("PCMU", 0, 8_000),
    CodecDescription(TELEPHONE_EVENT, 101, 8_000, 1, {"0-15": ""}),
)
OFFERED_VIDEO = (
    CodecDescription(
        "H264", 97, 90_000, 1, {"profile-level-id": "42e01f", "packetization-mode": "1"}, VIDEO_FEEDBACK
    ),
    CodecDescription(
        "H264", 98, 90_000, 1, {"profile-level-id": "42e01f", "packetization-mode": "0"}, VIDEO_FEEDBACK
    ),
    CodecDescription("VP8", 99, 90_000, 1, {}, VIDEO_FEEDBACK),
    # Terminals of that age know no feedback; the shorter the INVITE, the better for them.
    CodecDescription("H263-1998", 100, 90_000, 1, {"CIF": "1", "QCIF": "1"}),
    CodecDescription("H263", 34, 90_000, 1, {"CIF": "1", "QCIF": "1"}),
    CodecDescription("H261", 31, 90_000, 1, {"CIF": "1", "QCIF": "1"}),
)

OFFERED_SLIDES = tuple(codec for codec in OFFERED_VIDEO if codec.name in ("H264", "H263"))
"""What terminals know for a second picture."""
SLIDES_LABEL = "12"
"""RFC 4574: what a floor's description (RFC 8856 5.2) calls our second picture."""


@dataclass(frozen=True, slots=True)
class AgreedCodecs:
    """What one section came to: the codec that carries the medium, and its companions.

    `main.parameters` are the peer's (they bound what we send); `answer` lists what our answer says.
    `rtx` is the payload type of retransmissions, `events` that of telephone events. `incoming` is all that
    may come by its payload type, where that is more than these: after an answer to our own offer.
    """

    main: CodecDescription
    answer: tuple[CodecDescription, ...]
    rtx: int | None = None
    events: int | None = None
    incoming: Mapping[int, CodecDescription] = field(default_factory=dict)


def agree(section: MediaSection) -> AgreedCodecs | None:
    """The codecs of our answer to `section`; None when there is no common one."""
    if section.kind is SectionKind.AUDIO:
        return _agree_audio(section.codecs)
    if section.kind in PICTURES:
        return _agree_video(section.codecs, only_receives=section.direction is Direction.RECVONLY)
    return None


def settle(offered: MediaSection, answered: MediaSection) -> AgreedCodecs | None:
    """The codecs after the peer's answer to our own offer.

    We send what the answer names first, under the answer's number, and take all that it names (RFC 3264 7);
    a codec that we did not offer is passed over. A picture is the one that we offered, whether or not the
    answer repeats a=content.
    """
    if answered.kind in PICTURES and offered.kind in PICTURES:
        answered = replace(answered, kind=offered.kind)
    names = {codec.name for codec in offered.codecs}
    named = [_completed(codec, offered) for codec in answered.codecs if codec.name in names]
    usable = [codec for codec in named if agree(replace(answered, codecs=(codec,))) is not None]
    if not usable or not answered.port:
        return None
    events = [codec for codec in named if codec.name == TELEPHONE_EVENT]
    agreed = agree(replace(answered, codecs=(usable[0], *events)))
    return None if agreed is None else replace(agreed, incoming=_incoming(offered, (*usable, *events)))


def _completed(codec: CodecDescription, offered: MediaSection) -> CodecDescription:
    """An answer in H.264 with what it leaves out: a number of our offer stands for what we offered under it
    (RFC 6184 8.2.2), not for level 1 in mode 0. Under a new number only mode 0 is certain: each takes it."""
    if codec.name != "H264":
        return codec
    ours = [each for each in offered.codecs if each.name == codec.name]
    same = next((each for each in ours if each.payload_type == codec.payload_type), None)
    alike = (each for each in ours if packetization_mode(each) == packetization_mode(codec))
    given = same or next(alike, ours[0])
    left_out = {"profile-level-id": profile_level_id(given)}
    if same is not None:
        left_out["packetization-mode"] = str(packetization_mode(same))
    return replace(codec, parameters=left_out | codec.parameters)


def _incoming(offered: MediaSection, named: Sequence[CodecDescription]) -> dict[int, CodecDescription]:
    """What comes by payload type, of the codecs that the answer named.

    The peer sends with the numbers of our offer, whatever its answer calls them (RFC 3264 5.1); some send
    with those of their answer. Where a number means one codec there and another here, ours is right.
    """
    found = {codec.payload_type: codec for codec in named}
    for ours in offered.codecs:
        alike = (c for c in named if (coding(c), c.clock_rate) == (coding(ours), ours.clock_rate))
        theirs = next(alike, None)
        if theirs is not None:
            found[ours.payload_type] = theirs
    return found


def _agree_audio(codecs: Iterable[CodecDescription]) -> AgreedCodecs | None:
    codecs = tuple(codecs)
    usable = [c for c in codecs if AUDIO_CODECS.get(c.name) == c.clock_rate or AacTerms.of(c) is not None]
    wide = any(c.name in ("OPUS", "G722") for c in usable)
    main = next((c for c in usable if _in_turn(c, wide=wide)), usable[0] if usable else None)
    if main is None:
        return None
    ours = replace(main, parameters=_our_audio_parameters(main), feedback=())
    events = [c for c in codecs if c.name == TELEPHONE_EVENT]
    event = next((c for c in events if c.clock_rate == main.clock_rate), events[0] if events else None)
    answer = (ours,) if event is None else (ours, replace(event, parameters={"0-15": ""}, feedback=()))
    return AgreedCodecs(main, answer, events=None if event is None else event.payload_type)


def _in_turn(codec: CodecDescription, *, wide: bool) -> bool:
    """What is taken in its turn: no AAC where something `wide` is shared, nor AAC of a low rate, whose
    access units are long (200 ms from end to end at 16 kHz), where anything is."""
    aac = AacTerms.of(codec)
    return aac is None or not (wide or aac.slow)


def _our_audio_parameters(codec: CodecDescription) -> dict[str, str]:
    if codec.name == "OPUS":
        return {"useinbandfec": "1", "minptime": "10"}
    aac = AacTerms.of(codec)
    return {} if aac is None else aac.answer


def _agree_video(codecs: Iterable[CodecDescription], *, only_receives: bool) -> AgreedCodecs | None:
    codecs = tuple(codecs)
    profiles = _RECEIVED_PROFILES if only_receives else _H264_PROFILES
    usable = [
        c for c in codecs if c.name in VIDEO_CODECS and c.clock_rate == 90_000 and _h264_usable(c, profiles)
    ]
    if not usable:
        return None
    main = min(usable, key=partial(_video_rank, profiles=profiles))
    ours = replace(
        main,
        parameters=_our_video_parameters(main),
        feedback=agreed_feedback(main),
    )
    rtx = next(
        (c for c in codecs if c.name == "RTX" and c.parameters.get("apt") == str(main.payload_type)), None
    )
    if rtx is None or "nack" not in main.feedback:
        return AgreedCodecs(main, (ours,))
    return AgreedCodecs(main, (ours, replace(rtx, feedback=())), rtx=rtx.payload_type)


def agreed_feedback(codec: CodecDescription) -> tuple[str, ...]:
    """What of the offered feedback is ours too. Terminals name several commands in one line, against RFC 5104
    7.1; its parameters (smaxpr of tmmbr) are hints."""
    found: list[str] = []
    for value in codec.feedback:
        kind, *words = value.split() or [""]
        found += [f"ccm {word}" for word in words] if kind == "ccm" else [value]
    return tuple(dict.fromkeys(value for value in found if value in VIDEO_FEEDBACK))


def coding(codec: CodecDescription) -> str:
    """The codec by its payload format: H263-2000 is H263-1998 with other parameters (RFC 4629)."""
    return "H263-1998" if codec.name == "H263-2000" else codec.name


def packetization_mode(codec: CodecDescription) -> int:
    """RFC 6184 8.1: a missing mode means 0, single NAL units."""
    value = codec.parameters.get("packetization-mode", "0")
    return int(value) if re.fullmatch("[0-9]{1,3}", value) else 0


def profile_level_id(codec: CodecDescription) -> str:
    """RFC 6184 8.1: a missing profile-level-id, and one that is none, means baseline, level 1."""
    value = codec.parameters.get("profile-level-id", "42000a").lower()
    return value if re.fullmatch("[0-9a-f]{6}", value) else "42000a"


def _h264_usable(codec: CodecDescription, profiles: Sequence[str]) -> bool:
    if codec.name != "H264":
        return True
    return packetization_mode(codec) in (0, 1) and profile_level_id(codec)[:2] in profiles


def _video_rank(codec: CodecDescription, *, profiles: Sequence[str]) -> tuple[int, int, int, int]:
    """Smaller is better."""
    if codec.name != "H264":
        return (VIDEO_CODECS.index(codec.name), 0, 0, 0)
    profile = profile_level_id(codec)
    constrained = int(profile[2:4], 16) & 0x40  # constraint_set1: every decoder of ours and theirs
    return (0, -packetization_mode(codec), profiles.index(profile[:2]), 0 if constrained else 1)


def _our_video_parameters(codec: CodecDescription) -> dict[str, str]:
    """The answer keeps the configuration point: profile and mode (RFC 6184 8.2.2).

    With level asymmetry allowed we state our own level; without it, the offer's, which both keep: a lower
    one than ours with what we take beyond it (max-mbps, max-fs of 8.1), as terminals do with theirs.
    """
    if codec.name in CIF_CODECS:
        return cif_parameters(codec)
    if codec.name != "H264":
        return {}
    offered = profile_level_id(codec)
    asymmetric = codec.parameters.get("level-asymmetry-allowed") == "1"
    answered = offered[:4] + f"{_OUR_LEVEL:02x}" if asymmetric else offered
    parameters = {"profile-level-id": answered, "packetization-mode": str(packetization_mode(codec))}
    if asymmetric:
        parameters["level-asymmetry-allowed"] = "1"
    level, ours = ProfileLevel.parse(answered).limits, LEVELS[_OUR_LEVEL]
    if level.max_mbps < ours.max_mbps:
        parameters["max-mbps"] = str(ours.max_mbps)
    if level.max_fs < ours.max_fs:
        parameters["max-fs"] = str(ours.max_fs)
    return parameters


def with_bit_rate(codec: CodecDescription, bits_per_second: int) -> CodecDescription:
    """What we describe, with max-br where a budget leaves more than the level's own rate (RFC 6184 8.1)."""
    if codec.name != "H264":
        return codec
    kilobits = bits_per_second // 1000
    if kilobits <= ProfileLevel.parse(profile_level_id(codec)).limits.max_br:
        return codec
    return replace(codec, parameters={**codec.parameters, "max-br": str(kilobits)})


def chosen_sections(description: MediaDescription) -> dict[SectionKind, int]:
    """Which section serves each kind: the first usable sound, main picture and slides.

    A duplicate in another profile is answered with port 0, as is one in SRTP whose keys we cannot have.
    Of duplicates the one in SRTP serves.
    """
    chosen: dict[SectionKind, int] = {}
    for index, section in enumerate(description.sections):
        wanted = section.kind in (SectionKind.AUDIO, *PICTURES) and section.port != 0
        wanted = wanted and has_usable_key(section)
        if section.kind is SectionKind.VIDEO and section.content == "slides":
            continue
        before = chosen.get(section.kind)
        better = before is None or is_secure(section) > is_secure(description.sections[before])
        if wanted and better and agree(section):
            chosen[section.kind] = index
    return chosen


def is_secure(section: MediaSection) -> bool:
    """SRTP by its protocol."""
    return "SAVP" in section.protocol


def in_one_transport(description: MediaDescription, indices: Collection[int]) -> bool:
    """Whether these sections share one transport, as browsers' do (RFC 9143): in a bundle, or one alone.

    Terminals that speak ICE and DTLS medium by medium are answered without ICE, at their default addresses.
    """
    return len(indices) == 1 or all(description.sections[i].mid in description.bundle for i in indices)


def has_usable_key(section: MediaSection) -> bool:
    """Plain RTP, or SRTP whose keys come by DTLS or in a suite of ours (RFC 4568)."""
    if not is_secure(section):
        return True
    return section.dtls is not None or any(key.suite in PROFILES for key in section.crypto)


def refused(section: MediaSection) -> MediaSection:
    """Our answer to a section that we do not serve: port 0, else the offer's own media, transport and formats
    (RFC 3264 6), and its content and label (RFC 4796, 4574), by which a peer with two pictures knows them."""
    return MediaSection(
        kind=section.kind,
        address=section.address,
        port=0,
        protocol=section.protocol,
        mid=section.mid,
        content=section.content,
        label=section.label,
        media=section.media,
    )


def matching(ours: MediaDescription | None, index: int, kind: SectionKind) -> MediaSection | None:
    """What we answered to a section before, if it was served."""
    if ours is None or index >= len(ours.sections) or ours.sections[index].kind is not kind:
        return None
    return ours.sections[index] if ours.sections[index].port else None


def why_none(offer: MediaDescription) -> str:
    """In words, for a refusal."""
    names = [
        f"{s.kind.value}: {', '.join(c.name for c in s.codecs) or 'nothing'}"
        f"{'' if has_usable_key(s) else ' in SRTP without a key we can use'}"
        for s in offer.sections
    ]
    return f"no codec in common; the peer offers {'; '.join(names) or 'no media'}"
