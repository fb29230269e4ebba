"""SRTP on one packet whose index is known: AES-GCM (RFC 7714), and AES-CM with HMAC-SHA1 (RFC 3711 4).

    transform = transform_for(profile, master)
    sealed = transform.seal(header, payload, index)            # what follows the header on the wire
    payload = transform.open(header, sealed, index)            # SrtpError when it does not authenticate
    srtcp = transform.seal_rtcp(packet, index);                packet = transform.open_rtcp(srtcp, index)

An index is ROC and sequence number together, 48 bits. A master key identifier stands where RFC 3711 3.1 puts
it, before HMAC's tag and behind GCM's, and is not authenticated.
"""

from __future__ import annotations

import hmac
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from media.srtp_keys import AES_CM_128_HMAC_SHA1_32, GCM, MasterKey, SrtpError, SrtpProfile, derive

_GCM_TAG = 16
_RTCP_TAG = 10
_ENCRYPTED = 0x80000000


class Transform(Protocol):
    """See the module's head."""

    mki: bytes

    def seal(self, header: bytes, payload: bytes, index: int) -> bytes: ...

    def open(self, header: bytes, sealed: bytes, index: int) -> bytes: ...

    def rtcp_word(self, packet: bytes) -> int:
        """E flag and SRTCP index as they stand in a packet (RFC 3711 3.4)."""
        ...

    def seal_rtcp(self, packet: bytes, index: int) -> bytes: ...

    def open_rtcp(self, packet: bytes) -> bytes: ...


def transform_for(profile: SrtpProfile, master: MasterKey) -> Transform:
    """The transform of one direction."""
    if profile in GCM:
        return GcmTransform.from_master(master)
    return CounterModeTransform(master, 4 if profile == AES_CM_128_HMAC_SHA1_32 else 10)


class GcmTransform:
    """RFC 7714. The associated data of RTP are the header."""

    __slots__ = ("_rtcp", "_rtcp_salt", "_rtp", "_rtp_salt", "mki")

    def __init__(self, rtp: AESGCM, rtp_salt: int, rtcp: AESGCM, rtcp_salt: int, mki: bytes = b"") -> None:
        self._rtp, self._rtp_salt = rtp, rtp_salt
        self._rtcp, self._rtcp_salt = rtcp, rtcp_salt
        self.mki = mki

    @classmethod
    def from_master(cls, master: MasterKey) -> GcmTransform:
        length = len(master.key)
        return cls(
            AESGCM(derive(master, 0, length)),
            int.from_bytes(derive(master, 2, 12), "big"),
            AESGCM(derive(master, 3, length)),
            int.from_bytes(derive(master, 5, 12), "big"),
            master.mki,
        )

    def seal(self, header: bytes, payload: bytes, index: int) -> bytes:
        nonce = self._rtp_salt ^ int.from_bytes(header[8:12], "big") << 48 ^ index
        sealed = self._rtp.encrypt(nonce.to_bytes(12, "big"), payload, header)
        return sealed + self.mki if self.mki else sealed

    def open(self, header: bytes, sealed: bytes, index: int) -> bytes:
        if self.mki:
            sealed = _without_end(sealed, self.mki)
        nonce = self._rtp_salt ^ int.from_bytes(header[8:12], "big") << 48 ^ index
        try:
            return self._rtp.decrypt(nonce.to_bytes(12, "big"), sealed, header)
        except (InvalidTag, ValueError):
            raise SrtpError("SRTP authentication failed") from None

    def rtcp_word(self, packet: bytes) -> int:
        end = len(packet) - len(self.mki)
        if end < 8 + _GCM_TAG + 4:
            raise SrtpError("SRTCP packet is cut short")
        return int.from_bytes(packet[end - 4 : end], "big")

    def seal_rtcp(self, packet: bytes, index: int) -> bytes:
        """RFC 7714 9.2: encrypted; the associated data are the first 8 bytes and the ESRTCP word."""
        header, word = packet[:8], (_ENCRYPTED | index).to_bytes(4, "big")
        sealed = self._rtcp.encrypt(self._rtcp_nonce(packet, index), packet[8:], header + word)
        return header + sealed + word + self.mki

    def open_rtcp(self, packet: bytes) -> bytes:
        word = self.rtcp_word(packet).to_bytes(4, "big")
        if self.mki:
            packet = _without_end(packet, self.mki)
        if word[0] & 0x80:
            clear, sealed, associated = packet[:8], packet[8:-4], packet[:8] + word
        else:  # RFC 7714 9.3: authenticated only
            clear, sealed = packet[: -4 - _GCM_TAG], packet[-4 - _GCM_TAG : -4]
            associated = clear + word
        nonce = self._rtcp_nonce(packet, int.from_bytes(word, "big") & ~_ENCRYPTED)
        try:
            return clear + self._rtcp.decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise SrtpError("SRTCP authentication failed") from None

    def _rtcp_nonce(self, packet: bytes, index: int) -> bytes:
        """RFC 7714 9.1."""
        return (self._rtcp_salt ^ int.from_bytes(packet[4:8], "big") << 48 ^ index).to_bytes(12, "big")


class CounterModeTransform:
    """RFC 3711 4.1.1 and 4.2.1; `tag` bytes authenticate RTP, always 10 RTCP (RFC 4568 6.2.1, 6.2.2)."""

    __slots__ = (
        "_rtcp_auth",
        "_rtcp_cipher",
        "_rtcp_salt",
        "_rtp_auth",
        "_rtp_cipher",
        "_rtp_salt",
        "_tag",
        "mki",
    )

    def __init__(self, master: MasterKey, tag: int) -> None:
        self._rtp_cipher, self._rtcp_cipher = (
            Cipher(algorithms.AES(derive(master, label, 16)), modes.CTR(bytes(16))).encryptor()
            for label in (0, 3)
        )
        self._rtp_auth, self._rtcp_auth = derive(master, 1, 20), derive(master, 4, 20)
        self._rtp_salt, self._rtcp_salt = (
            int.from_bytes(derive(master, label, 14), "big") for label in (2, 5)
        )
        self._tag = tag
        self.mki = master.mki

    def seal(self, header: bytes, payload: bytes, index: int) -> bytes:
        start = self._rtp_salt ^ int.from_bytes(header[8:12], "big") << 48 ^ index
        sealed = _counter_mode(self._rtp_cipher, start, payload)
        signed = header + sealed + (index >> 16).to_bytes(4, "big")
        return sealed + self.mki + hmac.digest(self._rtp_auth, signed, "sha1")[: self._tag]

    def open(self, header: bytes, sealed: bytes, index: int) -> bytes:
        sealed, tag = sealed[: -self._tag], sealed[-self._tag :]
        if self.mki:
            sealed = _without_end(sealed, self.mki)
        signed = header + sealed + (index >> 16).to_bytes(4, "big")
        if not hmac.compare_digest(hmac.digest(self._rtp_auth, signed, "sha1")[: self._tag], tag):
            raise SrtpError("SRTP authentication failed")
        start = self._rtp_salt ^ int.from_bytes(header[8:12], "big") << 48 ^ index
        return _counter_mode(self._rtp_cipher, start, sealed)

    def rtcp_word(self, packet: bytes) -> int:
        end = len(packet) - _RTCP_TAG - len(self.mki)
        if end < 8 + 4:
            raise SrtpError("SRTCP packet is cut short")
        return int.from_bytes(packet[end - 4 : end], "big")

    def seal_rtcp(self, packet: bytes, index: int) -> bytes:
        sealed = _counter_mode(self._rtcp_cipher, self._rtcp_start(packet, index), packet[8:])
        signed = packet[:8] + sealed + (_ENCRYPTED | index).to_bytes(4, "big")
        return signed + self.mki + hmac.digest(self._rtcp_auth, signed, "sha1")[:_RTCP_TAG]

    def open_rtcp(self, packet: bytes) -> bytes:
        word = self.rtcp_word(packet)
        signed, tag = packet[:-_RTCP_TAG], packet[-_RTCP_TAG:]
        if self.mki:
            signed = _without_end(signed, self.mki)
        if not hmac.compare_digest(hmac.digest(self._rtcp_auth, signed, "sha1")[:_RTCP_TAG], tag):
            raise SrtpError("SRTCP authentication failed")
        if not word & _ENCRYPTED:
            return signed[:-4]
        start = self._rtcp_start(packet, word & ~_ENCRYPTED)
        return packet[:8] + _counter_mode(self._rtcp_cipher, start, signed[8:-4])

    def _rtcp_start(self, packet: bytes, index: int) -> int:
        return self._rtcp_salt ^ int.from_bytes(packet[4:8], "big") << 48 ^ index


def _counter_mode(cipher: CipherContext, start: int, data: bytes) -> bytes:
    """`data` XOR the key stream whose counter begins at `start` and 16 bits of block number. The context is
    reused: making one for each packet costs six times as much."""
    cipher.reset_nonce(start.to_bytes(14, "big") + b"\0\0")
    return cipher.update(data)


def _without_end(data: bytes, mki: bytes) -> bytes:
    """RFC 3711 3.1: the identifier must be the one that was agreed."""
    if not data.endswith(mki):
        raise SrtpError("the packet bears another master key identifier than was agreed")
    return data[: -len(mki)]
