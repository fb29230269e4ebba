"""The BFCP m-line of our descriptions (RFC 8856): what of a peer's is usable, and how ours is filled. Pure.

We are the floor control server always (a=floorctrl:s-only), reached at one port a transport; over a stream
the peer connects (a=setup:passive). BFCP over TLS or DTLS, a peer that is nothing but a server itself, and
one that waits to be connected to are refused with port 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from foundation.desks import FloorDescription, MediaDescription, MediaSection, SectionKind
from protocols.bfcp.message import OVER_DATAGRAMS, OVER_STREAMS, TAKEN_OVER_DATAGRAMS
from signaling.meeting import FloorSeat

FLOOR_ID = 1
LABELS = ("12", "slides", "slides-2")
"""What our slides are called where the peer does not say; of these the first that is not taken."""
DATAGRAMS, STREAM = "UDP/BFCP", "TCP/BFCP"


@dataclass(frozen=True, slots=True)
class FloorAddress:
    """Where BFCP of a network is, as peers are told; None for a transport that is not there."""

    host: str
    udp: int | None
    tcp: int | None

    def port(self, reliable: bool) -> int | None:
        return self.tcp if reliable else self.udp


def is_reliable(section: MediaSection) -> bool:
    return section.protocol.upper() == STREAM


def usable_floor(theirs: Sequence[MediaSection], address: FloorAddress) -> int | None:
    """The index of the BFCP section that we serve; None for none."""
    return next((i for i, section in enumerate(theirs) if _is_usable(section, address)), None)


def _is_usable(section: MediaSection, address: FloorAddress) -> bool:
    if section.kind is not SectionKind.FLOOR or not section.port:
        return False
    if section.protocol.upper() not in (DATAGRAMS, STREAM) or address.port(is_reliable(section)) is None:
        return False
    floor = section.floor or FloorDescription()
    if floor.roles and not {"c-only", "c-s"} & set(floor.roles):
        return False
    return not is_reliable(section) or floor.setup in (None, "active", "actpass")


def described_version(section: MediaSection) -> int | None:
    """The version that a peer's section names, if it is one that we take over datagrams (RFC 8856 5.5)."""
    version = None if section.floor is None or is_reliable(section) else section.floor.version
    return version if version in TAKEN_OVER_DATAGRAMS else None


def may_have_slides(theirs: MediaDescription, ours: MediaDescription) -> bool:
    """Whether a floor makes sense: slides are agreed, or the peer has not offered any yet.

    Some terminals come with BFCP alone, or with a second picture at port 0, and add it by a later offer.
    """
    offered = any(section.kind is SectionKind.SLIDES and section.port for section in theirs.sections)
    agreed = any(section.kind is SectionKind.SLIDES and section.port for section in ours.sections)
    return agreed or not offered


def with_floor(
    ours: MediaDescription,
    index: int | None,
    seat: FloorSeat,
    address: FloorAddress,
    connection: str = "new",
    version: int = OVER_DATAGRAMS,
) -> MediaDescription:
    """Our description with its BFCP section filled, which is the one at `index`, or a new last one.

    `version` is that of datagrams (a=bfcpver).
    """
    sections = list(ours.sections)
    label = _label_slides(sections)
    port = address.port(seat.reliable)
    assert port is not None, "a seat is given where there is a port"
    floor = FloorDescription(
        roles=("s-only",),
        conference_id=seat.conference,
        user_id=seat.user,
        floors=((FLOOR_ID, () if label is None else (label,)),),
        setup="passive" if seat.reliable else None,
        connection=connection if seat.reliable else None,
        version=OVER_STREAMS if seat.reliable else version,
    )
    protocol = STREAM if seat.reliable else DATAGRAMS
    if index is None:
        sections.append(MediaSection(SectionKind.FLOOR, address.host, port, protocol, floor=floor))
    else:
        before = sections[index]
        sections[index] = replace(
            before, kind=SectionKind.FLOOR, address=address.host, port=port, codecs=(), floor=floor
        )
    return replace(ours, sections=tuple(sections))


def _label_slides(sections: list[MediaSection]) -> str | None:
    """RFC 4574: the slides need a label that the floor can name."""
    index = next((i for i, s in enumerate(sections) if s.kind is SectionKind.SLIDES and s.port), None)
    if index is None:
        return None
    taken = {section.label for i, section in enumerate(sections) if i != index}
    wanted = sections[index].label
    label = wanted if wanted is not None and wanted not in taken else None
    label = label or next(name for name in LABELS if name not in taken)
    sections[index] = replace(sections[index], label=label, content="slides")
    return label
