"""The state machine of meeting control. Pure: an order and the people there give the next state.

decision = decide(state, people, order, at)       raises NotAllowed, NotNow, Outdated
decision.state; decision.mute, .unmute: whom; decision.drop; decision.end
departed(state, participant_id, at)               somebody is gone
arriving(state, participant_id, at, guest=...)    somebody comes in
turned(state, people)                             the polling goes on
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from foundation.desks import View, ViewMode
from foundation.schema import new_id
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
from signaling.control.polling import candidates, turned
from signaling.control.state import (
    SHORTEST_POLL,
    ControlState,
    Mark,
    Mode,
    Polling,
    RollCall,
    RollCallEntry,
    Wish,
    marked,
    without,
)

LARGEST_PAGE = 16
MOST_GAIN_DB = 20.0


@dataclass(frozen=True, slots=True)
class Decision:
    state: ControlState
    mute: frozenset[str] = frozenset()
    unmute: frozenset[str] = frozenset()
    drop: str | None = None
    end: bool = False


_VIEWS = (Command.MOSAIC, Command.FULL_SCREEN, Command.BROADCAST, Command.LECTURE, Command.POLL)
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


@dataclass(slots=True)
class _Case:
    """An order under consideration."""

    state: ControlState
    people: People
    order: Order
    at: str
    mute: set[str] = field(default_factory=set)
    unmute: set[str] = field(default_factory=set)

    @property
    def whom(self) -> str:
        """The participant that it is about; `_check` saw that there is one."""
        return self.order.participant_id or ""

    @property
    def inside(self) -> list[str]:
        return [key for key in self.people if not self.state.waits(key)]

    @property
    def wish(self) -> Wish:
        return Wish(self.whom, self.at)


def decide(state: ControlState, people: People, order: Order, at: str) -> Decision:
    """`at` is the time in ISO 8601. Raises NotAllowed, NotNow, Outdated."""
    _check(state, people, order)
    case = _Case(state, people, order, at)
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


def _entered(case: _Case, after: ControlState, mode: Mode) -> ControlState:
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


# --- what is seen ----------------------------------------------------------------------------------------


def _mosaic(case: _Case) -> ControlState:
    layout = case.order.layout or case.state.view.layout
    return replace(case.state, view=View(layout=layout), subject=None)


def _full_screen(case: _Case) -> ControlState:
    _inside(case)
    view = View(ViewMode.FULL_SCREEN, case.whom, layout=case.state.view.layout)
    return replace(case.state, view=view, subject=None)


def _subject(case: _Case) -> ControlState:
    _inside(case)
    return replace(case.state, subject=case.whom)


def _lecture(case: _Case) -> ControlState:
    """The lecturer sees a mosaic: of all, or with a size and an order its pages in turn."""
    _inside(case)
    order = case.order
    polling = None
    if order.size > 1:
        polling = _polling(case)
        if len(candidates(case.state, case.people, polling, {case.whom})) <= order.size:
            polling = None
    after = replace(case.state, subject=case.whom, polling=polling)
    return after if polling is None else turned(after, case.people)


def _poll(case: _Case) -> ControlState:
    return turned(replace(case.state, polling=_polling(case), subject=None), case.people)


def _polling(case: _Case) -> Polling:
    order = case.order
    if order.interval < SHORTEST_POLL:
        raise NotNow(f"each site is shown for {SHORTEST_POLL:g} s at the least, not {order.interval:g} s")
    if not 1 <= order.size <= LARGEST_PAGE:
        raise NotNow(f"a page has 1 to {LARGEST_PAGE} sites, not {order.size}")
    return Polling(order.interval, tuple(dict.fromkeys(order.order)), order.size, order.audience)


def _poll_next(case: _Case) -> ControlState:
    if case.state.polling is None:
        raise NotNow("nothing is polled")
    return turned(case.state, case.people)


def _stop(case: _Case) -> ControlState:
    return replace(case.state, subject=None)


def _select_view(case: _Case) -> ControlState:
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


def _inside(case: _Case) -> None:
    if case.state.waits(case.whom):
        raise NotNow("that site waits to be admitted")


# --- roll call -------------------------------------------------------------------------------------------


def _roll_call(case: _Case) -> ControlState:
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


def _roll_call_next(case: _Case) -> ControlState:
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


def _roll_call_mark(case: _Case) -> ControlState:
    call, order = case.state.roll_call, case.order
    assert call is not None
    if order.mark not in (Mark.PRESENT, Mark.ABSENT):
        raise NotNow("a site is marked present or absent")
    if all(entry.participant_id != case.whom for entry in call.entries):
        raise NotNow(f"participant {case.whom} is not on the list")
    return replace(case.state, roll_call=marked(call, case.whom, order.mark, order.by, case.at))


# --- chair and floor -------------------------------------------------------------------------------------


def _request_chair(case: _Case) -> ControlState:
    state = case.state
    if state.chair == case.whom:
        raise NotNow("this site has the chair")
    return replace(state, chair_wishes=(*without(state.chair_wishes, case.whom), case.wish))


def _withdraw_chair(case: _Case) -> ControlState:
    return replace(case.state, chair_wishes=without(case.state.chair_wishes, case.whom))


def _grant_chair(case: _Case) -> ControlState:
    _inside(case)
    return replace(case.state, chair=case.whom, chair_wishes=without(case.state.chair_wishes, case.whom))


def _release_chair(case: _Case) -> ControlState:
    state, site = case.state, case.order.site
    if state.chair is None or (site is not None and site != state.chair):
        raise NotNow("this site does not have the chair" if site else "nobody has the chair")
    return replace(state, chair=None)


def _request_floor(case: _Case) -> ControlState:
    """Asked again one keeps one's place."""
    state = case.state
    if any(wish.participant_id == case.whom for wish in state.floor_wishes):
        return state
    return replace(state, floor_wishes=(*state.floor_wishes, case.wish))


def _withdraw_floor(case: _Case) -> ControlState:
    return replace(case.state, floor_wishes=without(case.state.floor_wishes, case.whom))


def _grant_floor(case: _Case) -> ControlState:
    """That site is heard, and the chair; the rest is muted."""
    _inside(case)
    state = case.state
    case.unmute.add(case.whom)
    case.mute.update(key for key in case.people if key not in (case.whom, state.chair))
    return replace(state, floor=case.whom, floor_wishes=without(state.floor_wishes, case.whom))


def _end_floor(case: _Case) -> ControlState:
    if case.state.floor is None:
        raise NotNow("nobody has the floor")
    if case.state.floor in case.people:
        case.mute.add(case.state.floor)
    return replace(case.state, floor=None)


# --- sound and pictures of sites ---------------------------------------------------------------------------


def _mute(case: _Case) -> ControlState:
    case.mute.add(case.whom)
    return case.state


def _unmute(case: _Case) -> ControlState:
    case.unmute.add(case.whom)
    return case.state


def _mute_all(case: _Case) -> ControlState:
    """All but the chair, and but the site that orders it."""
    case.mute.update(key for key in case.people if key not in (case.state.chair, case.order.site))
    return case.state


def _unmute_all(case: _Case) -> ControlState:
    case.unmute.update(case.inside)
    return replace(case.state, floor=None)


def _deafen(case: _Case) -> ControlState:
    return replace(case.state, deafened=case.state.deafened | {case.whom})


def _undeafen(case: _Case) -> ControlState:
    return replace(case.state, deafened=case.state.deafened - {case.whom})


def _camera_off(case: _Case) -> ControlState:
    return replace(case.state, cameras_off=case.state.cameras_off | {case.whom})


def _camera_on(case: _Case) -> ControlState:
    return replace(case.state, cameras_off=case.state.cameras_off - {case.whom})


def _gain(case: _Case) -> ControlState:
    decibels = case.order.decibels
    if not -MOST_GAIN_DB <= decibels <= MOST_GAIN_DB:
        raise NotNow(f"a gain is between -{MOST_GAIN_DB:g} and {MOST_GAIN_DB:g} dB, not {decibels:g}")
    gains = {key: value for key, value in case.state.gains_db.items() if key != case.whom}
    return replace(case.state, gains_db={**gains, case.whom: decibels} if decibels else gains)


def _hide_self(case: _Case) -> ControlState:
    return replace(case.state, without_self=case.state.without_self | {case.whom})


def _show_self(case: _Case) -> ControlState:
    return replace(case.state, without_self=case.state.without_self - {case.whom})


# --- slides ----------------------------------------------------------------------------------------------


def _present(case: _Case) -> ControlState:
    """The latest request has the slides, as on room terminals."""
    _inside(case)
    state = case.state
    reason = state.keeps_slides_from(case.whom)
    if reason is not None:
        raise NotNow(reason) if state.slides_allowed else NotAllowed(reason)
    if not case.people[case.whom].slides:
        raise NotNow("this site has no stream for slides")
    return replace(state, slides=case.whom, slides_request=case.order.request)


def _stop_presenting(case: _Case) -> ControlState:
    if case.state.slides != case.whom:
        raise NotNow("this site does not present")
    return replace(case.state, slides=None)


def _take_back_slides(case: _Case) -> ControlState:
    if case.state.slides is None:
        raise NotNow("nobody presents")
    return replace(case.state, slides=None)


# --- the meeting as a whole --------------------------------------------------------------------------------


def _lobby(case: _Case) -> ControlState:
    """Who waits already goes on to wait."""
    return replace(case.state, lobby=case.order.lobby)


def _admit(case: _Case) -> ControlState:
    if not case.state.waits(case.whom):
        raise NotNow("this site does not wait to be admitted")
    return replace(case.state, waiting=without(case.state.waiting, case.whom))


def _banner(case: _Case) -> ControlState:
    return replace(case.state, banner=case.order.text.strip(), banner_everywhere=case.order.on)


def _same(case: _Case) -> ControlState:
    return case.state


_HANDLERS: dict[Command, Callable[[_Case], ControlState]] = {
    Command.MOSAIC: _mosaic,
    Command.FULL_SCREEN: _full_screen,
    Command.BROADCAST: _subject,
    Command.LECTURE: _lecture,
    Command.POLL: _poll,
    Command.POLL_NEXT: _poll_next,
    Command.ROLL_CALL: _roll_call,
    Command.ROLL_CALL_NEXT: _roll_call_next,
    Command.ROLL_CALL_MARK: _roll_call_mark,
    Command.STOP: _stop,
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
    Command.SELECT_VIEW: _select_view,
    Command.ALLOW_SELECT: lambda case: replace(case.state, self_select=case.order.on),
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
    Command.LOCK: lambda case: replace(case.state, locked=True),
    Command.UNLOCK: lambda case: replace(case.state, locked=False),
    Command.LOBBY: _lobby,
    Command.ADMIT: _admit,
    Command.ADMIT_ALL: lambda case: replace(case.state, waiting=()),
    Command.BANNER: _banner,
    Command.PRESENT: _present,
    Command.STOP_PRESENTING: _stop_presenting,
    Command.TAKE_BACK_SLIDES: _take_back_slides,
    Command.ALLOW_SLIDES: lambda case: replace(case.state, slides_allowed=case.order.on),
    Command.DROP: _same,
    Command.END: _same,
}
