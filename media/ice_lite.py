"""ICE-lite (RFC 8445 2.5): one UDP port for all browser sessions of a worker on one network.

    ice = IceLiteSocket.open(bind="10.0.0.5", port=49000, advertised=("203.0.113.7",), dscp=34)
    session = ice.open_session(user)                # user: IceUser; inside a running event loop
    session.credentials                             # IceCredentials(ufrag, pwd) for our description
    [str(c) for c in ice.candidates]                # values of a=candidate
    session.restart()                               # new IceCredentials; the old path serves meanwhile
    session.send([datagram, ...]); session.selected; session.last_consent; session.close()

A lite agent never sends checks: it answers those that prove our password, and media goes to the address
whose check came last with USE-CANDIDATE (before any did: to the first that was checked). A peer that changes
its address therefore keeps its session. Datagrams are told apart by their first byte (RFC 7983), given to
sessions by the source address of their checks, and dropped and counted when no check vouches for it. Consent
(RFC 7675) is ours to watch: `last_consent` ages when the peer has gone; its owner decides.
"""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from media.datagrams import DatagramSender, drain, open_udp_socket, udp_overhead
from media.transport import Address, WireCounters
from protocols.stun import (
    BINDING,
    ErrorCode,
    IceControlled,
    StunAttribute,
    StunClass,
    StunError,
    StunMessage,
    UnknownAttributes,
    UseCandidate,
    Username,
    XorMappedAddress,
)

MAX_ADDRESSES = 16
"""Checked addresses kept for one session; beyond, the one longest unheard is forgotten."""

_ICE_CHARS = string.ascii_letters + string.digits + "+/"
_HOST_TYPE_PREFERENCE = 126


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """RFC 8839 5.4: a=ice-ufrag and a=ice-pwd."""

    ufrag: str
    pwd: str

    @classmethod
    def generate(cls) -> IceCredentials:
        """48 bits of name and 144 of password (RFC 8445 5.3 asks for 24 and 128)."""
        return cls(*("".join(secrets.choice(_ICE_CHARS) for _ in range(length)) for length in (8, 24)))


@dataclass(frozen=True, slots=True)
class HostCandidate:
    """RFC 8839 5.1, a host candidate of component 1 over UDP; `str()` is the attribute's value."""

    foundation: str
    priority: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.foundation} 1 udp {self.priority} {self.host} {self.port} typ host"


class IceUser(Protocol):
    """Whom a session serves. `arrival` is monotonic seconds."""

    def dtls_received(self, data: bytes) -> None: ...

    def srtp_received(self, data: bytes, source: Address, arrival: float) -> None: ...

    def path_selected(self, address: Address) -> None:
        """What is sent goes there from now on: the first checked address, then each newly nominated one."""
        ...


class IceLiteSocket:
    """See the module's head."""

    def __init__(self, sock: Any, advertised: Sequence[str]) -> None:
        self.counters = WireCounters()
        """Everything on this port; `rejected` counts what belonged to no session or proved nothing."""
        self.port: int = sock.getsockname()[1]
        self.candidates = tuple(
            HostCandidate(str(n + 1), _HOST_TYPE_PREFERENCE << 24 | (65535 - n) << 8 | 255, host, self.port)
            for n, host in enumerate(advertised)
        )
        self.overhead = udp_overhead(sock)
        self._sock = sock
        self._by_ufrag: dict[str, IceSession] = {}
        self._by_address: dict[Address, IceSession] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    @classmethod
    def open(cls, *, bind: str, port: int, advertised: Sequence[str], dscp: int = 0) -> IceLiteSocket:
        """Binds `port` (0: any) on a numeric address; peers are told the advertised ones. Raises OSError."""
        if not advertised:
            raise ValueError("an ICE port needs at least one advertised address")
        return cls(open_udp_socket(bind, port, dscp=dscp), advertised)

    def open_session(self, user: IceUser, credentials: IceCredentials | None = None) -> IceSession:
        """A session waiting for its peer's checks."""
        session = IceSession(self, user, DatagramSender(self._sock), credentials or IceCredentials.generate())
        self._by_ufrag[session.credentials.ufrag] = session
        return session

    def close(self) -> None:
        """Closes the port and every session on it."""
        if self._sock.fileno() < 0:
            return
        for session in set(self._by_ufrag.values()):
            session.close()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    @property
    def closed(self) -> bool:
        return bool(self._sock.fileno() < 0)

    def _readable(self) -> None:
        counters, overhead = self.counters, self.overhead
        for data, raw in drain(self._sock):
            arrival = time.monotonic()
            counters.datagrams_received += 1
            counters.bytes_received += len(data) + overhead
            source: Address = (raw[0], raw[1])
            first = data[0] if data else 255
            if first < 4:
                self._stun_received(data, source, arrival)
                continue
            session = self._by_address.get(source)
            if session is None:
                counters.rejected += 1
                continue
            session.count_received(len(data) + overhead)
            if 128 <= first < 192:
                session.user.srtp_received(data, source, arrival)
            elif 20 <= first < 64:
                session.user.dtls_received(data)
            else:
                session.counters.rejected += 1

    def _stun_received(self, data: bytes, source: Address, arrival: float) -> None:
        """Only a request that proves the password of the session it names is answered at all."""
        try:
            message = StunMessage.parse(data)
        except StunError:
            self.counters.rejected += 1
            return
        username = message.first(Username)
        ufrag = username.name.partition(":")[0] if username else ""
        session = self._by_ufrag.get(ufrag)
        if (
            message.message_class is not StunClass.REQUEST
            or session is None
            or not message.authenticated_by(session.password_of(ufrag))
        ):
            self.counters.rejected += 1
            return
        session.count_received(len(data) + self.overhead)
        session.check_received(message, ufrag, source, arrival)

    def rename(self, session: IceSession, old: str | None, new: str | None) -> None:
        """Forgets one user name of a session, learns another."""
        if old is not None and self._by_ufrag.get(old) is session:
            del self._by_ufrag[old]
        if new is not None:
            self._by_ufrag[new] = session

    def claim(self, session: IceSession, address: Address) -> None:
        """A check proved that this address is the session's: whoever had it before has it no more."""
        former = self._by_address.get(address)
        if former is not None and former is not session:
            former.forget(address)
        self._by_address[address] = session

    def release(self, session: IceSession, address: Address) -> None:
        if self._by_address.get(address) is session:
            del self._by_address[address]


class IceSession:
    """One peer on the shared port. Made by `IceLiteSocket.open_session`."""

    def __init__(
        self, socket: IceLiteSocket, user: IceUser, sender: DatagramSender, credentials: IceCredentials
    ) -> None:
        self.user = user
        self.credentials = credentials
        """The newest, for our description."""
        self.counters = WireCounters()
        self.selected: Address | None = None
        self.nominated = False
        self.last_consent: float | None = None
        """Monotonic seconds of the last check that proved our password."""
        self._socket = socket
        self._sender = sender
        self._serving = credentials
        self._addresses: dict[Address, float] = {}

    @property
    def candidates(self) -> tuple[HostCandidate, ...]:
        return self._socket.candidates

    @property
    def overhead(self) -> int:
        """Bytes of IP and UDP headers."""
        return self._socket.overhead

    def restart(self) -> IceCredentials:
        """RFC 8445 9: new credentials for the next description. The former ones hold until a check under
        the new ones nominates a path, so that media goes on meanwhile."""
        if self.credentials != self._serving:
            self._socket.rename(self, self.credentials.ufrag, None)
        self.credentials = IceCredentials.generate()
        self._socket.rename(self, None, self.credentials.ufrag)
        return self.credentials

    def send(self, datagrams: Sequence[bytes]) -> None:
        """To the selected path; before there is one they are refused and counted."""
        if self.selected is None or self._socket.closed:
            self.counters.send_refused += len(datagrams)
            return
        self._transmit(datagrams, self.selected)

    def close(self) -> None:
        self.selected = None
        for credentials in (self._serving, self.credentials):
            self._socket.rename(self, credentials.ufrag, None)
        for address in self._addresses:
            self._socket.release(self, address)
        self._addresses.clear()

    def password_of(self, ufrag: str) -> bytes:
        credentials = self.credentials if ufrag == self.credentials.ufrag else self._serving
        return credentials.pwd.encode()

    def count_received(self, length: int) -> None:
        self.counters.datagrams_received += 1
        self.counters.bytes_received += length

    def forget(self, address: Address) -> None:
        """Another session has proved that this address is its own."""
        self._addresses.pop(address, None)
        if address == self.selected:
            self.selected, self.nominated = None, False

    def check_received(self, message: StunMessage, ufrag: str, source: Address, arrival: float) -> None:
        """RFC 8445 7.3, for a request whose integrity was found right."""
        refusal = _refusal(message)
        if refusal is not None:
            self._answer(message, StunClass.ERROR, refusal, ufrag, source)
            return
        self.last_consent = arrival
        self._remember(source, arrival)
        self._answer(message, StunClass.SUCCESS, (XorMappedAddress(*source),), ufrag, source)
        if message.first(UseCandidate) is not None:
            self.nominated = True
            if ufrag == self.credentials.ufrag and self._serving != self.credentials:
                self._socket.rename(self, self._serving.ufrag, None)
                self._serving = self.credentials
            self._select(source)
        elif self.selected is None:
            self._select(source)

    def _answer(
        self,
        request: StunMessage,
        answer: StunClass,
        attributes: tuple[StunAttribute, ...],
        ufrag: str,
        source: Address,
    ) -> None:
        response = StunMessage(request.method, answer, request.transaction_id, attributes)
        self._transmit((response.to_bytes(self.password_of(ufrag)),), source)

    def _transmit(self, datagrams: Sequence[bytes], address: Address) -> None:
        ours, all_together = self.counters, self._socket.counters
        sent, length = ours.datagrams_sent, ours.bytes_sent
        self._sender.send(datagrams, address, ours)
        all_together.datagrams_sent += ours.datagrams_sent - sent
        all_together.bytes_sent += ours.bytes_sent - length

    def _remember(self, address: Address, arrival: float) -> None:
        self._addresses[address] = arrival
        self._socket.claim(self, address)
        if len(self._addresses) > MAX_ADDRESSES:
            spare = (a for a in self._addresses if a not in (self.selected, address))
            oldest = min(spare, key=self._addresses.__getitem__)
            del self._addresses[oldest]
            self._socket.release(self, oldest)

    def _select(self, address: Address) -> None:
        if address != self.selected:
            self.selected = address
            self.user.path_selected(address)


def _refusal(message: StunMessage) -> tuple[StunAttribute, ...] | None:
    """Why an authenticated request is answered by an error, as the error's attributes."""
    unknown = message.unknown_required()
    if unknown:
        return ErrorCode(420, "Unknown Attribute"), UnknownAttributes(unknown)
    if message.method != BINDING:
        return (ErrorCode(400, "Only Binding is served here"),)
    if message.first(IceControlled) is not None:  # RFC 8445 6.1.1: a lite agent is always the controlled one
        return (ErrorCode(487, "Role Conflict"),)
    return None
