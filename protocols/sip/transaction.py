"""The four transaction machines of RFC 3261 17, with the Accepted states of RFC 6026, as tables.

A machine is driven by messages, by the transaction user's responses and by ``expire(now)``; it answers
with outputs and names its next deadline. It neither sends nor reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Generic, TypeVar

from protocols.sip.message import Message, Request, Response
from protocols.sip.replies import acknowledge_failure, respond

PeerT = TypeVar("PeerT")


@dataclass(frozen=True, slots=True)
class Timing:
    """Base timers in seconds (17.1.1.1): T1 round trip, T2 longest repetition, T4 life in the network."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0
    trying: float = 0.2

    @property
    def timeout(self) -> float:
        """64*T1: how long a transaction waits."""
        return 64 * self.t1


class State(Enum):
    INITIAL = auto()
    CALLING = auto()
    TRYING = auto()
    PROCEEDING = auto()
    ACCEPTED = auto()
    COMPLETED = auto()
    CONFIRMED = auto()
    TERMINATED = auto()


class Timer(Enum):
    """The timers by their letters; TRYING is the 200 ms after which a server sends 100 (RFC 3261 17.2.1)."""

    A = auto()
    B = auto()
    D = auto()
    E = auto()
    F = auto()
    G = auto()
    H = auto()
    I = auto()  # noqa: E741 - the standard's letter
    J = auto()
    K = auto()
    L = auto()
    M = auto()
    TRYING = auto()


class Input(Enum):
    """What moves a machine besides timers: network input for clients and servers, responses of the user."""

    BEGIN = auto()
    REQUEST = auto()
    ACK = auto()
    PROVISIONAL = auto()
    SUCCESS = auto()
    FAILURE = auto()
    TRANSPORT_ERROR = auto()


class Act(Enum):
    SEND_REQUEST = auto()
    SEND_RESPONSE = auto()
    REPEAT_RESPONSE = auto()
    SEND_TRYING = auto()
    SEND_ACK = auto()
    DELIVER = auto()
    REPORT_TIMEOUT = auto()
    REPORT_TRANSPORT_ERROR = auto()


class Kind(Enum):
    INVITE_CLIENT = auto()
    CLIENT = auto()
    INVITE_SERVER = auto()
    SERVER = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """A row's right side: the next state, what to do, the timers to start, the running ones to keep."""

    state: State
    acts: tuple[Act, ...] = ()
    start: tuple[Timer, ...] = ()
    keep: tuple[Timer, ...] = ()


Table = Mapping[tuple[State, Input | Timer], Step]

_END = Step(State.TERMINATED)
_END_TIMEOUT = Step(State.TERMINATED, (Act.REPORT_TIMEOUT,))
_END_ERROR = Step(State.TERMINATED, (Act.REPORT_TRANSPORT_ERROR,))

# RFC 3261 17.1.1.2, figure 5, as corrected by RFC 6026 8.4
_INVITE_CLIENT: Table = {
    (State.INITIAL, Input.BEGIN): Step(State.CALLING, (Act.SEND_REQUEST,), (Timer.A, Timer.B)),
    (State.CALLING, Timer.A): Step(State.CALLING, (Act.SEND_REQUEST,), (Timer.A,), (Timer.B,)),
    (State.CALLING, Timer.B): _END_TIMEOUT,
    (State.CALLING, Input.TRANSPORT_ERROR): _END_ERROR,
    (State.CALLING, Input.PROVISIONAL): Step(State.PROCEEDING, (Act.DELIVER,)),
    (State.CALLING, Input.SUCCESS): Step(State.ACCEPTED, (Act.DELIVER,), (Timer.M,)),
    (State.CALLING, Input.FAILURE): Step(State.COMPLETED, (Act.SEND_ACK, Act.DELIVER), (Timer.D,)),
    (State.PROCEEDING, Input.PROVISIONAL): Step(State.PROCEEDING, (Act.DELIVER,)),
    (State.PROCEEDING, Input.SUCCESS): Step(State.ACCEPTED, (Act.DELIVER,), (Timer.M,)),
    (State.PROCEEDING, Input.FAILURE): Step(State.COMPLETED, (Act.SEND_ACK, Act.DELIVER), (Timer.D,)),
    (State.ACCEPTED, Input.SUCCESS): Step(State.ACCEPTED, (Act.DELIVER,), keep=(Timer.M,)),
    (State.ACCEPTED, Timer.M): _END,
    (State.COMPLETED, Input.FAILURE): Step(State.COMPLETED, (Act.SEND_ACK,), keep=(Timer.D,)),
    (State.COMPLETED, Input.TRANSPORT_ERROR): _END_ERROR,
    (State.COMPLETED, Timer.D): _END,
}

# RFC 3261 17.1.2.2, figure 6
_CLIENT: Table = {
    (State.INITIAL, Input.BEGIN): Step(State.TRYING, (Act.SEND_REQUEST,), (Timer.E, Timer.F)),
    (State.TRYING, Timer.E): Step(State.TRYING, (Act.SEND_REQUEST,), (Timer.E,), (Timer.F,)),
    (State.TRYING, Timer.F): _END_TIMEOUT,
    (State.TRYING, Input.TRANSPORT_ERROR): _END_ERROR,
    (State.TRYING, Input.PROVISIONAL): Step(State.PROCEEDING, (Act.DELIVER,), keep=(Timer.E, Timer.F)),
    (State.TRYING, Input.SUCCESS): Step(State.COMPLETED, (Act.DELIVER,), (Timer.K,)),
    (State.TRYING, Input.FAILURE): Step(State.COMPLETED, (Act.DELIVER,), (Timer.K,)),
    (State.PROCEEDING, Timer.E): Step(State.PROCEEDING, (Act.SEND_REQUEST,), (Timer.E,), (Timer.F,)),
    (State.PROCEEDING, Timer.F): _END_TIMEOUT,
    (State.PROCEEDING, Input.TRANSPORT_ERROR): _END_ERROR,
    (State.PROCEEDING, Input.PROVISIONAL): Step(State.PROCEEDING, (Act.DELIVER,), keep=(Timer.E, Timer.F)),
    (State.PROCEEDING, Input.SUCCESS): Step(State.COMPLETED, (Act.DELIVER,), (Timer.K,)),
    (State.PROCEEDING, Input.FAILURE): Step(State.COMPLETED, (Act.DELIVER,), (Timer.K,)),
    (State.COMPLETED, Timer.K): _END,
}

# RFC 3261 17.2.1, figure 7, as corrected by RFC 6026 8.5 and 8.7
_INVITE_SERVER: Table = {
    (State.INITIAL, Input.BEGIN): Step(State.PROCEEDING, (), (Timer.TRYING,)),
    (State.PROCEEDING, Timer.TRYING): Step(State.PROCEEDING, (Act.SEND_TRYING,)),
    (State.PROCEEDING, Input.REQUEST): Step(State.PROCEEDING, (Act.REPEAT_RESPONSE,), keep=(Timer.TRYING,)),
    (State.PROCEEDING, Input.PROVISIONAL): Step(State.PROCEEDING, (Act.SEND_RESPONSE,)),
    (State.PROCEEDING, Input.SUCCESS): Step(State.ACCEPTED, (Act.SEND_RESPONSE,), (Timer.L,)),
    (State.PROCEEDING, Input.FAILURE): Step(State.COMPLETED, (Act.SEND_RESPONSE,), (Timer.G, Timer.H)),
    (State.PROCEEDING, Input.TRANSPORT_ERROR): Step(State.PROCEEDING, (Act.REPORT_TRANSPORT_ERROR,)),
    (State.ACCEPTED, Input.REQUEST): Step(State.ACCEPTED, keep=(Timer.L,)),
    (State.ACCEPTED, Input.SUCCESS): Step(State.ACCEPTED, (Act.SEND_RESPONSE,), keep=(Timer.L,)),
    (State.ACCEPTED, Input.ACK): Step(State.ACCEPTED, (Act.DELIVER,), keep=(Timer.L,)),
    (State.ACCEPTED, Input.TRANSPORT_ERROR): Step(
        State.ACCEPTED, (Act.REPORT_TRANSPORT_ERROR,), keep=(Timer.L,)
    ),
    (State.ACCEPTED, Timer.L): _END,
    (State.COMPLETED, Input.REQUEST): Step(State.COMPLETED, (Act.REPEAT_RESPONSE,), keep=(Timer.G, Timer.H)),
    (State.COMPLETED, Timer.G): Step(State.COMPLETED, (Act.REPEAT_RESPONSE,), (Timer.G,), (Timer.H,)),
    (State.COMPLETED, Timer.H): _END_TIMEOUT,
    (State.COMPLETED, Input.TRANSPORT_ERROR): Step(
        State.COMPLETED, (Act.REPORT_TRANSPORT_ERROR,), keep=(Timer.G, Timer.H)
    ),
    (State.COMPLETED, Input.ACK): Step(State.CONFIRMED, (), (Timer.I,)),
    (State.CONFIRMED, Input.ACK): Step(State.CONFIRMED, keep=(Timer.I,)),
    (State.CONFIRMED, Input.REQUEST): Step(State.CONFIRMED, keep=(Timer.I,)),
    (State.CONFIRMED, Timer.I): _END,
}

# RFC 3261 17.2.2, figure 8
_SERVER: Table = {
    (State.INITIAL, Input.BEGIN): Step(State.TRYING),
    (State.TRYING, Input.REQUEST): Step(State.TRYING),
    (State.TRYING, Input.PROVISIONAL): Step(State.PROCEEDING, (Act.SEND_RESPONSE,)),
    (State.TRYING, Input.SUCCESS): Step(State.COMPLETED, (Act.SEND_RESPONSE,), (Timer.J,)),
    (State.TRYING, Input.FAILURE): Step(State.COMPLETED, (Act.SEND_RESPONSE,), (Timer.J,)),
    (State.PROCEEDING, Input.REQUEST): Step(State.PROCEEDING, (Act.REPEAT_RESPONSE,)),
    (State.PROCEEDING, Input.PROVISIONAL): Step(State.PROCEEDING, (Act.SEND_RESPONSE,)),
    (State.PROCEEDING, Input.SUCCESS): Step(State.COMPLETED, (Act.SEND_RESPONSE,), (Timer.J,)),
    (State.PROCEEDING, Input.FAILURE): Step(State.COMPLETED, (Act.SEND_RESPONSE,), (Timer.J,)),
    (State.PROCEEDING, Input.TRANSPORT_ERROR): _END_ERROR,
    (State.COMPLETED, Input.REQUEST): Step(State.COMPLETED, (Act.REPEAT_RESPONSE,), keep=(Timer.J,)),
    (State.COMPLETED, Input.TRANSPORT_ERROR): _END_ERROR,
    (State.COMPLETED, Timer.J): _END,
}

TABLES: Mapping[Kind, Table] = {
    Kind.INVITE_CLIENT: _INVITE_CLIENT,
    Kind.CLIENT: _CLIENT,
    Kind.INVITE_SERVER: _INVITE_SERVER,
    Kind.SERVER: _SERVER,
}


@dataclass(frozen=True, slots=True)
class Transmit(Generic[PeerT]):
    """Send this message on the transaction's way; a failure comes back as ``transport_failed``."""

    transaction: Transaction[PeerT]
    message: Message


@dataclass(frozen=True, slots=True)
class Deliver(Generic[PeerT]):
    """For the transaction user: a response to its request, or the ACK of its 2xx."""

    transaction: Transaction[PeerT]
    message: Message


class Trouble(Enum):
    TIMEOUT = auto()
    TRANSPORT = auto()


@dataclass(frozen=True, slots=True)
class Failed(Generic[PeerT]):
    """The peer stayed silent for 64*T1, or the transport gave up."""

    transaction: Transaction[PeerT]
    trouble: Trouble


@dataclass(frozen=True, slots=True)
class Finished(Generic[PeerT]):
    """The transaction is over and forgotten."""

    transaction: Transaction[PeerT]


Output = Transmit[PeerT] | Deliver[PeerT] | Failed[PeerT] | Finished[PeerT]
TransactionKey = tuple[str, ...]


class Transaction(Generic[PeerT]):
    """One transaction. ``peer`` is where it came from or goes to; it is carried, never looked at."""

    __slots__ = (
        "_doublings",
        "_reliable",
        "_timers",
        "_timing",
        "key",
        "kind",
        "peer",
        "request",
        "response",
        "state",
    )

    def __init__(
        self, kind: Kind, key: TransactionKey, request: Request, peer: PeerT, reliable: bool, timing: Timing
    ) -> None:
        self.kind = kind
        self.key = key
        self.request = request
        self.peer = peer
        self.response: Response | None = None
        self.state = State.INITIAL
        self._reliable = reliable
        self._timing = timing
        self._timers: dict[Timer, float] = {}
        self._doublings = 0

    @property
    def is_server(self) -> bool:
        return self.kind in (Kind.INVITE_SERVER, Kind.SERVER)

    def next_deadline(self) -> float | None:
        return min(self._timers.values(), default=None)

    def begin(self, now: float) -> list[Output[PeerT]]:
        """Start: a client sends its request, a server waits for its user."""
        return self._step(Input.BEGIN, None, now)

    def receive(self, message: Message, now: float) -> list[Output[PeerT]]:
        """Input from the network: a response for a client, a repeated request or an ACK for a server."""
        if isinstance(message, Response):
            return self._step(_class_of(message), message, now)
        return self._step(Input.ACK if message.method == "ACK" else Input.REQUEST, message, now)

    def respond(self, response: Response, now: float) -> list[Output[PeerT]]:
        """The user's response. One the state no longer takes is dropped: the peer has its answer."""
        return self._step(_class_of(response), response, now)

    def transport_failed(self, now: float) -> list[Output[PeerT]]:
        return self._step(Input.TRANSPORT_ERROR, None, now)

    def expire(self, now: float) -> list[Output[PeerT]]:
        """Run the timers that are due."""
        outputs: list[Output[PeerT]] = []
        while True:
            due = [(when, timer) for timer, when in self._timers.items() if when <= now]
            if not due:
                return outputs
            timer = min(due, key=lambda entry: entry[0])[1]
            del self._timers[timer]
            outputs += self._step(timer, None, now)

    def _step(self, trigger: Input | Timer, message: Message | None, now: float) -> list[Output[PeerT]]:
        step = TABLES[self.kind].get((self.state, trigger))
        if step is None:
            return []
        changed = self.state is not step.state
        self.state = step.state
        self._timers = {timer: when for timer, when in self._timers.items() if timer in step.keep}
        if changed:
            self._doublings = 0
        for timer in step.start:
            self._start(timer, now)
        outputs: list[Output[PeerT]] = []
        for act in step.acts:
            outputs += self._act(act, message)
        if self.is_server and changed and self.state in (State.ACCEPTED, State.COMPLETED):
            self.request = replace(self.request, body=b"")  # an offer of 60 kB is not kept for 32 s more
        if self.state is State.TERMINATED:
            outputs.append(Finished(self))
        return outputs

    def _act(self, act: Act, message: Message | None) -> list[Output[PeerT]]:
        match act:
            case Act.SEND_REQUEST:
                return [Transmit(self, self.request)]
            case Act.SEND_RESPONSE if isinstance(message, Response):
                # A 2xx is repeated by the transaction user, never from here (RFC 6026 7.1).
                self.response = None if self.state is State.ACCEPTED else message
                return [Transmit(self, message)]
            case Act.REPEAT_RESPONSE if self.response is not None:
                return [Transmit(self, self.response)]
            case Act.SEND_TRYING:
                self.response = respond(self.request, 100)
                return [Transmit(self, self.response)]
            case Act.SEND_ACK if isinstance(message, Response):
                return [Transmit(self, acknowledge_failure(self.request, message))]
            case Act.DELIVER if message is not None:
                return [Deliver(self, message)]
            case Act.REPORT_TIMEOUT:
                return [Failed(self, Trouble.TIMEOUT)]
            case Act.REPORT_TRANSPORT_ERROR:
                return [Failed(self, Trouble.TRANSPORT)]
        return []

    def _start(self, timer: Timer, now: float) -> None:
        timing = self._timing
        if timer in (Timer.A, Timer.E, Timer.G):
            if self._reliable:
                return
            interval = timing.t1 * 2**self._doublings
            if timer is not Timer.A:
                interval = timing.t2 if self.state is State.PROCEEDING else min(interval, timing.t2)
            self._doublings += 1
        elif timer is Timer.TRYING:
            interval = timing.trying
        elif timer in (Timer.B, Timer.F, Timer.H, Timer.L, Timer.M):
            interval = timing.timeout
        elif self._reliable:
            interval = 0.0  # D, I, J, K: nothing can come late on a stream
        elif timer in (Timer.I, Timer.K):
            interval = timing.t4
        else:
            interval = timing.timeout  # D (at least 32 s) and J
        self._timers[timer] = now + interval


def _class_of(response: Response) -> Input:
    if response.status < 200:
        return Input.PROVISIONAL
    return Input.SUCCESS if response.status < 300 else Input.FAILURE
