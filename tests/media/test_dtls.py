"""DtlsSrtpTransport against aiortc's own DTLS and SRTP on loopback, both roles, and its failures."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiortc.rtcdtlstransport import SRTP_AEAD_AES_128_GCM, SRTP_AES128_CM_SHA1_80

from media import dtls
from media.dtls import DtlsCertificate, DtlsRole, DtlsSrtpTransport, Fingerprint
from media.ice_lite import IceLiteSocket
from media.transport import (
    Address,
    MediaTransport,
    PeerMoved,
    TransportClosed,
    TransportEvent,
    TransportFailed,
    TransportReady,
)
from tests.media.ice_client import DtlsClient, IceClient

HOST = "127.0.0.1"
CERTIFICATE = DtlsCertificate.generate()
RECEIVER_REPORT = bytes.fromhex("80c9000100000007")


def rtp(sequence: int, payload: bytes = b"media") -> bytes:
    return bytes((0x80, 96)) + sequence.to_bytes(2, "big") + bytes(4) + bytes((0, 0, 0, 7)) + payload


class Receiver:
    def __init__(self) -> None:
        self.rtp: asyncio.Queue[bytes] = asyncio.Queue()
        self.rtcp: asyncio.Queue[bytes] = asyncio.Queue()
        self.events: asyncio.Queue[TransportEvent] = asyncio.Queue()

    def rtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        self.rtp.put_nowait(data)

    def rtcp_received(self, data: bytes, source: Address, arrival: float) -> None:
        self.rtcp.put_nowait(data)

    def transport_event(self, event: TransportEvent) -> None:
        self.events.put_nowait(event)

    async def event(self) -> TransportEvent:
        async with asyncio.timeout(10):
            return await self.events.get()


@pytest.fixture
async def ice() -> AsyncIterator[IceLiteSocket]:
    ice = IceLiteSocket.open(bind=HOST, port=0, advertised=(HOST,))
    yield ice
    ice.close()


async def get(queue: "asyncio.Queue[bytes]") -> bytes:
    async with asyncio.timeout(5):
        return await queue.get()


@pytest.mark.parametrize("role", DtlsRole)
@pytest.mark.parametrize("profile", ["AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"])
async def test_media_flows_both_ways(ice: IceLiteSocket, role: DtlsRole, profile: str) -> None:
    receiver = Receiver()
    ours = DtlsSrtpTransport(receiver, ice, CERTIFICATE)
    transport: MediaTransport = ours
    client = await IceClient((HOST, ice.port), ours.credentials).open()
    theirs = DtlsClient(client, active=role is DtlsRole.PASSIVE)
    only = SRTP_AEAD_AES_128_GCM if profile == "AEAD_AES_128_GCM" else SRTP_AES128_CM_SHA1_80
    theirs._srtp_profiles = [only]
    async with asyncio.TaskGroup() as group:
        running = group.create_task(ours.run([theirs.fingerprint], role=role))
        transport.send_rtp([rtp(1)])
        assert transport.counters.send_refused == 1
        await client.check()
        await theirs.connect(CERTIFICATE.fingerprint)
        assert theirs.state == "connected"
        assert await receiver.event() == PeerMoved(client.address)
        await theirs._send_rtp(rtp(5, b"from the browser"))
        assert await get(receiver.rtp) == rtp(5, b"from the browser")
        assert await receiver.event() == TransportReady(profile)
        await theirs._send_rtp(RECEIVER_REPORT)
        assert await get(receiver.rtcp) == RECEIVER_REPORT

        frame = [rtp(n, bytes(1000)) for n in range(100, 110)] + [rtp(110, b"end")]
        before = transport.counters.bytes_sent
        transport.send_rtp(frame)
        transport.send_rtcp(RECEIVER_REPORT)
        assert [await get(theirs.rtp) for _ in frame] == frame
        assert await get(theirs.rtcp) == RECEIVER_REPORT
        growth = 20 if profile == "AEAD_AES_128_GCM" else 14
        assert (
            transport.counters.bytes_sent - before
            == sum(len(p) + transport.overhead for p in frame) + len(RECEIVER_REPORT) + growth + 28
        )

        client.send(b"\x80\x60" + bytes(40))
        await client.check()
        assert transport.counters.rejected == 1

        ours.close()
        await running
    async with asyncio.timeout(5):
        await theirs.closed.wait()
    assert receiver.events.empty()
    assert (ice._by_address, ice._by_ufrag) == ({}, {})
    client.close()


async def test_media_survives_a_new_address_and_an_ice_restart(ice: IceLiteSocket) -> None:
    receiver = Receiver()
    ours = DtlsSrtpTransport(receiver, ice, CERTIFICATE)
    client = await IceClient((HOST, ice.port), ours.credentials).open()
    theirs = DtlsClient(client)
    async with asyncio.TaskGroup() as group:
        group.create_task(ours.run([theirs.fingerprint]))
        await client.check()
        await theirs.connect(CERTIFICATE.fingerprint)
        assert isinstance(await receiver.event(), PeerMoved)
        assert isinstance(await receiver.event(), TransportReady)
        for sequence in (1, 2):
            await client.move()
            if sequence == 2:
                client.credentials = ours.restart_ice()
            await client.check()
            assert await receiver.event() == PeerMoved(client.address)
            ours.send_rtp([rtp(sequence)])
            assert await get(theirs.rtp) == rtp(sequence)
            await theirs._send_rtp(rtp(sequence))
            assert await get(receiver.rtp) == rtp(sequence)
        await theirs.stop()
        closed = await receiver.event()
        assert isinstance(closed, TransportClosed)
        assert "peer" in closed.reason
    client.close()


async def test_a_false_fingerprint_fails_with_its_reason(ice: IceLiteSocket) -> None:
    receiver = Receiver()
    ours = DtlsSrtpTransport(receiver, ice, CERTIFICATE)
    client = await IceClient((HOST, ice.port), ours.credentials).open()
    theirs = DtlsClient(client)
    async with asyncio.TaskGroup() as group:
        group.create_task(ours.run([Fingerprint("sha-256", "00:" * 31 + "00")]))
        await client.check()
        connecting = group.create_task(theirs.connect(CERTIFICATE.fingerprint))
        assert isinstance(await receiver.event(), PeerMoved)
        failed = await receiver.event()
        assert isinstance(failed, TransportFailed)
        assert "does not match the fingerprint" in failed.reason
        await connecting
    await theirs._send_rtp(rtp(1))
    assert receiver.rtp.empty()
    assert not ours.ready
    client.close()
    await theirs.stop()


async def test_silence_fails_with_its_reason(ice: IceLiteSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtls, "HANDSHAKE_TIMEOUT", 0.05)
    receiver = Receiver()
    ours = DtlsSrtpTransport(receiver, ice, CERTIFICATE)
    await ours.run([CERTIFICATE.fingerprint])
    assert await receiver.event() == TransportFailed("no connectivity check of the peer reached us")
    ours = DtlsSrtpTransport(receiver, ice, CERTIFICATE)
    client = await IceClient((HOST, ice.port), ours.credentials).open()
    await client.check()
    assert isinstance(await receiver.event(), PeerMoved)
    await ours.run([CERTIFICATE.fingerprint])
    failed = await receiver.event()
    assert isinstance(failed, TransportFailed)
    assert "did not end" in failed.reason
    client.close()


async def test_closing_before_and_during_the_handshake(ice: IceLiteSocket) -> None:
    receiver = Receiver()
    DtlsSrtpTransport(receiver, ice, CERTIFICATE).close()
    assert ice._by_ufrag == {}
    ours = DtlsSrtpTransport(receiver, ice, CERTIFICATE)
    running = asyncio.ensure_future(ours.run([CERTIFICATE.fingerprint]))
    await asyncio.sleep(0)
    ours.close()
    async with asyncio.timeout(5):
        await running
    assert receiver.events.empty()
    assert ice._by_ufrag == {}
    with pytest.raises(ValueError, match="fingerprint"):
        await DtlsSrtpTransport(receiver, ice, CERTIFICATE).run([])
