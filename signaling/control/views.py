"""What is seen: mosaic, full screen, broadcast, lecture, polling, and what a site chooses for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from foundation.desks import View, ViewMode
from signaling.control.case import Case, Handler
from signaling.control.orders import Command, NotAllowed, NotNow
from signaling.control.polling import candidates, turned
from signaling.control.state import SHORTEST_POLL, ControlState, Mode, Polling

LARGEST_PAGE = 16


def _mosaic(case: Case) -> ControlState:
    layout = case.order.layout or case.state.view.layout
    return replace(case.state, view=View(layout=layout), subject=None)


def _full_screen(case: Case) -> ControlState:
    case.must_be_inside()
    view = View(ViewMode.FULL_SCREEN, case.whom, layout=case.state.view.layout)
    return replace(case.state, view=view, subject=None)


def _subject(case: Case) -> ControlState:
    case.must_be_inside()
    return replace(case.state, subject=case.whom)


def _lecture(case: Case) -> ControlState:
    """The lecturer sees a mosaic: of all, or with a size and an order its pages in turn."""
    case.must_be_inside()
    order = case.order
    polling = None
    if order.size > 1:
        polling = _polling(case)
        if len(candidates(case.state, case.people, polling, {case.whom})) <= order.size:
            polling = None
    after = replace(case.state, subject=case.whom, polling=polling)
    return after if polling is None else turned(after, case.people)


def _poll(case: Case) -> ControlState:
    return turned(replace(case.state, polling=_polling(case), subject=None), case.people)


def _polling(case: Case) -> Polling:
    order = case.order
    if order.interval < SHORTEST_POLL:
        raise NotNow(f"each site is shown for {SHORTEST_POLL:g} s at the least, not {order.interval:g} s")
    if not 1 <= order.size <= LARGEST_PAGE:
        raise NotNow(f"a page has 1 to {LARGEST_PAGE} sites, not {order.size}")
    return Polling(order.interval, tuple(dict.fromkeys(order.order)), order.size, order.audience)


def _poll_next(case: Case) -> ControlState:
    if case.state.polling is None:
        raise NotNow("nothing is polled")
    return turned(case.state, case.people)


def _stop(case: Case) -> ControlState:
    return replace(case.state, subject=None)


def _select_view(case: Case) -> ControlState:
    """Without a target the site sees again what the meeting shows."""
    state, order = case.state, case.order
    chosen = {key: value for key, value in state.selected.items() if key != case.whom}
    if order.target_id is None:
        return replace(state, selected=chosen)
    if order.target_id == case.whom:
        raise NotNow("a site cannot choose to see itself")
    if state.waits(order.target_id):
        raise NotNow("that site waits to be admitted")
    own = order.site is not None and order.site != state.chair
    if own and not state.self_select:
        raise NotAllowed("the sites of this meeting may not choose what they see")
    if own and state.mode is not Mode.FREE and state.mode is not Mode.POLLING:
        raise NotNow(f"nobody chooses what to see while the mode is {state.mode}")
    return replace(state, selected={**chosen, case.whom: order.target_id})


HANDLERS: Mapping[Command, Handler] = MappingProxyType(
    {
        Command.MOSAIC: _mosaic,
        Command.FULL_SCREEN: _full_screen,
        Command.BROADCAST: _subject,
        Command.LECTURE: _lecture,
        Command.POLL: _poll,
        Command.POLL_NEXT: _poll_next,
        Command.STOP: _stop,
        Command.SELECT_VIEW: _select_view,
        Command.ALLOW_SELECT: lambda case: replace(case.state, self_select=case.order.on),
    }
)
