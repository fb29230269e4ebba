"""One RTP stream to one receiver: headers, retransmissions, sender reports, feedback. No I/O, no clock.

    sender = RtpSender(settings)
    packets = sender.packets(payloads, timestamp, now)      # each frame; payloads are shared by all receivers
    for event in sender.receive_rtcp(parse_compound(data), now): ...
    datagrams = sender.poll(now, wall_clock)                # RTCP due; at `next_deadline(now)` at the latest
    datagram = sender.goodbye(now, wall_clock)

Times are monotonic seconds, `wall_clock` is Unix time. The work of a frame is a few calls, whatever its size:
payload bytes are never looked into, and the retransmission ring keeps references.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import add
from random import Random, SystemRandom

from media.rtcp_timing import report_interval
from media.rtp_statistics import RateMeter
from media.sent_packets import SentFrame, SentPackets
from protocols.rtp import ntp
from protocols.rtp.packet import Extension, extension_block, header, headers, wrap_retransmission
from protocols.rtp.rtcp import (
    Goodbye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    print_compound,
)
from protocols.rtp.rtcp_feedback import (
    BitrateEntry,
    FullIntraRequest,
    GenericNack,
    PictureLossIndication,
    ReceiverEstimatedMaximumBitrate,
    TemporaryMaximumBitrateNotification,
    TemporaryMaximumBitrateRequest,
)

_HIGH_LOSS = 0.1
"""Above this share of lost packets a receiver report is taken as a limit."""
_REMEMBERED_REPORTS = 16
_REMEMBERED_SENDERS = 16
_SHORTEST_REPEAT = 0.01
_IDLE_INTERVALS = 2
"""Report intervals without a packet after which we are a receiver (RFC 3550 6.3.8)."""


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """What was negotiated for one stream.

    With `nack`, packets are kept for `history` seconds and `history_packets`, and repeated on RTX where its
    SSRC and payload type are given (RFC 4588), else as they were. At most `repeat_bitrate` bits a second are
    spent on it (None: no bound). `extensions` go with every packet (MID and the like).
    """

    ssrc: int
    cname: str
    payload_type: int
    clock_rate: int
    nack: bool = False
    rtx_ssrc: int | None = None
    rtx_payload_type: int | None = None
    repeat_bitrate: int | None = None
    history: float = 1.0
    history_packets: int = 1024
    extensions: tuple[Extension, ...] = ()
    reduced_size: bool = False


class LimitSource(StrEnum):
    """Where a bitrate limit comes from: REMB, TMMBR, or the loss in a receiver report."""

    REMB = "remb"
    TMMBR = "tmmbr"
    RR = "rr"


@dataclass(frozen=True, slots=True)
class KeyframeRequested:
    """PLI or FIR; owners coalesce them, for one key frame serves a whole class."""


@dataclass(frozen=True, slots=True)
class BitrateLimit:
    """The receiver can take `bps` bits a second. From REMB it holds for the whole session."""

    bps: int
    source: LimitSource


@dataclass(frozen=True, slots=True)
class RetransmissionsDue:
    """Packets to send now, whole."""

    packets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RemoteReport:
    """How our stream arrives: `loss` 0..1 since the last report, `jitter` and `round_trip` in seconds."""

    loss: float
    cumulative_lost: int
    jitter: float
    round_trip: float | None


SenderEvent = KeyframeRequested | BitrateLimit | RetransmissionsDue | RemoteReport


@dataclass(frozen=True, slots=True)
class SenderStats:
    """Totals; `bitrate` of RTP packets over the last second, repeats included. `repeats_refused`: asked for
    and gone already, repeated just now, or beyond `repeat_bitrate`."""

    packets: int
    bytes: int
    repeated: int
    repeats_refused: int
    bitrate: int
    loss: float
    jitter: float
    rtt: float | None


class RtpSender:
    """See the module's head. First sequence number and timestamp are random (RFC 3550 5.1)."""

    # A worker has hundreds, each for a moment of every frame: what lies close together is read quicker.
    __slots__ = (
        "_captured",
        "_description",
        "_extensions",
        "_fir_numbers",
        "_granted",
        "_header_size",
        "_history",
        "_octets",
        "_offset",
        "_packets",
        "_random",
        "_rate",
        "_remote",
        "_repeat_rate",
        "_repeated",
        "_repeated_at",
        "_repeats_refused",
        "_report_due",
        "_report_gap",
        "_reports_sent",
        "_rtx_sequence",
        "_sent_at",
        "_sequence",
        "_settings",
        "_ssrc",
        "_timestamp",
        "payload_type",
    )

    def __init__(self, settings: SenderSettings, random: Random | None = None) -> None:
        random = random or SystemRandom()
        self._settings = settings
        self._ssrc = settings.ssrc
        self._random = random
        self.payload_type = settings.payload_type
        self._sequence = random.getrandbits(15)  # RFC 3711 3.3.1: SRTP receivers that miss the first packets
        self._timestamp = random.getrandbits(32)
        self._rtx_sequence = random.getrandbits(15)
        self._offset: int | None = None
        self._sent_at: float | None = None
        self._captured = 0.0
        self._extensions = extension_block(settings.extensions)
        self._header_size = len(header(0, False, 0, 0, 0, self._extensions))
        self._history = SentPackets(settings.history_packets, settings.history) if settings.nack else None
        self._repeated_at: dict[int, float] = {}
        self._repeat_rate = RateMeter()
        self._rate = RateMeter()
        self._description = SourceDescription.of(settings.ssrc, settings.cname)
        self._report_due: float | None = None
        self._report_gap = 0.0
        self._reports_sent: dict[int, float] = {}
        self._fir_numbers: dict[int, int] = {}
        self._granted: tuple[BitrateEntry, ...] | None = None
        self._remote = RemoteReport(0.0, 0, 0.0, None)
        self._packets = self._octets = self._repeated = self._repeats_refused = 0

    @property
    def ssrc(self) -> int:
        return self._settings.ssrc

    # -- packets

    def headers(
        self,
        payloads: Sequence[bytes],
        timestamp: int,
        now: float,
        *,
        marker: bool = True,
        captured: float | None = None,
    ) -> list[bytes]:
        """The headers of one frame, to go before `payloads` one by one.

        `timestamp` counts the source's clock from anywhere, unwrapped; it is carried over to this stream's.
        `marker` is set on the last packet: the end of a picture; for sound pass True only after a pause.
        `captured` is when the frame was taken, for the receiver's lip synchronisation (None: now).
        """
        captured = now if captured is None else captured
        if self._offset is None:
            self._offset = self._next_timestamp(captured) - timestamp
        self._timestamp = wire = (timestamp + self._offset) & 0xFFFF_FFFF
        self._sent_at = now
        self._captured = captured
        count, first = len(payloads), self._sequence
        self._sequence = (first + count) & 0xFFFF
        size = sum(map(len, payloads))
        self._packets += count
        self._octets += size
        self._rate.add(size + count * self._header_size, now)
        if self._history is not None:
            self._history.add(SentFrame(first, self.payload_type, wire, marker, payloads, now))
        return headers(self.payload_type, marker, first, count, wire, self._ssrc, self._extensions)

    def packets(
        self,
        payloads: Sequence[bytes],
        timestamp: int,
        now: float,
        *,
        marker: bool = True,
        captured: float | None = None,
    ) -> list[bytes]:
        """Whole packets of one frame; see `headers`. Of equal size but the last where the payloads are."""
        return list(
            map(add, self.headers(payloads, timestamp, now, marker=marker, captured=captured), payloads)
        )

    def rebase(self) -> None:
        """The next frame comes from another source, whose timestamps are unrelated: this stream's go on by
        the time that has passed between what was taken."""
        self._offset = None

    def _next_timestamp(self, captured: float) -> int:
        if self._sent_at is None:
            return self._timestamp
        return self._timestamp + max(1, round((captured - self._captured) * self._settings.clock_rate))

    # -- feedback

    def receive_rtcp(self, packets: Iterable[RtcpPacket], now: float) -> list[SenderEvent]:
        """What one compound of the receiver asks and tells of our stream."""
        events: list[SenderEvent] = []
        for packet in packets:
            match packet:
                case SenderReport() | ReceiverReport():
                    for block in packet.reports:
                        if block.ssrc == self._settings.ssrc:
                            events.extend(self._take_report(block, now))
                case GenericNack() if self._is_ours(packet.media_ssrc):
                    events.extend(self._repeat(packet.lost, now))
                case PictureLossIndication() if self._is_ours(packet.media_ssrc):
                    events.append(KeyframeRequested())
                case FullIntraRequest() if self._is_new(packet):
                    events.append(KeyframeRequested())
                case ReceiverEstimatedMaximumBitrate():
                    if not packet.ssrcs or any(map(self._is_ours, packet.ssrcs)):
                        events.append(BitrateLimit(packet.bitrate, LimitSource.REMB))
                case TemporaryMaximumBitrateRequest():
                    events.extend(self._take_request(packet))
                case _:
                    pass
        return events

    def _is_ours(self, ssrc: int) -> bool:
        """Some terminals leave the SSRC of feedback zero."""
        return ssrc in (self._settings.ssrc, self._settings.rtx_ssrc, 0)

    def _is_new(self, request: FullIntraRequest) -> bool:
        """RFC 5104 4.3.1.2: a repeated command number is the same command."""
        numbers = [number for ssrc, number in request.entries if self._is_ours(ssrc)]
        if not numbers or self._fir_numbers.get(request.sender_ssrc) == numbers[-1]:
            return False
        if len(self._fir_numbers) >= _REMEMBERED_SENDERS:
            self._fir_numbers.clear()
        self._fir_numbers[request.sender_ssrc] = numbers[-1]
        return True

    def _take_report(self, block: ReportBlock, now: float) -> list[SenderEvent]:
        sent = self._reports_sent.get(block.last_sr) if block.last_sr else None
        round_trip = self._remote.round_trip
        if sent is not None:
            round_trip = max(now - sent - block.delay_since_last_sr / 65536, 0.0)
        loss = block.fraction_lost / 256
        jitter = block.jitter / self._settings.clock_rate
        self._remote = RemoteReport(loss, block.cumulative_lost, jitter, round_trip)
        events: list[SenderEvent] = [self._remote]
        if loss > _HIGH_LOSS:
            events.append(BitrateLimit(round(self._rate.bitrate(now) * (1 - loss / 2)), LimitSource.RR))
        return events

    def _take_request(self, request: TemporaryMaximumBitrateRequest) -> list[SenderEvent]:
        """RFC 5104 4.2.1; answered with a TMMBN that names its owner."""
        events: list[SenderEvent] = []
        for entry in request.entries:
            if self._is_ours(entry.ssrc):
                self._granted = (BitrateEntry(request.sender_ssrc, entry.bitrate, entry.overhead),)
                events.append(BitrateLimit(entry.bitrate, LimitSource.TMMBR))
        return events

    def _repeat(self, lost: Sequence[int], now: float) -> list[SenderEvent]:
        if self._history is None:
            return []
        self._forget_repeats(now)
        wait = max(_SHORTEST_REPEAT, (self._remote.round_trip or 0.0) / 2)
        repeats: list[bytes] = []
        for sequence in lost:
            found = self._history.find(sequence)
            if found is None or now - self._repeated_at.get(sequence, float("-inf")) < wait:
                self._repeats_refused += 1
                continue
            repeat = self._print_repeat(*found)
            bound = self._settings.repeat_bitrate
            if bound is not None and self._repeat_rate.bitrate(now) + 8 * len(repeat) > bound:
                self._repeats_refused += 1
                continue
            self._repeated_at[sequence] = now
            self._repeat_rate.add(len(repeat), now)
            self._rate.add(len(repeat), now)
            self._repeated += 1
            repeats.append(repeat)
        return [RetransmissionsDue(tuple(repeats))] if repeats else []

    def _forget_repeats(self, now: float) -> None:
        """Keeps the times of repeats as long as the packets themselves."""
        if len(self._repeated_at) > self._settings.history_packets:
            oldest = now - self._settings.history
            self._repeated_at = {number: at for number, at in self._repeated_at.items() if at > oldest}

    def _print_repeat(self, frame: SentFrame, index: int) -> bytes:
        settings = self._settings
        sequence = (frame.first_sequence + index) & 0xFFFF
        marker = frame.marker and index == len(frame.payloads) - 1
        payload = frame.payloads[index]
        if settings.rtx_ssrc is None or settings.rtx_payload_type is None:
            # The very bytes sent before: under SRTP the same index must not protect different ones.
            return (
                header(frame.payload_type, marker, sequence, frame.timestamp, settings.ssrc, self._extensions)
                + payload
            )
        number = self._rtx_sequence
        self._rtx_sequence = (number + 1) & 0xFFFF
        start = header(
            settings.rtx_payload_type, marker, number, frame.timestamp, settings.rtx_ssrc, self._extensions
        )
        return start + wrap_retransmission(payload, sequence)

    # -- reports

    def poll(self, now: float, wall_clock: float, reports: Sequence[ReportBlock] = ()) -> list[bytes]:
        """The RTCP due; `reports` are the blocks of an RtpReceiver that shares our SSRC."""
        feedback: list[RtcpPacket] = []
        if self._granted is not None:
            feedback.append(TemporaryMaximumBitrateNotification(self._settings.ssrc, self._granted))
            self._granted = None
        due = self.is_report_due(now)
        if due:
            self._report_gap = report_interval(self._rate.bitrate(now), self._random)
            self._report_due = now + self._report_gap
        if due or (feedback and not self._settings.reduced_size):
            feedback = [self._report(now, wall_clock, reports if due else ()), self._description, *feedback]
        return [print_compound(feedback)] if feedback else []

    def is_report_due(self, now: float) -> bool:
        """Whether the next `poll` sends a report: only then are report blocks worth making. The first is due
        with the first packet, so that the receiver can synchronise at once."""
        return self._sent_at is not None and (self._report_due is None or now >= self._report_due)

    def next_deadline(self, now: float) -> float | None:
        """When `poll` has something to do; None before the first packet."""
        if self._granted is not None or self.is_report_due(now):
            return now
        return self._report_due

    def goodbye(self, now: float, wall_clock: float, reason: str = "") -> bytes:
        """The last RTCP of this stream (RFC 3550 6.6)."""
        ssrcs = (self._settings.ssrc,)
        return print_compound((self._report(now, wall_clock, ()), self._description, Goodbye(ssrcs, reason)))

    def _report(self, now: float, wall_clock: float, reports: Sequence[ReportBlock]) -> RtcpPacket:
        settings = self._settings
        if self._sent_at is None or now - self._sent_at > _IDLE_INTERVALS * max(self._report_gap, 1.0):
            return ReceiverReport(settings.ssrc, tuple(reports))
        stamp = ntp.from_unix(wall_clock)
        self._reports_sent[ntp.compact(stamp)] = now
        if len(self._reports_sent) > _REMEMBERED_REPORTS:
            del self._reports_sent[next(iter(self._reports_sent))]
        return SenderReport(
            ssrc=settings.ssrc,
            ntp=stamp,
            rtp_timestamp=self._timestamp + round((now - self._captured) * settings.clock_rate) & 0xFFFF_FFFF,
            packet_count=self._packets,
            octet_count=self._octets,
            reports=tuple(reports),
        )

    def stats(self, now: float) -> SenderStats:
        return SenderStats(
            packets=self._packets,
            bytes=self._octets + self._packets * self._header_size,
            repeated=self._repeated,
            repeats_refused=self._repeats_refused,
            bitrate=self._rate.bitrate(now),
            loss=self._remote.loss,
            jitter=self._remote.jitter,
            rtt=self._remote.round_trip,
        )
