"""RTCP against literal bytes of the standards and against itself."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.rtp import ntp
from protocols.rtp.rtcp import (
    ApplicationDefined,
    Goodbye,
    ReceiverReport,
    ReportBlock,
    SdesChunk,
    SenderReport,
    SourceDescription,
    is_rtcp,
    parse_compound,
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
from protocols.rtp.rtcp_framing import MalformedRtcp, OpaquePacket
from protocols.rtp.transport_feedback import TransportFeedback

u8, u16, u32 = st.integers(0, 255), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
words = st.integers(0, 4).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
blocks = st.lists(
    st.builds(ReportBlock, u32, u8, st.integers(-(2**23), 2**23 - 1), u32, u32, u32, u32), max_size=31
).map(tuple)
items = st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=255)), max_size=4).map(tuple)
bitrates = st.builds(BitrateEntry, u32, st.integers(0, 2**17 - 1), st.integers(0, 511))
rtcp_packets = st.one_of(
    st.builds(SenderReport, u32, st.integers(0, 2**64 - 1), u32, u32, u32, blocks, words),
    st.builds(ReceiverReport, u32, blocks, words),
    st.builds(SourceDescription, st.lists(st.builds(SdesChunk, u32, items), max_size=5).map(tuple)),
    st.builds(Goodbye, st.lists(u32, max_size=31).map(tuple), st.text(max_size=60)),
    st.builds(ApplicationDefined, u32, st.integers(0, 31), st.binary(min_size=4, max_size=4), words),
    st.builds(GenericNack, u32, u32, st.sets(u16, min_size=1).map(sorted).map(tuple)),
    st.builds(PictureLossIndication, u32, u32),
    st.builds(FullIntraRequest, u32, st.lists(st.tuples(u32, u8), max_size=5).map(tuple)),
    st.builds(TemporaryMaximumBitrateRequest, u32, st.lists(bitrates, max_size=5).map(tuple)),
    st.builds(TemporaryMaximumBitrateNotification, u32, st.lists(bitrates, max_size=5).map(tuple)),
    st.builds(
        ReceiverEstimatedMaximumBitrate,
        u32,
        st.integers(0, 2**18 - 1),
        st.lists(u32, max_size=9).map(tuple),
    ),
    st.builds(
        TransportFeedback,
        u32,
        u32,
        u16,
        st.integers(-(2**23), 2**23 - 1),
        u8,
        st.lists(
            st.one_of(st.none(), u8, st.integers(-(2**15), 2**15 - 1), st.just(4)), min_size=1, max_size=120
        ).map(tuple),
    ),
    st.builds(OpaquePacket, st.sampled_from([192, 195, 207, 209]), st.integers(0, 31), words),
)


@given(st.lists(rtcp_packets, min_size=1, max_size=4))
def test_printed_compounds_parse_back(packets: list[SenderReport]) -> None:
    data = print_compound(packets)
    assert len(data) % 4 == 0
    assert is_rtcp(data)
    assert parse_compound(data) == tuple(packets)


@given(st.lists(rtcp_packets, min_size=1, max_size=3), st.integers(min_value=0), st.data())
def test_damaged_compounds_never_raise_anything_else(
    packets: list[SenderReport], cut: int, data: st.DataObject
) -> None:
    raw = bytearray(print_compound(packets))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(u8)
    del raw[len(raw) - cut % len(raw) :]
    try:
        parsed = parse_compound(bytes(raw))
    except MalformedRtcp:
        return
    again = parse_compound(print_compound(parsed))
    for first, second in zip(parsed, again, strict=True):
        # A list of lost packets is put in order, and text that is not UTF-8 is replaced.
        assert first == second or isinstance(first, GenericNack | Goodbye)


@given(st.binary(max_size=120))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedRtcp):
        parse_compound(b"\x80\xc8" + data)


def test_sender_report_with_a_block() -> None:
    data = bytes.fromhex(
        "81c8000c" "11111111" "83aa7e80c0000000" "00001000" "00000064" "00003e80"
        "22222222" "40fffffe" "00010005" "00000007" "7e80c000" "00018000"
    )  # fmt: skip
    (report,) = parse_compound(data)
    block = ReportBlock(0x22222222, 64, -2, 0x10005, 7, 0x7E80C000, 0x18000)
    assert report == SenderReport(0x11111111, 0x83AA7E80_C0000000, 0x1000, 100, 16000, (block,))
    assert ntp.to_unix(report.ntp) == 0.75
    assert ntp.compact(report.ntp) == block.last_sr
    assert bytes(report) == data


def test_sdes_chunks_end_on_words() -> None:
    data = bytes.fromhex("81ca00030000000101046e616d650000")
    (sdes,) = parse_compound(data)
    assert sdes == SourceDescription.of(1, "name")
    assert sdes.chunks[0].cname == "name"
    assert bytes(sdes) == data


def test_sdes_without_its_terminating_zero_is_taken() -> None:
    (sdes,) = parse_compound(bytes.fromhex("81ca00030000000101066e616d652121"))
    assert sdes.chunks[0].cname == "name!!"


def test_goodbye_with_reason() -> None:
    data = bytes.fromhex("81cb0003000000090662726f6b656e00")
    assert parse_compound(data) == (Goodbye((9,), "broken"),)
    assert bytes(Goodbye((9,), "broken")) == data


def test_nack_covers_sixteen_after_its_first_and_wraps() -> None:
    nack = GenericNack(1, 2, (65534, 65535, 0, 14, 15))
    data = bytes(nack)
    # PID 65534: bits 0 (65535), 1 (0) and 15 (14); 15 needs an entry of its own.
    assert data == bytes.fromhex("81cd00040000000100000002fffe8003000f0000")
    assert parse_compound(data) == (nack,)


def test_remb_bytes_as_browsers_send_them() -> None:
    data = bytes.fromhex("8fce0005000000010000000052454d420103fff000000002")
    (remb,) = parse_compound(data)
    assert remb == ReceiverEstimatedMaximumBitrate(1, 0x3FFF0, (2,))
    # exponent 3, mantissa 0x1e848: 1 Mbit/s
    (remb,) = parse_compound(bytes.fromhex("8fce0005000000010000000052454d42010de84800000002"))
    assert remb.bitrate == 0x1E848 << 3 == 1_000_000


@given(st.integers(0, 2**40))
def test_printed_limits_are_never_above_the_limit(bitrate: int) -> None:
    (remb,) = parse_compound(bytes(ReceiverEstimatedMaximumBitrate(1, bitrate, (2,))))
    assert bitrate - bitrate // 2**17 <= remb.bitrate <= bitrate
    entry = BitrateEntry(3, bitrate, 40)
    (request,) = parse_compound(bytes(TemporaryMaximumBitrateRequest(1, (entry,))))
    assert bitrate - bitrate // 2**16 <= request.entries[0].bitrate <= bitrate


def test_fir_bytes() -> None:
    data = bytes.fromhex("84ce000400000001000000000000000207000000")
    assert parse_compound(data) == (FullIntraRequest(1, ((2, 7),)),)
    assert bytes(FullIntraRequest(1, ((2, 7),))) == data


def test_transport_feedback_bytes() -> None:
    feedback = TransportFeedback(1, 2, 5, 10, 3, (4, None, None, 1024))
    data = bytes.fromhex(
        "afcd0006" "00000001" "00000002"
        "00050004" "00000a03"
        "d080"  # two bits each: small, not received, not received, large
        "04" "0400"
        "000003"
    )  # fmt: skip
    assert bytes(feedback) == data
    assert parse_compound(data) == (feedback,)


def test_transport_feedback_of_one_bit_symbols_and_runs() -> None:
    data = bytes.fromhex(
        "8fcd0006" "00000001" "00000002" "ffff001e" "fffffe00"
        "a001"  # one bit each: received first and last of fourteen
        "0010"  # sixteen not received
        "0102" "0000"  # zeros to the word, without the padding bit, as older browsers send
    )  # fmt: skip
    (feedback,) = parse_compound(data)
    assert feedback.deltas == (1, *[None] * 12, 2, *[None] * 16)
    assert (feedback.base_sequence, feedback.reference_time) == (0xFFFF, -2)


def test_a_broken_body_does_not_cost_its_neighbours() -> None:
    broken = bytes.fromhex("81c9000100000001")  # a receiver report that lacks its block
    pli = PictureLossIndication(1, 2)
    opaque, second = parse_compound(broken + bytes(pli))
    assert isinstance(opaque, OpaquePacket)
    assert opaque.error is not None
    assert "receiver report" in opaque.error
    assert second == pli


@pytest.mark.parametrize("data", ["", "80c8", "80c8000900000000", "41c9000100000001", "a0c9000100000009"])
def test_wrong_lengths_are_malformed(data: str) -> None:
    with pytest.raises(MalformedRtcp):
        parse_compound(bytes.fromhex(data))


def test_rtcp_is_told_from_rtp_with_a_marker() -> None:
    assert not is_rtcp(bytes.fromhex("80e0000100000002"))  # payload type 96 with marker
    assert not is_rtcp(bytes.fromhex("8088000100000002"))  # payload type 8 with marker
    assert is_rtcp(bytes.fromhex("81c9000700000001"))
    assert is_rtcp(bytes.fromhex("8fce000500000001"))
    assert not is_rtcp(b"\x80")


@given(st.floats(0, 4_000_000_000))
def test_ntp_converts_back(seconds: float) -> None:
    assert abs(ntp.to_unix(ntp.from_unix(seconds)) - seconds) < 1e-5


def test_ntp_durations() -> None:
    assert ntp.compact_duration(1.5) == 0x18000
    assert ntp.compact_duration(-1) == 0
    assert ntp.compact_duration(1e9) == 0xFFFF_FFFF
