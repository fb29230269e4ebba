"""SRTP and SRTCP (RFC 3711; AEAD: RFC 7714), both directions of one session.

    session = SrtpSession(profile, local=MasterKey(...), remote=MasterKey(...))
    session.protect([rtp, ...]) -> [srtp, ...]        session.protect_rtcp(rtcp) -> srtcp
    session.unprotect(srtp) -> rtp                    session.unprotect_rtcp(srtcp) -> rtcp     # SrtpError

AEAD_AES_128_GCM is done here over OpenSSL, since it is on the path of every packet to every browser; the
AES_CM_128_HMAC_SHA1 profiles are libsrtp's, which limits their packets to 1356 bytes.

A packet may be protected twice only if not one byte differs (a plain retransmission): two different packets
under one SSRC and sequence number would give the AEAD key away. Start sequence numbers below 2**15, so that a
peer which misses the first packets guesses the rollover counter right (RFC 3711 3.3.1).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from operator import add
from typing import Protocol

import pylibsrtp
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from media.frame_packets import FramePackets

REPLAY_WINDOW = 1024
_WINDOW_MASK = (1 << REPLAY_WINDOW) - 1
_MAX_STREAMS = 64  # SSRCs one peer may bring; only authenticated packets make one
_GCM_TAG = 16
_MAX_SRTCP_INDEX = 0x7FFFFFFF


class SrtpError(ValueError):
    """A packet that cannot be protected or that the sender did not protect as agreed."""


@dataclass(frozen=True, slots=True)
class SrtpProfile:
    """A profile's name (RFC 4568 6.2, RFC 7714 12) and lengths in bytes."""

    name: str
    key_length: int
    salt_length: int
    rtp_growth: int
    """Bytes an RTP packet grows by."""
    rtcp_growth: int
    openssl_name: str
    """Its DTLS-SRTP name (RFC 5764 4.1.2) in OpenSSL's spelling."""


AES_CM_128_HMAC_SHA1_80 = SrtpProfile("AES_CM_128_HMAC_SHA1_80", 16, 14, 10, 14, "SRTP_AES128_CM_SHA1_80")
AES_CM_128_HMAC_SHA1_32 = SrtpProfile("AES_CM_128_HMAC_SHA1_32", 16, 14, 4, 14, "SRTP_AES128_CM_SHA1_32")
AEAD_AES_128_GCM = SrtpProfile("AEAD_AES_128_GCM", 16, 12, 16, 20, "SRTP_AEAD_AES_128_GCM")

PROFILES = {p.name: p for p in (AEAD_AES_128_GCM, AES_CM_128_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_32)}
"""By name, the preferred first."""

_LIBSRTP = {
    AES_CM_128_HMAC_SHA1_80: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    AES_CM_128_HMAC_SHA1_32: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}


@dataclass(frozen=True, slots=True, repr=False)
class MasterKey:
    """RFC 3711 3.2.1: master key and salt of one direction. Never printed."""

    key: bytes
    salt: bytes

    @classmethod
    def generate(cls, profile: SrtpProfile) -> MasterKey:
        return cls(os.urandom(profile.key_length), os.urandom(profile.salt_length))

    @classmethod
    def parse_inline(cls, profile: SrtpProfile, text: str) -> MasterKey:
        """RFC 4568 9.2 key-info: base64 of key and salt, before any "|lifetime|MKI". Raises SrtpError."""
        try:
            data = base64.b64decode(text.partition("|")[0], validate=True)
        except ValueError:
            raise SrtpError("the offered SRTP key is not base64") from None
        if len(data) != profile.key_length + profile.salt_length:
            raise SrtpError(f"the offered SRTP key has {len(data)} bytes, which is wrong for {profile.name}")
        return cls(data[: profile.key_length], data[profile.key_length :])

    def inline(self) -> str:
        return base64.b64encode(self.key + self.salt).decode()


def derive(master: MasterKey, label: int, length: int) -> bytes:
    """RFC 3711 4.3.1 with a key derivation rate of 0; a 96-bit salt is padded (RFC 7714 11)."""
    salt = int.from_bytes(master.salt.ljust(14, b"\0"), "big")
    counter = ((label << 48) ^ salt) << 16
    stream = Cipher(algorithms.AES(master.key), modes.CTR(counter.to_bytes(16, "big"))).encryptor()
    return stream.update(bytes(length))


class _Sender(Protocol):
    def protect(self, packets: Sequence[bytes]) -> Sequence[bytes]: ...

    def protect_rtcp(self, packet: bytes) -> bytes: ...


class _Receiver(Protocol):
    def unprotect(self, packet: bytes) -> bytes: ...

    def unprotect_rtcp(self, packet: bytes) -> bytes: ...


class SrtpSession:
    """Both directions. `local` protects what we send, `remote` is what the peer protects with."""

    def __init__(self, profile: SrtpProfile, local: MasterKey, remote: MasterKey) -> None:
        self.profile = profile
        sender: _Sender
        receiver: _Receiver
        if profile == AEAD_AES_128_GCM:
            sender, receiver = _GcmSender.from_master(local), _GcmReceiver.from_master(remote)
        else:
            sender, receiver = _LibsrtpSender(profile, local), _LibsrtpReceiver(profile, remote)
        self.protect = sender.protect
        self.protect_rtcp = sender.protect_rtcp
        self._take(receiver)

    def _take(self, receiver: _Receiver) -> None:
        self.unprotect = receiver.unprotect
        self.unprotect_rtcp = receiver.unprotect_rtcp

    def with_remote(self, remote: MasterKey) -> SrtpSession:
        """The peer has a new key; what we send goes on under ours, its packets counted on."""
        changed = copy(self)
        gcm = self.profile == AEAD_AES_128_GCM
        changed._take(_GcmReceiver.from_master(remote) if gcm else _LibsrtpReceiver(self.profile, remote))
        return changed


def _policy(profile: SrtpProfile, master: MasterKey, direction: int) -> pylibsrtp.Policy:
    policy = pylibsrtp.Policy(master.key + master.salt, direction, srtp_profile=_LIBSRTP[profile])
    policy.window_size = REPLAY_WINDOW
    policy.allow_repeat_tx = True
    return policy


class _LibsrtpSender:
    def __init__(self, profile: SrtpProfile, master: MasterKey) -> None:
        policy = _policy(profile, master, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self._session = pylibsrtp.Session(policy)

    def protect(self, packets: Sequence[bytes]) -> list[bytes]:
        try:
            return [self._session.protect(packet) for packet in packets]
        except (pylibsrtp.Error, ValueError) as error:
            raise SrtpError(f"SRTP protection failed: {error}") from error

    def protect_rtcp(self, packet: bytes) -> bytes:
        try:
            return bytes(self._session.protect_rtcp(packet))
        except (pylibsrtp.Error, ValueError) as error:
            raise SrtpError(f"SRTCP protection failed: {error}") from error


class _LibsrtpReceiver:
    def __init__(self, profile: SrtpProfile, master: MasterKey) -> None:
        self._session = pylibsrtp.Session(_policy(profile, master, pylibsrtp.Policy.SSRC_ANY_INBOUND))

    def unprotect(self, packet: bytes) -> bytes:
        try:
            return bytes(self._session.unprotect(packet))
        except (pylibsrtp.Error, ValueError) as error:
            raise SrtpError(f"SRTP from the peer refused: {error}") from error

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        try:
            return bytes(self._session.unprotect_rtcp(packet))
        except (pylibsrtp.Error, ValueError) as error:
            raise SrtpError(f"SRTCP from the peer refused: {error}") from error


@dataclass(frozen=True, slots=True, repr=False)
class _GcmKeys:
    """Session keys of one direction (RFC 7714 11)."""

    rtp: AESGCM
    rtp_salt: int
    rtcp: AESGCM
    rtcp_salt: int

    @classmethod
    def derive(cls, master: MasterKey) -> _GcmKeys:
        return cls(
            AESGCM(derive(master, 0, 16)),
            int.from_bytes(derive(master, 2, 12), "big"),
            AESGCM(derive(master, 3, 16)),
            int.from_bytes(derive(master, 5, 12), "big"),
        )


class _SendStream:
    """One SSRC we send: `base` is the RTP salt with the SSRC in it, `highest` the 48-bit packet index."""

    __slots__ = ("base", "highest")

    def __init__(self, salt: int, ssrc: bytes, sequence: int) -> None:
        self.base = salt ^ int.from_bytes(ssrc, "big") << 48
        self.highest = sequence


class _ReplayWindow:
    """RFC 3711 3.3.2: the highest index and which of the REPLAY_WINDOW before it have come."""

    __slots__ = ("highest", "seen")

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.seen = 0

    def check(self, index: int) -> None:
        age = self.highest - index
        if age >= REPLAY_WINDOW:
            raise SrtpError("packet is older than the replay window")
        if age >= 0 and self.seen >> age & 1:
            raise SrtpError("packet was replayed")

    def mark(self, index: int) -> None:
        age = self.highest - index
        if age < 0:
            self.seen = (self.seen << min(-age, REPLAY_WINDOW) | 1) & _WINDOW_MASK
            self.highest = index
        else:
            self.seen |= 1 << age


def _guess_index(highest: int, sequence: int) -> int:
    """RFC 3711 3.3.1: the 48-bit index nearest to `highest` that ends in this sequence number."""
    ahead = (sequence - highest) & 0xFFFF
    index = highest + ahead if ahead < 0x8000 else highest + ahead - 0x10000
    if index < 0:
        raise SrtpError("packet comes from before the stream's first")
    return index


def _header_length(packet: bytes) -> int:
    """RFC 3550 5.1 and 5.3.1: fixed header, CSRCs, extension. Raises SrtpError."""
    if len(packet) < 12:
        raise SrtpError("an RTP packet has at least 12 bytes")
    end = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        if len(packet) < end + 4:
            raise SrtpError("RTP header is cut short")
        end += 4 + 4 * (packet[end + 2] << 8 | packet[end + 3])
    if len(packet) < end:
        raise SrtpError("RTP header is cut short")
    return end


class _GcmSender:
    def __init__(self, keys: _GcmKeys) -> None:
        self._keys = keys
        self._streams: dict[bytes, _SendStream] = {}
        self._rtcp_index = 0

    @classmethod
    def from_master(cls, master: MasterKey) -> _GcmSender:
        return cls(_GcmKeys.derive(master))

    def protect(self, packets: Sequence[bytes]) -> Sequence[bytes]:
        if type(packets) is FramePackets:
            return FramePackets(packets.headers, self._seal(packets.headers, packets.payloads))
        ends = [12 if packet[:1] == b"\x80" else _header_length(packet) for packet in packets]
        headers = [packet[:end] for packet, end in zip(packets, ends, strict=True)]
        payloads = [packet[end:] for packet, end in zip(packets, ends, strict=True)]
        return list(map(add, headers, self._seal(headers, payloads)))

    def _seal(self, headers: Sequence[bytes], payloads: Sequence[bytes]) -> list[bytes]:
        """Ciphertexts with their tags (RFC 7714 8): the associated data are the headers."""
        encrypt = self._keys.rtp.encrypt
        sealed = []
        for header, payload in zip(headers, payloads, strict=True):
            if len(header) < 12:
                raise SrtpError("an RTP packet has at least 12 bytes")
            sequence = header[2] << 8 | header[3]
            ssrc = header[8:12]
            stream = self._streams.get(ssrc)
            if stream is None:
                stream = self._streams[ssrc] = _SendStream(self._keys.rtp_salt, ssrc, sequence)
            index = _guess_index(stream.highest, sequence)
            if index > stream.highest:
                stream.highest = index
            sealed.append(encrypt((stream.base ^ index).to_bytes(12, "big"), payload, header))
        return sealed

    def protect_rtcp(self, packet: bytes) -> bytes:
        """RFC 7714 9.2: encrypted; the associated data are the first 8 bytes and the ESRTCP word."""
        if len(packet) < 8:
            raise SrtpError("an RTCP packet has at least 8 bytes")
        if self._rtcp_index > _MAX_SRTCP_INDEX:
            raise SrtpError("the SRTCP index is used up: new keys are needed")
        index = self._rtcp_index
        self._rtcp_index += 1
        header, word = packet[:8], (0x80000000 | index).to_bytes(4, "big")
        nonce = _rtcp_nonce(self._keys.rtcp_salt, packet, index)
        return header + self._keys.rtcp.encrypt(nonce, packet[8:], header + word) + word


class _GcmReceiver:
    def __init__(self, keys: _GcmKeys) -> None:
        self._keys = keys
        self._streams: dict[bytes, _ReplayWindow] = {}
        self._rtcp_streams: dict[bytes, _ReplayWindow] = {}

    @classmethod
    def from_master(cls, master: MasterKey) -> _GcmReceiver:
        return cls(_GcmKeys.derive(master))

    def unprotect(self, packet: bytes) -> bytes:
        if len(packet) < 12 + _GCM_TAG:
            raise SrtpError("SRTP packet is cut short")
        end = _header_length(packet)
        sequence, ssrc = packet[2] << 8 | packet[3], packet[8:12]
        window = self._streams.get(ssrc)
        if window is None:
            window = _new_window(self._streams, sequence)
        index = _guess_index(window.highest, sequence)
        window.check(index)
        header = packet[:end]
        nonce = (self._keys.rtp_salt ^ int.from_bytes(ssrc, "big") << 48 ^ index).to_bytes(12, "big")
        try:
            payload = self._keys.rtp.decrypt(nonce, packet[end:], header)
        except InvalidTag:
            raise SrtpError("SRTP authentication failed") from None
        window.mark(index)
        self._streams[ssrc] = window
        return header + payload

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        if len(packet) < 8 + _GCM_TAG + 4:
            raise SrtpError("SRTCP packet is cut short")
        ssrc, word = packet[4:8], packet[-4:]
        index = int.from_bytes(word, "big") & _MAX_SRTCP_INDEX
        window = self._rtcp_streams.get(ssrc)
        if window is None:
            window = _new_window(self._rtcp_streams, index)
        window.check(index)
        nonce = _rtcp_nonce(self._keys.rtcp_salt, packet, index)
        if word[0] & 0x80:
            clear, sealed, associated = packet[:8], packet[8:-4], packet[:8] + word
        else:  # RFC 7714 9.3: authenticated only
            clear, sealed = packet[: -4 - _GCM_TAG], packet[-4 - _GCM_TAG : -4]
            associated = clear + word
        try:
            payload = self._keys.rtcp.decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise SrtpError("SRTCP authentication failed") from None
        window.mark(index)
        self._rtcp_streams[ssrc] = window
        return clear + payload


def _rtcp_nonce(salt: int, packet: bytes, index: int) -> bytes:
    """RFC 7714 9.1."""
    return (salt ^ int.from_bytes(packet[4:8], "big") << 48 ^ index).to_bytes(12, "big")


def _new_window(streams: dict[bytes, _ReplayWindow], index: int) -> _ReplayWindow:
    if len(streams) >= _MAX_STREAMS:
        raise SrtpError(f"the peer already sends {_MAX_STREAMS} streams")
    return _ReplayWindow(index)
