"""One medium of one participant: a receiver and a sender over a transport."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foundation.desks import CodecDescription, Direction, LegReport, SectionKind
from mcu_bridge.aac_terms import AacTerms
from mcu_bridge.negotiation import (
    TELEPHONE_EVENT,
    AgreedCodecs,
    agreed_feedback,
    coding,
    packetization_mode,
)
from mcu_bridge.rates import PAYLOAD
from media.frame_assembler import TonePressed
from media.pacer import PacedFlow, PacedFrame, Pacer, PacingClock, Precedence
from media.receiver_reports import ReceiverFeedback
from media.rtp_receiver import KeyframeWanted, ReceiverSettings, RtpReceiver
from media.rtp_sender import (
    RemoteReport,
    RetransmissionsDue,
    RtpSender,
    SenderEvent,
    SenderSettings,
)
from media.transport import MediaTransport
from protocols.payloads import Depacketizer, Frame, Packetizer
from protocols.payloads.g711 import G711Depacketizer, G711Packetizer
from protocols.payloads.h261 import H261Depacketizer, H261Packetizer
from protocols.payloads.h263 import H263Depacketizer, H263Packetizer
from protocols.payloads.h263_plus import H263PlusDepacketizer, H263PlusPacketizer
from protocols.payloads.h264 import H264Packetizer
from protocols.payloads.h264_depacketizer import H264Depacketizer
from protocols.payloads.opus import OpusDepacketizer, OpusPacketizer
from protocols.payloads.telephone_event import TelephoneEvent, TelephoneEventReceiver
from protocols.payloads.vp8 import Vp8Depacketizer, Vp8Packetizer
from protocols.rtp.rtcp import ReportBlock, RtcpPacket


@dataclass(frozen=True, slots=True)
class LegTerms:
    """What was agreed for one medium, and the names our streams go by.

    `browser`: the peer speaks WebRTC. `comes` is what the peer sends where that is another codec than what it
    is sent: it may send any that was agreed (RFC 3264 7).
    """

    participant_id: str
    kind: SectionKind
    agreed: AgreedCodecs
    direction: Direction
    ssrc: int
    cname: str
    rtx_ssrc: int | None = None
    expected_ssrc: int | None = None
    browser: bool = False
    comes: CodecDescription | None = None

    @property
    def heard(self) -> CodecDescription:
        """What is taken from the peer."""
        return self.agreed.main if self.comes is None else self.comes

    @property
    def asked(self) -> tuple[str, ...]:
        """The feedback that the peer takes on what it sends."""
        if self.comes is None:
            return self.agreed.answer[0].feedback
        return () if self.kind is SectionKind.AUDIO else agreed_feedback(self.comes)


class RtpLeg(ABC):
    """See the module's head. `pacing` and `pacer` are shared by all legs of a participant."""

    def __init__(
        self, terms: LegTerms, transport: MediaTransport, pacing: PacingClock, pacer: Pacer[PacedFlow]
    ) -> None:
        self.terms = terms
        self.transport = transport
        self.fast_update_wanted = False
        self._lost_at_peer = 0
        self._pacing = pacing
        self._pacer = pacer
        self.receiver = RtpReceiver(_receiver_settings(terms))
        self.sender = RtpSender(_sender_settings(terms))

    @property
    def payload_types(self) -> frozenset[int]:
        """What this leg takes from the wire, for demultiplexing a bundle by payload type."""
        agreed = self.terms.agreed
        rtx = () if agreed.rtx is None else (agreed.rtx,)
        return frozenset({*_formats(self.terms), *agreed.incoming, *rtx})

    def other_codec(self, payload_type: int) -> CodecDescription | None:
        """One that the peer may send too, but that this leg is not made for."""
        codec = self.terms.agreed.incoming.get(payload_type)
        if codec is None or codec.name == TELEPHONE_EVENT or coding(codec) == coding(self.terms.heard):
            return None
        return codec

    @property
    def codec(self) -> CodecDescription:
        return self.terms.agreed.main

    def take_rtp(self, data: bytes, arrival: float) -> None:
        """A datagram of this medium came."""
        frames = self.receiver.receive_rtp(data, arrival)
        if frames and self.terms.direction.receives:
            self.take_frames(frames, arrival)

    @abstractmethod
    def take_frames(self, frames: Sequence[Frame], arrival: float) -> None:
        """Whole frames in order; each kind of leg knows where they go."""

    def take_rtcp(self, packets: Sequence[RtcpPacket], arrival: float) -> None:
        self.receiver.receive_rtcp(packets, arrival)
        for event in self.sender.receive_rtcp(packets, arrival):
            match event:
                case RetransmissionsDue(packets=repeats):
                    self.send(repeats, Precedence.REPAIR)
                case RemoteReport(round_trip=round_trip, cumulative_lost=lost):
                    self._lost_at_peer = max(lost, 0)
                    if round_trip is not None:
                        self.receiver.note_round_trip(round_trip)
                case _:
                    self.take_feedback(event, arrival)

    def take_feedback(self, event: SenderEvent, now: float) -> None:
        """What the receiver asks of our stream; sound takes none of it."""
        return

    def take_tone(self, event: TelephoneEvent) -> None:
        """A key was pressed; pictures have none."""
        return

    def send(self, packets: Sequence[bytes], precedence: Precedence, *, keyframe: bool = False) -> bool:
        """Packets of one frame into the participant's pacer; False when they were dropped."""
        frame: PacedFrame[PacedFlow] = PacedFrame(
            self, packets, self.transport.overhead, precedence, keyframe
        )
        return self._pacing.send(self._pacer, frame)

    def send_rtp(self, packets: Sequence[bytes]) -> None:
        """What the pacer lets go."""
        self.transport.send_rtp(packets)

    def poll(self, now: float, wall_clock: float) -> None:
        """Send the RTCP that is due, take the frames that no longer wait for lost packets."""
        held_up = self.receiver.release(now)
        if held_up and self.terms.direction.receives:
            self.take_frames(held_up, now)
        blocks: tuple[ReportBlock, ...] = ()
        if self.sender.is_report_due(now):
            block = self.receiver.report_block(now)
            blocks = () if block is None else (block,)
        for datagram in (*self.sender.poll(now, wall_clock, blocks), *self.receiver.poll(now)):
            self._pacer.spend(len(datagram) + self.transport.overhead, now)
            self.transport.send_rtcp(datagram)
        for event in self.receiver.take_events():
            if isinstance(event, KeyframeWanted):
                self.fast_update_wanted = True
            elif isinstance(event, TonePressed):
                self.take_tone(event.event)

    def say_goodbye(self, now: float, wall_clock: float) -> None:
        self.transport.send_rtcp(self.sender.goodbye(now, wall_clock))

    def reports(self, now: float) -> tuple[LegReport, LegReport]:
        """Incoming and outgoing, as measured."""
        received, sent = self.receiver.stats(now), self.sender.stats(now)
        incoming = LegReport(
            participant_id=self.terms.participant_id,
            kind=self.terms.kind,
            outgoing=False,
            codec=self.terms.heard.name,
            bitrate_bps=received.bitrate,
            packets=received.packets,
            lost=received.lost,
            jitter_ms=round(received.jitter_ms, 2),
            round_trip_ms=None if received.rtt is None else round(received.rtt * 1000, 1),
            frames=received.frames,
        )
        outgoing = LegReport(
            participant_id=self.terms.participant_id,
            kind=self.terms.kind,
            outgoing=True,
            codec=self.codec.name,
            bitrate_bps=sent.bitrate,
            packets=sent.packets,
            lost=self._lost_at_peer,
            jitter_ms=round(sent.jitter * 1000, 2),
            round_trip_ms=None if sent.rtt is None else round(sent.rtt * 1000, 1),
            frames=0,
        )
        return incoming, outgoing


def packetizer_for(codec: CodecDescription) -> Packetizer:
    """How frames go out in this codec, in the mode that was agreed."""
    match coding(codec):
        case "H264":
            return H264Packetizer(packetization_mode(codec), PAYLOAD)
        case "VP8":
            return Vp8Packetizer(max_payload=PAYLOAD)
        case "H263-1998":
            return H263PlusPacketizer(PAYLOAD)
        case "H263":
            return H263Packetizer(PAYLOAD)
        case "H261":
            return H261Packetizer(PAYLOAD)
        case "OPUS":
            return OpusPacketizer()
        case _:  # G.722 too: bytes of 64 kbit/s
            aac = AacTerms.of(codec)
            return G711Packetizer() if aac is None else aac.packetizer(PAYLOAD)


def _depacketizer_for(codec: CodecDescription) -> Depacketizer:
    match coding(codec):
        case "H264":
            return H264Depacketizer()
        case "VP8":
            return Vp8Depacketizer()
        case "H263-1998":
            return H263PlusDepacketizer()
        case "H263":
            return H263Depacketizer()
        case "H261":
            return H261Depacketizer()
        case "OPUS":
            return OpusDepacketizer()
        case _:
            aac = AacTerms.of(codec)
            return G711Depacketizer() if aac is None else aac.depacketizer()


def _formats(terms: LegTerms) -> dict[int, Depacketizer | TelephoneEventReceiver]:
    """By payload type, what takes its packets: one medium, and one for its keys, whatever their numbers."""
    agreed, heard = terms.agreed, terms.heard
    medium, keys = _depacketizer_for(heard), TelephoneEventReceiver(heard.clock_rate)
    if not agreed.incoming:
        return {heard.payload_type: medium} | ({} if agreed.events is None else {agreed.events: keys})
    found: dict[int, Depacketizer | TelephoneEventReceiver] = {}
    for number, codec in agreed.incoming.items():
        if codec.name == TELEPHONE_EVENT:
            found[number] = keys
        elif coding(codec) == coding(heard):
            found[number] = medium
    return found


def _receiver_settings(terms: LegTerms) -> ReceiverSettings:
    agreed = terms.agreed
    main = agreed.main
    retransmissions: Mapping[int, int] = {} if agreed.rtx is None else {agreed.rtx: main.payload_type}
    asked = terms.asked
    return ReceiverSettings(
        ssrc=terms.ssrc,
        cname=terms.cname,
        clock_rate=terms.heard.clock_rate,
        formats=_formats(terms),
        retransmissions=retransmissions,
        expected_ssrc=terms.expected_ssrc,
        feedback=ReceiverFeedback(
            nack="nack" in asked,
            pli="nack pli" in asked,
            fir="ccm fir" in asked,
            remb="goog-remb" in asked,
            tmmbr="ccm tmmbr" in asked,
            reports=not terms.direction.sends,
        ),
    )


def _sender_settings(terms: LegTerms) -> SenderSettings:
    main = terms.agreed.main
    return SenderSettings(
        ssrc=terms.ssrc,
        cname=terms.cname,
        payload_type=main.payload_type,
        clock_rate=main.clock_rate,
        nack="nack" in main.feedback,
        rtx_ssrc=terms.rtx_ssrc,
        rtx_payload_type=terms.agreed.rtx,
    )
