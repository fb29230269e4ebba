"""Who is in a meeting, as control sees them, and what their coming and going makes of its state. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from foundation.desks import View
from signaling.control.state import ControlState, Lobby, Mark, Mode, Wish, marked, without


@dataclass(frozen=True, slots=True)
class Person:
    """Who is in the meeting, in the order of joining; `slides`: it has a stream for them."""

    name: str
    site_id: str | None = None
    muted: bool = False
    connected: bool = True
    slides: bool = False


People = Mapping[str, Person]


def arriving(state: ControlState, participant_id: str, at: str, *, guest: bool) -> ControlState:
    """Somebody comes: into the meeting, or into the lobby."""
    if state.lobby is Lobby.ALL or (state.lobby is Lobby.GUESTS and guest):
        return replace(state, waiting=(*without(state.waiting, participant_id), Wish(participant_id, at)))
    return state


def departed(state: ControlState, participant_id: str, at: str) -> ControlState:
    """Nothing is left of one who is gone but its line in the roll call. The same state if it held nothing."""
    gone = replace(
        state,
        chair_wishes=without(state.chair_wishes, participant_id),
        floor_wishes=without(state.floor_wishes, participant_id),
        waiting=without(state.waiting, participant_id),
        selected={k: v for k, v in state.selected.items() if participant_id not in (k, v)},
        deafened=state.deafened - {participant_id},
        cameras_off=state.cameras_off - {participant_id},
        without_self=state.without_self - {participant_id},
        gains_db={k: v for k, v in state.gains_db.items() if k != participant_id},
        chair=None if state.chair == participant_id else state.chair,
        floor=None if state.floor == participant_id else state.floor,
        view=View() if state.view.participant_id == participant_id else state.view,
        slides=None if state.slides == participant_id else state.slides,
    )
    if state.subject == participant_id:
        gone = replace(gone, subject=None)
        if state.mode in (Mode.BROADCAST, Mode.LECTURE):
            gone = replace(gone, mode=Mode.FREE, polling=None)
    call = state.roll_call
    if call is not None and any(
        e.participant_id == participant_id and e.mark in (Mark.WAITING, Mark.CALLED) for e in call.entries
    ):
        gone = replace(gone, roll_call=marked(call, participant_id, Mark.ABSENT, "left the meeting", at))
    held = (gone.mode, gone.chair, gone.floor, gone.view, gone.subject, gone.slides)
    if held != (state.mode, state.chair, state.floor, state.view, state.subject, state.slides):
        gone = gone.decided("left", "left the meeting", at, participant_id)
    return gone
