"""A roll call: who is called, who answers, and who is heard meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from foundation.schema import new_id
from signaling.control.case import Case, Handler
from signaling.control.orders import Command, NotNow
from signaling.control.state import ControlState, Mark, RollCall, RollCallEntry, marked


def _roll_call(case: Case) -> ControlState:
    """In the order given, else of joining; the chair calls and is not called."""
    state = case.state
    order = case.order.order or tuple(key for key in case.inside if key != state.chair)
    unknown = [key for key in order if key not in case.people]
    if unknown or not order:
        raise NotNow("there is nobody to call" if not order else f"{unknown[0]} is not in the meeting")
    entries = tuple(
        RollCallEntry(key, case.people[key].name, case.people[key].site_id) for key in dict.fromkeys(order)
    )
    heard = tuple(key for key, person in case.people.items() if not person.muted)
    case.mute.update(key for key in case.people if key != state.chair)
    call = RollCall(new_id(), case.at, case.order.by, entries, heard)
    return replace(state, roll_call=call, subject=None, floor=None)


def _roll_call_next(case: Case) -> ControlState:
    """The one named, else the next who was not called; is shown to all and heard beside the chair."""
    state, call = case.state, case.state.roll_call
    assert call is not None
    waiting = [
        e.participant_id for e in call.entries if e.mark is Mark.WAITING and e.participant_id in case.people
    ]
    whom = case.order.participant_id or next(iter(waiting), None)
    if whom is None:
        raise NotNow("everybody has been called")
    if whom not in case.people or all(e.participant_id != whom for e in call.entries):
        raise NotNow(f"participant {whom} is not on the list, or is not there")
    entries = tuple(
        replace(e, mark=Mark.CALLED if e.mark in (Mark.WAITING, Mark.CALLED) else e.mark, called_at=case.at)
        if e.participant_id == whom
        else e
        for e in call.entries
    )
    case.unmute.add(whom)
    case.mute.update(key for key in case.people if key not in (whom, state.chair))
    return replace(state, roll_call=replace(call, entries=entries), subject=whom)


def _roll_call_mark(case: Case) -> ControlState:
    call, order = case.state.roll_call, case.order
    assert call is not None
    if order.mark not in (Mark.PRESENT, Mark.ABSENT):
        raise NotNow("a site is marked present or absent")
    if all(entry.participant_id != case.whom for entry in call.entries):
        raise NotNow(f"participant {case.whom} is not on the list")
    return replace(case.state, roll_call=marked(call, case.whom, order.mark, order.by, case.at))


HANDLERS: Mapping[Command, Handler] = MappingProxyType(
    {
        Command.ROLL_CALL: _roll_call,
        Command.ROLL_CALL_NEXT: _roll_call_next,
        Command.ROLL_CALL_MARK: _roll_call_mark,
    }
)
