"""Sites in turn. Pure."""

from __future__ import annotations

from dataclasses import replace

from signaling.control.people import People
from signaling.control.state import Audience, ControlState, Mode, Polling


def turned(state: ControlState, people: People) -> ControlState:
    """The polling shows who follows."""
    if state.polling is None:
        return state
    return replace(state, polling=replace(state.polling, shown=following(state, people)))


def turned_without(state: ControlState, people: People, participant_id: str) -> ControlState:
    """One is gone: its page goes on without it; an empty one is not looked at until its time is up."""
    polling = state.polling
    if polling is None or participant_id not in polling.shown:
        return state
    left = tuple(key for key in polling.shown if key != participant_id)
    if left:
        return replace(state, polling=replace(polling, shown=left))
    return turned(state, people)


def following(state: ControlState, people: People) -> tuple[str, ...]:
    """Whom the polling shows next; absent sites are skipped, nobody if there is none."""
    polling = state.polling
    if polling is None:
        return ()
    hidden = {state.subject} if state.mode is Mode.LECTURE or state.subject else set()
    there = candidates(state, people, polling, hidden)
    if not there:
        return ()
    everyone = polling.order or tuple(people)
    last = polling.shown[-1] if polling.shown else None
    start = everyone.index(last) + 1 if last in everyone else 0
    ahead = [key for key in everyone[start:] if key in there]
    return tuple((ahead or there)[: polling.size])


def candidates(
    state: ControlState, people: People, polling: Polling, hidden: set[str | None] | set[str]
) -> list[str]:
    """Who can be shown in turn, in order; the chair is not shown to itself."""
    aside = {*hidden, state.chair} if polling.audience is Audience.CHAIR else hidden
    return [
        key
        for key in polling.order or tuple(people)
        if key in people and people[key].connected and key not in aside and not state.waits(key)
    ]
