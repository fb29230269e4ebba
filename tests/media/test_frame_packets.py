"""FramePackets is the list of its packets, wherever packets go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.datagrams import runs
from media.frame_packets import FramePackets, joined, sizes_of
from media.pacer import Burst, PacedFrame, Pacer
from media.srtp import PROFILES, MasterKey, SrtpError, SrtpProfile, SrtpSession

payload_lists = st.lists(st.binary(max_size=40), max_size=30)


def frame(payloads: list[bytes], extension: bool = False) -> FramePackets:
    tail = bytes.fromhex("bede000110aa0000") if extension else b""
    first = 0x90 if extension else 0x80
    headers = [bytes((first, 96, 0, n)) + bytes(4) + b"ssrc" + tail for n in range(len(payloads))]
    return FramePackets(headers, payloads)


@given(payload_lists, st.integers(0, 30), st.integers(0, 30))
def test_it_is_the_list_of_its_packets(payloads: list[bytes], first: int, last: int) -> None:
    packets = frame(payloads)
    plain = list(packets)
    assert [packets[n] for n in range(len(packets))] == plain
    assert list(packets[first:last]) == plain[first:last]
    assert packets[first:last].sizes == packets.sizes[first:last]
    assert sizes_of(packets) == sizes_of(plain) == [len(p) for p in plain]
    assert joined(packets) == joined(plain)
    if plain:
        assert [list(run) for run in runs(packets)] == [list(run) for run in runs(plain)]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@given(payloads=payload_lists, extension=st.booleans())
def test_it_is_protected_as_the_list_is(profile: SrtpProfile, payloads: list[bytes], extension: bool) -> None:
    local, remote = MasterKey.generate(profile), MasterKey.generate(profile)
    packets = frame(payloads, extension)
    split, whole = SrtpSession(profile, local, remote), SrtpSession(profile, local, remote)
    assert list(split.protect(packets)) == list(whole.protect(list(packets)))


def test_it_is_paced_as_the_list_is() -> None:
    packets = frame([bytes(1000)] * 50)
    bursts: list[list[bytes]] = []
    for form in (packets, list(packets)):
        pacer: Pacer[str] = Pacer(3_000_000)
        frame_of: PacedFrame[str] = PacedFrame("flow", form, 28, keyframe=True)
        assert not pacer.passes(frame_of, 1.0)
        pacer.push(frame_of)
        bursts.append([packet for burst in _all(pacer) for packet in burst.packets])
    assert bursts == [list(packets)] * 2


def _all(pacer: Pacer[str]) -> list[Burst[str]]:
    bursts = []
    while (due := pacer.due) is not None:
        bursts += pacer.poll(due + 1.0)
    return bursts


def test_headers_and_payloads_must_match() -> None:
    with pytest.raises(ValueError, match="1 headers"):
        FramePackets([bytes(12)], [])
    keys = MasterKey.generate(PROFILES["AEAD_AES_128_GCM"])
    with pytest.raises(SrtpError, match="12 bytes"):
        SrtpSession(PROFILES["AEAD_AES_128_GCM"], keys, keys).protect(FramePackets([bytes(11)], [b"x"]))
