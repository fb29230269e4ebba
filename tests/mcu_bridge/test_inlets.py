"""A bundle's streams, told apart though two pictures share their payload types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from foundation.desks import MediaSection, SectionKind
from mcu_bridge.inlets import BundleInlet
from mcu_bridge.negotiation import MID_EXTENSION
from mcu_bridge.rtp_leg import RtpLeg
from protocols.rtp.packet import Extension, RtpPacket
from protocols.rtp.rtcp import ReceiverReport, RtcpPacket, print_compound

PICTURE, SOUND, RTX = 102, 111, 103
AT = ("192.0.2.1", 5004)


@dataclass
class Terms:
    kind: SectionKind


@dataclass
class Leg:
    terms: Terms
    payload_types: frozenset[int]
    taken: list[int] = field(default_factory=list)
    reports: int = 0

    def take_rtp(self, data: bytes, arrival: float) -> None:
        self.taken.append(RtpPacket.parse(data).ssrc)

    def take_rtcp(self, packets: Sequence[RtcpPacket], arrival: float) -> None:
        self.reports += 1


class Bundle:
    """Sound, main picture and slides of one page."""

    def __init__(self, *, described: bool = False, mids: bool = True) -> None:
        self.inlet = BundleInlet(lambda event: None)
        pictures = frozenset({PICTURE, RTX})
        self.legs = {
            SectionKind.AUDIO: Leg(Terms(SectionKind.AUDIO), frozenset({SOUND})),
            SectionKind.VIDEO: Leg(Terms(SectionKind.VIDEO), pictures),
            SectionKind.SLIDES: Leg(Terms(SectionKind.SLIDES), pictures),
        }
        for number, (kind, leg) in enumerate(self.legs.items()):
            section = MediaSection(
                kind,
                "192.0.2.1",
                9,
                mid=str(number),
                extensions={4: MID_EXTENSION} if mids else {},
                ssrc=1000 + number if described else None,
            )
            self.inlet.add(cast("RtpLeg", leg), section)

    def came(self, ssrc: int, payload_type: int, mid: str | None = None) -> None:
        extensions = () if mid is None else (Extension(4, mid.encode()),)
        packet = RtpPacket(payload_type, 1, 0, ssrc, b"x", extensions=extensions)
        self.inlet.rtp_received(bytes(packet), AT, 0.0)

    @property
    def taken(self) -> list[list[int]]:
        return [leg.taken for leg in self.legs.values()]


def test_a_stream_is_where_its_first_packet_says_and_stays_there() -> None:
    bundle = Bundle()
    bundle.came(7, PICTURE, "2")
    bundle.came(7, PICTURE)
    bundle.came(8, PICTURE, "1")
    bundle.came(8, PICTURE)
    bundle.came(9, RTX, "2")
    assert bundle.taken == [[], [8, 8], [7, 7, 9]]


def test_described_streams_need_no_extension() -> None:
    bundle = Bundle(described=True, mids=False)
    for ssrc in (1002, 1001, 1000):
        bundle.came(ssrc, SOUND if ssrc == 1000 else PICTURE)
    assert bundle.taken == [[1000], [1001], [1002]]


def test_a_payload_type_of_one_medium_is_enough_and_one_of_two_is_not() -> None:
    bundle = Bundle(mids=False)
    bundle.came(5, SOUND)
    bundle.came(6, PICTURE)
    bundle.came(6, PICTURE, "9")
    bundle.inlet.rtp_received(b"\x80\x60", AT, 0.0)
    assert bundle.taken == [[5], [], []]
    assert bundle.inlet.strays == 3


def test_what_was_learnt_holds_after_another_offer() -> None:
    before, after = Bundle(), Bundle()
    before.came(7, PICTURE, "2")
    after.inlet.go_on_from(before.inlet)
    after.came(7, PICTURE)
    assert after.taken == [[], [], [7]]


def test_reports_go_to_all_and_strange_streams_fill_no_memory() -> None:
    bundle = Bundle()
    bundle.inlet.rtcp_received(print_compound([ReceiverReport(1, ())]), AT, 0.0)
    assert [leg.reports for leg in bundle.legs.values()] == [1, 1, 1]
    for ssrc in range(1000):
        bundle.came(ssrc, SOUND)
    assert len(bundle.legs[SectionKind.AUDIO].taken) == 1000
    assert len(bundle.inlet._by_ssrc) <= 64
