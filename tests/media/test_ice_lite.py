"""The shared ICE-lite port: checks, nomination, moving, restart, strangers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from media.ice_lite import MAX_ADDRESSES, IceLiteSocket, IceSession
from media.transport import Address
from protocols.stun import (
    ErrorCode,
    IceControlled,
    IceControlling,
    StunClass,
    StunMessage,
    UnknownAttribute,
    UnknownAttributes,
    XorMappedAddress,
)
from tests.media.ice_client import IceClient

HOST = "127.0.0.1"


class User:
    def __init__(self) -> None:
        self.dtls: asyncio.Queue[bytes] = asyncio.Queue()
        self.srtp: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self.paths: list[Address] = []

    def dtls_received(self, data: bytes) -> None:
        self.dtls.put_nowait(data)

    def srtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        self.srtp.put_nowait((data, source))

    def path_selected(self, address: Address) -> None:
        self.paths.append(address)


@pytest.fixture
async def ice() -> AsyncIterator[IceLiteSocket]:
    ice = IceLiteSocket.open(bind=HOST, port=0, advertised=("203.0.113.7", HOST))
    yield ice
    ice.close()


async def client_of(ice: IceLiteSocket, session: IceSession) -> IceClient:
    return await IceClient((HOST, ice.port), session.credentials).open()


async def get(queue: "asyncio.Queue[bytes]") -> bytes:
    async with asyncio.timeout(5):
        return await queue.get()


async def test_candidates_and_credentials(ice: IceLiteSocket) -> None:
    assert [str(c) for c in ice.candidates] == [
        f"1 1 udp 2130706431 203.0.113.7 {ice.port} typ host",
        f"2 1 udp 2130706175 127.0.0.1 {ice.port} typ host",
    ]
    credentials = {ice.open_session(User()).credentials for _ in range(50)}
    assert len({c.ufrag for c in credentials}) == 50
    assert all(len(c.pwd) >= 22 and len(c.ufrag) >= 4 for c in credentials)
    with pytest.raises(ValueError, match="advertised"):
        IceLiteSocket.open(bind=HOST, port=0, advertised=())
    with pytest.raises(OSError, match="in use"):
        IceLiteSocket.open(bind=HOST, port=ice.port, advertised=(HOST,))


async def test_a_check_opens_the_path_and_nomination_decides_it(ice: IceLiteSocket) -> None:
    user = User()
    session = ice.open_session(user)
    session.send([b"too early"])
    assert session.counters.send_refused == 1
    first, second = await client_of(ice, session), await client_of(ice, session)
    response = await first.check(nominate=False)
    assert response.message_class is StunClass.SUCCESS
    assert response.first(XorMappedAddress) == XorMappedAddress(*first.address)
    assert (session.selected, session.nominated) == (first.address, False)
    session.send([b"\x80 one", b"\x80 two"])
    assert [await get(first.datagrams) for _ in range(2)] == [b"\x80 one", b"\x80 two"]
    await second.check(nominate=False)
    assert session.selected == first.address
    await second.check()
    assert (session.selected, session.nominated) == (second.address, True)
    await first.check()
    await first.check()
    assert user.paths == [first.address, second.address, first.address]
    assert session.last_consent is not None
    first.close()
    second.close()


async def test_datagrams_are_told_apart_and_matched_by_address(ice: IceLiteSocket) -> None:
    users = [User(), User()]
    sessions = [ice.open_session(user) for user in users]
    clients = [await client_of(ice, session) for session in sessions]
    for client in clients:
        await client.check()
    for n, client in enumerate(clients):
        client.send(bytes((0x80, 96)) + b"media %d" % n)
        client.send(bytes((22,)) + b"handshake %d" % n)
        client.send(bytes((70,)) + b"TURN channel data")
    for n, (user, client) in enumerate(zip(users, clients, strict=True)):
        async with asyncio.timeout(5):
            assert await user.srtp.get() == (b"\x80\x60media %d" % n, client.address)
        assert await get(user.dtls) == b"\x16handshake %d" % n
        assert sessions[n].counters.rejected == 1
        assert sessions[n].counters.datagrams_received == 4
        client.close()
    for name in ("datagrams_received", "bytes_received", "datagrams_sent", "bytes_sent"):
        assert getattr(ice.counters, name) == sum(getattr(s.counters, name) for s in sessions)
    assert ice.counters.rejected == 0


async def test_a_moved_client_keeps_its_session(ice: IceLiteSocket) -> None:
    user = User()
    session = ice.open_session(user)
    client = await client_of(ice, session)
    await client.check()
    before = client.address
    await client.move()
    client.send(b"\x80 from an unproven address")
    await client.check()
    assert user.paths == [before, client.address]
    assert ice.counters.rejected == 1
    client.send(b"\x80 from a proven address")
    async with asyncio.timeout(5):
        assert await user.srtp.get() == (b"\x80 from a proven address", client.address)
    client.close()


async def test_an_address_belongs_to_who_proved_it_last(ice: IceLiteSocket) -> None:
    old_user, new_user = User(), User()
    old, new = ice.open_session(old_user), ice.open_session(new_user)
    client = await client_of(ice, old)
    await client.check()
    client.credentials = new.credentials
    await client.check()
    assert old.selected is None
    client.send(b"\x80")
    async with asyncio.timeout(5):
        assert await new_user.srtp.get() == (b"\x80", client.address)
    assert old_user.srtp.empty()
    client.close()


async def test_restart_keeps_media_until_the_new_path_is_nominated(ice: IceLiteSocket) -> None:
    user = User()
    session = ice.open_session(user)
    former = session.credentials
    client = await client_of(ice, session)
    await client.check()
    session.restart()
    fresh = session.restart()
    assert fresh != former
    await client.check()
    assert session.selected == client.address
    renewed = await IceClient((HOST, ice.port), fresh).open()
    await renewed.check(nominate=False)
    assert session.selected == client.address
    await renewed.check()
    assert session.selected == renewed.address
    rejected = ice.counters.rejected
    client.send(client.request().to_bytes(former.pwd.encode()))
    await renewed.check()
    assert ice.counters.rejected == rejected + 1
    assert client.responses.empty()
    client.close()
    renewed.close()


async def test_what_proves_nothing_is_dropped_and_counted(ice: IceLiteSocket) -> None:
    user = User()
    session = ice.open_session(user)
    client = await client_of(ice, session)
    password = session.credentials.pwd.encode()
    good = client.request(IceControlling(1))
    for data in (
        good.to_bytes(),
        good.to_bytes(b"wrong"),
        client.request(username="nobody:peer").to_bytes(password),
        client.request(username="").to_bytes(password),
        good.to_bytes(password)[:-1],
        StunMessage(1, StunClass.SUCCESS, attributes=good.attributes).to_bytes(password),
        StunMessage(1, StunClass.INDICATION).to_bytes(),
        b"\x80 media",
        b"\x16 handshake",
    ):
        client.send(data)
    await client.check()
    assert ice.counters.rejected == 9
    assert client.responses.empty()
    assert client.datagrams.empty()
    assert user.srtp.empty()
    client.close()


async def test_role_conflict_and_unknown_attributes_are_answered(ice: IceLiteSocket) -> None:
    session = ice.open_session(User())
    client = await client_of(ice, session)
    conflict = (await client.check(IceControlled(2**63))).first(ErrorCode)
    assert conflict is not None
    assert conflict.code == 487
    response = await client.check(IceControlling(1), UnknownAttribute(0x7123, b""))
    refused = response.first(ErrorCode)
    assert refused is not None
    assert refused.code == 420
    assert response.first(UnknownAttributes) == UnknownAttributes((0x7123,))
    assert session.selected is None
    client.close()


async def test_addresses_are_bounded_and_released(ice: IceLiteSocket) -> None:
    session = ice.open_session(User())
    client = await client_of(ice, session)
    await client.check()
    for _ in range(MAX_ADDRESSES + 3):
        await client.move()
        await client.check(nominate=False)
    assert len(ice._by_address) == MAX_ADDRESSES
    assert session.selected in ice._by_address
    session.close()
    assert (ice._by_address, ice._by_ufrag) == ({}, {})
    client.close()
