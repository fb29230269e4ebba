"""SRTP's profiles and master keys (RFC 3711, RFC 7714), as SDES (RFC 4568) and DTLS (RFC 5764) name them."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MAX_MKI = 128
"""RFC 4568 6.1: bytes of a master key identifier."""


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
AEAD_AES_256_GCM = SrtpProfile("AEAD_AES_256_GCM", 32, 12, 16, 20, "SRTP_AEAD_AES_256_GCM")

PROFILES = {
    profile.name: profile
    for profile in (AEAD_AES_128_GCM, AEAD_AES_256_GCM, AES_CM_128_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_32)
}
"""By name, the preferred first."""
GCM = (AEAD_AES_128_GCM, AEAD_AES_256_GCM)


@dataclass(frozen=True, slots=True, repr=False)
class MasterKey:
    """RFC 3711 3.2.1: master key and salt of one direction, and the MKI its packets bear. Never printed."""

    key: bytes
    salt: bytes
    mki: bytes = b""

    @classmethod
    def generate(cls, profile: SrtpProfile, mki: bytes = b"") -> MasterKey:
        return cls(os.urandom(profile.key_length), os.urandom(profile.salt_length), mki)

    @classmethod
    def parse_inline(cls, profile: SrtpProfile, text: str) -> MasterKey:
        """RFC 4568 9.2 key-info: base64 of key and salt, then any "|lifetime" and "|MKI:length". Raises
        SrtpError. The lifetime is its sender's to keep (RFC 3711 9.2)."""
        encoded, *rest = text.split("|")
        try:
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)  # some leave it away
        except ValueError:
            raise SrtpError("the offered SRTP key is not base64") from None
        if len(data) != profile.key_length + profile.salt_length:
            raise SrtpError(f"the offered SRTP key has {len(data)} bytes, which is wrong for {profile.name}")
        mki = next((_parse_mki(word) for word in rest if ":" in word), b"")
        return cls(data[: profile.key_length], data[profile.key_length :], mki)

    def inline(self) -> str:
        text = base64.b64encode(self.key + self.salt).decode()
        return f"{text}|{int.from_bytes(self.mki, 'big')}:{len(self.mki)}" if self.mki else text


def _parse_mki(text: str) -> bytes:
    value, _, length = text.partition(":")
    if not (
        re.fullmatch("[0-9]{1,309}", value)
        and re.fullmatch("[0-9]{1,3}", length)
        and 0 < int(length) <= MAX_MKI
    ):
        raise SrtpError(f"the offered master key identifier cannot be read: {text[:40]}")
    try:
        return int(value).to_bytes(int(length), "big")
    except OverflowError:
        raise SrtpError(f"the master key identifier {text[:40]} is larger than its length") from None


def derive(master: MasterKey, label: int, length: int) -> bytes:
    """RFC 3711 4.3.1 with a key derivation rate of 0; a 96-bit salt is padded (RFC 7714 11)."""
    salt = int.from_bytes(master.salt.ljust(14, b"\0"), "big")
    counter = ((label << 48) ^ salt) << 16
    stream = Cipher(algorithms.AES(master.key), modes.CTR(counter.to_bytes(16, "big"))).encryptor()
    return stream.update(bytes(length))
