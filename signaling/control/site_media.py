"""Sound, pictures and slides of sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from signaling.control.case import Case, Handler
from signaling.control.orders import Command, NotAllowed, NotNow
from signaling.control.state import ControlState

MOST_GAIN_DB = 20.0


def _mute(case: Case) -> ControlState:
    case.mute.add(case.whom)
    return case.state


def _unmute(case: Case) -> ControlState:
    case.unmute.add(case.whom)
    return case.state


def _mute_all(case: Case) -> ControlState:
    """All but the chair, and but the site that orders it."""
    case.mute.update(key for key in case.people if key not in (case.state.chair, case.order.site))
    return case.state


def _unmute_all(case: Case) -> ControlState:
    case.unmute.update(case.inside)
    return replace(case.state, floor=None)


def _deafen(case: Case) -> ControlState:
    return replace(case.state, deafened=case.state.deafened | {case.whom})


def _undeafen(case: Case) -> ControlState:
    return replace(case.state, deafened=case.state.deafened - {case.whom})


def _camera_off(case: Case) -> ControlState:
    return replace(case.state, cameras_off=case.state.cameras_off | {case.whom})


def _camera_on(case: Case) -> ControlState:
    return replace(case.state, cameras_off=case.state.cameras_off - {case.whom})


def _gain(case: Case) -> ControlState:
    decibels = case.order.decibels
    if not -MOST_GAIN_DB <= decibels <= MOST_GAIN_DB:
        raise NotNow(f"a gain is between -{MOST_GAIN_DB:g} and {MOST_GAIN_DB:g} dB, not {decibels:g}")
    gains = {key: value for key, value in case.state.gains_db.items() if key != case.whom}
    return replace(case.state, gains_db={**gains, case.whom: decibels} if decibels else gains)


def _hide_self(case: Case) -> ControlState:
    return replace(case.state, without_self=case.state.without_self | {case.whom})


def _show_self(case: Case) -> ControlState:
    return replace(case.state, without_self=case.state.without_self - {case.whom})


def _present(case: Case) -> ControlState:
    """The latest request has the slides, as on room terminals."""
    case.must_be_inside()
    state = case.state
    reason = state.keeps_slides_from(case.whom)
    if reason is not None:
        raise NotNow(reason) if state.slides_allowed else NotAllowed(reason)
    if not case.people[case.whom].slides:
        raise NotNow("this site has no stream for slides")
    return replace(state, slides=case.whom, slides_request=case.order.request)


def _stop_presenting(case: Case) -> ControlState:
    if case.state.slides != case.whom:
        raise NotNow("this site does not present")
    return replace(case.state, slides=None)


def _take_back_slides(case: Case) -> ControlState:
    if case.state.slides is None:
        raise NotNow("nobody presents")
    return replace(case.state, slides=None)


HANDLERS: Mapping[Command, Handler] = MappingProxyType(
    {
        Command.MUTE: _mute,
        Command.UNMUTE: _unmute,
        Command.MUTE_ALL: _mute_all,
        Command.UNMUTE_ALL: _unmute_all,
        Command.DEAFEN: _deafen,
        Command.UNDEAFEN: _undeafen,
        Command.CAMERA_OFF: _camera_off,
        Command.CAMERA_ON: _camera_on,
        Command.GAIN: _gain,
        Command.HIDE_SELF: _hide_self,
        Command.SHOW_SELF: _show_self,
        Command.PRESENT: _present,
        Command.STOP_PRESENTING: _stop_presenting,
        Command.TAKE_BACK_SLIDES: _take_back_slides,
        Command.ALLOW_SLIDES: lambda case: replace(case.state, slides_allowed=case.order.on),
    }
)
