"""What a worker shows for a state of control. Pure."""

from __future__ import annotations

from foundation.desks import Staging, View, ViewMode
from signaling.control.people import People
from signaling.control.state import Audience, ControlState, Mode

LOBBY_PROMPT = "请稍候，等待主持人准入"


def staged(state: ControlState, people: People, next_shown: tuple[str, ...] = ()) -> tuple[View, Staging]:
    """The meeting's view, and all else; those who are not there are left out."""
    view, own = _views(state)
    everyone = people.keys()
    return view, Staging(
        views={key: value for key, value in own.items() if key in everyone},
        prompts={
            wish.participant_id: LOBBY_PROMPT for wish in state.waiting if wish.participant_id in everyone
        },
        deafened=state.deafened & everyone,
        cameras_off=state.cameras_off & everyone,
        without_self=state.without_self & everyone,
        gains_db={key: value for key, value in state.gains_db.items() if key in everyone},
        banner=state.banner,
        banner_everywhere=state.banner_everywhere and bool(state.banner),
        next_shown=next_shown,
        slides=state.slides if state.slides in everyone else None,
    )


def _views(state: ControlState) -> tuple[View, dict[str, View]]:
    chosen = {key: _full(whom) for key, whom in state.selected.items()}
    of_chair = {} if state.chair is None else {state.chair: chosen.get(state.chair, state.view)}
    match state.mode:
        case Mode.BROADCAST if state.subject is not None:
            return _full(state.subject), of_chair
        case Mode.ROLL_CALL if state.subject is not None:
            return _full(state.subject), of_chair
        case Mode.LECTURE if state.subject is not None:
            return _full(state.subject), {**of_chair, state.subject: _turn(state) or View()}
        case Mode.POLLING:
            turn = _turn(state) or state.view
            if state.polling is not None and state.polling.audience is Audience.CHAIR:
                return state.view, chosen if state.chair is None else {**chosen, state.chair: turn}
            return turn, chosen
        case _:
            return state.view, chosen


def _turn(state: ControlState) -> View | None:
    """The polled site, or page of sites."""
    if state.polling is None or not state.polling.shown:
        return None
    if state.polling.size == 1:
        return _full(state.polling.shown[0])
    return View(page=state.polling.shown)


def _full(participant_id: str) -> View:
    return View(ViewMode.FULL_SCREEN, participant_id)
