"""The transactions of one participant with a floor control server (RFC 8855 8): answers and announcements.

Over a stream nothing is kept: it delivers. Over datagrams the answer to a request is kept for who asks twice
(8.3.2), and what we announce is sent again until it is acknowledged (8.3.1), one after the other, so that
announcements do not overtake one another.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from protocols.bfcp.attributes import Attribute
from protocols.bfcp.fragments import Reassembly
from protocols.bfcp.message import Header, Message, Primitive

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

    `fragments` are what came of a large message.
    """

    def __init__(self, conference_id: int, user_id: int, *, reliable: bool, first: int = 1) -> None:
        self.reliable = reliable
        self.outgoing: list[bytes] = []
        self._conference_id = conference_id
        self._user_id = user_id
        self._next = first
        self.fragments = Reassembly()
        self._answers: OrderedDict[tuple[int, int], tuple[float, bytes]] = OrderedDict()
        self._waiting: list[_Announced] = []

    def repeat(self, header: Header, now: float) -> bool:
        """Answer a request that came before as then; False for a new one."""
        known = self._answers.get((header.transaction_id, header.primitive))
        if known is None or self.reliable or now - known[0] >= T2:
            return False
        self.outgoing.append(known[1])
        return True

    def respond(self, primitive: int, answer: Message, now: float) -> None:
        """Answer a request of that primitive."""
        printed = answer.print(reliable=self.reliable)
        self.outgoing.append(printed)
        if not self.reliable:
            self._answers[answer.transaction_id, primitive] = (now, printed)
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
            self.outgoing.append(message.print())
        return True

    def acknowledged(self, header: Header, now: float) -> None:
        """The next announcement goes once the one before has arrived."""
        waiting = self._waiting
        if not waiting or waiting[0].message.transaction_id != header.transaction_id:
            return
        del waiting[0]
        if waiting:
            waiting[0].due = now + T1
            self.outgoing.append(waiting[0].message.print())

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
        self.outgoing.append(first.message.print())
        return True

    def forget(self) -> None:
        """The peer said goodbye: nothing more is announced to it."""
        self._waiting.clear()
