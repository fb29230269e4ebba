"""What a transport hands its bytes to: one leg, or the legs of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from foundation.desks import CodecDescription, MediaSection
from mcu_bridge.negotiation import MID_EXTENSION
from mcu_bridge.rtp_leg import RtpLeg
from media.transport import Address, TransportEvent
from protocols.rtp.packet import MalformedRtp, RtpPacket
from protocols.rtp.rtcp import RtcpPacket, parse_compound
from protocols.rtp.rtcp_framing import MalformedRtcp

GONE_OVER_AFTER = 3
"""Packets in another codec that make a change; the ones before the last are lost."""
MOST_STREAMS = 64
"""SSRCs of a bundle that are remembered; the others' packets are looked into one by one."""


class LegInlet:
    """A transport with one medium. `gone_over`, for who offered several codecs, makes the leg anew for
    another that was agreed once GONE_OVER_AFTER packets in a row came in it: late ones are fewer."""

    def __init__(
        self,
        leg: RtpLeg,
        events: Callable[[TransportEvent], None],
        gone_over: Callable[[RtpLeg, CodecDescription], RtpLeg] | None = None,
    ) -> None:
        self._leg = leg
        self._events = events
        self._gone_over = gone_over
        self._others = 0

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        other = self._leg.other_codec(data[1] & 0x7F)
        if other is None or self._gone_over is None:
            self._others = 0
            self._leg.take_rtp(data, arrival)
            return
        self._others += 1
        if self._others >= GONE_OVER_AFTER:
            self._gone_over(self._leg, other).take_rtp(data, arrival)

    def rtcp_received(self, data: bytes, source: Address, arrival: float) -> None:
        packets = _parsed(data)
        if packets:
            self._leg.take_rtcp(packets, arrival)

    def transport_event(self, event: TransportEvent) -> None:
        self._events(event)


class BundleInlet:
    """A transport with several media, told apart as in RFC 9143 9.2: a stream belongs where its SSRC was
    described, else where its first packet's MID says, else to the only medium with that payload type. RTCP
    goes to all."""

    def __init__(self, events: Callable[[TransportEvent], None]) -> None:
        self.strays = 0
        self._by_ssrc: dict[int, RtpLeg] = {}
        self._by_mid: dict[bytes, RtpLeg] = {}
        self._mid_ids: set[int] = set()
        self._legs: list[RtpLeg] = []
        self._events = events

    def add(self, leg: RtpLeg, described: MediaSection) -> None:
        """A medium as the peer describes it."""
        self._legs.append(leg)
        for ssrc in (described.ssrc, described.rtx_ssrc):
            if ssrc is not None:
                self._by_ssrc[ssrc] = leg
        if described.mid is not None:
            self._by_mid[described.mid.encode()] = leg
            self._mid_ids.update(n for n, uri in described.extensions.items() if uri == MID_EXTENSION)

    def go_on_from(self, before: BundleInlet) -> None:
        """What was learnt of streams holds for the legs that now serve their media: a page names a stream's
        MID at its beginning only."""
        legs = {leg.terms.kind: leg for leg in self._legs}
        for ssrc, leg in before._by_ssrc.items():
            kind = leg.terms.kind
            if kind in legs:
                self._by_ssrc.setdefault(ssrc, legs[kind])

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        leg = self._by_ssrc.get(int.from_bytes(data[8:12], "big"))
        if leg is None:
            leg = self._identified(data)
        if leg is None:
            self.strays += 1
            return
        leg.take_rtp(data, arrival)

    def _identified(self, data: bytes) -> RtpLeg | None:
        try:
            packet = RtpPacket.parse(data)
        except MalformedRtp:
            return None
        mids = (packet.extension(number) for number in self._mid_ids)
        leg = next((self._by_mid[mid] for mid in mids if mid in self._by_mid), None)
        if leg is None:
            having = [each for each in self._legs if packet.payload_type in each.payload_types]
            leg = having[0] if len(having) == 1 else None
        if leg is not None and len(self._by_ssrc) < MOST_STREAMS:
            self._by_ssrc[packet.ssrc] = leg
        return leg

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
