"""The browser's side in small: a controlling ICE agent of one socket, aiortc's DTLS and SRTP above it."""

import asyncio
import socket
from typing import Any, cast

from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    State,
)

from media.dtls import Fingerprint
from media.ice_lite import IceCredentials
from media.transport import Address
from protocols.stun import (
    BINDING,
    IceControlling,
    Priority,
    StunAttribute,
    StunClass,
    StunMessage,
    UseCandidate,
    Username,
    looks_like_stun,
)


class IceClient(asyncio.DatagramProtocol):
    """Sends checks, keeps responses and everything else apart. Also the ICE transport of `DtlsClient`."""

    role = "controlling"

    def __init__(self, server: Address, credentials: IceCredentials) -> None:
        self.server = server
        self.credentials = credentials
        self.responses: asyncio.Queue[StunMessage] = asyncio.Queue()
        self.datagrams: asyncio.Queue[bytes] = asyncio.Queue()

    async def open(self) -> "IceClient":
        await self.move()
        return self

    async def move(self) -> None:
        """A new local address, as after NAT rebinding; the old socket closes."""
        former = getattr(self, "_transport", None)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0), family=socket.AF_INET
        )
        if former is not None:
            former.close()

    @property
    def address(self) -> Address:
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if looks_like_stun(data):
            self.responses.put_nowait(StunMessage.parse(data))
        else:
            self.datagrams.put_nowait(data)

    def send(self, data: bytes) -> None:
        self._transport.sendto(data, self.server)

    def request(self, *more: StunAttribute, username: str | None = None) -> StunMessage:
        name = username if username is not None else f"{self.credentials.ufrag}:peer"
        attributes: tuple[StunAttribute, ...] = (Username(name), Priority(1), *more)
        return StunMessage(BINDING, StunClass.REQUEST, attributes=attributes)

    async def check(self, *more: StunAttribute, nominate: bool = True) -> StunMessage:
        """One connectivity check and its answer."""
        attributes: list[StunAttribute] = list(more or (IceControlling(1),))
        if nominate:
            attributes.append(UseCandidate())
        request = self.request(*attributes)
        self.send(request.to_bytes(self.credentials.pwd.encode()))
        async with asyncio.timeout(5):
            response = await self.responses.get()
        assert response.transaction_id == request.transaction_id
        assert response.authenticated_by(self.credentials.pwd.encode())
        return response

    def close(self) -> None:
        self._transport.close()

    async def _recv(self) -> bytes:
        data = await self.datagrams.get()
        if not data:
            raise ConnectionError
        return data

    async def _send(self, data: bytes) -> None:
        self.send(data)


class DtlsClient(RTCDtlsTransport):
    """aiortc's own transport, its decrypted packets put into queues."""

    def __init__(self, ice: IceClient, *, active: bool = True) -> None:
        self.closed = asyncio.Event()
        self.own_certificate = RTCCertificate.generateCertificate()
        super().__init__(cast(Any, ice), [self.own_certificate])
        self._set_role("client" if active else "server")
        self.rtp: asyncio.Queue[bytes] = asyncio.Queue()
        self.rtcp: asyncio.Queue[bytes] = asyncio.Queue()

    def _set_state(self, state: State) -> None:
        super()._set_state(state)
        if state is State.CLOSED:
            self.closed.set()

    @property
    def fingerprint(self) -> Fingerprint:
        first = self.own_certificate.getFingerprints()[0]
        return Fingerprint(first.algorithm, first.value)

    async def connect(self, fingerprint: Fingerprint) -> None:
        await self.start(RTCDtlsParameters([RTCDtlsFingerprint(fingerprint.algorithm, fingerprint.value)]))

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        self.rtp.put_nowait(data)

    async def _handle_rtcp_data(self, data: bytes) -> None:
        self.rtcp.put_nowait(data)
