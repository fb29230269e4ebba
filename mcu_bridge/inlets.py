"""What a transport hands its bytes to: one leg, or the legs of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcu_bridge.rtp_leg import RtpLeg
from media.transport import Address, TransportEvent
from protocols.rtp.rtcp import RtcpPacket, parse_compound
from protocols.rtp.rtcp_framing import MalformedRtcp


class LegInlet:
    """A transport with one medium."""

    def __init__(self, leg: RtpLeg, events: Callable[[TransportEvent], None]) -> None:
        self._leg = leg
        self._events = events

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        self._leg.take_rtp(data, arrival)

    def rtcp_received(self, data: bytes, source: Address, arrival: float) -> None:
        packets = _parsed(data)
        if packets:
            self._leg.take_rtcp(packets, arrival)

    def transport_event(self, event: TransportEvent) -> None:
        self._events(event)


class BundleInlet:
    """A transport with several media, told apart by payload type (RFC 9143 9.2); RTCP goes to all."""

    def __init__(self, events: Callable[[TransportEvent], None]) -> None:
        self.strays = 0
        self._by_payload_type: dict[int, RtpLeg] = {}
        self._legs: list[RtpLeg] = []
        self._events = events

    def add(self, leg: RtpLeg) -> None:
        self._legs.append(leg)
        for payload_type in leg.payload_types:
            self._by_payload_type[payload_type] = leg

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        leg = self._by_payload_type.get(data[1] & 0x7F)
        if leg is None:
            self.strays += 1
            return
        leg.take_rtp(data, arrival)

    def rtcp_received(self, data: bytes, source: Address, arrival: float) -> None:
        packets = _parsed(data)
        if packets:
            for leg in self._legs:
                leg.take_rtcp(packets, arrival)

    def transport_event(self, event: TransportEvent) -> None:
        self._events(event)


def _parsed(data: bytes) -> Sequence[RtcpPacket]:
    """A compound that cannot be read says nothing."""
    try:
        return parse_compound(data)
    except MalformedRtcp:
        return ()
