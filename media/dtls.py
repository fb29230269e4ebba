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
from dataclasses import dataclass
from enum import Enum
from typing import cast

from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AES128_CM_SHA1_80,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    State,
)
from aiortc.rtcicetransport import RTCIceTransport

from media.ice_lite import HostCandidate, IceCredentials, IceLiteSocket
from media.srtp import (
    AEAD_AES_128_GCM,
    AES_CM_128_HMAC_SHA1_80,
    MasterKey,
    SrtpError,
    SrtpProfile,
    SrtpSession,
)
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

HANDSHAKE_TIMEOUT = 20.0
"""Seconds from the description until media must be able to flow."""

_PROFILES = {p.openssl_name.encode(): p for p in (AEAD_AES_128_GCM, AES_CM_128_HMAC_SHA1_80)}
_EXPORTER_LABEL = b"EXTRACTOR-dtls_srtp"
_MAX_HANDSHAKE_DATAGRAMS = 64
_MAX_EARLY_PACKETS = 64


class DtlsRole(Enum):
    """RFC 8842 5.2: our a=setup. Passive waits for the ClientHello, active sends it."""

    ACTIVE = "active"
    PASSIVE = "passive"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """RFC 8122 5: a=fingerprint, for instance ("sha-256", "AB:CD:...")."""

    algorithm: str
    value: str


@dataclass(frozen=True, slots=True, repr=False)
class DtlsCertificate:
    """A self-signed certificate with its key, valid 30 days."""

    certificate: RTCCertificate

    @classmethod
    def generate(cls) -> DtlsCertificate:
        return cls(RTCCertificate.generateCertificate())

    @property
    def fingerprint(self) -> Fingerprint:
        first = self.certificate.getFingerprints()[0]
        return Fingerprint(first.algorithm, first.value)


class _IceShim:
    """The three things RTCDtlsTransport asks of its ICE transport."""

    role = "controlled"

    def __init__(self, transport: DtlsSrtpTransport) -> None:
        self._transport = transport
        self._datagrams: asyncio.Queue[bytes] = asyncio.Queue(_MAX_HANDSHAKE_DATAGRAMS)

    def received(self, data: bytes) -> bool:
        try:
            self._datagrams.put_nowait(data)
        except asyncio.QueueFull:
            return False
        return True

    async def _recv(self) -> bytes:
        return await self._datagrams.get()

    async def _send(self, data: bytes) -> None:
        self._transport.session.send((data,))


class _KeyExchange(RTCDtlsTransport):
    """aiortc's DTLS with the keys handed out instead of given to its own SRTP."""

    def __init__(self, ice: _IceShim, certificate: DtlsCertificate, role: DtlsRole) -> None:
        super().__init__(cast(RTCIceTransport, ice), [certificate.certificate])
        self._srtp_profiles = [SRTP_AEAD_AES_128_GCM, SRTP_AES128_CM_SHA1_80]
        self._set_role("server" if role is DtlsRole.PASSIVE else "client")
        self.failure = "the DTLS handshake failed"
        self.session: SrtpSession | None = None
        self.ended = asyncio.Event()

    def _validate_peer_identity(self, remoteParameters: RTCDtlsParameters) -> None:  # noqa: N803  # aiortc's name
        super()._validate_peer_identity(remoteParameters)
        if self._state is State.FAILED:
            self.failure = "the peer's certificate does not match the fingerprint it described"

    def _setup_srtp(self) -> None:
        assert self._ssl is not None  # the handshake has just ended
        profile = _PROFILES.get(self._ssl.get_selected_srtp_profile())
        if profile is None:
            self.failure = "the peer has no SRTP profile in common with us"
            self._set_state(State.FAILED)
            return
        length = 2 * (profile.key_length + profile.salt_length)
        material = self._ssl.export_keying_material(_EXPORTER_LABEL, length)
        client, server = _master_keys(profile, material)
        local, remote = (server, client) if self._role == "server" else (client, server)
        self.session = SrtpSession(profile, local, remote)

    def _set_state(self, state: State) -> None:
        super()._set_state(state)
        if state in (State.FAILED, State.CLOSED):
            self.ended.set()


def _master_keys(profile: SrtpProfile, material: bytes) -> tuple[MasterKey, MasterKey]:
    """RFC 5764 4.2: client key, server key, client salt, server salt."""
    key, salt = profile.key_length, profile.salt_length
    keys, salts = material[: 2 * key], material[2 * key :]
    return MasterKey(keys[:key], salts[:salt]), MasterKey(keys[key:], salts[salt:])


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
        self._shim = _IceShim(self)
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
        if not remote:
            raise ValueError("DTLS needs a fingerprint from the peer's description")
        self._running = True
        exchange = _KeyExchange(self._shim, self.certificate, role)
        try:
            failure = await self._handshake(exchange, remote)
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

    async def _handshake(self, exchange: _KeyExchange, remote: Sequence[Fingerprint]) -> str | None:
        """None when keys are there, else why they are not."""
        parameters = RTCDtlsParameters([RTCDtlsFingerprint(f.algorithm, f.value) for f in remote])
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

    async def _start(self, exchange: _KeyExchange, parameters: RTCDtlsParameters) -> None:
        await self._reachable.wait()
        await exchange.start(parameters)

    async def _serve(self, exchange: _KeyExchange) -> None:
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
