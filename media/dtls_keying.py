"""DTLS-SRTP without ICE (RFC 5763, RFC 5764): SIP terminals that describe a fingerprint and plain ports.

    keying = DtlsKeying(socket, certificate, role, fingerprint, events)    # inside a running event loop
    keying.close(); await keying.aclose()

From then on the RtpSocket sends and takes nothing but DTLS until its keys are there: RTP and RTCP ports have
an association each (RFC 5764 4.1), one port both. Events: TransportReady(profile), or TransportFailed(reason)
when the association of RTP cannot be made; without one of its own, RTCP uses the keys of RTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from media.dtls_handshake import (
    HANDSHAKE_TIMEOUT,
    DatagramPipe,
    DtlsCertificate,
    DtlsRole,
    Fingerprint,
    KeyExchange,
    parameters_of,
)
from media.rtp_socket import RtpSocket
from media.transport import TransportEvent, TransportFailed, TransportReady


class DtlsKeying:
    """See the module's head."""

    def __init__(
        self,
        socket: RtpSocket,
        certificate: DtlsCertificate,
        role: DtlsRole,
        remote: Fingerprint,
        events: Callable[[TransportEvent], None],
    ) -> None:
        self._socket = socket
        self._certificate = certificate
        self._role = role
        self._parameters = parameters_of((remote,))
        self._events = events
        self._closing = asyncio.Event()
        self._pipes: dict[bool, DatagramPipe] = {False: DatagramPipe(socket.send_dtls)}
        if socket.ports.rtp != socket.ports.rtcp:
            self._pipes[True] = DatagramPipe(socket.send_control_dtls)
        socket.await_keys(self._received)
        self._tasks = {
            asyncio.create_task(self._associate(control), name=f"dtls {socket.ports.rtp + control}")
            for control in self._pipes
        }

    def _received(self, data: bytes, control: bool) -> bool:
        return self._pipes[control].received(data)

    async def _associate(self, control: bool) -> None:
        """Make one association and keep answering its peer's retransmissions until we are closed."""
        exchange = KeyExchange(self._pipes[control], self._certificate, self._role)
        closing = asyncio.create_task(self._closing.wait())
        starting = asyncio.create_task(exchange.start(self._parameters))
        try:
            await asyncio.wait(
                (starting, closing), timeout=HANDSHAKE_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
            )
            if closing.done():
                return
            if starting.done():
                starting.result()
            else:
                exchange.failure = f"the peer made no DTLS handshake within {HANDSHAKE_TIMEOUT:.0f} s"
            self._decide(exchange, control=control)
            await closing
        finally:
            for task in (starting, closing):
                task.cancel()
            await asyncio.gather(starting, closing, return_exceptions=True)
            await exchange.stop()

    def _decide(self, exchange: KeyExchange, *, control: bool) -> None:
        session = exchange.session
        if control:
            if session is not None:
                self._socket.secure_control(session)
        elif session is not None:
            self._socket.secure(session)
            self._events(TransportReady(session.profile.name))
        else:
            self._events(TransportFailed(exchange.failure))

    def close(self) -> None:
        """Ends both associations; `aclose` waits for it."""
        self._closing.set()
        self._events = _nobody  # else this and its owner keep each other

    async def aclose(self) -> None:
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _nobody(_event: TransportEvent) -> None:
    return None
