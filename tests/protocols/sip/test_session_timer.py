import pytest

from protocols.sip.deadlines import Deadlines
from protocols.sip.replies import respond
from protocols.sip.session_timer import (
    SessionAgreement,
    SessionAnswer,
    answer_session,
    larger_interval,
    request_session,
    session_of_answer,
)
from protocols.sip.validation import Refusal
from tests.protocols.sip.samples import request


@pytest.mark.parametrize(
    ("headers", "agreement", "fields"),
    [
        ({}, None, ()),
        (
            {"Supported": "timer", "Session_Expires": "600;refresher=uas"},
            SessionAgreement(600, ours=True),
            (("Session-Expires", "600;refresher=uas"),),
        ),
        (
            {"Supported": "100rel, timer", "Session_Expires": "600;refresher=uac"},
            SessionAgreement(600, ours=False),
            (("Session-Expires", "600;refresher=uac"), ("Require", "timer")),
        ),
        (
            {"Supported": "timer"},
            SessionAgreement(1800, ours=False),
            (("Session-Expires", "1800;refresher=uac"), ("Require", "timer")),
        ),
        # A proxy wants a timer, the caller knows none: the work is ours.
        (
            {"Session_Expires": "600"},
            SessionAgreement(600, ours=True),
            (("Session-Expires", "600;refresher=uas"),),
        ),
        (
            {"Supported": "timer", "Session_Expires": "7200", "Min_SE": "3600"},
            SessionAgreement(3600, ours=False),
            (("Session-Expires", "3600;refresher=uac"), ("Require", "timer")),
        ),
    ],
)
def test_the_callee_answers_by_the_table_of_rfc_4028_9(
    headers: dict[str, str], agreement: SessionAgreement | None, fields: tuple[tuple[str, str], ...]
) -> None:
    assert answer_session(request(**headers), 1800, 90) == SessionAnswer(agreement, fields)


def test_too_short_an_interval_is_422_for_those_who_understand_it() -> None:
    refusal = answer_session(request(Supported="timer", Session_Expires="60"), 1800, 90)
    assert refusal == Refusal(422, "Session Interval Too Small", (("Min-SE", "90"),))
    lifted = answer_session(request(Session_Expires="60"), 1800, 90)
    assert isinstance(lifted, SessionAnswer)
    assert lifted.agreement == SessionAgreement(90, ours=True)


def test_the_caller_reads_the_answer() -> None:
    def read(value: str | None) -> SessionAgreement | None:
        return session_of_answer(respond(request(), 200, headers=[("x", value)] if value else ()))

    assert read("600;refresher=uac") == SessionAgreement(600, ours=True)
    assert read("600;refresher=uas") == SessionAgreement(600, ours=False)
    assert read("600") == SessionAgreement(600, ours=True)
    assert read(None) is None
    refusal = respond(request(), 422, headers=[("Min-SE", "3600")])
    assert larger_interval(refusal, 1800) == 3600
    assert larger_interval(refusal, 3600) is None


def test_requests_state_our_wish_or_keep_the_agreement() -> None:
    assert request_session(1800, 90) == (("Session-Expires", "1800"),)
    kept = request_session(1800, 120, SessionAgreement(600, ours=False))
    assert kept == (("Session-Expires", "600;refresher=uas"), ("Min-SE", "120"))


def test_who_refreshes_when_and_when_it_is_over() -> None:
    ours, theirs = SessionAgreement(1800, ours=True), SessionAgreement(90, ours=False)
    assert (ours.refresh_at(100), ours.expires_at(100)) == (1000, 1900)
    assert (theirs.refresh_at(100), theirs.expires_at(100)) == (None, 160)
    assert SessionAgreement(1800, ours=False).expires_at(0) == 1768


def test_deadlines_move_go_and_come_in_order() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for name, when in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        deadlines.set(name, when)
    deadlines.set("b", 5.0)
    deadlines.set("c", None)
    assert deadlines.next() == 3.0
    assert deadlines.take_due(4.0) == ["a"]
    for again in range(1000):
        deadlines.set("b", 5.0 + again)
    assert len(deadlines._heap) < 200
    assert deadlines.take_due(2000.0) == ["b"]
    assert deadlines.next() is None
