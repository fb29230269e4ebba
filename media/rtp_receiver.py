"""One remote RTP stream, from datagrams to whole frames, and the RTCP that answers it. No I/O, no clock.

    receiver = RtpReceiver(settings)
    frames = receiver.receive_rtp(data, arrival)        # each datagram
    receiver.receive_rtcp(parse_compound(data), arrival)
    for event in receiver.take_events(): ...
    # after each of these, and at `receiver.next_deadline(now)` at the latest:
    frames = receiver.release(now)                      # what a missing packet no longer holds up
    datagrams = receiver.poll(now)                      # RTCP that is due
    frames = receiver.close()

Times are monotonic seconds. Frame timestamps are 64 bits, never wrap, and go on over a restart of the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from media.arrival_recorder import ArrivalRecorder
from media.frame_assembler import FrameAssembler, TonePressed
from media.jitter_buffer import JitterBuffer
from media.keyframe_requests import KeyframeRequests
from media.missing_packets import MissingPackets
from media.receiver_reports import ReceiverFeedback, ReceiverReports
from media.rtp_statistics import RateMeter, ReceptionStatistics, Step
from media.timeline import Timeline
from protocols.payloads import Depacketizer, Frame
from protocols.payloads.telephone_event import TelephoneEventReceiver
from protocols.rtp.packet import MalformedRtp, RtpPacket, unwrap_retransmission
from protocols.rtp.rtcp import Goodbye, ReportBlock, RtcpPacket, SenderReport, SourceDescription

_MAX_SKIP = 16
"""How far apart, in either direction, the two packets may be that make a new source believable."""
_FLIP_QUIET = 0.5
"""Seconds the present source must be silent before the one it just replaced may take over again."""
_MAX_EVENTS = 64


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """What was negotiated for one stream.

    `formats` maps payload types to their depacketizers, `retransmissions` RTX payload types to the ones they
    repair (apt, RFC 4588 8.1). `expected_ssrc` is that of a=ssrc, believed at its first packet. A gap is
    waited for `hold` seconds (None: 0.2 with NACK, else 0.06) and `max_packets` packets.
    `transport_sequence_id` is the extmap id of transport-wide sequence numbers.
    """

    ssrc: int
    cname: str
    clock_rate: int
    formats: Mapping[int, Depacketizer | TelephoneEventReceiver]
    retransmissions: Mapping[int, int] = field(default_factory=dict)
    feedback: ReceiverFeedback = field(default_factory=ReceiverFeedback)
    expected_ssrc: int | None = None
    hold: float | None = None
    max_packets: int = 512
    keyframe_spacing: float = 1.0
    transport_sequence_id: int | None = None


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """Another SSRC than before (None: the first) is received from now on."""

    previous: int | None
    ssrc: int


@dataclass(frozen=True, slots=True)
class SourceRestarted:
    """The same SSRC began a new run of sequence numbers (RFC 3550 A.1)."""

    ssrc: int


@dataclass(frozen=True, slots=True)
class SourceLeft:
    """The source said BYE."""

    ssrc: int
    reason: str


@dataclass(frozen=True, slots=True)
class KeyframeWanted:
    """A key frame is needed and neither PLI nor FIR was negotiated: ask by signalling, if at all."""


ReceiverEvent = SourceChanged | SourceRestarted | SourceLeft | TonePressed | KeyframeWanted


@dataclass(frozen=True, slots=True)
class ReceiverStats:
    """Totals since the start; `bitrate` over the last second, RTP headers included. `lost`: never came, or
    came only as an RTX repair; `given_up`: missing for good. `rejected`: malformed, of an unknown payload
    type or of a source not believed; `late`: too late or twice. `rtt` in seconds."""

    ssrc: int | None
    packets: int
    bytes: int
    lost: int
    given_up: int
    repaired: int
    late: int
    rejected: int
    jitter_ms: float
    nacks_sent: int
    plis_sent: int
    frames: int
    keyframes: int
    damaged: int
    bitrate: int
    rtt: float | None


@dataclass(slots=True)
class _Counts:
    packets: int = 0
    bytes: int = 0
    rejected: int = 0


class RtpReceiver:
    """See the module's head. `recorder` is shared by all streams of a transport, and polled by its owner."""

    def __init__(
        self,
        settings: ReceiverSettings,
        random: Random | None = None,
        recorder: ArrivalRecorder | None = None,
    ) -> None:
        self._settings = settings
        self._recorder = recorder
        self._counts = _Counts()
        self._rate = RateMeter()
        self._events: deque[ReceiverEvent] = deque(maxlen=_MAX_EVENTS)
        self._missing = MissingPackets()
        self._keyframes = KeyframeRequests(settings.keyframe_spacing)
        self._reports = ReceiverReports(
            settings.ssrc,
            settings.cname,
            settings.feedback,
            self._missing,
            self._keyframes,
            random or Random(),
        )
        hold = settings.hold
        if hold is None:
            hold = 0.2 if settings.feedback.nack else 0.06
        self._buffer = JitterBuffer(settings.max_packets, hold)
        self._timeline = Timeline(settings.clock_rate)
        self._assembler = FrameAssembler(settings.formats, self._timeline, self._keyframes)
        self._statistics: ReceptionStatistics | None = None
        self._lost_before = 0
        self.ssrc: int | None = None
        self._previous_ssrc: int | None = None
        self._changed_at = self._last_arrival = float("-inf")
        self._candidate: tuple[RtpPacket, int, float] | None = None
        self._jumped: tuple[RtpPacket, int, float] | None = None
        self.cname: str | None = None

    # -- what comes in

    def receive_rtp(self, data: bytes, arrival: float) -> list[Frame]:
        """Takes one datagram (decrypted); the frames that are whole by it, in order."""
        try:
            packet = RtpPacket.parse(data)
        except MalformedRtp:
            self._counts.rejected += 1
            return []
        if self._recorder is not None and self._settings.transport_sequence_id is not None:
            number = packet.extension(self._settings.transport_sequence_id)
            if number is not None and len(number) == 2:
                self._recorder.record(int.from_bytes(number, "big"), packet.ssrc, arrival)
        apt = self._settings.retransmissions.get(packet.payload_type)
        if apt is not None:
            return self._take_retransmission(packet, apt, len(data), arrival)
        if packet.ssrc != self.ssrc:
            return self._take_stranger(packet, len(data), arrival)
        self._candidate = None
        return self._take(packet, len(data), arrival)

    def receive_rtcp(self, packets: Iterable[RtcpPacket], arrival: float) -> None:
        """Takes one compound: sender reports, source descriptions and goodbyes of the source received."""
        for packet in packets:
            match packet:
                case SenderReport() if self.ssrc in (None, packet.ssrc):
                    self._timeline.report(packet.ntp, packet.rtp_timestamp)
                    self._reports.sender_report(packet, arrival)
                case SourceDescription():
                    for chunk in packet.chunks:
                        if chunk.ssrc == self.ssrc:
                            self.cname = chunk.cname or self.cname
                case Goodbye() if self.ssrc in packet.ssrcs and self.ssrc is not None:
                    self._events.append(SourceLeft(self.ssrc, packet.reason))
                case _:
                    self._reports.notified(packet)

    # -- what goes out

    def release(self, now: float) -> list[Frame]:
        """Frames that a missing packet held up until now."""
        frames: list[Frame] = []
        for ordered in self._buffer.take(now):
            frames += self._assembler.push(ordered)
        if self._buffer.next_sequence is not None:
            self._missing.forget_before(self._buffer.next_sequence)
        return frames

    def poll(self, now: float) -> list[bytes]:
        """The RTCP datagrams that are due."""
        datagrams, keyframe_wanted = self._reports.poll(
            now, self.ssrc, self._statistics, self._rate.bitrate(now)
        )
        if keyframe_wanted:
            self._events.append(KeyframeWanted())
        return datagrams

    def report_block(self, now: float) -> ReportBlock | None:
        """The block for the sender reports of an RtpSender that shares our SSRC (RFC 3550 6.4)."""
        return self._reports.block(now, self.ssrc, self._statistics)

    def next_deadline(self, now: float) -> float:
        """When `release` and `poll` have something to do again (monotonic seconds)."""
        held = self._buffer.deadline
        due = self._reports.deadline(now)
        return due if held is None else min(held, due)

    def take_events(self) -> list[ReceiverEvent]:
        """What happened since the last call; the oldest go when nobody asks."""
        events: list[ReceiverEvent] = [*self._events, *self._assembler.take_tones()]
        self._events.clear()
        return events

    def close(self) -> list[Frame]:
        """The stream is over: the frames that can still be made of what waits."""
        return self._drain()

    # -- what the owner wishes

    def request_keyframe(self, now: float, urgent: bool = False) -> None:
        """Asks the sender for a key frame; `urgent` also within `keyframe_spacing` of the last request."""
        if urgent:
            self._keyframes.insist(now)
        else:
            self._keyframes.want(now)

    def limit_bitrate(self, bitrate: int | None, now: float) -> None:
        """Asks the sender to stay within so many bits a second (REMB, TMMBR); None: no more wishes."""
        self._reports.limit(bitrate, now)

    def note_round_trip(self, seconds: float) -> None:
        """What an RtpSender to the same peer has measured: repeated requests wait for it."""
        self._missing.round_trip = seconds

    def ntp_at(self, timestamp: int) -> float | None:
        """The sender's wall clock (seconds since 1900) at a frame's timestamp, once a sender report came."""
        return self._timeline.ntp_at(timestamp)

    def stats(self, now: float) -> ReceiverStats:
        counts, statistics, assembler = self._counts, self._statistics, self._assembler
        return ReceiverStats(
            ssrc=self.ssrc,
            packets=counts.packets,
            bytes=counts.bytes,
            lost=self._lost_before + (statistics.total_lost if statistics else 0),
            given_up=self._buffer.given_up,
            repaired=self._missing.repaired,
            late=self._buffer.late + self._buffer.duplicates,
            rejected=counts.rejected + assembler.rejected,
            jitter_ms=1000 * statistics.jitter / self._settings.clock_rate if statistics else 0.0,
            nacks_sent=self._reports.nacks_sent,
            plis_sent=self._reports.plis_sent,
            frames=assembler.frames,
            keyframes=assembler.keyframes,
            damaged=assembler.damaged,
            bitrate=self._rate.bitrate(now),
            rtt=self._missing.round_trip,
        )

    # -- sources

    def _take_stranger(self, packet: RtpPacket, size: int, arrival: float) -> list[Frame]:
        """A source is believed at its second packet in a row (RFC 3550 A.1), the expected one at once."""
        if packet.payload_type not in self._settings.formats or packet.ssrc == self._settings.ssrc:
            self._counts.rejected += 1
            return []
        if packet.ssrc == self._settings.expected_ssrc:
            self._candidate = None
            return self._adopt(packet.ssrc, arrival) + self._take(packet, size, arrival)
        candidate, self._candidate = self._candidate, (packet, size, arrival)
        if candidate is None:
            return []
        first, _, first_arrival = candidate
        step = (packet.sequence_number - first.sequence_number + 0x8000 & 0xFFFF) - 0x8000
        flips_back = packet.ssrc == self._previous_ssrc and arrival - self._changed_at < 2 * _FLIP_QUIET
        if (
            first.ssrc != packet.ssrc
            or not 1 <= abs(step) <= _MAX_SKIP
            or (flips_back and arrival - self._last_arrival < _FLIP_QUIET)
        ):
            self._counts.rejected += 1
            return []
        self._candidate = None
        frames = self._adopt(packet.ssrc, first_arrival)
        pair = (candidate, (packet, size, arrival))
        for one in pair if step > 0 else reversed(pair):
            frames += self._take(*one)
        return frames

    def _adopt(self, ssrc: int, arrival: float) -> list[Frame]:
        frames = self._drain()
        if self._statistics is not None:
            self._lost_before += self._statistics.total_lost
            self._timeline.rejoin()
            self._reports.forget_sender()
        self._events.append(SourceChanged(self.ssrc, ssrc))
        self._previous_ssrc, self.ssrc, self._changed_at = self.ssrc, ssrc, arrival
        self._statistics = self._jumped = self.cname = None
        return frames

    def _drain(self) -> list[Frame]:
        """Everything that waits, as frames; then the packets of another run may come."""
        frames: list[Frame] = []
        for ordered in self._buffer.clear():
            frames.extend(self._assembler.push(ordered))
        frames.extend(self._assembler.flush())
        self._missing.clear()
        return frames

    # -- packets

    def _take(self, packet: RtpPacket, size: int, arrival: float) -> list[Frame]:
        self._last_arrival = arrival
        if self._statistics is None:
            self._statistics = ReceptionStatistics(packet.sequence_number, self._settings.clock_rate)
        frames: list[Frame] = []
        match self._statistics.judge(packet.sequence_number):
            case Step.JUMP:
                self._jumped = (packet, size, arrival)
                return []
            case Step.RESTART if self._jumped is not None:
                first, first_size, first_arrival = self._jumped
                frames = self._drain()
                self._statistics.restart(first.sequence_number)
                self._timeline.rejoin()
                assert self.ssrc is not None, "only a source that was adopted restarts"
                self._events.append(SourceRestarted(self.ssrc))
                self._insert(first, first_size, first_arrival, self._statistics)
        self._jumped = None
        self._insert(packet, size, arrival, self._statistics)
        return frames + self.release(arrival)

    def _insert(self, packet: RtpPacket, size: int, arrival: float, statistics: ReceptionStatistics) -> None:
        sequence = statistics.extend(packet.sequence_number)
        expected = statistics.highest + 1
        if sequence > expected and self._settings.feedback.nack:
            self._missing.gap(expected, sequence, arrival)
        statistics.count(sequence)
        self._missing.arrived(sequence)
        if sequence >= expected:  # one asked for again is late by our own doing, not by the path's
            statistics.time(packet.timestamp, arrival)
        self._counts.packets += 1
        self._counts.bytes += size
        self._rate.add(size, arrival)
        self._buffer.insert(sequence, packet, arrival)

    def _take_retransmission(self, packet: RtpPacket, apt: int, size: int, arrival: float) -> list[Frame]:
        """RFC 4588: the original's sequence space goes on as if it had come, its loss statistics do not."""
        self._rate.add(size, arrival)
        self._counts.bytes += size
        if self.ssrc is None or self._statistics is None or not packet.payload:
            return []  # padding to probe the path, or a repair of nothing we know
        try:
            original = unwrap_retransmission(packet, apt, self.ssrc)
        except MalformedRtp:
            self._counts.rejected += 1
            return []
        sequence = self._statistics.extend(original.sequence_number)
        if sequence > self._statistics.highest:
            return []  # repairs something newer than anything received: its turn will come
        self._missing.arrived(sequence)
        self._buffer.insert(sequence, original, arrival)
        return self.release(arrival)
