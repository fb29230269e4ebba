"""DTLS-SRTP (RFC 5764) for browsers: keys through aiortc's DTLS, media through our own SRTP.

    certificate = DtlsCertificate.generate()                        # one a worker process
    transport = DtlsSrtpTransport(receiver, ice, certificate)       # ice: IceLiteSocket
    # our description: transport.credentials, transport.candidates, certificate.fingerprint, a=setup
    group.create_task(transport.run(remote_fingerprints, role=DtlsRole.PASSIVE))
    transport.send_rtp([...]); transport.send_rtcp(...); transport.restart_ice(); transport.close()

Fulfils MediaTransport. `run` lasts as long as the transport and never raises for what the peer does: the
receiver hears TransportReady(profile), PeerMoved(address), and in the end TransportFailed(reason) or
TransportClosed(reason) unless we closed it ourselves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from aiortc.rtcdtlstransport import RTCDtlsParameters

from media.dtls_handshake import (
    HANDSHAKE_TIMEOUT,
    DatagramPipe,
    DtlsCertificate,
    DtlsRole,
    Fingerprint,
    KeyExchange,
    parameters_of,
)
from media.ice_lite import HostCandidate, IceCredentials, IceLiteSocket
from media.srtp import AEAD_AES_128_GCM, SrtpError, SrtpSession
from media.transport import (
    Address,
    MediaReceiver,
    PeerMoved,
    TransportClosed,
    TransportFailed,
    TransportReady,
    WireCounters,
    is_rtcp,
    is_valid_rtcp,
    is_valid_rtp,
)

__all__ = ["HANDSHAKE_TIMEOUT", "DtlsCertificate", "DtlsRole", "DtlsSrtpTransport", "Fingerprint"]

_MAX_EARLY_PACKETS = 64


class DtlsSrtpTransport:
    """One browser's transport: ICE session, DTLS association, SRTP session. See the module's head."""

    def __init__(
        self,
        receiver: MediaReceiver,
        ice: IceLiteSocket,
        certificate: DtlsCertificate,
        credentials: IceCredentials | None = None,
    ) -> None:
        self.receiver = receiver
        self.certificate = certificate
        self.session = ice.open_session(self, credentials)
        self._shim = DatagramPipe(lambda data: self.session.send((data,)))
        self._srtp: SrtpSession | None = None
        self._last_media: float | None = None
        self._early: deque[tuple[bytes, Address, float]] = deque(maxlen=_MAX_EARLY_PACKETS)
        self._reachable = asyncio.Event()
        self._closing = asyncio.Event()
        self._running = False

    @property
    def credentials(self) -> IceCredentials:
        return self.session.credentials

    @property
    def candidates(self) -> tuple[HostCandidate, ...]:
        return self.session.candidates

    @property
    def counters(self) -> WireCounters:
        """Everything of this peer, checks and handshake included."""
        return self.session.counters

    @property
    def overhead(self) -> int:
        growth = self._srtp.rtp_growth if self._srtp else AEAD_AES_128_GCM.rtp_growth
        return self.session.overhead + growth

    @property
    def ready(self) -> bool:
        return self._srtp is not None and not self._closing.is_set()

    @property
    def last_received(self) -> float | None:
        """Monotonic seconds of the last proof that the peer lives: a consent check, or authentic media."""
        known = [t for t in (self._last_media, self.session.last_consent) if t is not None]
        return max(known, default=None)

    def restart_ice(self) -> IceCredentials:
        """New credentials for an ICE restart; DTLS and SRTP go on."""
        return self.session.restart()

    async def run(self, remote: Sequence[Fingerprint], *, role: DtlsRole = DtlsRole.PASSIVE) -> None:
        """Handshake, then serve until either side closes. `remote`: the fingerprints the peer described."""
        parameters = parameters_of(remote)
        self._running = True
        exchange = KeyExchange(self._shim, self.certificate, role)
        try:
            failure = await self._handshake(exchange, parameters)
            if failure is None and not self._closing.is_set():
                await self._serve(exchange)
                if not self._closing.is_set():
                    self.receiver.transport_event(TransportClosed("the peer closed its DTLS association"))
            elif failure is not None and not self._closing.is_set():
                self.receiver.transport_event(TransportFailed(failure))
        finally:
            self._closing.set()
            await exchange.stop()
            self.session.close()

    def close(self) -> None:
        """Says goodbye (through `run`, where it runs) and releases the session."""
        self._closing.set()
        if not self._running:
            self.session.close()

    async def _handshake(self, exchange: KeyExchange, parameters: RTCDtlsParameters) -> str | None:
        """None when keys are there, else why they are not."""
        starting = asyncio.ensure_future(self._start(exchange, parameters))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait(
                (starting, closing), timeout=HANDSHAKE_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
            )
            if starting.done():
                starting.result()
                return None if exchange.session is not None else exchange.failure
            if not self._reachable.is_set():
                return "no connectivity check of the peer reached us"
            return f"the DTLS handshake did not end within {HANDSHAKE_TIMEOUT:.0f} s"
        finally:
            for task in (starting, closing):
                task.cancel()
            await asyncio.gather(starting, closing, return_exceptions=True)

    async def _start(self, exchange: KeyExchange, parameters: RTCDtlsParameters) -> None:
        await self._reachable.wait()
        await exchange.start(parameters)

    async def _serve(self, exchange: KeyExchange) -> None:
        session = self._srtp = exchange.session
        assert session is not None
        self.receiver.transport_event(TransportReady(session.profile.name))
        while self._early:
            self.srtp_received(*self._early.popleft())
        ended = asyncio.ensure_future(exchange.ended.wait())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((ended, closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            closing.cancel()

    def send_rtp(self, packets: Sequence[bytes]) -> None:
        session = self._srtp
        if session is None or self._closing.is_set() or not packets:
            self.counters.send_refused += len(packets)
            return
        try:
            protected = session.protect(packets)
        except SrtpError:
            self.counters.send_refused += len(packets)
            return
        self.session.send(protected)

    def send_rtcp(self, packet: bytes) -> None:
        session = self._srtp
        if session is None or self._closing.is_set():
            self.counters.send_refused += 1
            return
        try:
            protected = session.protect_rtcp(packet)
        except SrtpError:
            self.counters.send_refused += 1
            return
        self.session.send((protected,))

    def dtls_received(self, data: bytes) -> None:
        if not self._shim.received(data):
            self.counters.rejected += 1

    def srtp_received(self, data: bytes, source: Address, arrival: float) -> None:
        session = self._srtp
        if session is None:
            self._early.append((data, source, arrival))  # the peer may have its keys a moment before us
            return
        control = len(data) > 1 and is_rtcp(data)
        try:
            clear = session.unprotect_rtcp(data) if control else session.unprotect(data)
        except SrtpError:
            self.counters.rejected += 1
            return
        self._last_media = arrival
        if not (is_valid_rtcp(clear) if control else is_valid_rtp(clear)):
            self.counters.rejected += 1
        elif control:
            self.receiver.rtcp_received(clear, source, arrival)
        else:
            self.receiver.rtp_received(clear, source, arrival)

    def path_selected(self, address: Address) -> None:
        self._reachable.set()
        self.receiver.transport_event(PeerMoved(address))
