"""A participant's RTP ports, one pair a medium: plain, or SRTP with keys from the description or by DTLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address

from foundation.desks import (
    CryptoKey,
    DtlsDescription,
    MediaSection,
    Refusal,
    RefusalKind,
    SectionKind,
)
from mcu_bridge.access import MediaAccess
from media.dtls import DtlsRole, Fingerprint
from media.dtls_keying import DtlsKeying
from media.rtp_socket import PortPair, RtpSocket
from media.srtp import PROFILES, MasterKey, SrtpError, SrtpSession
from media.transport import Address, NobodyListening, TransportEvent

OFFERED_SUITES = ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM")
"""What our own offers have, the one first that every terminal knows."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """A running SRTP session and the keys it was made of."""

    theirs: CryptoKey
    ours: CryptoKey
    session: SrtpSession


@dataclass(frozen=True, slots=True)
class _Association:
    """Keys by DTLS: what the peer described, what we answered, and who makes them."""

    theirs: DtlsDescription
    ours: DtlsDescription
    keying: DtlsKeying


def _nobody(_event: TransportEvent) -> None:
    return None


class PlainTransports:
    """The sockets of one participant on its network, opened as media need them."""

    def __init__(
        self, access: MediaAccess, network: str, events: Callable[[TransportEvent], None] = _nobody
    ) -> None:
        self._access = access
        self._network = network
        self._events = events
        self._associations: dict[SectionKind, _Association] = {}
        self._ended: list[DtlsKeying] = []
        self._sockets: dict[SectionKind, RtpSocket] = {}
        self._keys: dict[SectionKind, _Keys] = {}
        self._offered: dict[SectionKind, tuple[CryptoKey, ...]] = {}

    def __getitem__(self, kind: SectionKind) -> RtpSocket:
        return self._sockets[kind]

    @property
    def kinds(self) -> tuple[SectionKind, ...]:
        return tuple(self._sockets)

    @property
    def all(self) -> list[RtpSocket]:
        return list(self._sockets.values())

    def open(self, kind: SectionKind, *, ports: PortPair | None = None, rtcp_mux: bool = False) -> RtpSocket:
        """The socket of a medium, bound at the first call; with `ports` to exactly those. Raises Refusal."""
        if kind not in self._sockets:
            network = self._access.network(self._network)
            dscp = network.dscp_audio if kind is SectionKind.AUDIO else network.dscp_video
            self._sockets[kind] = self._access.open_socket(
                self._network, dscp=dscp, ports=ports, rtcp_mux=rtcp_mux
            )
        return self._sockets[kind]

    def answer(
        self, section: MediaSection, before: MediaSection | None, *, resuming: bool
    ) -> tuple[RtpSocket, tuple[CryptoKey, ...]]:
        """The socket that serves an offered section, and our key for it. Raises Refusal.

        `before` is our last answer for the section: with `resuming` its ports and key are taken again.
        """
        ports = None
        if resuming and before is not None:
            ports = PortPair(before.port, before.port if before.rtcp_mux else before.port + 1)
        socket = self.open(section.kind, ports=ports, rtcp_mux=section.rtcp_mux)
        socket.set_remote(*addresses(section))
        if keyed_by_dtls(section):
            self._associate(socket, section)
            return socket, ()
        self._dissociate(section.kind)
        return socket, self._secure(socket, section, before if resuming else None)

    def dtls(self, kind: SectionKind) -> DtlsDescription | None:
        """Our answer's fingerprint and role for a medium that is keyed by DTLS."""
        found = self._associations.get(kind)
        return None if found is None else found.ours

    def _associate(self, socket: RtpSocket, section: MediaSection) -> None:
        """RFC 8842 5.5: an association goes on as long as the peer's fingerprint and role are the same."""
        theirs = section.dtls
        assert theirs is not None, "keyed_by_dtls comes first"
        running = self._associations.get(section.kind)
        if running is not None and _same_association(running, theirs):
            return
        self._dissociate(section.kind)
        self._keys.pop(section.kind, None)
        role = DtlsRole.ACTIVE if theirs.setup == "passive" else DtlsRole.PASSIVE
        certificate = self._access.certificate
        keying = DtlsKeying(
            socket, certificate, role, Fingerprint(theirs.algorithm, theirs.fingerprint), self._events
        )
        own = certificate.fingerprint
        ours = DtlsDescription(own.algorithm, own.value, role.value)
        self._associations[section.kind] = _Association(theirs, ours, keying)

    def _dissociate(self, kind: SectionKind) -> None:
        ended = self._associations.pop(kind, None)
        if ended is not None:
            ended.keying.close()
            self._ended.append(ended.keying)
            self._sockets[kind].secure(None)

    def _secure(
        self, socket: RtpSocket, section: MediaSection, taken_up: MediaSection | None
    ) -> tuple[CryptoKey, ...]:
        """RFC 4568 5.1.2: the first offered suite that we know, with a key that fits it.

        Unchanged keys leave the session running, and a peer's new key leaves our own sending: a session
        made anew would count its packets from the start again, under the same key. `taken_up` has our key
        of the answer that a lost worker gave. A master key identifier of the peer's is taken for our key too.
        """
        known = [key for key in section.crypto if key.suite in PROFILES]
        usable = next(filter(_fits, known), next(iter(known), None))
        running = self._keys.get(section.kind)
        if usable is None:
            if running is not None:
                del self._keys[section.kind]
                socket.secure(None)
            return ()
        profile = PROFILES[usable.suite]
        try:
            if running is not None and running.theirs.suite == usable.suite:
                ours = replace(running.ours, tag=usable.tag)
                session = running.session
                if running.theirs.key != usable.key:
                    session = session.with_remote(MasterKey.parse_inline(profile, usable.key))
            else:
                given = () if taken_up is None else taken_up.crypto
                kept = next((key for key in given if key.suite == usable.suite), None)
                remote = MasterKey.parse_inline(profile, usable.key)
                local = (
                    MasterKey.parse_inline(profile, kept.key)
                    if kept
                    else MasterKey.generate(profile, remote.mki)
                )
                ours = CryptoKey(usable.tag, usable.suite, local.inline())
                session = SrtpSession(profile, local, remote, late=taken_up is not None)
        except SrtpError as error:
            raise Refusal(RefusalKind.BAD_DESCRIPTION, str(error)) from error
        self._keys[section.kind] = _Keys(usable, ours, session)
        socket.secure(session)
        return (ours,)

    # --- keys in offers of ours ---------------------------------------------------------------------

    def offered_keys(self, kind: SectionKind) -> tuple[CryptoKey, ...]:
        """A key of ours for each suite that we offer, best first; the same ones if it is offered again."""
        if kind not in self._offered:
            self._offered[kind] = tuple(
                CryptoKey(tag, suite, MasterKey.generate(PROFILES[suite]).inline())
                for tag, suite in enumerate(OFFERED_SUITES, start=1)
            )
        return self._offered[kind]

    def settle(
        self, socket: RtpSocket, ours: MediaSection, theirs: MediaSection, *, resuming: bool
    ) -> tuple[CryptoKey, ...]:
        """Our key that the answer to our offer chose, by its tag (RFC 4568 5.1.3); none for plain RTP.

        Raises Refusal for an answer in SRTP with a key that does not fit one of ours.
        """
        if not ours.crypto or not (theirs.crypto or "SAVP" in theirs.protocol):
            return ()
        chosen = [
            (mine, key)
            for key in theirs.crypto
            for mine in ours.crypto
            if (mine.tag, mine.suite) == (key.tag, key.suite)
        ]
        if len(chosen) != 1:
            raise Refusal(RefusalKind.BAD_DESCRIPTION, "the answer takes none of the keys that were offered")
        mine, key = chosen[0]
        running = self._keys.get(ours.kind)
        if running is not None and running.theirs == key:
            return (running.ours,)
        profile = PROFILES[mine.suite]
        try:
            local = MasterKey.parse_inline(profile, mine.key)
            remote = MasterKey.parse_inline(profile, key.key)
        except SrtpError as error:
            raise Refusal(RefusalKind.BAD_DESCRIPTION, str(error)) from error
        session = SrtpSession(profile, local, remote, late=resuming)
        self._keys[ours.kind] = _Keys(key, mine, session)
        socket.secure(session)
        return (mine,)

    def close(self, kind: SectionKind) -> RtpSocket | None:
        """Free a medium's ports; the closed socket still has its counters."""
        self._dissociate(kind)
        socket = self._sockets.pop(kind, None)
        self._keys.pop(kind, None)
        self._offered.pop(kind, None)
        if socket is not None:
            socket.close()
            socket.receiver = NobodyListening()  # else leg and socket keep each other
        return socket

    async def aclose(self) -> None:
        """Waits for the associations that were closed."""
        await asyncio.gather(*(keying.aclose() for keying in self._ended))
        self._ended.clear()
        self._events = _nobody


def keyed_by_dtls(section: MediaSection) -> bool:
    """Whether DTLS makes the keys: the protocol says so, or SDES has none for us (RFC 5763 5)."""
    if section.dtls is None or "SAVP" not in section.protocol:
        return False
    return section.protocol.startswith("UDP/TLS") or not any(key.suite in PROFILES for key in section.crypto)


def _same_association(running: _Association, theirs: DtlsDescription) -> bool:
    """The peer may say "actpass" again, or the role that it came to."""
    before = running.theirs
    same_peer = (before.algorithm, before.fingerprint) == (theirs.algorithm, theirs.fingerprint)
    its_role = "active" if running.ours.setup == DtlsRole.PASSIVE.value else "passive"
    return same_peer and theirs.setup in ("actpass", before.setup, its_role)


def addresses(section: MediaSection) -> tuple[Address, Address] | tuple[None, None]:
    """RTP and RTCP addresses of a description; none for a hold in the manner of RFC 2543, and none for a
    name: looking it up would stop everybody's media, and where the peer sends from will show."""
    try:
        address = ip_address(section.address)
    except ValueError:
        return None, None
    if address.is_unspecified:
        return None, None
    host = str(address)  # as sockets print it: media's source is compared with it
    default = section.port if section.rtcp_mux else min(section.port + 1, 65_535)
    return (host, section.port), (_rtcp_host(section) or host, section.rtcp_port or default)


def _rtcp_host(section: MediaSection) -> str | None:
    """The address of a=rtcp (RFC 3605 2.1), where RTCP goes elsewhere than RTP."""
    if section.rtcp_address is None or section.rtcp_mux:
        return None
    try:
        address = ip_address(section.rtcp_address)
    except ValueError:
        return None
    return None if address.is_unspecified else str(address)


def _fits(key: CryptoKey) -> bool:
    """Whether the key is of its suite's length; where none fits, the first one's error is told."""
    try:
        MasterKey.parse_inline(PROFILES[key.suite], key.key)
    except SrtpError:
        return False
    return True
