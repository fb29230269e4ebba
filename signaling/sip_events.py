"""What a SIP call tells its owner, and what outlives it: frozen values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol

from protocols.sip.dialog import DialogState
from protocols.sip.message import Request
from protocols.sip.session_timer import SessionAgreement
from signaling.sip_listener import Transport


class EndCause(Enum):
    """Why a call is over."""

    REMOTE_BYE = "the peer hung up"
    LOCAL_BYE = "we hung up"
    NO_ACK = "the peer never acknowledged our answer"
    SESSION_EXPIRED = "nobody refreshed the session"
    PEER_GONE = "the peer no longer knows the call or does not answer"


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of a call. ``text`` is the peer's Reason header or a word of ours."""

    cause: EndCause
    text: str = ""


@dataclass(frozen=True, slots=True)
class InfoReceived:
    """An INFO, answered 200 already. ``content_type``: ``type/subtype`` in lower case, "" if none."""

    content_type: str
    body: bytes
    request: Request


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The session was refreshed without a new description."""

    by_peer: bool


class OfferTaker(Protocol):
    """Answers one re-INVITE or UPDATE of the peer's."""

    def answer(self, sdp: bytes | None) -> Awaitable[bytes | None]: ...

    def refuse(self, status: int, reason: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Reinvited:
    """The peer asks for other media; ``offer`` None (INVITE only) asks us to offer.

    Answer soon: after some seconds without one the peer is told 500 and the session stays as it was.
    """

    method: Literal["INVITE", "UPDATE"]
    offer: bytes | None
    request: Request
    taker: OfferTaker = field(repr=False, compare=False)

    def answer(self, sdp: bytes | None) -> Awaitable[bytes | None]:
        """Accept, with our answer (or our offer), at once. Awaiting the result gives the SDP in the ACK,
        which is the peer's answer when the offer was ours. Raises ReinviteRefused when it is too late."""
        return self.taker.answer(sdp)

    def refuse(self, status: int = 488, reason: str | None = None) -> None:
        """Keep the session as it was."""
        self.taker.refuse(status, reason)


@dataclass(frozen=True, slots=True)
class Referred:
    """The peer sent a REFER, which waits for ``accept`` or ``refuse``; NOTIFYs go by ``Call.notify``."""

    request: Request
    answer: Callable[[int, str | None, tuple[tuple[str, str], ...]], object] = field(
        repr=False, compare=False
    )

    def accept(self, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """202: what was asked is being done."""
        self.answer(202, None, headers)

    def refuse(self, status: int, reason: str | None = None) -> None:
        self.answer(status, reason, ())


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """A key that came in the call's media (RFC 4733), told by whoever holds them. It may be part of a PIN."""

    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MediaLost:
    """The call's media are gone and cannot be had again; told by whoever held them."""

    reason: str


CallEvent = Reinvited | InfoReceived | Refreshed | Referred | KeyPressed | MediaLost | Ended


class CallCancelled(Exception):
    """The caller gave up before the call was answered."""


class CallOver(Exception):
    """The call has ended; ``ended`` says why."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.cause.value)
        self.ended = ended


class ReinviteRefused(Exception):
    """The peer keeps the session as it was; ``status`` 408 also stands for no answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CallSnapshot:
    """A call at rest: enough to go on with it in another process.

    ``session_left`` is the seconds the session still had when the snapshot was taken, None without a timer.
    """

    dialog: DialogState
    network: str
    transport: Transport
    host: str
    port: int
    behind_nat: bool
    adjacent: bool
    local_sdp: bytes | None
    remote_sdp: bytes | None
    session: SessionAgreement | None
    session_left: float | None
    peer_allows: frozenset[str]
