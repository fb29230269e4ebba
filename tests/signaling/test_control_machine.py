"""The state machine of meeting control: each mode and command, and who may give it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.desks import View, ViewMode
from signaling.control.controller import mentioned
from signaling.control.machine import MODES, decide
from signaling.control.orders import Command, NotAllowed, NotNow, Order, Outdated
from signaling.control.people import Person, arriving, departed
from signaling.control.polling import following, turned, turned_without
from signaling.control.staging import LOBBY_PROMPT, staged
from signaling.control.state import Audience, ControlState, Lobby, Mark, Mode

AT = "2026-11-22T08:00:00+00:00"
PEOPLE = {name: Person(name, slides=name != "c") for name in ("chair", "a", "b", "c")}
START = replace(ControlState(), chair="chair")


def full(name: str) -> View:
    return View(ViewMode.FULL_SCREEN, name)


def do(state: ControlState, command: Command, whom: str | None = None, **values: Any) -> ControlState:
    return decide(state, PEOPLE, Order(command, "operator", whom, **values), AT).state


def asks(state: ControlState, site: str, command: Command, **values: Any) -> ControlState:
    whom = values.pop("whom", site)
    return decide(state, PEOPLE, Order(command, site, whom, site=site, **values), AT).state


def sees(state: ControlState, who: str) -> View:
    view, staging = staged(state, PEOPLE)
    return staging.views.get(who, view)


# --- who sees what --------------------------------------------------------------------------------------


def test_a_broadcast_is_seen_by_all_but_the_chair_and_turns_choice_off() -> None:
    chosen = do(START, Command.SELECT_VIEW, "a", target_id="c")
    assert sees(chosen, "a") == full("c")
    state = do(chosen, Command.BROADCAST, "b")
    assert [sees(state, name) for name in ("a", "c", "b", "chair")] == [
        full("b"),
        full("b"),
        full("b"),
        View(),
    ]
    with pytest.raises(NotNow, match="nobody chooses"):
        asks(state, "a", Command.SELECT_VIEW, target_id="c")
    viewing = asks(state, "chair", Command.SELECT_VIEW, target_id="a")
    assert sees(viewing, "chair") == full("a")
    after = do(viewing, Command.STOP)
    assert (after.mode, sees(after, "a"), sees(after, "b")) == (Mode.FREE, full("c"), View())


def test_in_a_lecture_all_see_the_speaker_who_sees_the_mosaic_or_its_pages() -> None:
    state = do(START, Command.LECTURE, "a")
    assert [sees(state, name) for name in ("b", "c", "a")] == [full("a"), full("a"), View()]
    paged = do(START, Command.LECTURE, "a", size=2, interval=5.0)
    assert sees(paged, "a") == View(page=("chair", "b"))
    assert sees(turned(paged, PEOPLE), "a") == View(page=("c",))
    assert do(paged, Command.STOP).polling is None


def test_nobody_is_shown_the_place_of_a_polled_site_that_left() -> None:
    state = do(START, Command.POLL, order=("a", "b", "c"))
    left = {name: person for name, person in PEOPLE.items() if name != "a"}
    assert turned_without(state, left, "c") is state, "whoever is not shown"
    gone = turned_without(state, left, "a")
    assert staged(gone, left)[0] == full("b")
    paged = do(START, Command.POLL, order=("a", "b", "c"), size=2)
    assert staged(turned_without(paged, left, "a"), left)[0] == View(page=("b",)), "its page goes on"
    assert turned_without(START, left, "a") is START


def test_polling_shows_sites_in_turn_without_the_absent() -> None:
    state = do(START, Command.POLL, order=("c", "a", "b"), interval=5.0)
    assert sees(state, "b") == full("c")
    people = {**PEOPLE, "a": Person("a", connected=False)}
    assert following(state, people) == ("b",)
    state = turned(state, people)
    assert sees(state, "a") == full("b")
    assert following(state, people) == ("c",)
    assert following(state, {}) == ()
    assert do(state, Command.POLL_NEXT).polling is not None
    to_chair = do(START, Command.POLL, size=2, audience=Audience.CHAIR)
    assert sees(to_chair, "a") == View()
    assert sees(to_chair, "chair") == View(page=("a", "b"))
    with pytest.raises(NotNow, match="3 s at the least"):
        do(START, Command.POLL, interval=2.0)


def test_mosaic_and_full_screen_leave_a_mode_and_stop_goes_back_to_them() -> None:
    state = do(START, Command.FULL_SCREEN, "a")
    assert sees(do(do(state, Command.BROADCAST, "b"), Command.STOP), "c") == full("a")
    assert do(do(state, Command.BROADCAST, "b"), Command.MOSAIC).mode is Mode.FREE
    with pytest.raises(NotNow, match="nothing of the kind"):
        do(state, Command.STOP)
    laid = do(START, Command.MOSAIC, layout="3x3")
    assert do(do(laid, Command.FULL_SCREEN, "a"), Command.MOSAIC).view == View(layout="3x3")


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("command", sorted({command for _mode, command in MODES}))
def test_the_table_holds(mode: Mode, command: Command) -> None:
    begin = {
        Mode.FREE: START,
        Mode.BROADCAST: do(START, Command.BROADCAST, "a"),
        Mode.LECTURE: do(START, Command.LECTURE, "a", size=2),
        Mode.POLLING: do(START, Command.POLL),
        Mode.ROLL_CALL: do(START, Command.ROLL_CALL),
    }[mode]
    whom = None if command in (Command.POLL_NEXT, Command.ROLL_CALL_NEXT, Command.ROLL_CALL) else "b"
    values: dict[str, Any] = {"mark": Mark.PRESENT} if command is Command.ROLL_CALL_MARK else {}
    if (mode, command) not in MODES:
        with pytest.raises(NotNow):
            do(begin, command, whom, **values)
        return
    after = do(begin, command, whom, **values)
    assert after.mode is MODES[mode, command]
    assert (after.polling is not None) <= (after.mode in (Mode.POLLING, Mode.LECTURE))
    assert (after.roll_call is not None) is (after.mode is Mode.ROLL_CALL)
    assert after.version == begin.version + 1


# --- who is heard ----------------------------------------------------------------------------------------


def test_a_roll_call_shows_and_unmutes_the_called_beside_the_chair_and_restores_the_rest() -> None:
    people = {**PEOPLE, "b": Person("b", muted=True)}
    begun = decide(START, people, Order(Command.ROLL_CALL, "ma"), AT)
    assert begun.mute == {"a", "c"}
    call = begun.state.roll_call
    assert call is not None
    assert [entry.participant_id for entry in call.entries] == ["a", "b", "c"]
    assert sees(begun.state, "c") == View()
    quiet = {key: replace(person, muted=key != "chair") for key, person in people.items()}
    called = decide(begun.state, quiet, Order(Command.ROLL_CALL_NEXT, "ma"), AT)
    assert (set(called.mute), set(called.unmute)) == (set(), {"a"})
    assert sees(called.state, "c") == full("a")
    marked = do(called.state, Command.ROLL_CALL_MARK, "a", mark=Mark.PRESENT)
    heard_a = {**quiet, "a": Person("a")}
    second = decide(marked, heard_a, Order(Command.ROLL_CALL_NEXT, "ma", "c"), AT)
    assert (set(second.mute), set(second.unmute)) == ({"a"}, {"c"})
    absent = do(second.state, Command.ROLL_CALL_MARK, "b", mark=Mark.ABSENT)
    assert absent.roll_call is not None
    marks = {entry.participant_id: (entry.mark, entry.marked_by) for entry in absent.roll_call.entries}
    assert marks == {
        "a": (Mark.PRESENT, "operator"),
        "b": (Mark.ABSENT, "operator"),
        "c": (Mark.CALLED, None),
    }
    with pytest.raises(NotNow, match="everybody has been called"):
        do(absent, Command.ROLL_CALL_NEXT)
    over = decide(absent, quiet, Order(Command.STOP, "ma"), AT)
    assert over.unmute == {"a", "c"}, "b was muted before"
    assert over.state.mode is Mode.FREE


def test_who_leaves_during_a_roll_call_is_absent_and_stays_on_the_list() -> None:
    state = do(do(START, Command.ROLL_CALL), Command.ROLL_CALL_NEXT)
    gone = departed(state, "a", AT)
    assert gone.roll_call is not None
    assert gone.roll_call.entries[0].mark is Mark.ABSENT
    assert (gone.mode, gone.subject) == (Mode.ROLL_CALL, None)


def test_the_floor_unmutes_one_and_mutes_the_rest_but_the_chair() -> None:
    state = asks(asks(START, "b", Command.REQUEST_FLOOR), "a", Command.REQUEST_FLOOR)
    state = asks(state, "b", Command.REQUEST_FLOOR)
    assert [wish.participant_id for wish in state.floor_wishes] == ["b", "a"]
    assert state.version == START.version, "a wish decides nothing"
    people = {**PEOPLE, "b": Person("b", muted=True)}
    granted = decide(state, people, Order(Command.GRANT_FLOOR, "ma", "b"), AT)
    assert (set(granted.mute), set(granted.unmute)) == ({"a", "c"}, {"b"})
    assert granted.state.floor == "b"
    assert granted.state.mutes_newcomers
    assert [wish.participant_id for wish in granted.state.floor_wishes] == ["a"]
    ended = decide(granted.state, PEOPLE, Order(Command.END_FLOOR, "ma"), AT)
    assert (set(ended.mute), ended.state.floor) == ({"b"}, None)
    assert asks(state, "a", Command.WITHDRAW_FLOOR).floor_wishes == state.floor_wishes[:1]


def test_mute_all_spares_the_chair_and_unmute_all_those_in_the_lobby() -> None:
    assert decide(START, PEOPLE, Order(Command.MUTE_ALL, "ma"), AT).mute == {"a", "b", "c"}
    quiet = {key: Person(key, muted=True) for key in PEOPLE}
    waiting = arriving(do(START, Command.LOBBY, lobby=Lobby.ALL), "c", AT, guest=False)
    heard = decide(waiting, quiet, Order(Command.UNMUTE_ALL, "ma"), AT).unmute
    assert heard == {"chair", "a", "b"}


# --- who may ----------------------------------------------------------------------------------------------


def test_without_the_chair_a_site_only_asks_and_with_it_decides() -> None:
    for command in (Command.BROADCAST, Command.MUTE, Command.END, Command.LOCK, Command.GRANT_CHAIR):
        with pytest.raises(NotAllowed, match="needs the chair"):
            asks(START, "a", command)
    with pytest.raises(NotAllowed, match="for itself only"):
        asks(START, "a", Command.REQUEST_FLOOR, whom="b")
    asked = asks(START, "a", Command.REQUEST_CHAIR)
    state = asks(asked, "chair", Command.GRANT_CHAIR, whom="a")
    assert (state.chair, state.chair_wishes) == ("a", ())
    assert asks(state, "a", Command.BROADCAST, whom="b").mode is Mode.BROADCAST
    with pytest.raises(NotAllowed):
        asks(state, "chair", Command.BROADCAST, whom="b")
    assert asks(state, "a", Command.RELEASE_CHAIR).chair is None
    assert do(state, Command.REVOKE_CHAIR).chair is None
    with pytest.raises(NotNow):
        asks(state, "b", Command.RELEASE_CHAIR)


def test_sites_choose_what_they_see_while_they_may() -> None:
    assert sees(asks(START, "a", Command.SELECT_VIEW, target_id="b"), "a") == full("b")
    state = do(START, Command.ALLOW_SELECT, on=False)
    with pytest.raises(NotAllowed, match="may not choose"):
        asks(state, "a", Command.SELECT_VIEW, target_id="b")
    with pytest.raises(NotNow):
        asks(START, "a", Command.SELECT_VIEW, target_id="a")
    back = asks(asks(START, "a", Command.SELECT_VIEW, target_id="b"), "a", Command.SELECT_VIEW)
    assert sees(back, "a") == View()


def test_the_second_of_two_operators_is_told_what_the_first_did() -> None:
    first = decide(START, PEOPLE, Order(Command.BROADCAST, "ma", "a", version=0), AT).state
    with pytest.raises(Outdated, match="broadcast by ma") as outdated:
        decide(first, PEOPLE, Order(Command.LOCK, "li", version=0), AT)
    assert outdated.value.version == 1
    assert [(change.command, change.by) for change in first.since(0)] == [("broadcast", "ma")]
    assert decide(first, PEOPLE, Order(Command.LOCK, "li", version=1), AT).state.locked


# --- lobby, and what worker shows -------------------------------------------------------------------------


def test_the_lobby() -> None:
    guests = do(START, Command.LOBBY, lobby=Lobby.GUESTS)
    assert not arriving(guests, "a", AT, guest=False).waiting
    state = arriving(guests, "b", AT, guest=True)
    _view, staging = staged(state, PEOPLE)
    assert staging.prompts == {"b": LOBBY_PROMPT}
    for command in (Command.BROADCAST, Command.FULL_SCREEN, Command.GRANT_FLOOR, Command.GRANT_CHAIR):
        with pytest.raises(NotNow, match="waits to be admitted"):
            do(state, command, "b")
    with pytest.raises(NotAllowed, match="waits"):
        asks(state, "b", Command.REQUEST_FLOOR)
    assert not do(state, Command.ADMIT, "b").waiting
    assert not do(state, Command.ADMIT_ALL).waiting
    with pytest.raises(NotNow):
        do(state, Command.ADMIT, "a")


def test_what_sites_are_given_beside_the_view() -> None:
    state = START
    for command, whom, values in (
        (Command.DEAFEN, "a", {}),
        (Command.CAMERA_OFF, "b", {}),
        (Command.HIDE_SELF, "c", {}),
        (Command.GAIN, "a", {"decibels": -6.0}),
        (Command.BANNER, None, {"text": " 会议纪律 ", "on": True}),
    ):
        state = do(state, command, whom, **values)
    _view, staging = staged(state, PEOPLE)
    assert (*staging.deafened, *staging.cameras_off, *staging.without_self) == ("a", "b", "c")
    assert (staging.gains_db, staging.banner, staging.banner_everywhere) == ({"a": -6.0}, "会议纪律", True)
    assert mentioned(state) == {"chair", "a", "b", "c"}
    for command, whom in ((Command.UNDEAFEN, "a"), (Command.CAMERA_ON, "b"), (Command.SHOW_SELF, "c")):
        state = do(state, command, whom)
    state = do(do(state, Command.GAIN, "a"), Command.BANNER, on=False)
    assert staged(state, PEOPLE)[1] == staged(START, PEOPLE)[1]
    with pytest.raises(NotNow, match="between"):
        do(state, Command.GAIN, "a", decibels=60.0)


ORDERS = st.lists(
    st.tuples(
        st.sampled_from(sorted(Command)),
        st.sampled_from([None, "chair", "a", "b", "c", "gone"]),
        st.sampled_from([None, "chair", "a", "b"]),
        st.sampled_from([None, "a", "c"]),
        st.sampled_from([Mark.PRESENT, Mark.WAITING, None]),
        st.integers(1, 4),
        st.booleans(),
    ),
    max_size=25,
)


@given(ORDERS, st.sampled_from(["chair", "a", "b", "c"]))
def test_nothing_stays_of_who_leaves_and_every_state_survives_its_row(
    orders: list[tuple[Command, str | None, str | None, str | None, Mark | None, int, bool]], leaver: str
) -> None:
    state = START
    for command, whom, site, target, mark, size, on in orders:
        order = Order(command, "x", whom, site=site, target_id=target, mark=mark, size=size, on=on)
        try:
            state = decide(state, PEOPLE, order, AT).state
        except (NotAllowed, NotNow):
            continue
        assert ControlState.from_json(state.to_json()) == state
        view, staging = staged(state, PEOPLE)
        shown = {view.participant_id, *(own.participant_id for own in staging.views.values())} - {None}
        assert shown <= PEOPLE.keys()
    gone = departed(state, leaver, AT)
    called = set() if gone.roll_call is None else {e.participant_id for e in gone.roll_call.entries}
    assert leaver not in mentioned(gone) - called
    left = {key: person for key, person in PEOPLE.items() if key != leaver}
    view, staging = staged(turned(gone, left), left)
    assert leaver not in {view.participant_id, *view.page, *staging.views, *staging.prompts}


def test_what_nobody_understands_is_as_if_nothing_had_been_decided() -> None:
    assert ControlState.from_json({"mode": "dancing"}) == ControlState()
    assert ControlState.from_json(None) == ControlState()


# --- slides ---------------------------------------------------------------------------------------------


def test_the_latest_to_present_has_the_slides_and_a_version_each() -> None:
    state = asks(START, "a", Command.PRESENT, request=7)
    assert (state.slides, state.slides_request, state.version) == ("a", 7, 1)
    assert staged(state, PEOPLE)[1].slides == "a"
    state = asks(state, "b", Command.PRESENT)
    assert (state.slides, state.slides_request) == ("b", 0)
    with pytest.raises(NotNow, match="does not present"):
        asks(state, "a", Command.STOP_PRESENTING)
    assert asks(state, "b", Command.STOP_PRESENTING).slides is None
    assert [(c.command, c.participant_id) for c in state.changes] == [("present", "a"), ("present", "b")]


def test_the_operator_and_the_chair_take_slides_back_others_do_not() -> None:
    state = asks(START, "a", Command.PRESENT)
    assert do(state, Command.TAKE_BACK_SLIDES).slides is None
    assert asks(state, "chair", Command.TAKE_BACK_SLIDES).slides is None
    with pytest.raises(NotAllowed, match="needs the chair"):
        asks(state, "b", Command.TAKE_BACK_SLIDES)
    with pytest.raises(NotAllowed, match="for itself only"):
        asks(state, "b", Command.STOP_PRESENTING, whom="a")
    with pytest.raises(NotNow, match="nobody presents"):
        do(START, Command.TAKE_BACK_SLIDES)
    with pytest.raises(Outdated):
        do(state, Command.TAKE_BACK_SLIDES, version=0)


def test_who_has_no_stream_or_waits_outside_presents_nothing() -> None:
    with pytest.raises(NotNow, match="no stream for slides"):
        asks(START, "c", Command.PRESENT)
    with pytest.raises(NotAllowed, match="waits"):
        asks(arriving(replace(START, lobby=Lobby.ALL), "a", AT, guest=False), "a", Command.PRESENT)


def test_where_slides_are_not_allowed_only_the_chair_presents() -> None:
    state = do(asks(START, "a", Command.PRESENT), Command.ALLOW_SLIDES, on=False)
    assert state.slides is None
    with pytest.raises(NotAllowed, match="may not present"):
        asks(state, "a", Command.PRESENT)
    presents = asks(state, "chair", Command.PRESENT)
    assert presents.slides == "chair"
    assert do(presents, Command.RELEASE_CHAIR).slides is None
    assert asks(do(state, Command.ALLOW_SLIDES), "a", Command.PRESENT).slides == "a"


def test_a_lecture_has_the_lecturers_slides_and_a_roll_call_none() -> None:
    state = asks(START, "a", Command.PRESENT)
    assert do(state, Command.BROADCAST, "b").slides == "a"
    assert do(state, Command.LECTURE, "a").slides == "a"
    lecture = do(state, Command.LECTURE, "b")
    assert lecture.slides is None
    assert asks(lecture, "b", Command.PRESENT).slides == "b"
    assert asks(lecture, "chair", Command.PRESENT).slides == "chair"
    with pytest.raises(NotNow, match="only the lecturer"):
        asks(lecture, "a", Command.PRESENT)
    assert do(state, Command.ROLL_CALL).slides is None
    assert do(state, Command.LOCK).slides == "a"


def test_slides_end_with_whoever_shows_them() -> None:
    state = asks(START, "a", Command.PRESENT)
    gone = departed(state, "a", AT)
    assert (gone.slides, gone.version, mentioned(state)) == (None, 2, {"chair", "a"})
    assert staged(state, {"b": PEOPLE["b"]})[1].slides is None
