"""How a call of ours goes, from its INVITE to an answer: frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.sip.message import Headers
from signaling.sip_call import Call


@dataclass(frozen=True, slots=True)
class Provisional:
    """A 101 to 199 of an outgoing call; ``sdp`` is early media, if any."""

    status: int
    reason: str
    sdp: bytes | None


@dataclass(frozen=True, slots=True)
class Answered:
    """An outgoing call is up. ``sdp`` is the answer; to an offerless call it is the callee's offer, and
    ``call.acknowledge(our_answer)`` has to follow."""

    call: Call
    sdp: bytes | None


@dataclass(frozen=True, slots=True)
class Refused:
    """An outgoing call failed. ``local``: no response; it stands for a timeout, a dead way or our CANCEL."""

    status: int
    reason: str
    headers: Headers = Headers()  # noqa: RUF009 - one frozen value for all does no harm
    local: bool = False


Progress = Provisional | Answered | Refused
