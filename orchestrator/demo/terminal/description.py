"""What a test terminal says it can do, and what of a peer's description it understands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foundation.desks import CodecDescription, Direction, MediaDescription, MediaSection, SectionKind
from mcu_bridge.negotiation import OFFERED_AUDIO, OFFERED_VIDEO, packetization_mode
from mcu_bridge.rates import picture_wire_bps, sound_wire_bps
from media.sound_codecs import SoundCodec
from orchestrator.demo.terminal.settings import AUDIO, TerminalSettings

_IP_UDP = 28
_KEYS = {"H264/1": ("H264", 1), "H264/0": ("H264", 0)}


def codecs_of(settings: TerminalSettings, kind: SectionKind) -> list[CodecDescription]:
    """The codecs of the settings in their order; telephone events beside sound."""
    if kind is SectionKind.AUDIO:
        by_name = {codec.name: codec for codec in OFFERED_AUDIO}
        return [*(by_name[name] for name in settings.audio), by_name["TELEPHONE-EVENT"]]
    by_key = {_key(codec): codec for codec in OFFERED_VIDEO}
    return [described(settings, by_key[_KEYS.get(name, (name, 0))]) for name in settings.video]


def described(settings: TerminalSettings, codec: CodecDescription) -> CodecDescription:
    """The codec as this terminal speaks of it."""
    return codec if settings.feedback else replace(codec, feedback=())


def understood(settings: TerminalSettings, section: MediaSection) -> MediaSection:
    """The peer's section less the codecs that this terminal lacks; it has no SRTP."""
    if section.kind in (SectionKind.OTHER, SectionKind.FLOOR) or "SAVP" in section.protocol:
        return replace(section, codecs=())
    ours = {_key(codec) for codec in codecs_of(settings, section.kind)}
    return replace(section, codecs=tuple(c for c in section.codecs if c.name == "RTX" or _key(c) in ours))


def with_bandwidth(settings: TerminalSettings, sections: Sequence[MediaSection]) -> MediaDescription:
    """b=AS for the session and the picture, where the settings limit what we take."""
    limit = settings.receive_bps
    if limit is None:
        return MediaDescription(tuple(sections))
    sound = next((SoundCodec(c.name) for s in sections for c in s.codecs if c.name in AUDIO), None)
    picture = picture_wire_bps(limit, sound_wire_bps(sound, _IP_UDP))
    bounded = (replace(s, bandwidth_bps=picture) if s.kind is SectionKind.VIDEO else s for s in sections)
    return MediaDescription(tuple(bounded), limit)


def common(one: Direction, other: Direction) -> Direction:
    """What both allow."""
    sends, receives = one.sends and other.sends, one.receives and other.receives
    if sends:
        return Direction.SENDRECV if receives else Direction.SENDONLY
    return Direction.RECVONLY if receives else Direction.INACTIVE


def _key(codec: CodecDescription) -> tuple[str, int]:
    """Codecs with equal keys understand each other."""
    return codec.name, packetization_mode(codec) if codec.name == "H264" else 0
