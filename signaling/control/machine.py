"""The state machine of meeting control. Pure: an order and the people there give the next state.

decision = decide(state, people, order, at)       raises NotAllowed, NotNow, Outdated
decision.state; decision.mute, .unmute: whom; decision.drop; decision.end

What becomes of a state when somebody comes or goes is in `people`, of its polling in `polling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from signaling.control import chair_and_floor, roll_calls, site_media, views
from signaling.control.case import Case, Handler
from signaling.control.orders import (
    ABOUT_ONE,
    OF_A_SITE,
    WISHES,
    Command,
    NotAllowed,
    NotNow,
    Order,
    Outdated,
)
from signaling.control.people import People
from signaling.control.state import ControlState, Mode, without


@dataclass(frozen=True, slots=True)
class Decision:
    state: ControlState
    mute: frozenset[str] = frozenset()
    unmute: frozenset[str] = frozenset()
    drop: str | None = None
    end: bool = False


_INTO = {
    Command.MOSAIC: Mode.FREE,
    Command.FULL_SCREEN: Mode.FREE,
    Command.BROADCAST: Mode.BROADCAST,
    Command.LECTURE: Mode.LECTURE,
    Command.POLL: Mode.POLLING,
    Command.ROLL_CALL: Mode.ROLL_CALL,
}
MODES: dict[tuple[Mode, Command], Mode] = {
    **{
        (mode, command): into
        for mode in Mode
        if mode is not Mode.ROLL_CALL
        for command, into in _INTO.items()
    },
    **{(mode, Command.STOP): Mode.FREE for mode in Mode if mode is not Mode.FREE},
    (Mode.POLLING, Command.POLL_NEXT): Mode.POLLING,
    (Mode.LECTURE, Command.POLL_NEXT): Mode.LECTURE,
    (Mode.ROLL_CALL, Command.ROLL_CALL_NEXT): Mode.ROLL_CALL,
    (Mode.ROLL_CALL, Command.ROLL_CALL_MARK): Mode.ROLL_CALL,
}
"""Mode and command give the next mode; what is not here is refused. Other commands are good in every mode."""
_OF_MODES = {command for _mode, command in MODES}


def decide(state: ControlState, people: People, order: Order, at: str) -> Decision:
    """`at` is the time in ISO 8601. Raises NotAllowed, NotNow, Outdated."""
    _check(state, people, order)
    case = Case(state, people, order, at)
    mode = state.mode
    if order.command in _OF_MODES:
        into = MODES.get((mode, order.command))
        if into is None:
            raise NotNow(f"{order.command} is not possible: {_REASONS.get(mode, f'the mode is {mode}')}")
        mode = into
    after = _HANDLERS[order.command](case)
    if mode is not state.mode:
        after = _entered(case, after, mode)
    if after.slides is not None and after.keeps_slides_from(after.slides) is not None:
        after = replace(after, slides=None)
    if order.command not in WISHES:
        after = after.decided(order.command, order.by, at, order.participant_id)
    drop = order.participant_id if order.command is Command.DROP else None
    muted = {key for key in case.mute if not people[key].muted}
    heard = {key for key in case.unmute - case.mute if key in people and people[key].muted}
    return Decision(after, frozenset(muted), frozenset(heard), drop, order.command is Command.END)


_REASONS = {Mode.ROLL_CALL: "a roll call is under way, stop it first", Mode.FREE: "nothing of the kind is on"}


def _check(state: ControlState, people: People, order: Order) -> None:
    if order.site is not None and order.site != state.chair:
        if order.command not in OF_A_SITE:
            raise NotAllowed(f"{order.command} needs the chair, which this site does not have")
        if order.participant_id != order.site:
            raise NotAllowed("a site without the chair decides for itself only")
        if state.waits(order.site):
            raise NotAllowed("this site waits to be admitted")
    if order.version is not None and order.version != state.version:
        changes = "; ".join(f"{c.command} by {c.by}" for c in state.since(order.version))
        raise Outdated(
            f"the meeting is at version {state.version}, not {order.version}: {changes}", state.version
        )
    for participant_id in (order.participant_id, order.target_id):
        called = state.roll_call is not None and order.command in (
            Command.ROLL_CALL_MARK,
            Command.ROLL_CALL_NEXT,
        )
        if participant_id is not None and participant_id not in people and not called:
            raise NotNow(f"participant {participant_id} is not in the meeting")
    if order.command in ABOUT_ONE and order.participant_id is None:
        raise NotNow(f"{order.command} needs a participant")


def _entered(case: Case, after: ControlState, mode: Mode) -> ControlState:
    """What is left of the mode before goes."""
    before = case.state
    if before.roll_call is not None and mode is not Mode.ROLL_CALL:
        case.unmute.update(before.roll_call.heard_before)
        after = replace(after, roll_call=None)
    if mode not in (Mode.POLLING, Mode.LECTURE):
        after = replace(after, polling=None)
    if mode in (Mode.FREE, Mode.POLLING):
        after = replace(after, subject=None)
    return replace(after, mode=mode)


def _lobby(case: Case) -> ControlState:
    """Who waits already goes on to wait."""
    return replace(case.state, lobby=case.order.lobby)


def _admit(case: Case) -> ControlState:
    if not case.state.waits(case.whom):
        raise NotNow("this site does not wait to be admitted")
    return replace(case.state, waiting=without(case.state.waiting, case.whom))


def _banner(case: Case) -> ControlState:
    return replace(case.state, banner=case.order.text.strip(), banner_everywhere=case.order.on)


def _same(case: Case) -> ControlState:
    return case.state


_HANDLERS: Mapping[Command, Handler] = MappingProxyType(
    {
        **views.HANDLERS,
        **roll_calls.HANDLERS,
        **chair_and_floor.HANDLERS,
        **site_media.HANDLERS,
        Command.LOCK: lambda case: replace(case.state, locked=True),
        Command.UNLOCK: lambda case: replace(case.state, locked=False),
        Command.LOBBY: _lobby,
        Command.ADMIT: _admit,
        Command.ADMIT_ALL: lambda case: replace(case.state, waiting=()),
        Command.BANNER: _banner,
        Command.DROP: _same,
        Command.END: _same,
    }
)
"""Those of the meeting as a whole stand here, the others with what they share."""
