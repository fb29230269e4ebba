"""A participant's RTP ports, one pair a medium: plain, or SRTP with keys from the description."""

from __future__ import annotations

from foundation.desks import CryptoKey, MediaSection, Refusal, RefusalKind, SectionKind
from mcu_bridge.access import MediaAccess
from media.rtp_socket import PortPair, RtpSocket
from media.srtp import PROFILES, MasterKey, SrtpError, SrtpSession
from media.transport import Address


class PlainTransports:
    """The sockets of one participant on its network, opened as media need them."""

    def __init__(self, access: MediaAccess, network: str) -> None:
        self._access = access
        self._network = network
        self._sockets: dict[SectionKind, RtpSocket] = {}
        self._keys: dict[SectionKind, tuple[CryptoKey, CryptoKey]] = {}

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

        `before` is our last answer for the section: with `resuming` its ports are taken again, its key
        in any case.
        """
        ports = None
        if resuming and before is not None:
            ports = PortPair(before.port, before.port if before.rtcp_mux else before.port + 1)
        socket = self.open(section.kind, ports=ports, rtcp_mux=section.rtcp_mux)
        socket.set_remote(*addresses(section))
        return socket, self._secure(socket, section, before)

    def _secure(
        self, socket: RtpSocket, section: MediaSection, before: MediaSection | None
    ) -> tuple[CryptoKey, ...]:
        """RFC 4568 5.1.2: the first offered suite that we know. Unchanged keys leave the session running,
        for a new one would count its packets from the start again."""
        usable = next((key for key in section.crypto if key.suite in PROFILES), None)
        if usable is None:
            if "SAVP" in section.protocol:
                detail = f"{section.protocol} is offered without a usable key"
                raise Refusal(RefusalKind.NO_COMMON_CODEC, detail)
            return ()
        running = self._keys.get(section.kind)
        if running is not None and running[0] == usable:
            return (running[1],)
        profile = PROFILES[usable.suite]
        kept = next((k for k in before.crypto if k.suite == usable.suite), None) if before else None
        try:
            remote = MasterKey.parse_inline(profile, usable.key)
            local = MasterKey.generate(profile) if kept is None else MasterKey.parse_inline(profile, kept.key)
        except SrtpError as error:
            raise Refusal(RefusalKind.BAD_DESCRIPTION, str(error)) from error
        socket.secure(SrtpSession(profile, local, remote))
        ours = CryptoKey(usable.tag, usable.suite, local.inline())
        self._keys[section.kind] = (usable, ours)
        return (ours,)

    def close(self, kind: SectionKind) -> RtpSocket | None:
        """Free a medium's ports; the closed socket still has its counters."""
        socket = self._sockets.pop(kind, None)
        self._keys.pop(kind, None)
        if socket is not None:
            socket.close()
        return socket


def addresses(section: MediaSection) -> tuple[Address, Address]:
    """RTP and RTCP addresses of a description."""
    default = section.port if section.rtcp_mux else section.port + 1
    return (section.address, section.port), (section.address, section.rtcp_port or default)
