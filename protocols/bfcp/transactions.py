"""The transactions of one participant with a floor control server (RFC 8855 8): answers and announcements.

Over a stream nothing is kept: it delivers. Over datagrams the answer to a request is kept for who asks twice
(8.3.2), and what we announce is sent again until it is acknowledged (8.3.1), one after the other, so that
announcements do not overtake one another.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace

from protocols.bfcp.attributes import Attribute
from protocols.bfcp.fragments import Reassembly
from protocols.bfcp.message import OVER_DATAGRAMS, TAKEN_OVER_DATAGRAMS, Header, Message, Primitive

T1 = 0.5
"""Seconds until what we announce is sent again; each further wait is twice as long (8.3.1)."""
RETRANSMISSIONS = 3
T2 = 10.0
"""Seconds that an answer is kept for a request that comes again (8.3.2)."""
ANSWERS_KEPT = 32
WAITING = 16
"""Announcements that wait for their acknowledgement at most."""


@dataclass(slots=True)
class _Announced:
    """A message of ours on its way; `due` is when it is sent again."""

    message: Message
    due: float
    wait: float = T1
    sent: int = 1


class Transactions:
    """Of `user_id` in a conference. `outgoing` is what is to be sent now; whoever sends it empties it.

    `fragments` are what came of a large message. `version` is that of what we announce over datagrams: the
    one that the peer was heard with last.
    """

    def __init__(
        self,
        conference_id: int,
        user_id: int,
        *,
        reliable: bool,
        first: int = 1,
        version: int = OVER_DATAGRAMS,
    ) -> None:
        self.reliable = reliable
        self.version = version
        self.was_heard = False
        self.outgoing: list[bytes] = []
        self._conference_id = conference_id
        self._user_id = user_id
        self._next = first
        self.fragments = Reassembly()
        self._answers: OrderedDict[tuple[int, int, int], tuple[float, bytes]] = OrderedDict()
        self._waiting: list[_Announced] = []
        self._announced: deque[int] = deque(maxlen=WAITING)

    def hear(self, header: Header) -> None:
        """Something came from the peer, in its version of the header."""
        if header.version in TAKEN_OVER_DATAGRAMS:
            self.version, self.was_heard = header.version, True

    def repeat(self, header: Header, now: float) -> bool:
        """Answer a request that came before as then; False for a new one."""
        known = self._answers.get((header.version, header.transaction_id, header.primitive))
        if known is None or self.reliable or now - known[0] >= T2:
            return False
        self.outgoing.append(known[1])
        return True

    def respond(self, asked: Header | Message, answer: Message, now: float) -> None:
        """Answer that request."""
        printed = answer.print(reliable=self.reliable)
        self.outgoing.append(printed)
        if not self.reliable:
            self._answers[asked.version, asked.transaction_id, asked.primitive] = (now, printed)
            while len(self._answers) > ANSWERS_KEPT:
                self._answers.popitem(last=False)

    def announce(self, primitive: Primitive, attributes: tuple[Attribute, ...], now: float) -> bool:
        """Tell of something; False, and nothing waits any more, when too much is unacknowledged."""
        if self.reliable:
            message = Message(primitive, self._conference_id, 0, self._user_id, attributes)
            self.outgoing.append(message.print(reliable=True))
            return True
        number = self._next
        self._next = number % 0xFFFF + 1
        message = Message(primitive, self._conference_id, number, self._user_id, attributes)
        if len(self._waiting) >= WAITING:
            self._waiting.clear()
            return False
        self._waiting.append(_Announced(message, now + T1))
        if len(self._waiting) == 1:
            self._send(message)
        return True

    def has_announced(self, number: int) -> bool:
        """Whether a transaction of that number was ours, not long ago: its acknowledgement may come twice."""
        return number in self._announced

    def acknowledged(self, header: Header, now: float) -> None:
        """The next announcement goes once the one before has arrived."""
        waiting = self._waiting
        if not waiting or waiting[0].message.transaction_id != header.transaction_id:
            return
        del waiting[0]
        if waiting:
            waiting[0].due = now + T1
            self._send(waiting[0].message)

    def tick(self, now: float) -> bool:
        """Send again what was not acknowledged; False when it is given up, with all that waits."""
        if not self._waiting or self._waiting[0].due > now:
            return True
        first = self._waiting[0]
        if first.sent > RETRANSMISSIONS:
            self._waiting.clear()
            return False
        first.sent += 1
        first.wait *= 2
        first.due = now + first.wait
        self._send(first.message)
        return True

    def forget(self) -> None:
        """The peer said goodbye: nothing more is announced to it."""
        self._waiting.clear()

    def _send(self, message: Message) -> None:
        """An announcement; one that is repeated has the version that the peer has been heard with since."""
        if message.transaction_id not in self._announced:
            self._announced.append(message.transaction_id)
        self.outgoing.append(replace(message, version=self.version).print())
