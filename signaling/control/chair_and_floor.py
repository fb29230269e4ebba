"""Who presides and who speaks: wishes for chair and floor, and how they are granted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from signaling.control.case import Case, Handler
from signaling.control.orders import Command, NotNow
from signaling.control.state import ControlState, without


def _request_chair(case: Case) -> ControlState:
    state = case.state
    if state.chair == case.whom:
        raise NotNow("this site has the chair")
    return replace(state, chair_wishes=(*without(state.chair_wishes, case.whom), case.wish))


def _withdraw_chair(case: Case) -> ControlState:
    return replace(case.state, chair_wishes=without(case.state.chair_wishes, case.whom))


def _grant_chair(case: Case) -> ControlState:
    case.must_be_inside()
    return replace(case.state, chair=case.whom, chair_wishes=without(case.state.chair_wishes, case.whom))


def _release_chair(case: Case) -> ControlState:
    state, site = case.state, case.order.site
    if state.chair is None or (site is not None and site != state.chair):
        raise NotNow("this site does not have the chair" if site else "nobody has the chair")
    return replace(state, chair=None)


def _request_floor(case: Case) -> ControlState:
    """Asked again one keeps one's place."""
    state = case.state
    if any(wish.participant_id == case.whom for wish in state.floor_wishes):
        return state
    return replace(state, floor_wishes=(*state.floor_wishes, case.wish))


def _withdraw_floor(case: Case) -> ControlState:
    return replace(case.state, floor_wishes=without(case.state.floor_wishes, case.whom))


def _grant_floor(case: Case) -> ControlState:
    """That site is heard, and the chair; the rest is muted."""
    case.must_be_inside()
    state = case.state
    case.unmute.add(case.whom)
    case.mute.update(key for key in case.people if key not in (case.whom, state.chair))
    return replace(state, floor=case.whom, floor_wishes=without(state.floor_wishes, case.whom))


def _end_floor(case: Case) -> ControlState:
    if case.state.floor is None:
        raise NotNow("nobody has the floor")
    if case.state.floor in case.people:
        case.mute.add(case.state.floor)
    return replace(case.state, floor=None)


HANDLERS: Mapping[Command, Handler] = MappingProxyType(
    {
        Command.REQUEST_CHAIR: _request_chair,
        Command.WITHDRAW_CHAIR: _withdraw_chair,
        Command.GRANT_CHAIR: _grant_chair,
        Command.RELEASE_CHAIR: _release_chair,
        Command.REVOKE_CHAIR: _release_chair,
        Command.REQUEST_FLOOR: _request_floor,
        Command.WITHDRAW_FLOOR: _withdraw_floor,
        Command.GRANT_FLOOR: _grant_floor,
        Command.REFUSE_FLOOR: _withdraw_floor,
        Command.END_FLOOR: _end_floor,
    }
)
