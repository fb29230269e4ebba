"""A participant's RTP ports, one pair a medium: plain, or SRTP with keys from the description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address

from foundation.desks import CryptoKey, MediaSection, Refusal, RefusalKind, SectionKind
from mcu_bridge.access import MediaAccess
from media.rtp_socket import PortPair, RtpSocket
from media.srtp import PROFILES, MasterKey, SrtpError, SrtpSession
from media.transport import Address, NobodyListening


@dataclass(frozen=True, slots=True)
class _Keys:
    """A running SRTP session and the keys it was made of."""

    theirs: CryptoKey
    ours: CryptoKey
    session: SrtpSession


class PlainTransports:
    """The sockets of one participant on its network, opened as media need them."""

    def __init__(self, access: MediaAccess, network: str) -> None:
        self._access = access
        self._network = network
        self._sockets: dict[SectionKind, RtpSocket] = {}
        self._keys: dict[SectionKind, _Keys] = {}

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
        return socket, self._secure(socket, section, before if resuming else None)

    def _secure(
        self, socket: RtpSocket, section: MediaSection, taken_up: MediaSection | None
    ) -> tuple[CryptoKey, ...]:
        """RFC 4568 5.1.2: the first offered suite that we know.

        Unchanged keys leave the session running, and a peer's new key leaves our own sending: a session
        made anew would count its packets from the start again, under the same key. `taken_up` has our key
        of the answer that a lost worker gave. A master key identifier of the peer's is taken for our key too.
        """
        usable = next((key for key in section.crypto if key.suite in PROFILES), None)
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

    def close(self, kind: SectionKind) -> RtpSocket | None:
        """Free a medium's ports; the closed socket still has its counters."""
        socket = self._sockets.pop(kind, None)
        self._keys.pop(kind, None)
        if socket is not None:
            socket.close()
            socket.receiver = NobodyListening()  # else leg and socket keep each other
        return socket


def addresses(section: MediaSection) -> tuple[Address, Address] | tuple[None, None]:
    """RTP and RTCP addresses of a description; none for a hold in the manner of RFC 2543, and none for a
    name: looking it up would stop everybody's media, and where the peer sends from will show."""
    try:
        if ip_address(section.address).is_unspecified:
            return None, None
    except ValueError:
        return None, None
    default = section.port if section.rtcp_mux else min(section.port + 1, 65_535)
    return (section.address, section.port), (section.address, section.rtcp_port or default)
