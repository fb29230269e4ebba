"""The DTLS handshake that makes SRTP keys (RFC 5764), over whatever carries its datagrams.

    pipe = DatagramPipe(send)                                   # send: one datagram to the peer
    exchange = KeyExchange(pipe, certificate, DtlsRole.PASSIVE)
    pipe.received(datagram); await exchange.start(parameters)
    exchange.session or exchange.failure; exchange.ended; await exchange.stop()

aiortc does the DTLS; the keys are ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import cast

from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    State,
)
from aiortc.rtcicetransport import RTCIceTransport

from media.srtp import (
    AEAD_AES_128_GCM,
    AEAD_AES_256_GCM,
    AES_CM_128_HMAC_SHA1_80,
    MasterKey,
    SrtpProfile,
    SrtpSession,
)

HANDSHAKE_TIMEOUT = 20.0
"""Seconds from the description until media must be able to flow."""

_PROFILES = {
    p.openssl_name.encode(): p for p in (AEAD_AES_128_GCM, AEAD_AES_256_GCM, AES_CM_128_HMAC_SHA1_80)
}
_EXPORTER_LABEL = b"EXTRACTOR-dtls_srtp"
_MAX_HANDSHAKE_DATAGRAMS = 64


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


def parameters_of(remote: Sequence[Fingerprint]) -> RTCDtlsParameters:
    """The fingerprints the peer described. Raises ValueError without any."""
    if not remote:
        raise ValueError("DTLS needs a fingerprint from the peer's description")
    return RTCDtlsParameters([RTCDtlsFingerprint(f.algorithm, f.value) for f in remote])


class DatagramPipe:
    """The three things RTCDtlsTransport asks of its ICE transport."""

    role = "controlled"

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send_datagram = send
        self._datagrams: asyncio.Queue[bytes] = asyncio.Queue(_MAX_HANDSHAKE_DATAGRAMS)

    def received(self, data: bytes) -> bool:
        """False: too many wait already."""
        try:
            self._datagrams.put_nowait(data)
        except asyncio.QueueFull:
            return False
        return True

    async def _recv(self) -> bytes:
        return await self._datagrams.get()

    async def _send(self, data: bytes) -> None:
        self._send_datagram(data)


class KeyExchange(RTCDtlsTransport):
    """aiortc's DTLS with the keys handed out instead of given to its own SRTP."""

    def __init__(self, pipe: DatagramPipe, certificate: DtlsCertificate, role: DtlsRole) -> None:
        super().__init__(cast(RTCIceTransport, pipe), [certificate.certificate])
        self._srtp_profiles = [SRTP_AEAD_AES_128_GCM, SRTP_AEAD_AES_256_GCM, SRTP_AES128_CM_SHA1_80]
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
