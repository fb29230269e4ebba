"""A participant's ports and keys: opened once, taken again, kept over refreshes, changed with the peer's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from foundation.desks import (
    CryptoKey,
    DtlsDescription,
    MediaDescription,
    MediaSection,
    Refusal,
    RefusalKind,
    SectionKind,
)
from mcu_bridge.access import MediaAccess
from mcu_bridge.negotiation import chosen_sections, has_usable_key
from mcu_bridge.plain_transports import PlainTransports, addresses, keyed_by_dtls
from media.srtp import PROFILES, MasterKey, SrtpError, SrtpSession
from tests.mcu_bridge.rtp_peer import PCMA, SUITE

SECTION = MediaSection(SectionKind.AUDIO, "127.0.0.1", 5004, codecs=(PCMA,))
PROFILE = PROFILES[SUITE]


def key(tag: int = 1) -> CryptoKey:
    return CryptoKey(tag, SUITE, MasterKey.generate(PROFILE).inline())


def secure(*keys: CryptoKey) -> MediaSection:
    return replace(SECTION, protocol="RTP/SAVP", crypto=keys)


@pytest.fixture
async def plain(access: MediaAccess) -> AsyncIterator[PlainTransports]:
    transports = PlainTransports(access, "lan")
    yield transports
    for kind in transports.kinds:
        transports.close(kind)


def rtp(number: int) -> bytes:
    return b"\x80\x08" + number.to_bytes(2, "big") + bytes(4) + b"abcd" + b"sound" * 4


async def test_one_socket_a_medium_and_its_ports_are_free_when_it_closes(
    plain: PlainTransports, access: MediaAccess
) -> None:
    socket, crypto = plain.answer(SECTION, None, resuming=False)
    again, _ = plain.answer(replace(SECTION, port=6000), None, resuming=False)
    assert again is socket
    assert crypto == ()
    assert socket.remote == ("127.0.0.1", 6000)
    ours = replace(SECTION, port=socket.ports.rtp)
    other = PlainTransports(access, "lan")
    with pytest.raises(Refusal) as refused:
        other.answer(SECTION, ours, resuming=True)
    assert refused.value.kind is RefusalKind.NOT_RESUMABLE
    assert plain.close(SectionKind.AUDIO) is socket
    assert plain.close(SectionKind.AUDIO) is None
    taken, _ = other.answer(SECTION, ours, resuming=True)
    assert taken.ports == socket.ports
    other.close(SectionKind.AUDIO)


async def test_a_full_range_and_an_unknown_network_are_said(access: MediaAccess) -> None:
    with pytest.raises(Refusal, match="no network 'moon'"):
        PlainTransports(access, "moon").open(SectionKind.AUDIO)
    held = [PlainTransports(access, "lan") for _ in range(20)]
    for one in held:
        one.open(SectionKind.AUDIO)
    with pytest.raises(Refusal) as refused:
        PlainTransports(access, "lan").open(SectionKind.VIDEO)
    assert refused.value.kind is RefusalKind.NO_PORT
    assert refused.value.retry_after == 10
    for one in held:
        one.close(SectionKind.AUDIO)


async def test_the_same_key_keeps_the_session_under_any_tag(plain: PlainTransports) -> None:
    theirs = key()
    socket, (ours,) = plain.answer(secure(theirs), None, resuming=False)
    session = socket._srtp
    _, (again,) = plain.answer(secure(replace(theirs, tag=7)), None, resuming=False)
    assert socket._srtp is session
    assert again == replace(ours, tag=7)


async def test_a_new_key_of_the_peers_leaves_our_own_sending_where_it_was(plain: PlainTransports) -> None:
    theirs, new = key(), key()
    socket, (ours,) = plain.answer(secure(theirs), None, resuming=False)
    session = socket._srtp
    assert session is not None
    local = MasterKey.parse_inline(PROFILE, ours.key)
    peer = SrtpSession(PROFILE, MasterKey.parse_inline(PROFILE, theirs.key), local)
    for number in (65_534, 65_535, 0, 1):  # into the second roll of the sequence
        assert peer.unprotect(session.protect([rtp(number)])[0]) == rtp(number)
    _, (kept,) = plain.answer(secure(new), None, resuming=False)
    assert kept == ours
    changed = socket._srtp
    assert changed is not None
    assert peer.unprotect(changed.protect([rtp(2)])[0]) == rtp(2)
    renewed = SrtpSession(PROFILE, MasterKey.parse_inline(PROFILE, new.key), local)
    assert changed.unprotect(renewed.protect([rtp(5)])[0]) == rtp(5)
    with pytest.raises(SrtpError):
        changed.unprotect(peer.protect([rtp(6)])[0])


async def test_without_a_key_srtp_ends(plain: PlainTransports) -> None:
    socket, _ = plain.answer(secure(key()), None, resuming=False)
    assert socket.overhead > 28
    _, crypto = plain.answer(SECTION, None, resuming=False)
    assert crypto == ()
    assert socket.overhead == 28


async def test_our_key_is_taken_up_from_the_answer_of_a_lost_worker_only(plain: PlainTransports) -> None:
    given = replace(secure(key()), port=plain.open(SectionKind.AUDIO).ports.rtp)
    _, (ours,) = plain.answer(secure(key()), given, resuming=True)
    assert ours.key == given.crypto[0].key
    plain.close(SectionKind.AUDIO)
    _, (fresh,) = plain.answer(secure(key()), given, resuming=False)
    assert fresh.key != given.crypto[0].key


async def test_the_next_key_counts_where_one_does_not_fit_and_padding_may_be_missing(
    plain: PlainTransports,
) -> None:
    short, good = CryptoKey(1, SUITE, "c2hvcnQ="), key(2)
    _, (ours,) = plain.answer(secure(short, good), None, resuming=False)
    assert ours.tag == 2
    bare = MasterKey.generate(PROFILE)
    text = bare.inline()
    assert MasterKey.parse_inline(PROFILE, text.rstrip("=")) == bare


async def test_an_unreadable_key_is_the_peers_error(plain: PlainTransports) -> None:
    with pytest.raises(Refusal) as refused:
        plain.answer(secure(CryptoKey(1, SUITE, "c2hvcnQ=")), None, resuming=False)
    assert refused.value.kind is RefusalKind.BAD_DESCRIPTION


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (SECTION, (("127.0.0.1", 5004), ("127.0.0.1", 5005))),
        (replace(SECTION, rtcp_mux=True), (("127.0.0.1", 5004), ("127.0.0.1", 5004))),
        (replace(SECTION, rtcp_port=9000), (("127.0.0.1", 5004), ("127.0.0.1", 9000))),
        (replace(SECTION, port=65_535), (("127.0.0.1", 65_535), ("127.0.0.1", 65_535))),
        (replace(SECTION, address="0.0.0.0"), (None, None)),
        (replace(SECTION, address="::"), (None, None)),
        (replace(SECTION, address="room.example"), (None, None)),
        (replace(SECTION, address="2001:DB8:0::9"), (("2001:db8::9", 5004), ("2001:db8::9", 5005))),
        (replace(SECTION, address="2001:db8::9"), (("2001:db8::9", 5004), ("2001:db8::9", 5005))),
    ],
)
def test_addresses(section: MediaSection, expected: tuple[object, object]) -> None:
    assert addresses(section) == expected


def by_dtls(setup: str = "actpass", fingerprint: str = "AA:BB") -> MediaSection:
    return replace(SECTION, protocol="UDP/TLS/RTP/SAVP", dtls=DtlsDescription("sha-256", fingerprint, setup))


@pytest.mark.parametrize(
    ("setup", "ours"), [("actpass", "passive"), ("active", "passive"), ("passive", "active")]
)
async def test_dtls_is_answered_in_the_fitting_role_and_goes_on_over_refreshes(
    plain: PlainTransports, setup: str, ours: str
) -> None:
    socket, crypto = plain.answer(by_dtls(setup), None, resuming=False)
    assert crypto == ()
    described = plain.dtls(SectionKind.AUDIO)
    assert described is not None
    assert described.setup == ours
    running = socket._dtls
    assert running is not None
    theirs = "active" if ours == "passive" else "passive"
    for again in (setup, "actpass", theirs):
        plain.answer(by_dtls(again), None, resuming=False)
        assert socket._dtls is running
    plain.answer(by_dtls(setup, "CC:DD"), None, resuming=False)
    assert socket._dtls is not running
    plain.answer(SECTION, None, resuming=False)
    assert plain.dtls(SectionKind.AUDIO) is None
    assert socket._dtls is None
    plain.close(SectionKind.AUDIO)
    await plain.aclose()


async def test_sdes_serves_where_both_are_described_unless_the_protocol_says_dtls(
    plain: PlainTransports,
) -> None:
    both = replace(secure(key()), dtls=DtlsDescription("sha-256", "AA:BB", "actpass"))
    assert not keyed_by_dtls(both)
    assert keyed_by_dtls(replace(both, protocol="UDP/TLS/RTP/SAVPF"))
    assert keyed_by_dtls(replace(both, crypto=()))
    assert not keyed_by_dtls(replace(both, protocol="RTP/AVP", crypto=()))
    plain.answer(replace(both, crypto=()), None, resuming=False)
    _, crypto = plain.answer(both, None, resuming=False)
    assert crypto
    assert plain.dtls(SectionKind.AUDIO) is None
    plain.close(SectionKind.AUDIO)
    await plain.aclose()


def test_of_duplicates_the_secure_one_serves() -> None:
    description = MediaDescription((SECTION, secure(key()), replace(secure(key()), port=6000)))
    assert chosen_sections(description) == {SectionKind.AUDIO: 1}


def test_srtp_that_cannot_be_keyed_gives_way_to_the_next_section() -> None:
    strange = secure(CryptoKey(1, "AES_256_CM_HMAC_SHA1_80", "x"))
    assert not has_usable_key(strange)
    assert not has_usable_key(secure())
    assert has_usable_key(secure(key()))
    assert chosen_sections(MediaDescription((strange, SECTION))) == {SectionKind.AUDIO: 1}
    assert chosen_sections(MediaDescription((strange,))) == {}
