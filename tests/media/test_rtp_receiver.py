"""RtpReceiver: order, loss, repair, restarts, and the RTCP it answers with."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.arrival_recorder import ArrivalRecorder
from media.receiver_reports import ReceiverFeedback
from media.rtp_receiver import (
    KeyframeWanted,
    ReceiverSettings,
    RtpReceiver,
    SourceChanged,
    SourceLeft,
    SourceRestarted,
    TonePressed,
)
from protocols.payloads import Frame
from protocols.payloads.g711 import G711Depacketizer
from protocols.payloads.telephone_event import TelephoneEvent, TelephoneEventReceiver
from protocols.payloads.vp8 import Vp8Depacketizer, Vp8Packetizer
from protocols.rtp import ntp
from protocols.rtp.packet import Extension, RtpPacket, wrap_retransmission
from protocols.rtp.rtcp import (
    Goodbye,
    ReceiverReport,
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
from protocols.rtp.transport_feedback import TICK, TransportFeedback

OURS, PEER = 0x0A0A0A0A, 0x0B0B0B0B
KEY, DELTA = b"\x10", b"\x11"  # first bytes of VP8 frames


def picture_receiver(feedback: ReceiverFeedback | None = None, **changes: object) -> RtpReceiver:
    base = ReceiverSettings(
        ssrc=OURS,
        cname="us",
        clock_rate=90000,
        formats={96: Vp8Depacketizer()},
        retransmissions={97: 96},
        feedback=feedback or ReceiverFeedback(pli=True, reduced_size=True),
        expected_ssrc=PEER,
    )
    return RtpReceiver(replace(base, **changes), random.Random(1))  # type: ignore[arg-type]  # keywords of it


def sound_receiver(**changes: object) -> RtpReceiver:
    base = ReceiverSettings(
        ssrc=OURS,
        cname="us",
        clock_rate=8000,
        formats={8: G711Depacketizer(), 101: TelephoneEventReceiver()},
    )
    return RtpReceiver(replace(base, **changes), random.Random(1))  # type: ignore[arg-type]  # keywords of it


def sound(number: int, ssrc: int = PEER, payload_type: int = 8, timestamp: int | None = None) -> bytes:
    stamp = 160 * number if timestamp is None else timestamp
    payload = bytes([number & 0xFF]) * 160
    return bytes(RtpPacket(payload_type, number & 0xFFFF, stamp & 0xFFFF_FFFF, ssrc, payload))


def video(frames: list[bytes], max_payload: int = 60, first_sequence: int = 0) -> list[RtpPacket]:
    """The packets of VP8 frames at 25 a second."""
    packets: list[RtpPacket] = []
    packetizer = Vp8Packetizer(0, max_payload)
    for number, frame in enumerate(frames):
        payloads = packetizer.packetize(frame)
        for index, payload in enumerate(payloads):
            sequence = (first_sequence + len(packets)) & 0xFFFF
            last = index == len(payloads) - 1
            packets.append(RtpPacket(96, sequence, number * 3600, PEER, payload, marker=last))
    return packets


def pictures(count: int, rng: random.Random, keys: tuple[int, ...] = (0,)) -> list[bytes]:
    return [(KEY if n in keys else DELTA) + rng.randbytes(rng.randrange(1, 400)) for n in range(count)]


def rtcp(datagrams: list[bytes]) -> list[RtcpPacket]:
    return [packet for datagram in datagrams for packet in parse_compound(datagram)]


def report(receiver: RtpReceiver, now: float) -> ReceiverReport:
    """Polls on until a report comes."""
    for step in range(100):
        for packet in rtcp(receiver.poll(now + step * 0.1)):
            if isinstance(packet, ReceiverReport):
                return packet
    raise AssertionError("no receiver report in 10 s")


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 0xFFFF))
def test_reordered_and_repeated_packets_make_the_frames_that_were_sent(seed: int, first: int) -> None:
    rng = random.Random(seed)
    sent = pictures(12, rng)
    packets = video(sent, first_sequence=first)
    # Each packet is delayed by up to 30 ms at 2 ms a packet; some come twice. The first keeps its place.
    arrivals = [(0.002 * n + rng.uniform(0, 0.03), n) for n in range(1, len(packets))]
    arrivals += [(at + rng.uniform(0, 0.03), n) for at, n in arrivals if rng.random() < 0.1]
    receiver = picture_receiver()
    frames = receiver.receive_rtp(bytes(packets[0]), 0.0)
    for at, n in sorted(arrivals):
        frames += receiver.receive_rtp(bytes(packets[n]), at)
    frames += receiver.close()
    assert frames == [Frame(data, n * 3600, n == 0) for n, data in enumerate(sent)]
    stats = receiver.stats(1.0)
    assert stats.given_up == 0
    assert stats.late == len(arrivals) - len(packets) + 1
    assert (stats.frames, stats.keyframes, stats.damaged) == (12, 1, 0)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_after_a_loss_pictures_are_flagged_until_a_whole_key_frame(seed: int) -> None:
    rng = random.Random(seed)
    sent = pictures(20, rng, keys=(0, 7, 14))
    receiver = picture_receiver()
    frames: list[Frame] = []
    owner: list[int] = []
    lost: set[int] = set()
    for packet in video(sent):
        owner.append(packet.timestamp // 3600)
    for n, packet in enumerate(video(sent)):
        if n and rng.random() < 0.05:
            lost.add(owner[n])
        else:
            frames += receiver.receive_rtp(bytes(packet), 0.001 * n)
    frames += receiver.close()
    spoilt = False
    for number in range(20):
        if number in (0, 7, 14):
            spoilt = False
        spoilt |= number in lost
        for frame in frames:
            if frame.timestamp == number * 3600 and not frame.damaged:
                assert frame.data == sent[number]
                assert not spoilt
    assert [frame.timestamp for frame in frames] == sorted({frame.timestamp for frame in frames})


def test_a_gap_is_waited_for_and_then_given_up() -> None:
    sent = [KEY + bytes(30), DELTA + bytes(30), DELTA + bytes(30)]
    packets = video(sent)
    receiver = picture_receiver(hold=0.06)
    assert len(receiver.receive_rtp(bytes(packets[0]), 0.0)) == 1
    assert receiver.receive_rtp(bytes(packets[2]), 0.1) == []
    receiver.poll(0.1)
    assert receiver.next_deadline(0.1) == pytest.approx(0.16)
    assert receiver.release(0.159) == []
    (frame,) = receiver.release(receiver.next_deadline(0.1))
    assert frame == Frame(sent[2], 7200, keyframe=False, damaged=True)
    assert receiver.stats(0.2).given_up == 1
    assert receiver.receive_rtp(bytes(packets[1]), 0.3) == []
    assert receiver.stats(0.3).late == 1


def test_the_buffer_is_bounded_by_packets() -> None:
    receiver = sound_receiver(max_packets=8, hold=60.0, expected_ssrc=PEER)
    receiver.receive_rtp(sound(0), 0.0)
    frames = [frame for n in range(2, 12) for frame in receiver.receive_rtp(sound(n), 0.001 * n)]
    assert [frame.timestamp for frame in frames] == [160 * n for n in range(2, 12)]


def test_missing_packets_are_asked_for_and_asked_again() -> None:
    packets = video([KEY + bytes(500)])
    receiver = picture_receiver(ReceiverFeedback(nack=True, reduced_size=True))
    receiver.note_round_trip(0.03)
    for n in (0, 3, 5):
        receiver.receive_rtp(bytes(packets[n]), 0.0)
    assert rtcp(receiver.poll(0.0)) == []  # may be on its way, out of order
    assert rtcp(receiver.poll(0.005)) == [GenericNack(OURS, PEER, (1, 2, 4))]
    assert rtcp(receiver.poll(0.02)) == []
    receiver.receive_rtp(bytes(packets[2]), 0.03)
    assert rtcp(receiver.poll(0.036)) == [GenericNack(OURS, PEER, (1, 4))]
    repair = RtpPacket(97, 700, 0, 0xCC, wrap_retransmission(packets[1].payload, 1))
    receiver.receive_rtp(bytes(repair), 0.04)
    assert receiver.stats(0.04).repaired == 2
    assert receiver.stats(0.04).nacks_sent == 2
    receiver.release(1.0)  # the gap is given up, and no longer asked for
    assert not any(isinstance(packet, GenericNack) for packet in rtcp(receiver.poll(2.0)))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.booleans())
def test_repaired_losses_leave_no_trace(seed: int, rtx: bool) -> None:
    rng = random.Random(seed)
    sent = pictures(15, rng)
    packets = video(sent, first_sequence=65500)
    receiver = picture_receiver(ReceiverFeedback(nack=True, reduced_size=True))
    receiver.note_round_trip(0.02)
    frames: list[Frame] = []
    now = 0.0
    for n, packet in enumerate(packets):
        now = 0.003 * n
        if not (0 < n < len(packets) - 1 and rng.random() < 0.1):
            frames += receiver.receive_rtp(bytes(packet), now)
        for asked in rtcp(receiver.poll(now + 0.006)):
            assert isinstance(asked, GenericNack)
            for sequence in asked.lost:
                again = next(p for p in packets if p.sequence_number == sequence)
                if rtx:
                    payload = wrap_retransmission(again.payload, sequence)
                    again = replace(again, payload_type=97, ssrc=0xCC, sequence_number=n, payload=payload)
                if rng.random() < 0.9:
                    frames += receiver.receive_rtp(bytes(again), now + 0.007)
    while len(frames) < 15 and now < 5:
        now += 0.01
        frames += receiver.release(now)
        for asked in rtcp(receiver.poll(now)):
            for sequence in asked.lost if isinstance(asked, GenericNack) else ():
                again = next(p for p in packets if p.sequence_number == sequence)
                frames += receiver.receive_rtp(bytes(again), now)
    assert [frame.data for frame in frames] == sent
    assert not any(frame.damaged for frame in frames)


def test_key_frame_requests_are_coalesced_and_spaced() -> None:
    sent = [KEY + bytes(30)] + [DELTA + bytes(30)] * 400
    packets = video(sent)
    receiver = picture_receiver(hold=0.0)
    asked: list[float] = []
    for n, packet in enumerate(packets):
        now = 0.04 * n
        if n % 10 != 5:  # a loss every 0.4 s
            receiver.receive_rtp(bytes(packet), now)
        requests = [p for p in rtcp(receiver.poll(now)) if isinstance(p, PictureLossIndication)]
        assert requests in ([], [PictureLossIndication(OURS, PEER)])
        asked += [now] * len(requests)
    assert asked[0] == pytest.approx(0.24)  # the first picture after the first loss
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert min(gaps) >= 0.999
    assert gaps[:3] == pytest.approx([1.0, 2.0, 4.0], abs=0.05)
    assert receiver.stats(16.0).plis_sent == len(asked)
    receiver.request_keyframe(16.1, urgent=True)
    assert PictureLossIndication(OURS, PEER) in rtcp(receiver.poll(16.1))


def test_no_key_frame_is_asked_of_a_source_that_begins_with_one() -> None:
    receiver = picture_receiver()
    packets = video([KEY + bytes(300), DELTA])
    receiver.receive_rtp(bytes(packets[0]), 0.0)
    assert not any(isinstance(p, PictureLossIndication) for p in rtcp(receiver.poll(0.1)))
    for packet in packets[1:]:
        receiver.receive_rtp(bytes(packet), 0.15)
    assert not any(isinstance(p, PictureLossIndication) for p in rtcp(receiver.poll(0.25)))


def test_late_joiners_see_damaged_pictures_and_ask() -> None:
    receiver = picture_receiver(ReceiverFeedback(fir=True, reduced_size=True))
    packets = video([DELTA + bytes(9)] * 3)
    frames = [frame for packet in packets for frame in receiver.receive_rtp(bytes(packet), 0.0)]
    assert len(frames) == 3
    assert all(frame.damaged for frame in frames)
    assert FullIntraRequest(OURS, ((PEER, 1),)) in rtcp(receiver.poll(0.2))
    assert FullIntraRequest(OURS, ((PEER, 2),)) in rtcp(receiver.poll(1.2))


def test_without_feedback_the_owner_is_told() -> None:
    receiver = picture_receiver(ReceiverFeedback())
    receiver.receive_rtp(bytes(video([DELTA])[0]), 0.0)
    assert rtcp(receiver.poll(0.2)) == []
    assert receiver.take_events() == [SourceChanged(None, PEER), KeyframeWanted()]


def test_a_source_is_believed_at_its_second_packet() -> None:
    receiver = sound_receiver()
    assert receiver.receive_rtp(sound(7), 0.0) == []
    frames = receiver.receive_rtp(sound(8), 0.02)
    assert [frame.data[0] for frame in frames] == [7, 8]
    assert receiver.take_events() == [SourceChanged(None, PEER)]
    # strays: one packet, an unknown payload type, two that are not in a row
    assert receiver.receive_rtp(sound(100, ssrc=5), 0.03) == []
    assert len(receiver.receive_rtp(sound(9), 0.04)) == 1
    assert receiver.receive_rtp(sound(101, ssrc=5), 0.05) == []
    assert receiver.receive_rtp(sound(500, ssrc=5), 0.05) == []
    assert receiver.receive_rtp(sound(1, ssrc=6, payload_type=99), 0.05) == []
    assert receiver.receive_rtp(sound(2, ssrc=6, payload_type=99), 0.05) == []
    assert receiver.ssrc == PEER


def test_the_first_two_packets_may_come_in_the_wrong_order() -> None:
    receiver = sound_receiver()
    assert receiver.receive_rtp(sound(65536), 0.0) == []
    frames = receiver.receive_rtp(sound(65535), 0.001)
    assert [frame.timestamp for frame in frames] == [160 * 65535, 160 * 65536]


def test_a_new_source_goes_on_in_time() -> None:
    receiver = sound_receiver()
    frames = [frame for n in range(5) for frame in receiver.receive_rtp(sound(n), 0.02 * n)]
    receiver.receive_rtcp([SenderReport(PEER, ntp.from_unix(1000.0), 0, 1, 1)], 0.1)
    assert receiver.ntp_at(8000) == pytest.approx(1001.0 + ntp.UNIX_EPOCH)
    for n in range(3):
        frames += receiver.receive_rtp(sound(900 + n, ssrc=77, timestamp=5_000_000 + 160 * n), 0.1 + 0.02 * n)
    assert [frame.timestamp for frame in frames] == [160 * n for n in range(8)]
    assert receiver.take_events() == [SourceChanged(None, PEER), SourceChanged(PEER, 77)]
    assert receiver.ntp_at(8000) is None
    assert receiver.stats(0.2).lost == 0
    # Two sources at once do not make it flutter.
    for n in range(20):
        receiver.receive_rtp(sound(903 + n, ssrc=77, timestamp=5_000_480 + 160 * n), 0.16 + 0.02 * n)
        receiver.receive_rtp(sound(5 + 2 * n), 0.16 + 0.02 * n)
        receiver.receive_rtp(sound(6 + 2 * n), 0.16 + 0.02 * n)
    assert receiver.ssrc == 77


def test_a_restart_of_the_sequence_is_followed_from_its_first_packet() -> None:
    receiver = sound_receiver(expected_ssrc=PEER)
    frames = [frame for n in range(5) for frame in receiver.receive_rtp(sound(n), 0.02 * n)]
    frames += receiver.receive_rtp(sound(20000, timestamp=0x90000000), 0.10)
    frames += receiver.receive_rtp(sound(20001, timestamp=0x900000A0), 0.12)
    frames += receiver.receive_rtp(sound(20002, timestamp=0x90000140), 0.14)
    assert [frame.timestamp for frame in frames] == [160 * n for n in range(8)]
    assert SourceRestarted(PEER) in receiver.take_events()
    block = report(receiver, 0.2).reports[0]
    assert (block.highest_sequence, block.cumulative_lost) == (20002, 0)
    # A single packet from nowhere is not.
    assert receiver.receive_rtp(sound(45000), 0.2) == []
    assert len(receiver.receive_rtp(sound(20003, timestamp=0x900001E0), 0.22)) == 1


def test_timestamps_and_sequence_numbers_do_not_wrap() -> None:
    receiver = sound_receiver(expected_ssrc=PEER)
    start = 2**32 - 160 * 50
    frames = [
        frame
        for n in range(100)
        for frame in receiver.receive_rtp(sound(65500 + n, timestamp=start + 160 * n), 0.02 * n)
    ]
    assert [frame.timestamp for frame in frames] == [start + 160 * n for n in range(100)]
    assert report(receiver, 2.0).reports[0].highest_sequence == 65599


def test_a_pause_is_no_jump_but_a_wild_timestamp_is() -> None:
    receiver = sound_receiver(expected_ssrc=PEER)
    frames = receiver.receive_rtp(sound(0), 0.0)
    frames += receiver.receive_rtp(sound(1, timestamp=8000 * 60), 60.0)
    frames += receiver.receive_rtp(sound(2, timestamp=8000 * 9000), 60.02)
    frames += receiver.receive_rtp(sound(3, timestamp=8000 * 9000 + 160), 60.04)
    assert [frame.timestamp for frame in frames] == [0, 480000, 480160, 480320]


def test_receiver_reports_count_as_rfc_3550_a3_and_a8() -> None:
    receiver = sound_receiver(expected_ssrc=PEER, hold=0.0)
    for n in range(100):
        if n % 4 != 3:
            receiver.receive_rtp(sound(n), 0.02 * n + (0.005 if n % 2 else 0.0))
    receiver.receive_rtcp([SenderReport(PEER, 0x12345678_9ABCDEF0, 0, 1, 1)], 2.0)
    first = report(receiver, 2.0)
    block = first.reports[0]
    assert first.ssrc == OURS
    assert (block.ssrc, block.highest_sequence, block.cumulative_lost) == (PEER, 98, 24)
    assert block.fraction_lost == 24 * 256 // 99
    assert block.last_sr == 0x56789ABC
    # 5 ms forth and back between neighbours is a jitter of some 30 timestamp units.
    assert 20 <= block.jitter <= 40
    assert receiver.stats(2.0).jitter_ms == pytest.approx(block.jitter / 8, abs=0.2)
    for n in range(100, 110):
        receiver.receive_rtp(sound(n), 5.0)
    second = report(receiver, 12.0).reports[0]
    assert (second.fraction_lost, second.cumulative_lost) == (256 // 11, 25)
    assert second.delay_since_last_sr >= 10 * 65536


def test_reports_come_at_rfc_intervals_with_a_cname() -> None:
    receiver = sound_receiver(expected_ssrc=PEER)
    times: list[float] = []
    for step in range(2000):
        now = 0.02 * step
        receiver.receive_rtp(sound(step), now)
        packets = rtcp(receiver.poll(now))
        if packets:
            times.append(now)
            assert isinstance(packets[0], ReceiverReport)
            assert packets[1] == SourceDescription.of(OURS, "us")
    gaps = [later - earlier for earlier, later in pairwise(times)]
    # 68.8 kbit/s of RTP: 5 s over the randomisation and its compensation
    assert all(2.0 <= gap <= 6.3 for gap in gaps)
    assert 3.0 <= sum(gaps) / len(gaps) <= 5.2


def test_reports_can_be_left_to_a_sender() -> None:
    receiver = sound_receiver(expected_ssrc=PEER, feedback=ReceiverFeedback(reports=False))
    assert receiver.report_block(0.0) is None
    for n in range(10):
        receiver.receive_rtp(sound(n), 0.02 * n)
        assert receiver.poll(float(n)) == []
    block = receiver.report_block(1.0)
    assert block is not None
    assert (block.ssrc, block.highest_sequence) == (PEER, 9)


def test_bitrate_wishes() -> None:
    receiver = picture_receiver(ReceiverFeedback(remb=True, tmmbr=True, reduced_size=True))
    receiver.receive_rtp(bytes(video([KEY])[0]), 0.0)
    receiver.poll(0.0)
    receiver.limit_bitrate(1_000_000, 0.1)
    remb = ReceiverEstimatedMaximumBitrate(OURS, 1_000_000, (PEER,))
    request = TemporaryMaximumBitrateRequest(OURS, (BitrateEntry(PEER, 1_000_000, 40),))
    assert rtcp(receiver.poll(0.1)) == [remb, request]
    assert rtcp(receiver.poll(0.2)) == []
    later = rtcp(receiver.poll(1.1))
    assert remb in later
    assert request in later
    granted = TemporaryMaximumBitrateNotification(PEER, (BitrateEntry(OURS, 1_000_000, 40),))
    receiver.receive_rtcp([granted], 1.2)
    assert request not in rtcp(receiver.poll(2.2))
    receiver.limit_bitrate(None, 2.3)
    assert not any(isinstance(p, ReceiverEstimatedMaximumBitrate) for p in rtcp(receiver.poll(9.0)))


def test_feedback_without_reduced_size_is_a_full_compound() -> None:
    receiver = picture_receiver(ReceiverFeedback(pli=True))
    receiver.receive_rtp(bytes(video([KEY])[0]), 0.0)
    receiver.poll(0.0)
    receiver.request_keyframe(0.1)
    packets = rtcp(receiver.poll(0.1))
    assert packets == [
        ReceiverReport(OURS),
        SourceDescription.of(OURS, "us"),
        PictureLossIndication(OURS, PEER),
    ]


def test_tones_within_sound_are_no_loss() -> None:
    receiver = sound_receiver(expected_ssrc=PEER)
    frames: list[Frame] = []
    for n in range(5):
        frames += receiver.receive_rtp(sound(n), 0.02 * n)
    for n in range(5, 10):
        event = TelephoneEvent(11, end=n > 7, volume=10, duration=160 * (n - 4))
        packet = RtpPacket(101, n, 800, PEER, bytes(event), marker=n == 5)
        frames += receiver.receive_rtp(bytes(packet), 0.02 * n)
    for n in range(10, 12):
        frames += receiver.receive_rtp(sound(n), 0.02 * n)
    assert [frame.timestamp for frame in frames] == [160 * n for n in (0, 1, 2, 3, 4, 10, 11)]
    tones = [event for event in receiver.take_events() if isinstance(event, TonePressed)]
    assert [(tone.event.digit, tone.timestamp) for tone in tones] == [("#", 800)]
    assert receiver.stats(1.0).lost == 0


def test_what_a_source_says_of_itself() -> None:
    receiver = sound_receiver(expected_ssrc=PEER)
    receiver.receive_rtp(sound(0), 0.0)
    receiver.receive_rtcp([SourceDescription.of(PEER, "room@site"), Goodbye((PEER,), "over")], 0.1)
    assert receiver.cname == "room@site"
    assert receiver.take_events() == [SourceChanged(None, PEER), SourceLeft(PEER, "over")]


def test_an_early_sender_report_is_kept_for_the_first_packet() -> None:
    receiver = sound_receiver()
    receiver.receive_rtcp([SenderReport(PEER, ntp.from_unix(50.0), 320, 1, 1)], 0.0)
    for n in range(2):
        receiver.receive_rtp(sound(n), 0.02 * n)
    assert receiver.ntp_at(8320) == pytest.approx(51.0 + ntp.UNIX_EPOCH)


def test_bitrate_is_that_of_the_last_second() -> None:
    receiver = sound_receiver(expected_ssrc=PEER)
    for n in range(200):
        receiver.receive_rtp(sound(n), 100 + 0.02 * n)
    assert receiver.stats(100 + 0.02 * 199).bitrate == pytest.approx(172 * 8 * 50, rel=0.12)
    assert receiver.stats(110.0).bitrate == 0
    assert receiver.stats(110.0).bytes == 172 * 200


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=30))
def test_any_datagrams_are_survived(datagrams: list[tuple[bytes, bool]]) -> None:
    receiver = picture_receiver(ReceiverFeedback(nack=True, pli=True))
    for n, (data, header) in enumerate(datagrams):
        if header:
            data = b"\x80" + bytes([96 + n % 2]) + data[:2] + bytes(4) + PEER.to_bytes(4, "big") + data[2:]
        receiver.receive_rtp(data, 0.01 * n)
        for datagram in receiver.poll(0.01 * n):
            parse_compound(datagram)
        assert receiver.next_deadline(0.01 * n) >= 0
    receiver.close()


def test_transport_wide_arrivals_are_told() -> None:
    recorder = ArrivalRecorder(OURS)
    base = ReceiverSettings(
        OURS, "us", 90000, {96: Vp8Depacketizer()}, expected_ssrc=PEER, transport_sequence_id=5
    )
    receiver = RtpReceiver(base, random.Random(1), recorder)
    for n, packet in enumerate(video([KEY + bytes(600)])):
        if n in (2, 3):
            continue
        number = Extension(5, (65533 + n & 0xFFFF).to_bytes(2, "big"))
        receiver.receive_rtp(bytes(replace(packet, extensions=(number,))), 10.0 + 0.004 * n)
    assert recorder.deadline == pytest.approx(10.1)
    assert recorder.poll(10.05) == []
    (message,) = rtcp(recorder.poll(10.1))
    assert isinstance(message, TransportFeedback)
    assert (message.base_sequence, message.media_ssrc, message.feedback_count) == (65533, PEER, 0)
    times: list[float | None] = []
    clock = message.reference_time * 0.064
    for delta in message.deltas:
        clock += (delta or 0) * TICK
        times.append(None if delta is None else clock)
    expected = [None if n in (2, 3) else 10.0 + 0.004 * n for n in range(len(times))]
    assert times == pytest.approx(expected, abs=TICK)
    # The next message begins where this one ended, losses included.
    recorder.record(65533 + len(times) + 2 & 0xFFFF, PEER, 10.2)
    (message,) = rtcp(recorder.poll(10.4))
    assert isinstance(message, TransportFeedback)
    assert message.deltas[:2] == (None, None)
    assert len(message.deltas) == 3
