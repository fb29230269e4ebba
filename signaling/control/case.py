"""An order under consideration: what the handlers of commands are given, and what they change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from signaling.control.orders import NotNow, Order
from signaling.control.people import People
from signaling.control.state import ControlState, Wish


@dataclass(slots=True)
class Case:
    """An order under consideration."""

    state: ControlState
    people: People
    order: Order
    at: str
    mute: set[str] = field(default_factory=set)
    unmute: set[str] = field(default_factory=set)

    @property
    def whom(self) -> str:
        """The participant that it is about; `decide` saw that there is one."""
        return self.order.participant_id or ""

    @property
    def inside(self) -> list[str]:
        return [key for key in self.people if not self.state.waits(key)]

    @property
    def wish(self) -> Wish:
        return Wish(self.whom, self.at)

    def must_be_inside(self) -> None:
        """Raises NotNow for who waits outside."""
        if self.state.waits(self.whom):
            raise NotNow("that site waits to be admitted")


Handler = Callable[[Case], ControlState]
"""The next state; raises NotNow, NotAllowed. Whom to mute and unmute it leaves in the case."""
