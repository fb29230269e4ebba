"""SRTP against the vectors of RFC 3711 and RFC 7714, and against libsrtp both ways."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import replace

import pylibsrtp
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from media import srtp
from media.srtp import (
    AEAD_AES_128_GCM,
    AEAD_AES_256_GCM,
    AES_CM_128_HMAC_SHA1_32,
    AES_CM_128_HMAC_SHA1_80,
    PROFILES,
    MasterKey,
    SrtpError,
    SrtpProfile,
    SrtpReceiver,
    SrtpSender,
    SrtpSession,
)
from media.srtp_keys import GCM
from media.srtp_transforms import CounterModeTransform, GcmTransform, Transform, transform_for

LIBSRTP = {
    AEAD_AES_128_GCM: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    AEAD_AES_256_GCM: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    AES_CM_128_HMAC_SHA1_80: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    AES_CM_128_HMAC_SHA1_32: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}
every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


def rtp(sequence: int, payload: bytes = b"media", ssrc: int = 0x1234) -> bytes:
    return (
        bytes((0x80, 96))
        + (sequence & 0xFFFF).to_bytes(2, "big")
        + bytes(4)
        + ssrc.to_bytes(4, "big")
        + payload
    )


def rtcp(ssrc: int = 0x1234) -> bytes:
    return bytes((0x80, 201, 0, 1)) + ssrc.to_bytes(4, "big")


def pair(profile: SrtpProfile) -> tuple[SrtpSession, SrtpSession]:
    a, b = MasterKey.generate(profile), MasterKey.generate(profile)
    return SrtpSession(profile, a, b), SrtpSession(profile, b, a)


def peer(profile: SrtpProfile, master: MasterKey, direction: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(
        pylibsrtp.Policy(master.key + master.salt, direction, srtp_profile=LIBSRTP[profile])
    )


def test_key_derivation_of_rfc_3711_b3() -> None:
    master = MasterKey(
        bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139"), bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6")
    )
    assert srtp.derive(master, 0, 16).hex().upper() == "C61E7A93744F39EE10734AFE3FF7A087"
    assert srtp.derive(master, 2, 14).hex().upper() == "30CBBC08863D8C85D49DB34A9AE1"
    assert srtp.derive(master, 1, 20).hex().upper() == "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"


def test_aes_cm_vector_of_libsrtp() -> None:
    """The reference packet of RFC 3711's authors, made with the master key of B.3."""
    master = MasterKey(
        bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139"), bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6")
    )
    session = SrtpSession(AES_CM_128_HMAC_SHA1_80, master, master)
    plain = bytes.fromhex("800f1234decafbadcafebabe" + "ab" * 16)
    sealed = "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb"
    assert [p.hex() for p in session.protect([plain])] == [sealed]
    assert session.unprotect(bytes.fromhex(sealed)) == plain


def gcm(length: int = 16) -> GcmTransform:
    cipher = AESGCM(bytes(range(length)))
    salt = int.from_bytes(b"Quid pro quo", "big")
    return GcmTransform(cipher, salt, cipher, salt)


def test_rtp_vector_of_rfc_7714_16_1() -> None:
    plain = bytes.fromhex("8040f17b8041f8d35501a0b2") + b"Gallia est omnis divisa in partes tres"
    sealed = (
        "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b"
        "36de3adf8833899d7f27beb16a9152cf765ee4390cce"
    )
    assert [p.hex() for p in SrtpSender(gcm()).protect([plain])] == [sealed]
    assert SrtpReceiver(gcm()).unprotect(bytes.fromhex(sealed)) == plain


def test_rtp_vector_of_rfc_7714_16_2() -> None:
    """The same under 256 bits."""
    plain = bytes.fromhex("8040f17b8041f8d35501a0b2") + b"Gallia est omnis divisa in partes tres"
    sealed = (
        "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f"
        "1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13"
    )
    assert [p.hex() for p in SrtpSender(gcm(32)).protect([plain])] == [sealed]
    assert SrtpReceiver(gcm(32)).unprotect(bytes.fromhex(sealed)) == plain


def test_rtcp_vector_of_rfc_7714_17_1() -> None:
    plain = bytes.fromhex(
        "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
    )
    sealed = (
        "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b46"
        "86303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4"
    )
    sender = SrtpSender(gcm())
    sender._rtcp_index = 0x5D4
    assert sender.protect_rtcp(plain).hex() == sealed
    assert SrtpReceiver(gcm()).unprotect_rtcp(bytes.fromhex(sealed)) == plain


@every_profile
def test_libsrtp_reads_what_we_send(profile: SrtpProfile) -> None:
    local = MasterKey.generate(profile)
    session = SrtpSession(profile, local, MasterKey.generate(profile))
    reader = peer(profile, local, pylibsrtp.Policy.SSRC_ANY_INBOUND)
    extended = bytes.fromhex("90e0000b0000000000001234bede000151aabb00") + b"with extension"
    csrcs = bytes.fromhex("82e0000c0000000000001234aaaaaaaabbbbbbbb") + b"with CSRCs"
    packets = [rtp(9, bytes(1200)), rtp(10), extended, csrcs]
    protected = session.protect(packets)
    assert [len(p) for p in protected] == [len(p) + profile.rtp_growth for p in packets]
    assert [reader.unprotect(p) for p in protected] == packets
    sealed = session.protect_rtcp(rtcp())
    assert len(sealed) == len(rtcp()) + profile.rtcp_growth
    assert reader.unprotect_rtcp(sealed) == rtcp()
    assert reader.unprotect_rtcp(session.protect_rtcp(rtcp())) == rtcp()


@every_profile
def test_we_read_what_libsrtp_sends(profile: SrtpProfile) -> None:
    remote = MasterKey.generate(profile)
    session = SrtpSession(profile, MasterKey.generate(profile), remote)
    writer = peer(profile, remote, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
    for sequence in (65534, 65535, 0, 1):
        assert session.unprotect(writer.protect(rtp(sequence))) == rtp(sequence)
    assert session.unprotect_rtcp(writer.protect_rtcp(rtcp())) == rtcp()


@every_profile
def test_replays_forgeries_and_strangers_are_refused(profile: SrtpProfile) -> None:
    ours, theirs = pair(profile)
    first, second = ours.protect([rtp(1), rtp(2)])
    assert theirs.unprotect(second) == rtp(2)
    assert theirs.unprotect(first) == rtp(1)
    control = ours.protect_rtcp(rtcp())
    assert theirs.unprotect_rtcp(control) == rtcp()
    refused: list[tuple[Callable[[bytes], bytes], bytes]] = [
        (theirs.unprotect, first),
        (theirs.unprotect, second),
        (theirs.unprotect, second[:-1] + bytes((second[-1] ^ 1,))),
        (theirs.unprotect, rtp(3, bytes(30))),
        (theirs.unprotect, b"\x80\x60"),
        (theirs.unprotect, bytes.fromhex("9fe0000b0000000000001234") + bytes(20)),
        (theirs.unprotect_rtcp, control),
        (theirs.unprotect_rtcp, control[:-1]),
        (theirs.unprotect_rtcp, b"\x80\xc9"),
    ]
    for unprotect, data in refused:
        with pytest.raises(SrtpError):
            unprotect(data)


@every_profile
def test_a_forged_packet_does_not_move_the_window(profile: SrtpProfile) -> None:
    ours, theirs = pair(profile)
    good = ours.protect([rtp(1), rtp(2)])
    assert theirs.unprotect(good[0]) == rtp(1)
    with pytest.raises(SrtpError):
        theirs.unprotect(rtp(30000, bytes(30)))
    assert theirs.unprotect(good[1]) == rtp(2)


@every_profile
@settings(max_examples=10, deadline=None)
@given(
    steps=st.lists(st.integers(1, 400), min_size=500, max_size=500), swaps=st.randoms(use_true_random=False)
)
def test_order_is_lost_and_rollover_is_kept(
    profile: SrtpProfile, steps: list[int], swaps: random.Random
) -> None:
    """About 100 000 sequence numbers, gaps and local disorder: every packet is read exactly once."""
    ours, theirs = pair(profile)
    sequence = 30000
    packets = []
    for step in steps:
        sequence += step
        packets.append(rtp(sequence, sequence.to_bytes(4, "big")))
    sent = ours.protect(packets)
    order = list(range(len(sent)))
    for at in range(1, len(order) - 2, 3):
        if swaps.random() < 0.5:
            order[at], order[at + 1] = order[at + 1], order[at]
    for at in order:
        assert theirs.unprotect(sent[at]) == packets[at]
    with pytest.raises(SrtpError):
        theirs.unprotect(sent[order[-2]])


@every_profile
def test_a_retransmission_is_the_same_packet_again(profile: SrtpProfile) -> None:
    ours, _ = pair(profile)
    packets = [rtp(65535), rtp(0), rtp(1)]
    first = ours.protect(packets)
    assert ours.protect(packets[:1]) == first[:1]
    assert ours.protect(packets[1:]) == first[1:]


@every_profile
@given(data=st.binary(max_size=80))
def test_any_bytes_are_refused_in_order(profile: SrtpProfile, data: bytes) -> None:
    _, theirs = pair(profile)
    for unprotect in (theirs.unprotect, theirs.unprotect_rtcp):
        with pytest.raises(SrtpError):
            unprotect(data)


def test_a_peer_cannot_open_streams_without_end() -> None:
    ours, theirs = pair(AEAD_AES_128_GCM)
    for ssrc in range(64):
        assert theirs.unprotect(ours.protect([rtp(1, ssrc=ssrc)])[0])
    with pytest.raises(SrtpError, match="64 streams"):
        theirs.unprotect(ours.protect([rtp(1, ssrc=64)])[0])


def test_inline_keys() -> None:
    profile = AES_CM_128_HMAC_SHA1_80
    master = MasterKey.generate(profile)
    assert MasterKey.parse_inline(profile, master.inline() + "|2^20") == master
    with_mki = MasterKey.parse_inline(profile, master.inline() + "|2^20|1:4")
    assert with_mki == replace(master, mki=b"\0\0\0\1")
    assert with_mki.inline() == master.inline() + "|1:4"
    assert master.inline() not in repr(master)
    for text in ("?", "é", "", master.inline()[:-4]):
        with pytest.raises(SrtpError):
            MasterKey.parse_inline(profile, text)


@every_profile
def test_a_full_datagram_is_protected(profile: SrtpProfile) -> None:
    ours, theirs = pair(profile)
    packet = rtp(1, os.urandom(9000))
    assert theirs.unprotect(ours.protect([packet])[0]) == packet
    assert theirs.unprotect(ours.protect([rtp(2, b"")])[0]) == rtp(2, b"")


@every_profile
def test_a_late_receiver_finds_the_rollover_counter_of_a_long_running_peer(profile: SrtpProfile) -> None:
    """As after kill -9: the peer is past its second roll-over, and we know nothing of it but its key."""
    remote = MasterKey.generate(profile)
    writer = peer(profile, remote, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
    sent = [writer.protect(rtp(number)) for number in range(0, 2 * 65_536 + 60_000, 15_000)]
    taken_up = SrtpSession(profile, MasterKey.generate(profile), remote, late=True)
    assert taken_up.unprotect(sent[-1]) == rtp(180_000)
    for number in range(180_001, 180_001 + 65_536 * 2, 20_000):
        assert taken_up.unprotect(writer.protect(rtp(number))) == rtp(number)
    with pytest.raises(SrtpError):
        taken_up.unprotect(sent[-1])
    assert taken_up.unprotect(writer.protect(rtp(7, ssrc=9))) == rtp(7, ssrc=9), "a new stream begins at 0"
    in_time = SrtpSession(profile, MasterKey.generate(profile), remote)
    with pytest.raises(SrtpError):
        in_time.unprotect(sent[-1])


@every_profile
def test_three_days_at_a_thousand_packets_a_second_are_found(profile: SrtpProfile) -> None:
    theirs = MasterKey.generate(profile)
    sender = SrtpSender(transform_for(profile, theirs))
    sender._highest[rtp(0)[8:12]] = 4095 << 16
    receiver = SrtpReceiver(transform_for(profile, theirs), late=True)
    began = time.process_time()
    assert receiver.unprotect(sender.protect([rtp(1)])[0]) == rtp(1)
    assert time.process_time() - began < 0.25


def test_forged_packets_do_not_make_us_search_without_end() -> None:
    now = [10.0]
    theirs = MasterKey.generate(AES_CM_128_HMAC_SHA1_80)
    sender = SrtpSender(transform_for(AES_CM_128_HMAC_SHA1_80, theirs))
    sender._highest[rtp(0)[8:12]] = 2 << 16
    transform = Counting(transform_for(AES_CM_128_HMAC_SHA1_80, theirs))
    receiver = SrtpReceiver(transform, late=True, clock=lambda: now[0])
    good = sender.protect([rtp(1), rtp(2)])
    for number in range(100):
        with pytest.raises(SrtpError):
            receiver.unprotect(rtp(number, bytes(30)))
    assert transform.opened < srtp.MAX_ROLLOVERS + 100
    with pytest.raises(SrtpError):
        receiver.unprotect(good[0])
    now[0] += srtp.SEARCH_EVERY
    assert receiver.unprotect(good[1]) == rtp(2)
    assert receiver.unprotect(good[0]) == rtp(1)


class Counting(CounterModeTransform):
    """Counts how many packets were tried."""

    def __init__(self, wrapped: Transform) -> None:
        self.opened = 0
        self.mki = b""
        self._wrapped = wrapped

    def open(self, header: bytes, sealed: bytes, index: int) -> bytes:
        self.opened += 1
        return self._wrapped.open(header, sealed, index)


@every_profile
def test_a_stream_goes_on_after_more_was_lost_than_can_be_guessed(profile: SrtpProfile) -> None:
    ours, theirs = pair(profile)
    assert theirs.unprotect(ours.protect([rtp(65_000)])[0]) == rtp(65_000)
    lost = [rtp(number) for number in range(65_000, 65_000 + 5 * 65_536, 30_000)]
    last = ours.protect(lost)[-1]
    assert theirs.unprotect(last) == lost[-1]
    assert theirs.unprotect(ours.protect([rtp(65_000 + 5 * 65_536)])[0]) == rtp(65_000 + 5 * 65_536)


@every_profile
def test_a_changed_key_may_leave_the_peers_rollover_counter_or_begin_it_anew(profile: SrtpProfile) -> None:
    ours, _ = pair(profile)
    for rollovers in (0, 3):
        key = MasterKey.generate(profile)
        sender = SrtpSender(transform_for(profile, key))
        sender._highest[rtp(0)[8:12]] = rollovers << 16
        assert ours.with_remote(key).unprotect(sender.protect([rtp(5)])[0]) == rtp(5)


@every_profile
def test_packets_bear_the_agreed_master_key_identifier(profile: SrtpProfile) -> None:
    """RFC 3711 3.1; it is not authenticated, so that taking it out leaves a plain packet."""
    mki = b"\0\0\0\7"
    a, b = MasterKey.generate(profile, mki), MasterKey.generate(profile, mki)
    ours, theirs = SrtpSession(profile, a, b), SrtpSession(profile, b, a)
    packet, control = ours.protect([rtp(1)])[0], ours.protect_rtcp(rtcp())
    assert len(packet) == len(rtp(1)) + ours.rtp_growth
    assert ours.rtp_growth == profile.rtp_growth + 4
    bare = SrtpSession(profile, replace(b, mki=b""), replace(a, mki=b""))
    end = len(packet) - (0 if profile in GCM else profile.rtp_growth)
    assert packet[end - 4 : end] == mki
    assert bare.unprotect(packet[: end - 4] + packet[end:]) == rtp(1)
    assert theirs.unprotect(packet) == rtp(1)
    assert theirs.unprotect_rtcp(control) == rtcp()
    strange = SrtpSession(profile, b, replace(a, mki=b"\0\0\0\x08"))
    for unprotect, data in ((strange.unprotect, packet), (strange.unprotect_rtcp, control)):
        with pytest.raises(SrtpError, match="identifier"):
            unprotect(data)
    assert MasterKey.parse_inline(profile, a.inline()) == a


@pytest.mark.parametrize("tail", ["1:0", "1:129", "256:1", "x:4", "1:y", "-1:4"])
def test_identifiers_that_cannot_be_are_refused(tail: str) -> None:
    key = MasterKey.generate(AES_CM_128_HMAC_SHA1_80).inline()
    with pytest.raises(SrtpError, match="identifier"):
        MasterKey.parse_inline(AES_CM_128_HMAC_SHA1_80, f"{key}|2^20|{tail}")
