"""DTLS on a terminal's plain ports: both roles, ports apart and as one, and its failures."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from media import dtls_keying
from media.dtls import DtlsCertificate, DtlsRole, Fingerprint
from media.dtls_keying import DtlsKeying
from media.rtp_socket import RtpSocket
from media.transport import TransportEvent, TransportFailed, TransportReady
from tests.media.test_rtp_socket import HOST, RECEIVER_REPORT, Receiver, open_socket, rtp
from tests.peers.waiting import until_true

CERTIFICATES = {role: DtlsCertificate.generate() for role in DtlsRole}


class End:
    """One side: a socket, its keying, and what that said."""

    def __init__(self, role: DtlsRole, *, mux: bool) -> None:
        self.role = role
        self.receiver = Receiver()
        self.socket = open_socket(self.receiver, rtcp_mux=mux)
        self.events: asyncio.Queue[TransportEvent] = asyncio.Queue()
        self.keying: DtlsKeying | None = None

    def start(self, other: RtpSocket, fingerprint: Fingerprint) -> None:
        self.socket.set_remote((HOST, other.ports.rtp))
        certificate = CERTIFICATES[self.role]
        self.keying = DtlsKeying(self.socket, certificate, self.role, fingerprint, self.events.put_nowait)

    async def event(self) -> TransportEvent:
        async with asyncio.timeout(5):
            return await self.events.get()

    async def aclose(self) -> None:
        self.socket.close()
        if self.keying is not None:
            await self.keying.aclose()


@pytest.fixture(params=[True, False], ids=["one port", "two ports"])
async def ends(request: pytest.FixtureRequest) -> AsyncIterator[tuple[End, End]]:
    pair = End(DtlsRole.ACTIVE, mux=request.param), End(DtlsRole.PASSIVE, mux=request.param)
    yield pair
    for end in pair:
        await end.aclose()


async def test_media_and_control_flow_once_the_keys_are_there(ends: tuple[End, End]) -> None:
    active, passive = ends
    passive.start(active.socket, CERTIFICATES[DtlsRole.ACTIVE].fingerprint)
    active.start(passive.socket, CERTIFICATES[DtlsRole.PASSIVE].fingerprint)
    active.socket.send_rtp([rtp(1)])
    active.socket.send_rtcp(RECEIVER_REPORT)
    assert active.socket.counters.send_refused == 2, "nothing goes out in the clear"
    for end in ends:
        assert await end.event() == TransportReady("AEAD_AES_128_GCM")
        assert end.socket.overhead == 28 + 16
    for sender, receiver in (ends, ends[::-1]):
        sender.socket.send_rtp([rtp(1), rtp(2)])
        await receiver.receiver.until(rtp=2)
        assert [data for data, _ in receiver.receiver.rtp] == [rtp(1), rtp(2)]
    if active.socket.ports.rtp != active.socket.ports.rtcp:
        await until_true(
            lambda: all(end.socket._control_srtp is not None for end in ends), "keys of RTCP", 5.0
        )
        assert active.socket._control_srtp is not active.socket._srtp
    for sender, receiver in (ends, ends[::-1]):
        sender.socket.send_rtcp(RECEIVER_REPORT)
        await receiver.receiver.until(rtcp=1)


async def test_clear_packets_are_refused_before_the_keys_and_after(ends: tuple[End, End]) -> None:
    active, passive = ends
    passive.start(active.socket, CERTIFICATES[DtlsRole.ACTIVE].fingerprint)
    active.socket.set_remote((HOST, passive.socket.ports.rtp))
    active.socket.send_rtp([rtp(1), rtp(2)])
    await until_true(lambda: passive.socket.counters.rejected == 2, "both to be refused", 5.0)
    active.start(passive.socket, CERTIFICATES[DtlsRole.PASSIVE].fingerprint)
    await passive.event()
    active.socket.secure(None)
    active.socket.send_rtp([rtp(3), rtp(4)])
    await until_true(lambda: passive.socket.counters.rejected == 4, "both to be refused", 5.0)
    assert passive.receiver.rtp == []


async def test_another_certificate_than_was_described_is_said(ends: tuple[End, End]) -> None:
    active, passive = ends
    passive.start(active.socket, CERTIFICATES[DtlsRole.PASSIVE].fingerprint)
    active.start(passive.socket, CERTIFICATES[DtlsRole.PASSIVE].fingerprint)
    assert await passive.event() == TransportFailed(
        "the peer's certificate does not match the fingerprint it described"
    )
    assert passive.socket._srtp is None


async def test_silence_fails_with_its_reason(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtls_keying, "HANDSHAKE_TIMEOUT", 0.1)
    active, passive = ends
    passive.start(active.socket, CERTIFICATES[DtlsRole.ACTIVE].fingerprint)
    failed = await passive.event()
    assert failed == TransportFailed("the peer made no DTLS handshake within 0 s")
