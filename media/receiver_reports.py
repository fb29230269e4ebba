"""The RTCP a receiver of one stream sends: reports, requests for packets and key frames, bitrate wishes."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from media.keyframe_requests import KeyframeRequests
from media.missing_packets import MissingPackets
from media.rtcp_timing import report_interval
from media.rtp_statistics import ReceptionStatistics
from protocols.rtp import ntp
from protocols.rtp.rtcp import (
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

_REMB_INTERVAL = 1.0
_TMMBR_RETRIES = 5
_TMMBR_RETRY = 1.0
_ROUNDING = 0.01
_PACKET_OVERHEAD = 40
"""IPv4, UDP and RTP headers in bytes, as TMMBR states them (RFC 5104 4.2.1.1)."""


@dataclass(frozen=True, slots=True)
class ReceiverFeedback:
    """What a=rtcp-fb and a=rtcp-rsize allow us to send. `reports` is False where an RtpSender with the same
    SSRC carries our report blocks in its sender reports."""

    nack: bool = False
    pli: bool = False
    fir: bool = False
    remb: bool = False
    tmmbr: bool = False
    reduced_size: bool = False
    reports: bool = True


class ReceiverReports:
    """Times are monotonic seconds; `media` is the SSRC received, None before the first."""

    def __init__(
        self,
        ssrc: int,
        cname: str,
        feedback: ReceiverFeedback,
        missing: MissingPackets,
        keyframes: KeyframeRequests,
        random: Random,
    ) -> None:
        self._ssrc = ssrc
        self._description = SourceDescription.of(ssrc, cname)
        self._feedback = feedback
        self._missing = missing
        self._keyframes = keyframes
        self._random = random
        self._report_due: float | None = None
        self._last_sr: tuple[int, float] | None = None
        self._fir_number = 0
        self._limit: int | None = None
        self._remb_due: float | None = None
        self._tmmbr_due: float | None = None
        self._tmmbr_left = 0
        self.nacks_sent = 0
        self.plis_sent = 0

    def sender_report(self, report: SenderReport, arrival: float) -> None:
        self._last_sr = (ntp.compact(report.ntp), arrival)

    def forget_sender(self) -> None:
        self._last_sr = None

    def notified(self, packet: RtcpPacket) -> None:
        """A TMMBN that names us and our wish ends the repetition of our TMMBR (RFC 5104 4.2.2)."""
        if not isinstance(packet, TemporaryMaximumBitrateNotification) or self._limit is None:
            return
        most = self._limit * _ROUNDING  # one that was under way when we wished anew grants the old wish
        if any(e.ssrc == self._ssrc and abs(e.bitrate - self._limit) <= most for e in packet.entries):
            self._tmmbr_due = None

    def limit(self, bitrate: int | None, now: float) -> None:
        """Sends a new wish at once; REMB is repeated each second, TMMBR until it is acknowledged."""
        if bitrate == self._limit:
            return
        self._limit = bitrate
        self._remb_due = now if self._feedback.remb and bitrate is not None else None
        self._tmmbr_due = now if self._feedback.tmmbr and bitrate is not None else None
        self._tmmbr_left = _TMMBR_RETRIES

    def block(
        self, now: float, media: int | None, statistics: ReceptionStatistics | None
    ) -> ReportBlock | None:
        """The report block of this moment; the fraction lost is that since the last block."""
        if media is None or statistics is None:
            return None
        last_sr, delay = 0, 0
        if self._last_sr is not None:
            last_sr, delay = self._last_sr[0], ntp.compact_duration(now - self._last_sr[1])
        return ReportBlock(
            ssrc=media,
            fraction_lost=statistics.fraction_lost(),
            cumulative_lost=statistics.lost,
            highest_sequence=statistics.highest & 0xFFFF_FFFF,
            jitter=int(statistics.jitter),
            last_sr=last_sr,
            delay_since_last_sr=delay,
        )

    def poll(
        self, now: float, media: int | None, statistics: ReceptionStatistics | None, bitrate: int
    ) -> tuple[list[bytes], bool]:
        """The datagrams due, and whether a key frame is wanted that RTCP cannot ask for."""
        feedback: list[RtcpPacket] = []
        keyframe_wanted = False
        if media is not None:
            lost = self._missing.due(now)
            if lost:
                self.nacks_sent += 1
                feedback.append(GenericNack(self._ssrc, media, tuple(number & 0xFFFF for number in lost)))
            if self._keyframes.due(now):
                request = self._keyframe_request(media)
                keyframe_wanted = request is None
                feedback += [request] if request is not None else []
            feedback += self._wishes(now, media)
        report = self._feedback.reports and self._is_report_due(now, bitrate)
        if report or (feedback and not self._feedback.reduced_size):
            block = self.block(now, media, statistics) if report else None
            blocks = (block,) if block is not None else ()
            feedback = [ReceiverReport(self._ssrc, blocks), self._description, *feedback]
        return ([print_compound(feedback)] if feedback else []), keyframe_wanted

    def deadline(self, now: float) -> float:
        """When something is due next; at once before the first poll."""
        if self._feedback.reports and self._report_due is None:
            return now
        times = (
            self._report_due,
            self._missing.deadline,
            self._keyframes.deadline,
            self._remb_due,
            self._tmmbr_due,
        )
        return min((time for time in times if time is not None), default=now + _REMB_INTERVAL)

    def _is_report_due(self, now: float, bitrate: int) -> bool:
        if self._report_due is None:
            self._report_due = now + report_interval(bitrate, self._random, initial=True)
            return False
        if now < self._report_due:
            return False
        self._report_due = now + report_interval(bitrate, self._random)
        return True

    def _keyframe_request(self, media: int) -> RtcpPacket | None:
        if self._feedback.pli:
            self.plis_sent += 1
            return PictureLossIndication(self._ssrc, media)
        if self._feedback.fir:
            self.plis_sent += 1
            self._fir_number = (self._fir_number + 1) & 0xFF
            return FullIntraRequest(self._ssrc, ((media, self._fir_number),))
        return None

    def _wishes(self, now: float, media: int) -> list[RtcpPacket]:
        wishes: list[RtcpPacket] = []
        if self._limit is not None and self._remb_due is not None and now >= self._remb_due:
            self._remb_due = now + _REMB_INTERVAL
            wishes.append(ReceiverEstimatedMaximumBitrate(self._ssrc, self._limit, (media,)))
        if self._limit is not None and self._tmmbr_due is not None and now >= self._tmmbr_due:
            self._tmmbr_left -= 1
            self._tmmbr_due = now + _TMMBR_RETRY if self._tmmbr_left > 0 else None
            entry = BitrateEntry(media, self._limit, _PACKET_OVERHEAD)
            wishes.append(TemporaryMaximumBitrateRequest(self._ssrc, (entry,)))
        return wishes
