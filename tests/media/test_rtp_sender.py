"""RtpSender: headers, repeats, reports, and what feedback means."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from media.rtp_sender import (
    BitrateLimit,
    KeyframeRequested,
    LimitSource,
    RemoteReport,
    RetransmissionsDue,
    RtpSender,
    SenderSettings,
)
from protocols.rtp import ntp
from protocols.rtp.packet import Extension, RtpPacket, unwrap_retransmission
from protocols.rtp.rtcp import (
    Goodbye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    parse_compound,
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

OURS, PEER = 0x0A0A0A0A, 0x0B0B0B0B
WALL = 1_700_000_000.0
SETTINGS = SenderSettings(OURS, "us", 96, 90000, nack=True)


def sender(**changes: object) -> RtpSender:
    return RtpSender(replace(SETTINGS, **changes), random.Random(3))  # type: ignore[arg-type]  # keywords of it


def send(stream: RtpSender, payloads: list[bytes], timestamp: int, now: float) -> list[RtpPacket]:
    return [RtpPacket.parse(packet) for packet in stream.packets(payloads, timestamp, now)]


def rtcp(datagrams: list[bytes]) -> list[RtcpPacket]:
    return [packet for datagram in datagrams for packet in parse_compound(datagram)]


def test_packets_number_on_and_share_the_frames_timestamp() -> None:
    stream = sender(extensions=(Extension(1, b"0"),))
    first = send(stream, [b"a" * 100, b"b" * 100, b"c"], 5000, 0.0)
    second = send(stream, [b"d"], 8600, 0.04)
    packets = first + second
    start = packets[0].sequence_number
    assert [p.sequence_number for p in packets] == [(start + n) & 0xFFFF for n in range(4)]
    assert [p.marker for p in packets] == [False, False, True, True]
    assert len({p.timestamp for p in first}) == 1
    assert second[0].timestamp == (first[0].timestamp + 3600) & 0xFFFF_FFFF
    assert {(p.payload_type, p.ssrc, p.extensions) for p in packets} == {(96, OURS, (Extension(1, b"0"),))}
    assert [p.payload for p in packets] == [b"a" * 100, b"b" * 100, b"c", b"d"]
    assert not any(RtpPacket.parse(p).marker for p in stream.packets([b"s"], 9000, 0.05, marker=False))


def test_headers_go_before_shared_payloads() -> None:
    one, other = sender(), sender()
    payloads = [b"a" * 1200, b"b" * 1200, b"c" * 7]
    heads = one.headers(payloads, 0, 0.0)
    assert [head + payload for head, payload in zip(heads, payloads, strict=True)] == other.packets(
        payloads, 0, 0.0
    )


def test_first_numbers_are_random() -> None:
    firsts = {send(RtpSender(SETTINGS), [b"x"], 0, 0.0)[0].sequence_number for _ in range(8)}
    stamps = {send(RtpSender(SETTINGS), [b"x"], 0, 0.0)[0].timestamp for _ in range(8)}
    assert len(firsts) > 1
    assert len(stamps) > 1


def test_sequence_numbers_wrap_within_a_frame() -> None:
    stream = sender()
    packets = [p for n in range(700) for p in send(stream, [b"x"] * 100, n * 3600, n * 0.04)]
    start = packets[0].sequence_number
    assert [p.sequence_number for p in packets] == [(start + n) & 0xFFFF for n in range(70000)]


def test_timestamps_go_on_over_a_change_of_source() -> None:
    stream = sender()
    (first,) = send(stream, [b"x"], 123_456_789_012, 10.0)
    stream.rebase()
    (second,) = send(stream, [b"x"], 40, 10.5)
    (third,) = send(stream, [b"x"], 3640, 10.54)
    assert (second.timestamp - first.timestamp) & 0xFFFF_FFFF == 45000
    assert (third.timestamp - second.timestamp) & 0xFFFF_FFFF == 3600
    assert second.sequence_number == (first.sequence_number + 1) & 0xFFFF
    stream.rebase()
    (fourth,) = send(stream, [b"x"], 0, 10.54)
    assert (fourth.timestamp - third.timestamp) & 0xFFFF_FFFF == 1


def test_a_source_whose_way_is_longer_keeps_the_sender_s_clock() -> None:
    """After a change to frames that took 0.3 s longer to come here, one clock goes on for both."""
    stream = sender()
    (first,) = map(RtpPacket.parse, stream.packets([b"x"], 9_000_000, 10.0, captured=9.9))
    stream.rebase()
    (second,) = map(RtpPacket.parse, stream.packets([b"x"], 77, 11.0, captured=10.6))
    assert (second.timestamp - first.timestamp) & 0xFFFF_FFFF == round((10.6 - 9.9) * 90_000)


def test_plain_repeats_are_the_bytes_sent_before() -> None:
    stream = sender(extensions=(Extension(1, b"mid"),))
    sent = stream.packets([b"a" * 9, b"b" * 9, b"c"], 0, 0.0)
    stream.payload_type = 98
    later = stream.packets([b"d"], 3600, 0.04)
    numbers = [RtpPacket.parse(packet).sequence_number for packet in sent + later]
    (event,) = stream.receive_rtcp([GenericNack(PEER, OURS, (numbers[1], numbers[2], numbers[3]))], 0.1)
    assert event == RetransmissionsDue((sent[1], sent[2], later[0]))


def test_repeats_on_rtx_carry_the_original_number() -> None:
    stream = sender(rtx_ssrc=0xCC, rtx_payload_type=97)
    sent = send(stream, [b"a" * 9, b"b" * 9], 0, 0.0)
    nack = GenericNack(PEER, OURS, (sent[0].sequence_number, sent[1].sequence_number))
    (event,) = stream.receive_rtcp([nack], 0.1)
    assert isinstance(event, RetransmissionsDue)
    repeats = [RtpPacket.parse(packet) for packet in event.packets]
    assert {(p.ssrc, p.payload_type) for p in repeats} == {(0xCC, 97)}
    assert repeats[1].sequence_number == (repeats[0].sequence_number + 1) & 0xFFFF
    assert [unwrap_retransmission(p, 96, OURS) for p in repeats] == sent


def test_repeats_are_bounded() -> None:
    stream = sender(history=0.5, history_packets=50, repeat_bitrate=8 * 3 * 112)
    sent = [p for n in range(10) for p in send(stream, [b"x" * 100] * 10, n * 3600, n * 0.04)]
    numbers = [p.sequence_number for p in sent]
    assert stream.receive_rtcp([GenericNack(PEER, OURS, (numbers[49],))], 0.4) == []  # gone: 50 are kept
    (event,) = stream.receive_rtcp([GenericNack(PEER, OURS, (numbers[50],))], 0.4)
    assert isinstance(event, RetransmissionsDue)
    assert stream.receive_rtcp([GenericNack(PEER, OURS, (numbers[50],))], 0.405) == []  # just sent
    (event,) = stream.receive_rtcp([GenericNack(PEER, OURS, tuple(numbers[60:70]))], 0.45)
    assert isinstance(event, RetransmissionsDue)
    assert len(event.packets) == 2  # three packets a second are allowed
    stats = stream.stats(0.45)
    assert (stats.repeated, stats.repeats_refused) == (3, 1 + 1 + 8)
    send(stream, [b"y"], 99 * 3600, 3.0)
    assert stream.receive_rtcp([GenericNack(PEER, OURS, (numbers[99],))], 3.0) == []  # too old
    assert RtpSender(replace(SETTINGS, nack=False)).receive_rtcp([GenericNack(PEER, OURS, (1,))], 0.0) == []


def test_sender_reports_map_timestamps_to_the_wall_clock() -> None:
    stream = sender()
    assert stream.next_deadline(0.0) is None
    assert stream.poll(0.0, WALL) == []
    (packet,) = send(stream, [b"x" * 100, b"y" * 50][:1], 0, 10.0)
    assert stream.next_deadline(10.0) == 10.0
    report, description = rtcp(stream.poll(10.5, WALL))
    assert isinstance(report, SenderReport)
    assert (report.ssrc, report.packet_count, report.octet_count) == (OURS, 1, 100)
    assert ntp.to_unix(report.ntp) == pytest.approx(WALL, abs=1e-5)
    assert (report.rtp_timestamp - packet.timestamp) & 0xFFFF_FFFF == 45000
    assert description == SourceDescription.of(OURS, "us")
    assert stream.poll(10.6, WALL + 0.1) == []
    due = stream.next_deadline(10.6)
    assert due is not None
    assert 11.5 <= due <= 17
    # A picture captured earlier than it was sent moves the mapping.
    (packet,) = [RtpPacket.parse(p) for p in stream.packets([b"x"], 90000, due, captured=due - 0.2)]
    block = ReportBlock(PEER, 0, 0, 9, 0)
    report, _ = rtcp(stream.poll(due, WALL + 5, [block]))
    assert isinstance(report, SenderReport)
    assert (report.rtp_timestamp - packet.timestamp) & 0xFFFF_FFFF == 18000
    assert report.reports == (block,)


def test_a_sender_that_has_gone_quiet_is_a_receiver() -> None:
    stream = sender()
    send(stream, [b"x"], 0, 0.0)
    stream.poll(0.0, WALL)
    report, _ = rtcp(stream.poll(60.0, WALL + 60))
    assert report == ReceiverReport(OURS)


def test_round_trip_comes_from_last_sr_whatever_the_wall_clock_does() -> None:
    stream = sender()
    send(stream, [b"x" * 100], 0, 10.0)
    report, _ = rtcp(stream.poll(10.0, WALL))
    assert isinstance(report, SenderReport)
    block = ReportBlock(OURS, 64, 12, 9, 900, ntp.compact(report.ntp), ntp.compact_duration(2.0))
    other = replace(block, ssrc=1)
    events = stream.receive_rtcp([ReceiverReport(PEER, (other, block))], 12.08)
    assert events[0] == RemoteReport(0.25, 12, 0.01, pytest.approx(0.08, abs=1e-4))
    stats = stream.stats(12.08)
    assert (stats.loss, stats.jitter) == (0.25, 0.01)
    assert stats.rtt == pytest.approx(0.08, abs=1e-4)


def test_high_loss_is_a_limit() -> None:
    stream = sender()
    for n in range(50):
        send(stream, [b"x" * 988] * 5, n * 1800, 0.02 * n)
    quiet = ReceiverReport(PEER, (ReportBlock(OURS, 25, 12, 9, 900),))
    assert len(stream.receive_rtcp([quiet], 0.99)) == 1
    lossy = ReceiverReport(PEER, (ReportBlock(OURS, 64, 12, 9, 900),))
    events = stream.receive_rtcp([lossy], 0.99)
    assert events[1] == BitrateLimit(1_750_000, LimitSource.RR)


def test_key_frame_requests() -> None:
    stream = sender(rtx_ssrc=0xCC, rtx_payload_type=97)
    assert stream.receive_rtcp([PictureLossIndication(PEER, OURS)], 0.0) == [KeyframeRequested()]
    assert stream.receive_rtcp([PictureLossIndication(PEER, 0)], 0.0) == [KeyframeRequested()]
    assert stream.receive_rtcp([PictureLossIndication(PEER, 77)], 0.0) == []
    fir = FullIntraRequest(PEER, ((OURS, 9),))
    assert stream.receive_rtcp([fir], 0.0) == [KeyframeRequested()]
    assert stream.receive_rtcp([fir], 0.1) == []  # a repetition (RFC 5104 4.3.1.2)
    assert stream.receive_rtcp([FullIntraRequest(PEER, ((OURS, 10),))], 0.2) == [KeyframeRequested()]
    assert stream.receive_rtcp([FullIntraRequest(99, ((OURS, 10),))], 0.2) == [KeyframeRequested()]
    assert stream.receive_rtcp([FullIntraRequest(PEER, ((77, 11),))], 0.3) == []


def test_bitrate_limits_and_the_answer_to_tmmbr() -> None:
    stream = sender()
    send(stream, [b"x"], 0, 0.0)
    stream.poll(0.0, WALL)
    remb = ReceiverEstimatedMaximumBitrate(PEER, 700_000, (1, OURS))
    assert stream.receive_rtcp([remb], 0.1) == [BitrateLimit(700_000, LimitSource.REMB)]
    assert stream.receive_rtcp([replace(remb, ssrcs=(1,))], 0.1) == []
    request = TemporaryMaximumBitrateRequest(PEER, (BitrateEntry(OURS, 500_000, 40),))
    assert stream.receive_rtcp([request], 0.2) == [BitrateLimit(500_000, LimitSource.TMMBR)]
    assert stream.next_deadline(0.2) == 0.2
    report, _, notification = rtcp(stream.poll(0.2, WALL))
    assert isinstance(report, SenderReport)
    assert notification == TemporaryMaximumBitrateNotification(OURS, (BitrateEntry(PEER, 500_000, 40),))
    assert stream.poll(0.2, WALL) == []


def test_goodbye() -> None:
    stream = sender()
    send(stream, [b"x"], 0, 0.0)
    report, description, bye = parse_compound(stream.goodbye(0.1, WALL, "the meeting is over"))
    assert isinstance(report, SenderReport)
    assert description == SourceDescription.of(OURS, "us")
    assert bye == Goodbye((OURS,), "the meeting is over")


def test_stats_count_whole_packets() -> None:
    stream = sender()
    for n in range(25):
        send(stream, [b"x" * 988] * 4, n * 3600, 0.04 * n)
    stats = stream.stats(0.96)
    assert (stats.packets, stats.bytes) == (100, 100_000)
    assert stats.bitrate == 800_000
